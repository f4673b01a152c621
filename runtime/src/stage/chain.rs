//! The fused chain: operators linked by type, driven a batch at a time.

use super::letters::{Letters, Posts};
use super::{Copies, StageError, StageSite, StepCx};
use crate::model::{Signal, StageId};
use crate::observe::StageAccount;

/// Something that takes items: the rest of a fused chain.
///
/// The caller keeps three rules: never more items than [`room`](Chain::room) said, never a signal unless it
/// [`takes_signal`](Chain::takes_signal), and [`flush`](Chain::flush) before the step ends.
pub trait Chain<T>: 'static {
    /// Processes all of `items`. Nothing is visible to other partitions before [`flush`](Chain::flush).
    fn run<I: Iterator<Item = T>>(&mut self, items: I, cx: &StepCx);

    /// As [`run`](Chain::run), of one item.
    #[inline(always)]
    fn run_one(&mut self, item: T, cx: &StepCx) {
        self.run(std::iter::once(item), cx);
    }

    /// As [`run`](Chain::run), of items that lie in memory.
    #[inline(always)]
    fn run_copies<const FETCHED: bool>(&mut self, items: Copies<'_, T, FETCHED>, cx: &StepCx)
    where
        T: Copy,
    {
        self.run(items.iter(), cx);
    }

    /// How many items may be given now. Zero means: not now.
    fn room(&mut self) -> usize;

    /// Whether a signal may be given now. Always while there is room; where nothing waits that it would overtake also without,
    /// since a signal needs neither a credit nor demand: the end of a stream that nobody asks anything of still arrives.
    #[inline]
    fn takes_signal(&mut self) -> bool {
        self.room() > 0
    }

    /// A signal that stands after all items given so far. A stage that cannot finish it at once (an accumulator with
    /// many keys to flush) answers `room() == 0` until it has passed it on.
    fn signal(&mut self, signal: Signal, cx: &StepCx);

    /// Moves what is pending without new input: staged output, timers, retries. True if anything moved.
    fn tick(&mut self, cx: &StepCx) -> bool;

    /// Makes everything emitted so far visible downstream.
    fn flush(&mut self, cx: &StepCx);

    /// The earliest monotonic time after `now` at which [`tick`](Chain::tick) has something to do. What was due before that
    /// has had its chance: it waits for room, not for time.
    fn next_deadline(&self, now: i64) -> Option<i64>;

    /// Whether [`Signal::End`] has gone out at the far end.
    fn is_finished(&self) -> bool;

    /// Prepares user code, first stage first.
    ///
    /// # Errors
    /// What the user's `open` said, with the stage's name.
    fn open(&mut self) -> Result<(), (StageId, StageError)>;

    /// Publishes counters; `received` is the number of items given since the start.
    fn report(&mut self, received: u64);

    /// Releases user code; `discard` counts what is still inside as discarded (stop) first.
    fn close(&mut self, discard: bool);

    /// Drops the chain, stage by stage; what a stage's `close` or `Drop` threw goes to `failures` under the stage's name.
    fn release(self, failures: &mut Vec<(StageId, StageError)>)
    where
        Self: Sized,
    {
        let _ = failures;
    }
}

