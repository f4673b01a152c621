//! The stamp on top of every table: what was measured, on what.

use std::fmt;
use std::fs;
use std::time::Instant;

use core_affinity::CoreId;

/// Where and from what a figure comes. What could not be found out says so.
#[derive(Clone, Debug)]
pub struct Environment {
    /// The processor, as the system names it.
    pub cpu: String,
    /// CPUs this process may use.
    pub allowed: usize,
    /// CPUs chosen for this run.
    pub chosen: Vec<usize>,
    /// Operating system and kernel release.
    pub kernel: String,
    /// The frequency governor of the first chosen CPU.
    pub governor: String,
    /// Where the kernel's clock comes from.
    pub clock_source: String,
    /// What one reading of the harness's clock costs, measured, in nanoseconds.
    pub clock_read_ns: f64,
    /// The commit that was built, with `-dirty` for uncommitted changes.
    pub commit: &'static str,
}

impl Environment {
    /// Looks around.
    pub fn detect(allowed: &[CoreId], chosen: &[CoreId]) -> Self {
        let line = |path: &str| fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
        let unknown = || "unknown".to_owned();
        let cpu = line("/proc/cpuinfo").and_then(|text| field(&text, "model name"));
        let first = chosen.first().map_or(0, |core| core.id);
        let governor = line(&format!("/sys/devices/system/cpu/cpu{first}/cpufreq/scaling_governor"));
        let source = line("/sys/devices/system/clocksource/clocksource0/current_clocksource");
        let release = line("/proc/sys/kernel/osrelease").unwrap_or_else(unknown);
        Self {
            cpu: cpu.unwrap_or_else(unknown),
            allowed: allowed.len(),
            chosen: chosen.iter().map(|core| core.id).collect(),
            kernel: format!("{} {release}", std::env::consts::OS),
            governor: governor.unwrap_or_else(|| "not exposed".to_owned()),
            clock_source: source.unwrap_or_else(unknown),
            clock_read_ns: clock_read_ns(),
            commit: env!("CORELANE_COMMIT"),
        }
    }
}

impl fmt::Display for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "cpu       {}, {} allowed, using CPU {:?}", self.cpu, self.allowed, self.chosen)?;
        writeln!(f, "kernel    {}, governor {}", self.kernel, self.governor)?;
        let (source, cost) = (&self.clock_source, self.clock_read_ns);
        writeln!(f, "clock     std::time::Instant over {source}, {cost:.0} ns a reading")?;
        write!(f, "commit    {}", self.commit)
    }
}

fn clock_read_ns() -> f64 {
    const READINGS: u32 = 20_000;
    let start = Instant::now();
    (0..READINGS).for_each(|_| {
        std::hint::black_box(Instant::now());
    });
    start.elapsed().as_nanos() as f64 / f64::from(READINGS)
}

fn field(text: &str, name: &str) -> Option<String> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// Where CPU time went, in clock ticks since the system (and this process) started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuTime {
    total: u64,
    steal: u64,
    busy: u64,
    own: u64,
}

/// Who else used the CPUs between two readings, as shares of all CPU time: 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Disturbance {
    /// Taken by the hypervisor.
    pub steal: f64,
    /// Used by other processes and the kernel.
    pub others: f64,
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

    #[test]
    fn a_field_of_cpuinfo_is_what_follows_its_colon() {
        let text = "vendor_id\t: X\nmodel name\t: Some CPU @ 2: fast\nmodel name\t: other";
        assert_eq!(field(text, "model name").as_deref(), Some("Some CPU @ 2: fast"));
        assert_eq!(field(text, "flags"), None);
    }
}
