//! Tumbling and sliding windows that fire once, when the watermark reaches their end.

use std::collections::VecDeque;
use std::ops::Range;

use corelane::keyed::{Allowance, CheckTime, Release, Stateful, hash_key};
use corelane::observe::StageAccount;
use corelane::stage::Pending;
use hashbrown::HashTable;

use super::across::{EachKey, Values};
use super::logic::Logic;
use super::panes::{self, Panes, insert};
use super::slider::Slider;
use super::span::{Frame, Window};
use super::{Pane, Windowed};
use crate::tally::Tally;

/// Windows of one frame. Items go into the table of their pane: one look-up each. Tumbling windows are panes: at the end of
/// one its table is given out. Sliding windows are made of several: at the end of a pane its table goes into the slider,
/// which gives out each window. What is given out is up to `V`.
pub struct AlignedWindows<In, U: Logic<In>, V = EachKey> {
    user: U,
    values: V,
    frame: Frame,
    panes: Panes<HashTable<(U::Key, U::Acc)>>,
    /// The pane that took the last item.
    at: usize,
    slider: Slider<U::Key, U::Acc>,
    /// Panes whose items are in the slider, with how many of them.
    held: VecDeque<(i64, u64)>,
    /// The end of the next window that the slider gives out; while it is empty there is none.
    next_end: Option<i64>,
    doing: Doing,
    tally: Tally,
}

/// What a release was in the middle of.
#[derive(Clone, Copy, Debug)]
enum Doing {
    Nothing,
    /// A pane is being moved or given out; from which bucket on.
    Pane(usize, usize),
    /// The window that ends then is given out; from which bucket on.
    Window(i64, usize),
}

/// Items that one pane took, counted in a register; in its place once they are done with, or one of them panicked.
struct Taken<'a> {
    count: u64,
    held: &'a mut u64,
    absorbed: &'a mut u64,
}

impl Taken<'_> {
    /// A method, so that a closure that calls it owns all of this, and with it the end of the count.
    #[inline(always)]
    fn add(&mut self) {
        self.count += 1;
    }
}

impl Drop for Taken<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        *self.held += self.count;
        *self.absorbed += self.count;
    }
}

/// Whether a time lies in `span`.
#[inline(always)]
fn covering(span: &Range<i64>) -> impl Fn(i64) -> bool + use<> {
    // Both ends in one comparison: what lies before the start is very far behind it, counted without a sign.
    let (start, width) = (span.start, span.end.wrapping_sub(span.start).cast_unsigned());
    move |time| time.wrapping_sub(start).cast_unsigned() < width
}

/// Gives items to `put` as long as their time lies in `span`; the first that does not.
#[inline(always)]
fn covered<In, U: Logic<In>>(
    items: &mut impl Iterator<Item = In>,
    user: &mut U,
    span: &Range<i64>,
    mut taken: Taken<'_>,
    mut put: impl FnMut(&mut U, In),
) -> Option<In> {
    let covers = covering(span);
    items.find_map(move |item| {
        if !covers(user.time(&item)) {
            return Some(item);
        }
        put(user, item);
        taken.add();
        None
    })
}

/// Takes items of one accumulator as long as their time lies in `span` and they leave it as it is; the first other one. Most are such, and the loop
/// over them needs nothing of what adding one does.
#[inline(always)]
fn skipped<In, U: Logic<In>>(
    items: &mut impl Iterator<Item = In>,
    user: &mut U,
    span: &Range<i64>,
    mut taken: Taken<'_>,
    acc: &U::Acc,
) -> Option<In> {
    let covers = covering(span);
    items.find(move |item| {
        // Both are asked: then there is one way out, and what it needs is read only there.
        if !(covers(user.time(item)) & user.skips(acc, item)) {
            return true;
        }
        user.key(item);
        taken.add();
        false
    })
}

#[inline(always)]
fn put<In, U: Logic<In>>(user: &mut U, table: &mut HashTable<(U::Key, U::Acc)>, item: In) {
    let key = user.key(&item);
    let hash = hash_key(&key);
    match table.find_mut(hash, |(other, _)| *other == key) {
        Some((_, acc)) => user.add_owned(acc, item),
        None => {
            let mut acc = user.init();
            user.add_owned(&mut acc, item);
            insert(table, hash, (key, acc));
        }
    }
}

#[inline(always)]
fn emit<T>(result: Option<T>, tally: &mut Tally, out: &mut Pending<T>) {
    if let Some(result) = result {
        tally.results += 1;
        out.push(result);
    }
}

