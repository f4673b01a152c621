//! The kernel, what it lets this process do, and its clock.

use corelane::model::counted;

use super::{Finding, host::Host};

/// What glommio was written for.
const KERNEL_NEEDED: (u32, u32) = (5, 8);
/// What an executor locks, in bytes.
const LOCKED_NEEDED: u64 = 512 * 1024;
/// Files of a process beside its cores, and for each core.
const FILES_NEEDED: (u64, u64) = (32, 16);

const OS_RELEASE: &str = "/proc/sys/kernel/osrelease";
const CLOCK: &str = "/sys/devices/system/clocksource/clocksource0/current_clocksource";

pub(super) fn findings(host: &Host<'_>) -> Vec<Finding> {
    vec![
        file_systems(host),
        kernel(host),
        io_uring(host),
        seccomp(host),
        locked_memory(host),
        open_files(host),
        threads(host),
        first_process(host),
        clock_source(host),
    ]
}

/// Without them everything else is a guess.
fn file_systems(host: &Host<'_>) -> Finding {
    let missing: Vec<&str> =
        ["/proc/self", "/sys/devices/system/cpu"].into_iter().filter(|path| !host.exists(path)).collect();
    match &missing[..] {
        [] => Finding::ok("proc and sys", "mounted"),
        missing => Finding::note(
            "proc and sys",
            format!("{} missing: nodes, caches, cpusets and quotas may be unknown", missing.join(" and ")),
            "mount proc on /proc and sysfs on /sys (read-only will do), also in a container",
        ),
    }
}

fn kernel(host: &Host<'_>) -> Finding {
    let Some(release) = host.text(OS_RELEASE) else { return Finding::unknown("kernel", OS_RELEASE) };
    let mut numbers = release.split(['.', '-']).map(|part| part.parse::<u32>().ok());
    match (numbers.next().flatten(), numbers.next().flatten()) {
        (Some(major), Some(minor)) if (major, minor) >= KERNEL_NEEDED => Finding::ok("kernel", release),
        (Some(_), Some(_)) => {
            let (major, minor) = KERNEL_NEEDED;
            let found = format!("{release}: older than {major}.{minor}, glommio cannot run");
            Finding::problem("kernel", found, "use a newer kernel, or --driver thread")
        }
        _ => Finding { found: format!("{release}: no version"), ..Finding::unknown("kernel", OS_RELEASE) },
    }
}

fn io_uring(host: &Host<'_>) -> Finding {
    const CHECK: &str = "io_uring";
    match (&host.glommio, host.text("/proc/sys/kernel/io_uring_disabled").as_deref()) {
        (Some(Ok(())), _) => Finding::ok(CHECK, "works; glommio can run"),
        (_, Some("2")) => Finding::problem(
            CHECK,
            "switched off for everybody; pipelines run with the thread driver",
            "sysctl kernel.io_uring_disabled=0, or --driver thread",
        ),
        (_, Some("1")) if !host.is_root() => Finding::problem(
            CHECK,
            "allowed to privileged processes only; pipelines run with the thread driver",
            "sysctl kernel.io_uring_disabled=0, or add the user to the group of kernel.io_uring_group",
        ),
        (Some(Err(why)), _) => Finding::problem(
            CHECK,
            format!("glommio cannot run: {why}"),
            "see seccomp and memlock below; --driver thread works without",
        ),
        (None, _) => Finding::ok(CHECK, "not switched off"),
    }
}

fn seccomp(host: &Host<'_>) -> Finding {
    const CHECK: &str = "seccomp";
    let works = matches!(host.glommio, Some(Ok(())));
    match host.status("Seccomp").as_deref() {
        None => Finding::unknown(CHECK, "/proc/self/status"),
        Some("0") => Finding::ok(CHECK, "no filter"),
        Some(_) if works => Finding::ok(CHECK, "a filter that lets io_uring through"),
        Some(_) => Finding::note(
            CHECK,
            "a filter, which may forbid io_uring, as the default of containers does",
            "allow io_uring_setup, io_uring_enter and io_uring_register in the seccomp profile, or --driver thread",
        ),
    }
}

