//! The testing kit passes stages that are right and finds each way in which one can be wrong.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::VecDeque;

use corelane::flow::{Segment, Stream};
use corelane::model::{Signal, Timestamp};
use corelane::observe::StageAccount;
use corelane::policy::{ErrorPolicy, Parallelism};
use corelane::stage::{Chain, Operator, Output, StageError, StepCx, Transform};
use corelane::testing::{
    Difference, Fault, Mode, StageReport, StageTest, TestInput, assert_stage, verify_stage,
};

/// What the faulty operators do wrong.
#[derive(Clone, Copy, PartialEq)]
enum Wrong {
    Nothing,
    EmitsWithoutRoom,
    SignalsWithoutRoom,
    LosesBetweenBatches,
    EmitsAfterEnd,
    EndsTwice,
    SwallowsEnd,
    NeverRests,
    MiscountsWhatItEmits,
    MiscountsWhatItPasses,
    RepeatsOnWatermark,
    Panics,
}

/// Emits every item twice, with one thing wrong.
struct Twice {
    wrong: Wrong,
    waiting: VecDeque<u64>,
    held: VecDeque<(usize, Signal)>,
    emitted: u64,
    batches: u32,
    over: bool,
}

impl Twice {
    fn new(wrong: Wrong) -> Self {
        Self { wrong, waiting: VecDeque::new(), held: VecDeque::new(), emitted: 0, batches: 0, over: false }
    }

    fn settle<D: Chain<u64>>(&mut self, down: &mut D, cx: &StepCx) -> bool {
        let mut moved = false;
        loop {
            let room = down.room();
            let free = self.wrong == Wrong::EmitsWithoutRoom;
            if let Some(&(0, signal)) = self.held.front() {
                if room == 0 && self.wrong != Wrong::SignalsWithoutRoom {
                    return moved;
                }
                self.held.pop_front();
                self.pass(signal, down, cx);
                moved = true;
            } else if (room > 0 || free)
                && let Some(item) = self.waiting.pop_front()
            {
                self.held.iter_mut().for_each(|(before, _)| *before -= 1);
                self.emitted += 1;
                down.run(std::iter::once(item), cx);
                moved = true;
            } else {
                return moved;
            }
        }
    }

    fn pass<D: Chain<u64>>(&mut self, signal: Signal, down: &mut D, cx: &StepCx) {
        if signal == Signal::End {
            self.over = true;
            if self.wrong == Wrong::SwallowsEnd {
                return;
            }
        }
        down.signal(signal, cx);
    }
}

impl Operator<u64> for Twice {
    type Out = u64;

    fn run<I: Iterator<Item = u64>, D: Chain<u64>>(&mut self, items: I, down: &mut D, cx: &StepCx) {
        // As if the first item of each batch but the first were taken for a heading.
        let skipped = usize::from(self.wrong == Wrong::LosesBetweenBatches && self.batches > 0);
        self.batches += 1;
        for item in items.skip(skipped) {
            assert!(self.wrong != Wrong::Panics || item != 3, "three");
            self.waiting.extend([item, item]);
        }
        self.settle(down, cx);
    }

    fn room<D: Chain<u64>>(&mut self, down: &mut D) -> usize {
        let room = if self.wrong == Wrong::SignalsWithoutRoom { 9 } else { down.room() };
        if self.waiting.is_empty() && self.held.is_empty() { room } else { 0 }
    }

    fn signal<D: Chain<u64>>(&mut self, signal: Signal, down: &mut D, cx: &StepCx) {
        if self.wrong == Wrong::RepeatsOnWatermark && matches!(signal, Signal::Watermark(_)) {
            self.waiting.push_back(0);
        }
        self.held.push_back((self.waiting.len(), signal));
        self.settle(down, cx);
    }

    fn tick<D: Chain<u64>>(&mut self, down: &mut D, cx: &StepCx) -> bool {
        let moved = self.settle(down, cx);
        if self.over {
            match self.wrong {
                Wrong::EmitsAfterEnd => down.run(std::iter::once(99), cx),
                Wrong::EndsTwice => down.signal(Signal::End, cx),
                _ => {}
            }
        }
        moved || self.wrong == Wrong::NeverRests
    }

    fn account(&self, account: &mut StageAccount) {
        account.passed = account.received - u64::from(self.wrong == Wrong::MiscountsWhatItPasses);
        account.emitted = self.emitted + u64::from(self.wrong == Wrong::MiscountsWhatItEmits);
        account.unsent = self.waiting.len() as u64;
    }
}

fn twice(wrong: Wrong) -> Result<(), StageReport> {
    verify_stage(
        |input| input.operator("twice", move |_| Ok(Twice::new(wrong))),
        1..=5,
        [1, 1, 2, 2, 3, 3, 4, 4, 5, 5],
    )
}

fn found(wrong: Wrong) -> (Mode, Fault) {
    let StageReport { mode, fault } = twice(wrong).unwrap_err();
    (mode, fault)
}

#[test]
fn a_stage_that_is_right_passes_every_mode() {
    assert_eq!(twice(Wrong::Nothing), Ok(()));
}

