//! Joins by hand, in an order the test chooses, against all pairs of all items.

use std::marker::PhantomData;

use corelane::keyed::{Allowance, CheckTime, Release, Stateful};
use corelane::model::{Now, StageId, Timestamp};
use corelane::observe::StageAccount;
use corelane::stage::Pending;
use proptest::prelude::*;
use std::time::Duration;

use super::logic::{Inner, JoinLogic, Results, Semi};
use super::pairs::Pairs;
use super::rule::Rule;
use super::windowed::WindowPairs;
use super::{JoinRule, Kept, Parts, Side};
use crate::testkit::drain;
use crate::window::panes::FEW;
use crate::window::{Sliding, Tumbling};

/// Key, time, number.
type Item = (u32, i64, u64);
type Pair = (Option<u64>, Option<u64>);

/// Every pair, and every item alone.
fn parts() -> impl JoinLogic<Key = u32, Left = Item, Right = Item, Out = Pair> {
    parts_with(|l: Option<&Item>, r: Option<&Item>| Some((l.map(|l| l.2), r.map(|r| r.2))))
}

/// Every pair.
fn inner_parts() -> impl JoinLogic<Key = u32, Left = Item, Right = Item, Out = Pair> {
    parts_with(Inner(|left: &Item, right: &Item| (Some(left.2), Some(right.2))))
}

/// One result for each left item that has partners.
fn semi_parts() -> impl JoinLogic<Key = u32, Left = Item, Right = Item, Out = Pair> {
    parts_with(Semi(|left: &Item| (Some(left.2), None)))
}

fn parts_with<F: Results<Item, Item, Out = Pair>>(
    result: F,
) -> impl JoinLogic<Key = u32, Left = Item, Right = Item, Out = Pair> {
    let key = |item: &Item| item.0;
    let time = |item: &Item| Timestamp(item.1);
    Parts { keys: (key, key), times: (time, time), result, of: PhantomData }
}

fn time(now: i64, watermark: i64) -> CheckTime {
    CheckTime { processing: Now { monotonic: now, wall: Timestamp(now) }, event: Timestamp(watermark) }
}

fn release<S: Stateful<Side<Item, Item>>>(
    state: &mut S,
    which: Release,
    at: CheckTime,
    out: &mut Pending<S::Out>,
) {
    for _ in 0..10_000 {
        let mut allowance = Allowance { room: out.len() + 2, work: 3 };
        if state.release(which, at, &mut allowance, out) {
            assert!(which == Release::All || !state.is_due(at));
            return;
        }
    }
    panic!("a release does not come to its end");
}

fn flush<S: Stateful<Side<Item, Item>>>(state: &mut S, out: &mut Pending<S::Out>) {
    if state.owes() {
        state.flush(out);
    }
    assert!(!state.owes());
}

fn account<S: Stateful<Side<Item, Item>>>(state: &S, received: u64) -> StageAccount {
    let mut account = StageAccount { received, ..StageAccount::default() };
    state.account(&mut account);
    account.verify(&StageId::new("join").unwrap()).unwrap();
    account
}

#[derive(Clone, Copy, Debug)]
enum Op {
    Left(u32, i64),
    Right(u32, i64),
    /// Both clocks go on by this much.
    Pass(i64),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let key = 0u32..3;
    let op = prop_oneof![
        3 => (key.clone(), 0i64..50).prop_map(|(key, time)| Op::Left(key, time)),
        3 => (key, 0i64..50).prop_map(|(key, time)| Op::Right(key, time)),
        1 => (1i64..10).prop_map(Op::Pass),
    ];
    prop::collection::vec(op, 0..60)
}

