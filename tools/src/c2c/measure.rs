//! Two pinned threads and two rings for each pair of CPUs.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, scope};

use corelane::driver::pin_current_thread;
use corelane::ring::{Consumer, Producer, ring};
use corelane::topology::{CoreLinks, CpuId, CpuList};
use corelane_bench::stats;

use super::CoreToCoreError;
use crate::clock::Clock;

/// Round trips that are timed together: the clock takes about as long as half of one.
const ROUND_TRIPS: u64 = 64;
/// Times that many, after a few to warm up.
const BATCHES: usize = 160;
const WARM_UP: usize = 16;
/// Items sent in one direction, and how many are published together.
const ITEMS: u64 = 1 << 21;
const TOGETHER: u64 = 256;
/// Slots of the rings.
const SLOTS: usize = 4096;

/// One pass over one pair.
#[derive(Debug, Clone, Copy, Default)]
struct Sample {
    one_way_ns: f64,
    /// From the first to the second, and back.
    items_per_s: [f64; 2],
}

/// Measures all pairs of `cpus`, pass by pass, so that what changes over time meets all pairs alike. A pass takes some milliseconds for
/// each pair.
pub(super) fn links(cpus: &CpuList, passes: usize) -> Result<CoreLinks, CoreToCoreError> {
    let n = cpus.len();
    let pairs: Vec<(usize, usize)> = (0..n).flat_map(|a| (a + 1..n).map(move |b| (a, b))).collect();
    let mut samples = vec![Vec::with_capacity(passes); pairs.len()];
    for _ in 0..passes {
        for ((a, b), samples) in pairs.iter().zip(&mut samples) {
            let (a, b) = (cpus.as_slice()[*a], cpus.as_slice()[*b]);
            samples.push(pair(a, b)?);
        }
    }
    let mut links = CoreLinks {
        cpus: cpus.clone(),
        one_way_ns: vec![vec![0.0; n]; n],
        items_per_s: vec![vec![0.0; n]; n],
    };
    for ((a, b), samples) in pairs.iter().copied().zip(&samples) {
        let one_way = median(samples.iter().map(|sample| sample.one_way_ns));
        links.one_way_ns[a][b] = one_way;
        links.one_way_ns[b][a] = one_way;
        links.items_per_s[a][b] = median(samples.iter().map(|sample| sample.items_per_s[0]));
        links.items_per_s[b][a] = median(samples.iter().map(|sample| sample.items_per_s[1]));
    }
    Ok(links)
}

pub(super) fn median(values: impl Iterator<Item = f64>) -> f64 {
    // To a tenth: more digits would only look exact.
    stats::median(&values.collect::<Vec<_>>()).map_or(0.0, |value| (value * 10.0).round() / 10.0)
}

/// What both threads have: their ends of the two rings.
struct End {
    out: Producer<u64>,
    inward: Consumer<u64>,
}

/// Where both threads wait for each other.
struct Meeting {
    ready: Barrier,
    called_off: AtomicBool,
}

impl Meeting {
    /// Waits for the other side; whether both are pinned. A thread alone would wait for items for ever.
    fn takes_place(&self, pinned: bool) -> bool {
        if !pinned {
            self.called_off.store(true, Ordering::Release);
        }
        self.ready.wait();
        !self.called_off.load(Ordering::Acquire)
    }
}

fn pair(a: CpuId, b: CpuId) -> Result<Sample, CoreToCoreError> {
    let (there, arrived) = ring::<u64>(SLOTS)?;
    let (back, returned) = ring::<u64>(SLOTS)?;
    let asking = End { out: there, inward: returned };
    let answering = End { out: back, inward: arrived };
    let meeting = Meeting { ready: Barrier::new(2), called_off: AtomicBool::new(false) };
    let meeting = &meeting;
    scope(|scope| {
        let start = |name: &str| Builder::new().name(format!("corelane-{name}"));
        let answer = start("answer").spawn_scoped(scope, move || {
            let pinned = pin_current_thread(b);
            if meeting.takes_place(pinned.is_ok()) {
                return pinned.map(|()| self::answer(answering, &meeting.ready));
            }
            pinned.map(|()| None)
        })?;
        let ask = start("ask").spawn_scoped(scope, move || {
            let pinned = pin_current_thread(a);
            if meeting.takes_place(pinned.is_ok()) {
                return pinned.map(|()| self::ask(asking, &meeting.ready));
            }
            pinned.map(|()| (None, None))
        });
        if ask.is_err() {
            meeting.takes_place(false);
        }
        let ask = ask?;
        let (answered, asked) = (answer.join(), ask.join());
        let received = answered.map_err(|_| CoreToCoreError::Panicked)??;
        let (one_way_ns, returned) = asked.map_err(|_| CoreToCoreError::Panicked)??;
        match (received, one_way_ns, returned) {
            (Some(there), Some(one_way_ns), Some(back)) => {
                Ok(Sample { one_way_ns, items_per_s: [there, back] })
            }
            _ => Err(CoreToCoreError::Wrong(a, b)),
        }
    })
}

