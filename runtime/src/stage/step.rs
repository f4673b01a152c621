//! What a step knows.

use std::cell::{Cell, RefCell};

use bumpalo::Bump;

use super::StageError;
use super::span::OpenSpan;
use crate::model::{Now, StageId};

/// What a step knows: the time it was given, and whether the pipeline must fail.
#[derive(Debug)]
pub struct StepCx {
    now: Now,
    sources_paused: bool,
    failing: Cell<bool>,
    pub(super) span: RefCell<Option<OpenSpan>>,
    failure: RefCell<Option<(StageId, StageError)>>,
    arena: Bump,
}

impl StepCx {
    /// A step at `now`.
    pub fn new(now: Now) -> Self {
        Self {
            now,
            sources_paused: false,
            failing: Cell::new(false),
            span: RefCell::new(None),
            failure: RefCell::new(None),
            arena: Bump::new(),
        }
    }

    /// The next step, at `now`; sources hold back in it if `sources_paused`. What was in the arena is gone; its largest chunk of memory
    /// is kept.
    #[inline]
    pub fn begin(&mut self, now: Now, sources_paused: bool) {
        self.now = now;
        self.sources_paused = sources_paused;
        if self.arena.allocated_bytes() > 0 {
            self.arena.reset();
        }
    }

    /// Memory for what this step needs no longer than it lasts: a pointer is moved for each allocation, and all of it is
    /// given up at once when the step ends. Nothing in it is dropped. One chunk is kept from step to step, so that after
    /// warm-up nothing is allocated.
    ///
    /// ```
    /// use corelane::model::{Now, Timestamp};
    /// use corelane::stage::StepCx;
    ///
    /// let cx = StepCx::new(Now { monotonic: 0, wall: Timestamp(0) });
    /// let words = cx.arena().alloc_slice_copy(&["for", "this", "step"]);
    /// words.sort();
    /// assert_eq!(words, ["for", "step", "this"]);
    /// ```
    /// ```compile_fail,E0502
    /// # use corelane::model::{Now, Timestamp};
    /// # use corelane::stage::StepCx;
    /// let now = Now { monotonic: 0, wall: Timestamp(0) };
    /// let mut cx = StepCx::new(now);
    /// let kept = cx.arena().alloc(1);
    /// cx.begin(now, false); // the step has ended
    /// *kept += 1;
    /// ```
    #[inline]
    pub fn arena(&self) -> &Bump {
        &self.arena
    }

    /// Whether sources hold back in this step, because a circuit breaker is open.
    #[inline]
    pub fn sources_paused(&self) -> bool {
        self.sources_paused
    }

    /// The time of this step, as the driver read it. It does not move while the step runs, and up to eight steps that follow each other
    /// without a pause share it where steps are short, a microsecond each: so it may be some microseconds old. Behind a step that turns out to
    /// be a long one, the rest of those eight are still given the time from before it.
    #[inline]
    pub fn now(&self) -> Now {
        self.now
    }

    /// Asks the partition to fail the pipeline once this step has ended. The first failure is kept.
    #[cold]
    pub fn fail(&self, stage: &StageId, error: StageError) {
        if !self.failing.replace(true) {
            *self.failure.borrow_mut() = Some((stage.clone(), error));
        }
    }

    /// Whether something asked to fail.
    #[inline]
    pub fn is_failing(&self) -> bool {
        self.failing.get()
    }

    /// What failed, handed out once.
    pub fn take_failure(&self) -> Option<(StageId, StageError)> {
        self.failure.borrow_mut().take()
    }
}
