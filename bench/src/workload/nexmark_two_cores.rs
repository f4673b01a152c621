//! Programs written by hand for both cores, for some queries of nexmark: how much of a mark two cores of this machine leave room for.

use std::collections::VecDeque;

use core_affinity::CoreId;
use corelane::model::{Timed, Timestamp};

use super::ends::Ends;
use super::keyed::hand::owner;
use super::keyed::hasher;
use super::nexmark::hand::{self, NewSellers, Sales, Spans};
use crate::case::Measured;
use crate::nexmark::{Event, Feed, Untaken, q7, q8};
use crate::pin::{self, Gate, Span};

/// Events that each ring holds.
const SLOTS: usize = 4_096;

/// A program over all events, on the first two of these cores.
type Program = Box<dyn Fn(Feed, &[CoreId]) -> Measured + Send>;

/// The program for the query called `query`, if there is one, and what it is called.
pub fn program(query: &str) -> Option<(&'static str, Program)> {
    let halves = |split: fn(&[Event]) -> usize| {
        let program = hand::program(query)?;
        let run: Program = Box::new(move |Feed { events, .. }, cores| {
            in_halves(events.split_at(split(events)), cores, program)
        });
        Some(("hand-halves", run))
    };
    match query {
        "q1" | "q2" => halves(|events| events.len() / 2),
        "q7" => halves(|events| window_of_middle(events, q7::SIZE.as_nanos() as i64)),
        "q3" => Some(("hand-exchange", Box::new(|feed, cores| exchanged(feed, cores, Sales::new)))),
        "q8" => Some((
            "hand-exchange",
            Box::new(|feed, cores| exchanged(feed, cores, || Windows::new(feed.events))),
        )),
        _ => None,
    }
}

/// Where the window of `nanos` begins that has the middle one of `events`: none is then on both sides.
fn window_of_middle(events: &[Event], nanos: i64) -> usize {
    let middle = events.get(events.len() / 2).map_or(0, |event| event.timestamp().as_nanos());
    events.partition_point(|event| event.timestamp().as_nanos() < middle - middle.rem_euclid(nanos))
}

/// `program`, whose rows are those of the one half of the events and of the other, over one on each core: as fast as two cores read this memory.
fn in_halves(
    (first, second): (&[Event], &[Event]),
    cores: &[CoreId],
    program: fn(&[Event]) -> u64,
) -> Measured {
    let half = |part| {
        move |gate: &Gate| {
            let start = gate.wait();
            let checksum = program(part);
            (Span::since(start), checksum)
        }
    };
    of_both(first.len() + second.len(), pin::on_two(cores, half(first), half(second)))
}

fn of_both(events: usize, (first, second): ((Span, u64), (Span, u64))) -> Measured {
    Measured {
        items: events as u64,
        elapsed: first.0.union(second.0),
        checksum: first.1.wrapping_add(second.1),
    }
}

/// What a core keeps of the keys that are its own.
trait Keeping {
    /// By what an event is kept, if it is.
    fn key(event: &Event) -> Option<u64>;

    /// Takes an event that has a key and was read by core `from`: in the order it reads in.
    fn take(&mut self, from: usize, event: &Event);

    /// The checksum of all rows.
    fn finish(self) -> u64;
}

impl Keeping for Sales {
    #[inline]
    fn key(event: &Event) -> Option<u64> {
        Self::seller(event)
    }

    #[inline]
    fn take(&mut self, _from: usize, event: &Event) {
        self.take(event);
    }

    fn finish(self) -> u64 {
        self.sum
    }
}

/// What query 8 keeps: of the first window that one of the cores may still read events of, and of those behind it.
struct Windows {
    /// The first.
    span: Spans,
    open: VecDeque<NewSellers>,
    /// The time that each core has read up to.
    reached: [Timestamp; 2],
    sum: u64,
}

impl Windows {
    fn new(events: &[Event]) -> Self {
        let span = Spans::new(events, q8::SIZE.as_nanos() as i64);
        Self { span, open: VecDeque::new(), reached: [Timestamp(i64::MIN); 2], sum: 0 }
    }
}

impl Keeping for Windows {
    #[inline]
    fn key(event: &Event) -> Option<u64> {
        NewSellers::person(event)
    }

    #[inline]
    fn take(&mut self, from: usize, event: &Event) {
        let at = event.timestamp();
        self.reached[from] = at;
        while let Some(end) = self.span.over(self.reached[0].min(self.reached[1])) {
            if let Some(first) = self.open.front_mut() {
                first.close(end, &mut self.sum);
                // Its tables are those of a later one.
                self.open.rotate_left(1);
            }
        }
        let behind = at.as_nanos() - self.span.end;
        let window = if behind < 0 { 0 } else { 1 + (behind / self.span.nanos) as usize };
        while self.open.len() <= window {
            self.open.push_back(NewSellers::new());
        }
        self.open[window].take(event);
    }

    fn finish(mut self) -> u64 {
        let Spans { nanos, mut end } = self.span;
        for window in &mut self.open {
            window.close(end, &mut self.sum);
            end += nanos;
        }
        self.sum
    }
}

/// Each core reads the blocks that it gets, and has half of the keys.
fn exchanged<K: Keeping>(feed: Feed, cores: &[CoreId], kept: impl Fn() -> K + Sync) -> Measured {
    let [here, there] = Ends::of_two(SLOTS);
    let untaken = Untaken::of(feed);
    let first = Exchanging { me: 0, feed, ends: here };
    let second = Exchanging { me: 1, feed, ends: there };
    let blocks = untaken.clone();
    let both =
        pin::on_two(cores, |gate| first.run(blocks, kept(), gate), |gate| second.run(untaken, kept(), gate));
    of_both(feed.events.len(), both)
}

struct Exchanging {
    me: usize,
    feed: Feed,
    ends: Ends<Event>,
}

impl Exchanging {
    fn run<K: Keeping>(self, blocks: Untaken, mut kept: K, gate: &Gate) -> (Span, u64) {
        let Self { me, feed, mut ends } = self;
        let (other, mut theirs, hasher) = (1 - me, Vec::new(), hasher());
        let start = gate.wait();
        for block in blocks {
            for event in &feed.events[block] {
                let Some(key) = K::key(event) else { continue };
                if owner(&hasher, key) == me {
                    kept.take(me, event);
                } else {
                    theirs.push(*event);
                }
            }
            ends.send(&theirs, take_all(other, &mut kept));
            theirs.clear();
            ends.receive(take_all(other, &mut kept));
        }
        ends.end(take_all(other, &mut kept));
        let sum = kept.finish();
        (Span::since(start), sum)
    }
}

/// Takes events that core `from` has read.
fn take_all(from: usize, kept: &mut impl Keeping) -> impl FnMut(&[Event]) {
    move |events| events.iter().for_each(|event| kept.take(from, event))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nexmark::{QUERIES, Settings};

    #[test]
    fn two_cores_give_what_one_does() {
        let cores = pin::allowed();
        let cores = [cores[0], cores[cores.len() - 1]];
        let feed = Feed::generate(Settings { events: 50_001, per_second: 700, ..Settings::default() });
        let mut queries = 0;
        for query in QUERIES {
            if let Some((name, program)) = program(query) {
                let both = program(feed, &cores);
                let one = hand::program(query).unwrap()(feed.events);
                assert_eq!((both.checksum, both.items), (one, 50_001), "{query} by {name}");
                queries += 1;
            }
        }
        assert_eq!(queries, 5);
    }
}