/// Half of the median round trip, and the rate of what comes back; `None` for an item that was not what it should be.
fn ask(mut end: End, ready: &Barrier) -> (Option<f64>, Option<f64>) {
    end.inward.pretouch();
    ready.wait();
    let clock = Clock::start();
    let (mut right, mut times) = (true, Vec::with_capacity(BATCHES));
    let mut value = 0;
    for batch in 0..WARM_UP + BATCHES {
        let from = clock.nanos();
        for _ in 0..ROUND_TRIPS {
            send(&mut end.out, value);
            let answer = receive(&mut end.inward);
            right &= answer == value + 1;
            value = answer;
        }
        if batch >= WARM_UP {
            times.push((clock.nanos() - from) as f64 / (2 * ROUND_TRIPS) as f64);
        }
    }
    ready.wait();
    send_all(&mut end.out);
    ready.wait();
    let rate = receive_all(&mut end.inward);
    (right.then(|| median(times.into_iter())), rate)
}

/// The other side; the rate of what arrives.
fn answer(mut end: End, ready: &Barrier) -> Option<f64> {
    end.inward.pretouch();
    ready.wait();
    for _ in 0..(WARM_UP + BATCHES) as u64 * ROUND_TRIPS {
        let value = receive(&mut end.inward);
        send(&mut end.out, value + 1);
    }
    ready.wait();
    let rate = receive_all(&mut end.inward);
    ready.wait();
    send_all(&mut end.out);
    rate
}

fn send(out: &mut Producer<u64>, value: u64) {
    // One is under way at a time: there is room.
    let _ = out.push(value);
    out.publish();
}

fn receive(inward: &mut Consumer<u64>) -> u64 {
    loop {
        if let Some(value) = inward.read(1).next() {
            return value;
        }
        std::hint::spin_loop();
    }
}

fn send_all(out: &mut Producer<u64>) {
    let mut next = 0;
    while next < ITEMS {
        let mut items = next..(next + TOGETHER).min(ITEMS);
        out.extend(&mut items);
        next = items.start;
        out.publish();
    }
}

/// Items per second; `None` if they were not those that were sent.
fn receive_all(inward: &mut Consumer<u64>) -> Option<f64> {
    // Not before the first one is there: the other thread may be slow to wake.
    while inward.is_empty() {
        std::hint::spin_loop();
    }
    let clock = Clock::start();
    let (mut count, mut sum) = (0u64, 0u64);
    while count < ITEMS {
        let before = count;
        for item in inward.read(usize::MAX) {
            count += 1;
            sum = sum.wrapping_add(item);
        }
        if count == before {
            std::hint::spin_loop();
        }
    }
    let seconds = clock.elapsed().as_secs_f64();
    (count == ITEMS && sum == ITEMS * (ITEMS - 1) / 2).then(|| ITEMS as f64 / seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_has_both_numbers_and_a_cpu_none_with_itself() {
        let cpus = corelane::driver::current_affinity().unwrap();
        let two: CpuList = cpus.iter().take(2).collect();
        let links = links(&two, 1).unwrap();
        links.check().unwrap();
        for a in 0..two.len() {
            for b in 0..two.len() {
                assert_eq!(links.one_way_ns[a][b] > 0.0, a != b, "{links:?}");
                assert_eq!(links.items_per_s[a][b] > 0.0, a != b, "{links:?}");
            }
        }
    }

    #[test]
    fn a_cpu_that_is_not_there_is_an_error_and_nobody_waits_for_it() {
        let there = corelane::driver::current_affinity().unwrap().first().unwrap();
        for (a, b) in [(there, 65_535), (65_535, there)] {
            assert!(matches!(pair(a, b), Err(CoreToCoreError::Pin(_))));
        }
    }
}
