//! The stateless operators that take an item once: map, filter, filter_map, flat_map, and the one that only counts.
//!
//! Closures of what is handed on stand in free functions, for the reason that those of a stream do (`flow::closures`): in a method
//! `run<I, D>` they would have the whole nest of iterators upstream and the whole chain downstream in their types, and `I` doubles with
//! each stage. The closure of a loop that ends the nest stands in the loop: nothing has it in its type, and of one loop it is always
//! inlined, where one that several loops share may be a call for each item.

use super::pending::Pending;
use super::{Chain, Gate, Operator, StageError, StageSite, StepCx};
use crate::model::Signal;
use crate::observe::StageAccount;

/// One item in, one item out.
pub struct Map<F> {
    f: F,
    gate: Gate,
}

impl<F> Map<F> {
    /// Maps with `f`.
    pub fn new(f: F, site: &StageSite) -> Self {
        Self { f, gate: Gate::new(site) }
    }
}

impl<T: 'static, U: 'static, F: FnMut(T) -> U + 'static> Operator<T> for Map<F> {
    type Out = U;

    #[inline(always)]
    fn run<I: Iterator<Item = T>, D: Chain<U>>(&mut self, items: I, down: &mut D, cx: &StepCx) {
        let Self { f, gate } = self;
        down.run(items.filter_map(mapping(f, gate, cx)), cx);
    }

    #[inline]
    fn takes_signal<D: Chain<U>>(&mut self, down: &mut D) -> bool {
        down.takes_signal()
    }

    fn account(&self, account: &mut StageAccount) {
        self.gate.account(account);
        account.pass_all_but(self.gate.lost());
    }

    fn last_error(&mut self) -> Option<String> {
        self.gate.take_last_error()
    }
}

#[inline(always)]
fn mapping<T, U>(f: &mut impl FnMut(T) -> U, gate: &mut Gate, cx: &StepCx) -> impl FnMut(T) -> Option<U> {
    move |item| gate.call(cx, || f(item))
}

/// Counts in a place of its own and adds that up when dropped: what an iterator owns lives in a register, while a counter in memory costs
/// a store-forward for each item.
struct Count<'a> {
    count: u64,
    total: &'a mut u64,
}

impl Count<'_> {
    /// A method, so that closures that call it own all of this, and with it the end of the count.
    #[inline(always)]
    fn add(&mut self) {
        self.count += 1;
    }
}

impl Drop for Count<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        *self.total += self.count;
    }
}

/// What a stage counts that keeps some items and not others.
struct Sieve {
    gate: Gate,
    kept: u64,
}

impl Sieve {
    fn new(site: &StageSite) -> Self {
        Self { gate: Gate::new(site), kept: 0 }
    }

    fn account(&self, account: &mut StageAccount) {
        self.gate.account(account);
        account.passed = self.kept;
        account.emitted = self.kept;
        account.filtered = account.received - self.gate.lost() - self.kept;
    }
}

/// Keeps the items for which a predicate holds; counts the others as filtered.
pub struct Filter<F> {
    f: F,
    sieve: Sieve,
}

impl<F> Filter<F> {
    /// Keeps items for which `f` is true.
    pub fn new(f: F, site: &StageSite) -> Self {
        Self { f, sieve: Sieve::new(site) }
    }
}

impl<T: 'static, F: FnMut(&T) -> bool + 'static> Operator<T> for Filter<F> {
    type Out = T;

    #[inline(always)]
    fn run<I: Iterator<Item = T>, D: Chain<T>>(&mut self, items: I, down: &mut D, cx: &StepCx) {
        let Self { f, sieve: Sieve { gate, kept } } = self;
        down.run(items.filter(keeping(f, gate, cx)).inspect(counting(kept)), cx);
    }

    #[inline]
    fn takes_signal<D: Chain<T>>(&mut self, down: &mut D) -> bool {
        down.takes_signal()
    }

    fn account(&self, account: &mut StageAccount) {
        self.sieve.account(account);
    }

    fn last_error(&mut self) -> Option<String> {
        self.sieve.gate.take_last_error()
    }
}

#[inline(always)]
fn keeping<T>(f: &mut impl FnMut(&T) -> bool, gate: &mut Gate, cx: &StepCx) -> impl FnMut(&T) -> bool {
    move |item| gate.call(cx, || f(item)).unwrap_or(false)
}

/// Counts all that comes by towards `total`. Behind what keeps some items and not others: then a loop with a branch adds one there, and turns
/// no condition into a number for each item. In vector code it is the same mask either way.
#[inline(always)]
fn counting<T>(total: &mut u64) -> impl FnMut(&T) {
    let mut passed = Count { count: 0, total };
    move |_| passed.add()
}

/// Maps and filters in one: `None` counts as filtered.
pub struct FilterMap<F> {
    f: F,
    sieve: Sieve,
}

impl<F> FilterMap<F> {
    /// Maps with `f`, which is given the step too; keeps what is `Some`.
    pub fn new(f: F, site: &StageSite) -> Self {
        Self { f, sieve: Sieve::new(site) }
    }
}

