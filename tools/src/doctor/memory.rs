//! How memory is backed.

use corelane::policy::MemoryLocality;
use corelane::sync::{BindError, HomeNode};
use corelane::topology::{CpuList, Machine};

use super::{Finding, host::Host};

const THP: &str = "/sys/kernel/mm/transparent_hugepage/enabled";
const SWAPS: &str = "/proc/swaps";
const BALANCING: &str = "/proc/sys/kernel/numa_balancing";

pub(super) fn findings(host: &Host<'_>) -> Vec<Finding> {
    vec![huge_pages(host), swap(host), nodes(host), balancing(host)]
}

/// Binds a page to each node with memory, and gives it back.
///
/// # Errors
/// What the system said to the first that it refused.
pub(super) fn try_binding(machine: &Machine) -> Result<(), BindError> {
    let home = |node| HomeNode { node, locality: MemoryLocality::Strict };
    machine.memory_nodes().into_iter().try_for_each(|node| home(node).try_out())
}

fn nodes(host: &Host<'_>) -> Finding {
    const CHECK: &str = "memory nodes";
    let Ok(machine) = &host.machine else { return Finding::unknown(CHECK, "/sys/devices/system/node") };
    let nodes: CpuList = machine.memory_nodes().into_iter().collect();
    let far = |cpu: &u32| machine.cpu(*cpu).is_some_and(|cpu| !nodes.contains(cpu.node));
    let far: CpuList = machine.allowed().iter().filter(far).collect();
    match &host.binding {
        _ if nodes.is_empty() => Finding::note(
            CHECK,
            "no node has memory that this process may use, as far as files tell",
            "mount /sys and /proc into the container",
        ),
        _ if !far.is_empty() => Finding::note(
            CHECK,
            format!(
                "CPUs {far} have no memory of their own that this process may use; there is some on {nodes}"
            ),
            "give the group the memory of the nodes of its CPUs (cpuset.mems), or leave these CPUs out",
        ),
        _ if nodes.len() < 2 => Finding::ok(CHECK, "one: nothing to bind"),
        None => {
            Finding::ok(CHECK, format!("{nodes}; whether memory can be bound to them only a trial shows"))
        }
        Some(Ok(())) => {
            Finding::ok(CHECK, format!("{nodes}: rings and pool are bound to that of their core"))
        }
        Some(Err(error)) => Finding::note(
            CHECK,
            format!("{nodes}, and {error}: memory lies where it is touched first"),
            "give the container the capability SYS_NICE, or each node a process of its own (numactl)",
        ),
    }
}

fn huge_pages(host: &Host<'_>) -> Finding {
    const CHECK: &str = "huge pages";
    let Some(modes) = host.text(THP) else { return Finding::unknown(CHECK, THP) };
    // The mode in force stands in brackets: always [madvise] never.
    let mode = modes.split_whitespace().find_map(|mode| mode.strip_prefix('[')?.strip_suffix(']'));
    match mode {
        Some("madvise") => Finding::ok(CHECK, "madvise: for those who ask, as the memory pool can"),
        Some("always") => Finding::note(
            CHECK,
            "always: the kernel makes them in the background, which stops threads now and then",
            format!("echo madvise > {THP}"),
        ),
        Some("never") => Finding::note(
            CHECK,
            "never: huge-pages of the memory pool has no effect",
            format!("echo madvise > {THP}, if the pool is to have them"),
        ),
        _ => Finding { found: format!("{modes}: no mode in force"), ..Finding::unknown(CHECK, THP) },
    }
}

fn swap(host: &Host<'_>) -> Finding {
    const CHECK: &str = "swap";
    let Some(swaps) = host.text(SWAPS) else { return Finding::unknown(CHECK, SWAPS) };
    let devices: Vec<&str> =
        swaps.lines().skip(1).filter_map(|line| line.split_whitespace().next()).collect();
    if devices.is_empty() {
        return Finding::ok(CHECK, "none");
    }
    Finding::note(
        CHECK,
        format!(
            "{}: state that was not touched for long may be read back from disk, in milliseconds",
            devices.join(", ")
        ),
        "swapoff, memory.swap.max=0 for the group, or a memory budget that leaves room",
    )
}

fn balancing(host: &Host<'_>) -> Finding {
    const CHECK: &str = "NUMA balancing";
    let nodes = host.machine.as_ref().map_or(1, |machine| machine.nodes.len());
    match host.text(BALANCING).as_deref() {
        _ if nodes < 2 => Finding::ok(CHECK, "one node: nothing to balance"),
        None => Finding::unknown(CHECK, BALANCING),
        Some("0") => Finding::ok(CHECK, "off"),
        Some(_) => Finding::note(
            CHECK,
            format!(
                "on, over {nodes} nodes: it takes pages away for a moment to see who uses them, though partitions stay where they are"
            ),
            "sysctl kernel.numa_balancing=0 on a host for pipelines, and measure",
        ),
    }
}
