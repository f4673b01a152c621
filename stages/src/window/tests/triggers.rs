//! When results come, and what is in them.

use super::*;
use crate::window::{Count, Pane, Timing, Window};

/// Timing, index, whether it is the last, and how many items.
type Told = (Timing, u32, bool, u64);

fn counting(trigger: Trigger) -> Hand<TriggeredWindows<Item, impl Logic<Item, Out = Fired<u32, u64, Item>>>> {
    let frame = Tumbling::of(nanos(10)).frame().unwrap();
    Hand::new(TriggeredWindows::new(parts(Count), frame, trigger))
}

fn told(out: Vec<Fired<u32, u64, Item>>) -> Vec<Told> {
    let tell = |fired| match fired {
        Fired::Result(Windowed { pane: Pane { timing, index, last }, value, .. }) => {
            (timing, index, last, value)
        }
        Fired::Late(item) => panic!("{item:?} was late"),
    };
    out.into_iter().map(tell).collect()
}

const ONE: Item = (1, 5, 0);

#[test]
fn accumulating_results_have_everything_and_discarding_ones_only_what_is_new() {
    let trigger = Trigger::new().early_count(2).allowed_lateness(nanos(100));
    let play = |trigger| {
        let mut hand = counting(trigger);
        hand.give([ONE, ONE, ONE]).watermark(10).give([ONE]).watermark(110);
        assert_eq!(hand.account().keys, 0);
        told(hand.take())
    };
    let panes = [(Timing::Early, 0, false), (Timing::OnTime, 1, false), (Timing::Late, 2, false)];
    let with = |counts: [u64; 3]| {
        panes
            .into_iter()
            .zip(counts)
            .map(|((timing, index, last), count)| (timing, index, last, count))
            .collect::<Vec<_>>()
    };
    assert_eq!(play(trigger), with([2, 3, 4]));
    assert_eq!(play(trigger.discarding()), with([2, 1, 1]));
}

#[test]
fn the_result_in_time_comes_even_if_nothing_is_new_unless_told_otherwise() {
    let play = |trigger: Trigger| {
        let mut hand = counting(trigger.early_count(1));
        hand.give([ONE]).watermark(10);
        told(hand.take())
    };
    let early = (Timing::Early, 0, false, 1);
    assert_eq!(play(Trigger::new()), [early, (Timing::OnTime, 1, true, 1)]);
    // With nothing in it.
    assert_eq!(play(Trigger::new().discarding()), [early, (Timing::OnTime, 1, true, 0)]);
    assert_eq!(play(Trigger::new().on_time_only_if_new()), [early]);
    // A window that nothing was in gives nothing.
    assert_eq!(told(counting(Trigger::new()).watermark(1000).end().take()), []);
}

#[test]
fn an_item_is_taken_up_to_the_last_moment_of_the_allowed_lateness() {
    let lateness = Trigger::new().allowed_lateness(nanos(20));
    let mut hand = counting(lateness);
    hand.give([ONE]).watermark(29).give([ONE]);
    assert_eq!(told(hand.take()), [(Timing::OnTime, 0, false, 1), (Timing::Late, 1, false, 2)]);
    assert_eq!((hand.account().late, hand.account().keys), (1, 1));
    hand.watermark(30).give([ONE]);
    assert_eq!(hand.take(), [Fired::Late(ONE)]);
    assert_eq!((hand.account().late, hand.account().passed, hand.account().keys), (2, 1, 0));
    // Without any, the end of the window is that moment.
    let mut hand = counting(Trigger::new());
    assert_eq!(hand.watermark(9).give([ONE]).take(), []);
    assert_eq!(told(hand.watermark(10).take()), [(Timing::OnTime, 0, true, 1)]);
    assert_eq!(hand.give([ONE]).take(), [Fired::Late(ONE)]);
}

#[test]
fn a_window_that_only_late_items_were_in_gives_late_results() {
    let mut hand = counting(Trigger::new().allowed_lateness(nanos(20)));
    hand.watermark(12).give([ONE, ONE]).watermark(40);
    assert_eq!(told(hand.take()), [(Timing::Late, 0, false, 1), (Timing::Late, 1, false, 2)]);
}

