//! The keys that have gone to disk, and everything that happens on their account.

use std::collections::VecDeque;

use super::super::spill::{Gone, LostState, Lot, Store, StoreLimits};
use super::super::{Accumulator, SpillError, SpillSchema, StateOf};
use super::{Keys, Open, hash_key};
use crate::disk::DiskError;
use crate::keyed::spill::format::Identity;
use crate::model::Now;
use crate::observe::StageAccount;
use crate::stage::{StageError, StageSite};

/// Items that wait for their keys at most.
const LOT: usize = 1024;
/// Keys read ahead of the one that is let go of next.
const AHEAD: usize = 64;
/// Keys looked at in one step in search of cold ones.
const LOOK: usize = 4096;
/// In the token of a timer: the key is on disk.
const AWAY: u64 = 1 << 32;
/// Memory below which there is no room for the buffers.
const LEAST: usize = 64 * 1024;
/// A state of so many times less than the mean is small.
const SMALL: u64 = 8;

/// A key whose time is up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    Here { at: u32, fired: i64 },
    Away { id: u32, fired: i64 },
}

impl Due {
    pub(super) fn of(token: u64, fired: i64) -> Self {
        let place = token as u32;
        if token & AWAY == 0 { Self::Here { at: place, fired } } else { Self::Away { id: place, fired } }
    }
}

/// An item that waits for its key, when it came, and what it counts for meanwhile.
struct Parked<In> {
    item: In,
    came: Now,
    bytes: u64,
}

/// A key that has come back, or will not.
struct Back {
    id: u32,
    hash: u64,
    place: Option<u32>,
}

pub(super) struct Cold<In> {
    pub(super) store: Store,
    lot: Lot<Parked<In>>,
    /// Bytes of the items in it.
    lot_bytes: u64,
    /// Items thrown away in it.
    discarded: u64,
    /// Where the search for cold keys goes on.
    hand: u32,
    /// Places that it has gone by since it last found one.
    passed: usize,
    back: Vec<Back>,
    lost: VecDeque<LostState>,
    /// States that could not be written.
    refused: u64,
    last_refusal: Option<SpillError>,
}

impl<In> Cold<In> {
    fn new(store: Store) -> Self {
        Self {
            store,
            lot: Lot::new(),
            lot_bytes: 0,
            discarded: 0,
            hand: 0,
            passed: 0,
            back: Vec::new(),
            lost: VecDeque::new(),
            refused: 0,
            last_refusal: None,
        }
    }

    pub(super) fn look_ahead(&self) -> usize {
        if self.store.is_empty() { 1 } else { AHEAD }
    }

    pub(super) fn account(&self, tally: &mut StageAccount) {
        let stats = self.store.stats();
        tally.keys_spilled = stats.keys;
        tally.spills = stats.written;
        tally.restores = stats.read;
        tally.spill_errors = stats.errors + self.refused;
        tally.spilled_bytes = stats.disk_bytes;
        tally.waiting_retry = self.lot.len() as u64;
        tally.discarded += self.discarded;
    }
}

/// State needs more memory than there is, and nothing will free any.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MemoryExhausted {
    /// Keys may not go to disk, or none of those in memory can.
    #[error(
        "the state of this instance takes {held} bytes of memory and may take {limit}; nothing that is there can be moved \
         to disk, and no time limit will free it"
    )]
    State {
        /// Bytes that it takes.
        held: usize,
        /// Bytes that it may take.
        limit: usize,
    },
    /// The disk quota is used up.
    #[error(
        "the state of this instance takes {held} bytes of memory and may take {limit}, and its share of the disk quota is \
         used up: {disk} bytes"
    )]
    Quota {
        /// Bytes of memory that it takes.
        held: usize,
        /// Bytes of memory that it may take.
        limit: usize,
        /// Bytes on disk.
        disk: u64,
    },
    /// There are so many keys on disk that knowing where they are takes the memory.
    #[error("{keys} keys are on disk, and their index takes {index} of {limit} bytes of memory")]
    Index {
        /// Keys on disk.
        keys: usize,
        /// Bytes that their index takes.
        index: usize,
        /// Bytes of memory that the instance may take.
        limit: usize,
    },
}

/// What state may take of the least of `limits`, in bytes. The rest is for what the allocator takes beside what it is asked for.
pub(in crate::keyed) fn usable(limits: impl IntoIterator<Item = Option<u64>>) -> Option<usize> {
    let limit =
        limits.into_iter().flatten().min().map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX))?;
    Some((limit - limit / 8).max(LEAST))
}

