//! One instance's part in the moves of its stage's shards.

use std::sync::Arc;

use super::control::{Parcel, ShardControl, ShardSeat};
use super::{ShardTable, Shards};

/// Keys in one parcel at most.
const PARCEL: usize = 512;

/// Keyed state whose keys can go to another instance.
pub(crate) trait Movable {
    /// A key and all that belongs to it.
    type Key: Send + 'static;
    /// Why a key cannot be taken.
    type Error;

    /// Looks at some thousand keys, from `at` on, which is 0 at first and otherwise what the last call left there. Takes those out for which
    /// `away` names an instance, by their hash, and gives them to `out` with it. True if there are no more keys to look at.
    ///
    /// Between calls nothing is done with the keys, except that others are [taken](Self::take).
    fn give(
        &mut self,
        at: &mut usize,
        away: impl Fn(u64) -> Option<usize>,
        out: impl FnMut(usize, Self::Key),
    ) -> bool;

    /// Takes a key from another instance.
    ///
    /// # Errors
    /// The pipeline must fail.
    fn take(&mut self, key: Self::Key) -> Result<(), Self::Error>;

    /// Items whose count goes with `key`; 0 where they are counted by shard.
    fn items(key: &Self::Key) -> u64;

    /// So many items' state belongs to another instance from now on.
    fn gone(&mut self, items: u64);

    /// So many items' state of another instance belongs to this one from now on.
    fn came(&mut self, items: u64);
}

/// A move under way.
struct Moving<K> {
    version: u64,
    before: ShardTable,
    after: ShardTable,
    /// Keys that have been taken out and not sent, by the instance they go to.
    bags: Vec<Vec<K>>,
    /// Instances that are owed a last parcel, and those that owe one.
    owed: Vec<bool>,
    owing: Vec<bool>,
    /// How far the keys have been looked at.
    at: usize,
    looked: bool,
}

impl<K> Moving<K> {
    fn is_done(&self) -> bool {
        !self.owed.contains(&true) && !self.owing.contains(&true)
    }
}

/// Counts the items of an instance by shard, and carries out its part of a move.
pub(crate) struct Mover<K> {
    control: Arc<ShardControl>,
    seat: ShardSeat,
    /// Any of the stage: all have as many shards.
    table: ShardTable,
    /// Items since the start, by shard, and which of them belong to other instances, or came from there: a difference, modulo 2^64.
    counts: Vec<u64>,
    elsewhere: Vec<u64>,
    /// Whether those numbers go with the shards.
    by_shard: bool,
    moving: Option<Moving<K>>,
    /// When the load is to be looked at.
    look_at: i64,
}

impl<K> Mover<K> {
    /// Takes the seat of an instance whose shards move. `by_shard` says that items are not counted [by key](Movable::items).
    pub(crate) fn new(shards: Option<&Shards>, by_shard: bool) -> Option<Box<Self>> {
        let shards = shards?;
        let (seat, control) = (shards.take_seat()?, Arc::clone(&shards.control));
        let table = control.assignment().after;
        let look_at = if seat.instance == 0 && control.is_automatic() { i64::MIN } else { i64::MAX };
        let none = vec![0; table.shards()];
        let (counts, elsewhere) = (none.clone(), none);
        Some(Box::new(Self { control, seat, table, counts, elsewhere, by_shard, moving: None, look_at }))
    }

    /// Counts an item whose key has this hash.
    #[inline(always)]
    pub(crate) fn count(&mut self, hash: u64) {
        self.counts[self.table.shard(hash)] += 1;
    }

    /// Whether the instance is to take nothing for now.
    #[inline]
    pub(crate) fn is_moving(&self) -> bool {
        self.moving.is_some()
    }

    /// Publishes the counts.
    pub(crate) fn publish(&self) {
        self.control.publish(self.seat.instance, &self.counts);
    }

    /// Looks at the load of the stage, if this instance is the one to do so and it is time to.
    #[inline]
    pub(crate) fn look(&mut self, now: i64) {
        if now >= self.look_at && self.moving.is_none() {
            self.look_at = self.control.look(now);
        }
    }

    /// The end of the input has come.
    pub(crate) fn end(&mut self) {
        self.control.end(self.seat.instance);
    }

    /// Every input has come to barrier `version`. False if it is none of this stage's moves.
    pub(crate) fn begin(&mut self, version: u64) -> bool {
        let assignment = self.control.assignment();
        if assignment.version != version {
            return false;
        }
        let (me, n) = (self.seat.instance, self.seat.to.len());
        let (before, after) = (assignment.before, assignment.after);
        let (mut owed, mut owing) = (vec![false; n], vec![false; n]);
        for (from, to) in before.owners().iter().zip(after.owners()) {
            let (from, to) = (usize::from(*from), usize::from(*to));
            owed[to] |= from == me && to != me;
            owing[from] |= to == me && from != me;
        }
        let looked = !owed.contains(&true);
        let bags = (0..n).map(|_| Vec::new()).collect();
        self.moving = Some(Moving { version, before, after, bags, owed, owing, at: 0, looked });
        true
    }
}

