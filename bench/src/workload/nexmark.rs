//! nexmark: queries over events in memory. The hand-written programs are single-threaded loops, also beside two cores; those for two are in
//! [`nexmark_two_cores`](super::nexmark_two_cores).

use crate::case::{Case, Setup};
use crate::lane;
use crate::nexmark::{self, Feed, QUERIES, Settings};
use crate::pin;
use crate::workload::nexmark_two_cores as two_cores;

/// Events of a full run: 1 000 s of event time.
const EVENTS: u64 = 10_000_000;
/// The same for queries that read texts or keep all bids, which take ten times the memory.
const LARGE_EVENTS: u64 = 1_000_000;

/// What to run.
#[derive(Clone, Debug, Default)]
pub struct Choice {
    /// Queries by name, in order; those with a hand-written program if none is named.
    pub queries: Vec<String>,
    /// How many events; as many as the query bears if not given.
    pub events: Option<u64>,
}

/// The programs written by hand: one loop over the events for each query, with what a careful programmer would keep.
pub mod hand {
    use std::hash::Hash;

    use ahash::RandomState;
    use corelane::model::{Timed, Timestamp};
    use corelane_stages::window::Window;
    use hashbrown::{HashMap, HashSet};

    use crate::nexmark::{Auction, Bid, Event, Person, checksum, q3, q5, q7, q8};
    use crate::workload::keyed::hasher;

    type Map<K, V> = HashMap<K, V, RandomState>;

    /// The program for the query called `name`, if there is one.
    pub fn program(name: &str) -> Option<fn(&[Event]) -> u64> {
        Some(match name {
            "q1" => q1,
            "q2" => q2,
            "q3" => q3,
            "q5" => q5,
            "q7" => q7,
            "q8" => q8,
            _ => return None,
        })
    }

    #[inline]
    fn add<T: Hash>(sum: &mut u64, row: &T) {
        *sum = sum.wrapping_add(checksum(row));
    }

    fn q1(events: &[Event]) -> u64 {
        let mut sum = 0;
        for event in events {
            if let Event::Bid(bid) = event {
                add(&mut sum, &Bid { price: bid.price * 908, ..*bid });
            }
        }
        sum
    }

    fn q2(events: &[Event]) -> u64 {
        let mut sum = 0;
        for event in events {
            if let Event::Bid(bid) = event
                && bid.auction % 123 == 0
            {
                add(&mut sum, &(bid.auction, bid.price));
            }
        }
        sum
    }

    /// What query 3 keeps.
    pub(in crate::workload) struct Sales {
        people: Map<u64, Person>,
        auctions: Map<u64, Vec<Auction>>,
        /// Of the rows so far.
        pub(in crate::workload) sum: u64,
    }

    impl Sales {
        pub(in crate::workload) fn new() -> Self {
            Self { people: Map::with_hasher(hasher()), auctions: Map::with_hasher(hasher()), sum: 0 }
        }

        /// The seller that the query looks for an event by, if it does.
        #[inline]
        pub(in crate::workload) fn seller(event: &Event) -> Option<u64> {
            match event {
                Event::Person(person) if q3::is_near(person) => Some(person.id),
                Event::Auction(auction) if auction.category == 10 => Some(auction.seller),
                _ => None,
            }
        }

        /// Takes an event that has a seller.
        #[inline]
        pub(in crate::workload) fn take(&mut self, event: &Event) {
            match event {
                Event::Person(person) => {
                    let waiting = self.auctions.get(&person.id).into_iter().flatten();
                    waiting.for_each(|auction| add(&mut self.sum, &q3::row(auction, person)));
                    self.people.insert(person.id, *person);
                }
                Event::Auction(auction) => {
                    if let Some(person) = self.people.get(&auction.seller) {
                        add(&mut self.sum, &q3::row(auction, person));
                    }
                    self.auctions.entry(auction.seller).or_default().push(*auction);
                }
                Event::Bid(_) => {}
            }
        }
    }

    fn q3(events: &[Event]) -> u64 {
        let mut sales = Sales::new();
        events.iter().filter(|event| Sales::seller(event).is_some()).for_each(|event| sales.take(event));
        sales.sum
    }

    /// Windows that end where a span of `nanos` does.
    pub(in crate::workload) struct Spans {
        pub(in crate::workload) nanos: i64,
        /// Of the present one.
        pub(in crate::workload) end: i64,
    }

