//! All kinds of windows against a list of all items.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::window::{Pane, Timing, Window};

/// What happens to a window stage.
#[derive(Clone, Copy, Debug)]
enum Op {
    Item(u32, i64),
    Watermark(i64),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        5 => (0u32..4, -60i64..60).prop_map(|(key, time)| Op::Item(key, time)),
        1 => (-60i64..60).prop_map(Op::Watermark),
    ];
    prop::collection::vec(op, 0..80)
}

/// Every item with the watermark at which it came.
fn play<S: Stateful<Item>>(hand: &mut Hand<S>, ops: &[Op]) -> Vec<(Item, i64)> {
    let mut came = Vec::new();
    for (n, op) in ops.iter().enumerate() {
        match *op {
            Op::Item(key, time) => {
                came.push(((key, time, n as u64), hand.watermark));
                hand.give([(key, time, n as u64)]);
            }
            Op::Watermark(time) => {
                hand.watermark(time);
            }
        }
    }
    hand.end();
    came
}

/// The items, what came out, and the account at the end.
fn played<S: Stateful<Item>>(state: S, ops: &[Op]) -> (Vec<(Item, i64)>, Vec<S::Out>, StageAccount) {
    let mut hand = Hand::new(state);
    let came = play(&mut hand, ops);
    (came, hand.take(), hand.account())
}

/// That `state` gives a result for each window with items, in the order of their ends, with what all keys have in it.
fn one_for_all_keys<S>(
    ops: &[Op],
    state: S,
    mut expected: Vec<Windowed<u32, Vec<Item>>>,
) -> Result<(), TestCaseError>
where
    S: Stateful<Item, Out = Windowed<(), Vec<Windowed<u32, Vec<Item>>>>>,
{
    let (_, wholes, account) = played(state, ops);
    prop_assert!(wholes.is_sorted_by(|a, b| a.window.end < b.window.end));
    prop_assert!(wholes.iter().all(|whole| !whole.value.is_empty() && whole.pane == Pane::ONLY));
    prop_assert!(wholes.iter().all(|whole| whole.value.iter().all(|of_key| of_key.window == whole.window)));
    let mut values: Vec<_> = wholes.iter().flat_map(|whole| whole.value.clone()).collect();
    values.iter_mut().for_each(|of_key| of_key.value.sort_unstable());
    values.sort();
    expected.sort();
    prop_assert_eq!(values, expected);
    prop_assert_eq!(account.results_complete, wholes.len() as u64);
    prop_assert_eq!((account.passed, account.keys, account.items_open), (0, 0, 0));
    Ok(())
}

