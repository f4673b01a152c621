//! The stamp on top of every table: what was measured, on what.

use std::fmt;
use std::fs;
use std::path::Path;
use std::time::Instant;

use core_affinity::CoreId;
use corelane::driver::DriverChoice;
use corelane::topology::{CpuId, CpuList, Machine};
use serde::Serialize;

/// Where and from what a figure comes. What could not be found out says so.
#[derive(Clone, Debug, Serialize)]
pub struct Environment {
    /// The processor, as the system names it.
    pub cpu: String,
    /// CPUs this process may use.
    pub allowed: usize,
    /// CPUs chosen for this run: the core map of the workloads numbers them from 0.
    pub chosen: Vec<usize>,
    /// How CPUs share cores; `None` where the system does not say.
    pub smt: Option<Smt>,
    /// CPU time this process may take, in CPUs, if it is limited.
    pub quota: Option<f64>,
    /// Operating system and kernel release.
    pub kernel: String,
    /// The frequency governor of the first chosen CPU.
    pub governor: String,
    /// Where the kernel's clock comes from.
    pub clock_source: String,
    /// What one reading of the harness's clock costs, measured, in nanoseconds.
    pub clock_read_ns: f64,
    /// The driver of corelane's systems, and why if it is not the one that was wished for.
    pub driver: String,
    /// The commit that was built, with `-dirty` for uncommitted changes.
    pub commit: &'static str,
}

/// Simultaneous multithreading: several CPUs that are one core.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Smt {
    /// The most CPUs that one core has.
    pub threads_per_core: usize,
    /// Pairs of chosen CPUs that are one core. What runs on the one slows what runs on the other.
    pub shared: Vec<[usize; 2]>,
}

impl Environment {
    /// Looks around.
    pub fn detect(allowed: &[CoreId], chosen: &[CoreId], driver: DriverChoice) -> Self {
        let driver = match driver.resolve() {
            Ok(driver) => driver.to_string(),
            Err(why) => format!("{driver:?}, which cannot run: {why}"),
        };
        Self::under(Path::new("/"), allowed, chosen, driver)
    }

    /// As [`detect`](Self::detect), from the files under `root`.
    fn under(root: &Path, allowed: &[CoreId], chosen: &[CoreId], driver: String) -> Self {
        let line = |path: &str| fs::read_to_string(root.join(path)).ok().map(|text| text.trim().to_owned());
        let unknown = || "unknown".to_owned();
        let cpu = line("proc/cpuinfo").and_then(|text| field(&text, "model name"));
        let first = chosen.first().map_or(0, |core| core.id);
        let governor = line(&format!("sys/devices/system/cpu/cpu{first}/cpufreq/scaling_governor"));
        let source = line("sys/devices/system/clocksource/clocksource0/current_clocksource");
        let release = line("proc/sys/kernel/osrelease").unwrap_or_else(unknown);
        let affinity: CpuList = allowed.iter().filter_map(|core| cpu_id(*core)).collect();
        let machine = Machine::read(root, &affinity).ok();
        Self {
            cpu: cpu.unwrap_or_else(unknown),
            allowed: allowed.len(),
            chosen: chosen.iter().map(|core| core.id).collect(),
            smt: machine.as_ref().map(|machine| Smt::of(machine, chosen)),
            quota: machine.and_then(|machine| machine.quota()),
            kernel: format!("{} {release}", std::env::consts::OS),
            governor: governor.unwrap_or_else(|| "not exposed".to_owned()),
            clock_source: source.unwrap_or_else(unknown),
            clock_read_ns: clock_read_ns(),
            driver,
            commit: env!("CORELANE_COMMIT"),
        }
    }

    /// What makes every figure of this run doubtful, if anything does.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        for [one, other] in self.smt.iter().flat_map(|smt| &smt.shared) {
            warnings.push(format!(
                "CPU {one} and CPU {other} are one core: what sends and what receives take turns on it"
            ));
        }
        if let Some(quota) = self.quota.filter(|quota| *quota < self.chosen.len() as f64) {
            warnings.push(format!(
                "this process may take {quota:.2} CPUs' time: it is stopped whenever it has used that up"
            ));
        }
        warnings
    }
}

fn cpu_id(core: CoreId) -> Option<CpuId> {
    CpuId::try_from(core.id).ok()
}

impl Smt {
    fn of(machine: &Machine, chosen: &[CoreId]) -> Self {
        let threads_per_core = machine.cpus.iter().map(|cpu| cpu.siblings.len()).max().unwrap_or(1);
        let siblings = |one: CoreId, other: CoreId| {
            let (Some(one), Some(other)) = (cpu_id(one), cpu_id(other)) else { return false };
            machine.cpu(one).is_some_and(|cpu| cpu.siblings.contains(other))
        };
        let mut shared = Vec::new();
        for (place, one) in chosen.iter().enumerate() {
            let others = chosen[place + 1..].iter().filter(|other| siblings(*one, **other));
            shared.extend(others.map(|other| [one.id, other.id]));
        }
        Self { threads_per_core, shared }
    }
}

