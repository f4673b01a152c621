//! The producing end of an edge.

use std::collections::VecDeque;
use std::sync::Arc;

use super::edge::{EdgeCells, OutletCells};
use crate::model::{Signal, StageId};
use crate::observe::StageAccount;
use crate::policy::DropPolicy;
use crate::ring::Producer;
use crate::stage::{Chain, DynChain, Gate, StageError, StageSite, StepCx};

/// Room that a sender looks for before it re-reads the other side's position.
const ROOM_WANTED: usize = 1024;

/// One ring's producing end, with the policy for when it is full.
///
/// What does not fit waits in `staged`; while anything waits there under `Block`, [`room`](Sender::room) is zero, so
/// staging is bounded by what one batch can expand to. Under `DropOldest` new items wait there until the consumer has
/// discarded the oldest ones in the ring; ring and staging together never count more items than the capacity.
pub struct Sender<T> {
    ring: Producer<T>,
    policy: DropPolicy,
    staged: VecDeque<T>,
    /// Signals that wait for staged items or for room in the control ring.
    held: VecDeque<Signal>,
    dropped_newest: u64,
    dropped_staged: u64,
    /// Found in `staged` when the pipeline stopped.
    left: u64,
    end_sent: bool,
}

impl<T: Send> Sender<T> {
    /// Sends into `ring`.
    pub fn new(ring: Producer<T>, policy: DropPolicy) -> Self {
        Self {
            ring,
            policy,
            staged: VecDeque::new(),
            held: VecDeque::new(),
            dropped_newest: 0,
            dropped_staged: 0,
            left: 0,
            end_sent: false,
        }
    }

    /// Items it takes now without staging (`Block`) or at all (the dropping policies always have room).
    #[inline]
    pub fn room(&mut self) -> usize {
        if !self.held.is_empty() {
            return 0;
        }
        match self.policy {
            DropPolicy::Block if self.staged.is_empty() => self.ring.free_for(ROOM_WANTED),
            DropPolicy::Block => 0,
            DropPolicy::DropNewest | DropPolicy::DropOldest => usize::MAX,
        }
    }

    /// Sends one item.
    #[inline(always)]
    pub fn send(&mut self, item: T) {
        if !self.staged.is_empty() {
            return self.full(item);
        }
        if let Err(item) = self.ring.push(item) {
            self.full(item);
        }
    }

    /// Sends all of `items`.
    #[inline(always)]
    pub fn send_all(&mut self, mut items: impl Iterator<Item = T>) {
        if self.staged.is_empty() {
            self.ring.extend(&mut items);
        }
        items.for_each(|item| self.send(item));
    }

    #[cold]
    #[inline(never)]
    fn full(&mut self, item: T) {
        match self.policy {
            DropPolicy::Block => self.staged.push_back(item),
            DropPolicy::DropNewest => self.dropped_newest += 1,
            DropPolicy::DropOldest => {
                self.ring.publish();
                if self.ring.discard_oldest(1) == 0 && self.staged.pop_front().is_some() {
                    self.dropped_staged += 1;
                }
                self.staged.push_back(item);
            }
        }
    }

    /// Sends `signal` after everything sent so far.
    pub fn signal(&mut self, signal: Signal) {
        if !self.staged.is_empty() || !self.held.is_empty() {
            self.held.push_back(signal);
        } else if let Err(signal) = self.ring.signal(signal) {
            self.held.push_back(signal);
        } else {
            self.end_sent |= signal == Signal::End;
        }
    }

    /// Moves staged items and held signals on. True if anything moved.
    #[inline]
    pub fn tick(&mut self) -> bool {
        if self.staged.is_empty() && self.held.is_empty() {
            return false;
        }
        self.settle()
    }

    fn settle(&mut self) -> bool {
        let mut moved = false;
        while let Some(item) = self.staged.pop_front() {
            match self.ring.push(item) {
                Ok(()) => moved = true,
                Err(item) => {
                    self.staged.push_front(item);
                    break;
                }
            }
        }
        while self.staged.is_empty()
            && let Some(&signal) = self.held.front()
            && self.ring.signal(signal).is_ok()
        {
            self.held.pop_front();
            self.end_sent |= signal == Signal::End;
            moved = true;
        }
        if moved {
            self.ring.publish();
        }
        moved
    }

    /// Makes what was sent visible.
    #[inline]
    pub fn publish(&mut self) {
        self.ring.publish();
    }

    /// Whether [`Signal::End`] is in the ring.
    pub fn is_finished(&self) -> bool {
        self.end_sent
    }

    fn count(&self, sum: &mut EdgeCells) {
        let pushed = self.ring.pushed();
        sum.dropped_newest += self.dropped_newest;
        sum.dropped_oldest += self.dropped_staged;
        sum.staged += self.staged.len() as u64;
        sum.left += self.left;
        sum.offered +=
            pushed + self.dropped_newest + self.dropped_staged + self.left + self.staged.len() as u64;
    }

