//! Accumulators whose keys go to a simulated disk and come back.

use std::sync::Arc;

use super::*;
use crate::disk::Disks;
use crate::driver::{DiskFaults, SimDisks};
use crate::observe::StageAccount;
use crate::policy::ErrorPolicy;
use crate::stage::Operator;

mod any;

/// Bytes that each item adds to the state.
const PAYLOAD: usize = 1500;
const MEMORY: u64 = 128 * 1024;
/// Keys from here on have hardly any state.
const SMALL_KEYS: u32 = 1_000_000;

#[derive(Clone, Debug)]
struct Part {
    key: u32,
    id: u64,
    time: i64,
    last: bool,
}

/// Keeps the ids of its items, each with some bytes.
#[derive(Clone)]
struct Parts {
    payload: usize,
    /// What goes wrong.
    refuse: bool,
    forget: bool,
    swap: bool,
}

const PARTS: Parts = Parts { payload: PAYLOAD, refuse: false, forget: false, swap: false };

impl Parts {
    fn payload_of(&self, key: u32) -> usize {
        if key < SMALL_KEYS { self.payload } else { 16 }
    }
}

/// The key, why it came, and the ids of its items.
type Whole = (u32, Option<FlushReason>, Vec<u64>);

impl Accumulator<Part> for Parts {
    type Key = u32;
    type State = Vec<(u64, Vec<u8>)>;
    type Out = Whole;

    fn key(&self, item: &Part) -> u32 {
        item.key
    }
    fn timestamp(&self, item: &Part, _: CheckTime) -> Timestamp {
        Timestamp(item.time)
    }
    fn cost(&self, part: &Part) -> Cost {
        Cost::of_bytes(self.payload_of(part.key) as u64)
    }
    fn init(&mut self, _: &u32, _: &Part) -> Self::State {
        Vec::new()
    }
    fn update(&mut self, of: &mut StateOf<Part, Self>, item: Part) {
        assert_eq!(of.size_items, of.state.len() as u64);
        of.completeness_score = item.last.into();
        of.state.push((item.id, vec![item.id as u8; self.payload_of(item.key)]));
    }
    fn check(&mut self, of: &mut StateOf<Part, Self>, _: CheckTime) -> Completeness<Whole> {
        if of.completeness_score < 1.0 {
            return Completeness::Incomplete;
        }
        Completeness::Complete((of.key, None, ids(of)))
    }
    fn flush_forced(&mut self, of: &mut StateOf<Part, Self>, reason: FlushReason) -> Option<Whole> {
        Some((of.key, Some(reason), ids(of)))
    }
    fn spill_schema(&self) -> Option<SpillSchema> {
        Some(SpillSchema::archive_of::<StateOf<Part, Self>>())
    }
    fn serialize_spill(
        &self,
        of: &StateOf<Part, Self>,
        into: &mut Vec<u8>,
    ) -> std::result::Result<(), SpillError> {
        if self.refuse {
            return Err(SpillError::Format("told to".into()));
        }
        to_archive(of, into)
    }
    fn deserialize_spill(&self, bytes: &[u8]) -> std::result::Result<StateOf<Part, Self>, SpillError> {
        if self.forget {
            return Err(SpillError::Format("told to".into()));
        }
        let mut of: StateOf<Part, Self> = from_archive(bytes)?;
        of.key += u32::from(self.swap);
        Ok(of)
    }
}

fn ids(of: &AccumulatorState<u32, Vec<(u64, Vec<u8>)>>) -> Vec<u64> {
    of.state
        .iter()
        .map(|(id, bytes)| {
            assert!(bytes.iter().all(|byte| *byte == *id as u8), "bytes of {id} changed");
            *id
        })
        .collect()
}

type Op = Bench<Part, AccumulateOp<Part, Parts>>;

/// An accumulator and its disks, which live as long.
struct Rig {
    b: Op,
    disks: SimDisks,
    _held: Arc<dyn Disks>,
}

