use std::time::Duration;

use proptest::prelude::*;

use super::*;

fn each(loads: &[u64], table: &ShardTable, instances: usize) -> Vec<u64> {
    let mut all = vec![0; instances];
    loads.iter().zip(table.owners()).for_each(|(load, owner)| all[usize::from(*owner)] += load);
    all
}

fn busiest(loads: &[u64], table: &ShardTable, instances: usize) -> u64 {
    each(loads, table, instances).into_iter().max().unwrap()
}

/// How uneven: less of it is more even.
fn squares(loads: &[u64], table: &ShardTable, instances: usize) -> u128 {
    each(loads, table, instances).into_iter().map(|load| u128::from(load) * u128::from(load)).sum()
}

proptest! {
    #[test]
    fn a_plan_evens_out_makes_no_instance_busier_than_the_busiest_and_leaves_shards_without_load(
        loads in prop::collection::vec(prop_oneof![Just(0u64), 0u64..50, 0u64..100_000], 1..300),
        instances in 1usize..17,
        shuffle in prop::collection::vec((0usize..300, 0usize..17), 0..100),
    ) {
        let table = ShardTable::even(loads.len(), instances);
        let loads = [&loads[..], &vec![0; table.shards() - loads.len()]].concat();
        let moved = shuffle.iter().map(|(shard, to)| ShardMove { shard: *shard, to: to % instances });
        let table = table.with(&moved.collect::<Vec<_>>());
        let before = busiest(&loads, &table, instances);
        let total: u64 = loads.iter().sum();
        let mean = total as f64 / instances as f64;
        match plan_moves(&loads, &table, instances) {
            Ok(moves) => {
                let after = table.with(&moves);
                prop_assert!(busiest(&loads, &after, instances) <= before);
                prop_assert!(squares(&loads, &after, instances) < squares(&loads, &table, instances));
                let mut seen = BTreeSet::new();
                for one in &moves {
                    prop_assert!(seen.insert(one.shard), "each shard moves once");
                    prop_assert!(one.to < instances && loads[one.shard] > 0);
                    prop_assert_ne!(usize::from(table.owners()[one.shard]), one.to);
                }
            }
            Err(Kept::NoLoad) => prop_assert_eq!(total, 0),
            Err(Kept::Balanced { above }) => {
                prop_assert!(above <= CLOSE && before as f64 <= mean * (1.0 + CLOSE) + 1e-6);
            }
            Err(Kept::OneShard { shard, .. }) => {
                prop_assert!(loads.iter().all(|load| *load <= loads[shard]));
                // There is a busiest instance of which no shard could go anywhere without making another one as busy.
                let each = each(&loads, &table, instances);
                let idlest = each.iter().min().unwrap();
                let stuck = |instance: usize| {
                    let mut owned = loads.iter().zip(table.owners());
                    owned.all(|(load, owner)| usize::from(*owner) != instance || *load == 0 || idlest + load >= before)
                };
                prop_assert!((0..instances).any(|instance| each[instance] == before && stuck(instance)));
            }
            Err(other) => prop_assert!(false, "{other}"),
        }
    }

    #[test]
    fn many_small_shards_end_close_to_the_mean(loads in prop::collection::vec(50u64..100, 256), instances in 2usize..9) {
        let table = ShardTable::even(256, instances).with(&[]);
        // All on the first one.
        let table = table.with(&(0..256).map(|shard| ShardMove { shard, to: 0 }).collect::<Vec<_>>());
        let moves = plan_moves(&loads, &table, instances).unwrap();
        let mean = loads.iter().sum::<u64>() as f64 / instances as f64;
        prop_assert!(busiest(&loads, &table.with(&moves), instances) as f64 <= mean * (1.0 + CLOSE) + 1.0);
    }
}

const PERIOD: i64 = 100;

fn balancer() -> Balancer {
    let nanos = |n: i64| Duration::from_nanos(n as u64);
    let policy =
        AutoRebalance { period: nanos(PERIOD), imbalance: 0.2, periods: 3, cooldown: nanos(10 * PERIOD) };
    Balancer::new(4, Some(policy))
}

#[test]
fn uneven_load_moves_shards_only_after_the_periods_asked_for_and_then_rests() {
    let table = ShardTable::even(4, 2);
    let mut balancer = balancer();
    let (mut loads, mut moved) = ([0u64; 4], Vec::new());
    for period in 0..30 {
        let now = period * PERIOD;
        moved.extend(balancer.look(now, &loads, &table, 2).map(|moves| (period, moves)));
        assert_eq!(balancer.look(now + PERIOD - 1, &loads, &table, 2), None, "not before the period is over");
        loads.iter_mut().zip([70, 20, 5, 5]).for_each(|(all, more)| *all += more);
    }
    let moves = vec![ShardMove { shard: 1, to: 1 }];
    // Looked at first in period 0, uneven in 1, 2 and 3; at rest until 13, uneven again in 13, 14, 15.
    assert_eq!(moved, [(3, moves.clone()), (15, moves.clone()), (27, moves)]);
}

#[test]
fn one_even_period_in_between_starts_the_count_again() {
    let table = ShardTable::even(4, 2);
    let mut balancer = balancer();
    let mut loads = [0u64; 4];
    for period in 0..12 {
        assert_eq!(balancer.look(period * PERIOD, &loads, &table, 2), None, "{period}");
        let more = if period % 3 == 2 { [10; 4] } else { [70, 20, 5, 5] };
        loads.iter_mut().zip(more).for_each(|(all, more)| *all += more);
    }
}

#[test]
fn what_is_judged_by_hand_is_what_came_since_the_last_time() {
    let table = ShardTable::even(4, 2);
    let mut balancer = Balancer::new(4, None);
    assert_eq!(balancer.judge(&[0; 4], &table, 2), Err(Kept::NoLoad));
    assert!(balancer.judge(&[70, 20, 5, 5], &table, 2).is_ok());
    // Since then as much on the other side.
    assert_eq!(balancer.judge(&[75, 25, 75, 25], &table, 2), Ok(vec![ShardMove { shard: 3, to: 0 }]));
    assert_eq!((balancer.period(), balancer.look(0, &[100, 0, 0, 0], &table, 2)), (None, None));
}
