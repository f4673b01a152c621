//! Events made while a query runs, for as long as one likes: nothing is kept of them.

use std::time::Duration;

use corelane::flow::{PipelineBuilder, Segment, Stream};
use corelane::model::Timestamp;
use corelane::policy::{Parallelism, Watermarks};
use corelane::stage::{Chain, Emitter, Produced, Source, StageError, StageSite};
use nexmark::EventGenerator;

use super::event::{BASE_MILLIS, from_millis};
use super::feed::Settings;

/// How fast events are made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pace {
    /// As fast as they are taken.
    #[default]
    Free,
    /// When they happen: a second of event time takes a second.
    AsTheyHappen,
}

/// The bids among the events that [`Feed::generate`](super::Feed::generate) has for the same settings, each as its auction and its
/// time; texts are left out. Every core that the core map gives the source makes a share of them, and none is kept: there may be as
/// many as the numbers of `settings` allow.
pub fn live_bids(
    p: &PipelineBuilder,
    settings: Settings,
    pace: Pace,
) -> Stream<impl Segment<Item = (u64, Timestamp)> + use<>> {
    p.source("events", move |site: &StageSite| Ok(Live::new(settings, pace, site)))
        .parallel(Parallelism::CpuBound)
        .watermarks("time", Watermarks::bounded(settings.disorder()), |event: &Happening| event.at)
        .filter_map("bids", |event| event.auction.map(|auction| (auction, event.at)))
}

/// What is left of an event.
#[derive(Clone, Copy, Debug)]
struct Happening {
    at: Timestamp,
    /// Of a bid.
    auction: Option<u64>,
}

impl Happening {
    fn of(event: nexmark::event::Event) -> Self {
        let (millis, auction) = match event {
            nexmark::event::Event::Person(person) => (person.date_time, None),
            nexmark::event::Event::Auction(auction) => (auction.date_time, None),
            nexmark::event::Event::Bid(bid) => (bid.date_time, Some(bid.auction as u64)),
        };
        Self { at: from_millis(millis), auction }
    }
}

/// Makes every n-th event, so that event time moves on evenly in all instances.
struct Live {
    generator: EventGenerator,
    /// How many it is still to make.
    left: u64,
    pace: Pace,
    /// When it was first asked.
    started: Option<i64>,
}

impl Live {
    fn new(settings: Settings, pace: Pace, site: &StageSite) -> Self {
        let (instance, instances) = (site.context.instance as u64, site.context.parallelism.max(1) as u64);
        let generator = settings.generator().with_offset(instance).with_step(instances);
        let left = (settings.events as u64).saturating_sub(instance).div_ceil(instances);
        Self { generator, left, pace, started: None }
    }

    /// When the next event happens, on the clock of the step that asked first.
    fn due(&self) -> i64 {
        let nanos = from_millis(self.generator.timestamp() - BASE_MILLIS).as_nanos();
        self.started.unwrap_or_default().saturating_add(nanos)
    }

    fn is_held(&self, now: i64) -> bool {
        self.pace == Pace::AsTheyHappen && self.due() > now
    }

    /// What happens up to `now`, which must not go back.
    fn due_by(&mut self, now: i64) -> impl Iterator<Item = Happening> {
        self.started.get_or_insert(now);
        std::iter::from_fn(move || {
            if self.left == 0 || self.is_held(now) {
                return None;
            }
            self.left -= 1;
            self.generator.next().map(Happening::of)
        })
    }
}

impl Source for Live {
    type Item = Happening;

    fn produce<C: Chain<Happening>>(
        &mut self,
        out: &mut Emitter<'_, Happening, C>,
    ) -> Result<Produced, StageError> {
        let now = out.now().monotonic;
        out.emit_all(&mut self.due_by(now));
        Ok(match self.left {
            0 => Produced::End,
            _ if self.is_held(now) => Produced::Until(self.due()),
            _ => Produced::More,
        })
    }

    fn is_exhausted(&self) -> bool {
        self.left == 0
    }
}

impl Settings {
    /// How far an event may come behind a later one: most of a group, to the next millisecond.
    fn disorder(self) -> Duration {
        let millis = ((self.group - 1) * 1_000).div_ceil(self.per_second);
        Duration::from_millis(millis as u64 + u64::from(self.group > 1))
    }
}