impl<In: 'static, A: Accumulator<In>> Keys<In, A> {
    /// Bounds memory as the policy's `memory` and the resources of `site` say, and opens a place on disk if `spill`.
    pub(in crate::keyed) fn bound(&mut self, memory: Option<u64>, spill: bool, site: &StageSite) {
        let Some(limit) = usable([memory, site.resources.memory]) else { return };
        self.limit = Some(limit);
        // Until it is known what an item takes, few come at a time.
        self.growth = (limit / 64) as u64;
        let schema = self.user.spill_schema();
        let disks = site.resources.disks.as_ref().and_then(std::sync::Weak::upgrade);
        if let (true, Some(schema), Some(disks)) = (spill, schema, disks) {
            let share = u64::from(site.resources.spilling_instances.max(1));
            let quota = disks.quota().map_or(u64::MAX / 2, |all| all / share);
            let limits = StoreLimits::new(limit, quota);
            let identity = Identity::new(&site.context, disks.epoch(), SpillSchema::hash(schema));
            let store = Store::new(disks.open(&site.doorbell), identity, limits);
            self.cold = Some(Box::new(Cold::new(store)));
        }
    }

    /// Whether memory is limited.
    pub(in crate::keyed) fn is_bounded(&self) -> bool {
        self.limit.is_some()
    }

    /// Bytes of memory that the state takes.
    pub(in crate::keyed) fn memory(&self) -> usize {
        let cold = self.cold.as_ref().map_or(0, |cold| cold.store.memory() + cold.lot_bytes as usize);
        self.held as usize + self.table.memory() + self.wheel.memory() + cold
    }

    /// Items that may come, given `room` for them further down.
    pub(in crate::keyed) fn room(&self, room: usize) -> usize {
        let Some(limit) = self.limit else { return room };
        let free = limit.saturating_sub(self.memory());
        if free == 0 {
            return 0;
        }
        let fit = (free / usize::try_from(self.growth).unwrap_or(usize::MAX).max(1)).max(1);
        let waiting = self.cold.as_ref().map_or(0, |cold| cold.lot.len());
        room.min(fit).min(LOT.saturating_sub(waiting))
    }

    /// Takes down what an item added to the state at `at`.
    pub(super) fn weigh(&mut self, at: u32) {
        let open = self.table.value(at);
        let bytes = self.user.held_bytes(&open.of);
        let new = if open.items == 1 { size_of::<Open<StateOf<In, A>>>() as u64 } else { 0 };
        let grown = new + bytes.saturating_sub(open.bytes);
        self.held = self.held + bytes - open.bytes;
        (open.bytes, open.touched, open.pinned) = (bytes, true, false);
        self.growth = (self.growth - self.growth / 64).max(grown);
    }

    /// Whether an item of this key must wait for its key, or behind others that do.
    pub(super) fn must_wait(&mut self, hash: u64, key: &A::Key) -> bool {
        let Some(cold) = &mut self.cold else { return false };
        if cold.lot.has(hash) {
            return true;
        }
        let away = !cold.store.is_empty() && self.table.find(hash, |open| open.of.key == *key).is_none();
        match cold.store.find(hash).filter(|_| away) {
            Some(id) => {
                cold.store.fetch(id);
                true
            }
            None => false,
        }
    }

    pub(super) fn park(&mut self, hash: u64, item: In, came: Now) {
        let bytes = self.user.cost(&item).bytes().saturating_add(size_of::<Parked<In>>() as u64);
        if let Some(cold) = &mut self.cold {
            cold.lot_bytes += bytes;
            cold.lot.push(hash, Parked { item, came, bytes });
        }
    }

    /// Whether items wait for their keys.
    pub(in crate::keyed) fn has_parked(&self) -> bool {
        self.cold.as_ref().is_some_and(|cold| !cold.lot.is_empty())
    }

    /// Key `id` on disk is due.
    pub(super) fn due_away(&mut self, id: u32, fired: i64) {
        let Some(cold) = &mut self.cold else { return };
        match cold.store.deadline(id) {
            Some(deadline) if deadline == fired => {
                *cold.store.timer(id) = None;
                cold.store.fetch(id);
                self.due.push_back(Due::Away { id, fired });
            }
            _ => {}
        }
    }

    /// Asks for the next keys on disk; whether there are any.
    pub(super) fn fetch_ahead(&mut self) -> bool {
        let roomy = self.limit.is_none_or(|limit| self.memory() < limit);
        let Some(cold) = &mut self.cold else { return false };
        if cold.store.wanted() < AHEAD / 2 {
            cold.store.fetch_first(if roomy { AHEAD } else { 1 });
        }
        !cold.store.is_empty()
    }

    /// Goes on with what is under way to disk and back. True if anything moved. User code, as [`add`](Self::add).
    pub(in crate::keyed) fn poll_disk(&mut self, now: Now) -> bool {
        let over = self.limit.is_some_and(|limit| self.memory() >= limit);
        let Self { cold: Some(cold), user, table, wheel, tally, held, .. } = self else { return false };
        let Cold { store, back, lost, .. } = &mut **cold;
        let mut moved =
            store.poll(now.monotonic, if over { 1 } else { usize::MAX }, over, &mut |(gone, bytes)| {
                let Gone { id, hash, items, deadline, timer } = gone;
                if let Some(timer) = timer {
                    wheel.cancel(timer);
                }
                tally.items_spilled -= items;
                let read = bytes.and_then(|bytes| user.deserialize_spill(bytes).map_err(LostState::Format));
                let place = match read {
                    // Another key's, or one that is here already, would mean two states for one key.
                    Ok(of)
                        if hash_key(&of.key) != hash
                            || table.find(hash, |o| o.of.key == of.key).is_some() =>
                    {
                        Err(LostState::OtherKey)
                    }
                    Ok(of) => {
                        let bytes = user.held_bytes(&of);
                        *held += bytes;
                        tally.items_open += items;
                        Ok(table.insert(hash, Open { items, deadline, bytes, ..Open::new(of) }))
                    }
                    Err(error) => Err(error),
                };
                let place = place.map_err(|error| {
                    tally.items_lost += items;
                    lost.push_back(error);
                });
                back.push(Back { id, hash, place: place.ok() });
            });
        moved |= self.settle_back();
        self.make_room(now) | moved
    }

    /// Gives keys that came back their timers, and then the items that waited for them.
    fn settle_back(&mut self) -> bool {
        let Some(cold) = &mut self.cold else { return false };
        if cold.back.is_empty() {
            return false;
        }
        let mut back = std::mem::take(&mut cold.back);
        for Back { id, place, .. } in &back {
            let Some(at) = *place else { continue };
            let fired = self.table.value(at).deadline;
            let queued = self.due.iter_mut().find(|due| **due == Due::Away { id: *id, fired });
            match queued {
                Some(due) => *due = Due::Here { at, fired },
                None if fired != i64::MAX => self.arm(at, fired),
                None => {}
            }
        }
        for Back { hash, .. } in back.drain(..) {
            self.feed(hash);
        }
        if let Some(cold) = &mut self.cold {
            cold.back = back;
        }
        true
    }

    /// Gives the items with this hash to their keys, unless one of those is still on its way.
    fn feed(&mut self, hash: u64) {
        while let Some(cold) = &mut self.cold {
            if !cold.lot.has(hash) {
                return;
            }
            if let Some(other) = cold.store.find(hash) {
                cold.store.fetch(other);
                return;
            }
            let Some(Parked { item, came, bytes }) = cold.lot.pop(hash) else { return };
            cold.lot_bytes -= bytes;
            self.begun += 1;
            let key = self.user.key(&item);
            self.absorb(item, key, hash, came);
        }
    }

    /// Sends cold keys to disk while state takes more than it should. True if any went.
    pub(in crate::keyed) fn make_room(&mut self, now: Now) -> bool {
        let Some(limit) = self.limit.filter(|_| !self.ending) else { return false };
        let target = limit - limit / 4;
        let mut look = LOOK;
        let mut any = false;
        while let Some(cold) = &self.cold {
            let over = self.memory().saturating_sub(cold.store.leaving()) > target;
            // More keys on disk would take more memory than they free.
            let many = cold.store.index() > limit / 2;
            if !over || many || !cold.store.can_put(now.monotonic) {
                break;
            }
            let Some(at) = self.coldest(now, &mut look) else { break };
            any |= self.spill(at);
        }
        any
    }

    /// A key that no item came for since the last time around, as far as `look` goes; while others may be found, none whose state is
    /// much smaller than most: it would free hardly more than the index of what is on disk takes, and the items that come for it would wait.
    fn coldest(&mut self, now: Now, look: &mut usize) -> Option<u32> {
        let clock = self.clock_at(now);
        let places = self.table.places() as u32;
        let worth = self.held / (SMALL * self.table.len().max(1) as u64);
        let cold = self.cold.as_mut()?;
        let mut most = 2 * places as usize;
        while *look > 0 && most > 0 {
            *look -= 1;
            most -= 1;
            let at = if cold.hand >= places { 0 } else { cold.hand };
            cold.hand = at + 1;
            cold.passed += 1;
            let Some(open) = self.table.get_mut(at) else { continue };
            let is_small = open.bytes < worth && cold.passed <= 2 * places as usize;
            // What is due goes by itself.
            if !open.pinned && !is_small && !std::mem::take(&mut open.touched) && open.deadline > clock {
                cold.passed = 0;
                return Some(at);
            }
        }
        None
    }

    /// Sends the key at `at` on its way; false if its state cannot be written.
    fn spill(&mut self, at: u32) -> bool {
        let Self { table, user, cold: Some(cold), wheel, .. } = self else { return false };
        let hash = table.hash_at(at);
        let open = table.value(at);
        let put =
            cold.store.put(hash, open.items, open.deadline, |into| user.serialize_spill(&open.of, into));
        match put {
            Ok(id) => {
                if open.deadline != i64::MAX {
                    let timer = wheel.schedule(open.deadline, AWAY | u64::from(id));
                    *cold.store.timer(id) = Some(timer);
                }
                self.held -= open.bytes;
                self.tally.items_open -= open.items;
                self.tally.items_spilled += open.items;
                table.remove(at);
                true
            }
            Err(error) => {
                open.pinned = true;
                cold.refused += 1;
                cold.last_refusal = Some(error);
                false
            }
        }
    }

    /// A state that was lost since the last call.
    pub(in crate::keyed) fn take_lost(&mut self) -> Option<LostState> {
        self.cold.as_mut()?.lost.pop_front()
    }

    /// What went wrong without losing anything, since the last call.
    pub(in crate::keyed) fn take_alarm(&mut self) -> Option<String> {
        let cold = self.cold.as_mut()?;
        let refusal = cold.last_refusal.take().map(|error| error.to_string());
        refusal.or_else(|| cold.store.take_error().map(|error: DiskError| error.to_string()))
    }

    /// Whether there is anything to do for [`poll_disk`](Self::poll_disk).
    pub(in crate::keyed) fn is_spilling(&self) -> bool {
        let over = || self.limit.is_some_and(|limit| self.memory() > limit - limit / 4);
        self.cold.as_ref().is_some_and(|cold| cold.store.is_busy() || over())
    }

    /// When the disk has something, or is to be tried again, where that is known.
    pub(in crate::keyed) fn disk_deadline(&self) -> Option<i64> {
        let store = &self.cold.as_ref()?.store;
        crate::stage::earliest(store.next_deadline(), store.retry_at())
    }

    /// Whether no input can be taken any more, whatever happens: memory is used up, nothing is on its way to disk, and no
    /// deadline will free any.
    pub(in crate::keyed) fn exhausted(&mut self, now: Now) -> Option<StageError> {
        let limit = self.limit?;
        let held = self.memory();
        let by_time = self.clock() == crate::policy::TimeDomain::Processing && self.next_deadline().is_some();
        if held < limit || self.ending || by_time || !self.results.is_empty() || self.is_due(now) {
            return None;
        }
        let may_cool = self.may_cool();
        let error = match &self.cold {
            Some(cold) if cold.store.is_busy() || cold.store.retry_at().is_some() => return None,
            Some(cold) if cold.store.is_full() => {
                MemoryExhausted::Quota { held, limit, disk: cold.store.stats().disk_bytes }
            }
            Some(cold) if cold.store.index() > limit / 2 => {
                MemoryExhausted::Index { keys: cold.store.len(), index: cold.store.index(), limit }
            }
            Some(_) if may_cool => return None,
            _ => MemoryExhausted::State { held, limit },
        };
        Some(StageError::User(Box::new(error)))
    }

    /// Whether any key in memory can go to disk.
    fn may_cool(&mut self) -> bool {
        (0..self.table.places() as u32).any(|at| self.table.get_mut(at).is_some_and(|open| !open.pinned))
    }

    /// Drops everything that is on disk or waits for it, and deletes the files. May block.
    pub(in crate::keyed) fn close_disk(&mut self) {
        if let Some(cold) = &mut self.cold {
            cold.discarded += cold.lot.clear() as u64;
            cold.lot_bytes = 0;
            cold.store.close();
        }
    }
}
