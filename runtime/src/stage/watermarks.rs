//! The stage that says how far event time has come.

use super::valve::{Due, Valve};
use super::{Chain, Copies, Gate, Operator, StageSite, StepCx, catch, earliest};
use crate::model::{Signal, Timestamp};
use crate::observe::StageAccount;
use crate::policy::{Advance, Watermarks};

/// What an item says about event time. A plain [`Timestamp`] says when it happened, in the only source there is.
///
/// ```
/// use corelane::model::Timestamp;
/// use corelane::stage::EventTime;
///
/// // An item of the third source, which also says that its source has come to second 9.
/// let time = EventTime::at(Timestamp(10_000_000_000)).from_source(2).marking(Timestamp(9_000_000_000));
/// # let _ = time;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventTime {
    at: Timestamp,
    source: u32,
    mark: Option<Timestamp>,
}

impl EventTime {
    /// It happened at `at`, in source 0.
    pub const fn at(at: Timestamp) -> Self {
        Self { at, source: 0, mark: None }
    }

    /// It comes from source number `source`, counted from 0. Numbers beyond those of the strategy start again at 0.
    #[must_use]
    pub const fn from_source(mut self, source: u32) -> Self {
        self.source = source;
        self
    }

    /// No item of its source before `time` follows. Only [`Watermarks::punctuated`] looks at this.
    #[must_use]
    pub const fn marking(mut self, time: Timestamp) -> Self {
        self.mark = Some(time);
        self
    }
}

impl From<Timestamp> for EventTime {
    fn from(at: Timestamp) -> Self {
        Self::at(at)
    }
}

/// How well the latest time of a source is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trust {
    /// There was none.
    None,
    /// It was the first, or far from the one before it. Whether it was counted as ahead already.
    First { counted: bool },
    /// Another one was near it.
    Settled,
}

/// What is known of one source.
#[derive(Clone, Copy, Debug)]
struct Track {
    /// The latest time, or mark, that is believed as far as `trust` goes.
    latest: i64,
    /// Times up to this say nothing new: the latest one while it is believed and no later one is doubted.
    known: i64,
    /// Times after this are doubted.
    limit: i64,
    trust: Trust,
    seen: bool,
    /// Doubted times in a row, and the earliest of them.
    doubted: u32,
    least_doubted: i64,
    ahead: u64,
    /// While a batch goes by: a later time is believed if it is no further ahead. None is where `see` has to be asked.
    reach: u64,
}

impl Track {
    const NEW: Self = Self {
        latest: i64::MIN,
        known: i64::MIN,
        limit: i64::MIN,
        trust: Trust::None,
        seen: false,
        doubted: 0,
        least_doubted: i64::MAX,
        ahead: 0,
        reach: 0,
    };

    #[inline(always)]
    fn see(&mut self, time: i64, max_ahead: i64) {
        self.seen = true;
        // Most times repeat, or come a little late: one comparison.
        if time <= self.known {
            return;
        }
        if time <= self.limit && self.trust == Trust::Settled {
            self.doubted = 0;
            self.believe(time.max(self.latest), max_ahead);
        } else {
            self.doubt(time, max_ahead);
        }
    }

    #[inline(always)]
    fn believe(&mut self, time: i64, max_ahead: i64) {
        (self.latest, self.known) = (time, time);
        self.limit = time.saturating_add(max_ahead);
    }

    /// A time far ahead of the latest one; or one of the first, of which none is better known than another.
    #[cold]
    #[inline(never)]
    fn doubt(&mut self, time: i64, max_ahead: i64) {
        let near = self.latest.abs_diff(time) <= max_ahead.unsigned_abs();
        match self.trust {
            _ if max_ahead == i64::MAX => {
                self.trust = Trust::Settled;
                self.believe(time, max_ahead);
            }
            Trust::Settled => self.confirm(time, max_ahead),
            Trust::First { .. } if near => {
                self.trust = Trust::Settled;
                self.believe(self.latest.max(time), max_ahead);
            }
            Trust::First { counted } => {
                // Of two strangers the later one is ahead of its time; the next item near the second settles it.
                let later = time > self.latest;
                self.ahead += u64::from(later || !counted);
                (self.trust, self.latest) = (Trust::First { counted: later }, time);
            }
            Trust::None => (self.trust, self.latest) = (Trust::First { counted: false }, time),
        }
    }

