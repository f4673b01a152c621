//! What two cores hand each other in programs by hand: a chunked ring each way.

use rtrb::{Consumer, Producer, RingBuffer};

/// One core's ends of the two rings.
pub struct Ends<T> {
    out: Producer<T>,
    inward: Consumer<T>,
}

impl<T: Copy> Ends<T> {
    /// Those of both cores, over rings of `slots` each.
    pub fn of_two(slots: usize) -> [Self; 2] {
        let ((there, arriving), (back, returning)) = (RingBuffer::new(slots), RingBuffer::new(slots));
        [Self { out: there, inward: returning }, Self { out: back, inward: arriving }]
    }

    /// Sends all `items`, in order. While there is no room, `take` is given what has come, or the two would wait for each other.
    #[inline]
    pub fn send(&mut self, mut items: &[T], mut take: impl FnMut(&[T])) {
        loop {
            (_, items) = self.out.push_partial_slice(items);
            if items.is_empty() {
                return;
            }
            self.receive(&mut take);
        }
    }

    /// Gives `take` what has come, in order and at most twice: before the place where the ring wraps, and behind it.
    #[inline]
    pub fn receive(&mut self, take: impl FnMut(&[T])) {
        receive(&mut self.inward, take);
    }

    /// After the last item sent: gives `take` all that still comes, until the other core has sent its last.
    pub fn end(self, mut take: impl FnMut(&[T])) {
        let Self { out, mut inward } = self;
        drop(out);
        // Abandoned first, empty second: what was pushed before the other end went away is still seen.
        while !inward.is_abandoned() {
            receive(&mut inward, &mut take);
        }
        receive(&mut inward, take);
    }
}

#[inline]
fn receive<T>(ring: &mut Consumer<T>, mut take: impl FnMut(&[T])) {
    let Ok(chunk) = ring.read_chunk(ring.slots()) else { return };
    let (first, second) = chunk.as_slices();
    take(first);
    take(second);
    chunk.commit_all();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_both_send_arrives_in_order_though_no_ring_holds_it() {
        let sent: Vec<u64> = (0..1_000).collect();
        let taken = Ends::of_two(4).map(|mut ends| {
            let sent = &sent;
            move || {
                let mut taken = Vec::new();
                for part in sent.chunks(7) {
                    ends.send(part, |items| taken.extend_from_slice(items));
                    ends.receive(|items| taken.extend_from_slice(items));
                }
                ends.end(|items| taken.extend_from_slice(items));
                taken
            }
        });
        let taken =
            std::thread::scope(|scope| taken.map(|run| scope.spawn(run)).map(|run| run.join().unwrap()));
        assert_eq!(taken, [sent.clone(), sent]);
    }
}
