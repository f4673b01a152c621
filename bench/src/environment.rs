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

/// The share of all CPU time the hypervisor took away, between two readings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuTime {
    steal: u64,
    total: u64,
}

impl CpuTime {
    /// Reads the system's counters. `None` where there are none.
    pub fn now() -> Option<Self> {
        Self::parse(&fs::read_to_string("/proc/stat").ok()?)
    }

    fn parse(stat: &str) -> Option<Self> {
        let line = stat.lines().find(|line| line.starts_with("cpu "))?;
        let ticks: Vec<u64> = line.split_whitespace().skip(1).map_while(|text| text.parse().ok()).collect();
        // user nice system idle iowait irq softirq steal; guest time is within user.
        Some(Self { steal: *ticks.get(7)?, total: ticks.iter().take(8).sum() })
    }

    /// Stolen time since `earlier` over all time since then: 0 to 1.
    pub fn steal_since(self, earlier: Self) -> f64 {
        let total = self.total.saturating_sub(earlier.total).max(1);
        self.steal.saturating_sub(earlier.steal) as f64 / total as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steal_is_the_eighth_column_over_all_time_without_guests() {
        let before = CpuTime::parse("cpu  10 0 10 70 5 0 2 3 9 9\ncpu0 1 1").unwrap();
        assert_eq!(before, CpuTime { steal: 3, total: 100 });
        let after = CpuTime::parse("cpu  10 0 10 140 5 0 2 33 9 9").unwrap();
        assert_eq!(after.steal_since(before), 0.3);
        assert_eq!(after.steal_since(after), 0.0);
        assert_eq!(CpuTime::parse("cpu 1 2 3"), None);
        assert_eq!(CpuTime::parse(""), None);
    }

    #[test]
    fn a_field_of_cpuinfo_is_what_follows_its_colon() {
        let text = "vendor_id\t: X\nmodel name\t: Some CPU @ 2: fast\nmodel name\t: other";
        assert_eq!(field(text, "model name").as_deref(), Some("Some CPU @ 2: fast"));
        assert_eq!(field(text, "flags"), None);
    }
}