impl<K: Send + 'static> Mover<K> {
    /// Goes on with the move: takes what has arrived and gives what there is room for. True if anything moved.
    ///
    /// # Errors
    /// That of [`Movable::take`]; the move stays as it is.
    pub(crate) fn step<S: Movable<Key = K>>(&mut self, state: &mut S) -> Result<bool, S::Error> {
        let Some(mut moving) = self.moving.take() else { return Ok(false) };
        let taken = self.take_arrivals(&mut moving, state);
        let moved = self.give(&mut moving, state) | *taken.as_ref().unwrap_or(&true);
        if moving.is_done() && taken.is_ok() {
            self.publish();
            self.control.finish(self.seat.instance, moving.version);
            return Ok(true);
        }
        self.moving = Some(moving);
        taken.map(|_| moved)
    }

    fn take_arrivals<S: Movable<Key = K>>(
        &mut self,
        moving: &mut Moving<K>,
        state: &mut S,
    ) -> Result<bool, S::Error> {
        let mut moved = false;
        for giver in 0..moving.owing.len() {
            while moving.owing[giver]
                && let Some(parcel) = self.seat.from[giver].as_mut().and_then(|ring| ring.pop())
            {
                moved = true;
                moving.owing[giver] = !parcel.last;
                debug_assert_eq!(parcel.version, moving.version);
                self.arrived(&parcel, state);
                // Nobody else sends on these rings.
                if let Ok(keys) = parcel.keys.downcast::<Vec<K>>() {
                    keys.into_iter().try_for_each(|key| state.take(key))?;
                }
            }
        }
        Ok(moved)
    }

    /// Counts what came with `parcel`.
    fn arrived<S: Movable<Key = K>>(&mut self, parcel: &Parcel, state: &mut S) {
        for (shard, items) in &parcel.shards {
            self.elsewhere[*shard] = self.elsewhere[*shard].wrapping_sub(*items);
        }
        state.came(parcel.items);
    }

    fn give<S: Movable<Key = K>>(&mut self, moving: &mut Moving<K>, state: &mut S) -> bool {
        let mut moved = false;
        if !moving.looked && moving.bags.iter().all(|bag| bag.len() < PARCEL) {
            let Moving { before, after, bags, at, .. } = moving;
            let me = self.seat.instance;
            let away = |hash| {
                let to = after.owner(hash);
                (to != me && before.owner(hash) == me).then_some(to)
            };
            moving.looked = state.give(at, away, |to, key| bags[to].push(key));
            moved = true;
        }
        for taker in 0..moving.owed.len() {
            moved |= self.send(moving, taker, state);
        }
        moved
    }

    /// Sends what is in the bag for `taker`, as far as there is room, in whole parcels until the last one.
    fn send<S: Movable<Key = K>>(&mut self, moving: &mut Moving<K>, taker: usize, state: &mut S) -> bool {
        let mut moved = false;
        while moving.owed[taker]
            && (moving.looked || moving.bags[taker].len() >= PARCEL)
            && self.seat.to[taker].as_mut().is_some_and(|ring| ring.free_for(1) > 0)
        {
            let bag = &mut moving.bags[taker];
            let keys = bag.split_off(bag.len().saturating_sub(PARCEL));
            let last = moving.looked && bag.is_empty();
            let shards = if last { self.leave(moving, taker) } else { Vec::new() };
            let items = keys.iter().map(S::items).chain(shards.iter().map(|(_, items)| *items)).sum();
            state.gone(items);
            moving.owed[taker] = !last;
            if let Some(ring) = &mut self.seat.to[taker] {
                let keys = Box::new(keys);
                // There is room: nobody else pushes.
                let _ = ring.push(Parcel { version: moving.version, items, shards, last, keys });
                ring.publish();
            }
            moved = true;
        }
        moved
    }

    /// The items of the shards that go to `taker`, which are none of this instance's from now on.
    fn leave(&mut self, moving: &Moving<K>, taker: usize) -> Vec<(usize, u64)> {
        let mut left = Vec::new();
        let owners = moving.before.owners().iter().zip(moving.after.owners()).enumerate();
        for (shard, (from, to)) in owners.filter(|_| self.by_shard) {
            if usize::from(*from) == self.seat.instance && usize::from(*to) == taker {
                left.push((shard, self.counts[shard].wrapping_sub(self.elsewhere[shard])));
                self.elsewhere[shard] = self.counts[shard];
            }
        }
        left
    }

    /// Counts what is on its way to this instance, once no instance is stepped any more, and drops it.
    pub(crate) fn close<S: Movable<Key = K>>(&mut self, state: &mut S) {
        let mut left = Vec::new();
        for ring in self.seat.from.iter_mut().flatten() {
            while let Some(parcel) = ring.pop() {
                state.came(parcel.items);
                left.push(parcel);
            }
        }
        self.publish();
        self.moving = None;
    }
}

#[cfg(test)]
mod tests;
