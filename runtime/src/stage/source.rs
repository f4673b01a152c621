//! Sources: where items enter the graph.

use std::marker::PhantomData;
use std::ops::Range;

use super::gate::catch;
use super::{Chain, Copies, StageError, StageSite, StepCx};
use crate::model::{Now, Signal, Timestamp};

/// What a source says after producing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Produced {
    /// There is more at once.
    More,
    /// Nothing for now; ask again, the driver decides when.
    Idle,
    /// Nothing before this monotonic time.
    Until(i64),
    /// Nothing ever again.
    End,
}

/// Makes items.
///
/// Built by a factory on its own core, so it need not be `Send`. It never blocks: a source that waits for the outside
/// answers [`Produced::Idle`] and rings the doorbell of its [`StageSite`] when there is something.
pub trait Source: 'static {
    /// What it makes.
    type Item: 'static;

    /// Called once before anything is asked for.
    ///
    /// # Errors
    /// An error ends the pipeline before it starts.
    fn open(&mut self, _site: &StageSite) -> Result<(), StageError> {
        Ok(())
    }

    /// Emits up to [`Emitter::room`] items.
    ///
    /// # Errors
    /// An error fails the pipeline: a source's policy has no item to apply to.
    fn produce<C: Chain<Self::Item>>(
        &mut self,
        out: &mut Emitter<'_, Self::Item, C>,
    ) -> Result<Produced, StageError>;

    /// Whether it is known, without asking for an item, that there is none left. A source that can tell ends also while nobody
    /// downstream wants anything.
    fn is_exhausted(&self) -> bool {
        false
    }
}

/// What a source writes to.
pub struct Emitter<'a, T, C> {
    chain: &'a mut C,
    cx: &'a StepCx,
    limit: usize,
    emitted: u64,
    reached: Option<Timestamp>,
    error: Option<StageError>,
    items: PhantomData<fn(T)>,
}

impl<'a, T, C: Chain<T>> Emitter<'a, T, C> {
    pub(crate) fn new(chain: &'a mut C, cx: &'a StepCx, budget: usize) -> Self {
        let limit = chain.room().min(budget);
        Self { chain, cx, limit, emitted: 0, reached: None, error: None, items: PhantomData }
    }

    pub(crate) fn emitted(&self) -> u64 {
        self.emitted
    }

    /// The last watermark that went out.
    pub(crate) fn reached(&self) -> Option<Timestamp> {
        self.reached
    }

    /// Makes what went out visible.
    #[inline]
    pub(crate) fn flush(&mut self) {
        if self.has_written() {
            self.chain.flush(self.cx);
        }
    }

    /// Whether an item or a watermark went out.
    fn has_written(&self) -> bool {
        self.emitted > 0 || self.reached.is_some()
    }

    /// Whether neither an item nor a watermark went out, and nothing was thrown.
    pub(crate) fn is_untouched(&self) -> bool {
        !self.has_written() && self.error.is_none()
    }

    /// Items that may still be emitted in this call.
    #[inline]
    pub fn room(&self) -> usize {
        self.limit
    }

    /// The time of this step.
    pub fn now(&self) -> Now {
        self.cx.now()
    }

    /// Memory for what is needed no longer than this step; see [`StepCx::arena`].
    pub fn arena(&self) -> &bumpalo::Bump {
        self.cx.arena()
    }

    /// Emits one item. Emitting more than [`room`](Self::room) is allowed for a source whose unit of work makes
    /// several items; what does not fit waits in memory and no more is asked for until it has gone.
    #[inline]
    pub fn emit(&mut self, item: T) {
        self.emitted += 1;
        self.limit = self.limit.saturating_sub(1);
        self.chain.run_one(item, self.cx);
    }

    /// Emits from `items` until it ends or there is no more room; the number emitted.
    ///
    /// A panic in the iterator ends the emission; the pipeline then fails, with everything emitted before accounted for.
    #[inline]
    pub fn emit_all(&mut self, items: &mut impl Iterator<Item = T>) -> usize {
        let mut n = 0;
        let guarded = guarded(items, &mut n, &mut self.error);
        self.chain.run(guarded.take(self.limit), self.cx);
        self.took(n)
    }

    /// Emits the first of `items`, as many as there is room for; how many. Costs less than [`emit_all`](Self::emit_all): copying cannot panic,
    /// and a stage that goes over them twice has fetched meanwhile what `items` has further on. So pass all there are, not what there is room for.
    #[inline]
    pub fn emit_slice(&mut self, items: &[T]) -> usize
    where
        T: Copy,
    {
        let n = items.len().min(self.limit);
        self.chain.run_copies(Copies::of_first(n, items), self.cx);
        self.took(n)
    }