proptest! {
    #[test]
    fn each_window_has_the_items_in_it_that_came_before_its_end(
        ops in ops(), size in 1u64..30, every in 1u64..30, origin in -20i64..20, takes_out: bool,
    ) {
        let (came, out, account) = if takes_out {
            played(sliding_of(TakingOut, size, every, origin), &ops)
        } else {
            played(sliding(size, every, origin), &ops)
        };
        let (results, late) = sorted(out);

        let spec = Sliding::of(nanos(size)).every(nanos(every)).aligned_to(Timestamp(origin));
        let mut expected: BTreeMap<(u32, Window), Vec<Item>> = BTreeMap::new();
        let (mut expected_late, mut in_none) = (Vec::new(), 0);
        for (item, watermark) in came {
            let windows: Vec<_> = spec.windows_of(Timestamp(item.1)).unwrap().collect();
            let open = || windows.iter().filter(|window| window.end.0 > watermark);
            open().for_each(|window| expected.entry((item.0, *window)).or_default().push(item));
            match (windows.is_empty(), open().next()) {
                (true, _) => in_none += 1,
                (false, None) => expected_late.push(item),
                _ => {}
            }
        }
        let expected = expected.into_iter().map(|((key, window), mut value)| {
            value.sort_unstable();
            Windowed { key, window, value, pane: Pane::ONLY }
        });
        let expected: Vec<_> = expected.collect();
        prop_assert_eq!(&results, &expected);
        one_for_all_keys(&ops, across(size, every, origin), expected)?;
        prop_assert_eq!((account.filtered, account.late), (in_none, expected_late.len() as u64));
        prop_assert_eq!(late, expected_late);
        prop_assert_eq!((account.keys, account.items_open), (0, 0));
    }

    #[test]
    fn a_session_has_the_items_that_follow_each_other_within_the_gap(
        ops in ops(), gap in 1i64..20,
    ) {
        // Without watermarks nothing closes before the end: what a session is, in full.
        let items: Vec<_> = ops.iter().filter(|op| matches!(op, Op::Item(..))).copied().collect();
        let mut hand = Hand::new(sessions(gap, Trigger::new()));
        let came = play(&mut hand, &items);
        let mut by_key: BTreeMap<u32, Vec<Item>> = BTreeMap::new();
        came.into_iter().for_each(|(item, _)| by_key.entry(item.0).or_default().push(item));
        let mut expected = Vec::new();
        for (key, mut items) in by_key {
            items.sort_by_key(|item| item.1);
            for session in items.chunk_by(|a, b| b.1 - a.1 < gap) {
                let window = Window::from_nanos(session[0].1, session[session.len() - 1].1 + gap);
                let mut value = session.to_vec();
                value.sort_unstable();
                expected.push(Windowed { key, window, value, pane: Pane::ONLY });
            }
        }
        expected.sort();
        prop_assert_eq!(sorted(hand.take()).0, expected);
        prop_assert_eq!(hand.account().keys, 0);
    }

    #[test]
    fn sessions_with_watermarks_are_those_of_a_list_of_sessions(
        ops in ops(), gap in 1i64..20, lateness in prop_oneof![Just(0i64), 1i64..40],
    ) {
        let trigger = Trigger::new().allowed_lateness(nanos(lateness as u64));
        let mut hand = Hand::new(sessions(gap, trigger));
        play(&mut hand, &ops);
        let (results, late) = sorted(hand.take());

        let mut model = Sessions { gap, lateness, ..Sessions::default() };
        for (n, op) in ops.iter().enumerate() {
            match *op {
                Op::Item(key, time) => model.item((key, time, n as u64)),
                Op::Watermark(time) => model.advance(time),
            }
        }
        model.advance(i64::MAX);
        model.results.sort();
        prop_assert_eq!(results, model.results);
        prop_assert_eq!(late, model.late);
        prop_assert_eq!((hand.account().keys, hand.account().items_open), (0, 0));
    }

    #[test]
    fn windows_with_a_trigger_are_those_of_a_list_of_windows(
        ops in ops(), size in 1u64..30, every in 1u64..30,
        lateness in prop_oneof![Just(0i64), 1i64..40],
        early in prop::option::of(1u32..4), late in prop::option::of(1u32..4), discarding: bool, only_new: bool,
    ) {
        let mut trigger = Trigger::new().allowed_lateness(nanos(lateness as u64)).late_at_the_end();
        if let Some(count) = early { trigger = trigger.early_count(count); }
        if let Some(count) = late { trigger = trigger.late_count(count); }
        if discarding { trigger = trigger.discarding(); }
        if only_new { trigger = trigger.on_time_only_if_new(); }
        let mut hand = Hand::new(triggered(size, every, trigger));
        play(&mut hand, &ops);
        let (results, late_items) = sorted(hand.take());

        let spec = Sliding::of(nanos(size)).every(nanos(every));
        let mut model = Triggers { spec, lateness, early, late, discarding, only_new, watermark: i64::MIN, ..Triggers::of(spec) };
        for (n, op) in ops.iter().enumerate() {
            match *op {
                Op::Item(key, time) => model.item((key, time, n as u64)),
                Op::Watermark(time) => model.advance(time),
            }
        }
        model.advance(i64::MAX);
        model.results.sort();
        prop_assert_eq!(results, model.results);
        prop_assert_eq!(late_items, model.dropped);
        prop_assert_eq!((hand.account().keys, hand.account().items_open), (0, 0));
    }
}

#[derive(Clone, Debug)]
struct OneSession {
    key: u32,
    start: i64,
    end: i64,
    items: Vec<Item>,
    fired: bool,
    results: u32,
}

/// Sessions in a list, each looked at for everything.
#[derive(Default)]
struct Sessions {
    gap: i64,
    lateness: i64,
    watermark: Option<i64>,
    open: Vec<OneSession>,
    results: Vec<Windowed<u32, Vec<Item>>>,
    late: Vec<Item>,
}

impl Sessions {
    fn fire(results: &mut Vec<Windowed<u32, Vec<Item>>>, one: &mut OneSession, timing: Timing, last: bool) {
        let mut value = one.items.clone();
        value.sort_unstable();
        let pane = Pane { timing, index: one.results, last };
        one.results += 1;
        results.push(Windowed { key: one.key, window: Window::from_nanos(one.start, one.end), value, pane });
    }

