//! Memory that a process keeps, and what it takes to get more: a page fault at first use, of which no system is to pay for the one before it.

use std::os::unix::process::CommandExt;
use std::{env, fs, io, process};

/// How long the allocator keeps memory that was given back, in milliseconds, before the operating system gets it; never, if negative.
const KEPT_FOR: &str = "MIMALLOC_PURGE_DELAY";

/// Has the allocator keep what is given back, unless the environment says for how long. The allocator reads that when the process starts: so the
/// program starts itself anew, and this returns only where there is nothing to do.
///
/// By default everything goes back to the operating system that was free for a second. Now and then a repetition would find the memory of
/// the one before it gone, and have it cleared again, in pages of 2 MiB: that may take longer than its work.
///
/// # Errors
/// What kept it from starting.
pub fn kept() -> io::Result<()> {
    if env::var_os(KEPT_FOR).is_some() {
        return Ok(());
    }
    let mut arguments = env::args_os();
    let mut again = process::Command::new(env::current_exe()?);
    // By the name that it was called by: a page of results shows it.
    arguments.next().into_iter().for_each(|name| {
        again.arg0(name);
    });
    Err(again.args(arguments).env(KEPT_FOR, "-1").exec())
}

/// Page faults of this process so far. `None` where the system does not tell.
pub fn page_faults() -> Option<u64> {
    parse(&fs::read_to_string("/proc/self/stat").ok()?)
}

fn parse(process: &str) -> Option<u64> {
    // The name in parentheses may hold anything. Behind it: the state, six numbers, minor faults, those of children, major ones.
    let mut rest = process.rsplit_once(')')?.1.split_whitespace().skip(7);
    let (minor, major): (u64, u64) = (rest.next()?.parse().ok()?, rest.nth(1)?.parse().ok()?);
    Some(minor + major)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_found_behind_any_name() {
        assert_eq!(parse("7 (a) 1 (b) R 1 7 7 0 -1 4194304 40 9 2 9 20 5 0 0"), Some(42));
        assert_eq!(parse("7 (a) R 1 7"), None);
        assert_eq!(parse(""), None);
    }

    #[test]
    fn memory_used_for_the_first_time_is_a_fault() {
        let Some(before) = page_faults() else { return };
        let memory = std::hint::black_box(vec![1_u8; 64 << 20]);
        assert!(page_faults() > Some(before), "of {} bytes", memory.len());
    }
}
