//! What it costs to read memory of another node: a thread on a CPU of one node goes over a buffer that is bound to another.

use std::thread::{Builder, scope};

use corelane::driver::pin_current_thread;
use corelane::model::columns;
use corelane::policy::{MemoryLocality, MemoryPoolOptions};
use corelane::pool::{MemoryPool, PooledBuffer, RentError};
use corelane::sync::HomeNode;
use corelane::topology::{CpuId, Machine};
use fastrand::Rng;
use serde::Serialize;

use super::CoreToCoreError;
use super::measure::median;
use crate::clock::Clock;

/// More than most last-level caches hold, and about as much as the pool gives at once.
const BYTES: usize = if cfg!(test) { 1 << 20 } else { 120 << 20 };
const LINE: usize = 64;
const LINES: usize = BYTES / LINE;

/// Each node that a CPU may be used of, and each that has memory.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct NodeReads {
    /// The CPUs that read: the first of each node.
    cpus: Vec<CpuId>,
    /// Their nodes: the rows of the tables.
    from: Vec<u32>,
    /// The nodes that the memory lay on: the columns.
    to: Vec<u32>,
    /// Nanoseconds of a read that the next one waits for.
    read_ns: Vec<Vec<f64>>,
    /// Bytes a second, one after the other.
    bytes_per_s: Vec<Vec<f64>>,
}

/// Measures every pair of nodes, pass by pass. A pass takes about a second for each pair.
pub(super) fn reads(machine: &Machine, passes: usize) -> Result<NodeReads, CoreToCoreError> {
    let allowed = machine.allowed();
    let first =
        |node: &corelane::topology::NumaNode| Some((node.id, node.cpus.intersection(&allowed).first()?));
    let (from, cpus): (Vec<u32>, Vec<CpuId>) = machine.nodes.iter().filter_map(first).unzip();
    let to = machine.memory_nodes();
    let mut samples = vec![vec![Vec::with_capacity(passes); to.len()]; cpus.len()];
    for _ in 0..passes {
        for (samples, cpu) in samples.iter_mut().zip(&cpus) {
            for (samples, node) in samples.iter_mut().zip(&to) {
                samples.push(read(*cpu, *node)?);
            }
        }
    }
    let table = |of: fn(&(f64, f64)) -> f64| -> Vec<Vec<f64>> {
        let cell = |samples: &Vec<(f64, f64)>| median(samples.iter().map(of));
        samples.iter().map(|row| row.iter().map(cell).collect()).collect()
    };
    Ok(NodeReads { read_ns: table(|(ns, _)| *ns), bytes_per_s: table(|(_, rate)| *rate), cpus, from, to })
}

/// On a thread of its own, because a pin stays.
fn read(cpu: CpuId, node: u32) -> Result<(f64, f64), CoreToCoreError> {
    scope(|scope| {
        let measure = move || {
            pin_current_thread(cpu)?;
            let mut buffer = bound(node)?;
            let first = make_cycle(&mut buffer);
            let (read_ns, last) = walk(&buffer, first);
            let (bytes_per_s, sum) = scan(&buffer);
            // Once around, and every line once.
            let right = last == first && sum == (LINES as u64 - 1) * LINES as u64 / 2;
            if right { Ok((read_ns, bytes_per_s)) } else { Err(CoreToCoreError::WrongMemory(node)) }
        };
        let thread = Builder::new().name("corelane-read".into()).spawn_scoped(scope, measure)?;
        thread.join().map_err(|_| CoreToCoreError::Panicked)?
    })
}

/// On huge pages where there are some, so that the way to the memory is measured and not that to its address.
fn bound(node: u32) -> Result<PooledBuffer, RentError> {
    let options = MemoryPoolOptions { huge_pages: true, ..MemoryPoolOptions::default() };
    let home = HomeNode { node, locality: MemoryLocality::Strict };
    MemoryPool::new(options).open_on(None, home)?.rent(BYTES)
}