/// One stage's behaviour, free of what follows it.
///
/// Implement this for a stage that needs the runtime's own seams; most stages are closures or a
/// [`Transform`](super::Transform).
pub trait Operator<In>: 'static {
    /// What it emits.
    type Out;

    /// Processes `items` and gives the results to `down`.
    fn run<I, D>(&mut self, items: I, down: &mut D, cx: &StepCx)
    where
        I: Iterator<Item = In>,
        D: Chain<Self::Out>;

    /// As [`run`](Operator::run), of items that lie in memory: for an operator that gains from looking at several before it passes them on.
    #[inline(always)]
    fn run_copies<D: Chain<Self::Out>, const FETCHED: bool>(
        &mut self,
        items: Copies<'_, In, FETCHED>,
        down: &mut D,
        cx: &StepCx,
    ) where
        In: Copy,
    {
        self.run(items.iter(), down, cx);
    }

    /// How many items it takes now, given what follows.
    #[inline]
    fn room<D: Chain<Self::Out>>(&mut self, down: &mut D) -> usize {
        down.room()
    }

    /// Whether it takes a signal now. A stage in which nothing ever waits asks what follows, instead of its own room.
    #[inline]
    fn takes_signal<D: Chain<Self::Out>>(&mut self, down: &mut D) -> bool {
        self.room(down) > 0
    }

    /// Handles a signal; passes it on unless it must wait.
    #[inline]
    fn signal<D: Chain<Self::Out>>(&mut self, signal: Signal, down: &mut D, cx: &StepCx) {
        down.signal(signal, cx);
    }

    /// Gives `down` what was put off until now, right before everything emitted so far is made visible: once for many [`run`](Operator::run)s, at
    /// the end of a step at the latest. Without room it has to wait for a [`tick`](Operator::tick).
    #[inline]
    fn flush<D: Chain<Self::Out>>(&mut self, _down: &mut D, _cx: &StepCx) {}

    /// Own pending work (not that of `down`). True if anything moved.
    #[inline]
    fn tick<D: Chain<Self::Out>>(&mut self, _down: &mut D, _cx: &StepCx) -> bool {
        false
    }

    /// Own earliest deadline.
    #[inline]
    fn next_deadline(&self) -> Option<i64> {
        None
    }

    /// Prepares user code.
    ///
    /// # Errors
    /// What the user's code said.
    fn open(&mut self, _site: &StageSite) -> Result<(), StageError> {
        Ok(())
    }

    /// Fills in what became of `account.received` items; `account.emitted` is what `down` was given.
    fn account(&self, account: &mut StageAccount);

    /// The last error, for inspection, if it changed since the last call.
    fn last_error(&mut self) -> Option<String> {
        None
    }

    /// Releases user code. With `discard`, what is held inside counts as discarded.
    ///
    /// # Errors
    /// What user code threw meanwhile, if that is to fail the pipeline. A panic that is not caught fails it, too.
    fn close(&mut self, _discard: bool) -> Result<(), StageError> {
        Ok(())
    }
}

/// An operator and what follows it.
pub struct Linked<O, D> {
    op: O,
    down: D,
    site: StageSite,
    close_error: Option<StageError>,
}

impl<O, D> Linked<O, D> {
    /// Links `op` to `down`.
    pub fn new(op: O, down: D, site: StageSite) -> Self {
        Self { op, down, site, close_error: None }
    }
}

impl<In: 'static, O: Operator<In>, D: Chain<O::Out>> Chain<In> for Linked<O, D> {
    #[inline(always)]
    fn run<I: Iterator<Item = In>>(&mut self, items: I, cx: &StepCx) {
        self.op.run(items, &mut self.down, cx);
    }

    #[inline(always)]
    fn run_copies<const FETCHED: bool>(&mut self, items: Copies<'_, In, FETCHED>, cx: &StepCx)
    where
        In: Copy,
    {
        self.op.run_copies(items, &mut self.down, cx);
    }

    #[inline]
    fn room(&mut self) -> usize {
        self.op.room(&mut self.down)
    }

    #[inline]
    fn takes_signal(&mut self) -> bool {
        self.op.takes_signal(&mut self.down)
    }

    #[inline]
    fn signal(&mut self, signal: Signal, cx: &StepCx) {
        self.site.heard(signal);
        self.op.signal(signal, &mut self.down, cx);
    }

    #[inline]
    fn tick(&mut self, cx: &StepCx) -> bool {
        // Downstream first: it may make the room that this stage's own pending work needs.
        let below = self.down.tick(cx);
        self.op.tick(&mut self.down, cx) | below
    }

    #[inline]
    fn flush(&mut self, cx: &StepCx) {
        self.op.flush(&mut self.down, cx);
        self.down.flush(cx);
    }

    #[inline]
    fn next_deadline(&self, now: i64) -> Option<i64> {
        earliest(self.op.next_deadline().filter(|due| *due > now), self.down.next_deadline(now))
    }

    #[inline]
    fn is_finished(&self) -> bool {
        self.down.is_finished()
    }

    fn open(&mut self) -> Result<(), (StageId, StageError)> {
        self.site.open(|site| self.op.open(site))?;
        self.down.open()
    }

    fn report(&mut self, received: u64) {
        self.report_with(received, 0, 0);
    }

    fn close(&mut self, discard: bool) {
        // The stages that follow are still to be closed, and everything to be counted.
        self.close_error = super::catch(|| self.op.close(discard)).and_then(|said| said).err();
        self.site.closed(discard);
        self.down.close(discard);
    }

    fn release(self, failures: &mut Vec<(StageId, StageError)>) {
        let Self { op, down, site, close_error } = self;
        failures.extend(close_error.map(|error| site.failed(error)));
        site.release(op, failures);
        down.release(failures);
    }
}