#[test]
fn emitting_more_than_there_is_room_for_is_found() {
    let (mode, fault) = found(Wrong::EmitsWithoutRoom);
    assert_eq!((mode, fault), (Mode::RoomOfOne, Fault::RoomIgnored { at: 1 }));
}

#[test]
fn passing_a_signal_on_without_room_is_found() {
    let (mode, fault) = found(Wrong::SignalsWithoutRoom);
    assert_eq!((mode, fault), (Mode::RoomOfOne, Fault::SignalWithoutRoom(Signal::End)));
}

#[test]
fn losing_items_between_batches_is_found_at_the_first_lost_item() {
    let (mode, fault) = found(Wrong::LosesBetweenBatches);
    assert_eq!(mode, Mode::OneAtATime);
    match fault {
        Fault::Output(Difference::At { at, expected, found, expected_len, found_len }) => {
            assert_eq!((at, expected_len, found_len), (2, 10, 2));
            assert_eq!((expected.as_deref(), found.as_deref()), (Some("2"), None));
        }
        other => panic!("{other}"),
    }
}

#[test]
fn anything_after_the_end_is_found() {
    assert_eq!(found(Wrong::EmitsAfterEnd).1, Fault::AfterEnd { item: "99".to_owned() });
    assert_eq!(found(Wrong::EndsTwice).1, Fault::SignalAfterEnd(Signal::End));
}

#[test]
fn a_stage_that_never_passes_the_end_on_is_stuck() {
    let (mode, fault) = found(Wrong::SwallowsEnd);
    assert_eq!(mode, Mode::AllAtOnce);
    assert!(matches!(fault, Fault::Stuck { .. }), "{fault}");
}

#[test]
fn a_stage_that_is_busy_for_ever_is_stopped_and_named() {
    struct Busy;
    impl Operator<u64> for Busy {
        type Out = u64;
        fn run<I: Iterator<Item = u64>, D: Chain<u64>>(&mut self, items: I, down: &mut D, cx: &StepCx) {
            down.run(items, cx);
        }
        fn signal<D: Chain<u64>>(&mut self, _: Signal, _: &mut D, _: &StepCx) {}
        fn tick<D: Chain<u64>>(&mut self, _: &mut D, _: &StepCx) -> bool {
            true
        }
        fn account(&self, account: &mut StageAccount) {
            (account.passed, account.emitted) = (account.received, account.received);
        }
    }
    let report = verify_stage(|input| input.operator("busy", |_| Ok(Busy)), [1u64], [1u64]).unwrap_err();
    assert!(matches!(report.fault, Fault::Endless { .. }), "{report}");
    // Work that is only claimed does no harm: the end comes out.
    assert_eq!(twice(Wrong::NeverRests), Ok(()));
}

#[test]
fn an_account_that_does_not_close_is_found() {
    for wrong in [Wrong::MiscountsWhatItEmits, Wrong::MiscountsWhatItPasses] {
        let (mode, fault) = found(wrong);
        assert_eq!(mode, Mode::AllAtOnce);
        assert!(matches!(fault, Fault::Account(_)), "{fault}");
    }
}

#[test]
fn another_output_with_watermarks_is_found() {
    let (mode, fault) = found(Wrong::RepeatsOnWatermark);
    assert_eq!(mode, Mode::WatermarkBetween);
    assert!(matches!(fault, Fault::Output(Difference::At { at: 2, .. })), "{fault}");
}

#[test]
fn a_panic_and_an_error_are_reported_with_the_stage() {
    match found(Wrong::Panics).1 {
        Fault::Failed { error, .. } => assert!(error.contains("three"), "{error}"),
        other => panic!("{other}"),
    }
    let half = |input: TestInput<u64>| {
        input.try_map("half", |x| if x % 2 == 0 { Ok(x / 2) } else { Err(format!("{x} is odd")) })
    };
    match verify_stage(half, [2, 3], [1, 1]).unwrap_err().fault {
        Fault::Failed { stage, error } => {
            assert_eq!((stage.unwrap().as_str(), error.as_str()), ("half", "3 is odd"));
        }
        other => panic!("{other}"),
    }
    assert_stage(|input| half(input).on_error(ErrorPolicy::Ignore), [2, 3, 4], [1, 2]);
}

#[test]
fn a_name_used_twice_is_reported_and_not_run() {
    let twice_named = |input: TestInput<u64>| input.map("same", |x| x).map("same", |x| x);
    let report = verify_stage(twice_named, [1], [1]).unwrap_err();
    assert!(matches!(report.fault, Fault::Graph(_) | Fault::Start(_)), "{report}");
    assert!(report.to_string().contains("same"), "{report}");
}

