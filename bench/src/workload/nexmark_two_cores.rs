//! Programs written by hand for both cores, for some queries of nexmark: how much of a mark two cores of this machine leave room for.

use core_affinity::CoreId;
use rtrb::{Consumer, Producer, RingBuffer};

use super::keyed::hand::owner;
use super::keyed::hasher;
use super::nexmark::hand::{self, Sales};
use crate::case::Measured;
use crate::nexmark::{Event, Feed, Untaken};
use crate::pin::{self, Gate, Span};

/// Events that each ring holds.
const SLOTS: usize = 4_096;

/// A program over all events, on the first two of these cores.
type Program = Box<dyn Fn(Feed, &[CoreId]) -> Measured + Send>;

/// The program for the query called `query`, if there is one, and what it is called.
pub fn program(query: &str) -> Option<(&'static str, Program)> {
    let halves = |query| {
        let program = hand::program(query)?;
        let run: Program = Box::new(move |feed, cores| in_halves(feed.events, cores, program));
        Some(("hand-halves", run))
    };
    match query {
        "q1" | "q2" => halves(query),
        "q3" => Some(("hand-exchange", Box::new(q3))),
        _ => None,
    }
}

/// `program`, which looks at each event by itself, over the first half of the events on one core and the second on the other: as fast as two
/// cores read this memory.
fn in_halves(events: &[Event], cores: &[CoreId], program: fn(&[Event]) -> u64) -> Measured {
    let (first, second) = events.split_at(events.len() / 2);
    let half = |part| {
        move |gate: &Gate| {
            let start = gate.wait();
            let checksum = program(part);
            (Span::since(start), checksum)
        }
    };
    of_both(events, pin::on_two(cores, half(first), half(second)))
}

fn of_both(events: &[Event], (first, second): ((Span, u64), (Span, u64))) -> Measured {
    Measured {
        items: events.len() as u64,
        elapsed: first.0.union(second.0),
        checksum: first.1.wrapping_add(second.1),
    }
}

/// Query 3: each core reads the blocks that it gets, and has half of the sellers.
fn q3(feed: Feed, cores: &[CoreId]) -> Measured {
    let ((there, arriving), (back, returning)) = (RingBuffer::new(SLOTS), RingBuffer::new(SLOTS));
    let untaken = Untaken::of(feed);
    let first = Joining { me: 0, feed, out: there, inward: returning };
    let second = Joining { me: 1, feed, out: back, inward: arriving };
    let blocks = untaken.clone();
    let both = pin::on_two(cores, |gate| first.run(blocks, gate), |gate| second.run(untaken, gate));
    of_both(feed.events, both)
}

struct Joining {
    me: usize,
    feed: Feed,
    out: Producer<Event>,
    inward: Consumer<Event>,
}

impl Joining {
    fn run(mut self, blocks: Untaken, gate: &Gate) -> (Span, u64) {
        let (mut sales, mut theirs, hasher) = (Sales::new(), Vec::new(), hasher());
        let start = gate.wait();
        for block in blocks {
            for event in &self.feed.events[block] {
                let Some(seller) = Sales::seller(event) else { continue };
                if owner(&hasher, seller) == self.me {
                    sales.take(event);
                } else {
                    theirs.push(*event);
                }
            }
            self.send(&theirs, &mut sales);
            theirs.clear();
            receive(&mut self.inward, &mut sales);
        }
        drop(self.out);
        // Abandoned first, empty second: what was pushed before the other end went away is still seen.
        while !self.inward.is_abandoned() {
            receive(&mut self.inward, &mut sales);
        }
        receive(&mut self.inward, &mut sales);
        (Span::since(start), sales.sum)
    }

    fn send(&mut self, mut events: &[Event], sales: &mut Sales) {
        loop {
            (_, events) = self.out.push_partial_slice(events);
            if events.is_empty() {
                return;
            }
            receive(&mut self.inward, sales);
        }
    }
}

fn receive(ring: &mut Consumer<Event>, sales: &mut Sales) {
    let Ok(chunk) = ring.read_chunk(ring.slots()) else { return };
    let (first, second) = chunk.as_slices();
    first.iter().chain(second).for_each(|event| sales.take(event));
    chunk.commit_all();
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
        assert_eq!(queries, 3);
    }
}
