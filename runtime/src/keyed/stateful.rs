//! The operator around anything that keeps state and lets go of it when its time has come.

use super::CheckTime;
use crate::model::{Now, Signal, Timestamp};
use crate::observe::StageAccount;
use crate::stage::{Chain, Gate, Operator, Pending, StageError, StageSite, StepCx, catch};

/// What is let go of in one step.
const BATCH: usize = 1024;

/// What is to be let go of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// What is due by now, on either clock.
    Due,
    /// Everything: nothing follows.
    All,
}

/// How far a call to [`Stateful::release`] may go.
#[derive(Debug)]
pub struct Allowance {
    /// Results that there is room for. Going a little beyond it is allowed: what has no room waits.
    pub room: usize,
    /// Pieces of work; each result, and each thing looked at or moved, takes one.
    pub work: usize,
}

impl Allowance {
    /// Whether a call should return before it does more.
    pub const fn is_spent(&self, waiting: usize) -> bool {
        self.work == 0 || waiting >= self.room
    }

    /// How many more results to make at most, with `waiting` of them made.
    pub fn most(&self, waiting: usize) -> usize {
        self.work.min(self.room.saturating_sub(waiting))
    }

    /// Takes one piece of work.
    pub const fn work(&mut self) {
        self.work = self.work.saturating_sub(1);
    }
}

/// State of one stage instance: takes items, and gives out results with them, when a watermark or a deadline comes, and
/// at the end.
///
/// The seam below windows and joins, for stages of that kind of your own; [`StatefulOp`] makes an operator of it. A panic
/// in any of these ends the pipeline, whatever the error policy: the state may be damaged and is not used again.
pub trait Stateful<In>: 'static {
    /// What it gives out.
    type Out: 'static;

    /// Prepares the instance, before any item.
    ///
    /// # Errors
    /// An error ends the pipeline before it starts.
    fn open(&mut self, _site: &StageSite) -> Result<(), StageError> {
        Ok(())
    }

    /// Takes all of `items`. Counts each once it is done with it: after a panic exactly one item of those taken from
    /// `items` has no fate in [`account`](Self::account).
    fn add<I: Iterator<Item = In>>(&mut self, items: &mut I, time: CheckTime, out: &mut Pending<Self::Out>);

    /// Whether results of items that were added have been put off.
    #[inline]
    fn owes(&self) -> bool {
        false
    }

    /// Gives the results that have been put off: once for many [`add`](Self::add)s, before a signal or the end of a step. Asked only of a state that
    /// [`owes`](Self::owes) some. After a panic exactly one item has no fate, as after one in `add`.
    fn flush(&mut self, _out: &mut Pending<Self::Out>) {}

    /// Whether [`release`](Self::release) of what is due would do anything.
    fn is_due(&self, time: CheckTime) -> bool;

    /// Lets go of what `which` says, in order, until `allowance` is used up; true if nothing is left to let go of. No
    /// item is added before it has answered true.
    fn release(
        &mut self,
        which: Release,
        time: CheckTime,
        allowance: &mut Allowance,
        out: &mut Pending<Self::Out>,
    ) -> bool;

    /// The earliest processing time at which something may be due.
    fn next_deadline(&self) -> Option<i64> {
        None
    }

    /// Adds what became of the items, and what is held. What was given out is counted for it.
    fn account(&self, account: &mut StageAccount);

    /// Drops all state; items in it count as discarded from now on. Called once, at the end of the run.
    fn clear(&mut self);
}

/// Runs a [`Stateful`]: lets go of at most about a thousand things per step and only as far as there is room, and takes no
/// input meanwhile; passes a watermark on behind what it made due.
pub struct StatefulOp<In, S: Stateful<In>> {
    state: S,
    results: Pending<S::Out>,
    gate: Gate,
    watermark: Timestamp,
    /// A watermark or the end, to be passed on once everything has gone that goes before it.
    waiting: Option<Signal>,
    /// A release has begun and not ended: no item comes in between.
    busy: bool,
    /// Things are due, and there is no room for their results.
    blocked: bool,
    /// User code panicked: the state must not be used again.
    suspect: bool,
    /// The item during which it did.
    failed: u64,
    discarded: u64,
    items: std::marker::PhantomData<fn(In)>,
}

