//! Several movers, stepped in any order, against a map.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::policy::RebalancePolicy;
use crate::shard::{ShardMove, seats};
use crate::sync::Doorbell;

const INSTANCES: usize = 3;
const SHARDS: usize = 8;

/// Keys in a vector, some looked at in each call.
#[derive(Default)]
struct Keys {
    keys: Vec<(u64, u64)>,
    items: u64,
}

fn hash(key: u64) -> u64 {
    key << 32
}

impl Movable for Keys {
    type Key = (u64, u64);
    type Error = ();

    fn give(
        &mut self,
        at: &mut usize,
        away: impl Fn(u64) -> Option<usize>,
        mut out: impl FnMut(usize, (u64, u64)),
    ) -> bool {
        for _ in 0..3 {
            match self.keys.get(*at).map(|(key, _)| away(hash(*key))) {
                Some(Some(to)) => out(to, self.keys.remove(*at)),
                Some(None) => *at += 1,
                None => return true,
            }
        }
        false
    }

    fn take(&mut self, key: (u64, u64)) -> Result<(), ()> {
        if self.keys.iter().any(|(other, _)| *other == key.0) {
            return Err(());
        }
        self.keys.push(key);
        Ok(())
    }

    fn items(_: &(u64, u64)) -> u64 {
        0
    }

    fn gone(&mut self, items: u64) {
        self.items -= items;
    }

    fn came(&mut self, items: u64) {
        self.items += items;
    }
}

type Instance = (Box<Mover<(u64, u64)>>, Keys);

struct Rig {
    control: Arc<ShardControl>,
    all: Vec<Instance>,
    model: BTreeMap<u64, u64>,
}

impl Rig {
    fn new() -> Self {
        let policy = RebalancePolicy { shards: SHARDS as u32, automatic: None };
        let control = Arc::new(ShardControl::new(policy, INSTANCES, Vec::new()));
        let bells: Vec<_> = (0..INSTANCES).map(|_| Arc::new(Doorbell::new())).collect();
        let seats = seats(&control, &bells).unwrap();
        let all = seats.iter().map(|seat| (Mover::new(Some(seat), true).unwrap(), Keys::default())).collect();
        assert!(Mover::<()>::new(seats.first(), true).is_none(), "a seat is taken once");
        Self { control, all, model: BTreeMap::new() }
    }

    fn item(&mut self, key: u64) {
        let owner = self.control.assignment().after.owner(hash(key));
        let (mover, keys) = &mut self.all[owner];
        mover.count(hash(key));
        keys.items += 1;
        match keys.keys.iter_mut().find(|(other, _)| *other == key) {
            Some((_, n)) => *n += 1,
            None => keys.keys.push((key, 1)),
        }
        *self.model.entry(key).or_insert(0) += 1;
    }

    /// Each key is where its shard is, and its items are counted there.
    fn check(&self) {
        let table = self.control.assignment().after;
        let mut found = BTreeMap::new();
        for (instance, (_, keys)) in self.all.iter().enumerate() {
            for (key, n) in &keys.keys {
                assert_eq!(table.owner(hash(*key)), instance, "key {key}");
                assert_eq!(found.insert(*key, *n), None);
            }
            assert_eq!(keys.items, keys.keys.iter().map(|(_, n)| n).sum::<u64>(), "instance {instance}");
        }
        assert_eq!(found, self.model);
    }
}

proptest! {
    #[test]
    fn after_any_moves_in_any_order_each_key_is_with_its_shard_and_so_are_its_items(
        rounds in prop::collection::vec(
            (prop::collection::vec(0u64..0x1_0000, 0..120), prop::collection::vec((0..SHARDS, 0..INSTANCES), 1..6)),
            1..6,
        ),
        order in prop::collection::vec(0..INSTANCES, 1..40),
        cut in prop::option::of(0usize..60),
    ) {
        let mut rig = Rig::new();
        let (mut order, last) = (order.into_iter().cycle(), rounds.len() - 1);
        for (round, (items, moves)) in rounds.into_iter().enumerate() {
            items.into_iter().for_each(|key| rig.item(key));
            let moves: Vec<_> = moves.into_iter().map(|(shard, to)| ShardMove { shard, to }).collect();
            let version = rig.control.move_shards(&moves).unwrap();
            prop_assert!(rig.control.move_shards(&moves).is_err(), "one at a time");
            let mut begun = [false; INSTANCES];
            let mut steps = 0;
            while rig.control.state().moving {
                steps += 1;
                prop_assert!(steps < 10_000, "it ends");
                if round == last && cut == Some(steps) {
                    break;
                }
                let next = order.next().unwrap_or(0);
                // All have their turn, whatever the order says.
                for instance in if steps % 7 == 0 { vec![0, 1, 2] } else { vec![next] } {
                    let (mover, keys) = &mut rig.all[instance];
                    if !std::mem::replace(&mut begun[instance], true) {
                        prop_assert!(!mover.begin(version + 1) && mover.begin(version));
                    }
                    prop_assert!(mover.step(keys).is_ok());
                }
            }
            if !rig.control.state().moving {
                rig.check();
            }
        }
        // A stop: what is on its way is counted by who was to have it.
        for (mover, keys) in &mut rig.all {
            mover.close(keys);
        }
        prop_assert_eq!(rig.all.iter().map(|(_, keys)| keys.items).sum::<u64>(), rig.model.values().sum::<u64>());
    }
}

#[test]
fn a_move_that_the_end_comes_before_is_none_and_nobody_owns_other_shards() {
    let rig = Rig::new();
    let before = rig.control.state().owners;
    rig.control.move_shards(&[ShardMove { shard: 0, to: INSTANCES - 1 }]).unwrap();
    for (left, instance) in [(true, 0), (true, 1), (false, 2)] {
        rig.control.end(instance);
        assert_eq!(rig.control.state().moving, left);
    }
    assert_eq!(rig.control.state().owners, before);
    assert_eq!(rig.control.rebalance(), crate::shard::Rebalance::Kept(crate::shard::Kept::Ending));
}

#[test]
fn a_key_that_is_in_two_places_is_an_error() {
    let mut rig = Rig::new();
    rig.item(0);
    let to = INSTANCES - 1;
    rig.all[to].1.keys.push((0, 1));
    let version = rig.control.move_shards(&[ShardMove { shard: 0, to }]).unwrap();
    for instance in [0, to] {
        let (mover, keys) = &mut rig.all[instance];
        assert!(mover.begin(version));
        assert_eq!(mover.step(keys).is_err(), instance == to);
    }
}