fn rig_on(disks: SimDisks, parts: Parts, policy: AccumulatorPolicy, errors: ErrorPolicy) -> Rig {
    let held: Arc<dyn Disks> = Arc::new(disks.clone());
    let site = crate::stage::StageSite { error_policy: errors, ..testkit::site_with(&held) };
    let op = AccumulateOp::new(parts, policy.spill_beyond(MEMORY), &site);
    Rig { b: Bench::new(op), disks, _held: held }
}

fn rig(faults: DiskFaults, policy: AccumulatorPolicy) -> Rig {
    rig_on(SimDisks::new(1, faults), PARTS, policy, ErrorPolicy::Ignore)
}

fn part(key: u32, id: u64) -> Part {
    Part { key, id, time: 0, last: false }
}

impl Rig {
    /// Lets time pass until nothing is under way.
    fn wait(&mut self) {
        for _ in 0..100_000 {
            self.b.settle();
            match self.b.op_deadline() {
                Some(due) if due < self.b.now.saturating_add(20_000_000_000) => {
                    self.b.now = self.b.now.max(due)
                }
                _ => return,
            }
        }
        panic!("never at rest: {:?}", self.b.account());
    }

    fn give(&mut self, parts: impl IntoIterator<Item = Part>) {
        let mut parts = parts.into_iter();
        let mut next = parts.next();
        let mut tries = 0;
        while let Some(part) = next.take() {
            if self.b.op_room() > 0 {
                self.b.give([part]);
                tries = 0;
                next = parts.next();
            } else {
                next = Some(part);
                tries += 1;
                assert!(tries < 10_000, "no room any more: {:?}", self.b.account());
                if self.b.failure.is_some() {
                    return;
                }
                if !self.b.tick() {
                    let due = self.b.op_deadline();
                    self.b.now = self.b.now.max(due.unwrap_or(self.b.now)) + 1;
                }
            }
        }
    }

    fn end(&mut self) -> Vec<Whole> {
        while self.b.op_room() == 0 {
            self.wait();
            assert!(self.b.failure.is_none(), "{:?}", self.b.failure);
        }
        self.b.signal(Signal::End);
        self.wait();
        assert_eq!(self.b.down.events.last(), Some(&Event::Signal(Signal::End)));
        self.b.take()
    }

    fn close(&mut self) -> StageAccount {
        self.b.close();
        assert_eq!(self.disks.files(), 0, "a file is left");
        self.b.account()
    }
}

/// Every part of `keys` keys, all first parts before all second ones.
fn parts(keys: u32, each: u64) -> Vec<Part> {
    let all = (0..each).flat_map(|n| (0..keys).map(move |key| part(key, u64::from(key) * each + n)));
    all.collect()
}

fn whole(keys: u32, each: u64, reason: Option<FlushReason>) -> Vec<Whole> {
    (0..keys).map(|key| (key, reason, (0..each).map(|n| u64::from(key) * each + n).collect())).collect()
}

#[test]
fn state_of_twenty_times_its_memory_goes_to_disk_and_all_of_it_comes_out_at_the_end() {
    let mut r = rig(DiskFaults::NONE, partial());
    let (keys, each) = (600, 3);
    assert!(u64::from(keys) * each * PAYLOAD as u64 > 20 * MEMORY);
    r.give(parts(keys, each));
    let a = r.b.account();
    assert!(a.items_spilled > a.items_open && a.keys_spilled > 0 && a.restores > 0, "{a:?}");
    let mut out = r.end();
    out.sort_by_key(|whole| whole.0);
    assert_eq!(out, whole(keys, each, Some(FlushReason::End)));
    let a = r.close();
    assert_eq!((a.items_spilled, a.items_lost, a.discarded, a.keys_spilled), (0, 0, 0, 0));
}