    /// Emits `f(i)` for each `i` of `range`, which has at most [`room`](Self::room) elements.
    #[inline(always)]
    pub fn emit_range(&mut self, range: Range<u64>, mut f: impl FnMut(u64) -> T) {
        let n = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
        let mut lost = 0;
        self.chain.run(range.filter_map(computing(&mut f, &mut lost, &mut self.error)), self.cx);
        self.took(n - lost);
    }

    /// The panic that was caught while emitting.
    pub(crate) fn take_error(&mut self) -> Option<StageError> {
        self.error.take()
    }

    #[inline(always)]
    fn took(&mut self, n: usize) -> usize {
        self.emitted += n as u64;
        self.limit = self.limit.saturating_sub(n);
        n
    }

    /// States that no item before `time` follows. Returns false, and does nothing, if it cannot be taken now.
    pub fn watermark(&mut self, time: Timestamp) -> bool {
        self.signal(Signal::Watermark(time))
    }

    /// States that there is nothing for now, and that event time downstream should not wait for this source. The next
    /// item or watermark takes that back. Returns false, and does nothing, if it cannot be taken now.
    pub fn idle(&mut self) -> bool {
        self.signal(Signal::Idle)
    }

    fn signal(&mut self, signal: Signal) -> bool {
        if self.chain.room() == 0 {
            return false;
        }
        self.chain.signal(signal, self.cx);
        if let Signal::Watermark(time) = signal {
            self.reached = Some(time);
        }
        // Handling it may have used the room up.
        self.limit = self.limit.min(self.chain.room());
        true
    }
}

/// `items` until one panics, counted. Caught here, item by item: unwinding must never cross a chain, whose counters live in locals.
///
/// A free function, as those of `stage::ops`: its closure does not have the chain in its type.
#[inline(always)]
fn guarded<T>(
    items: &mut impl Iterator<Item = T>,
    n: &mut usize,
    error: &mut Option<StageError>,
) -> impl Iterator<Item = T> {
    std::iter::from_fn(move || {
        let item = catch(|| items.next()).unwrap_or_else(|panic| {
            *error = Some(panic);
            None
        })?;
        *n += 1;
        Some(item)
    })
}

/// As [`guarded`], for items that are computed; one that panics is lost, and the rest goes on.
#[inline(always)]
fn computing<T>(
    f: &mut impl FnMut(u64) -> T,
    lost: &mut usize,
    error: &mut Option<StageError>,
) -> impl FnMut(u64) -> Option<T> {
    move |i| match catch(|| f(i)) {
        Ok(item) => Some(item),
        Err(panic) => {
            *lost += 1;
            *error = Some(panic);
            None
        }
    }
}

/// A source from an iterator.
pub struct IterSource<I> {
    items: I,
}

impl<I> IterSource<I> {
    /// Emits what `items` yields, in order.
    pub fn new(items: I) -> Self {
        Self { items }
    }
}

impl<I: Iterator + 'static> Source for IterSource<I>
where
    I::Item: 'static,
{
    type Item = I::Item;

    #[inline]
    fn produce<C: Chain<I::Item>>(
        &mut self,
        out: &mut Emitter<'_, I::Item, C>,
    ) -> Result<Produced, StageError> {
        let room = out.room();
        let n = out.emit_all(&mut self.items);
        Ok(if n < room { Produced::End } else { Produced::More })
    }

    fn is_exhausted(&self) -> bool {
        self.items.size_hint().1 == Some(0)
    }
}

/// A source that computes item `i` from `i`; instances share the index range in contiguous parts.
pub struct Generate<F> {
    next: u64,
    end: u64,
    f: F,
}

impl<F> Generate<F> {
    /// Emits `f(i)` for the part of `0..count` that belongs to the instance at `site`.
    pub fn new(count: u64, f: F, site: &StageSite) -> Self {
        let (i, n) = (site.context.instance as u128, site.context.parallelism.max(1) as u128);
        let part = |i: u128| u64::try_from(u128::from(count) * i / n).unwrap_or(count);
        Self { next: part(i), end: part(i + 1), f }
    }
}

impl<T: 'static, F: FnMut(u64) -> T + 'static> Source for Generate<F> {
    type Item = T;

    #[inline(always)]
    fn produce<C: Chain<T>>(&mut self, out: &mut Emitter<'_, T, C>) -> Result<Produced, StageError> {
        let n = (self.end - self.next).min(out.room() as u64);
        let range = self.next..self.next + n;
        self.next = range.end;
        out.emit_range(range, &mut self.f);
        Ok(if self.next == self.end { Produced::End } else { Produced::More })
    }

    fn is_exhausted(&self) -> bool {
        self.next == self.end
    }
}
