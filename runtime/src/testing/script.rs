//! The source of a stage test: the input, the watermarks between its items, and how fast it comes.

use crate::flow::Factory;
use crate::model::Timestamp;
use crate::stage::{Chain, Emitter, Produced, Source, StageError, StageSite};

/// How much a source gives at once.
#[derive(Clone, Copy, Debug)]
pub(super) enum Pace {
    /// As much as there is room for.
    Everything,
    /// One item in each step.
    One,
    /// Up to a few items in each step, drawn from this seed.
    Random(u64),
}

/// The input of a stage test; makes its source. See [`TestInput`](super::TestInput).
#[derive(Clone)]
pub struct Script<T> {
    items: Vec<T>,
    watermarks: Vec<Timestamp>,
    pace: Pace,
}

impl<T> Script<T> {
    /// `watermarks[i]` stands behind `items[i]`; the last items may have none.
    pub(super) fn new(items: Vec<T>, watermarks: Vec<Timestamp>, pace: Pace) -> Self {
        Self { items, watermarks, pace }
    }
}

impl<T: Clone + Send + 'static> Factory<ScriptSource<T>> for Script<T> {
    fn make(self, _site: &StageSite) -> Result<ScriptSource<T>, StageError> {
        let seed = if let Pace::Random(seed) = self.pace { seed } else { 0 };
        Ok(ScriptSource {
            items: self.items.into_iter(),
            watermarks: self.watermarks.into_iter(),
            owed: None,
            pace: self.pace,
            rng: fastrand::Rng::with_seed(seed),
        })
    }
}

/// The source of a stage test.
pub struct ScriptSource<T> {
    items: std::vec::IntoIter<T>,
    watermarks: std::vec::IntoIter<Timestamp>,
    /// The watermark behind the last item given, if there was no room for it.
    owed: Option<Timestamp>,
    pace: Pace,
    rng: fastrand::Rng,
}

impl<T: 'static> ScriptSource<T> {
    /// Gives one item and the watermark behind it. False if there was no room for all of that.
    fn one<C: Chain<T>>(&mut self, out: &mut Emitter<'_, T, C>) -> bool {
        if self.owed.is_some_and(|time| !out.watermark(time)) {
            return false;
        }
        self.owed = None;
        if out.room() == 0 {
            return false;
        }
        let Some(item) = self.items.next() else { return false };
        out.emit(item);
        self.owed = self.watermarks.next().filter(|time| !out.watermark(*time));
        self.owed.is_none()
    }
}

impl<T: Clone + Send + 'static> Source for ScriptSource<T> {
    type Item = T;

    fn produce<C: Chain<T>>(&mut self, out: &mut Emitter<'_, T, C>) -> Result<Produced, StageError> {
        let most = match self.pace {
            Pace::Everything => usize::MAX,
            Pace::One => 1,
            Pace::Random(_) => self.rng.usize(1..9),
        };
        if self.watermarks.len() == 0 && self.owed.is_none() {
            // In one call, so that the stage sees one batch.
            out.emit_all(&mut self.items.by_ref().take(most));
        } else {
            let _ = (0..most).all(|_| self.one(out));
        }
        let done = self.items.len() == 0 && self.owed.is_none();
        Ok(if done { Produced::End } else { Produced::More })
    }
}
