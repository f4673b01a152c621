//! Pinning threads to CPUs.

use std::io;

use rustix::thread::{CpuSet, sched_getaffinity};

use crate::topology::{CpuId, CpuList};

/// Why a thread is not on the CPU it was meant for.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    /// The kernel refused: the CPU does not exist, is offline, or is outside the cgroup cpuset.
    #[error(
        "cannot pin to CPU {cpu}: it is offline or outside the cgroup cpuset; the affinity mask was {affinity}"
    )]
    Refused {
        /// The CPU asked for.
        cpu: CpuId,
        /// The affinity mask of the thread, unchanged.
        affinity: CpuList,
    },
    /// The kernel agreed but the mask it reports is another one.
    #[error("pinned to CPU {cpu}, but the affinity mask now reads {affinity}")]
    NotKept {
        /// The CPU asked for.
        cpu: CpuId,
        /// The affinity mask that was read back.
        affinity: CpuList,
    },
    /// The affinity mask could not be read.
    #[error("cannot read the affinity mask: {0}")]
    Unreadable(#[from] io::Error),
}

/// The CPUs the calling thread may run on. One system call.
///
/// # Errors
/// What the system says; `EINVAL` on a kernel built for more than 1 024 CPUs.
pub fn current_affinity() -> io::Result<CpuList> {
    let set = sched_getaffinity(None)?;
    Ok((0..CpuSet::MAX_CPU).filter(|&cpu| set.is_set(cpu)).map(|cpu| cpu as CpuId).collect())
}

/// Pins the calling thread to `cpu` and reads the mask back. Three system calls.
///
/// The trial is the truth: `cpu` need not be in the current mask (an isolated CPU is not), and files about allowed
/// CPUs may be missing or stale. Call it on the thread that is to be pinned, before it touches its memory. The pin
/// can still be undone from outside later (a changed cpuset, `taskset -p`, a CPU taken offline):
/// [`Placement::displaced`](crate::topology::Placement::displaced) finds that.
///
/// # Errors
/// [`PinError`]; the mask is unchanged after [`PinError::Refused`].
pub fn pin_current_thread(cpu: CpuId) -> Result<(), PinError> {
    if cfg!(feature = "bug_pin_skipped") {
        return Ok(());
    }
    let id = cpu as usize;
    // Larger numbers do not fit the mask, and core_affinity would index out of bounds.
    let pinned = id < CpuSet::MAX_CPU && core_affinity::set_for_current(core_affinity::CoreId { id });
    let affinity = current_affinity()?;
    if !pinned {
        return Err(PinError::Refused { cpu, affinity });
    }
    if affinity.as_slice() != [cpu] {
        return Err(PinError::NotKept { cpu, affinity });
    }
    Ok(())
}

/// Those of `cpus` that no thread of this process can be pinned to. They are tried on a thread of its own, so that the caller's
/// stays where it is; where no thread can be made, nothing is tried and none is refused.
///
/// Costs a thread and a migration for each CPU, some tens of microseconds.
pub fn refused_cpus(cpus: &CpuList) -> CpuList {
    std::thread::scope(|scope| {
        let trial = || cpus.iter().filter(|&cpu| pin_current_thread(cpu).is_err()).collect();
        let thread = std::thread::Builder::new().name("corelane-trial".into()).spawn_scoped(scope, trial);
        thread.ok().and_then(|thread| thread.join().ok()).unwrap_or_default()
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::topology::Machine;

    /// On a thread of its own, so that the pin ends with the test.
    fn on_a_thread(test: impl FnOnce() + Send) {
        std::thread::scope(|scope| scope.spawn(test).join().unwrap());
    }

    #[test]
    fn a_pinned_thread_reads_back_exactly_its_cpu() {
        for cpu in current_affinity().unwrap().iter() {
            on_a_thread(move || {
                pin_current_thread(cpu).unwrap();
                assert_eq!(current_affinity().unwrap().as_slice(), [cpu]);
                assert_eq!(rustix::thread::sched_getcpu(), cpu as usize);
            });
        }
    }

    #[test]
    fn every_cpu_that_the_machine_files_allow_can_be_pinned_to() {
        let affinity = current_affinity().unwrap();
        let machine = Machine::read(Path::new("/"), &affinity).unwrap();
        for cpu in machine.allowed().iter() {
            assert!(affinity.contains(cpu));
            on_a_thread(move || pin_current_thread(cpu).unwrap());
        }
    }

    #[test]
    fn a_trial_finds_the_cpus_that_refuse_and_leaves_the_caller_where_it_is() {
        let before = current_affinity().unwrap();
        let asked: CpuList = before.iter().chain([65_535]).collect();
        assert_eq!(refused_cpus(&asked), CpuList::from_iter([65_535]));
        assert_eq!(current_affinity().unwrap(), before);
    }

    #[test]
    fn a_cpu_that_is_not_there_is_refused_and_the_mask_stays() {
        for cpu in [1023, 1024, 65_535] {
            on_a_thread(move || {
                let before = current_affinity().unwrap();
                if before.contains(cpu) {
                    return; // a machine of 1 024 CPUs
                }
                match pin_current_thread(cpu) {
                    Err(PinError::Refused { cpu: refused, affinity }) => {
                        assert_eq!((refused, affinity), (cpu, before));
                    }
                    other => panic!("CPU {cpu}: {other:?}"),
                }
                assert!(!current_affinity().unwrap().contains(cpu));
            });
        }
    }
}