fn locked_memory(host: &Host<'_>) -> Finding {
    const CHECK: &str = "memlock";
    match host.limit("Max locked memory") {
        None => Finding::unknown(CHECK, "/proc/self/limits"),
        Some(u64::MAX) => Finding::ok(CHECK, "unlimited"),
        Some(bytes) if bytes >= LOCKED_NEEDED => Finding::ok(CHECK, format!("{} KiB", bytes / 1024)),
        Some(bytes) if host.is_root() => {
            Finding::ok(CHECK, format!("{} KiB, which does not bind root", bytes / 1024))
        }
        Some(bytes) => Finding::problem(
            CHECK,
            format!("{} KiB; glommio locks {} KiB", bytes / 1024, LOCKED_NEEDED / 1024),
            "ulimit -l, LimitMEMLOCK= of the service, or --ulimit memlock=-1 of the container",
        ),
    }
}

fn open_files(host: &Host<'_>) -> Finding {
    const CHECK: &str = "open files";
    let needed = FILES_NEEDED.0 + FILES_NEEDED.1 * host.cores() as u64;
    match host.limit("Max open files") {
        None => Finding::unknown(CHECK, "/proc/self/limits"),
        Some(files) if files >= needed => Finding::ok(CHECK, format!("{files}")),
        Some(files) => Finding::problem(
            CHECK,
            format!("{files}; executors on {} want about {needed}", counted(host.cores(), "core")),
            "ulimit -n, LimitNOFILE= of the service, or --ulimit nofile= of the container",
        ),
    }
}

fn threads(host: &Host<'_>) -> Finding {
    const CHECK: &str = "threads";
    let needed = 8 + host.cores() as u64;
    let limit = host.limit("Max processes");
    let group = ["/sys/fs/cgroup/pids.max", "/sys/fs/cgroup/pids/pids.max"];
    let group = group.iter().find_map(|path| host.text(path)?.parse::<u64>().ok());
    match limit.into_iter().chain(group).min() {
        None => Finding::unknown(CHECK, "/proc/self/limits"),
        Some(most) if most >= needed => Finding::ok(
            CHECK,
            if most == u64::MAX { "unlimited".to_owned() } else { format!("at most {most}") },
        ),
        Some(most) => Finding::problem(
            CHECK,
            format!("at most {most}; a pipeline on {} wants about {needed}", counted(host.cores(), "core")),
            "ulimit -u, TasksMax= of the service, or --pids-limit of the container",
        ),
    }
}

fn first_process(host: &Host<'_>) -> Finding {
    match host.status("Pid").as_deref() {
        None => Finding::unknown("init", "/proc/self/status"),
        Some("1") => Finding::ok("init", "started as process 1: SIGINT and SIGTERM drain all the same"),
        Some(_) => Finding::ok("init", "has another process above it"),
    }
}

fn clock_source(host: &Host<'_>) -> Finding {
    const CHECK: &str = "clock source";
    let Some(source) = host.text(CLOCK) else { return Finding::unknown(CHECK, CLOCK) };
    match source.as_str() {
        "tsc"
        | "kvm-clock"
        | "arch_sys_counter"
        | "hyperv_clocksource_tsc_page"
        | "riscv_clocksource"
        | "timebase" => Finding::ok(CHECK, source),
        "hpet" | "acpi_pm" | "jiffies" | "refined-jiffies" | "pit" => Finding::note(
            CHECK,
            format!(
                "{source}: each reading is a system call of a microsecond or more (the kernel may have found the TSC unstable)"
            ),
            "look for clocksource in dmesg; boot with tsc=reliable only if the hardware is known to be right",
        ),
        _ => Finding::note(
            CHECK,
            format!("{source}: not known to be read without a system call"),
            "compare with /sys/devices/system/clocksource/clocksource0/available_clocksource",
        ),
    }
}
