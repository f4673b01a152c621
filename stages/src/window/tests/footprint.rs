//! What is left when windows have gone: nothing.

use super::*;
use crate::window::panes::FEW;
use crate::window::{Count, Max};

/// Gives `waves` waves of `keys` keys that never come again to `hand`, each wave in the next hundred of time.
fn waves<S: Stateful<Item>>(hand: &mut Hand<S>, keys: u32, waves: u32) {
    for wave in 0..waves {
        let start = i64::from(wave) * 100;
        for key in 0..keys {
            let item = (wave * keys + key, start + i64::from(key % 100), 0);
            hand.received += 1;
            hand.state.add(&mut std::iter::once(item), hand.time(), &mut hand.out);
        }
        hand.watermark = start + 100;
        let mut allowance = Allowance { room: usize::MAX, work: usize::MAX };
        assert!(hand.state.release(Release::Due, hand.time(), &mut allowance, &mut hand.out));
        hand.check().take();
    }
}

#[test]
fn no_key_stays_in_tumbling_or_sliding_windows_and_tables_return_to_their_floor() {
    for every in [100, 25] {
        leave_nothing(every, Count);
        leave_nothing(every, Max::of(|item: &Item| item.2));
    }
}

fn leave_nothing<A: Aggregate<Item>>(every: u64, aggregate: A) {
    let frame = Sliding::of(nanos(100)).every(nanos(every)).frame().unwrap();
    let mut hand = Hand::new(AlignedWindows::new(parts(aggregate), EachKey, frame));
    let floor = hand.state.footprint();
    // Tables of so many keys are not kept.
    waves(&mut hand, 8 * FEW as u32, 3);
    // One key more, so that something is open: what is kept for it is small again after two windows.
    let last = hand.watermark;
    hand.give([(1, last + 5, 0)]).watermark(last + 1_000);
    assert_eq!(hand.state.footprint().0, 0, "every {every}");
    hand.give([(1, last + 1_005, 0)]);
    assert!(hand.state.footprint().1 < 1 << 16, "every {every}: {:?}", hand.state.footprint());
    hand.watermark(last + 5_000);
    let (keys, bytes) = hand.state.footprint();
    assert_eq!((keys, hand.account().keys), (0, 0));
    assert!(bytes <= floor.1 + 4_096, "every {every}: {bytes} bytes, {} at first", floor.1);
}

#[test]
fn windows_of_few_keys_keep_two_tables_and_no_more_for_those_to_come() {
    let frame = Sliding::of(nanos(100)).every(nanos(25)).frame().unwrap();
    let mut hand = Hand::new(AlignedWindows::new(parts(Count), EachKey, frame));
    waves(&mut hand, 5_000, 3);
    let (keys, kept) = hand.watermark(1_000).state.footprint();
    assert!(keys == 0 && (1..=2 * FEW * 32).contains(&kept), "{keys} keys, {kept} bytes");
    waves(&mut hand, 5_000, 20);
    assert_eq!(hand.watermark(10_000).state.footprint(), (0, kept));
}

#[test]
fn ten_million_keys_leave_nothing_behind() {
    let frame = Tumbling::of(nanos(100)).frame().unwrap();
    let mut hand = Hand::new(AlignedWindows::new(parts(Count), EachKey, frame));
    let floor = hand.state.footprint();
    waves(&mut hand, 100_000, 100);
    assert_eq!(hand.account().items_complete, 10_000_000);
    assert_eq!(hand.state.footprint(), floor);
}

#[test]
fn no_session_stays_and_their_memory_goes_with_the_last_of_them() {
    let mut hand = Hand::new(SessionWindows::new(parts(Count), 1, Trigger::new()));
    waves(&mut hand, 20_000, 5);
    assert_eq!(hand.state.footprint(), (0, 0));
    assert_eq!(hand.account().results_complete, 100_000);
}

#[test]
fn what_is_thrown_away_at_a_stop_is_discarded_and_not_absorbed() {
    let mut hand = Hand::new(sliding(20, 10, 0));
    hand.give([(1, 1, 0), (1, 11, 0), (2, 25, 0)]).watermark(20);
    // One item's windows have all gone.
    hand.state.clear();
    let account = hand.account();
    assert_eq!((account.absorbed, account.items_complete, account.discarded, account.keys), (1, 1, 2, 0));
}
