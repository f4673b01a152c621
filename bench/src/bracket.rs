//! Between which two rates a system breaks: a search that knows nothing of what it searches.

/// A rate that holds and one that does not are close enough when the one is at most so many times the other.
pub const CLOSE: f64 = 1.05;
/// Nanoseconds of a second.
pub const SECOND_NS: u64 = 1_000_000_000;

/// Where the highest rate is that holds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Knee {
    /// The shortest period that held; `None` if not even the longest did.
    pub held: Option<u64>,
    /// The longest period that did not hold; `None` if even the shortest held.
    pub broke: Option<u64>,
}

/// Halves the period from that of the lowest rate on until it no longer holds, then looks between the two until they are close, or
/// neighbours: periods are whole nanoseconds. It takes for granted that what holds at one rate holds at every lower one.
///
/// # Errors
/// What `holds` says.
pub fn find<E>(rates: (u64, u64), mut holds: impl FnMut(u64) -> Result<bool, E>) -> Result<Knee, E> {
    let period = |rate: u64| (SECOND_NS / rate.max(1)).max(1);
    let (longest, shortest) = (period(rates.0), period(rates.1).min(period(rates.0)));
    let (mut held, mut next) = (None, longest);
    let mut broke = loop {
        if !holds(next)? {
            break next;
        }
        held = Some(next);
        if next == shortest {
            return Ok(Knee { held, broke: None });
        }
        next = (next / 2).max(shortest);
    };
    while let Some(long) = held
        && long > broke + 1
        && long as f64 > broke as f64 * CLOSE
    {
        // In the middle of the rates, which is below that of the periods.
        let middle = ((long as f64 * broke as f64).sqrt() as u64).clamp(broke + 1, long - 1);
        if holds(middle)? {
            held = Some(middle);
        } else {
            broke = middle;
        }
    }
    Ok(Knee { held, broke: Some(broke) })
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    /// Searches a made-up system that holds up to `limit` items a second.
    fn searched(rates: (u64, u64), limit: f64) -> (Knee, usize) {
        let mut tried = 0;
        let knee = find(rates, |period| {
            tried += 1;
            Ok::<_, Infallible>(1e9 / period as f64 <= limit)
        });
        (knee.unwrap(), tried)
    }

    #[test]
    fn the_knee_lies_between_a_rate_that_holds_and_a_close_one_that_does_not() {
        for limit in [120_000.0, 777_000.0, 1_000_000.0, 3_210_000.0] {
            let (knee, tried) = searched((100_000, 10_000_000), limit);
            let (held, broke) = (knee.held.unwrap(), knee.broke.unwrap());
            assert!(1e9 / held as f64 <= limit && 1e9 / broke as f64 > limit, "{limit}: {knee:?}");
            assert!(held as f64 <= broke as f64 * CLOSE || held == broke + 1, "{limit}: {knee:?}");
            assert!(tried <= 13, "{limit}: {tried} rates tried");
        }
    }

    #[test]
    fn periods_are_whole_nanoseconds_so_neighbours_end_the_search() {
        let (knee, _) = searched((1_000_000, 1_000_000_000), 260_000_000.0);
        assert_eq!(knee, Knee { held: Some(4), broke: Some(3) });
    }

    #[test]
    fn a_knee_outside_the_range_is_not_made_up() {
        assert_eq!(searched((1_000, 1_000_000), 10.0), (Knee { held: None, broke: Some(1_000_000) }, 1));
        let (knee, _) = searched((1_000, 3_000_000), 1e9);
        assert_eq!(knee, Knee { held: Some(333), broke: None });
    }
}