    fn confirm(&mut self, time: i64, max_ahead: i64) {
        self.ahead += 1;
        self.least_doubted = if self.doubted == 0 { time } else { self.least_doubted.min(time) };
        self.doubted += 1;
        // The next time that is near takes the doubt back.
        self.known = i64::MIN;
        if self.doubted >= Watermarks::CONFIRMATIONS {
            self.doubted = 0;
            self.believe(self.least_doubted, max_ahead);
        }
    }
}

/// A track while a batch goes by: what most times are compared with, which an iterator owns, so that it lives in a register.
struct Watch<'a> {
    /// Times up to this say nothing new. What it is ahead of the track has still to be told to it.
    known: i64,
    track: &'a mut Track,
}

impl<'a> Watch<'a> {
    /// The first time in the batch says that there was one, whatever it is: the track is asked.
    fn of(track: &'a mut Track) -> Self {
        track.reach = 0;
        Self { known: i64::MIN, track }
    }

    #[inline(always)]
    fn see(&mut self, time: i64, max_ahead: i64) {
        if time <= self.known {
            return;
        }
        if time.abs_diff(self.known) <= self.track.reach {
            self.known = time;
        } else {
            self.known = ask(self.track, self.known, time, max_ahead);
        }
    }
}

/// Tells a track how far it has come, and of one time more; what times are to be compared with from now on.
///
/// `extern "C"` because that cannot unwind: else the loop that calls it keeps all that it counts in memory, for the case that it does.
#[cold]
#[inline(never)]
extern "C" fn ask(track: &mut Track, known: i64, time: i64, max_ahead: i64) -> i64 {
    if track.reach > 0 {
        track.believe(known, max_ahead);
    }
    track.see(time, max_ahead);
    let certain = track.trust == Trust::Settled && track.doubted == 0;
    track.reach = if certain { max_ahead.unsigned_abs() } else { 0 };
    track.known
}

impl Drop for Watch<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        if self.track.reach > 0 {
            let max_ahead = self.track.reach.cast_signed();
            self.track.believe(self.known, max_ahead);
        }
    }
}

/// When a source was last heard of, in processing time.
#[derive(Clone, Copy, Debug)]
struct Silence {
    since: i64,
    /// It was overdue in the last step: if nothing came in that step either, it is idle. So a clock that jumps makes
    /// nobody idle who has input waiting.
    overdue: bool,
}

/// Passes items on, and puts watermarks between them: at most one for what is made visible at once, as [`Watermarks`] says, however it was emitted.
/// A source that catches up item by item would else send as many watermarks as items.
///
/// Takes the place of watermarks that come from upstream. An item whose time function panics is lost by the stage's error
/// policy. Costs a comparison per item.
pub struct WatermarkOp<F> {
    time: F,
    advance: Advance,
    max_ahead: i64,
    /// Watermarks stand at multiples of this.
    every: i64,
    idle_after: Option<i64>,
    tracks: Vec<Track>,
    silences: Vec<Silence>,
    valve: Valve,
    gate: Gate,
    /// Whether there were items since tracks were last looked at.
    passed: bool,
    /// What has not been passed on for want of room. A watermark may wait: later it says less, never more.
    watermark: Option<Signal>,
    idle: bool,
    started: bool,
}

/// The last multiple of `span` that is not after `time`.
fn whole_spans(time: i64, span: i64) -> Timestamp {
    Timestamp(time.saturating_sub(time.rem_euclid(span)))
}