    /// Throws away what waits; counts it as left in the edge.
    fn close(&mut self) {
        self.left += self.staged.len() as u64;
        self.staged.clear();
        self.held.clear();
    }
}

/// All senders of one upstream instance on one edge, with their counters.
pub(super) struct Senders<T> {
    pub(super) each: Vec<Sender<T>>,
    cells: Arc<OutletCells>,
    pub(super) unroutable: u64,
}

impl<T: Send> Senders<T> {
    pub(super) fn new(each: Vec<Sender<T>>, cells: Arc<OutletCells>) -> Self {
        Self { each, cells, unroutable: 0 }
    }

    /// Room in the fullest: whatever the next items are, they fit.
    #[inline]
    pub(super) fn room(&mut self) -> usize {
        let mut room = usize::MAX;
        for sender in &mut self.each {
            room = room.min(sender.room());
        }
        room
    }

    pub(super) fn broadcast(&mut self, signal: Signal) {
        for sender in &mut self.each {
            sender.signal(signal);
        }
    }

    #[inline]
    pub(super) fn tick(&mut self) -> bool {
        let mut moved = false;
        for sender in &mut self.each {
            moved |= sender.tick();
        }
        moved
    }

    #[inline]
    pub(super) fn publish(&mut self) {
        for sender in &mut self.each {
            sender.publish();
        }
    }

    pub(super) fn is_finished(&self) -> bool {
        self.each.iter().all(Sender::is_finished)
    }

    pub(super) fn close(&mut self) {
        self.each.iter_mut().for_each(Sender::close);
    }

    pub(super) fn report(&self) {
        let mut sum =
            EdgeCells { unroutable: self.unroutable, offered: self.unroutable, ..EdgeCells::default() };
        for sender in &self.each {
            sender.count(&mut sum);
        }
        self.cells.publish(&sum);
    }
}

/// How an edge without a key spreads items over downstream instances.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spread {
    /// All to the one instance there is, or from instance `i` to instance `i`.
    Forward,
    /// A step's items to one instance, the next step's to another that has room.
    Balance,
    /// As `Balance`, but strictly in turn and with [`Signal::Turn`] after each, so that order can be restored.
    Turns,
}

/// The end of a chain: an edge without a key.
pub struct Outlet<T> {
    senders: Senders<T>,
    spread: Spread,
    at: usize,
    used: bool,
}

impl<T: Send> Outlet<T> {
    /// Ends a chain in `senders`, at least one.
    pub fn new(senders: Vec<Sender<T>>, spread: Spread, cells: Arc<OutletCells>) -> Self {
        assert!(!senders.is_empty(), "an edge leads to at least one instance");
        Self { senders: Senders::new(senders, cells), spread, at: 0, used: false }
    }

    fn advance(&mut self) {
        self.at = (self.at + 1) % self.senders.each.len();
    }
}

impl<T: Send + 'static> Chain<T> for Outlet<T> {
    #[inline(always)]
    fn run<I: Iterator<Item = T>>(&mut self, items: I, _cx: &StepCx) {
        self.used = true;
        self.senders.each[self.at].send_all(items);
    }

    #[inline]
    fn room(&mut self) -> usize {
        let room = self.senders.each[self.at].room();
        if room > 0 || self.spread != Spread::Balance || self.used {
            return room;
        }
        for _ in 1..self.senders.each.len() {
            self.advance();
            let room = self.senders.each[self.at].room();
            if room > 0 {
                return room;
            }
        }
        0
    }

    fn signal(&mut self, signal: Signal, _cx: &StepCx) {
        if self.spread == Spread::Forward {
            self.senders.broadcast(signal);
        } else if signal != Signal::Turn {
            // Turns of an order further up end here: this edge makes its own.
            self.end_turn();
            self.senders.broadcast(signal);
        }
    }

    #[inline]
    fn tick(&mut self, _cx: &StepCx) -> bool {
        self.senders.tick()
    }

    #[inline]
    fn flush(&mut self, _cx: &StepCx) {
        if self.spread != Spread::Forward {
            self.end_turn();
        }
        self.senders.publish();
    }

    fn next_deadline(&self, _now: i64) -> Option<i64> {
        None
    }

    fn is_finished(&self) -> bool {
        self.senders.is_finished()
    }

    fn open(&mut self) -> Result<(), (StageId, StageError)> {
        Ok(())
    }

    fn report(&mut self, _received: u64) {
        self.senders.report();
    }

    fn close(&mut self, _discard: bool) {
        self.senders.close();
    }
}