    impl Spans {
        /// The first span is that of the first event.
        pub(in crate::workload) fn new(events: &[Event], nanos: i64) -> Self {
            let first = events.first().map_or(0, |event| event.timestamp().as_nanos());
            Self { nanos, end: first - first.rem_euclid(nanos) + nanos }
        }

        /// Whether the span is over at `at`, with its end; then the next one begins.
        #[inline(always)]
        pub(in crate::workload) fn over(&mut self, at: Timestamp) -> Option<i64> {
            (at.as_nanos() >= self.end).then(|| {
                self.end += self.nanos;
                self.end - self.nanos
            })
        }
    }

    fn q5(events: &[Event]) -> u64 {
        let (size, every) = (q5::SIZE.as_nanos() as i64, q5::EVERY.as_nanos() as i64);
        let panes = (size / every) as usize;
        let mut spans = Spans::new(events, every);
        // Counts of the last panes, and of all of them together.
        let mut counts: Vec<Map<u64, u64>> = vec![Map::with_hasher(hasher()); panes];
        let (mut whole, mut at, mut sum): (Map<u64, u64>, _, _) = (Map::with_hasher(hasher()), 0, 0);
        let mut close = |counts: &mut Vec<Map<u64, u64>>, at: &mut usize, end: i64| {
            for (auction, count) in &counts[*at] {
                *whole.entry(*auction).or_default() += count;
            }
            let most = whole.values().copied().max();
            for (auction, count) in whole.iter().filter(|entry| Some(*entry.1) == most) {
                let window = Window::from_nanos(end - size, end);
                add(&mut sum, &q5::Row { window, auction: *auction, bids: *count });
            }
            // The oldest pane leaves the window, and its table is the next one's.
            *at = (*at + 1) % panes;
            for (auction, count) in counts[*at].drain() {
                if let hashbrown::hash_map::Entry::Occupied(mut entry) = whole.entry(auction) {
                    *entry.get_mut() -= count;
                    if *entry.get() == 0 {
                        entry.remove();
                    }
                }
            }
        };
        for event in events {
            if let Event::Bid(bid) = event {
                while let Some(end) = spans.over(bid.at) {
                    close(&mut counts, &mut at, end);
                }
                *counts[at].entry(bid.auction).or_default() += 1;
            }
        }
        for pane in 0..panes as i64 {
            close(&mut counts, &mut at, spans.end + pane * every);
        }
        sum
    }

    fn q7(events: &[Event]) -> u64 {
        let mut spans = Spans::new(events, q7::SIZE.as_nanos() as i64);
        let (mut highest, mut price, mut sum) = (Vec::new(), 0, 0);
        for event in events {
            if let Event::Bid(bid) = event {
                while spans.over(bid.at).is_some() {
                    highest.drain(..).for_each(|bid: Bid| add(&mut sum, &bid));
                    price = 0;
                }
                if bid.price >= price {
                    if bid.price > price {
                        highest.clear();
                        price = bid.price;
                    }
                    highest.push(*bid);
                }
            }
        }
        highest.iter().for_each(|bid| add(&mut sum, bid));
        sum
    }

    /// What query 8 keeps of a window.
    pub(in crate::workload) struct NewSellers {
        people: Map<u64, Person>,
        sellers: HashSet<u64, RandomState>,
    }

    impl NewSellers {
        pub(in crate::workload) fn new() -> Self {
            Self { people: Map::with_hasher(hasher()), sellers: HashSet::with_hasher(hasher()) }
        }

        /// Whom an event is about, unless it is a bid.
        #[inline]
        pub(in crate::workload) fn person(event: &Event) -> Option<u64> {
            match event {
                Event::Person(person) => Some(person.id),
                Event::Auction(auction) => Some(auction.seller),
                Event::Bid(_) => None,
            }
        }

        #[inline]
        pub(in crate::workload) fn take(&mut self, event: &Event) {
            match event {
                Event::Person(person) => drop(self.people.insert(person.id, *person)),
                Event::Auction(auction) => drop(self.sellers.insert(auction.seller)),
                Event::Bid(_) => {}
            }
        }

        /// Adds the rows of the window that ends at `end`, and is empty then.
        pub(in crate::workload) fn close(&mut self, end: i64, sum: &mut u64) {
            for (id, person) in self.people.drain() {
                if self.sellers.contains(&id) {
                    add(sum, &q8::row(&person, Timestamp(end - q8::SIZE.as_nanos() as i64)));
                }
            }
            self.sellers.clear();
        }
    }