impl<In: 'static, U: Logic<In>, V: Values<In, U>> AlignedWindows<In, U, V> {
    pub(super) fn new(user: U, values: V, frame: Frame) -> Self {
        let slider = Slider::new(&user);
        Self {
            user,
            values,
            frame,
            panes: Panes::new(),
            at: usize::MAX,
            slider,
            held: VecDeque::new(),
            next_end: None,
            doing: Doing::Nothing,
            tally: Tally::default(),
        }
    }

    /// Takes items as long as they lie in the current pane, and as long as they are skipped if the aggregate skips any; the first other one.
    #[inline(always)]
    fn take_run(&mut self, items: &mut impl Iterator<Item = In>) -> Option<In> {
        let Self { user, panes, at, tally, .. } = self;
        let Some(panes::Pane { start, end, items: held, table, .. }) = panes.current(*at) else {
            return items.next();
        };
        let span = *start..*end;
        let taken = Taken { count: 0, held, absorbed: &mut tally.absorbed };
        if const { size_of::<U::Key>() == 0 } {
            // There is one key: nothing to look up.
            let Some((_, acc)) = table.iter_mut().next() else { return items.next() };
            if U::SKIPS {
                return skipped(items, user, &span, taken, acc);
            }
            return covered(items, user, &span, taken, |user, item| {
                user.key(&item);
                user.add_owned(acc, item);
            });
        }
        covered(items, user, &span, taken, |user, item| put(user, table, item))
    }

    /// Takes an item at which [`take_run`](Self::take_run) stopped: one that does not lie in the current pane, the first one in a pane, or one that
    /// does not leave the only accumulator as it is.
    #[inline(never)]
    fn take(&mut self, item: In, watermark: i64, out: &mut Pending<V::Out>) {
        let time = self.user.time(&item);
        if !self.panes.covers(self.at, time) && !self.turn_to(time, watermark) {
            return self.miss(item, time, watermark, out);
        }
        let pane = self.panes.pane(self.at);
        put(&mut self.user, &mut pane.table, item);
        pane.items += 1;
        self.tally.absorbed += 1;
    }

    /// Makes the pane of `time` the current one; false if that has closed, or there is none.
    #[cold]
    #[inline(never)]
    fn turn_to(&mut self, time: i64, watermark: i64) -> bool {
        if !self.frame.fits(time) {
            return false;
        }
        let (start, end) = self.frame.panes.tile(time);
        if end <= watermark || self.frame.last_start(time).is_none() {
            return false;
        }
        self.at = match self.panes.find(start) {
            Some(slot) => slot,
            None => self.panes.open(start, end),
        };
        true
    }

    /// An item whose pane has closed: there may be windows it lies in that have not. Or one that lies in no window.
    #[cold]
    #[inline(never)]
    fn miss(&mut self, item: In, time: i64, watermark: i64, out: &mut Pending<V::Out>) {
        let last = if self.frame.fits(time) { self.frame.last_start(time) } else { None };
        let Some(last) = last else {
            self.tally.filtered += 1;
            return;
        };
        if last + self.frame.size <= watermark {
            let late = self.values.late(&self.user, item);
            self.tally.late(late.is_some());
            out.extend(late);
            return;
        }
        let (pane, _) = self.frame.panes.tile(time);
        let key = self.user.key(&item);
        self.slider.add(&self.user, key, pane, &item);
        if self.next_end.is_none() {
            self.next_end =
                Some(self.frame.windows.at_or_after(watermark - self.frame.size + 1) + self.frame.size);
        }
        let at = self.held.partition_point(|(start, _)| *start < pane);
        match self.held.get_mut(at) {
            Some((start, items)) if *start == pane => *items += 1,
            _ => self.held.insert(at, (pane, 1)),
        }
        self.tally.absorbed += 1;
    }

    /// The end of the window that is to fire next.
    fn next_window(&self) -> Option<i64> {
        if self.next_end.is_some() {
            return self.next_end;
        }
        let (_, end) = self.panes.first()?;
        // The first window that the first pane lies in.
        Some(self.frame.windows.at_or_after(end - self.frame.size) + self.frame.size)
    }

    /// What to do next, if anything is due by `upto`.
    fn next(&self, upto: i64) -> Doing {
        let pane = self.panes.first();
        if !self.frame.is_tumbling()
            && let Some(window) = self.next_window().filter(|end| *end <= upto)
            && pane.is_none_or(|(_, end)| end > window)
        {
            return Doing::Window(window, 0);
        }
        // Panes need not wait for their window: what has ended takes no more items.
        match pane {
            Some((slot, end)) if end <= upto => Doing::Pane(slot, 0),
            _ => Doing::Nothing,
        }
    }

    /// How many keys to go through at most.
    fn most(allowance: &Allowance, out: &Pending<V::Out>) -> usize {
        if V::GATHERS { allowance.work } else { allowance.most(out.len()) }
    }

    /// Moves a pane into the slider, or gives it out. True if that is done.
    fn pane(
        &mut self,
        slot: usize,
        at: &mut usize,
        allowance: &mut Allowance,
        out: &mut Pending<V::Out>,
    ) -> bool {
        let most = Self::most(allowance, out);
        let next_end = self.next_window();
        let Self { user, values, frame, panes, slider, tally, .. } = self;
        let pane = panes.pane(slot);
        let (start, items) = (pane.start, pane.items);
        if !frame.is_tumbling() {
            let done = slider.push(user, panes, slot, at, most, || allowance.work());
            if done {
                self.next_end = next_end;
                self.held.push_back((start, items));
            }
            return done;
        }
        let window = frame.window(start);
        let done = panes.drain(slot, at, most, |(key, acc)| {
            allowance.work();
            let value = user.finish(acc);
            emit(values.value(user, Windowed { key, window, value, pane: Pane::ONLY }), tally, out);
        });
        if done {
            emit(values.over(window), tally, out);
            tally.complete += items;
            panes.close(slot);
        }
        done
    }

    /// Gives out the window that ends at `end`. True if that is done.
    fn window(
        &mut self,
        end: i64,
        at: &mut usize,
        allowance: &mut Allowance,
        out: &mut Pending<V::Out>,
    ) -> bool {
        let most = Self::most(allowance, out);
        let Self { user, values, frame, panes, slider, tally, .. } = self;
        let window = Window::from_nanos(end - frame.size, end);
        let until = window.start.as_nanos() + frame.every;
        let mut left = most;
        let done = slider.fire(user, (panes, until), at, &mut left, |key, value| {
            emit(values.value(user, Windowed { key, window, value, pane: Pane::ONLY }), tally, out);
        });
        allowance.work -= most - left;
        if done {
            emit(values.over(window), tally, out);
            let gone = self.held.partition_point(|(start, _)| *start < until);
            self.tally.complete += self.held.drain(..gone).map(|(_, items)| items).sum::<u64>();
            self.next_end = (!self.slider.is_empty()).then(|| end + self.frame.every);
        }
        done
    }

    /// Keys, and bytes of tables.
    #[cfg(test)]
    pub(super) fn footprint(&self) -> (usize, usize) {
        (self.panes.len() + self.slider.len(), self.panes.bytes() + self.slider.bytes())
    }
}

