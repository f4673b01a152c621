//! The stage that runs an [`Accumulator`].

use std::mem::take;

use super::Accumulator;
use super::keys::{Keys, Release, Released};
use crate::model::{ProgressWeights, Signal};
use crate::observe::StageAccount;
use crate::policy::{AccumulatorPolicy, TimeDomain};
use crate::stage::{Chain, Gate, Operator, StageError, StageSite, StepCx, catch, earliest};

/// Keys let go of, or timers moved, in one step.
const BATCH: usize = 1024;

/// Accumulates items by key.
///
/// A key leaves when it is complete, expires or reaches a limit, and leaves nothing behind. Deadlines on processing time
/// fire in the first step at or after them, at most 1 024 per step and only as far as there is room for results; no item
/// that comes at or after its key's deadline joins it. Deadlines on event time fire when a watermark reaches them,
/// before it is passed on, in the order of the deadlines. The end of the input lets go of all keys, in the order in
/// which they were opened. While there are keys to let go of before a signal can be passed on, no input is taken.
///
/// Costs one look-up per item; allocates only when there are more keys than ever before.
pub struct AccumulateOp<In, A: Accumulator<In>> {
    keys: Keys<In, A>,
    gate: Gate,
    /// A watermark or the end, to be passed on once every key has gone that goes before it.
    waiting: Option<Signal>,
    /// User code panicked: its state must not be used again.
    suspect: bool,
    /// Keys may have come from another instance after a watermark that was to let go of them.
    behind: bool,
    /// Keys are due, and there is no room for their results.
    blocked: bool,
    /// Memory was used up in the last step, with nothing that will free any.
    stuck: bool,
    discarded: u64,
}

impl<In: 'static, A: Accumulator<In>> AccumulateOp<In, A> {
    /// Runs `accumulator` under `policy`, without weights.
    pub fn new(accumulator: A, policy: AccumulatorPolicy, site: &StageSite) -> Self {
        let mut keys = Keys::new(accumulator, &policy, ProgressWeights::default());
        keys.bound(policy.memory_bytes, policy.spill_allowed, site);
        Self {
            keys,
            gate: Gate::new(site),
            waiting: None,
            behind: false,
            suspect: false,
            blocked: false,
            stuck: false,
            discarded: 0,
        }
    }

    /// The same with keys that move between the stage's instances, if its shards do. What `accumulator` itself holds stays where it is.
    #[must_use]
    pub fn movable(mut self, site: &StageSite) -> Self
    where
        A::Key: Send,
        A::State: Send,
    {
        self.keys.move_by(site);
        self
    }

    /// Sets the weights that [`Accumulator::progress`] is given.
    #[must_use]
    pub fn with_weights(mut self, weights: ProgressWeights) -> Self {
        self.keys.set_weights(weights);
        self
    }

    /// Keys, places and timers.
    #[cfg(test)]
    pub(super) fn footprint(&self) -> (usize, usize, usize) {
        self.keys.footprint()
    }

    /// Takes down what the user's code threw, and sees that its state is not used again.
    #[cold]
    fn panicked(&mut self, error: StageError, cx: &StepCx) {
        self.suspect = true;
        self.waiting = None;
        self.gate.fail(error, cx);
    }

    /// Goes on with a move of shards.
    fn move_on(&mut self, cx: &StepCx) -> bool {
        let keys = &mut self.keys;
        match catch(|| keys.step_move()) {
            Ok(Ok(moved)) => {
                self.behind = true;
                moved
            }
            Ok(Err(error)) | Err(error) => {
                self.panicked(error, cx);
                true
            }
        }
    }

    /// Lets go of keys, as many as a step has time and room for, and then of the signal that waits for that.
    fn let_go<D: Chain<A::Out>>(&mut self, down: &mut D, cx: &StepCx) -> bool {
        if self.waiting.is_some() && self.keys.has_parked() {
            // Those items stand before the signal.
            return self.keys.results().settle(down, cx);
        }
        let which = match self.waiting {
            Some(Signal::End) => Some(Release::All),
            Some(Signal::Watermark(time)) => {
                self.keys.advance(time);
                (self.keys.clock() == TimeDomain::Event).then_some(Release::Due)
            }
            Some(_) => None,
            None => Some(Release::Due),
        };
        let mut budget = BATCH;
        let mut moved = false;
        while let Some(which) = which {
            moved |= self.keys.results().settle(down, cx);
            let room = down.room();
            self.blocked = room == 0;
            if self.blocked || budget == 0 {
                return moved;
            }
            let before = budget;
            let keys = &mut self.keys;
            let released = match catch(|| keys.release(which, cx.now(), room, &mut budget)) {
                Ok(released) => released,
                Err(error) => {
                    self.panicked(error, cx);
                    return true;
                }
            };
            moved |= budget < before;
            match released {
                Released::All => break,
                Released::Some => {}
                Released::Waiting => {
                    // For the disk, whose completion is the only deadline now.
                    self.blocked = true;
                    return self.keys.results().settle(down, cx) | moved;
                }
            }
        }
        if let Some(signal) = take(&mut self.waiting) {
            self.keys.results().signal(signal);
            moved = true;
        }
        self.keys.results().settle(down, cx) | moved
    }
}