fn nanos(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

impl<F> WatermarkOp<F> {
    /// Makes watermarks by `strategy` from what `time` says of each item.
    pub fn new(strategy: Watermarks, time: F, site: &StageSite) -> Self {
        let sources = strategy.sources.max(1) as usize;
        Self {
            time,
            advance: strategy.advance,
            max_ahead: strategy.max_ahead.map_or(i64::MAX, nanos),
            every: strategy.every.map_or(1, nanos).max(1),
            idle_after: strategy.idle_after.map(nanos),
            tracks: vec![Track::NEW; sources],
            silences: vec![Silence { since: i64::MIN, overdue: false }; sources],
            valve: Valve::new(sources),
            gate: Gate::new(site),
            passed: false,
            watermark: None,
            idle: false,
            started: false,
        }
    }

    /// Takes over what the valve gives out.
    fn take(&mut self, due: Due) {
        for signal in due.into_iter().flatten() {
            match signal {
                Signal::Idle => self.idle = true,
                watermark => self.watermark = Some(watermark),
            }
        }
    }

    /// Looks at what items have changed.
    fn look(&mut self, cx: &StepCx) {
        self.passed = false;
        let lag = match self.advance {
            Advance::Behind(lag) => nanos(lag),
            Advance::Marks => 0,
        };
        for i in 0..self.tracks.len() {
            let track = &mut self.tracks[i];
            if !std::mem::take(&mut track.seen) {
                continue;
            }
            let settled = track.trust == Trust::Settled;
            let time = settled.then(|| whole_spans(track.latest.saturating_sub(lag), self.every));
            self.silences[i] = Silence { since: cx.now().monotonic, overdue: false };
            self.valve.active(i);
            if let Some(time) = time.filter(|time| *time > self.valve.input(i)) {
                let due = self.valve.watermark(i, time);
                self.take(due);
            }
            self.idle = false;
        }
    }

    /// Passes on what is owed, if there is room.
    fn settle<T, D: Chain<T>>(&mut self, down: &mut D, cx: &StepCx) -> bool {
        let mut moved = false;
        if self.watermark.is_some() && down.room() > 0 {
            if let Some(watermark) = self.watermark.take() {
                down.signal(watermark, cx);
            }
            moved = true;
        }
        if self.idle && self.watermark.is_none() && down.room() > 0 {
            self.idle = false;
            down.signal(Signal::Idle, cx);
            moved = true;
        }
        moved
    }

    fn find_idle(&mut self, now: i64) {
        let Some(idle_after) = self.idle_after else { return };
        for i in 0..self.silences.len() {
            let silence = &mut self.silences[i];
            if self.valve.is_idle(i) || silence.since.saturating_add(idle_after) > now {
                continue;
            }
            if !std::mem::replace(&mut silence.overdue, true) {
                silence.since = now.saturating_sub(idle_after);
                continue;
            }
            let due = self.valve.idle(i);
            self.take(due);
        }
    }

    fn restart_silences(&mut self, now: i64) {
        self.silences.iter_mut().for_each(|silence| *silence = Silence { since: now, overdue: false });
    }
}

/// Shows what each item says of time to `see` on its way. A free function, as those of `stage::ops`.
#[inline(always)]
fn watching<T, E: Into<EventTime>>(
    time: &mut impl FnMut(&T) -> E,
    gate: &mut Gate,
    cx: &StepCx,
    mut see: impl FnMut(EventTime),
) -> impl FnMut(&T) -> bool {
    move |item| gate.call(cx, || time(item).into()).map(&mut see).is_some()
}

/// Tells the one track of its times.
#[inline(always)]
fn seen_by_one(mut watch: Watch<'_>, max_ahead: i64) -> impl FnMut(EventTime) {
    move |time| watch.see(time.at.as_nanos(), max_ahead)
}

/// Tells each track of its times, or its marks.
#[inline(always)]
fn seen_by_each(tracks: &mut [Track], advance: Advance, max_ahead: i64) -> impl FnMut(EventTime) {
    let sources = tracks.len();
    move |EventTime { at, source, mark }| {
        let time = if let Advance::Behind(_) = advance { Some(at) } else { mark };
        if let Some(time) = time {
            tracks[source as usize % sources].see(time.as_nanos(), max_ahead);
        }
    }
}

impl<F> WatermarkOp<F> {
    /// Passes `items` on, and looks at the time of each.
    #[inline(always)]
    fn pass<T, E, I, D>(&mut self, items: I, down: &mut D, cx: &StepCx)
    where
        E: Into<EventTime>,
        F: FnMut(&T) -> E,
        I: Iterator<Item = T>,
        D: Chain<T>,
    {
        self.passed = true;
        let Self { time, gate, tracks, max_ahead, advance, .. } = self;
        let (max_ahead, advance) = (*max_ahead, *advance);
        if let ([one], Advance::Behind(_)) = (&mut tracks[..], advance) {
            let see = seen_by_one(Watch::of(one), max_ahead);
            down.run(items.filter(watching(time, gate, cx, see)), cx);
        } else {
            let see = seen_by_each(tracks, advance, max_ahead);
            down.run(items.filter(watching(time, gate, cx, see)), cx);
        }
    }

    /// Whether times can be looked at ahead: neither marks nor whose time it is matters then.
    fn has_one_track_of_times(&self) -> bool {
        matches!((&self.tracks[..], self.advance), ([_], Advance::Behind(_)))
    }

    /// For a stage that [has one track of times](Self::has_one_track_of_times).
    ///
    /// Looks at the times of `items` before they are passed on, if all of them are believed: of those the latest is enough. Otherwise nothing
    /// has changed, and each is to be looked at when it is passed on.
    ///
    /// Fewer instructions than to look at each on its way, where the comparison and what it needs are beside all else that is done with it.
    #[inline(always)]
    fn sees_all<T, E>(&mut self, items: &[T]) -> bool
    where
        E: Into<EventTime>,
        F: FnMut(&T) -> E,
    {
        let Self { time, tracks, max_ahead, .. } = self;
        let [one] = &mut tracks[..] else { return false };
        if one.trust != Trust::Settled || one.doubted > 0 {
            return false;
        }
        let mut time = |item| time(item).into().at.as_nanos();
        let (fours, rest) = items.as_chunks::<4>();
        // One that panics is counted, and lost, when it is looked at again.
        let latest = catch(|| {
            let latest = fours.iter().flatten().map(&mut time).fold(one.latest, i64::max);
            rest.iter().map(&mut time).fold(latest, i64::max)
        });
        let Ok(latest) = latest else { return false };
        if latest > one.limit {
            return false;
        }
        one.seen = true;
        one.believe(latest, *max_ahead);
        self.passed = true;
        true
    }
}

impl<T, E, F> Operator<T> for WatermarkOp<F>
where
    T: 'static,
    E: Into<EventTime>,
    F: FnMut(&T) -> E + 'static,
{
    type Out = T;

    #[inline]
    fn run<I: Iterator<Item = T>, D: Chain<T>>(&mut self, items: I, down: &mut D, cx: &StepCx) {
        self.pass(items, down, cx);
    }

    #[inline]
    fn run_copies<D: Chain<T>, const FETCHED: bool>(
        &mut self,
        items: Copies<'_, T, FETCHED>,
        down: &mut D,
        cx: &StepCx,
    ) where
        T: Copy,
    {
        if !self.has_one_track_of_times() {
            return self.pass(items.iter(), down, cx);
        }
        for part in items.parts() {
            if self.sees_all(part.as_slice()) {
                down.run_copies(part, cx);
            } else {
                self.pass(part.iter(), down, cx);
            }
        }
    }

    #[inline]
    fn flush<D: Chain<T>>(&mut self, down: &mut D, cx: &StepCx) {
        if self.passed {
            self.look(cx);
            self.settle(down, cx);
        }
    }

    fn signal<D: Chain<T>>(&mut self, signal: Signal, down: &mut D, cx: &StepCx) {
        // The caller saw room for one signal, and one passes.
        match signal {
            Signal::Watermark(_) => {}
            Signal::End => {
                (self.passed, self.watermark, self.idle, self.idle_after) = (false, None, false, None);
                down.signal(signal, cx);
            }
            Signal::Idle if self.passed || self.watermark.is_some() => {
                // Behind the watermark that is owed, which would be the end of idleness.
                self.look(cx);
                self.idle = true;
                self.settle(down, cx);
            }
            Signal::Idle | Signal::Barrier(_) | Signal::Turn => down.signal(signal, cx),
        }
    }

    fn tick<D: Chain<T>>(&mut self, down: &mut D, cx: &StepCx) -> bool {
        let now = cx.now().monotonic;
        if self.idle_after.is_some() {
            if !std::mem::replace(&mut self.started, true) || down.room() == 0 {
                // Nothing was asked of the sources meanwhile.
                self.restart_silences(now);
            } else {
                self.find_idle(now);
            }
        }
        self.settle(down, cx)
    }

    fn next_deadline(&self) -> Option<i64> {
        let idle_after = self.idle_after?;
        let due = |(i, silence): (usize, &Silence)| {
            let wait = if silence.overdue { idle_after.saturating_add(1) } else { idle_after };
            (!self.valve.is_idle(i)).then(|| silence.since.saturating_add(wait))
        };
        self.silences.iter().enumerate().map(due).fold(None, earliest)
    }

    fn account(&self, account: &mut StageAccount) {
        self.gate.account(account);
        account.ahead = self.tracks.iter().map(|track| track.ahead).sum();
        account.pass_all_but(self.gate.lost());
    }

    fn last_error(&mut self) -> Option<String> {
        self.gate.take_last_error()
    }
}