impl<In: 'static, S: Stateful<In>> StatefulOp<In, S> {
    /// Runs `state`.
    pub fn new(state: S, site: &StageSite) -> Self {
        Self {
            state,
            results: Pending::new(),
            gate: Gate::new(site),
            watermark: Timestamp::MIN,
            waiting: None,
            busy: false,
            blocked: false,
            suspect: false,
            failed: 0,
            discarded: 0,
            items: std::marker::PhantomData,
        }
    }

    fn time(&self, now: Now) -> CheckTime {
        CheckTime { processing: now, event: self.watermark }
    }

    #[cold]
    fn panicked(&mut self, error: StageError, cx: &StepCx) {
        self.suspect = true;
        self.waiting = None;
        self.gate.fail(error, cx);
    }

    /// Has the state give what it has put off. Whether there was any.
    #[inline]
    fn catch_up(&mut self, cx: &StepCx) -> bool {
        if self.suspect || !self.state.owes() {
            return false;
        }
        let Self { state, results, .. } = self;
        if let Err(error) = catch(|| state.flush(results)) {
            self.failed = 1;
            self.panicked(error, cx);
        }
        true
    }

    fn let_go<D: Chain<S::Out>>(&mut self, down: &mut D, cx: &StepCx) -> bool {
        let which = if self.waiting == Some(Signal::End) { Release::All } else { Release::Due };
        let time = self.time(cx.now());
        let mut left = BATCH;
        let mut moved = false;
        loop {
            moved |= self.results.settle(down, cx);
            let room = down.room();
            self.blocked = room == 0;
            if self.blocked || left == 0 {
                return moved;
            }
            let mut allowance = Allowance { room, work: left };
            let Self { state, results, .. } = self;
            let done = match catch(|| state.release(which, time, &mut allowance, results)) {
                Ok(done) => done,
                Err(error) => {
                    self.panicked(error, cx);
                    return true;
                }
            };
            moved |= allowance.work < left;
            left = allowance.work;
            self.busy = !done;
            if done {
                break;
            }
        }
        if let Some(signal) = self.waiting.take() {
            self.results.signal(signal);
            moved = true;
        }
        self.results.settle(down, cx) | moved
    }
}

/// An iterator that is put back when whoever has it panics.
struct Lent<'a, I> {
    items: Option<I>,
    back: &'a mut Option<I>,
}

impl<I> Drop for Lent<'_, I> {
    #[inline(always)]
    fn drop(&mut self) {
        *self.back = self.items.take();
    }
}

/// Adds all items; with an error, those that are left. The iterator is in the very function that has the loop, so that where it stands
/// and what it counts can be in registers. A free function, as those of `stage::ops`.
#[inline(always)]
fn add_all<In, S: Stateful<In>, I: Iterator<Item = In>>(
    state: &mut S,
    items: I,
    time: CheckTime,
    results: &mut Pending<S::Out>,
) -> Result<(), (StageError, Option<I>)> {
    let mut left = None;
    let added = catch(|| {
        let mut lent = Lent { items: Some(items), back: &mut left };
        if let Some(items) = &mut lent.items {
            state.add(items, time, results);
        }
        lent.items = None;
    });
    added.map_err(|error| (error, left))
}

