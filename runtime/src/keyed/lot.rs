//! Items that wait for another attempt, key by key.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::hash::Hash;

use hashbrown::HashTable;

use super::hash_key;
use crate::observe::StageAccount;
use crate::stage::{Admission, Attempt, StepCx, Trial, Tried, catch};

/// Items of one key: the first for its next attempt, the rest behind it.
struct Queue<K, T> {
    key: K,
    hash: u64,
    items: VecDeque<T>,
    /// Attempts already made at the first item.
    tried: u32,
}

/// Items that wait, at most `capacity` beyond a batch. Only items of the same key wait for each other.
pub(super) struct KeyedLot<K, T> {
    /// Places of queues by their keys.
    table: HashTable<u32>,
    queues: Vec<Option<Queue<K, T>>>,
    free: Vec<u32>,
    /// Each queue once: when its first item is due, then in the order in which they came here.
    due: BinaryHeap<Reverse<(i64, u64, u32)>>,
    turns: u64,
    waiting: usize,
    capacity: usize,
    /// Whether an item needs a second look before it is tried: something waits, or there is a breaker.
    detour: bool,
    discarded: u64,
}

impl<K: Hash + Eq, T> KeyedLot<K, T> {
    pub(super) fn new(capacity: usize, trial: &Trial<T>) -> Self {
        Self {
            table: HashTable::new(),
            queues: Vec::new(),
            free: Vec::new(),
            due: BinaryHeap::new(),
            turns: 0,
            waiting: 0,
            capacity,
            detour: trial.is_guarded(),
            discarded: 0,
        }
    }

    #[inline(always)]
    pub(super) fn is_empty(&self) -> bool {
        self.waiting == 0
    }

    /// Of `room` items, how many are to be taken now: each of them may have to wait here.
    #[inline]
    pub(super) fn room(&self, room: usize, trial: &Trial<T>) -> usize {
        trial.room(room.min(self.capacity.saturating_sub(self.waiting)), self.waiting)
    }

    pub(super) fn deadline(&self, trial: &Trial<T>) -> Option<i64> {
        trial.deadline(self.due.peek().map(|Reverse((due, ..))| *due))
    }

    /// Tries `item` unless one of its key waits; parks it if it is to be tried again.
    #[inline(always)]
    pub(super) fn offer<U>(
        &mut self,
        item: T,
        trial: &mut Trial<T>,
        cx: &StepCx,
        key: impl FnMut(&T) -> K,
        attempt: impl FnOnce(T) -> Attempt<U, T>,
    ) -> Option<U> {
        if self.detour {
            return self.offer_slowly(item, trial, cx, key, attempt);
        }
        match attempt(item) {
            Attempt::Done(u) => Some(u),
            failed => {
                if let Tried::Again(item, due) = trial.judge(failed, 0, cx) {
                    self.park(item, 1, due, trial, cx, key);
                }
                None
            }
        }
    }

    #[inline(never)]
    fn offer_slowly<U>(
        &mut self,
        item: T,
        trial: &mut Trial<T>,
        cx: &StepCx,
        mut key: impl FnMut(&T) -> K,
        attempt: impl FnOnce(T) -> Attempt<U, T>,
    ) -> Option<U> {
        if !self.is_empty() && !cfg!(feature = "bug_retry_overtakes") {
            let found = catch(|| {
                let key = key(&item);
                self.table.find(hash_key(&key), |at| self.queue(*at).is_some_and(|q| q.key == key)).copied()
            });
            match found {
                Ok(None) => {}
                Ok(Some(at)) => {
                    if let Some(queue) = &mut self.queues[at as usize] {
                        queue.items.push_back(item);
                        self.waiting += 1;
                    }
                    return None;
                }
                Err(panic) => {
                    trial.lose(Some(item), panic, 0, cx);
                    return None;
                }
            }
        }
        match trial.admit() {
            Admission::Call => match trial.attempt(item, 0, cx, attempt) {
                Tried::Done(u) => return Some(u),
                Tried::Again(item, due) => self.park(item, 1, due, trial, cx, key),
                Tried::Lost => {}
            },
            Admission::Wait => self.park(item, 0, cx.now().monotonic, trial, cx, key),
            Admission::TurnAway => trial.turn_away(item, 0, cx),
        }
        None
    }

