//! Stages with habits: a source that falters, a sink that takes little, a transform that waits.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use corelane::keyed::{Accumulator, CheckTime, FlushReason, StateOf};
use corelane::model::Completeness;
use corelane::stage::{Chain, Emitter, Output, Produced, Rejected, Sink, Source, StageError, Transform};

use super::item::{Item, grouped};
use super::quiet::PLANNED;

/// Makes a few items at a time, sometimes none, sometimes not before a time, sometimes more than there is room for.
pub struct Faltering {
    next: u64,
    end: u64,
    make: Box<dyn Fn(u64) -> Item>,
    rng: fastrand::Rng,
}

impl Faltering {
    pub fn new(items: u64, seed: u64, make: impl Fn(u64) -> Item + 'static) -> Self {
        Self { next: 0, end: items, make: Box::new(make), rng: fastrand::Rng::with_seed(seed) }
    }
}

impl Source for Faltering {
    type Item = Item;

    fn produce<C: Chain<Item>>(&mut self, out: &mut Emitter<'_, Item, C>) -> Result<Produced, StageError> {
        let (batch, excess) = (self.rng.usize(..40), self.rng.usize(..2));
        let n = batch.min(out.room() + excess).min((self.end - self.next) as usize);
        for _ in 0..n {
            out.emit((self.make)(self.next));
            self.next += 1;
        }
        Ok(match self.rng.u8(..8) {
            _ if self.next == self.end => Produced::End,
            0 => Produced::Idle,
            1 => Produced::Until(out.now().monotonic + self.rng.i64(1..30_000)),
            _ => Produced::More,
        })
    }
}

/// Counts how often the item it is at has failed: the items of one stage instance are tried one after the other.
#[derive(Clone, Default)]
pub struct Attempts {
    made: u32,
}

impl Attempts {
    /// True if this attempt at an item that fails `failures` times is to fail; `max` retries are made.
    ///
    /// Panics when there is one attempt too many.
    pub fn fails(&mut self, failures: u32, max: u32) -> bool {
        self.made += 1;
        let fails = self.made <= failures;
        assert!(self.made <= max + 1, "attempt {} of {} at most", self.made, max + 1);
        if !fails || self.made == max + 1 {
            self.made = 0;
        }
        fails
    }
}

/// Takes a few items at a time, sometimes none; hands some back; needs to be asked twice to finish.
pub struct Grudging {
    pub taken: Arc<Mutex<Vec<Item>>>,
    pub salt: u64,
    pub every: u64,
    pub failures: u32,
    pub max_retries: u32,
    attempts: Attempts,
    calls: u64,
    room: usize,
    finishing: u32,
}

impl Grudging {
    pub fn new(taken: Arc<Mutex<Vec<Item>>>, salt: u64, every: u64, failures: u32, max_retries: u32) -> Self {
        let attempts = Attempts::default();
        Self { taken, salt, every, failures, max_retries, attempts, calls: 0, room: 0, finishing: 0 }
    }
}

impl Sink for Grudging {
    type Item = Item;

    fn accept(&mut self, item: Item) -> Result<(), Rejected<Item>> {
        assert_eq!(self.finishing, 0, "an item after the end");
        let failures = if item.hits(self.salt, self.every) { self.failures } else { 0 };
        if self.attempts.fails(failures, self.max_retries) {
            return Err(Rejected { item, error: StageError::msg(format!("{PLANNED} refusal")) });
        }
        self.taken.lock().unwrap().push(item);
        Ok(())
    }

    fn room(&mut self) -> usize {
        self.calls += 1;
        if self.calls.is_multiple_of(5) {
            self.room = super::item::mix(self.calls, self.salt) as usize % 9;
        }
        self.room
    }

    fn finish(&mut self) -> Result<bool, StageError> {
        self.finishing += 1;
        Ok(self.finishing == 2)
    }
}

/// Groups the items of a key by their number.
#[derive(Clone)]
pub struct Groups {
    pub keys: u64,
    pub size: u64,
}

impl Accumulator<Item> for Groups {
    type Key = u64;
    type State = ();
    type Out = Item;

    fn key(&self, item: &Item) -> u64 {
        item.key % self.keys
    }

    fn init(&mut self, _key: &u64, _first: &Item) {}

    fn update(&mut self, _of: &mut StateOf<Item, Self>, _item: Item) {}

    fn check(&mut self, of: &mut StateOf<Item, Self>, _time: CheckTime) -> Completeness<Item> {
        if of.size_items < self.size {
            return Completeness::Incomplete;
        }
        Completeness::Complete(grouped(of.key, of.size_items))
    }

    fn flush_forced(&mut self, of: &mut StateOf<Item, Self>, _reason: FlushReason) -> Option<Item> {
        Some(grouped(of.key, of.size_items))
    }
}

/// Holds items until a timer is due; refuses some.
pub struct Delay {
    pub salt: u64,
    pub nanos: i64,
    pub error_every: u64,
    held: VecDeque<Item>,
    due: Option<i64>,
    ended: bool,
}

impl Delay {
    pub fn new(salt: u64, nanos: u64, error_every: u64) -> Self {
        Self { salt, nanos: nanos as i64, error_every, held: VecDeque::new(), due: None, ended: false }
    }
}

impl Transform for Delay {
    type In = Item;
    type Out = Item;
    const HOLDS_ITEMS: bool = true;

    fn process(&mut self, item: Item, out: &mut Output<'_, Item>) -> Result<(), StageError> {
        assert!(!self.ended, "an item after the end");
        if item.hits(self.salt, self.error_every) {
            return Err(StageError::msg(format!("{PLANNED} error")));
        }
        self.held.push_back(item.through(self.salt));
        if self.due.is_none() {
            let due = out.now().monotonic + self.nanos;
            self.due = Some(due);
            out.set_timer(due);
        }
        Ok(())
    }

    fn on_timer(&mut self, out: &mut Output<'_, Item>) -> Result<(), StageError> {
        // C14: once for each time it was set, never early.
        let due = self.due.take().ok_or_else(|| StageError::msg("a timer that was not set"))?;
        if out.now().monotonic < due {
            return Err(StageError::msg("a timer before its time"));
        }
        self.held.drain(..).for_each(|item| out.emit(item));
        Ok(())
    }

    fn finish(&mut self, out: &mut Output<'_, Item>) -> Result<(), StageError> {
        self.ended = true;
        self.held.drain(..).for_each(|item| out.emit(item));
        Ok(())
    }
}

/// Stamps items with the time of the step in which it gets them.
#[derive(Clone)]
pub struct Stamp(pub Arc<Mutex<Vec<i64>>>);

impl Transform for Stamp {
    type In = u64;
    type Out = u64;

    fn process(&mut self, item: u64, out: &mut Output<'_, u64>) -> Result<(), StageError> {
        self.0.lock().unwrap().push(out.now().monotonic);
        out.emit(item);
        Ok(())
    }
}

/// C17: in every window between two items, at most `rate * w + burst` of them.
pub fn worst_window(stamps: &[i64], rate: u32, burst: u32) -> Option<String> {
    let pairs = (0..stamps.len()).flat_map(|i| (i..stamps.len()).map(move |j| (i, j)));
    let over = |&(i, j): &(usize, usize)| {
        let (items, window) = ((j - i + 1) as u128, (stamps[j] - stamps[i]) as u128);
        items * 1_000_000_000 > u128::from(rate) * window + u128::from(burst) * 1_000_000_000
    };
    pairs
        .into_iter()
        .find(over)
        .map(|(i, j)| format!("{} items from {} to {}", j - i + 1, stamps[i], stamps[j]))
}
