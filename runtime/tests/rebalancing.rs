//! Shards of keyed stages move between instances while the pipeline runs: nothing is lost, doubled or reordered for any key.

#![allow(clippy::unwrap_used, reason = "helpers of tests may fail as tests do")]

mod common;
mod rebalance_kit;

use common::seeds;
use common::watchdog::{PATIENCE, real_drivers};
use corelane::driver::{MoveShardsError, NotMovable, Simulation};
use corelane::engine::{Engine, ExecutionOptions};
use corelane::flow::PipelineBuilder;
use corelane::graph::GraphError;
use corelane::keyed::hash_key;
use corelane::observe::{PipelineResult, ShardsState};
use corelane::policy::{AutoRebalance, Parallelism, RebalancePolicy};
use corelane::shard::{Kept, MoveError, Rebalance, ShardMove, ShardTable};
use rebalance_kit::{Case, Item, Moved, judge, pipeline};

type Change = fn(&mut Vec<Item>);

fn shards(result: &PipelineResult) -> &ShardsState {
    result.final_states.values().find_map(|stage| stage.shards.as_ref()).unwrap()
}

#[test]
fn moves_at_any_time_lose_double_and_reorder_nothing_on_random_pipelines() {
    seeds::run_all::<Case>(&[]);
}

#[test]
#[ignore = "only with a planted bug: run by `make planted`"]
fn the_planted_bug_is_found() {
    seeds::find::<Case>();
}

#[test]
fn the_cases_move_state_while_it_is_used_and_also_stop_and_drain_in_the_middle() {
    let (mut moves, mut items, mut cut_short) = (0, 0, 0);
    for seed in 0..100 {
        let Moved { finished, handed_over, in_the_middle } = Case::of(seed).moved().unwrap();
        moves += finished;
        items += handed_over;
        cut_short += u32::from(in_the_middle);
    }
    assert!(
        moves > 100 && items > 1_000 && cut_short > 3,
        "{moves} moves, {items} items, {cut_short} in the middle"
    );
}

#[test]
fn the_oracle_finds_an_item_that_is_missing_doubled_or_before_its_time() {
    let right = || vec![(0, 0), (1, 0), (0, 1), (0, 3), (1, 2)];
    let lengths = [4, 3];
    let key =
        |source: usize, seq: u64| if (source, seq) == (0, 2) || (source, seq) == (1, 1) { 8 } else { 7 };
    let also = (8, vec![(1, 1), (0, 2)]);
    let judged = |mut of_seven: Vec<Item>, change: Change| {
        change(&mut of_seven);
        judge(&[(7, of_seven), also.clone()], &lengths, key, true)
    };
    assert_eq!(judged(right(), |_| ()), Ok(()));
    let wrongs: [Change; 4] = [
        |items| items.truncate(4),
        |items| items.push((0, 3)),
        |items| items.swap(2, 3),
        |items| items[1] = (1, 1),
    ];
    for wrong in wrongs {
        assert!(judged(right(), wrong).is_err());
    }
}

/// Every instance of `sum` on its own partition; a state of more keys than its cache holds.
#[test]
fn a_large_state_moves_there_and_back_while_items_of_its_keys_come() {
    const KEYS: u64 = 50_000;
    const ROUNDS: u64 = 4;
    let p = PipelineBuilder::new("large");
    let out = p
        .generate("in", KEYS * ROUNDS, |i| (i % KEYS, i))
        .parallel(Parallelism::CpuBound)
        .key_by(|item| item.0)
        .fold(
            "sum",
            || (0u64, [0u64; 8]),
            |(n, sums), item| {
                *n += 1;
                sums[0] += item.1;
            },
        )
        .rebalanced(RebalancePolicy::default())
        .collect("out");
    let simulation = Simulation::new(3).partitions(2).budgets(1_024..1_025).each_step(|at| {
        let shards = at.monitor.inspect("sum").unwrap().shards.unwrap();
        if at.step % 40 == 0 && !shards.moving {
            // Half of what one has goes to the other, in turn.
            let from = shards.version % 2;
            let owned = shards.owners.iter().enumerate().filter(|(_, owner)| u64::from(**owner) == from);
            let moves: Vec<_> =
                owned.step_by(2).map(|(shard, _)| ShardMove { shard, to: 1 - from as usize }).collect();
            match at.monitor.move_shards("sum", &moves) {
                Ok(_) | Err(MoveShardsError::Move(MoveError::Kept(Kept::Ending))) => {}
                Err(error) => panic!("{error}"),
            }
        }
    });
    let report = simulation.run(p.build().unwrap()).unwrap();
    report.result.account.verify().unwrap();
    let state = shards(&report.result);
    assert!(state.version > 4 && !state.moving, "{} moves", state.version);
    assert!(report.result.account.stages.values().any(|stage| stage.handed_over > KEYS));
    let mut sums = out.take();
    sums.sort_unstable();
    let expected = |key: u64| (ROUNDS, key * ROUNDS + KEYS * (ROUNDS * (ROUNDS - 1) / 2));
    assert_eq!(sums.len() as u64, KEYS);
    for (key, (n, sum)) in sums {
        assert_eq!((n, sum[0]), expected(key), "key {key}");
    }
}

