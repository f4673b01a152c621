//! Who else used the CPUs while something was measured.

use std::{fmt, fs};

use serde::Serialize;

/// Where CPU time went, in clock ticks since the system (and this process) started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuTime {
    total: u64,
    steal: u64,
    busy: u64,
    own: u64,
}

/// Who else used the CPUs between two readings, as shares of all CPU time: 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Disturbance {
    /// Taken by the hypervisor.
    pub steal: f64,
    /// Used by other processes and the kernel.
    pub others: f64,
}

impl fmt::Display for Disturbance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { steal, others } = self;
        write!(f, "steal {:.2} %, other processes {:.0} % of all CPU time", 100.0 * steal, 100.0 * others)
    }
}

impl CpuTime {
    /// Reads the system's counters. `None` where there are none.
    pub fn now() -> Option<Self> {
        Self::parse(&fs::read_to_string("/proc/stat").ok()?, &fs::read_to_string("/proc/self/stat").ok()?)
    }

    fn parse(system: &str, process: &str) -> Option<Self> {
        let line = system.lines().find(|line| line.starts_with("cpu "))?;
        let ticks = numbers(line.strip_prefix("cpu")?);
        // user nice system idle iowait irq softirq steal; guest time is within user.
        let (total, steal) = (ticks.iter().take(8).sum(), *ticks.get(7)?);
        let busy = total - ticks[3] - ticks[4] - steal;
        // The name in parentheses may hold anything; the state, a letter, follows it, and then numbers.
        let rest = numbers(process.rsplit_once(')')?.1.trim_start().get(1..)?);
        Some(Self { total, steal, busy, own: rest.get(10)? + rest.get(11)? })
    }

    /// What happened between `earlier` and this reading.
    pub fn since(self, earlier: Self) -> Disturbance {
        let total = self.total.saturating_sub(earlier.total).max(1) as f64;
        let busy = self.busy.saturating_sub(earlier.busy);
        let own = self.own.saturating_sub(earlier.own);
        let steal = self.steal.saturating_sub(earlier.steal) as f64 / total;
        Disturbance { steal, others: busy.saturating_sub(own) as f64 / total }
    }
}

fn numbers(text: &str) -> Vec<u64> {
    // Some fields of a process are negative; none of those read here.
    text.split_whitespace().map(|word| word.parse::<i64>().unwrap_or(0).max(0).unsigned_abs()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROCESS: &str = "7 (a) 1 (b) R 1 7 7 0 -1 4 9 9 9 9 20 5 0 0 20 0 1";

    #[test]
    fn disturbance_is_stolen_time_and_busy_time_that_is_not_our_own() {
        let before = CpuTime::parse("cpu  10 0 10 70 5 0 2 3 9 9\ncpu0 1 1", PROCESS).unwrap();
        assert_eq!(before, CpuTime { total: 100, steal: 3, busy: 22, own: 25 });
        let later = PROCESS.replace("20 5", "50 5");
        let after = CpuTime::parse("cpu  60 0 10 90 5 0 2 33 9 9", &later).unwrap();
        assert_eq!(after.since(before), Disturbance { steal: 0.3, others: 0.2 });
        assert_eq!(after.since(after), Disturbance { steal: 0.0, others: 0.0 });
        assert_eq!(CpuTime::parse("cpu 1 2 3", PROCESS), None);
        assert_eq!(CpuTime::parse("", PROCESS), None);
    }
}