proptest! {
    #[test]
    fn items_pair_if_their_times_say_so_and_the_rest_stays_alone(
        ops in ops(), lower in -15i64..15, width in 0i64..20,
    ) {
        let upper = lower + width;
        let mut state = Pairs::new(parts(), Rule::Within(lower, upper));
        let (mut out, mut watermark) = (Pending::new(), i64::MIN);
        let (mut left, mut right, mut late) = (Vec::new(), Vec::new(), 0);
        for (n, op) in ops.iter().enumerate() {
            let n = n as u64;
            // Items may be up to 50 ahead of the watermark and are never behind it, except for a few.
            let at = |time: i64| watermark.max(-7) + time - 3;
            match *op {
                Op::Left(key, time) => {
                    let item = (key, at(time), n);
                    let is_late = item.1 < watermark && item.1 + upper < watermark;
                    if is_late { late += 1 } else { left.push(item) }
                    state.add(&mut [Side::Left(item)].into_iter(), self::time(0, watermark), &mut out);
                }
                Op::Right(key, time) => {
                    let item = (key, at(time), n);
                    let is_late = item.1 < watermark && item.1 - lower < watermark;
                    if is_late { late += 1 } else { right.push(item) }
                    state.add(&mut [Side::Right(item)].into_iter(), self::time(0, watermark), &mut out);
                }
                Op::Pass(by) => {
                    watermark = watermark.max(0) + by;
                    release(&mut state, Release::Due, self::time(0, watermark), &mut out);
                }
            }
            account(&state, n + 1 - ops[..=n as usize].iter().filter(|op| matches!(op, Op::Pass(_))).count() as u64);
        }
        release(&mut state, Release::All, self::time(0, watermark), &mut out);
        let mut got = drain(&mut out);
        got.sort_unstable();

        let near = |l: &Item, r: &Item| l.0 == r.0 && (lower..=upper).contains(&(r.1 - l.1));
        let mut expected: Vec<Pair> = Vec::new();
        for l in &left {
            expected.extend(right.iter().filter(|r| near(l, r)).map(|r| (Some(l.2), Some(r.2))));
        }
        // Nobody who is not late misses a partner, or has one too many.
        let pairs: Vec<Pair> = got.iter().filter(|pair| pair.0.is_some() && pair.1.is_some()).copied().collect();
        expected.sort_unstable();
        let behind = left.iter().chain(&right).any(|item| ops_behind(&ops, item.2));
        if !behind {
            prop_assert_eq!(&pairs, &expected);
        } else {
            prop_assert!(pairs.iter().all(|pair| expected.contains(pair)));
        }
        // Everybody comes out, in pairs or alone.
        for l in &left {
            let alone = got.contains(&(Some(l.2), None));
            prop_assert_eq!(alone, !pairs.iter().any(|pair| pair.0 == Some(l.2)));
        }
        for r in &right {
            let alone = got.contains(&(None, Some(r.2)));
            prop_assert_eq!(alone, !pairs.iter().any(|pair| pair.1 == Some(r.2)));
        }
        let received = ops.iter().filter(|op| !matches!(op, Op::Pass(_))).count() as u64;
        let account = account(&state, received);
        prop_assert_eq!((account.late, account.keys, account.items_open), (late, 0, 0));
        prop_assert_eq!(state.footprint().0, 0);
    }
}

/// Whether the item with this number came behind the watermark.
fn ops_behind(ops: &[Op], number: u64) -> bool {
    match ops[number as usize] {
        Op::Left(_, time) | Op::Right(_, time) => time < 3,
        Op::Pass(_) => false,
    }
}

