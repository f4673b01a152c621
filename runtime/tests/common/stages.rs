//! Stages with habits: a source that falters, a sink that takes little, a transform that waits.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use corelane::keyed::{
    Accumulator, CheckTime, FlushReason, SpillError, SpillSchema, StateOf, from_archive, to_archive,
};
use corelane::model::Completeness;
use corelane::stage::{Chain, Emitter, Output, Produced, Rejected, Sink, Source, StageError, Transform};

use super::calls::Calls;
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

/// Takes a few items at a time, sometimes none; hands some back; needs to be asked twice to finish.
pub struct Grudging {
    taken: Arc<Mutex<Vec<Item>>>,
    salt: u64,
    calls: Calls,
    asked: u64,
    room: usize,
    finishing: u32,
}

impl Grudging {
    pub fn new(taken: Arc<Mutex<Vec<Item>>>, salt: u64, calls: Calls) -> Self {
        Self { taken, salt, calls, asked: 0, room: 0, finishing: 0 }
    }
}

impl Sink for Grudging {
    type Item = Item;

    fn accept(&mut self, item: Item) -> Result<(), Rejected<Item>> {
        assert_eq!(self.finishing, 0, "an item after the end");
        if self.calls.fails(&item) {
            return Err(Rejected { item, error: StageError::msg(format!("{PLANNED} refusal")) });
        }
        self.taken.lock().unwrap().push(item);
        Ok(())
    }

    fn room(&mut self) -> usize {
        self.asked += 1;
        if self.asked.is_multiple_of(5) {
            self.room = super::item::mix(self.asked, self.salt) as usize % 9;
        }
        self.room
    }

    fn finish(&mut self) -> Result<bool, StageError> {
        self.finishing += 1;
        Ok(self.finishing == 2)
    }
}

/// Groups the items of a key by their number. A state says that it takes much more memory than it does.
#[derive(Clone)]
pub struct Groups {
    pub keys: u64,
    pub size: u64,
}

impl Accumulator<Item> for Groups {
    type Key = u64;
    type State = Vec<u64>;
    type Out = Item;

    fn key(&self, item: &Item) -> u64 {
        item.key % self.keys
    }

    fn init(&mut self, _key: &u64, _first: &Item) -> Vec<u64> {
        Vec::new()
    }

    fn update(&mut self, of: &mut StateOf<Item, Self>, item: Item) {
        of.state.push(item.key);
    }

    fn check(&mut self, of: &mut StateOf<Item, Self>, _time: CheckTime) -> Completeness<Item> {
        assert_eq!(of.state.len() as u64, of.size_items, "a state that is not that of its key");
        assert!(of.state.iter().all(|key| key % self.keys == of.key), "a state of another key");
        if of.size_items < self.size {
            return Completeness::Incomplete;
        }
        Completeness::Complete(grouped(of.key, of.size_items))
    }

    fn flush_forced(&mut self, of: &mut StateOf<Item, Self>, _reason: FlushReason) -> Option<Item> {
        Some(grouped(of.key, of.size_items))
    }

    fn held_bytes(&self, of: &StateOf<Item, Self>) -> u64 {
        of.state.len() as u64 * 1_500
    }

    fn spill_schema(&self) -> Option<SpillSchema> {
        Some(SpillSchema::archive_of::<StateOf<Item, Self>>())
    }

    fn serialize_spill(&self, of: &StateOf<Item, Self>, into: &mut Vec<u8>) -> Result<(), SpillError> {
        to_archive(of, into)
    }

    fn deserialize_spill(&self, bytes: &[u8]) -> Result<StateOf<Item, Self>, SpillError> {
        from_archive(bytes)
    }
}

/// Holds items until a timer is due; refuses some, and may hand those back.
pub struct Delay {
    salt: u64,
    nanos: i64,
    calls: Calls,
    hands_back: bool,
    held: VecDeque<Item>,
    due: Option<i64>,
    ended: bool,
}

impl Delay {
    pub fn new(salt: u64, nanos: u64, calls: Calls, hands_back: bool) -> Self {
        Self { salt, nanos: nanos as i64, calls, hands_back, held: VecDeque::new(), due: None, ended: false }
    }
}

impl Transform for Delay {
    type In = Item;
    type Out = Item;
    const HOLDS_ITEMS: bool = true;

    fn process(&mut self, item: Item, out: &mut Output<'_, Item>) -> Result<(), StageError> {
        assert!(!self.ended, "an item after the end");
        if self.calls.fails(&item) {
            let error = format!("{PLANNED} error");
            return Err(if self.hands_back {
                StageError::handing_back(item, error)
            } else {
                StageError::msg(error)
            });
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
