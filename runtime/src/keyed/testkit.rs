//! Runs an operator by hand: a site, a chain end with as much room as told, and the clock.

use std::sync::Arc;

use crate::model::{Now, Signal, StageId, Timestamp};
use crate::observe::{StageAccount, StageContext};
use crate::policy::ErrorPolicy;
use crate::stage::{Chain, Operator, Resources, StageError, StageSite, StepCx};

/// A site with a disk, and the disk.
pub(super) fn site_with(disks: &Arc<dyn crate::disk::Disks>) -> StageSite {
    let resources =
        Resources { disks: Some(Arc::downgrade(disks)), spilling_instances: 1, ..Resources::default() };
    StageSite { resources, ..site() }
}

pub(crate) fn site() -> StageSite {
    let context = StageContext::new("test", StageId::new("keyed").unwrap());
    StageSite { error_policy: ErrorPolicy::Ignore, ..StageSite::detached(context) }
}

/// What came out, in order.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Event<T> {
    Item(T),
    Signal(Signal),
}

/// The end of the chain: keeps everything, and refuses to be given more than the room it stated.
pub(crate) struct Collect<T> {
    pub(crate) events: Vec<Event<T>>,
    /// Items so far.
    pub(crate) items: usize,
    pub(crate) room: usize,
}

impl<T: 'static> Chain<T> for Collect<T> {
    fn run<I: Iterator<Item = T>>(&mut self, items: I, _cx: &StepCx) {
        for item in items {
            self.room = self.room.checked_sub(1).expect("no more items than there is room for");
            self.items += 1;
            self.events.push(Event::Item(item));
        }
    }
    fn room(&mut self) -> usize {
        self.room
    }
    fn signal(&mut self, signal: Signal, _cx: &StepCx) {
        assert!(self.room > 0, "no signal without room");
        self.events.push(Event::Signal(signal));
    }
    fn tick(&mut self, _cx: &StepCx) -> bool {
        false
    }
    fn flush(&mut self, _cx: &StepCx) {}
    fn next_deadline(&self, _now: i64) -> Option<i64> {
        None
    }
    fn is_finished(&self) -> bool {
        matches!(self.events.last(), Some(Event::Signal(Signal::End)))
    }
    fn open(&mut self) -> Result<(), (StageId, StageError)> {
        Ok(())
    }
    fn report(&mut self, _received: u64) {}
    fn close(&mut self, _discard: bool) {}
}

/// An operator between a hand and a [`Collect`]. Checks both laws of its account after every call.
pub(crate) struct Bench<In: 'static, O: Operator<In>> {
    pub(crate) op: O,
    pub(crate) down: Collect<O::Out>,
    /// Room granted before each call.
    pub(crate) room: usize,
    pub(crate) now: i64,
    pub(crate) failure: Option<String>,
    received: u64,
    items: std::marker::PhantomData<fn(In)>,
}

impl<In: 'static, O: Operator<In>> Bench<In, O>
where
    O::Out: 'static,
{
    pub(crate) fn new(op: O) -> Self {
        let down = Collect { events: Vec::new(), items: 0, room: 0 };
        let items = std::marker::PhantomData;
        Self { op, down, room: 1 << 20, now: 0, failure: None, received: 0, items }
    }

    fn call<R>(&mut self, f: impl FnOnce(&mut O, &mut Collect<O::Out>, &StepCx) -> R) -> R {
        let cx = StepCx::new(Now { monotonic: self.now, wall: Timestamp(self.now) });
        self.down.room = self.room;
        let r = f(&mut self.op, &mut self.down, &cx);
        if let Some((_, error)) = cx.take_failure() {
            self.failure.get_or_insert(error.to_string());
        }
        self.account();
        r
    }

    pub(crate) fn account(&self) -> StageAccount {
        let mut account = StageAccount { received: self.received, ..StageAccount::default() };
        self.op.account(&mut account);
        account.verify(&StageId::new("keyed").unwrap()).unwrap();
        assert_eq!(account.emitted, self.down.items as u64);
        let results = account.results_complete + account.results_partial + account.results_expired;
        assert_eq!(account.emitted + account.unsent, results);
        account
    }

    /// Gives items, as the room allows, ticking in between.
    pub(crate) fn give(&mut self, items: impl IntoIterator<Item = In>) {
        let mut items: std::collections::VecDeque<In> = items.into_iter().collect();
        while !items.is_empty() {
            let room = self.op_room().min(items.len());
            if room == 0 && !self.tick() {
                return;
            }
            self.received += room as u64;
            self.call(|op, down, cx| op.run(items.drain(..room), down, cx));
        }
    }

    pub(crate) fn tick(&mut self) -> bool {
        self.call(|op, down, cx| op.tick(down, cx))
    }

    pub(crate) fn flush(&mut self) {
        self.call(|op, down, cx| op.flush(down, cx));
    }

    pub(crate) fn op_room(&mut self) -> usize {
        self.call(|op, down, _| op.room(down))
    }

    pub(crate) fn op_deadline(&self) -> Option<i64> {
        self.op.next_deadline()
    }

    pub(crate) fn close(&mut self) {
        if let Err(error) = self.op.close(true) {
            self.failure.get_or_insert(error.to_string());
        }
        self.account();
    }

    /// Ticks until nothing moves; the number of ticks that moved something.
    pub(crate) fn settle(&mut self) -> usize {
        std::iter::from_fn(|| self.tick().then_some(())).count()
    }

    /// One step at `now`.
    pub(crate) fn at(&mut self, now: i64) -> &mut Self {
        self.now = now;
        self.tick();
        self
    }

    pub(crate) fn signal(&mut self, signal: Signal) {
        assert!(self.call(|op, down, _| op.room(down)) > 0, "the operator takes a signal");
        self.call(|op, down, cx| op.signal(signal, down, cx));
    }

    pub(crate) fn watermark(&mut self, time: i64) {
        self.signal(Signal::Watermark(Timestamp(time)));
        self.settle();
    }

    pub(crate) fn end(&mut self) {
        self.signal(Signal::End);
        self.settle();
    }

    /// Takes the items that came out; signals go.
    pub(crate) fn take(&mut self) -> Vec<O::Out>
    where
        O::Out: Clone,
    {
        let item = |event: &Event<O::Out>| match event {
            Event::Item(item) => Some(item.clone()),
            Event::Signal(_) => None,
        };
        self.down.events.iter().filter_map(item).collect()
    }
}