#[test]
fn a_call_evens_out_what_can_be_evened_out_and_says_why_it_does_not() {
    let p = PipelineBuilder::new("skewed");
    // Every other item is of one key, the others of many.
    p.generate("in", 60_000, |i| if i % 2 == 0 { 0 } else { i })
        .parallel(Parallelism::Fixed(4))
        .key_by(|key| *key)
        .fold("sum", || 0u64, |n, _| *n += 1)
        .rebalanced(RebalancePolicy { shards: 64, automatic: None })
        .for_each("out", drop);
    let answers = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let told = std::sync::Arc::clone(&answers);
    let simulation = Simulation::new(1).partitions(4).budgets(64..65).each_step(move |at| {
        if at.step % 400 == 0 {
            let moving = at.monitor.inspect("sum").unwrap().shards.unwrap().moving;
            told.lock().unwrap().push((moving, at.monitor.rebalance("sum").unwrap()));
        }
    });
    let report = simulation.run(p.build().unwrap()).unwrap();
    report.result.account.verify().unwrap();
    let answers = std::mem::take(&mut *answers.lock().unwrap());
    assert_eq!(answers[0].1, Rebalance::Kept(Kept::NoLoad));
    let first = answers.iter().find_map(|(_, answer)| match answer {
        Rebalance::Moving { version, moves } => Some((*version, moves.clone())),
        Rebalance::Kept(_) => None,
    });
    let (version, moves) = first.expect("the load is uneven");
    assert!(version == 1 && moves.len() > 2);
    // The instance with the one key has nothing else at last, and more than anybody can have: that one shard stays.
    let stuck =
        |answer: &Rebalance| matches!(answer, Rebalance::Kept(Kept::OneShard { share, .. }) if *share > 0.45);
    assert!(answers.iter().any(|(_, answer)| stuck(answer)), "{answers:?}");
    for (moving, answer) in &answers {
        let busy = matches!(answer, Rebalance::Kept(Kept::Busy | Kept::Ending));
        assert!(!moving || busy, "{answer:?}");
    }
}

#[test]
fn uneven_load_is_evened_out_by_itself_and_even_load_left_alone() {
    // Five keys that one instance has at first.
    let all = ShardTable::even(128, 2);
    let hot: Vec<u64> = (0..).filter(|key| all.owner(hash_key::<u64>(key)) == 0).take(5).collect();
    for (skewed, moves) in [(true, true), (false, false)] {
        let p = PipelineBuilder::new("automatic");
        let hot = hot.clone();
        p.generate("in", 100_000, move |i| if skewed && i % 3 == 0 { hot[i as usize % 5] } else { i })
            .parallel(Parallelism::Fixed(2))
            .key_by(|key| *key)
            .fold("sum", || 0u64, |n, _| *n += 1)
            .rebalanced(RebalancePolicy {
                shards: 128,
                automatic: Some(AutoRebalance {
                    period: std::time::Duration::from_micros(100),
                    imbalance: 0.15,
                    periods: 3,
                    cooldown: std::time::Duration::from_micros(500),
                }),
            })
            .for_each("out", drop);
        let report = Simulation::new(11).partitions(2).budgets(256..257).run(p.build().unwrap()).unwrap();
        report.result.account.verify().unwrap();
        let state = shards(&report.result);
        assert_eq!(state.version > 0, moves, "skewed: {skewed}, {} moves", state.version);
        assert!(state.version < 10, "{} moves: no rest", state.version);
        let by_owner = state.loads_by_owner(2);
        let busiest = *by_owner.iter().max().unwrap() as f64;
        assert!(busiest < 1.1 * 50_000.0, "{by_owner:?}");
    }
}

#[test]
fn shards_move_every_few_milliseconds_under_full_load_on_real_cores() {
    for driver in real_drivers() {
        for cores in [1, 2, 8, 16] {
            let case = Case::plain(5, vec![20_000; 3], cores as usize);
            let (pipeline, seen) = pipeline(&case);
            let options =
                ExecutionOptions { driver, virtual_cores: Some(cores), ..ExecutionOptions::default() };
            let running = Engine::new(options).start(pipeline).unwrap();
            let mut turn = 0;
            let ended = loop {
                if running.wait_timeout(std::time::Duration::from_millis(2)) {
                    break true;
                }
                if running.elapsed() > PATIENCE {
                    break false;
                }
                turn += 1;
                let moves = case.moves(turn);
                match running.move_shards("sum", &moves) {
                    Ok(_) | Err(MoveShardsError::Move(MoveError::Kept(Kept::Busy | Kept::Ending))) => {}
                    Err(MoveShardsError::NotMovable(NotMovable::OneInstance(_))) if cores == 1 => {}
                    Err(error) => panic!("{error}"),
                }
            };
            assert!(ended, "{driver:?} with {cores} cores hangs:\n{}", running.account());
            let result = running.join();
            result.account.verify().unwrap();
            assert!(result.success, "{}", result.outcome);
            judge(&seen.take(), &case.lengths(), |source, seq| case.key(source, seq), true).unwrap();
        }
    }
}