#[test]
fn states_that_would_free_nothing_stay_in_memory_while_large_ones_can_go() {
    let mut r = rig(DiskFaults::NONE, partial());
    r.give((0..50).map(|key| part(SMALL_KEYS + key, 0)));
    r.give((0..600).map(|key| part(key, 0)));
    r.wait();
    assert!(r.b.account().spills > 500);
    // None has to be brought back, though nobody has asked for them for long.
    r.give((0..50).map(|key| part(SMALL_KEYS + key, 1)));
    assert_eq!((r.b.account().restores, r.b.account().waiting_retry), (0, 0));
    assert_eq!(r.end().len(), 650);
}

#[test]
fn memory_stays_within_its_bound_and_one_item_at_every_step() {
    let mut r = rig(DiskFaults { latency: 0..3_000_000, ..DiskFaults::NONE }, partial());
    for part in parts(300, 5) {
        r.give([part]);
        let bytes = r.b.account().state_bytes;
        // A restored key, its read buffer, and the item.
        assert!(bytes <= MEMORY + 64 * 1024, "{bytes}");
    }
    r.end();
}

#[test]
fn items_of_a_key_that_is_on_its_way_back_wait_in_order_and_a_signal_waits_for_them() {
    let mut r = rig(DiskFaults::NONE, partial());
    r.give((0..400).map(|key| part(key, 0)));
    r.wait();
    let (spills, restores) = (r.b.account().spills, r.b.account().restores);
    assert!(spills > 300 && restores == 0);
    // The first key has been on disk for long.
    r.b.give((1..6).map(|id| part(0, id)));
    assert_eq!(r.b.account().waiting_retry, 5);
    r.b.signal(Signal::Watermark(Timestamp(7)));
    assert!(r.b.down.events.is_empty(), "the watermark overtook items");
    assert_eq!(r.b.op_room(), 0);
    r.wait();
    assert_eq!(r.b.down.events, [Event::Signal(Signal::Watermark(Timestamp(7)))]);
    r.b.give([Part { last: true, ..part(0, 6) }]);
    r.wait();
    assert_eq!(r.b.take(), [(0, None, (0..7).collect())]);
    assert_eq!(r.b.account().waiting_retry, 0);
}

#[test]
fn keys_on_disk_are_let_go_of_when_their_time_is_up_in_either_time() {
    for event in [false, true] {
        let policy = if event { ttl(1000).in_event_time() } else { ttl(1_000_000_000_000) };
        let mut r = rig(DiskFaults::NONE, policy);
        for key in 0..400 {
            r.give([Part { time: i64::from(key), ..part(key, key.into()) }]);
        }
        r.wait();
        assert!(r.b.account().keys_spilled > 300);
        if event {
            r.b.signal(Signal::Watermark(Timestamp(1100)));
            r.wait();
            let keys: Vec<u32> = r.b.take().into_iter().map(|(key, _, _)| key).collect();
            assert_eq!(keys, (0..101).collect::<Vec<_>>(), "not in the order of the deadlines");
            assert_eq!(r.b.down.events.last(), Some(&Event::Signal(Signal::Watermark(Timestamp(1100)))));
        } else {
            r.b.now += 1_000_000_000_001;
            r.wait();
            assert_eq!(r.b.take().len(), 400);
            assert_eq!(r.b.account().keys + r.b.account().keys_spilled, 0);
        }
    }
}

#[test]
fn a_stop_counts_what_was_on_disk_and_leaves_no_file() {
    let mut r = rig(DiskFaults { latency: 5_000_000..6_000_000, ..DiskFaults::NONE }, partial());
    r.give((0..500).map(|key| part(key, 0)));
    r.give((0..3).map(|key| part(key, 1)));
    let a = r.b.account();
    assert!(a.keys_spilled > 0 && a.waiting_retry > 0 && r.disks.files() > 0);
    let a = r.close();
    assert_eq!((a.discarded, a.absorbed, a.waiting_retry, a.spilled_bytes), (503, 0, 0, 0));
}

