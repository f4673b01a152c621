//! Keys of an accumulator on their way between instances.

use super::{Keys, Open};
use crate::keyed::{Accumulator, KeyInTwoPlaces, StateOf};
use crate::shard::{Movable, Mover};
use crate::stage::{StageError, StageSite};

/// Keys that are looked at in one step.
const LOOKED_AT: usize = 2048;

/// A key that goes to another instance, and its hash.
pub(in crate::keyed) struct MovedKey<S> {
    hash: u64,
    open: Open<S>,
}

type MoverOf<In, A> = Mover<MovedKey<StateOf<In, A>>>;

type Step<In, A> = fn(&mut MoverOf<In, A>, &mut Keys<In, A>) -> Result<bool, StageError>;

/// The mover of an instance, with what only states that may change threads can do.
pub(super) struct Moves<In, A: Accumulator<In>> {
    mover: Box<MoverOf<In, A>>,
    step: Step<In, A>,
    close: fn(&mut MoverOf<In, A>, &mut Keys<In, A>),
}

impl<In: 'static, A: Accumulator<In>> Keys<In, A> {
    /// Lets keys move, if the stage's shards do.
    pub(in crate::keyed) fn move_by(&mut self, site: &StageSite)
    where
        A::Key: Send,
        A::State: Send,
    {
        let moves = |mover| Moves {
            mover,
            step: |mover, keys| mover.step(keys),
            close: |mover, keys| mover.close(keys),
        };
        self.moves = Mover::new(site.shards.as_ref(), false).map(moves);
    }

    /// Counts an item, where shards move.
    #[inline]
    pub(super) fn count(&mut self, hash: u64) {
        if let Some(moves) = &mut self.moves {
            moves.mover.count(hash);
        }
    }

    /// Whether a move is under way: nothing else may be done with keys.
    #[inline]
    pub(in crate::keyed) fn is_moving(&self) -> bool {
        self.moves.as_ref().is_some_and(|moves| moves.mover.is_moving())
    }

    /// Looks at the load of the stage, if it is time to.
    #[inline]
    pub(in crate::keyed) fn look_at_load(&mut self, now: i64) {
        if let Some(moves) = &mut self.moves {
            moves.mover.look(now);
        }
    }

    /// Begins move `version`, if it is one of this stage's.
    pub(in crate::keyed) fn begin_move(&mut self, version: u64) -> bool {
        self.moves.as_mut().is_some_and(|moves| moves.mover.begin(version))
    }

    /// No barrier follows.
    pub(in crate::keyed) fn end_moves(&mut self) {
        if let Some(moves) = &mut self.moves {
            moves.mover.end();
        }
    }

    /// Goes on with a move. True if anything moved.
    ///
    /// # Errors
    /// The keys are not to be used any more.
    pub(in crate::keyed) fn step_move(&mut self) -> Result<bool, StageError> {
        let Some(mut moves) = self.moves.take() else { return Ok(false) };
        let moved = (moves.step)(&mut moves.mover, self);
        self.moves = Some(moves);
        moved
    }

    pub(super) fn publish_load(&self) {
        if let Some(moves) = &self.moves {
            moves.mover.publish();
        }
    }

    /// Counts keys that were on their way here, and drops them.
    pub(in crate::keyed) fn close_moves(&mut self) {
        if let Some(mut moves) = self.moves.take() {
            (moves.close)(&mut moves.mover, self);
        }
    }
}

impl<In: 'static, A: Accumulator<In>> Movable for Keys<In, A>
where
    A::Key: Send,
    A::State: Send,
{
    type Key = MovedKey<StateOf<In, A>>;
    type Error = StageError;

    /// In the order in which they were opened. Their timers stay with the places.
    fn give(
        &mut self,
        at: &mut usize,
        away: impl Fn(u64) -> Option<usize>,
        mut out: impl FnMut(usize, Self::Key),
    ) -> bool {
        let mut next = match at.checked_sub(1) {
            None => self.table.first(),
            Some(place) => u32::try_from(place).ok(),
        };
        for _ in 0..LOOKED_AT {
            let Some(place) = next else { return true };
            next = self.table.after(place);
            let hash = self.table.hash_at(place);
            if let Some(to) = away(hash)
                && let Some(open) = self.table.remove(place)
            {
                self.held -= open.bytes;
                out(to, MovedKey { hash, open });
            }
        }
        *at = next.map_or(*at, |place| place as usize + 1);
        next.is_none()
    }

    fn take(&mut self, MovedKey { hash, open }: Self::Key) -> Result<(), StageError> {
        if self.table.find(hash, |other| other.of.key == open.of.key).is_some() {
            return Err(StageError::User(Box::new(KeyInTwoPlaces)));
        }
        let deadline = open.deadline;
        self.held += open.bytes;
        let at = self.table.insert(hash, open);
        if deadline < i64::MAX {
            self.arm(at, deadline);
        }
        Ok(())
    }

    fn items(key: &Self::Key) -> u64 {
        key.open.items
    }

    fn gone(&mut self, items: u64) {
        self.begun -= items;
        self.tally.absorbed -= items;
        self.tally.items_open -= items;
        self.tally.handed_over += items;
    }

    fn came(&mut self, items: u64) {
        self.begun += items;
        self.tally.absorbed += items;
        self.tally.items_open += items;
        self.tally.taken_over += items;
    }
}