    fn item(&mut self, item: Item) {
        let watermark = self.watermark.unwrap_or(i64::MIN);
        let (key, start, end) = (item.0, item.1, item.1 + self.gap);
        let meets = |one: &OneSession| one.key == key && one.start < end && start < one.end;
        let (met, rest): (Vec<_>, Vec<_>) = self.open.drain(..).partition(meets);
        self.open = rest;
        if met.is_empty() && end + self.lateness <= watermark {
            self.late.push(item);
            return;
        }
        let mut one = OneSession { key, start, end, items: vec![item], fired: false, results: 0 };
        for other in met {
            one.start = one.start.min(other.start);
            one.end = one.end.max(other.end);
            one.items.extend(other.items);
            one.results = one.results.max(other.results);
        }
        one.fired = one.end <= watermark;
        if one.fired {
            Self::fire(&mut self.results, &mut one, Timing::Late, false);
        }
        self.open.push(one);
    }

    fn advance(&mut self, watermark: i64) {
        let watermark = watermark.max(self.watermark.unwrap_or(i64::MIN));
        self.watermark = Some(watermark);
        for one in &mut self.open {
            if !one.fired && one.end <= watermark {
                one.fired = true;
                Self::fire(&mut self.results, one, Timing::OnTime, self.lateness == 0);
            }
        }
        self.open.retain(|one| one.end.saturating_add(self.lateness) > watermark);
    }
}

#[derive(Default)]
struct OneWindow {
    all: Vec<Item>,
    fresh: Vec<Item>,
    fired: bool,
    results: u32,
}

/// Windows in a map, each looked at for everything.
struct Triggers {
    spec: Sliding,
    lateness: i64,
    early: Option<u32>,
    late: Option<u32>,
    discarding: bool,
    only_new: bool,
    watermark: i64,
    open: BTreeMap<(Window, u32), OneWindow>,
    results: Vec<Windowed<u32, Vec<Item>>>,
    dropped: Vec<Item>,
}

impl Triggers {
    fn of(spec: Sliding) -> Self {
        Self {
            spec,
            lateness: 0,
            early: None,
            late: None,
            discarding: false,
            only_new: false,
            watermark: i64::MIN,
            open: BTreeMap::new(),
            results: Vec::new(),
            dropped: Vec::new(),
        }
    }

    fn result(&mut self, (window, key): (Window, u32), timing: Timing, last: bool) {
        let one = self.open.get_mut(&(window, key)).unwrap();
        let mut value = if self.discarding { one.fresh.clone() } else { one.all.clone() };
        value.sort_unstable();
        one.fresh.clear();
        let pane = Pane { timing, index: one.results, last };
        one.results += 1;
        self.results.push(Windowed { key, window, value, pane });
    }

    fn item(&mut self, item: Item) {
        let windows: Vec<_> = self.spec.windows_of(Timestamp(item.1)).unwrap().collect();
        let kept: Vec<_> =
            windows.iter().filter(|window| window.end.0 + self.lateness > self.watermark).copied().collect();
        if kept.is_empty() && !windows.is_empty() {
            self.dropped.push(item);
        }
        for window in kept {
            let one = self.open.entry((window, item.0)).or_default();
            one.fired |= window.end.0 <= self.watermark;
            one.all.push(item);
            one.fresh.push(item);
            let (timing, count) =
                if one.fired { (Timing::Late, self.late) } else { (Timing::Early, self.early) };
            if count.is_some_and(|count| one.fresh.len() >= count as usize) {
                self.result((window, item.0), timing, false);
            }
        }
    }

    fn advance(&mut self, watermark: i64) {
        self.watermark = self.watermark.max(watermark);
        let all: Vec<_> = self.open.keys().copied().collect();
        for at in all {
            let one = self.open.get_mut(&at).unwrap();
            let end = at.0.end.0;
            if !one.fired && end <= self.watermark {
                one.fired = true;
                if !one.fresh.is_empty() || !self.only_new {
                    self.result(at, Timing::OnTime, self.lateness == 0);
                }
            }
            if end.saturating_add(self.lateness) <= self.watermark {
                if !self.open[&at].fresh.is_empty() {
                    self.result(at, Timing::Late, true);
                }
                self.open.remove(&at);
            }
        }
    }
}
