//! Items that wait for partners and leave all at once.

use std::hash::Hash;

use corelane::keyed::{Allowance, hash_key};
use corelane::stage::Pending;
use hashbrown::HashTable;

use super::logic::{Gives, JoinLogic, Side, give, part};
use crate::blocks::Blocks;
use crate::tally::Tally;
use crate::window::panes::{Entry, Store, insert};

/// No item.
const NONE: usize = usize::MAX;
/// Of a side whose items are not held: there was one.
const SEEN: usize = 0;

/// An item that waits.
struct Held<T> {
    item: T,
    /// Twice the place of the next one of its key (of the first one, for the last), and one more if it has been paired: a field for that would
    /// be eight bytes more to write and to read for each item.
    link: usize,
}

impl<T> Held<T> {
    #[inline(always)]
    fn new(item: T, next: usize, matched: bool) -> Self {
        Self { item, link: 2 * next + usize::from(matched) }
    }

    #[inline(always)]
    fn next(&self) -> usize {
        self.link / 2
    }

    #[inline(always)]
    fn is_matched(&self) -> bool {
        self.link % 2 == 1
    }

    #[inline(always)]
    fn set_matched(&mut self) {
        self.link |= 1;
    }

    /// Has `next` come behind it; what came there before.
    #[inline(always)]
    fn set_next(&mut self, next: usize) -> usize {
        let before = self.next();
        self.link = 2 * next + self.link % 2;
        before
    }
}

/// The last item of a key on each side.
struct Lasts<K> {
    key: K,
    left: usize,
    right: usize,
}

impl<K: Hash + Eq> Entry for Lasts<K> {
    type Key = K;
    #[inline(always)]
    fn key(&self) -> &K {
        &self.key
    }
}

/// Items of two sides, each in the order in which they came, those of a key in a ring.
pub(super) struct Meeting<K, L, R> {
    keys: HashTable<Lasts<K>>,
    left: Blocks<Held<L>>,
    right: Blocks<Held<R>>,
    /// Last left items of keys whose results are still to be given: see [`give_found`].
    found: Vec<usize>,
}

impl<K, L, R> Default for Meeting<K, L, R> {
    fn default() -> Self {
        Self { keys: HashTable::new(), left: Blocks::default(), right: Blocks::default(), found: Vec::new() }
    }
}

impl<K, L, R> Store for Meeting<K, L, R> {
    fn len(&self) -> usize {
        self.keys.len()
    }
    fn capacity(&self) -> usize {
        self.keys.capacity().max(self.left.capacity()).max(self.right.capacity())
    }
    #[cfg(test)]
    fn bytes(&self) -> usize {
        let items =
            self.left.capacity() * size_of::<Held<L>>() + self.right.capacity() * size_of::<Held<R>>();
        self.keys.allocation_size() + items
    }
}

/// Gives all items of a key; whether there is any.
#[inline(always)]
fn pair<T>(held: &mut Blocks<Held<T>>, last: usize, mut give: impl FnMut(&T)) -> bool {
    let mut at = match held.get_mut(last) {
        Some(last) => last.next(),
        None => return false,
    };
    loop {
        let other = &mut held[at];
        other.set_matched();
        give(&other.item);
        if at == last {
            return true;
        }
        at = other.next();
    }
}

/// Gives the results of left items whose first partner has come since the last call. Not each at once: the user's code may well read memory
/// that is far away, and right behind each other they wait for it together.
fn give_found<J: JoinLogic>(
    user: &mut J,
    left: &mut Blocks<Held<J::Left>>,
    found: &mut Vec<usize>,
    tally: &mut Tally,
    out: &mut Pending<J::Out>,
) {
    for last in found.drain(..) {
        pair(left, last, |left| give(user, (Some(left), None), tally, out));
    }
}

/// Adds an item to those of its key.
#[inline(always)]
fn hold<T>(held: &mut Blocks<Held<T>>, last: &mut usize, item: T, matched: bool) {
    let at = held.len();
    let next = held.get_mut(*last).map_or(at, |last| last.set_next(at));
    *last = at;
    held.push(Held::new(item, next, matched));
}

impl<K: Hash + Eq, L, R> Meeting<K, L, R> {
    /// Pairs an item with those of its key on the other side, then adds it.
    #[inline(always)]
    pub(super) fn meet<J>(
        &mut self,
        user: &mut J,
        item: Side<L, R>,
        tally: &mut Tally,
        out: &mut Pending<J::Out>,
    ) where
        J: JoinLogic<Key = K, Left = L, Right = R>,
    {
        // Each side reads its keys by instructions of its own: the processor guesses where the next key lies by what the same one has read.
        match item {
            Side::Left(item) => self.meet_left(user, item, tally, out),
            Side::Right(item) => self.meet_right(user, item, tally, out),
        }
        tally.absorbed += 1;
    }

