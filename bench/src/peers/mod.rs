//! Other people's systems doing the same work, each as its documentation says it is fast, with the same checksums.
//!
//! Behind the feature `peers`, because they bring many dependencies. Threads that a peer starts itself inherit the cores of
//! the thread that starts it, or are pinned where it lets us. Starting those threads is in their time, where the peer gives
//! no way to leave it out; it is below a millisecond.

mod crossbeam_channel;
mod disruptor;
mod rayon;
mod renoir;
mod streams;
mod timely;
mod tokio;

use crate::case::{Case, Setup};
use crate::nexmark::Feed;
use crate::workload::latency::Schedule;

/// Adds the peers that can do the work of `case`.
#[must_use]
pub fn add_to(case: Case, setup: &Setup) -> Case {
    use crate::workload::{chain, keyed, ring, tumbling};
    match (case.workload, case.variant) {
        ("ring", "throughput") => {
            let items = setup.scaled(ring::ITEMS);
            // One by one all of them would take ten seconds, in each of many repetitions.
            let few = items / 10;
            let one_by_one = move |setup: &Setup| {
                let run = crossbeam_channel::one_by_one(few, &setup.cores);
                run.standing_for(ring::expected(few), ring::expected(items))
            };
            case.system("disruptor", move |setup| disruptor::batches(items, &setup.cores))
                .system("crossbeam", one_by_one)
        }
        ("chain", "bare") => {
            let items = setup.scaled(chain::ITEMS);
            case.system("renoir", move |setup| renoir::chain(items, setup.cores[0]))
                .system("timely", move |setup| timely::chain(items, setup.cores[0]))
                .system("tokio-batches", move |setup| tokio::chain(items, setup.cores[0]))
                .system("rayon", move |setup| rayon::chain(items, setup.cores[0]))
                .system("streams", move |setup| streams::chain(items, setup.cores[0]))
        }
        ("chain", "envelope") => {
            // Over bare items: none of them has an envelope, and corelane's is to keep up with them all the same.
            let items = setup.scaled(chain::ITEMS);
            let bare = chain::beside_envelopes;
            case.system("renoir", move |setup| bare(renoir::chain(items, setup.cores[0])))
                .system("timely", move |setup| bare(timely::chain(items, setup.cores[0])))
                .system("rayon", move |setup| bare(rayon::chain(items, setup.cores[0])))
                .system("streams", move |setup| bare(streams::chain(items, setup.cores[0])))
        }
        ("chain", "split") => {
            let items = setup.scaled(chain::ITEMS);
            case.system("renoir", move |setup| renoir::chain_split(items, &setup.cores))
                .system("timely", move |setup| timely::chain_split(items, &setup.cores))
                .system("tokio-batches", move |setup| tokio::chain_split(items, &setup.cores))
                .system("tokio-pinned", move |setup| tokio::chain_pinned(items, &setup.cores))
                .system("crossbeam-batches", move |setup| crossbeam_channel::chain_split(items, &setup.cores))
        }
        ("keyed", variant) => {
            let (pairs, keys) =
                (setup.scaled(keyed::PAIRS), if variant == "k1000" { 1_000 } else { 1_000_000 });
            case.system("renoir", move |setup| renoir::keyed(pairs, keys, &setup.cores))
                .system("renoir-two-phase", move |setup| renoir::keyed_two_phase(pairs, keys, &setup.cores))
                .system("timely", move |setup| timely::keyed(pairs, keys, &setup.cores))
                .system("tokio-batches", move |setup| tokio::keyed(pairs, keys, &setup.cores))
                .system("crossbeam-batches", move |setup| crossbeam_channel::keyed(pairs, keys, &setup.cores))
        }
        ("tumbling", _) => {
            let events = setup.scaled(tumbling::EVENTS);
            case.system("renoir", move |setup| renoir::tumbling(events, &setup.cores))
                .system("renoir-two-phase", move |setup| renoir::tumbling_two_phase(events, &setup.cores))
                .system("timely", move |setup| timely::tumbling(events, &setup.cores))
                .system("tokio-batches", move |setup| tokio::tumbling(events, &setup.cores))
        }
        _ => case,
    }
}

/// Adds the peers that answer `query`.
#[must_use]
pub fn of_nexmark(case: Case, query: &str, feed: Feed, cores: usize) -> Case {
    match renoir::query(query) {
        Some(program) => case.system("renoir", move |setup| program(feed, &setup.cores[..cores])),
        None => case,
    }
}

/// Adds the peers that can run an open loop over `schedule`.
#[must_use]
pub fn of_latency(case: Case, schedule: Schedule) -> Case {
    case.system("crossbeam", move |setup| crossbeam_channel::latency(schedule, &setup.cores))
        .system("tokio", move |setup| tokio::latency(schedule, &setup.cores))
        .system("timely", move |setup| timely::latency(schedule, &setup.cores))
        .system("renoir", move |setup| renoir::latency(schedule, &setup.cores))
}