#[test]
fn files_are_compacted_and_the_disk_holds_at_most_a_few_times_what_is_needed() {
    let mut r = rig(DiskFaults::NONE, partial());
    let mut id = 0;
    // The same keys go to disk again and again.
    for round in 0..60 {
        for key in 0..300u32 {
            if (key + round) % 3 == 0 || round == 0 {
                r.give([part(key, id)]);
                id += 1;
            }
            if round % 10 == 9 {
                r.give([Part { last: true, ..part(key, id) }]);
                id += 1;
            }
        }
        r.wait();
        let a = r.b.account();
        let needed = a.items_spilled * (PAYLOAD as u64 + 200) + 4 * 64 * 4096;
        assert!(a.spilled_bytes <= 3 * needed, "round {round}: {} for {needed}", a.spilled_bytes);
    }
    assert!(r.disks.files() < 20);
    r.end();
    r.close();
}

#[test]
fn fault_52_no_space_at_any_byte_loses_nothing() {
    for space in (0..120_000).step_by(3_331) {
        let mut r = rig(DiskFaults { space, ..DiskFaults::NONE }, partial());
        for key in 0..100 {
            let mut waited = 0;
            while r.b.op_room() == 0 {
                r.b.tick();
                r.b.now += 1_000_000;
                waited += 1;
                if waited == 50 {
                    // Somebody frees the disk.
                    r.disks.set_faults(DiskFaults::NONE);
                }
                assert!(waited < 20_000);
            }
            r.give([part(key, key.into())]);
        }
        r.disks.set_faults(DiskFaults::NONE);
        r.give((0..100).map(|key| part(key, 1000 + u64::from(key))));
        let mut out = r.end();
        out.sort_by_key(|whole| whole.0);
        let expected: Vec<Whole> = (0..100)
            .map(|key| (key, Some(FlushReason::End), vec![key.into(), 1000 + u64::from(key)]))
            .collect();
        assert_eq!(out, expected, "space {space}");
        assert_eq!(r.close().items_lost, 0);
    }
}

#[test]
fn fault_52_a_full_disk_makes_input_wait_and_raises_an_alarm() {
    let mut r = rig(DiskFaults { space: 10_000, ..DiskFaults::NONE }, partial());
    let mut key = 0;
    for _ in 0..2_000 {
        if r.b.op_room() > 0 {
            r.b.give([part(key, key.into())]);
            key += 1;
        }
        r.b.tick();
        r.b.now += 100_000;
        assert!(r.b.account().state_bytes <= MEMORY + 16 * 1024);
    }
    let a = r.b.account();
    assert!(a.spill_errors > 0 && r.b.op_room() == 0 && r.b.failure.is_none());
    assert_eq!((a.items_open + a.items_spilled, a.items_lost), (key.into(), 0));
    assert!(r.b.op.last_error().unwrap().contains("no space is left"));
    assert!(r.b.op_deadline().is_some(), "nobody tries again");
}

#[test]
fn fault_53_a_write_that_fails_keeps_its_keys_in_memory() {
    let mut r = rig(DiskFaults { write_error: 0.5, create_error: 0.5, ..DiskFaults::NONE }, partial());
    r.give(parts(200, 3));
    let mut out = r.end();
    out.sort_by_key(|whole| whole.0);
    assert_eq!(out, whole(200, 3, Some(FlushReason::End)));
    let a = r.close();
    assert!(a.spill_errors > 0 && r.disks.faults() > 0);
    assert_eq!((a.items_lost, a.errors), (0, 0));
}

#[test]
fn fault_53_one_read_that_fails_is_tried_again_and_loses_nothing() {
    let mut r = rig(DiskFaults::NONE, partial());
    r.give(parts(200, 1));
    r.wait();
    r.disks.set_faults(DiskFaults { read_error: 1.0, ..DiskFaults::NONE });
    r.b.give([part(0, 1)]);
    r.b.tick();
    // The first read has not come yet when the disk is well again.
    r.disks.set_faults(DiskFaults::NONE);
    r.wait();
    assert_eq!(r.b.account().items_lost, 0);
}

