//! Events in memory, and the source that replays them.

use std::iter;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use corelane::flow::{PipelineBuilder, Segment, Stream};
use corelane::model::{Timed, Timestamp};
use corelane::policy::{Parallelism, Watermarks};
use corelane::stage::{Chain, Emitter, Produced, Source, StageError, StageSite};
use nexmark::EventGenerator;
use nexmark::config::NexmarkConfig;

use super::event::{BASE_MILLIS, Bid, Event};

/// Events that an instance of the source takes at a time. Memory is read ahead within a block: of short ones two cores read it little faster
/// than one. Of longer ones event time in one would be too far ahead of that in the other; of these it is 1.6 seconds.
const BLOCK: usize = 16 * 1_024;
/// Watermarks stand at whole seconds: at 10 000 events a second one with every batch would say ten times as much as any window asks for.
const WATERMARKS: Duration = Duration::from_secs(1);

/// What to generate.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// How many events.
    pub events: usize,
    /// How many happen in a second of event time.
    pub per_second: usize,
    /// Events come out of order within groups of this many; 1 is in order.
    pub group: usize,
    /// Whether bids have texts, which take most of the memory.
    pub texts: bool,
}

impl Default for Settings {
    /// A million events in order, 10 000 a second, without texts of bids.
    fn default() -> Self {
        Self { events: 1_000_000, per_second: 10_000, group: 1, texts: false }
    }
}

impl Settings {
    /// What makes the events, one after the other.
    pub(super) fn generator(self) -> EventGenerator {
        EventGenerator::new(NexmarkConfig {
            base_time: BASE_MILLIS,
            first_rate: self.per_second,
            next_rate: self.per_second,
            out_of_order_group_size: self.group,
            ..NexmarkConfig::default()
        })
    }
}

/// Events in memory, which any number of sources may read.
#[derive(Clone, Copy, Debug)]
pub struct Feed {
    /// All of them, in the order in which they come.
    pub events: &'static [Event],
    /// How far an event comes behind a later one at most.
    pub disorder: Duration,
    /// After how many events it is the next instance's turn; without turns each takes the next block when it has none.
    turns: Option<usize>,
    watermarks: Duration,
    due: Option<Due>,
}

/// When each event is sent in an open loop.
#[derive(Clone, Copy, Debug)]
struct Due {
    first: Instant,
    period: Duration,
}

impl Due {
    /// How many events are due at `now`.
    fn by(self, now: Instant) -> usize {
        let Some(since) = now.checked_duration_since(self.first) else { return 0 };
        (since.as_nanos() / self.period.as_nanos()) as usize + 1
    }
}

impl Feed {
    /// Generates events; the same for the same settings. They stay in memory until the process ends.
    ///
    /// # Panics
    /// If `per_second` or `group` is 0.
    pub fn generate(settings: Settings) -> Self {
        let event = |event| match event {
            nexmark::event::Event::Bid(bid) if !settings.texts => Event::Bid(Bid::of(bid, |_| None)),
            event => event.into(),
        };
        Self::of(settings.generator().take(settings.events).map(event).collect())
    }

    /// These events.
    pub fn of(events: Vec<Event>) -> Self {
        let (mut latest, mut disorder) = (Timestamp::MIN, Duration::ZERO);
        for event in &events {
            latest = latest.max(event.timestamp());
            disorder = disorder.max(latest.saturating_since(event.timestamp()));
        }
        Self { events: Vec::leak(events), disorder, turns: None, watermarks: WATERMARKS, due: None }
    }

    /// Instances of the source take turns after `events` events, and each says with every batch how far time has come: for tests with
    /// few events.
    ///
    /// # Panics
    /// If `events` is 0.
    #[must_use]
    pub fn in_blocks_of(mut self, events: usize) -> Self {
        assert!(events > 0, "a block has at least one event");
        (self.turns, self.watermarks) = (Some(events), Duration::ZERO);
        self
    }

    /// Watermarks stand at whole multiples of `span`, in event time.
    #[must_use]
    pub fn watermarks_every(mut self, span: Duration) -> Self {
        self.watermarks = span;
        self
    }

    /// An open loop: the first event is due at `first` and one more each `period`, whatever has become of those before it, and none is
    /// sent earlier. Instances of the source take turns after every event.
    ///
    /// # Panics
    /// If `period` is zero.
    #[must_use]
    pub fn due(mut self, first: Instant, period: Duration) -> Self {
        assert!(period > Duration::ZERO, "events are due one after the other");
        (self.turns, self.due) = (Some(1), Some(Due { first, period }));
        self
    }
}

/// The source of queries that ask nothing of event time: all events, read on every core that the core map gives it. Only in an open loop, where
/// moments are waited for, does it say how far time has come.
pub fn events(p: &PipelineBuilder, feed: Feed) -> Stream<impl Segment<Item = Event> + use<>> {
    replay(p, feed, feed.due.map(|_| Progress::of(feed)))
}

/// The source of the other queries: all events with their watermarks.
pub fn timed_events(p: &PipelineBuilder, feed: Feed) -> Stream<impl Segment<Item = Event> + use<>> {
    let strategy = Watermarks::bounded(feed.disorder).every(feed.watermarks);
    replay(p, feed, None).watermarks("time", strategy, Event::timestamp)
}