impl fmt::Display for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "cpu       {}, {} allowed, using CPU {:?}", self.cpu, self.allowed, self.chosen)?;
        let smt = self.smt.as_ref().map_or_else(
            || "unknown".to_owned(),
            |smt| match smt.threads_per_core {
                0 | 1 => "none visible".to_owned(),
                threads => format!("{threads} CPUs a core"),
            },
        );
        let quota = self.quota.map_or_else(|| "none".to_owned(), |quota| format!("{quota:.2} CPUs"));
        writeln!(f, "cores     SMT {smt}, quota {quota}")?;
        writeln!(f, "kernel    {}, governor {}", self.kernel, self.governor)?;
        let (source, cost) = (&self.clock_source, self.clock_read_ns);
        writeln!(f, "clock     std::time::Instant over {source}, {cost:.0} ns a reading")?;
        writeln!(f, "driver    {}", self.driver)?;
        write!(f, "commit    {}", self.commit)?;
        self.warnings().iter().try_for_each(|warning| write!(f, "\nWARNING   {warning}"))
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine of two cores with two CPUs each, 0 with 2 and 1 with 3, and a quota.
    fn machine(root: &Path) {
        let write = |path: &str, text: &str| {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("proc/cpuinfo", "model name\t: Fake 9000\n");
        write("proc/sys/kernel/osrelease", "9.9-fake\n");
        write("proc/self/cgroup", "0::/\n");
        write("sys/fs/cgroup/cpu.max", "150000 100000\n");
        let cpus = "sys/devices/system/cpu";
        ["online", "present"].iter().for_each(|name| write(&format!("{cpus}/{name}"), "0-3\n"));
        for cpu in 0..4 {
            let topology = format!("{cpus}/cpu{cpu}/topology");
            write(&format!("{topology}/physical_package_id"), "0\n");
            write(&format!("{topology}/core_id"), &format!("{}\n", cpu % 2));
            write(&format!("{topology}/thread_siblings_list"), &format!("{},{}\n", cpu % 2, cpu % 2 + 2));
        }
        write(&format!("{cpus}/cpu1/cpufreq/scaling_governor"), "performance\n");
    }

    fn cores(ids: &[usize]) -> Vec<CoreId> {
        ids.iter().map(|&id| CoreId { id }).collect()
    }

    #[test]
    fn the_stamp_tells_processor_siblings_quota_governor_kernel_and_driver() {
        let dir = tempfile::tempdir().unwrap();
        machine(dir.path());
        let seen =
            Environment::under(dir.path(), &cores(&[0, 1, 2, 3]), &cores(&[1, 2]), "thread".to_owned());
        assert_eq!(seen.smt, Some(Smt { threads_per_core: 2, shared: Vec::new() }));
        assert_eq!(seen.quota, Some(1.5));
        let text = seen.to_string();
        for part in [
            "Fake 9000",
            "2 CPUs a core",
            "quota 1.50 CPUs",
            "governor performance",
            "9.9-fake",
            "driver    thread",
        ] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
    }

    #[test]
    fn cpus_that_are_one_core_and_a_quota_below_the_chosen_ones_are_warned_of() {
        let dir = tempfile::tempdir().unwrap();
        machine(dir.path());
        let warnings = |chosen: &[usize]| {
            Environment::under(dir.path(), &cores(&[0, 1, 2, 3]), &cores(chosen), String::new()).warnings()
        };
        assert_eq!(warnings(&[0]), [""; 0]);
        assert_eq!(warnings(&[0, 1]).len(), 1, "the quota");
        let shared = warnings(&[2, 0]);
        assert!(shared[0].starts_with("CPU 2 and CPU 0 are one core"), "{shared:?}");
    }

    #[test]
    fn a_machine_without_files_is_unknown_and_not_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let text = Environment::under(dir.path(), &cores(&[0]), &cores(&[0]), String::new()).to_string();
        assert!(text.contains("unknown") && text.contains("governor not exposed"), "{text}");
    }

    #[test]
    fn a_field_of_cpuinfo_is_what_follows_its_colon() {
        let text = "vendor_id\t: X\nmodel name\t: Some CPU @ 2: fast\nmodel name\t: other";
        assert_eq!(field(text, "model name").as_deref(), Some("Some CPU @ 2: fast"));
        assert_eq!(field(text, "flags"), None);
    }
}