impl<T: 'static, U: 'static, F: FnMut(T, &StepCx) -> Option<U> + 'static> Operator<T> for FilterMap<F> {
    type Out = U;

    #[inline(always)]
    fn run<I: Iterator<Item = T>, D: Chain<U>>(&mut self, items: I, down: &mut D, cx: &StepCx) {
        let Self { f, sieve: Sieve { gate, kept } } = self;
        down.run(items.filter_map(sifting(f, gate, cx)).inspect(counting(kept)), cx);
    }

    #[inline]
    fn takes_signal<D: Chain<U>>(&mut self, down: &mut D) -> bool {
        down.takes_signal()
    }

    fn account(&self, account: &mut StageAccount) {
        self.sieve.account(account);
    }

    fn last_error(&mut self) -> Option<String> {
        self.sieve.gate.take_last_error()
    }
}

#[inline(always)]
fn sifting<T, U>(
    f: &mut impl FnMut(T, &StepCx) -> Option<U>,
    gate: &mut Gate,
    cx: &StepCx,
) -> impl FnMut(T) -> Option<U> {
    move |item| gate.call(cx, || f(item, cx)).flatten()
}

/// One item in, any number out.
///
/// Outputs wait in a queue that is reused, so that a panic in the middle loses none of those already made; no more input
/// is taken until they have gone.
pub struct FlatMap<F, U> {
    f: F,
    gate: Gate,
    pending: Pending<U>,
}

impl<F, U> FlatMap<F, U> {
    /// Maps with `f` and emits each element of the result.
    pub fn new(f: F, site: &StageSite) -> Self {
        Self { f, gate: Gate::new(site), pending: Pending::new() }
    }
}

impl<T: 'static, U: 'static, O: IntoIterator<Item = U>, F: FnMut(T) -> O + 'static> Operator<T>
    for FlatMap<F, U>
{
    type Out = U;

    #[inline]
    fn run<I: Iterator<Item = T>, D: Chain<U>>(&mut self, items: I, down: &mut D, cx: &StepCx) {
        let Self { f, gate, pending } = self;
        items.for_each(|item| {
            gate.call(cx, || pending.extend(f(item)));
        });
        pending.settle(down, cx);
    }

    #[inline]
    fn room<D: Chain<U>>(&mut self, down: &mut D) -> usize {
        if self.pending.is_empty() { down.room() } else { 0 }
    }

    fn takes_signal<D: Chain<U>>(&mut self, down: &mut D) -> bool {
        self.pending.is_empty() && down.takes_signal()
    }

    fn signal<D: Chain<U>>(&mut self, signal: Signal, down: &mut D, cx: &StepCx) {
        self.pending.signal(signal);
        self.pending.settle(down, cx);
    }

    #[inline]
    fn tick<D: Chain<U>>(&mut self, down: &mut D, cx: &StepCx) -> bool {
        self.pending.settle(down, cx)
    }

    fn account(&self, account: &mut StageAccount) {
        self.gate.account(account);
        account.passed = account.received - self.gate.lost();
        self.pending.account(account);
    }

    fn last_error(&mut self) -> Option<String> {
        self.gate.take_last_error()
    }

    fn close(&mut self, _discard: bool) -> Result<(), StageError> {
        self.pending.clear();
        Ok(())
    }
}

/// Looks at every item and passes it on.
pub struct Inspect<F> {
    f: F,
    gate: Gate,
}

impl<F> Inspect<F> {
    /// Calls `f` with each item.
    pub fn new(f: F, site: &StageSite) -> Self {
        Self { f, gate: Gate::new(site) }
    }
}

impl<T: 'static, F: FnMut(&T) + 'static> Operator<T> for Inspect<F> {
    type Out = T;

    #[inline(always)]
    fn run<I: Iterator<Item = T>, D: Chain<T>>(&mut self, items: I, down: &mut D, cx: &StepCx) {
        let Self { f, gate } = self;
        down.run(items.filter(inspecting(f, gate, cx)), cx);
    }

    #[inline]
    fn takes_signal<D: Chain<T>>(&mut self, down: &mut D) -> bool {
        down.takes_signal()
    }

    fn account(&self, account: &mut StageAccount) {
        self.gate.account(account);
        account.pass_all_but(self.gate.lost());
    }

    fn last_error(&mut self) -> Option<String> {
        self.gate.take_last_error()
    }
}

#[inline(always)]
fn inspecting<T>(f: &mut impl FnMut(&T), gate: &mut Gate, cx: &StepCx) -> impl FnMut(&T) -> bool {
    move |item| gate.call(cx, || f(item)).is_some()
}

/// Passes everything on; gives a merge its own counters.
pub struct Pass;

impl<T: 'static> Operator<T> for Pass {
    type Out = T;

    #[inline(always)]
    fn run<I: Iterator<Item = T>, D: Chain<T>>(&mut self, items: I, down: &mut D, cx: &StepCx) {
        down.run(items, cx);
    }

    #[inline]
    fn takes_signal<D: Chain<T>>(&mut self, down: &mut D) -> bool {
        down.takes_signal()
    }

    fn account(&self, account: &mut StageAccount) {
        account.pass_all_but(0);
    }
}