fn replay(
    p: &PipelineBuilder,
    feed: Feed,
    progress: Option<Progress>,
) -> Stream<impl Segment<Item = Event> + use<>> {
    let untaken = Untaken::of(feed);
    p.source("events", move |site: &StageSite| Ok(Replay::new(feed, untaken, progress, site)))
        .parallel(Parallelism::CpuBound)
}

/// How far event time has come in a source.
#[derive(Clone, Copy, Debug)]
struct Progress {
    latest: Timestamp,
    /// What was said last, in whole spans.
    said: i64,
    disorder: Duration,
    span_nanos: i64,
}

impl Progress {
    fn of(feed: Feed) -> Self {
        let span_nanos = i64::try_from(feed.watermarks.as_nanos()).unwrap_or(i64::MAX).max(1);
        Self { latest: Timestamp::MIN, said: i64::MIN, disorder: feed.disorder, span_nanos }
    }

    fn see(&mut self, events: &[Event]) {
        self.latest = events.iter().map(Event::timestamp).fold(self.latest, Timestamp::max);
    }

    /// Says it, once in a span, when there is room for that.
    fn tell<C: Chain<Event>>(&mut self, out: &mut Emitter<'_, Event, C>) {
        let time = self.latest.saturating_sub(self.disorder);
        let spans = time.as_nanos().div_euclid(self.span_nanos);
        if spans > self.said && self.latest > Timestamp::MIN && out.watermark(time) {
            self.said = spans;
        }
    }
}

/// The blocks of a feed, each given to whoever asks for it first: a core that another process slows down takes fewer. The readers share one
/// word of memory, which they write to once in a block.
#[derive(Clone, Debug)]
pub struct Untaken {
    first: Arc<AtomicUsize>,
    events: usize,
}

impl Untaken {
    /// All blocks of `feed`.
    pub fn of(feed: Feed) -> Self {
        Self { first: Arc::default(), events: feed.events.len() }
    }
}

impl Iterator for Untaken {
    type Item = Range<usize>;

    fn next(&mut self) -> Option<Range<usize>> {
        // Relaxed: the events were there before any reader.
        let first = self.first.fetch_add(BLOCK, Ordering::Relaxed);
        (first < self.events).then(|| first..(first + BLOCK).min(self.events))
    }
}

/// Emits the blocks of a feed that fall to its instance: so event time moves on evenly in all instances.
struct Replay {
    feed: Feed,
    /// Those to come; asked once in a block.
    blocks: Box<dyn Iterator<Item = Range<usize>>>,
    /// What is yet to be emitted of the present one; at the end of the feed, and empty, when there is no further one.
    block: Range<usize>,
    progress: Option<Progress>,
}

impl Replay {
    fn new(feed: Feed, untaken: Untaken, progress: Option<Progress>, site: &StageSite) -> Self {
        let (instance, instances) = (site.context.instance, site.context.parallelism.max(1));
        let events = feed.events.len();
        let blocks: Box<dyn Iterator<Item = _>> = match feed.turns {
            // Blocks are for several; the only one reads on and on.
            _ if instances == 1 => Box::new(iter::once(0..events)),
            Some(block) => {
                let firsts = (instance * block..events).step_by(instances * block);
                Box::new(firsts.map(move |first| first..(first + block).min(events)))
            }
            None => Box::new(untaken),
        };
        let mut replay = Self { feed, blocks, block: 0..0, progress };
        replay.take_block();
        replay
    }

    fn take_block(&mut self) {
        let end = self.feed.events.len();
        self.block = self.blocks.next().unwrap_or(end..end);
    }
}

impl Source for Replay {
    type Item = Event;

    #[inline]
    fn produce<C: Chain<Event>>(&mut self, out: &mut Emitter<'_, Event, C>) -> Result<Produced, StageError> {
        let all = self.feed.events;
        let due = self.feed.due.map_or(all.len(), |due| due.by(Instant::now()).min(all.len()));
        while out.room() > 0 && self.block.start < due {
            let events = &all[self.block.start..self.block.end.min(due)];
            let emitted = out.emit_slice(events);
            if let Some(progress) = &mut self.progress {
                progress.see(&events[..emitted]);
            }
            self.block.start += emitted;
            if self.block.is_empty() {
                self.take_block();
            } else if emitted == 0 {
                break;
            }
        }
        if let Some(progress) = &mut self.progress {
            progress.tell(out);
        }
        Ok(match self.block.start {
            next if next == all.len() => Produced::End,
            next if next >= due => Produced::Idle,
            _ => Produced::More,
        })
    }

    fn is_exhausted(&self) -> bool {
        self.block.start == self.feed.events.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_block_is_taken_once_by_whoever_asks_first() {
        let feed = Feed::generate(Settings { events: 3 * BLOCK + 5, ..Settings::default() });
        let mut one = Untaken::of(feed);
        let mut other = one.clone();
        let taken = [one.next(), one.next(), other.next(), one.next(), other.next(), one.next()];
        let blocks = [0..BLOCK, BLOCK..2 * BLOCK, 2 * BLOCK..3 * BLOCK, 3 * BLOCK..3 * BLOCK + 5].map(Some);
        assert_eq!(taken[..4], blocks);
        assert_eq!(taken[4..], [None, None]);
        assert_eq!(Untaken::of(Feed::of(Vec::new())).next(), None);
    }
}
