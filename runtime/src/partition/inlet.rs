//! The consuming end of one or several edges.

mod merge;

use std::collections::VecDeque;
use std::sync::Arc;

pub use merge::MergePolicy;

use super::edge::{EdgeCells, EdgeControl, Grant, InletCells, Lane, Window};
use crate::model::Signal;
use crate::policy::{DropPolicy, MemoryLocality};
use crate::ring::Consumer;
use crate::stage::{Chain, StepCx, Valve};
use crate::sync::{BindError, HomeNode};

/// One ring that an inlet reads, and the edge it belongs to.
pub struct InletRing<T> {
    /// The reading end.
    pub ring: Consumer<T>,
    /// Where its counters are published.
    pub cells: Arc<InletCells>,
    /// The edge, shared by all of its rings.
    pub edge: Arc<EdgeControl>,
}

struct Input<T> {
    ring: Consumer<T>,
    cells: Arc<InletCells>,
    /// Which of the inlet's edges it belongs to.
    lane: usize,
    grant: Grant,
    left: u64,
    /// Read up to a barrier that other inputs have not come to.
    at_barrier: bool,
}

impl<T> Input<T> {
    /// Items that the producer has published, those evicted not counted.
    fn published(&self) -> u64 {
        self.ring.popped() + self.ring.len() as u64
    }
}

/// Reads one or several rings as one stream.
///
/// Watermarks are combined as the minimum over inputs that are neither idle nor ended, nor back from idleness and behind;
/// the end of the last input is the end of the stream. A barrier is handed on when all inputs have come to it or have ended; until then
/// those that have are not read on.
pub struct Inlet<T> {
    inputs: Vec<Input<T>>,
    /// One for each edge.
    lanes: Vec<Lane>,
    /// Whether any edge has a window or a pace, or did since the last change.
    steered: bool,
    policy: MergePolicy<T>,
    at: usize,
    valve: Valve,
    /// The barrier that some inputs have come to.
    barrier: Option<u64>,
    batch: Vec<T>,
    /// Signals due, waiting for room downstream.
    due: VecDeque<Signal>,
}