#[test]
fn fault_53_a_key_that_cannot_be_read_is_lost_by_name_and_the_error_policy_decides() {
    for (policy, fails) in
        [(ErrorPolicy::Fail, true), (ErrorPolicy::Ignore, false), (ErrorPolicy::DeadLetter, false)]
    {
        let mut r = rig_on(SimDisks::new(2, DiskFaults::NONE), PARTS, partial(), policy);
        r.give(parts(200, 1));
        r.wait();
        r.disks.set_faults(DiskFaults { read_error: 1.0, ..DiskFaults::NONE });
        r.b.give([part(0, 1_000), part(0, 1_001)]);
        r.wait();
        let a = r.b.account();
        assert_eq!((a.items_lost, a.waiting_retry, a.failed), (1, 0, 0));
        assert_eq!(a.errors, 1);
        assert_eq!(r.b.failure.is_some(), fails);
        if let Some(error) = &r.b.failure {
            assert!(error.contains("spilled state of a key is lost"), "{error}");
        } else {
            r.disks.set_faults(DiskFaults::NONE);
            let mut out = r.end();
            out.sort_by_key(|whole| whole.0);
            assert_eq!(
                out[0],
                (0, Some(FlushReason::End), vec![1_000, 1_001]),
                "the items that waited opened it anew"
            );
        }
        r.close();
    }
}

#[test]
fn fault_71_a_panic_while_a_state_is_written_ends_the_pipeline() {
    #[derive(Clone)]
    struct Panics;
    impl Accumulator<u32> for Panics {
        type Key = u32;
        type State = Vec<u8>;
        type Out = u32;
        fn key(&self, item: &u32) -> u32 {
            *item
        }
        fn init(&mut self, _: &u32, _: &u32) -> Vec<u8> {
            vec![0; 8000]
        }
        fn update(&mut self, _: &mut StateOf<u32, Self>, _: u32) {}
        fn check(&mut self, _: &mut StateOf<u32, Self>, _: CheckTime) -> Completeness<u32> {
            Completeness::Incomplete
        }
        fn flush_forced(&mut self, _: &mut StateOf<u32, Self>, _: FlushReason) -> Option<u32> {
            None
        }
        fn held_bytes(&self, of: &StateOf<u32, Self>) -> u64 {
            of.state.len() as u64
        }
        fn spill_schema(&self) -> Option<SpillSchema> {
            Some(SpillSchema::named("panics"))
        }
        fn serialize_spill(
            &self,
            _: &StateOf<u32, Self>,
            _: &mut Vec<u8>,
        ) -> std::result::Result<(), SpillError> {
            panic!("told to")
        }
    }
    let held: Arc<dyn Disks> = Arc::new(SimDisks::new(0, DiskFaults::NONE));
    let mut b =
        Bench::new(AccumulateOp::new(Panics, partial().spill_beyond(MEMORY), &testkit::site_with(&held)));
    b.give(0..100);
    assert!(b.failure.as_ref().unwrap().contains("told to"));
    assert_eq!((b.account().panics, b.op_room()), (1, 0));
    b.close();
}

#[test]
fn fault_77_a_state_that_is_written_and_cannot_be_read_is_lost_by_name() {
    for parts_with in [Parts { forget: true, ..PARTS }, Parts { swap: true, ..PARTS }] {
        let mut r = rig_on(SimDisks::new(3, DiskFaults::NONE), parts_with, partial(), ErrorPolicy::Ignore);
        r.give(parts(200, 1));
        let out = r.end();
        let a = r.close();
        assert!(a.items_lost > 0 && a.errors == a.items_lost, "{a:?}");
        assert_eq!(out.len() as u64 + a.items_lost, 200);
    }
}