fn line(buffer: &[u8], at: u64) -> u64 {
    let from = at as usize * LINE;
    buffer[from..from + 8].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// Writes to every line which one comes next, so that one way leads through all of them in an order that no prefetcher knows (Sattolo's
/// shuffle). Returns where it starts.
fn make_cycle(buffer: &mut [u8]) -> u64 {
    let mut set = |at: u64, next: u64| buffer[at as usize * LINE..][..8].copy_from_slice(&next.to_le_bytes());
    let mut order: Vec<u64> = (0..LINES as u64).collect();
    let mut random = Rng::with_seed(7);
    for last in (1..LINES).rev() {
        order.swap(last, random.usize(..last));
    }
    order.iter().zip(order.iter().cycle().skip(1)).for_each(|(at, next)| set(*at, *next));
    order[0]
}

/// Nanoseconds a step, all the way around from `first`, and where it ended.
fn walk(buffer: &[u8], first: u64) -> (f64, u64) {
    let clock = Clock::start();
    let last = (0..LINES).fold(first, |at, _| line(buffer, at));
    (clock.nanos() as f64 / LINES as f64, last)
}

/// Bytes a second, and the sum of what was read.
fn scan(buffer: &[u8]) -> (f64, u64) {
    let clock = Clock::start();
    let sum = (0..LINES as u64).map(|at| line(buffer, at)).fold(0, u64::wrapping_add);
    (BYTES as f64 / clock.elapsed().as_secs_f64(), sum)
}

/// Both tables, rows read and columns are read from.
pub(super) fn tables(reads: &NodeReads) -> String {
    let table = |of: &[Vec<f64>], cell: fn(f64) -> String| {
        let head = std::iter::once(String::new()).chain(reads.to.iter().map(|node| format!("node {node}")));
        let row = |(from, row): (&u32, &Vec<f64>)| -> Vec<String> {
            std::iter::once(format!("node {from}")).chain(row.iter().map(|value| cell(*value))).collect()
        };
        let rows: Vec<_> =
            std::iter::once(head.collect()).chain(reads.from.iter().zip(of).map(row)).collect();
        columns("", &rows, 0..usize::MAX)
    };
    format!(
        "nanoseconds of one read from a CPU of the row's node to memory on that of the column, each waiting for the one before\n{}\n\
         gigabytes a second, one after the other\n{}",
        table(&reads.read_ns, |ns| format!("{ns:.0}")),
        table(&reads.bytes_per_s, |rate| format!("{:.1}", rate / 1e9)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_way_leads_through_every_line_and_back() {
        let mut buffer = vec![0; BYTES];
        let first = make_cycle(&mut buffer);
        let mut seen = vec![false; LINES];
        let mut at = first;
        for _ in 0..LINES {
            assert!(!std::mem::replace(&mut seen[at as usize], true), "{at} twice");
            at = line(&buffer, at);
        }
        assert_eq!((at, walk(&buffer, first).1), (first, first));
        assert_eq!(scan(&buffer).1, (LINES as u64 - 1) * LINES as u64 / 2);
    }

    #[test]
    fn every_pair_of_nodes_of_this_machine_has_both_numbers() {
        let machine = corelane::engine::this_machine().unwrap();
        match reads(&machine, 1) {
            Err(CoreToCoreError::Pool(RentError::Binding(error))) => println!("left out: {error}"),
            reads => {
                let reads = reads.unwrap();
                let all = [&reads.read_ns, &reads.bytes_per_s];
                assert!(!reads.from.is_empty() && !reads.to.is_empty(), "{reads:?}");
                for table in all {
                    assert_eq!(table.len(), reads.from.len());
                    assert!(table.iter().all(|row| row.len() == reads.to.len()), "{reads:?}");
                    assert!(table.iter().flatten().all(|value| *value > 0.0), "{reads:?}");
                }
            }
        }
    }

    #[test]
    fn tables_name_the_nodes_of_rows_and_columns() {
        let reads = NodeReads {
            cpus: vec![0, 8],
            from: vec![0, 1],
            to: vec![0, 1],
            read_ns: vec![vec![90.4, 140.6], vec![141.0, 90.0]],
            bytes_per_s: vec![vec![12.34e9, 8e9], vec![8e9, 12e9]],
        };
        let text = tables(&reads);
        assert!(
            text.contains("        node 0  node 1\nnode 0      90     141\nnode 1     141      90\n"),
            "{text}"
        );
        assert!(text.contains("node 0    12.3     8.0\n"), "{text}");
    }
}