/// A chain that can be told of what its first stage puts out beside the rest of the chain.
pub trait Reporting<T> {
    /// As [`Chain::report`]; `sent` items more have been given to another output, and `unsent` wait for room there.
    fn report_with(&mut self, received: u64, sent: u64, unsent: u64);
}

impl<In: 'static, O: Operator<In>, D: Chain<O::Out>> Reporting<In> for Linked<O, D> {
    fn report_with(&mut self, received: u64, sent: u64, unsent: u64) {
        let mut account = StageAccount { received, ..StageAccount::default() };
        self.op.account(&mut account);
        let emitted = account.emitted;
        account.emitted += sent;
        account.unsent += unsent;
        self.site.publish(&account, self.op.last_error(), self.down.is_finished());
        self.down.report(emitted);
    }
}

impl<In, O: Posts<In>, D> Posts<In> for Linked<O, D> {
    fn letters(&mut self) -> &mut Letters<In> {
        self.op.letters()
    }

    fn is_settled(&self) -> bool {
        self.op.is_settled()
    }
}

/// The earlier of two deadlines.
#[inline]
pub(crate) fn earliest(a: Option<i64>, b: Option<i64>) -> Option<i64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (one, None) | (None, one) => one,
    }
}

/// A chain behind a pointer: one virtual call per batch.
///
/// Implemented for every [`Chain`]; used where the type of what follows is not known (the outputs of a branch).
pub trait DynChain<T> {
    /// Processes and empties `items`.
    fn run_batch(&mut self, items: &mut Vec<T>, cx: &StepCx);
    /// See [`Chain::room`].
    fn room(&mut self) -> usize;
    /// See [`Chain::takes_signal`].
    fn takes_signal(&mut self) -> bool;
    /// See [`Chain::signal`].
    fn signal(&mut self, signal: Signal, cx: &StepCx);
    /// See [`Chain::tick`].
    fn tick(&mut self, cx: &StepCx) -> bool;
    /// See [`Chain::flush`].
    fn flush(&mut self, cx: &StepCx);
    /// See [`Chain::next_deadline`].
    fn next_deadline(&self, now: i64) -> Option<i64>;
    /// See [`Chain::is_finished`].
    fn is_finished(&self) -> bool;
    /// See [`Chain::report`].
    fn report(&mut self, received: u64);
    /// See [`Chain::open`].
    ///
    /// # Errors
    /// As [`Chain::open`].
    fn open(&mut self) -> Result<(), (StageId, StageError)>;
    /// See [`Chain::close`].
    fn close(&mut self, discard: bool);
    /// See [`Chain::release`].
    fn release(self: Box<Self>, failures: &mut Vec<(StageId, StageError)>);
}