#[test]
fn fault_78_without_a_way_to_disk_state_that_outgrows_its_memory_fails_the_pipeline_by_name() {
    // Spilling not allowed.
    let policy = AccumulatorPolicy { memory_bytes: Some(MEMORY), ..partial() };
    let mut b = Bench::new(AccumulateOp::new(PARTS, policy, &site()));
    b.give(parts(500, 1));
    assert!(b.failure.as_ref().unwrap().contains("no time limit will free it"), "{:?}", b.failure);
    assert!(b.account().state_bytes <= MEMORY + 8 * 1024);
    b.close();
    // Allowed, and no state can be written.
    let mut r = rig_on(
        SimDisks::new(4, DiskFaults::NONE),
        Parts { refuse: true, ..PARTS },
        partial(),
        ErrorPolicy::Ignore,
    );
    r.give(parts(500, 1));
    assert!(r.b.failure.as_ref().unwrap().contains("can be moved to disk"), "{:?}", r.b.failure);
    assert!(r.b.account().spill_errors > 0);
    r.close();
    // The quota is used up.
    let disks = SimDisks::new(5, DiskFaults::NONE).with_quota(300_000);
    let mut r = rig_on(disks, PARTS, partial(), ErrorPolicy::Ignore);
    r.give(parts(2000, 1));
    assert!(r.b.failure.as_ref().unwrap().contains("disk quota"), "{:?}", r.b.failure);
    assert!(r.disks.most_bytes() <= 300_000);
    r.close();
}

#[test]
fn fault_78_where_a_time_limit_frees_memory_input_waits_for_it() {
    let policy = AccumulatorPolicy { memory_bytes: Some(MEMORY), ..ttl(1_000_000) };
    let mut b = Bench::new(AccumulateOp::new(PARTS, policy, &site()));
    let mut given = 0;
    for _ in 0..1000 {
        if b.op_room() > 0 {
            b.give([part(given, given.into())]);
            given += 1;
        }
        b.now += 5_000;
        b.tick();
        assert!(b.failure.is_none());
    }
    assert!(given > 200 && given < 1000, "{given}");
}

#[test]
fn fault_80_keys_and_states_of_any_size_go_to_disk_and_back() {
    let mut r = rig_on(
        SimDisks::new(6, DiskFaults::NONE),
        Parts { payload: 0, ..PARTS },
        partial(),
        ErrorPolicy::Fail,
    );
    r.give((0..500).map(|key| part(key, 0)));
    assert_eq!(r.end().len(), 500);
    r.close();
    let big = Parts { payload: 10_000_000, ..PARTS };
    let mut r = rig_on(SimDisks::new(7, DiskFaults::NONE), big, partial(), ErrorPolicy::Fail);
    r.give(parts(3, 2));
    let mut out = r.end();
    out.sort_by_key(|whole| whole.0);
    assert_eq!(out, whole(3, 2, Some(FlushReason::End)));
    r.close();
}

#[test]
fn fault_58_a_disk_that_takes_seconds_makes_input_wait_and_no_step() {
    let mut r = rig(DiskFaults { latency: 5_000_000_000..5_000_000_001, ..DiskFaults::NONE }, partial());
    r.give(parts(200, 2));
    assert!(r.b.now > 10_000_000_000, "{}", r.b.now);
    let mut out = r.end();
    out.sort_by_key(|whole| whole.0);
    assert_eq!(out, whole(200, 2, Some(FlushReason::End)));
    r.close();
}

#[test]
fn fault_59_a_hundred_thousand_spills_share_a_few_files() {
    let mut r = rig_on(
        SimDisks::new(8, DiskFaults::NONE),
        Parts { payload: 60, ..PARTS },
        partial(),
        ErrorPolicy::Fail,
    );
    let mut most = 0;
    for round in 0..400u64 {
        r.give((0..250).map(|key| part(key, round)));
        most = most.max(r.disks.files());
    }
    let a = r.b.account();
    assert!(a.spills > 50_000, "{}", a.spills);
    assert!(most <= 80, "{most} files");
    let out = r.end();
    assert!(out.len() == 250 && out.iter().all(|(_, _, ids)| ids.iter().copied().eq(0..400)));
    r.close();
}
