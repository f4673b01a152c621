//! Which shards to move, and when: from loads to moves, without a clock.

use std::collections::BTreeSet;

use super::{ShardMove, ShardTable};
use crate::policy::AutoRebalance;

/// A load this close above the mean is even enough: moves stop there, and none begins.
const CLOSE: f64 = 0.02;

/// Why no shard moves.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Kept {
    /// No item has come since the load was last judged.
    #[error("no item has come since the load was last judged")]
    NoLoad,
    /// The load is as even as it need be.
    #[error("the busiest instance has {above:.3} of the mean load above it: close enough")]
    Balanced {
        /// What the busiest instance had above the mean, as a share of the mean.
        above: f64,
    },
    /// Every move would make another instance the busiest, and no less busy than this one is: most of its load is one shard, which
    /// cannot be split.
    #[error("shard {shard} alone has {share:.3} of all load, and a shard is not split")]
    OneShard {
        /// The shard with most load.
        shard: usize,
        /// Its share of the load of all shards.
        share: f64,
    },
    /// A move is under way.
    #[error("a move is under way")]
    Busy,
    /// The input of the stage has ended, or does so.
    #[error("the input of the stage ends")]
    Ending,
}

/// The loads of instances: with their shards that have any, by load.
struct Instances {
    loads: Vec<u64>,
    shards: Vec<BTreeSet<(u64, usize)>>,
}

impl Instances {
    fn new(loads: &[u64], table: &ShardTable, instances: usize) -> Self {
        let mut all = Self { loads: vec![0; instances], shards: vec![BTreeSet::new(); instances] };
        for (shard, (&load, &owner)) in loads.iter().zip(table.owners()).enumerate() {
            let owner = usize::from(owner);
            if load > 0 && owner < instances {
                all.loads[owner] = all.loads[owner].saturating_add(load);
                all.shards[owner].insert((load, shard));
            }
        }
        all
    }

    /// The shard of `from` whose move to `to` evens the two out best, if any does at all.
    fn best(&self, from: usize, to: usize) -> Option<(u64, usize)> {
        let gap = self.loads[from].saturating_sub(self.loads[to]);
        let half = self.shards[from].range(..=(gap / 2, usize::MAX)).next_back();
        let more = || self.shards[from].range((gap / 2, usize::MAX)..).next().filter(|(load, _)| *load < gap);
        half.or_else(more).copied()
    }

    fn shift(&mut self, (load, shard): (u64, usize), from: usize, to: usize) {
        self.shards[from].remove(&(load, shard));
        self.shards[to].insert((load, shard));
        self.loads[from] -= load;
        self.loads[to] += load;
    }
}

/// How far the busiest of `instances` is above the mean, as a share of it; `None` without load.
fn imbalance(loads: &[u64], table: &ShardTable, instances: usize) -> Option<f64> {
    let loads = Instances::new(loads, table, instances).loads;
    let total: u64 = loads.iter().sum();
    let hottest = loads.iter().max().copied().unwrap_or(0);
    (total > 0).then(|| hottest as f64 * instances as f64 / total as f64 - 1.0)
}