/// Gives the items of `ops` to `state`, item by item; what came out, and how many items there were.
fn all_of<S: Stateful<Side<Item, Item>, Out = Pair>>(ops: &[Op], state: &mut S) -> (Vec<Pair>, u64) {
    let (mut out, mut watermark, mut items) = (Pending::new(), i64::MIN, 0);
    let at = |time: i64, watermark: i64| watermark.max(-7) + time - 3;
    for (n, op) in ops.iter().enumerate() {
        let side = match *op {
            Op::Left(key, time) => Side::Left((key, at(time, watermark), n as u64)),
            Op::Right(key, time) => Side::Right((key, at(time, watermark), n as u64)),
            Op::Pass(by) => {
                watermark = watermark.max(0) + by;
                release(state, Release::Due, time(0, watermark), &mut out);
                continue;
            }
        };
        items += 1;
        state.add(&mut [side].into_iter(), time(0, watermark), &mut out);
        account(state, items);
        // Steps of some items; each ends before a watermark.
        if n % 4 == 3 || matches!(ops.get(n + 1), Some(Op::Pass(_)) | None) {
            flush(state, &mut out);
            account(state, items);
        }
    }
    release(state, Release::All, time(0, watermark), &mut out);
    let mut got = drain(&mut out);
    got.sort_unstable();
    (got, items)
}

proptest! {
    /// Sliding windows that step by their size are tumbling ones, and are joined by other code.
    #[test]
    fn a_join_by_tumbling_windows_is_that_by_sliding_ones_of_one_step(ops in ops(), size in 1i64..30) {
        let length = Duration::from_nanos(size.unsigned_abs());
        let mut tumbling: WindowPairs<_> = Tumbling::of(length).state(parts()).unwrap();
        let mut sliding: Pairs<_> = Sliding::of(length).every(length).state(parts()).unwrap();
        let (got, items) = all_of(&ops, &mut tumbling);
        let (expected, _) = all_of(&ops, &mut sliding);
        prop_assert_eq!(got, expected);
        let (got, expected) = (account(&tumbling, items), account(&sliding, items));
        prop_assert_eq!(got, expected);
        prop_assert_eq!((got.keys, got.items_open, tumbling.footprint().0), (0, 0, 0));
    }
}

proptest! {
    #[test]
    fn what_is_kept_to_the_end_pairs_with_all_of_its_key_and_the_rest_stays_alone(ops in ops()) {
        let mut state = Kept::to_the_end().state(parts()).unwrap();
        let (got, items) = all_of(&ops, &mut state);
        let side = |of: fn(&Op) -> Option<u32>| -> Vec<(u32, u64)> {
            (0..).zip(&ops).filter_map(|(n, op)| Some((of(op)?, n))).collect()
        };
        let left = side(|op| if let Op::Left(key, _) = op { Some(*key) } else { None });
        let right = side(|op| if let Op::Right(key, _) = op { Some(*key) } else { None });
        let mut expected: Vec<Pair> = Vec::new();
        for l in &left {
            expected.extend(right.iter().filter(|r| r.0 == l.0).map(|r| (Some(l.1), Some(r.1))));
        }
        let alone = |of: &(u32, u64), others: &[(u32, u64)]| others.iter().all(|other| other.0 != of.0);
        expected.extend(left.iter().filter(|l| alone(l, &right)).map(|l| (Some(l.1), None)));
        expected.extend(right.iter().filter(|r| alone(r, &left)).map(|r| (None, Some(r.1))));
        expected.sort_unstable();
        prop_assert_eq!(got, expected);
        let account = account(&state, items);
        prop_assert_eq!((account.keys, account.items_open, account.items_expired), (0, 0, 0));
    }
}

/// What a join gives that has fewer results than one of pairs and items alone, beside that one.
struct Beside {
    got: Vec<Pair>,
    account: StageAccount,
    /// The pairs that the other gives, and how many items alone.
    pairs: Vec<Pair>,
    alone: u64,
    all: StageAccount,
}

