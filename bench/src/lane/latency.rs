//! Open-loop latency: a source that keeps to a schedule on one core, a running sum per key on the other.

use corelane::stage::{Chain, Emitter, Produced, Source, StageError};

use super::run;
use crate::case::{Latencies, Setup};
use crate::share::Watch;
use crate::workload::latency::hand::Receiver;
use crate::workload::latency::{Clock, Item, Schedule, latencies};

/// Emits every item at its intended time, as soon as its core looks at the clock.
pub(super) struct Scheduled {
    schedule: Schedule,
    clock: Clock,
    watch: Watch,
    next: u64,
    /// The item of that number, made beforehand as by hand.
    prepared: Item,
}

impl Scheduled {
    pub(super) fn new(schedule: Schedule, clock: Clock, watch: Watch) -> Self {
        Self { schedule, clock, watch, next: 0, prepared: schedule.item(0) }
    }
}

impl Source for Scheduled {
    type Item = Item;

    #[inline]
    fn produce<C: Chain<Item>>(&mut self, out: &mut Emitter<'_, Item, C>) -> Result<Produced, StageError> {
        if self.next == 0 {
            self.watch.begin();
        }
        let now = self.clock.ns();
        while self.next < self.schedule.items && out.room() > 0 {
            if self.prepared.intended_ns > now {
                return Ok(Produced::Idle);
            }
            out.emit(self.prepared);
            self.next += 1;
            self.prepared = self.schedule.item(self.next);
        }
        if self.next < self.schedule.items {
            return Ok(Produced::More);
        }
        self.watch.end();
        Ok(Produced::End)
    }
}

/// Runs `schedule`.
///
/// # Errors
/// What kept it from running.
pub fn scheduled(schedule: Schedule, setup: &Setup) -> Result<Latencies, String> {
    let (clock, watch) = (Clock::start(), Watch::default());
    let sender = watch.clone();
    let (_, receiver) = run(setup, "send={0};sum={1}", |p| {
        p.source("send", move |_| Ok(Scheduled::new(schedule, clock, sender.clone()))).fold(
            "sum",
            // In a box, because the fold hands it on by value for every item.
            Box::new(Receiver::new()),
            move |mut receiver, item| {
                receiver.take(item, clock);
                receiver
            },
        )
    })?;
    let receiver = receiver.take().pop().ok_or("the sum handed nothing over")?;
    Ok(latencies(receiver.histogram, receiver.checksum).watched(&watch))
}