/// Which shards should change their owner among `instances`, by the load of each: from the busiest instance to the idlest, each time the
/// shard that brings the two closest together, until the busiest is close to the mean or nothing helps any more.
///
/// No instance of the result has more load than the busiest of `table`. Shards without load stay. Costs a logarithm for each move.
///
/// # Errors
/// Why nothing is to be moved.
///
/// ```
/// use corelane::shard::{Kept, ShardMove, ShardTable, plan_moves};
///
/// let table = ShardTable::even(4, 2); // 0 and 1 on the first instance, 2 and 3 on the second
/// assert_eq!(plan_moves(&[70, 20, 5, 5], &table, 2), Ok(vec![ShardMove { shard: 1, to: 1 }]));
/// assert_eq!(plan_moves(&[90, 0, 5, 5], &table, 2), Err(Kept::OneShard { shard: 0, share: 0.9 }));
/// ```
pub fn plan_moves(loads: &[u64], table: &ShardTable, instances: usize) -> Result<Vec<ShardMove>, Kept> {
    let above = imbalance(loads, table, instances).ok_or(Kept::NoLoad)?;
    if above <= CLOSE {
        return Err(Kept::Balanced { above });
    }
    let mut all = Instances::new(loads, table, instances);
    let total: u64 = all.loads.iter().sum();
    let enough = total as f64 / instances as f64 * (1.0 + CLOSE);
    let mut owners = table.owners().to_vec();
    // Each move makes the sum of the squares of the loads less, so that this ends; the bound is for the worst of cases.
    for _ in 0..4 * table.shards() {
        let busy = (0..instances).max_by_key(|&i| all.loads[i]);
        let idle = (0..instances).min_by_key(|&i| all.loads[i]);
        let (Some(from), Some(to)) = (busy, idle) else { break };
        if all.loads[from] as f64 <= enough {
            break;
        }
        let Some(shard) = all.best(from, to) else { break };
        all.shift(shard, from, to);
        owners[shard.1] = u16::try_from(to).unwrap_or(0);
    }
    let moved = owners.iter().zip(table.owners()).enumerate().filter(|(_, (now, before))| now != before);
    let moves: Vec<_> = moved.map(|(shard, (to, _))| ShardMove { shard, to: usize::from(*to) }).collect();
    if moves.is_empty() {
        let (shard, load) = loads.iter().enumerate().max_by_key(|(_, load)| **load).unwrap_or((0, &0));
        return Err(Kept::OneShard { shard, share: *load as f64 / total as f64 });
    }
    Ok(moves)
}

/// Judges loads as they grow: by hand what has come since it last did so, and by the clock with hysteresis.
#[derive(Clone, Debug)]
pub struct Balancer {
    automatic: Option<AutoRebalance>,
    /// Loads when they were last judged by hand.
    judged: Vec<u64>,
    /// Loads when they were last looked at, and before the first of the periods that were uneven.
    seen: Vec<u64>,
    since: Vec<u64>,
    uneven: u32,
    next: Option<i64>,
    rest_until: i64,
}

fn grown(loads: &[u64], from: &[u64]) -> Vec<u64> {
    loads.iter().zip(from).map(|(now, before)| now.saturating_sub(*before)).collect()
}

fn nanos(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

impl Balancer {
    /// Judges the loads of `shards` shards, all zero so far.
    pub fn new(shards: usize, automatic: Option<AutoRebalance>) -> Self {
        let none = vec![0; shards];
        Self {
            automatic,
            judged: none.clone(),
            seen: none.clone(),
            since: none,
            uneven: 0,
            next: None,
            rest_until: i64::MIN,
        }
    }

    /// Judges by hand: what has come since the last call.
    ///
    /// # Errors
    /// As [`plan_moves`].
    pub fn judge(
        &mut self,
        loads: &[u64],
        table: &ShardTable,
        instances: usize,
    ) -> Result<Vec<ShardMove>, Kept> {
        let grown = grown(loads, &self.judged);
        self.judged.copy_from_slice(loads);
        plan_moves(&grown, table, instances)
    }

    /// Nanoseconds between two looks, if it looks by itself.
    pub fn period(&self) -> Option<i64> {
        self.automatic.map(|policy| nanos(policy.period))
    }

    /// Looks at the loads at `now`, in monotonic nanoseconds, if a period has passed since it last did; the moves that they call for.
    ///
    /// After moves, and after loads that no move would even out, it takes its rest.
    pub fn look(
        &mut self,
        now: i64,
        loads: &[u64],
        table: &ShardTable,
        instances: usize,
    ) -> Option<Vec<ShardMove>> {
        let policy = self.automatic?;
        let first = self.next.is_none();
        if self.next.is_some_and(|next| now < next) {
            return None;
        }
        self.next = Some(now.saturating_add(nanos(policy.period)));
        let before = std::mem::replace(&mut self.seen, loads.to_vec());
        let above = imbalance(&grown(loads, &before), table, instances);
        if first || now < self.rest_until || above.is_none_or(|above| above <= policy.imbalance) {
            self.uneven = 0;
            return None;
        }
        if self.uneven == 0 {
            self.since = before;
        }
        self.uneven += 1;
        if self.uneven < policy.periods {
            return None;
        }
        self.uneven = 0;
        self.rest_until = now.saturating_add(nanos(policy.cooldown));
        plan_moves(&grown(loads, &self.since), table, instances).ok()
    }
}

#[cfg(test)]
mod tests;