impl<T: Send> Outlet<T> {
    fn end_turn(&mut self) {
        if std::mem::take(&mut self.used) {
            if self.spread == Spread::Turns {
                self.senders.each[self.at].signal(Signal::Turn);
            }
            self.advance();
        }
    }
}

/// What a branch does with an item.
pub enum Branching<T> {
    /// The index of the one output it goes to; an index out of range goes to the last output.
    Route(Box<dyn FnMut(&T) -> usize>),
    /// A copy to every output.
    Broadcast(fn(&T) -> T),
}

/// The end of a chain that has several outputs.
///
/// Items are sorted into a buffer per output and handed on by one virtual call per output and batch. A branch takes no
/// more than its fullest output has room for, so one blocked output holds the others: use a dropping policy on an edge
/// that must not.
pub struct BranchEnd<T> {
    how: Branching<T>,
    outputs: Vec<Output<T>>,
    gate: Gate,
    site: StageSite,
}

/// One output of a branch.
struct Output<T> {
    chain: Box<dyn DynChain<T>>,
    /// Items of the present batch.
    buffer: Vec<T>,
    /// Items given since the start.
    given: u64,
}

impl<T> BranchEnd<T> {
    /// Sorts items by `how` into `outputs`.
    pub fn new(how: Branching<T>, outputs: Vec<Box<dyn DynChain<T>>>, site: StageSite) -> Self {
        let output = |chain| Output { chain, buffer: Vec::new(), given: 0 };
        let outputs = outputs.into_iter().map(output).collect();
        Self { how, outputs, gate: Gate::new(&site), site }
    }
}

impl<T: 'static> Chain<T> for BranchEnd<T> {
    fn run<I: Iterator<Item = T>>(&mut self, items: I, cx: &StepCx) {
        let Self { how, outputs, gate, .. } = self;
        match how {
            Branching::Route(route) => {
                let last = outputs.len() - 1;
                items.for_each(|item| {
                    if let Some(index) = gate.call(cx, || route(&item)) {
                        outputs[index.min(last)].buffer.push(item);
                    }
                });
            }
            Branching::Broadcast(copy) => items.for_each(|item| {
                // All copies first: a clone that panics must not leave some outputs with the item and some without.
                let Some((last, others)) = outputs.split_last_mut() else { return };
                let copied = gate.call(cx, || others.iter_mut().for_each(|o| o.buffer.push(copy(&item))));
                match copied {
                    Some(()) => last.buffer.push(item),
                    None => {
                        let whole = last.buffer.len();
                        others.iter_mut().for_each(|o| o.buffer.truncate(whole));
                    }
                }
            }),
        }
        for output in outputs.iter_mut().filter(|o| !o.buffer.is_empty()) {
            output.given += output.buffer.len() as u64;
            output.chain.run_batch(&mut output.buffer, cx);
        }
    }

    fn room(&mut self) -> usize {
        self.outputs.iter_mut().map(|o| o.chain.room()).min().unwrap_or(0)
    }

    fn signal(&mut self, signal: Signal, cx: &StepCx) {
        // A restored order does not survive a branch: no single consumer sees every turn's items.
        if signal != Signal::Turn {
            self.outputs.iter_mut().for_each(|o| o.chain.signal(signal, cx));
        }
    }

    fn tick(&mut self, cx: &StepCx) -> bool {
        self.outputs.iter_mut().fold(false, |moved, o| o.chain.tick(cx) | moved)
    }

    fn flush(&mut self, cx: &StepCx) {
        self.outputs.iter_mut().for_each(|o| o.chain.flush(cx));
    }

    fn next_deadline(&self, now: i64) -> Option<i64> {
        self.outputs.iter().filter_map(|o| o.chain.next_deadline(now)).min()
    }

    fn is_finished(&self) -> bool {
        self.outputs.iter().all(|o| o.chain.is_finished())
    }

    fn open(&mut self) -> Result<(), (StageId, StageError)> {
        self.site.open(|_| Ok(()))?;
        self.outputs.iter_mut().try_for_each(|o| o.chain.open())
    }

    fn report(&mut self, received: u64) {
        let mut account = StageAccount { received, ..StageAccount::default() };
        self.gate.account(&mut account);
        account.passed = received - self.gate.lost();
        account.emitted = self.outputs.iter().map(|o| o.given).sum();
        self.site.publish(&account, self.gate.take_last_error(), Chain::is_finished(self));
        self.outputs.iter_mut().for_each(|o| o.chain.report(o.given));
    }

    fn close(&mut self, discard: bool) {
        self.site.closed(discard);
        self.outputs.iter_mut().for_each(|o| o.chain.close(discard));
    }

    fn release(self, failures: &mut Vec<(StageId, StageError)>) {
        self.site.release(self.how, failures);
        self.outputs.into_iter().for_each(|o| o.chain.release(failures));
    }
}