impl<In: 'static, S: Stateful<In>> Operator<In> for StatefulOp<In, S> {
    type Out = S::Out;

    #[inline]
    fn run<I: Iterator<Item = In>, D: Chain<S::Out>>(&mut self, items: I, down: &mut D, cx: &StepCx) {
        if self.suspect {
            self.discarded += items.count() as u64;
        } else {
            let time = self.time(cx.now());
            let Self { state, results, .. } = self;
            if let Err((error, left)) = add_all(state, items, time, results) {
                self.failed = 1;
                self.panicked(error, cx);
                self.discarded += left.map_or(0, Iterator::count) as u64;
            }
        }
        self.results.settle(down, cx);
    }

    #[inline]
    fn room<D: Chain<S::Out>>(&mut self, down: &mut D) -> usize {
        let busy = self.suspect || self.busy || self.waiting.is_some() || !self.results.is_empty();
        if busy { 0 } else { down.room() }
    }

    #[inline]
    fn flush<D: Chain<S::Out>>(&mut self, down: &mut D, cx: &StepCx) {
        if self.catch_up(cx) {
            self.results.settle(down, cx);
        }
    }

    fn signal<D: Chain<S::Out>>(&mut self, signal: Signal, down: &mut D, cx: &StepCx) {
        self.catch_up(cx);
        if self.suspect {
            return;
        }
        if let Signal::Watermark(time) = signal {
            self.watermark = self.watermark.max(time);
        }
        let wakes = match signal {
            Signal::End => true,
            Signal::Watermark(_) => self.state.is_due(self.time(cx.now())),
            Signal::Idle | Signal::Barrier(_) | Signal::Turn => false,
        };
        if wakes {
            self.waiting = Some(signal);
            self.let_go(down, cx);
        } else {
            self.results.signal(signal);
            self.results.settle(down, cx);
        }
    }

    fn tick<D: Chain<S::Out>>(&mut self, down: &mut D, cx: &StepCx) -> bool {
        let due = || self.busy || self.waiting.is_some() || self.state.is_due(self.time(cx.now()));
        if !self.suspect && due() {
            return self.let_go(down, cx);
        }
        self.results.settle(down, cx)
    }

    fn next_deadline(&self) -> Option<i64> {
        // What waits for room, or for the rest of its turn, needs no clock: room comes with a doorbell, and a step that
        // stopped for its budget has said that it moved something.
        if self.suspect || self.waiting.is_some() || self.blocked { None } else { self.state.next_deadline() }
    }

    fn open(&mut self, site: &StageSite) -> Result<(), StageError> {
        self.state.open(site)
    }

    fn account(&self, account: &mut StageAccount) {
        self.state.account(account);
        self.gate.account(account);
        account.failed += self.failed;
        account.discarded += self.discarded;
        self.results.account(account);
    }

    fn last_error(&mut self) -> Option<String> {
        self.gate.take_last_error()
    }

    fn close(&mut self, _discard: bool) -> Result<(), StageError> {
        // Results and state are dropped here: user code.
        let Self { state, results, gate, .. } = self;
        let cleared = gate.close(|| state.clear());
        gate.close(|| results.clear()).and(cleared)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyed::testkit::{Bench, Event, site};

    /// Puts everything off. Throws at zero.
    #[derive(Default)]
    struct Late {
        owed: Vec<u64>,
        given: u64,
    }

    impl Stateful<u64> for Late {
        type Out = u64;
        fn add<I: Iterator<Item = u64>>(&mut self, items: &mut I, _: CheckTime, _: &mut Pending<u64>) {
            self.owed.extend(items);
        }
        fn owes(&self) -> bool {
            !self.owed.is_empty()
        }
        fn flush(&mut self, out: &mut Pending<u64>) {
            for item in self.owed.drain(..) {
                assert!(item > 0, "zero");
                out.push(item);
                self.given += 1;
            }
        }
        fn is_due(&self, _: CheckTime) -> bool {
            false
        }
        fn release(&mut self, _: Release, _: CheckTime, _: &mut Allowance, _: &mut Pending<u64>) -> bool {
            true
        }
        fn account(&self, account: &mut StageAccount) {
            account.absorbed += self.given + self.owed.len() as u64;
            account.items_complete += self.given;
            account.items_open += self.owed.len() as u64;
            account.results_complete += self.given;
        }
        fn clear(&mut self) {}
    }

    fn bench() -> Bench<u64, StatefulOp<u64, Late>> {
        Bench::new(StatefulOp::new(Late::default(), &site()))
    }

    #[test]
    fn what_a_state_puts_off_comes_before_a_signal_and_before_the_end_of_a_step() {
        let mut b = bench();
        b.give([1, 2]);
        assert_eq!(b.take().len(), 0);
        b.flush();
        assert_eq!(b.take(), [1, 2]);
        b.give([3]);
        let watermark = Signal::Watermark(Timestamp(7));
        b.signal(watermark);
        b.give([4]);
        b.end();
        let expected = [Event::Item(3), Event::Signal(watermark), Event::Item(4), Event::Signal(Signal::End)];
        assert_eq!(b.down.events[2..], expected);
    }

    #[test]
    fn what_a_state_puts_off_waits_for_room() {
        let mut b = bench();
        b.give([1, 2]);
        b.room = 1;
        b.flush();
        assert_eq!((b.take().len(), b.op_room()), (1, 0));
        b.settle();
        assert_eq!((b.take().len(), b.op_room()), (2, 1));
    }

    #[test]
    fn a_panic_in_what_was_put_off_ends_the_pipeline() {
        let mut b = bench();
        b.give([1, 0]);
        // The state has forgotten it: it is the one without a fate.
        b.flush();
        assert!(b.failure.as_ref().is_some_and(|failure| failure.contains("zero")));
        assert_eq!((b.account().failed, b.op_room()), (1, 0));
    }
}