impl<In: 'static, U: Logic<In>, V: Values<In, U>> Stateful<In> for AlignedWindows<In, U, V> {
    type Out = V::Out;

    #[inline]
    fn add<I: Iterator<Item = In>>(&mut self, items: &mut I, time: CheckTime, out: &mut Pending<V::Out>) {
        let watermark = time.event.as_nanos();
        while let Some(item) = self.take_run(items) {
            self.take(item, watermark, out);
        }
    }

    #[inline]
    fn is_due(&self, time: CheckTime) -> bool {
        let upto = time.event.as_nanos();
        self.panes.first().is_some_and(|(_, end)| end <= upto) || self.next_end.is_some_and(|end| end <= upto)
    }

    fn release(
        &mut self,
        which: Release,
        time: CheckTime,
        allowance: &mut Allowance,
        out: &mut Pending<V::Out>,
    ) -> bool {
        let upto = if which == Release::All { i64::MAX } else { time.event.as_nanos() };
        loop {
            let doing = match std::mem::replace(&mut self.doing, Doing::Nothing) {
                Doing::Nothing => self.next(upto),
                doing => doing,
            };
            match doing {
                Doing::Nothing => return true,
                _ if allowance.is_spent(out.len()) => {
                    self.doing = doing;
                    return false;
                }
                Doing::Pane(slot, mut at) => {
                    if !self.pane(slot, &mut at, allowance, out) {
                        self.doing = Doing::Pane(slot, at);
                    }
                }
                Doing::Window(end, mut at) => {
                    if !self.window(end, &mut at, allowance, out) {
                        self.doing = Doing::Window(end, at);
                    }
                }
            }
            // The pane or window itself.
            allowance.work();
        }
    }

    fn account(&self, account: &mut StageAccount) {
        self.tally.add_to(account);
        account.keys += (self.panes.len() + self.slider.len()) as u64;
    }

    fn clear(&mut self) {
        self.tally.clear();
        self.panes = Panes::new();
        self.slider = Slider::new(&self.user);
        self.held = VecDeque::new();
        self.doing = Doing::Nothing;
        self.values.clear();
    }
}
