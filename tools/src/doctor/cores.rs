//! The cores this process may use, and how they are run.

use std::collections::BTreeMap;

use corelane::topology::{CpuList, Fact, Machine};

use super::{Finding, host::Host};

pub(super) fn findings(host: &Host<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    match &host.machine {
        Ok(machine) => findings.extend([
            pins(machine),
            cgroup(machine),
            cpuset(machine),
            quota(machine),
            isolation(machine),
            smt(host, machine),
            governor(host, machine),
        ]),
        Err(why) => findings.push(Finding::problem(
            "cores",
            why.clone(),
            "give the process a cpuset and an affinity mask with a CPU in common that is online",
        )),
    }
    findings
}

fn pins(machine: &Machine) -> Finding {
    let allowed = machine.allowed();
    if machine.refused.is_empty() {
        return Finding::ok("cores", format!("{}: CPUs {allowed}", allowed.len()));
    }
    Finding::problem(
        "cores",
        format!(
            "pinning to CPUs {} is refused though files and mask allow them; {allowed} are left",
            machine.refused
        ),
        "compare the cpuset of the container with those of the groups above it",
    )
}

fn cgroup(machine: &Machine) -> Finding {
    let limits = [Fact::Cgroup, Fact::Cpuset, Fact::CpuQuota];
    let notes: Vec<String> =
        machine.notes.iter().filter(|note| limits.contains(&note.fact)).map(ToString::to_string).collect();
    if notes.is_empty() {
        return Finding::ok("cgroup", "its limits are known");
    }
    Finding::note(
        "cgroup",
        notes.join("; "),
        "mount the cgroup file system read-only into the container, so that its limits are seen",
    )
}

fn cpuset(machine: &Machine) -> Finding {
    let outside = machine.online.difference(&machine.allowed());
    let allowed = &machine.affinity;
    match &machine.cpuset {
        _ if outside.is_empty() => Finding::ok("cpuset", "every online CPU may be used"),
        Some(cpuset) => {
            Finding::ok("cpuset", format!("{cpuset}, affinity mask {allowed}: CPUs {outside} are for others"))
        }
        None => {
            Finding::ok("cpuset", format!("none, affinity mask {allowed}: CPUs {outside} are for others"))
        }
    }
}

fn quota(machine: &Machine) -> Finding {
    match machine.quota() {
        None => Finding::ok("CPU quota", "none"),
        Some(quota) => Finding::note(
            "CPU quota",
            format!(
                "{quota} CPUs: once they are used up, every core of the process stands still for the rest of the period"
            ),
            "give the container whole cores (cpuset) in place of the quota (cpu.max); until then idle with park",
        ),
    }
}

fn isolation(machine: &Machine) -> Finding {
    let Machine { isolated, nohz_full, .. } = machine;
    let left_out = isolated.difference(&machine.affinity);
    match () {
        () if isolated.is_empty() => {
            Finding::ok("isolation", "no CPU is isolated: other threads may run beside partitions")
        }
        () if !left_out.is_empty() => Finding::note(
            "isolation",
            format!(
                "CPUs {left_out} are isolated and not in the affinity mask: the pipeline does not use them"
            ),
            format!("start it with taskset -c {isolated}"),
        ),
        () if nohz_full.is_empty() => Finding::note(
            "isolation",
            format!("CPUs {isolated} are isolated and have a timer tick"),
            format!("boot with nohz_full={isolated} rcu_nocbs={isolated} if the last microseconds count"),
        ),
        () => Finding::ok("isolation", format!("CPUs {isolated}, without tick {nohz_full}")),
    }
}

fn smt(host: &Host<'_>, machine: &Machine) -> Finding {
    let allowed = machine.allowed();
    let second: CpuList = machine
        .cpus
        .iter()
        .filter(|cpu| cpu.siblings.intersection(&allowed).first().is_some_and(|first| first < cpu.id))
        .map(|cpu| cpu.id)
        .collect();
    let second = second.intersection(&allowed);
    let control = host.text("/sys/devices/system/cpu/smt/control");
    if second.is_empty() {
        let control = control.unwrap_or_else(|| "control unknown".to_owned());
        return Finding::ok("SMT", format!("no two CPUs share a core ({control})"));
    }
    Finding::note(
        "SMT",
        format!("CPUs {second} share cores with others: a map of all cores puts two partitions on one"),
        "use corelane map plan, or list one thread of each core",
    )
}

fn governor(host: &Host<'_>, machine: &Machine) -> Finding {
    const CHECK: &str = "governor";
    let mut by_name = BTreeMap::<String, Vec<u32>>::new();
    for cpu in machine.allowed().iter() {
        let path = format!("/sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor");
        if let Some(governor) = host.text(&path) {
            by_name.entry(governor).or_default().push(cpu);
        }
    }
    by_name.remove("performance");
    if by_name.is_empty() {
        let none = machine.allowed().first().is_none_or(|cpu| {
            !host.exists(&format!("/sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor"))
        });
        let found = if none { "none: fixed clock, or the host's (virtual machine)" } else { "performance" };
        return Finding::ok(CHECK, found);
    }
    let list = by_name
        .into_iter()
        .map(|(governor, cpus)| format!("{governor} on CPUs {}", CpuList::from_iter(cpus)));
    Finding::note(
        CHECK,
        format!("{}: cores that parked wake up slow", list.collect::<Vec<_>>().join(", ")),
        "cpupower frequency-set -g performance",
    )
}