/// Runs both. They agree on what came in, and the one of fewer results has nothing left.
fn beside<S, A>(ops: &[Op], mut fewer: S, mut all: A) -> Result<Beside, TestCaseError>
where
    S: Stateful<Side<Item, Item>, Out = Pair>,
    A: Stateful<Side<Item, Item>, Out = Pair>,
{
    let (got, items) = all_of(ops, &mut fewer);
    let (mut pairs, _) = all_of(ops, &mut all);
    let given = pairs.len();
    pairs.retain(|pair| pair.0.is_some() && pair.1.is_some());
    let alone = (given - pairs.len()) as u64;
    let (account, all) = (account(&fewer, items), account(&all, items));
    prop_assert_eq!(
        (account.absorbed, account.late, account.filtered),
        (all.absorbed, all.late, all.filtered)
    );
    prop_assert_eq!((account.results_complete, account.keys, account.items_open), (got.len() as u64, 0, 0));
    Ok(Beside { got, account, pairs, alone, all })
}

/// That `semi` gives each left item once that has a pair in what `all` gives, and nothing else.
fn is_once<S, A>(ops: &[Op], semi: S, all: A) -> Result<(), TestCaseError>
where
    S: Stateful<Side<Item, Item>, Out = Pair>,
    A: Stateful<Side<Item, Item>, Out = Pair>,
{
    let Beside { got, pairs: mut expected, .. } = beside(ops, semi, all)?;
    expected.iter_mut().for_each(|pair| pair.1 = None);
    expected.dedup();
    prop_assert_eq!(&got, &expected);
    Ok(())
}

proptest! {
    #[test]
    fn a_semi_join_has_each_left_item_once_that_has_pairs(ops in ops(), lower in -15i64..15, width in 1i64..20) {
        let rule = Rule::Within(lower, lower + width);
        is_once(&ops, Pairs::new(semi_parts(), rule), Pairs::new(parts(), rule))?;
        let tumbling = Tumbling::of(Duration::from_nanos(width.unsigned_abs()));
        is_once(&ops, tumbling.state(semi_parts()).unwrap(), tumbling.state(parts()).unwrap())?;
        let sliding = Sliding::of(Duration::from_nanos(30)).every(Duration::from_nanos(width.unsigned_abs()));
        is_once(&ops, sliding.state(semi_parts()).unwrap(), sliding.state(parts()).unwrap())?;
        let kept = Kept::to_the_end();
        is_once(&ops, kept.state(semi_parts()).unwrap(), kept.state(parts()).unwrap())?;
    }
}

#[test]
fn results_of_a_semi_join_that_were_put_off_come_before_those_of_later_items() {
    let put_off = |state: &mut dyn FnMut(Side<Item, Item>) -> bool| {
        let items =
            [Side::Left((1, 5, 0)), Side::Left((2, 5, 1)), Side::Right((2, 5, 2)), Side::Right((1, 5, 3))];
        items.map(state)
    };
    let at = time(0, 0);
    // A later left item of a key, a window that another one takes the place of, the end of the step.
    for (later, expected) in [
        (Some(Side::Left((1, 5, 4))), vec![(Some(1), None), (Some(0), None), (Some(4), None)]),
        (Some(Side::Left((1, 15, 4))), vec![(Some(1), None), (Some(0), None)]),
        (None, vec![(Some(1), None), (Some(0), None)]),
    ] {
        let (mut out, mut state) =
            (Pending::new(), Tumbling::of(Duration::from_nanos(10)).state(semi_parts()).unwrap());
        let owes = put_off(&mut |item| {
            state.add(&mut [item].into_iter(), at, &mut out);
            state.owes()
        });
        assert_eq!((owes, out.len()), ([false, false, true, true], 0));
        state.add(&mut later.into_iter(), at, &mut out);
        assert_eq!(state.owes(), later.is_none());
        flush(&mut state, &mut out);
        assert_eq!(drain(&mut out), expected);
    }
}

/// That `inner` gives the pairs in what `all` gives, and counts the items that have none as expired.
fn is_pairs_only<S, A>(ops: &[Op], inner: S, all: A) -> Result<(), TestCaseError>
where
    S: Stateful<Side<Item, Item>, Out = Pair>,
    A: Stateful<Side<Item, Item>, Out = Pair>,
{
    let Beside { got, account, pairs, alone, all } = beside(ops, inner, all)?;
    prop_assert_eq!(&got, &pairs);
    prop_assert_eq!((account.items_complete, account.items_expired), (all.items_complete - alone, alone));
    Ok(())
}

