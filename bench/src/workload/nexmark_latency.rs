//! nexmark-latency: queries of NEXMark under an open loop of a million events a second.
//!
//! A row of a window, of a join or of a ranking has no event of its own that it could be measured from. What is measured is when the rows
//! are *complete*: for moments of event time, from the intended time of the first event that says the moment has come, until the
//! watermark of that moment is through the query on every core, behind all rows up to it. So did Megaphone (Hoffmann et al., VLDB 2019) measure
//! NEXMark. For a query with windows the moments are the ends of its windows, for others they come every ten milliseconds.
//!
//! A second of real time is 500 of event time: windows close often enough for percentiles.

use std::time::Duration;

use crate::case::{Case, Setup};
use crate::lane;
use crate::nexmark::{Feed, QUERIES, Settings, q5, q7, q8};
use crate::workload::latency::{self, Schedule};
use crate::workload::nexmark::{expected, is_large, named};

/// Events a second.
const RATE: u64 = 1_000_000;
/// Events of a full run: 1 000 s of event time.
const EVENTS: u64 = 2_000_000;
/// Events in a second of event time.
const PER_SECOND: usize = 2_000;
/// Between moments of queries without windows, in event time.
const STEP: Duration = Duration::from_millis(10);

/// How far apart the moments of a query are, in event time.
fn step(query: &str) -> Duration {
    match query {
        "q5" => q5::EVERY,
        "q7" => q7::SIZE,
        "q8" => q8::SIZE,
        _ => STEP,
    }
}

/// The comparisons: corelane on one core, and on two if there are two, where the machine's own noise stands beside it.
pub fn cases(setup: &Setup) -> Vec<Case> {
    let mut feeds: [Option<Feed>; 2] = [None, None];
    let mut cases = Vec::new();
    for query in QUERIES.iter().filter(|query| named(&setup.nexmark, query)) {
        let large = is_large(query);
        let events = setup.nexmark.events.unwrap_or_else(|| setup.scaled(EVENTS));
        let settings =
            Settings { events: events as usize, per_second: PER_SECOND, texts: large, ..Settings::default() };
        let feed = *feeds[usize::from(large)].get_or_insert_with(|| Feed::generate(settings));
        cases.extend((1..=setup.cores.len().min(2)).map(|cores| case(query, feed, cores, setup)));
    }
    cases
}

fn case(query: &'static str, feed: Feed, cores: usize, setup: &Setup) -> Case {
    let schedule = Schedule::at_rate(RATE, feed.events.len() as u64);
    let right = expected(query, feed).unwrap_or_default();
    let case = Case::new("nexmark-latency", query, cores, right)
        .work(format!("{query} at 1 M events/s, rows complete every {:?} of event time", step(query)))
        .try_system("corelane", move |setup| {
            lane::nexmark::completion(query, feed, step(query), schedule, cores, setup)
        });
    if setup.cores.len() < 2 {
        return case;
    }
    case.system("noise-floor", latency::noise_floor(schedule, right))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::Driver;
    use crate::nexmark;

    fn feed(events: usize) -> Feed {
        Feed::generate(Settings { events, per_second: 500, texts: true, ..Settings::default() })
    }

    #[test]
    fn every_query_is_right_under_an_open_loop_and_every_moment_is_measured_once() {
        let cores = crate::pin::allowed();
        let setup = Setup { cores, driver: Driver::Thread, quick: true, nexmark: Default::default() };
        let feed = feed(3_000);
        let schedule = Schedule::at_rate(200_000, feed.events.len() as u64);
        // Three thousand events are six seconds from a whole one on: the last one is not reached.
        let step = Duration::from_secs(1);
        for query in QUERIES {
            for cores in 1..=setup.cores.len().min(2) {
                let run = lane::nexmark::completion(query, feed, step, schedule, cores, &setup).unwrap();
                assert_eq!(Some(run.checksum), nexmark::expected(query, feed), "{query} on {cores}");
                assert_eq!(run.histogram.len(), 5, "{query} on {cores}");
                // Nothing is complete before the event came that says so.
                assert!(run.histogram.min() > 0, "{query} on {cores}");
            }
        }
    }

    #[test]
    fn an_event_that_is_not_due_is_not_sent() {
        let cores = crate::pin::allowed();
        let setup = Setup { cores, driver: Driver::Thread, quick: true, nexmark: Default::default() };
        let feed = feed(1_000);
        let schedule = Schedule { items: 1_000, period_ns: 100_000, first_ns: 60_000_000 };
        let begun = std::time::Instant::now();
        lane::nexmark::completion("q1", feed, STEP, schedule, 1, &setup).unwrap();
        let last = Duration::from_nanos(schedule.first_ns + 999 * schedule.period_ns);
        assert!(begun.elapsed() >= last, "an end before the last event was due");
    }
}