impl<In: 'static, A: Accumulator<In>> AccumulateOp<In, A> {
    /// Goes on with what is on its way to disk and back, and judges what did not come back.
    fn step_disk(&mut self, cx: &StepCx) -> bool {
        if self.suspect || !self.keys.is_bounded() {
            return false;
        }
        let keys = &mut self.keys;
        let moved = match catch(|| keys.is_spilling() && keys.poll_disk(cx.now())) {
            Ok(moved) => moved,
            Err(error) => {
                self.panicked(error, cx);
                return true;
            }
        };
        while let Some(lost) = self.keys.take_lost() {
            self.gate.lose_state(StageError::User(Box::new(lost)), cx);
        }
        let exhausted = if moved { None } else { self.keys.exhausted(cx.now()) };
        let stuck = std::mem::replace(&mut self.stuck, exhausted.is_some());
        match exhausted {
            // The end of the input may stand right behind the last item: it gets its chance first.
            Some(_) if !stuck => true,
            Some(error) => {
                self.suspect = true;
                self.gate.fail(error, cx);
                moved
            }
            None => moved,
        }
    }
}

impl<In: 'static, A: Accumulator<In>> Operator<In> for AccumulateOp<In, A> {
    type Out = A::Out;

    fn run<I, D>(&mut self, mut items: I, down: &mut D, cx: &StepCx)
    where
        I: Iterator<Item = In>,
        D: Chain<A::Out>,
    {
        if !self.suspect {
            let keys = &mut self.keys;
            let add = || {
                items.by_ref().for_each(|item| keys.add(item, cx.now()));
                keys.make_room(cx.now());
            };
            if let Err(error) = catch(add) {
                self.panicked(error, cx);
            }
        }
        if self.suspect {
            self.discarded += items.count() as u64;
        }
        self.keys.results().settle(down, cx);
    }

    #[inline]
    fn room<D: Chain<A::Out>>(&mut self, down: &mut D) -> usize {
        if self.suspect || self.waiting.is_some() || !self.keys.results().is_empty() || self.keys.is_moving()
        {
            0
        } else {
            self.keys.room(down.room())
        }
    }

    /// Also while memory is used up: the end is what frees it.
    #[inline]
    fn takes_signal<D: Chain<A::Out>>(&mut self, _down: &mut D) -> bool {
        !self.suspect && self.waiting.is_none() && self.keys.results().is_empty() && !self.keys.is_moving()
    }

    fn signal<D: Chain<A::Out>>(&mut self, signal: Signal, down: &mut D, cx: &StepCx) {
        if self.suspect {
            return;
        }
        match signal {
            Signal::Barrier(version) if self.keys.begin_move(version) => {
                self.move_on(cx);
                return;
            }
            Signal::End => self.keys.end_moves(),
            _ => {}
        }
        self.waiting = Some(signal);
        self.let_go(down, cx);
    }

    fn tick<D: Chain<A::Out>>(&mut self, down: &mut D, cx: &StepCx) -> bool {
        if !self.suspect {
            self.keys.look_at_load(cx.now().monotonic);
            if self.keys.is_moving() {
                return self.move_on(cx);
            }
        }
        let moved = self.step_disk(cx);
        self.behind = self.behind && !self.suspect && self.keys.is_due(cx.now());
        let due = || self.behind || self.keys.clock() == TimeDomain::Processing && self.keys.is_due(cx.now());
        if !self.suspect && (self.waiting.is_some() || due()) {
            return self.let_go(down, cx) | moved;
        }
        self.keys.results().settle(down, cx) | moved
    }

    fn next_deadline(&self) -> Option<i64> {
        // What waits for room, or for the rest of its turn, needs no clock: room comes with a doorbell, and a step that
        // stopped for its budget has said that it moved something.
        if self.suspect {
            return None;
        }
        let disk = self.keys.disk_deadline();
        if self.waiting.is_some() || self.blocked || self.keys.clock() == TimeDomain::Event {
            return disk;
        }
        earliest(self.keys.next_deadline(), disk)
    }

    fn open(&mut self, site: &StageSite) -> Result<(), StageError> {
        self.keys.user().open(site)
    }

    fn account(&self, account: &mut StageAccount) {
        account.add(&self.keys.tally());
        self.gate.account(account);
        account.discarded += self.discarded;
        self.keys.account_results(account);
    }

    fn last_error(&mut self) -> Option<String> {
        self.gate.take_last_error().or_else(|| self.keys.take_alarm())
    }

    fn close(&mut self, _discard: bool) -> Result<(), StageError> {
        let Self { keys, gate, .. } = self;
        // The user's `close`, and the `Drop` of what was left. Each has its turn, whatever the others do.
        let steps: [fn(&mut Keys<In, A>); 5] = [
            |keys| keys.results().clear(),
            Keys::close_moves,
            Keys::clear,
            Keys::close_disk,
            |keys| keys.user().close(),
        ];
        steps.into_iter().map(|step| gate.close(|| step(keys))).fold(Ok(()), Result::and)
    }
}
