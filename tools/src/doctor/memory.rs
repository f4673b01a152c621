//! How memory is backed.

use super::{Finding, host::Host};

const THP: &str = "/sys/kernel/mm/transparent_hugepage/enabled";
const SWAPS: &str = "/proc/swaps";
const BALANCING: &str = "/proc/sys/kernel/numa_balancing";

pub(super) fn findings(host: &Host<'_>) -> Vec<Finding> {
    vec![huge_pages(host), swap(host), balancing(host)]
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