#[test]
fn late_results_come_by_number_and_what_is_left_when_the_window_goes() {
    let trigger = Trigger::new().allowed_lateness(nanos(20)).discarding();
    let mut hand = counting(trigger.late_count(2));
    hand.give([ONE]).watermark(10).give([ONE, ONE, ONE]).watermark(30);
    let on_time = (Timing::OnTime, 0, false, 1);
    assert_eq!(told(hand.take()), [on_time, (Timing::Late, 1, false, 2), (Timing::Late, 2, true, 1)]);
    let mut hand = counting(trigger.late_at_the_end());
    hand.give([ONE]).watermark(10).give([ONE, ONE, ONE]).watermark(30);
    assert_eq!(told(hand.take()), [on_time, (Timing::Late, 1, true, 3)]);
}

#[test]
fn early_results_in_processing_time_come_a_period_after_something_new_and_only_then() {
    let mut hand = counting(Trigger::new().early_every(nanos(100)));
    assert_eq!(hand.state.next_deadline(), None);
    hand.at(50).give([ONE, (2, 7, 0), (1, 15, 0)]);
    assert_eq!(hand.state.next_deadline(), Some(150));
    assert_eq!(told(hand.at(149).take()), []);
    let early = (Timing::Early, 0, false, 1);
    assert_eq!(told(hand.at(150).take()), [early, early, early]);
    // Nothing is new: no deadline, no results.
    assert_eq!(hand.state.next_deadline(), None);
    assert_eq!(told(hand.at(1000).take()), []);
    hand.give([ONE]);
    assert_eq!(told(hand.at(1100).take()), [(Timing::Early, 1, false, 2)]);
    assert_eq!(told(hand.watermark(10).take()).len(), 2);
}

#[test]
fn a_global_window_says_what_it_has_when_asked_to_and_at_the_end() {
    let frame = crate::window::span::Frame::all();
    let trigger = Trigger::new().early_count(2);
    let mut hand = Hand::new(TriggeredWindows::new(parts(Count), frame, trigger));
    hand.give([(1, i64::MIN, 0), (1, 7, 0), (2, i64::MAX, 0)]).watermark(1 << 60).give([(1, 0, 0)]);
    assert_eq!(told(hand.take()), [(Timing::Early, 0, false, 2)]);
    assert_eq!(hand.account().late, 0);
    let (mut ended, window) = (hand.end().take(), Window::ALL);
    ended.sort_by_key(|fired| if let Fired::Result(result) = fired { result.key } else { 0 });
    let pane = |index| Pane { timing: Timing::OnTime, index, last: true };
    let expected = [
        Fired::Result(Windowed { key: 1, window, value: 3, pane: pane(1) }),
        Fired::Result(Windowed { key: 2, window, value: 1, pane: pane(0) }),
    ];
    assert_eq!(ended, expected);
    assert_eq!(hand.account().keys, 0);
}

#[test]
fn a_session_that_is_prolonged_after_its_result_gives_another_when_it_ends_again() {
    let trigger = Trigger::new().allowed_lateness(nanos(50));
    let mut hand = Hand::new(SessionWindows::new(parts(Count), 10, trigger));
    hand.give([(1, 0, 0)]).watermark(10).give([(1, 5, 0)]).watermark(16);
    let window = |fired: &Fired<u32, u64, Item>| match fired {
        Fired::Result(result) => (result.window.start.0, result.window.end.0, result.value),
        Fired::Late(_) => panic!("late"),
    };
    let out = hand.take();
    assert_eq!(out.iter().map(window).collect::<Vec<_>>(), [(0, 10, 1), (0, 15, 2)]);
    assert_eq!(told(out), [(Timing::OnTime, 0, false, 1), (Timing::OnTime, 1, false, 2)]);
}

#[test]
fn a_session_gives_early_results_by_number_and_by_time() {
    let trigger = Trigger::new().early_count(3).early_every(nanos(100));
    let mut hand = Hand::new(SessionWindows::new(parts(Count), 10, trigger));
    hand.give([(1, 0, 0), (1, 5, 0), (1, 9, 0), (2, 0, 0)]);
    assert_eq!(told(hand.take()), [(Timing::Early, 0, false, 3)]);
    assert_eq!(told(hand.at(100).take()), [(Timing::Early, 0, false, 1)]);
    assert_eq!(told(hand.end().take()).len(), 2);
}