impl<T: Send + 'static> Inlet<T> {
    /// Reads `rings`. What their edges' policies grant to producers is granted from here on.
    pub fn new(rings: Vec<InletRing<T>>, policy: MergePolicy<T>) -> Self {
        let mut lanes: Vec<Lane> = Vec::new();
        let mut inputs = Vec::with_capacity(rings.len());
        for InletRing { ring, cells, edge } in rings {
            let known = lanes.iter().position(|lane| Arc::ptr_eq(&lane.control, &edge));
            let lane = known.unwrap_or(lanes.len());
            if known.is_none() {
                lanes.push(Lane::new(edge));
            }
            inputs.push(Input { ring, cells, lane, grant: Grant::UNBOUND, left: 0, at_barrier: false });
        }
        let mut inlet = Self {
            valve: Valve::new(inputs.len()),
            inputs,
            lanes,
            steered: false,
            policy,
            at: 0,
            barrier: None,
            batch: Vec::new(),
            due: VecDeque::new(),
        };
        (0..inlet.lanes.len()).for_each(|lane| inlet.grant_first(lane));
        inlet
    }

    /// Grants to each producer on an edge what its window says at first.
    fn grant_first(&mut self, lane: usize) {
        let window = self.lanes[lane].window;
        let evicts = self.lanes[lane].control.policy().drop_policy == DropPolicy::DropOldest;
        for input in self.inputs.iter_mut().filter(|input| input.lane == lane) {
            if evicts {
                input.ring.allow_evictions();
            }
            input.grant = window.first(input.ring.popped(), input.published());
            input.ring.grant(input.grant.upto);
        }
        self.steered = self.lanes.iter().any(|lane| lane.is_paced() || lane.window != Window::Slots);
    }

    /// To be called before the first [`pump`](Self::pump) of a step, with the step's budget in items.
    #[inline]
    pub fn begin(&mut self, budget: usize, cx: &StepCx) {
        if self.lanes.iter().any(Lane::is_outdated) {
            self.adopt(cx);
        }
        if self.steered {
            self.pace(budget, cx);
        }
    }

    #[cold]
    fn adopt(&mut self, cx: &StepCx) {
        for index in 0..self.lanes.len() {
            if self.lanes[index].is_outdated() {
                self.lanes[index].control.report_failure(cx);
                self.lanes[index].adopt();
                self.grant_first(index);
            }
        }
    }

    fn pace(&mut self, budget: usize, cx: &StepCx) {
        for (index, lane) in self.lanes.iter_mut().enumerate().filter(|(_, lane)| lane.is_paced()) {
            let (mut available, mut depth) = (0usize, 0usize);
            for input in self.inputs.iter_mut().filter(|input| input.lane == index) {
                available = available.saturating_add(input.ring.available());
                depth = depth.saturating_add(input.ring.len());
            }
            lane.begin(available.min(budget), depth, cx.now().monotonic);
        }
    }

    /// To be called when everything pumped in this step has been flushed: grants producers what they may push next, as far
    /// as what follows has `room`, which is asked for only where it matters. True if anything was granted.
    #[inline]
    pub fn finish(&mut self, room: impl FnOnce() -> usize) -> bool {
        self.steered && self.replenish(room() as u64)
    }

    fn replenish(&mut self, room: u64) -> bool {
        self.lanes.iter_mut().for_each(Lane::finish);
        let mut granted = false;
        for input in &mut self.inputs {
            let lane = &self.lanes[input.lane];
            // As far as known: a look at the producer's position in each step would cost more than credits given back late, while
            // there are items to take.
            let taken = input.ring.popped();
            let published = taken + input.ring.known() as u64;
            if lane.window.more(&mut input.grant, taken, published, room, lane.demand()) {
                input.ring.grant(input.grant.upto);
                granted = true;
            }
        }
        granted
    }

    /// The earliest time at which more may be taken than now.
    pub fn next_deadline(&self, now: i64) -> Option<i64> {
        self.lanes.iter().filter_map(Lane::due).filter(|due| *due > now).min()
    }

    /// Puts all slots where they are to lie, and touches them; on the core of `partition`, which will read them. Where no home is known
    /// they are only touched.
    ///
    /// # Errors
    /// Some do not lie where they strictly must.
    pub fn settle(&mut self, partition: usize, home: Option<HomeNode>) -> Result<(), BindError> {
        for Input { ring, cells, .. } in &mut self.inputs {
            match home {
                Some(home) => cells.set_pages(partition, ring.settle(home)?),
                None => ring.pretouch(),
            }
        }
        Ok(())
    }

    /// Whether every input has ended and been read.
    #[inline]
    pub fn is_ended(&self) -> bool {
        self.due.is_empty() && self.valve.all_ended()
    }

    /// Items taken since the start.
    pub fn popped(&self) -> u64 {
        self.inputs.iter().map(|i| i.ring.popped()).sum()
    }

    /// Items taken or passed over since the start.
    #[inline]
    pub(super) fn taken(&self) -> u64 {
        self.inputs.iter().map(|i| i.ring.position()).sum()
    }

    /// Items in the rings now.
    pub(super) fn depth(&self) -> u64 {
        self.inputs.iter().map(|i| i.ring.len() as u64).sum()
    }

    /// Moves up to `budget` items into `chain`, and the signals that stand between them. The number of items and
    /// signals moved; 0 may mean no input or no room.
    #[inline]
    pub fn pump<C: Chain<T>>(&mut self, chain: &mut C, budget: usize, cx: &StepCx) -> usize {
        if !self.due.is_empty() && !self.deliver(chain, cx) {
            return 0;
        }
        match self.policy {
            MergePolicy::Fair => self.pump_fair(chain, budget, cx),
            MergePolicy::Priority => self.pump_priority(chain, budget, cx),
            MergePolicy::Turns => self.pump_turns(chain, budget, cx),
            MergePolicy::ByTime(_) => self.pump_by_time(chain, budget, cx),
        }
    }

    /// As [`pump`](Self::pump), before [`begin`](Self::begin), where that has nothing to do and there is one input: the short way to the stage.
    #[inline]
    pub fn take_at_once<C: Chain<T>>(&mut self, chain: &mut C, budget: usize, cx: &StepCx) -> usize {
        let ([input], [lane]) = (&self.inputs[..], &self.lanes[..]) else { return 0 };
        if self.steered || lane.is_outdated() || !self.due.is_empty() {
            return 0;
        }
        // The item is on its way while what leads to it is done.
        input.ring.prefetch();
        self.take(0, chain, budget, cx)
    }

    /// Hands due signals on. True if none is left.
    fn deliver<C: Chain<T>>(&mut self, chain: &mut C, cx: &StepCx) -> bool {
        while let Some(&signal) = self.due.front() {
            if !chain.takes_signal() {
                return false;
            }
            self.due.pop_front();
            chain.signal(signal, cx);
        }
        true
    }

    /// Takes from input `i`: one run of items, then the signals that follow it. To be called until there is nothing.
    #[inline]
    fn take<C: Chain<T>>(&mut self, i: usize, chain: &mut C, budget: usize, cx: &StepCx) -> usize {
        let room = chain.room().min(budget);
        if room == 0 {
            return if budget > 0 && chain.takes_signal() { self.take_signals(i, chain, cx) } else { 0 };
        }
        let input = &mut self.inputs[i];
        if input.at_barrier {
            return 0;
        }
        let lane = &mut self.lanes[input.lane];
        // What is behind the wrap is for the next call: in a loop over both runs the way to the first item would be longer.
        let mut items = input.ring.read_run(room.min(lane.left));
        let there = items.len();
        if there > 0 {
            chain.run(items.run(), cx);
        }
        let taken = there - items.len();
        drop(items);
        if taken > 0 {
            lane.took(taken);
            self.valve.active(i);
        }
        taken + self.take_signals(i, chain, cx)
    }

    #[inline]
    fn take_signals<C: Chain<T>>(&mut self, i: usize, chain: &mut C, cx: &StepCx) -> usize {
        let mut n = 0;
        while self.due.is_empty()
            && !self.inputs[i].at_barrier
            && let Some(signal) = self.inputs[i].ring.next_signal()
        {
            n += 1;
            self.handle(i, signal);
            self.deliver(chain, cx);
            if signal == Signal::Turn {
                break;
            }
        }
        n
    }

    #[cold]
    fn handle(&mut self, i: usize, signal: Signal) {
        match signal {
            Signal::Watermark(time) => self.due.extend(self.valve.watermark(i, time).into_iter().flatten()),
            Signal::Idle => self.due.extend(self.valve.idle(i).into_iter().flatten()),
            Signal::End => {
                self.due.extend(self.valve.end(i).into_iter().flatten());
                self.align();
                if matches!(self.policy, MergePolicy::Turns) && self.at == i {
                    self.next_turn();
                }
            }
            Signal::Turn if matches!(self.policy, MergePolicy::Turns) => self.next_turn(),
            // One input: a turn of an order that is restored further down.
            Signal::Turn if self.inputs.len() == 1 => self.due.push_back(signal),
            Signal::Barrier(barrier) => {
                self.inputs[i].at_barrier = true;
                self.barrier = Some(barrier);
                self.align();
            }
            Signal::Turn => {}
        }
    }

    /// Hands a barrier on once every input has come to it or has ended.
    fn align(&mut self) {
        let Some(barrier) = self.barrier else { return };
        let come = |(i, input): (usize, &Input<T>)| input.at_barrier || self.valve.has_ended(i);
        if self.inputs.iter().enumerate().all(come) || cfg!(feature = "bug_barrier_not_awaited") {
            self.barrier = None;
            self.inputs.iter_mut().for_each(|input| input.at_barrier = false);
            self.due.push_back(Signal::Barrier(barrier));
        }
    }

    /// Whether anything could be read.
    pub fn has_input(&mut self) -> bool {
        !self.due.is_empty() || self.inputs.iter_mut().any(|i| !i.ring.is_empty())
    }

    /// Nothing was there, and the next look comes at once.
    #[inline]
    pub fn fetch_next(&self) {
        self.inputs.iter().for_each(|input| input.ring.prefetch());
    }

    /// Publishes counters.
    pub fn report(&self) {
        for input in &self.inputs {
            input.cells.publish(&self.cells(input, input.ring.popped(), input.ring.len() as u64));
        }
    }

    fn cells(&self, input: &Input<T>, popped: u64, depth: u64) -> EdgeCells {
        let lane = &self.lanes[input.lane];
        let outstanding = input.grant.outstanding(input.published());
        let (credits, demand) = match lane.window {
            Window::Credits { .. } => (outstanding, 0),
            Window::Pull(_) => (0, outstanding),
            Window::Slots | Window::Items(_) | Window::Stated(_) => (0, 0),
        };
        EdgeCells {
            popped,
            left: input.left,
            depth,
            credits,
            demand,
            batch: lane.batch().map_or(0, |size| size as u64),
            ..EdgeCells::default()
        }
    }

    /// Counts and drops what is left in the rings, after both ends have stopped.
    pub fn close(&mut self) {
        for i in 0..self.inputs.len() {
            let input = &mut self.inputs[i];
            let before = input.ring.popped();
            loop {
                let items = input.ring.read(usize::MAX);
                if items.len() > 0 {
                    items.for_each(drop);
                } else {
                    drop(items);
                    if input.ring.next_signal().is_none() {
                        break;
                    }
                }
            }
            input.left = input.ring.popped() - before;
            let input = &self.inputs[i];
            input.cells.publish(&self.cells(input, before, 0));
            if let Some((_, pages)) = input.cells.pages()
                && pages.home().locality != MemoryLocality::Any
            {
                // The last chance to see where it lay; whoever asks then is told.
                let _ = pages.look();
            }
        }
    }
}
