//! The producing end of an edge: its senders, and how a chain ends in them.

use std::sync::Arc;

use super::Sender;
use super::edge::{EdgeCells, EdgeControl, OutletCells};
use crate::model::{Signal, StageId};
use crate::stage::{Chain, StageError, StepCx};

/// All senders of one upstream instance on one edge, with their counters.
pub struct Senders<T> {
    pub(super) each: Vec<Sender<T>>,
    edge: Arc<EdgeControl>,
    seen: u64,
    /// The policy has changed at least once: consumers may grant less than they did.
    changed: bool,
    cells: Arc<OutletCells>,
    pub(super) unroutable: u64,
}

impl<T: Send> Senders<T> {
    /// The senders of an instance into rings of `edge`, at least one.
    pub fn new(each: Vec<Sender<T>>, edge: Arc<EdgeControl>, cells: Arc<OutletCells>) -> Self {
        assert!(!each.is_empty(), "an edge leads to at least one instance");
        Self { each, seen: edge.version(), edge, changed: false, cells, unroutable: 0 }
    }

    #[cold]
    fn adopt(&mut self, cx: &StepCx) {
        let version = self.edge.version();
        if version != self.seen {
            self.seen = version;
            self.edge.report_failure(cx);
            self.each.iter_mut().for_each(Sender::adopt);
        }
        self.changed = true;
        // A consumer may follow later than this end: look again in every step from now on.
        self.each.iter_mut().for_each(Sender::follow);
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

    /// Whether a signal can be given.
    #[inline]
    pub(super) fn takes_signal(&self) -> bool {
        self.each.iter().all(Sender::takes_signal)
    }

    pub(super) fn broadcast(&mut self, signal: Signal) {
        for sender in &mut self.each {
            sender.signal(signal);
        }
    }

    #[inline]
    pub(super) fn tick(&mut self, cx: &StepCx) -> bool {
        if self.changed || self.edge.version() != self.seen {
            self.adopt(cx);
        }
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

    pub(super) fn report(&mut self) {
        let mut sum =
            EdgeCells { unroutable: self.unroutable, offered: self.unroutable, ..EdgeCells::default() };
        for sender in &mut self.each {
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
    /// What is published at once to one instance, the next to another that has room: a step's items, or those that came first in it and the rest.
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
    /// Ends a chain in `senders`.
    pub fn new(senders: Senders<T>, spread: Spread) -> Self {
        Self { senders, spread, at: 0, used: false }
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

    #[inline(always)]
    fn run_one(&mut self, item: T, _cx: &StepCx) {
        self.used = true;
        self.senders.each[self.at].send(item);
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

    #[inline]
    fn takes_signal(&mut self) -> bool {
        self.senders.takes_signal()
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
    fn tick(&mut self, cx: &StepCx) -> bool {
        self.senders.tick(cx)
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