#[cfg(test)]
mod tests {
    use crate::case::{Driver, Setup};
    use crate::pin;
    use crate::workload::Workload;

    /// Small enough for a test; `Setup` scales by ten only, so the workloads' own sizes are too large here.
    const ITEMS: u64 = 20_003;

    #[test]
    fn every_peer_computes_what_the_oracle_does() {
        use crate::workload::{chain, keyed, latency, ring};
        let cores = pin::allowed();
        let sum = chain::expected_bare(ITEMS);
        for (name, chain) in [
            ("renoir", super::renoir::chain as fn(u64, pin::CoreId) -> _),
            ("timely", super::timely::chain),
            ("tokio", super::tokio::chain),
            ("rayon", super::rayon::chain),
            ("streams", super::streams::chain),
        ] {
            let run: crate::case::Measured = chain(ITEMS, cores[0]);
            assert_eq!(run.checksum, sum, "{name}");
        }
        if cores.len() < 2 {
            return;
        }
        for (name, split) in [
            ("renoir", super::renoir::chain_split as fn(u64, &[pin::CoreId]) -> _),
            ("timely", super::timely::chain_split),
            ("tokio, pinned", super::tokio::chain_pinned),
            ("crossbeam", super::crossbeam_channel::chain_split),
        ] {
            let run: crate::case::Measured = split(ITEMS, &cores);
            assert_eq!(run.checksum, sum, "{name}, split");
        }
        let run = super::tokio::chain_split(ITEMS, &cores);
        assert_eq!(run.checksum, sum, "tokio, split");
        assert!(run.notes[0].contains("stay on the core"), "{:?}", run.notes);
        assert_eq!(super::disruptor::batches(ITEMS, &cores).checksum, ring::expected(ITEMS));
        assert_eq!(super::crossbeam_channel::one_by_one(ITEMS, &cores).checksum, ring::expected(ITEMS));
        let totals = keyed::expected(ITEMS, 100).checksum();
        for (name, keyed) in [
            ("renoir", super::renoir::keyed as fn(u64, u64, &[pin::CoreId]) -> _),
            ("renoir, two phases", super::renoir::keyed_two_phase),
            ("timely", super::timely::keyed),
            ("tokio", super::tokio::keyed),
            ("crossbeam", super::crossbeam_channel::keyed),
        ] {
            let run: crate::case::Measured = keyed(ITEMS, 100, &cores);
            assert_eq!(run.checksum, totals, "{name}");
        }
        let schedule = latency::Schedule::at_rate(1_000_000, ITEMS);
        for (name, latency) in [
            ("crossbeam", super::crossbeam_channel::latency as fn(latency::Schedule, &[pin::CoreId]) -> _),
            ("tokio", super::tokio::latency),
            ("timely", super::timely::latency),
            ("renoir", super::renoir::latency),
        ] {
            let run: crate::case::Latencies = latency(schedule, &cores);
            assert_eq!((run.checksum, run.histogram.len()), (latency::expected(schedule), ITEMS), "{name}");
        }
    }

    #[test]
    fn every_peer_counts_in_windows_what_an_ordered_map_does() {
        use crate::workload::tumbling;
        let cores = pin::allowed();
        if cores.len() < 2 {
            return;
        }
        // Windows that end within a block, and a last one that only the end of the input closes.
        let (events, right) = (2_100_017, tumbling::expected(2_100_017));
        for (name, counts) in [
            ("renoir", super::renoir::tumbling as fn(u64, &[pin::CoreId]) -> _),
            ("renoir, two phases", super::renoir::tumbling_two_phase),
            ("timely", super::timely::tumbling),
            ("tokio", super::tokio::tumbling),
        ] {
            let run: crate::case::Measured = counts(events, &cores);
            assert_eq!(run.checksum, right, "{name}");
        }
    }

    #[test]
    fn renoir_answers_queries_as_their_references_do_on_one_core_and_on_two() {
        use crate::nexmark::{Feed, Settings, expected};
        let cores = pin::allowed();
        let feed = Feed::generate(Settings { events: 60_000, per_second: 700, ..Settings::default() });
        for query in ["q1", "q2", "q3", "q5", "q7", "q8"] {
            let program = super::renoir::query(query).expect("it is one of those we compare");
            for cores in (1..=cores.len().min(2)).map(|count| &cores[..count]) {
                let run = program(feed, cores);
                assert_eq!(Some(run.checksum), expected(query, feed), "{query} on {} core(s)", cores.len());
            }
        }
    }

    #[test]
    fn peers_stand_beside_the_systems_they_are_compared_with() {
        let setup =
            Setup { cores: pin::allowed(), driver: Driver::Thread, quick: true, nexmark: Default::default() };
        let names: Vec<_> =
            Workload::Chain.cases(&setup)[0].systems.iter().map(|system| system.name).collect();
        assert!(
            ["hand", "corelane", "renoir", "timely"].iter().all(|name| names.contains(name)),
            "{names:?}"
        );
    }
}