    fn q8(events: &[Event]) -> u64 {
        let mut spans = Spans::new(events, q8::SIZE.as_nanos() as i64);
        let (mut window, mut sum) = (NewSellers::new(), 0);
        for event in events {
            if matches!(event, Event::Bid(_)) {
                continue;
            }
            while let Some(end) = spans.over(event.timestamp()) {
                window.close(end, &mut sum);
            }
            window.take(event);
        }
        window.close(spans.end, &mut sum);
        sum
    }
}

/// Whether a query reads texts of bids, or keeps all of them.
pub(super) fn is_large(query: &str) -> bool {
    matches!(query, "q14" | "q16" | "q18" | "q19" | "q20" | "q21" | "q22" | "q13")
}

/// Whether `choice` has this query.
pub(super) fn named(choice: &Choice, query: &str) -> bool {
    if choice.queries.is_empty() {
        hand::program(query).is_some()
    } else {
        choice.queries.iter().any(|name| name == query)
    }
}

/// The right checksum: by the program if there is one, for the references look at everything.
pub(super) fn expected(query: &str, feed: Feed) -> Option<u64> {
    let program = hand::program(query);
    program.map_or_else(|| nexmark::expected(query, feed), |program| Some(program(feed.events)))
}

/// The comparisons: corelane on one core, and on two if there are two.
pub fn cases(setup: &Setup) -> Vec<Case> {
    let choice = &setup.nexmark;
    let queries: Vec<&'static str> = QUERIES.iter().filter(|query| named(choice, query)).copied().collect();
    let mut feeds: [Option<Feed>; 2] = [None, None];
    let mut cases = Vec::new();
    for query in queries {
        let large = is_large(query);
        let events = choice.events.unwrap_or_else(|| setup.scaled(if large { LARGE_EVENTS } else { EVENTS }));
        let settings = Settings { events: events as usize, texts: large, ..Settings::default() };
        let feed = *feeds[usize::from(large)].get_or_insert_with(|| Feed::generate(settings));
        let program = hand::program(query);
        let expected = expected(query, feed);
        for cores in [1, 2] {
            if cores > setup.cores.len() {
                continue;
            }
            let mut case = Case::new("nexmark", query, cores, expected.unwrap_or_default())
                .work(format!("{query} over {} k events", events / 1_000));
            if let Some(program) = program {
                case = case.reference("hand").system("hand", move |setup| {
                    pin::timed_on_one(events, setup.cores[0], || program(feed.events))
                });
            }
            if cores == 2
                && let Some((name, program)) = two_cores::program(query)
            {
                case = case.system(name, move |setup| program(feed, &setup.cores));
            }
            let case =
                case.try_system("corelane", move |setup| lane::nexmark::query(query, feed, cores, setup));
            #[cfg(feature = "peers")]
            let case = crate::peers::of_nexmark(case, query, feed, cores);
            cases.push(case);
        }
    }
    cases
}

#[cfg(test)]
mod tests {
    use corelane::model::{Timed, Timestamp};

    use super::*;

    #[test]
    fn the_programs_by_hand_agree_with_the_references() {
        let feed = Feed::generate(Settings { events: 30_000, per_second: 700, ..Settings::default() });
        for query in QUERIES {
            if let Some(program) = hand::program(query) {
                assert_eq!(Some(program(feed.events)), nexmark::expected(query, feed), "{query}");
            }
        }
        assert_eq!(QUERIES.iter().filter(|query| hand::program(query).is_some()).count(), 6);
    }

    #[test]
    fn the_programs_by_hand_get_over_times_without_events() {
        // One bid in the first ten seconds, the next ones a minute later.
        let bids: Vec<_> = Feed::generate(Settings { events: 500, per_second: 10, ..Settings::default() })
            .events
            .iter()
            .filter(|event| {
                let second = event.timestamp().as_nanos() / 1_000_000_000 % 60;
                (0..3).contains(&second) || (30..33).contains(&second)
            })
            .copied()
            .collect();
        let feed = Feed::of(bids);
        assert!(feed.events.last().map(Timed::timestamp) > Some(Timestamp(1_436_918_425_000_000_000)));
        for query in ["q5", "q7", "q8"] {
            assert_eq!(
                hand::program(query).map(|p| p(feed.events)),
                nexmark::expected(query, feed),
                "{query}"
            );
        }
    }
}