#[test]
fn without_order_only_the_set_counts() {
    let reverse = |input: TestInput<u64>| input.transform("reverse", |_| Ok(Reverse::default()));
    assert_stage(reverse, [1, 2, 3], [3, 2, 1]);
    assert!(verify_stage(reverse, [1, 2, 3], [1, 2, 3]).is_err());
    assert_eq!(StageTest::new([1, 2, 3], [1, 2, 3]).any_order().verify(reverse), Ok(()));
    let report = StageTest::new([1, 2, 2], [1, 1, 2]).any_order().verify(reverse).unwrap_err();
    let difference = Difference::Set {
        missing: vec!["1".into()],
        surplus: vec!["2".into()],
        expected_len: 3,
        found_len: 3,
    };
    assert_eq!(report.fault, Fault::Output(difference));
}

/// Keeps everything to the end.
#[derive(Default)]
struct Reverse(Vec<u64>);

impl Transform for Reverse {
    type In = u64;
    type Out = u64;
    const HOLDS_ITEMS: bool = true;
    fn process(&mut self, item: u64, _: &mut Output<'_, u64>) -> Result<(), StageError> {
        self.0.push(item);
        Ok(())
    }
    fn finish(&mut self, out: &mut Output<'_, u64>) -> Result<(), StageError> {
        self.0.drain(..).rev().for_each(|item| out.emit(item));
        Ok(())
    }
}

/// Emits what it holds, smallest first, as far as event time has come.
#[derive(Default)]
struct Sorted(Vec<i64>);

impl Transform for Sorted {
    type In = i64;
    type Out = i64;
    const HOLDS_ITEMS: bool = true;
    fn process(&mut self, item: i64, _: &mut Output<'_, i64>) -> Result<(), StageError> {
        self.0.push(item);
        Ok(())
    }
    fn on_watermark(&mut self, time: Timestamp, out: &mut Output<'_, i64>) -> Result<(), StageError> {
        self.0.sort_unstable();
        let ripe = self.0.partition_point(|item| *item < time.0);
        self.0.drain(..ripe).for_each(|item| out.emit(item));
        Ok(())
    }
    fn finish(&mut self, out: &mut Output<'_, i64>) -> Result<(), StageError> {
        self.on_watermark(Timestamp::MAX, out)
    }
}

#[test]
fn watermarks_of_event_time_promise_no_more_than_what_comes() {
    let sorted = |input: TestInput<i64>| input.transform("sorted", |_| Ok(Sorted::default()));
    let test = StageTest::new([3, 1, 2, 6, 5, 4], 1..=6).event_time(|time| Timestamp(*time));
    assert_eq!(test.verify(sorted), Ok(()));
    let wrong = StageTest::new([3, 1, 2], [1, 2, 3]).event_time(|time: &i64| Timestamp(*time + 5));
    assert!(wrong.verify(sorted).is_err(), "watermarks before the items' own time must show");
}

#[test]
fn empty_input_gives_empty_output_and_an_end() {
    assert_stage(|input: TestInput<u64>| input.map("same", |x| x), [], []);
    let report = verify_stage(|input: TestInput<u64>| input.map("same", |x| x), [], [1]).unwrap_err();
    let nothing =
        Difference::At { at: 0, expected: Some("1".into()), found: None, expected_len: 1, found_len: 0 };
    assert_eq!(report.fault, Fault::Output(nothing));
}

#[test]
fn stages_of_every_kind_and_several_in_a_row_pass() {
    fn several(input: TestInput<u64>) -> Stream<impl Segment<Item = u64>> {
        input
            .map("more", |x| x + 1)
            .filter("even", |x| x % 2 == 0)
            .input_cut()
            .flat_map("copies", |x| [x; 3])
            .parallel(Parallelism::CpuBound)
            .inspect("look", |_| ())
            .map("in-order", |x| x)
            .parallel(Parallelism::Sequential)
            .input_ordered()
    }
    assert_stage(several, 0..4, [2, 2, 2, 4, 4, 4]);
    StageTest::new(0..40u64, (0..4u64).map(|key| (key, 10u64)))
        .any_order()
        .verify(|input| input.key_by(|x| x % 4).fold("count", || 0u64, |n, _| *n += 1))
        .unwrap();
    assert_stage(
        |input: TestInput<u64>| {
            input.stream_fn("sums", |items| {
                use futures_util::StreamExt;
                items.scan(0, |sum, x| {
                    *sum += x;
                    std::future::ready(Some(*sum))
                })
            })
        },
        1..=4,
        [1, 3, 6, 10],
    );
}

#[test]
#[should_panic(expected = "mode \"room for one output\": the stage emitted output 1")]
fn assert_stage_panics_with_the_report() {
    assert_stage(|input| input.operator("twice", |_| Ok(Twice::new(Wrong::EmitsWithoutRoom))), [7], [7, 7]);
}

#[test]
fn the_same_seed_finds_the_same_fault() {
    let only_seeds = |seeds| {
        let drop_third = |input: TestInput<u64>| {
            input.operator("twice", |_| Ok(Twice::new(Wrong::LosesBetweenBatches))).input_cut()
        };
        StageTest::new(1..=5, [1, 1, 2, 2, 3, 3, 4, 4, 5, 5]).seeds(seeds).verify(drop_third)
    };
    assert_eq!(only_seeds(3..6), only_seeds(3..6));
}