    /// Gives the last items of a key to `meet`, to look at and to change.
    #[inline(always)]
    fn at(keys: &mut HashTable<Lasts<K>>, key: K, meet: impl FnOnce(&mut usize, &mut usize)) {
        let hash = hash_key(&key);
        match keys.find_mut(hash, |lasts| lasts.key == key) {
            Some(Lasts { left, right, .. }) => meet(left, right),
            None => {
                let mut new = Lasts { key, left: NONE, right: NONE };
                meet(&mut new.left, &mut new.right);
                insert(keys, hash, new);
            }
        }
    }

    /// Pairs a left item with the right ones of its key, then adds it.
    #[inline(always)]
    fn meet_left<J>(&mut self, user: &mut J, item: L, tally: &mut Tally, out: &mut Pending<J::Out>)
    where
        J: JoinLogic<Key = K, Left = L, Right = R>,
    {
        let key = user.left_key(&item);
        let Self { keys, left, right, found } = self;
        Self::at(keys, key, |of_left, of_right| {
            if J::once() && *of_right == SEEN {
                // What came earlier has its result earlier.
                give_found(user, left, found, tally, out);
                give(user, (Some(&item), None), tally, out);
                tally.leave(true);
            } else {
                let matched = pair(right, *of_right, |r| give(user, (Some(&item), Some(r)), tally, out));
                hold(left, of_left, item, matched);
            }
        });
    }

    /// Pairs a right item with the left ones of its key, then adds it.
    #[inline(always)]
    fn meet_right<J>(&mut self, user: &mut J, item: R, tally: &mut Tally, out: &mut Pending<J::Out>)
    where
        J: JoinLogic<Key = K, Left = L, Right = R>,
    {
        let key = user.right_key(&item);
        let Self { keys, left, right, found } = self;
        if J::once() {
            Self::see(keys, key, |of_left| found.push(of_left));
            tally.leave(true);
        } else {
            Self::at(keys, key, |of_left, of_right| {
                let matched = pair(left, *of_left, |l| give(user, (Some(l), Some(&item)), tally, out));
                hold(right, of_right, item, matched);
            });
        }
    }

    /// Notes that there was a right item of a key; for the first one `meet` is given the last left item. More than the first one left items need not
    /// know of.
    #[inline(always)]
    fn see(keys: &mut HashTable<Lasts<K>>, key: K, meet: impl FnOnce(usize)) {
        let hash = hash_key(&key);
        match keys.find_mut(hash, |lasts| lasts.key == key) {
            Some(Lasts { right: SEEN, .. }) => {}
            Some(Lasts { left, right, .. }) => {
                *right = SEEN;
                if *left != NONE {
                    meet(*left);
                }
            }
            // There is none on the left.
            None => insert(keys, hash, Lasts { key, left: NONE, right: SEEN }),
        }
    }

    /// Whether results have been put off: see [`give_found`].
    #[inline]
    pub(super) fn owes(&self) -> bool {
        !self.found.is_empty()
    }

    /// Gives the results that have been put off, with an item at hand that has no fate yet.
    pub(super) fn give_owed<J>(&mut self, user: &mut J, tally: &mut Tally, out: &mut Pending<J::Out>)
    where
        J: JoinLogic<Key = K, Left = L, Right = R>,
    {
        give_found(user, &mut self.left, &mut self.found, tally, out);
    }

    /// Gives the results that have been put off, with no item at hand.
    pub(super) fn flush<J>(&mut self, user: &mut J, tally: &mut Tally, out: &mut Pending<J::Out>)
    where
        J: JoinLogic<Key = K, Left = L, Right = R>,
    {
        if self.owes() {
            // After a panic this right item is the one that has no fate.
            tally.take_back();
            self.give_owed(user, tally, out);
            tally.absorbed += 1;
            tally.leave(true);
        }
    }

    /// Lets go of the items, from the last to the first. True if all have gone.
    pub(super) fn leave<J>(
        &mut self,
        user: &mut J,
        tally: &mut Tally,
        allowance: &mut Allowance,
        out: &mut Pending<J::Out>,
    ) -> bool
    where
        J: JoinLogic<Key = K, Left = L, Right = R>,
    {
        debug_assert!(!self.owes(), "flushed before anything leaves");
        let Self { keys, left, right, .. } = self;
        if J::GIVES == Gives::PairsAndAlone {
            while !allowance.is_spent(out.len()) {
                if let Some(held) = left.pop() {
                    part(user, (Some(&held.item), None), held.is_matched(), tally, out);
                } else if let Some(held) = right.pop() {
                    part(user, (None, Some(&held.item)), held.is_matched(), tally, out);
                } else {
                    break;
                }
                allowance.work();
            }
        } else {
            let_go(left, tally, allowance);
            let_go(right, tally, allowance);
        }
        let gone = left.is_empty() && right.is_empty();
        if gone {
            keys.clear();
        }
        gone
    }
}

/// Lets go of the last items of a side, which have no results alone: they are only counted.
fn let_go<T>(held: &mut Blocks<Held<T>>, tally: &mut Tally, allowance: &mut Allowance) {
    while allowance.work > 0
        && let Some(leaving) = held.drain_last(allowance.work)
    {
        allowance.work -= leaving.len();
        leaving.for_each(|held| tally.leave(held.is_matched()));
    }
}