proptest! {
    #[test]
    fn an_inner_join_has_the_pairs_and_counts_the_rest_as_expired(ops in ops(), lower in -15i64..15, width in 1i64..20) {
        let rule = Rule::Within(lower, lower + width);
        is_pairs_only(&ops, Pairs::new(inner_parts(), rule), Pairs::new(parts(), rule))?;
        let tumbling = Tumbling::of(Duration::from_nanos(width.unsigned_abs()));
        is_pairs_only(&ops, tumbling.state(inner_parts()).unwrap(), tumbling.state(parts()).unwrap())?;
        let kept = Kept::to_the_end();
        is_pairs_only(&ops, kept.state(inner_parts()).unwrap(), kept.state(parts()).unwrap())?;
    }
}

/// A hundred windows of so many items, each gone before the next but one comes; the most memory there was in between, and at the end.
fn footprints(items: i64) -> (usize, usize) {
    let mut state = Tumbling::of(Duration::from_nanos(10)).state(parts()).unwrap();
    let mut out = Pending::new();
    let mut most = 0;
    for window in 0..100 {
        let side = |n: i64| Side::Left((n as u32, window * 10 + n % 10, n.unsigned_abs()));
        state.add(&mut (0..items).map(side), time(0, window * 10), &mut out);
        // The next window is open before this one goes.
        state.add(&mut [Side::Left((0, window * 10 + 10, 0))].into_iter(), time(0, window * 10), &mut out);
        most = most.max(state.footprint().1);
        let mut allowance = Allowance { room: usize::MAX, work: usize::MAX };
        assert!(state.release(Release::Due, time(0, window * 10 + 10), &mut allowance, &mut out));
        assert_eq!(state.footprint().0, 1);
        out.clear();
    }
    let mut allowance = Allowance { room: usize::MAX, work: usize::MAX };
    assert!(state.release(Release::All, time(0, i64::MAX), &mut allowance, &mut out));
    assert_eq!(state.footprint().0, 0);
    (most, state.footprint().1)
}

#[test]
fn windows_that_have_gone_leave_no_memory_behind_but_two_small_tables() {
    let one = 2 * FEW * 100;
    let (most, left) = footprints(2 * FEW as i64);
    // Two open windows and two tables kept, each of at most four times what is in it.
    assert!(most < 16 * one && left == 0, "{most} bytes, {left} at the end");
    let (most, left) = footprints(300);
    assert!((1..=most).contains(&left) && most < 16 * 300 * 100, "{most} bytes, {left} at the end");
}

#[test]
fn kept_items_pair_until_their_time_is_up_also_if_their_timer_is_late() {
    let mut state = Pairs::new(parts(), Rule::Kept(10, 100));
    let mut out = Pending::new();
    state.add(&mut [Side::Left((1, 0, 0))].into_iter(), time(0, i64::MIN), &mut out);
    assert_eq!(state.next_deadline(), Some(10));
    state.add(&mut [Side::Right((1, 0, 1))].into_iter(), time(9, i64::MIN), &mut out);
    state.add(&mut [Side::Right((1, 0, 2))].into_iter(), time(10, i64::MIN), &mut out);
    assert_eq!(drain(&mut out), [(Some(0), Some(1))]);
    release(&mut state, Release::Due, time(10, i64::MIN), &mut out);
    assert_eq!(state.next_deadline(), Some(109));
    release(&mut state, Release::Due, time(110, i64::MIN), &mut out);
    assert_eq!(drain(&mut out), [(None, Some(2))]);
    assert_eq!((account(&state, 3).keys, account(&state, 3).items_complete), (0, 3));
}
