//! What is to be had: the highest rate under a latency, or the lowest latency at a rate.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A percentile of latencies, in percent: at least 50 and below 100.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Percentile(f64);

/// So many samples must lie beyond a percentile for it to be told.
const SAMPLES_BEYOND: f64 = 10.0;

impl Percentile {
    /// As a share: 0.5 to 1.
    pub fn quantile(self) -> f64 {
        self.0 / 100.0
    }

    /// Samples that bear it.
    pub fn samples(self) -> u64 {
        (SAMPLES_BEYOND / (1.0 - self.quantile())).round() as u64
    }
}

impl FromStr for Percentile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = text.strip_prefix('p').and_then(|number| number.parse::<f64>().ok());
        match number.filter(|number| (50.0..100.0).contains(number)) {
            Some(number) => Ok(Self(number)),
            None => Err(format!("{text:?} is not a percentile from p50 to below p100, like p99.9")),
        }
    }
}

impl fmt::Display for Percentile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "p{}", self.0)
    }
}

/// Items a second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate(pub f64);

/// The lowest and the highest rate that can be asked for.
const RATES: std::ops::RangeInclusive<f64> = 1.0..=1e9;

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refused = || format!("{text:?} is not a rate from 1/s to 1000M/s, like 500k/s");
        let number = text.strip_suffix("/s").ok_or_else(refused)?;
        let (digits, unit) = match number.strip_suffix(['k', 'M']) {
            Some(digits) if number.ends_with('k') => (digits, 1e3),
            Some(digits) => (digits, 1e6),
            None => (number, 1.0),
        };
        let plain = digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        let rate = digits.parse::<f64>().ok().filter(|_| plain).map(|rate| rate * unit);
        rate.filter(|rate| RATES.contains(rate)).map(Self).ok_or_else(refused)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(rate) = self;
        match rate {
            1e6.. => write!(f, "{:.*}M/s", digits(rate / 1e6), rate / 1e6),
            1e3.. => write!(f, "{:.*}k/s", digits(rate / 1e3), rate / 1e3),
            _ => write!(f, "{:.*}/s", digits(*rate), rate),
        }
    }
}

/// Three significant digits.
fn digits(value: f64) -> usize {
    if value >= 99.95 {
        0
    } else if value >= 9.995 {
        1
    } else {
        2
    }
}

/// What a tuned pipeline is to do.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Objective {
    /// Take as many items a second as possible while a percentile of latency stays under a bound.
    MaxRate {
        /// The percentile.
        percentile: Percentile,
        /// The bound.
        bound: Duration,
    },
    /// Keep a percentile of latency low at a rate.
    MinLatency {
        /// The percentile.
        percentile: Percentile,
        /// The rate.
        rate: Rate,
    },
}

impl Objective {
    /// The percentile that counts.
    pub fn percentile(&self) -> Percentile {
        match self {
            Self::MaxRate { percentile, .. } | Self::MinLatency { percentile, .. } => *percentile,
        }
    }

    /// The logarithm of what is to be small.
    pub fn cost(&self, figure: f64) -> f64 {
        match self {
            Self::MaxRate { .. } => -figure.ln(),
            Self::MinLatency { .. } => figure.ln(),
        }
    }

    /// The figure behind a cost: items a second or nanoseconds.
    pub fn figure(&self, cost: f64) -> f64 {
        match self {
            Self::MaxRate { .. } => (-cost).exp(),
            Self::MinLatency { .. } => cost.exp(),
        }
    }

    /// The figure with its unit.
    pub fn told(&self, figure: f64) -> String {
        match self {
            Self::MaxRate { .. } => Rate(figure).to_string(),
            Self::MinLatency { .. } => nanoseconds(figure),
        }
    }

    /// What the figure is.
    pub fn axis(&self) -> String {
        match self {
            Self::MaxRate { percentile, bound } => format!("highest rate with {percentile} under {bound:?}"),
            Self::MinLatency { percentile, rate } => format!("{percentile} of latency at {rate}"),
        }
    }
}

impl fmt::Display for Objective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MaxRate { percentile, bound } => {
                write!(f, "the most items a second with {percentile} under {bound:?}")
            }
            Self::MinLatency { percentile, rate } => {
                write!(f, "the lowest {percentile} of latency at {rate}")
            }
        }
    }
}

/// A time in the unit that fits, with three digits.
pub(super) fn nanoseconds(ns: f64) -> String {
    let (value, unit) = match ns {
        1e9.. => (ns / 1e9, "s"),
        1e6.. => (ns / 1e6, "ms"),
        1e3.. => (ns / 1e3, "us"),
        _ => (ns, "ns"),
    };
    format!("{value:.*} {unit}", digits(value))
}

/// `p99.9=200us`.
pub(super) fn parse_bound(text: &str) -> Result<(Percentile, Duration), String> {
    let (percentile, bound) =
        text.split_once('=').ok_or("needs a percentile and a bound, like p99.9=200us")?;
    let nanos = crate::args::parse_time(bound)?.0;
    if nanos == 0 {
        return Err("the bound is 0: nothing is that fast".to_owned());
    }
    Ok((percentile.parse()?, Duration::from_nanos(nanos)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_and_bounds_are_read_as_they_are_written() {
        assert_eq!("500k/s".parse(), Ok(Rate(500_000.0)));
        assert_eq!("1.5M/s".parse(), Ok(Rate(1_500_000.0)));
        assert_eq!("20/s".parse(), Ok(Rate(20.0)));
        let (percentile, bound) = parse_bound("p99.9=200us").unwrap();
        assert_eq!((percentile.to_string(), bound), ("p99.9".to_owned(), Duration::from_micros(200)));
        assert_eq!(percentile.samples(), 10_000);
    }

    #[test]
    fn what_is_no_rate_and_no_bound_is_refused_with_an_example_fault_42() {
        for text in [
            "", "500k", "k/s", "-1/s", "nan/s", "inf/s", "1e9/s", "0/s", "0.5/s", "2000M/s", "5G/s",
            "1.2.3k/s",
        ] {
            let error = text.parse::<Rate>().unwrap_err();
            assert!(error.contains("like 500k/s"), "{text}: {error}");
        }
        for text in
            ["", "p99", "99=1ms", "p99=1", "p100=1ms", "p49=1ms", "pnan=1ms", "p99=0s", "p99=-1ms", "p99="]
        {
            assert!(parse_bound(text).is_err(), "{text}");
        }
    }

    #[test]
    fn figures_have_three_digits_and_a_unit() {
        let told = [12.0, 9_996.0, 123_456.0, 1_234_567.0].map(|rate| Rate(rate).to_string());
        assert_eq!(told, ["12.0/s", "10.0k/s", "123k/s", "1.23M/s"]);
        assert_eq!(
            [230.0, 1_500.0, 99_960.0, 2e6, 3e9].map(nanoseconds),
            ["230 ns", "1.50 us", "100 us", "2.00 ms", "3.00 s"]
        );
    }

    #[test]
    fn less_cost_is_more_rate_and_less_latency() {
        let percentile = "p99".parse().unwrap();
        let most = Objective::MaxRate { percentile, bound: Duration::from_millis(1) };
        let least = Objective::MinLatency { percentile, rate: Rate(1e3) };
        assert!(most.cost(2e6) < most.cost(1e6) && least.cost(1e3) < least.cost(2e3));
        assert!((most.figure(most.cost(5e5)) - 5e5).abs() < 1e-3);
        assert!((least.figure(least.cost(5e5)) - 5e5).abs() < 1e-3);
    }
}