impl<T: 'static, C: Chain<T>> DynChain<T> for C {
    fn run_batch(&mut self, items: &mut Vec<T>, cx: &StepCx) {
        self.run(items.drain(..), cx);
    }
    fn room(&mut self) -> usize {
        Chain::room(self)
    }
    fn takes_signal(&mut self) -> bool {
        Chain::takes_signal(self)
    }
    fn signal(&mut self, signal: Signal, cx: &StepCx) {
        Chain::signal(self, signal, cx);
    }
    fn tick(&mut self, cx: &StepCx) -> bool {
        Chain::tick(self, cx)
    }
    fn flush(&mut self, cx: &StepCx) {
        Chain::flush(self, cx);
    }
    fn next_deadline(&self, now: i64) -> Option<i64> {
        Chain::next_deadline(self, now)
    }
    fn is_finished(&self) -> bool {
        Chain::is_finished(self)
    }
    fn report(&mut self, received: u64) {
        Chain::report(self, received);
    }
    fn open(&mut self) -> Result<(), (StageId, StageError)> {
        Chain::open(self)
    }
    fn close(&mut self, discard: bool) {
        Chain::close(self, discard);
    }
    fn release(self: Box<Self>, failures: &mut Vec<(StageId, StageError)>) {
        Chain::release(*self, failures);
    }
}

/// The end of a chain whose continuation's type is not known: one virtual call per batch, no ring.
///
/// Not a stage: it has no counters of its own.
pub struct BoxedChain<T> {
    batch: Vec<T>,
    chain: Box<dyn DynChain<T>>,
}

impl<T> BoxedChain<T> {
    /// Goes on in `chain`.
    pub fn new(chain: Box<dyn DynChain<T>>) -> Self {
        Self { batch: Vec::new(), chain }
    }
}

impl<T: 'static> Chain<T> for BoxedChain<T> {
    #[inline]
    fn run<I: Iterator<Item = T>>(&mut self, items: I, cx: &StepCx) {
        self.batch.extend(items);
        if !self.batch.is_empty() {
            self.chain.run_batch(&mut self.batch, cx);
        }
    }

    fn room(&mut self) -> usize {
        self.chain.room()
    }

    fn takes_signal(&mut self) -> bool {
        self.chain.takes_signal()
    }

    fn signal(&mut self, signal: Signal, cx: &StepCx) {
        self.chain.signal(signal, cx);
    }

    fn tick(&mut self, cx: &StepCx) -> bool {
        self.chain.tick(cx)
    }

    fn flush(&mut self, cx: &StepCx) {
        self.chain.flush(cx);
    }

    fn next_deadline(&self, now: i64) -> Option<i64> {
        self.chain.next_deadline(now)
    }

    fn is_finished(&self) -> bool {
        self.chain.is_finished()
    }

    fn open(&mut self) -> Result<(), (StageId, StageError)> {
        self.chain.open()
    }

    fn report(&mut self, received: u64) {
        self.chain.report(received);
    }

    fn close(&mut self, discard: bool) {
        self.chain.close(discard);
    }

    fn release(self, failures: &mut Vec<(StageId, StageError)>) {
        self.chain.release(failures);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyed::testkit::{Collect, site};

    /// Due at a fixed time, whether or not there is room for what it has.
    struct DueAt(i64);

    impl Operator<u64> for DueAt {
        type Out = u64;
        fn run<I: Iterator<Item = u64>, D: Chain<u64>>(&mut self, items: I, down: &mut D, cx: &StepCx) {
            down.run(items, cx);
        }
        fn next_deadline(&self) -> Option<i64> {
            Some(self.0)
        }
        fn account(&self, _: &mut StageAccount) {}
    }

    #[test]
    fn a_deadline_that_has_had_its_chance_is_none() {
        let end = Collect { events: Vec::new(), items: 0, room: 0 };
        let chain = Linked::new(DueAt(5), Linked::new(DueAt(9), end, site()), site());
        // Whoever slept until a deadline that has passed would not sleep at all.
        let at = |now| Chain::<u64>::next_deadline(&chain, now);
        assert_eq!([4, 5, 8, 9].map(at), [Some(5), Some(9), Some(9), None]);
    }
}