#[test]
fn a_stop_and_a_drain_in_the_middle_of_a_move_account_for_everything_on_real_cores() {
    for driver in real_drivers() {
        for (turn, drains) in [(1, true), (2, false), (3, true), (4, false)] {
            let case = Case::plain(9, vec![u64::MAX; 2], 4);
            let (pipeline, seen) = pipeline(&case);
            let options = ExecutionOptions { driver, virtual_cores: Some(4), ..ExecutionOptions::default() };
            let mut running = Engine::new(options).start(pipeline).unwrap();
            while running.inspect("sum").unwrap().processed_count < 1_000 {
                assert!(running.elapsed() < PATIENCE, "nothing comes");
                std::thread::yield_now();
            }
            running.move_shards("sum", &case.moves(turn)).unwrap();
            if drains {
                assert!(running.drain(PATIENCE));
            } else {
                running.stop();
            }
            assert!(running.wait_timeout(PATIENCE), "{driver:?} hangs:\n{}", running.account());
            let result = running.join();
            result.account.verify().unwrap();
            let seen = seen.take();
            assert_eq!(seen.is_empty(), !drains);
            judge(&seen, &case.lengths(), |source, seq| case.key(source, seq), false).unwrap();
        }
    }
}

#[test]
fn what_cannot_move_is_refused_with_the_reason() {
    let p = PipelineBuilder::new("refused");
    let all = p.items("in", 0u64..100).parallel(Parallelism::Fixed(2));
    all.key_by(|x| *x)
        .fold("sum", || 0u64, |n, _| *n += 1)
        .parallel(Parallelism::Fixed(2))
        .for_each("out", drop);
    let p2 = PipelineBuilder::new("single");
    p2.items("in", 0u64..100)
        .key_by(|x| *x)
        .fold("sum", || 0u64, |n, _| *n += 1)
        .parallel(Parallelism::Sequential)
        .rebalanced(RebalancePolicy::default())
        .for_each("out", drop);
    let not_asked = |at: &corelane::driver::SimStep<'_>| {
        assert_eq!(at.monitor.rebalance("sum"), Err(NotMovable::NotAsked("sum".to_owned())));
        assert_eq!(at.monitor.rebalance("nowhere"), Err(NotMovable::UnknownStage("nowhere".to_owned())));
    };
    Simulation::new(0).each_step(not_asked).run(p.build().unwrap()).unwrap();
    let single = |at: &corelane::driver::SimStep<'_>| {
        assert_eq!(at.monitor.rebalance("sum"), Err(NotMovable::OneInstance("sum".to_owned())));
    };
    Simulation::new(0).each_step(single).run(p2.build().unwrap()).unwrap();
    let p3 = PipelineBuilder::new("unmovable");
    p3.items("in", 0u64..100)
        .key_by(|x| *x)
        .try_map("call", |x: &u64| Ok::<u64, String>(*x))
        .rebalanced(RebalancePolicy { shards: 0, automatic: None })
        .for_each("out", drop);
    let errors = p3.build().err().unwrap();
    assert!(errors.errors().iter().any(|error| matches!(error, GraphError::CannotMove { .. })), "{errors}");
    assert!(errors.to_string().contains("rebalance.shards"), "{errors}");
}

#[test]
fn moves_to_where_there_is_nothing_are_refused_whole() {
    let case = Case::plain(1, vec![300; 2], 3);
    let (pipeline, _seen) = pipeline(&case);
    let simulation = Simulation::new(1).partitions(3).each_step(|at| {
        let good = ShardMove { shard: 0, to: 1 };
        let shards = at.monitor.inspect("sum").unwrap().shards.unwrap();
        let count = shards.owners.len();
        for (bad, error) in [
            (ShardMove { shard: count, to: 0 }, MoveError::UnknownShard { shard: count, shards: count }),
            (ShardMove { shard: 1, to: 3 }, MoveError::UnknownInstance { instance: 3, instances: 3 }),
        ] {
            assert_eq!(at.monitor.move_shards("sum", &[good, bad]), Err(MoveShardsError::Move(error)));
        }
        assert_eq!(at.monitor.inspect("sum").unwrap().shards.unwrap().version, 0);
    });
    simulation.run(pipeline).unwrap().result.account.verify().unwrap();
}
