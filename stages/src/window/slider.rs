//! What keys gathered in the panes of a sliding window, combined without going through all panes at each step.

use std::hash::Hash;

use hashbrown::HashTable;

use super::logic::Logic;
use super::panes::Panes;
use super::running::Running;
use super::stacks::Stacks;

/// Combined in the way that suits the aggregate.
pub(super) enum Slider<K, A> {
    /// For any.
    Stacks(Stacks<K, A>),
    /// For those that can take out again what they merged.
    Running(Running<K, A>),
}

impl<K: Hash + Eq + Clone, A> Slider<K, A> {
    pub(super) fn new<In, U: Logic<In, Key = K, Acc = A>>(user: &U) -> Self {
        if user.unmerge(&mut user.init(), &user.init()) {
            Self::Running(Running::new())
        } else {
            Self::Stacks(Stacks::new())
        }
    }

    /// Keys.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Stacks(stacks) => stacks.len(),
            Self::Running(running) => running.len(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Stacks(stacks) => stacks.bytes(),
            Self::Running(running) => running.bytes(),
        }
    }

    /// Moves the pane in `slot`, which lies behind all so far, in here; closes it, and answers true, if that is done. Goes on at `at`, 0
    /// at first, for at most `most` keys, and calls `moved` for each.
    pub(super) fn push<In, U: Logic<In, Key = K, Acc = A>>(
        &mut self,
        user: &U,
        panes: &mut Panes<HashTable<(K, A)>>,
        slot: usize,
        at: &mut usize,
        most: usize,
        mut moved: impl FnMut(),
    ) -> bool {
        let start = panes.pane(slot).start;
        match self {
            Self::Stacks(stacks) => {
                let done = panes.drain(slot, at, most, |(key, acc)| {
                    moved();
                    stacks.push(user, key, start, acc);
                });
                if done {
                    panes.close(slot);
                }
                done
            }
            Self::Running(running) => {
                let done = panes.visit(slot, at, most, |(key, acc)| {
                    moved();
                    running.merge(user, key, acc);
                });
                if done {
                    running.keep(start, panes.take(slot));
                }
                done
            }
        }
    }

    /// Adds an item to a pane that was moved in here, or would have been if it had had anything.
    pub(super) fn add<In, U: Logic<In, Key = K, Acc = A>>(
        &mut self,
        user: &U,
        key: K,
        start: i64,
        item: &In,
    ) {
        match self {
            Self::Stacks(stacks) => stacks.add(user, key, start, item),
            Self::Running(running) => running.add(user, key, start, item),
        }
    }

    /// Gives the value of each key, then lets go of panes that start before `until`; their tables may serve `panes` again. Goes on at
    /// `at`, 0 at first, for at most `left` keys, which it counts down; true if it has been through all of them. Nothing may be added in
    /// between.
    pub(super) fn fire<In, U: Logic<In, Key = K, Acc = A>>(
        &mut self,
        user: &U,
        (panes, until): (&mut Panes<HashTable<(K, A)>>, i64),
        at: &mut usize,
        left: &mut usize,
        give: impl FnMut(K, U::Value),
    ) -> bool {
        match self {
            Self::Stacks(stacks) => stacks.fire(user, until, at, left, give),
            Self::Running(running) => running.fire(user, until, at, left, give, |table, held| {
                panes.keep(table, held);
            }),
        }
    }
}
