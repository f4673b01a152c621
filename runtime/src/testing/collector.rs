//! The far end of a stage test: keeps what comes out and watches the rules.

use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Fault;
use crate::model::{Signal, StageId};
use crate::observe::StageAccount;
use crate::stage::{Chain, StageError, StageSite, StepCx};

/// Steps between the end and the moment at which the collector says that it has finished: a stage that goes on after
/// the end is stepped long enough to show it.
const AFTERMATH: u32 = 4;

/// What came out of a stage.
pub(super) struct Log<T> {
    pub(super) items: Vec<T>,
    /// The first rule that was broken.
    pub(super) fault: Option<Fault>,
}

impl<T> Log<T> {
    pub(super) fn shared() -> Arc<Mutex<Self>> {
        Arc::new(Mutex::new(Self { items: Vec::new(), fault: None }))
    }
}

/// A sink with little room that checks everything a chain may ask of the one before it.
pub(super) struct Collector<T> {
    log: Arc<Mutex<Log<T>>>,
    site: StageSite,
    /// Room after a refill, and steps from one to the next.
    most: usize,
    refill: u32,
    room: usize,
    steps: u32,
    received: u64,
    /// Steps since the end.
    ended: Option<u32>,
}

impl<T> Collector<T> {
    pub(super) fn new(most: usize, refill: u32, log: Arc<Mutex<Log<T>>>, site: StageSite) -> Self {
        Self { log, site, most, refill, room: most, steps: 0, received: 0, ended: None }
    }

    fn log(&self) -> MutexGuard<'_, Log<T>> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_done(&self) -> bool {
        self.ended.is_some_and(|steps| steps >= AFTERMATH)
    }
}

impl<T: Debug + Send + 'static> Chain<T> for Collector<T> {
    fn run<I: Iterator<Item = T>>(&mut self, items: I, _cx: &StepCx) {
        for item in items {
            let ended = self.ended.is_some();
            let room = self.room;
            self.received += 1;
            self.room = room.saturating_sub(usize::from(self.most != usize::MAX));
            let mut log = self.log();
            if ended {
                log.fault.get_or_insert(Fault::AfterEnd { item: format!("{item:?}") });
            } else if room == 0 {
                let at = log.items.len();
                log.fault.get_or_insert(Fault::RoomIgnored { at });
            }
            log.items.push(item);
        }
    }

    fn room(&mut self) -> usize {
        if self.ended.is_some() { 0 } else { self.room }
    }

    fn signal(&mut self, signal: Signal, _cx: &StepCx) {
        if self.ended.is_some() {
            self.log().fault.get_or_insert(Fault::SignalAfterEnd(signal));
        } else if self.room == 0 {
            self.log().fault.get_or_insert(Fault::SignalWithoutRoom(signal));
        }
        if signal == Signal::End && self.ended.is_none() {
            self.ended = Some(0);
        }
    }

    fn tick(&mut self, _cx: &StepCx) -> bool {
        self.steps += 1;
        if self.steps.is_multiple_of(self.refill) {
            self.room = self.most;
        }
        if let Some(steps) = &mut self.ended {
            *steps += 1;
        }
        self.ended.is_some()
    }

    fn flush(&mut self, _cx: &StepCx) {}

    fn next_deadline(&self, _now: i64) -> Option<i64> {
        None
    }

    fn is_finished(&self) -> bool {
        self.is_done()
    }

    fn open(&mut self) -> Result<(), (StageId, StageError)> {
        self.site.open(|_| Ok(()))
    }

    fn report(&mut self, received: u64) {
        // `received` is what the stage says it gave; delivered is what came. The account compares the two.
        let account = StageAccount { received, delivered: self.received, ..StageAccount::default() };
        self.site.publish(&account, None, self.is_done());
    }

    fn close(&mut self, discard: bool) {
        self.site.closed(discard);
    }
}