    fn queue(&self, at: u32) -> Option<&Queue<K, T>> {
        self.queues.get(at as usize)?.as_ref()
    }

    /// Opens the queue of an item's key. A key function that panics takes no item with it: that one is given up.
    #[cold]
    #[inline(never)]
    fn park(
        &mut self,
        item: T,
        tried: u32,
        due: i64,
        trial: &mut Trial<T>,
        cx: &StepCx,
        mut key: impl FnMut(&T) -> K,
    ) {
        let key = match catch(|| {
            let key = key(&item);
            (hash_key(&key), key)
        }) {
            Ok(key) => key,
            Err(panic) => return trial.lose(Some(item), panic, tried, cx),
        };
        let (hash, key) = key;
        let queue = Queue { key, hash, items: VecDeque::from([item]), tried };
        let at = match self.free.pop() {
            Some(at) => at,
            None => {
                self.queues.push(None);
                u32::try_from(self.queues.len() - 1).unwrap_or(u32::MAX)
            }
        };
        self.queues[at as usize] = Some(queue);
        let queues = &self.queues;
        self.table.insert_unique(hash, at, |at| queues[*at as usize].as_ref().map_or(0, |q| q.hash));
        self.waiting += 1;
        self.detour = true;
        self.wait(due, at);
    }

    fn wait(&mut self, due: i64, at: u32) {
        self.turns += 1;
        self.due.push(Reverse((due, self.turns, at)));
    }

    /// Tries the item that has been due longest. The outer `None` says that there was nothing to try.
    pub(super) fn retry<U>(
        &mut self,
        trial: &mut Trial<T>,
        cx: &StepCx,
        attempt: impl FnOnce(T) -> Attempt<U, T>,
    ) -> Option<Option<U>> {
        let Reverse((due, _, at)) = *self.due.peek()?;
        if due > cx.now().monotonic || matches!(trial.admit(), Admission::Wait) {
            return None;
        }
        self.due.pop();
        let queue = self.queues[at as usize].as_mut()?;
        let item = queue.items.pop_front()?;
        let tried = std::mem::take(&mut queue.tried);
        self.waiting -= 1;
        let mut outcome = None;
        let mut next_due = due;
        if matches!(trial.admit(), Admission::TurnAway) {
            trial.turn_away(item, tried, cx);
        } else {
            match trial.attempt(item, tried, cx, attempt) {
                Tried::Done(u) => outcome = Some(u),
                Tried::Again(item, due) => {
                    queue.items.push_front(item);
                    queue.tried = tried + 1;
                    self.waiting += 1;
                    next_due = due;
                }
                Tried::Lost => {}
            }
        }
        if queue.items.is_empty() {
            let hash = queue.hash;
            if let Ok(entry) = self.table.find_entry(hash, |other| *other == at) {
                entry.remove();
            }
            self.queues[at as usize] = None;
            self.free.push(at);
            self.detour = trial.is_guarded() || self.waiting > 0;
        } else {
            self.wait(next_due, at);
        }
        Some(outcome)
    }

    /// See [`Trial::account`].
    pub(super) fn account(&self, trial: &Trial<T>, account: &mut StageAccount) -> u64 {
        trial.account(self.waiting, self.discarded, account)
    }

    /// Drops everything that waits.
    pub(super) fn discard(&mut self) {
        self.discarded += std::mem::take(&mut self.waiting) as u64;
        self.table.clear();
        self.due.clear();
        self.queues.clear();
        self.free.clear();
    }
}
