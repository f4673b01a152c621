//! A sender that drops against the dumbest thing that is right: a deque from which the front is dropped when it is full.

use std::sync::Mutex;

use proptest::prelude::*;

use super::super::edge::EdgePolicy;
use super::*;
use crate::model::{Cost, Timestamp};
use crate::ring::{Consumer, SIGNAL_CAPACITY, ring};

#[derive(Clone, Copy, Debug)]
enum Op {
    Send(u64),
    /// A watermark, and a turn if so, this often.
    Signals(usize, bool),
    Take(usize),
    Peek,
    Tick,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (1..30u64).prop_map(Op::Send),
        1 => (1..2 * SIGNAL_CAPACITY, any::<bool>()).prop_map(|(n, turn)| Op::Signals(n, turn)),
        1 => (1..3usize, any::<bool>()).prop_map(|(n, turn)| Op::Signals(n, turn)),
        4 => (1..40usize).prop_map(Op::Take),
        1 => Just(Op::Peek),
        4 => Just(Op::Tick),
    ]
}

const fn bytes(item: u64) -> u64 {
    [1, 5, 2, 40][item as usize % 4]
}

struct Pair {
    sender: Sender<u64>,
    consumer: Consumer<u64>,
    told: Arc<Mutex<Vec<u64>>>,
    capacity: u64,
    max_bytes: Option<u64>,
    /// What waits, what was dropped, how many turns had ended before each item.
    waiting: VecDeque<u64>,
    dropped: Vec<u64>,
    turn_of: Vec<u64>,
    turns: u64,
    seen_turns: u64,
    watermark: u64,
    /// Items that the consumer has looked at: nobody drops them.
    looked_at: usize,
}

impl Pair {
    fn new(slots: u64, capacity: u64, drop_policy: DropPolicy, max_bytes: Option<u64>) -> Self {
        let id = |name: &str| name.parse().unwrap();
        let policy = EdgePolicy { capacity, drop_policy, max_bytes, strategy: None };
        let edge = Arc::new(EdgeControl::new(id("a"), id("b"), policy, slots, None));
        let (producer, mut consumer) = ring(slots as usize).unwrap();
        if drop_policy == DropPolicy::DropOldest {
            consumer.allow_evictions();
        }
        consumer.grant(capacity);
        let told = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&told);
        let hook = DropHook::new(move |dropped| log.lock().unwrap().push(dropped.item));
        let cost: CostOf<u64> = Arc::new(|item| Cost::of_bytes(bytes(*item)));
        Self {
            sender: Sender::new(producer, edge, Some(cost), Some(hook)),
            consumer,
            told,
            capacity,
            max_bytes,
            waiting: VecDeque::new(),
            dropped: Vec::new(),
            turn_of: Vec::new(),
            turns: 0,
            seen_turns: 0,
            watermark: 0,
            looked_at: 0,
        }
    }

    fn has_place(&self, item: u64) -> bool {
        let held = |items: &mut dyn Iterator<Item = &u64>| items.map(|item| bytes(*item)).sum::<u64>();
        let waiting = self.waiting.len() - self.looked_at;
        let heavy = held(&mut self.waiting.iter().skip(self.looked_at)) + bytes(item);
        waiting < self.capacity as usize && (waiting == 0 || self.max_bytes.is_none_or(|max| heavy <= max))
    }

    fn send(&mut self, ready: bool) {
        let item = self.turn_of.len() as u64;
        self.turn_of.push(self.turns);
        assert!(
            self.sender.room() > 0 && self.sender.takes_signal(),
            "a policy that drops never makes anyone wait"
        );
        while self.sender.policy == DropPolicy::DropOldest && !self.has_place(item) {
            let Some(oldest) = self.waiting.remove(self.looked_at) else { break };
            self.dropped.push(oldest);
        }
        if ready {
            self.sender.send_ready(item);
        } else {
            self.sender.send(item);
        }
        // What is refused is the sender's affair, since that depends on signals; what was not, waits.
        if self.sender.policy == DropPolicy::DropNewest && self.told.lock().unwrap().last() == Some(&item) {
            self.dropped.push(item);
        } else {
            self.waiting.push_back(item);
        }
        assert_eq!(*self.told.lock().unwrap(), self.dropped, "each is dropped in its turn");
        let waits = self.waiting.len() - self.looked_at;
        assert!(waits <= self.capacity as usize, "{waits} wait, at most {}", self.capacity);
    }

    fn take(&mut self, max: usize) -> usize {
        let taken: Vec<u64> = self.consumer.read(max).collect();
        for item in &taken {
            assert_eq!(Some(*item), self.waiting.pop_front(), "in order, and none that was dropped");
            assert_eq!(self.turn_of[*item as usize], self.seen_turns, "{item} in a turn of others");
            assert!(*item >= self.watermark, "{item} after the watermark {}", self.watermark);
        }
        self.looked_at = self.looked_at.saturating_sub(taken.len());
        self.consumer.grant(self.consumer.popped() + self.capacity);
        match self.consumer.next_signal() {
            Some(Signal::Watermark(Timestamp(time))) => self.watermark = self.watermark.max(time as u64),
            Some(Signal::Turn) => self.seen_turns += 1,
            Some(other) => panic!("{other:?}"),
            None => return taken.len(),
        }
        taken.len() + 1
    }

    fn run(&mut self, op: Op) {
        match op {
            Op::Send(n) => {
                self.sender.begin();
                (0..n).for_each(|_| self.send(n % 2 == 0));
                self.sender.publish();
            }
            Op::Signals(n, turn) => {
                for _ in 0..n {
                    self.sender.signal(Signal::Watermark(Timestamp(self.turn_of.len() as i64)));
                    if turn {
                        self.sender.signal(Signal::Turn);
                        self.turns += 1;
                    }
                }
                self.sender.publish();
            }
            Op::Take(max) => drop(self.take(max)),
            Op::Peek => {
                if let Some(item) = self.consumer.peek() {
                    assert_eq!(Some(item), self.waiting.front());
                    let claims = self.sender.policy == DropPolicy::DropOldest;
                    self.looked_at = usize::from(claims).max(self.looked_at);
                }
            }
            Op::Tick => drop(self.sender.tick()),
        }
    }

    fn finish(&mut self) {
        self.sender.tick();
        while self.take(usize::MAX) > 0 || self.sender.tick() {}
        assert!(self.waiting.is_empty(), "{:?} never come", self.waiting);
        assert_eq!(self.seen_turns, self.turns);
        let mut sum = EdgeCells::default();
        self.sender.count(&mut sum);
        let dropped = sum.dropped_newest + sum.dropped_oldest;
        assert_eq!((sum.offered, dropped), (self.turn_of.len() as u64, self.dropped.len() as u64));
        assert_eq!((sum.offered - dropped, sum.staged, sum.bytes), (self.consumer.popped(), 0, 0));
    }
}

proptest! {
    #[test]
    fn an_edge_that_drops_is_a_deque_that_drops_and_signals_stand_where_they_may(
        (slots, capacity) in prop_oneof![Just((1u64, 1u64)), Just((4, 4)), Just((8, 3)), Just((16, 16))],
        newest in any::<bool>(),
        max_bytes in prop::option::of(1..60u64),
        ops in prop::collection::vec(op(), 0..60),
    ) {
        let policy = if newest { DropPolicy::DropNewest } else { DropPolicy::DropOldest };
        let mut pair = Pair::new(slots, capacity, policy, max_bytes);
        ops.into_iter().for_each(|op| pair.run(op));
        pair.finish();
    }
}

#[test]
fn a_turn_that_waits_behind_an_older_watermark_is_not_overtaken() {
    let mut pair = Pair::new(4, 4, DropPolicy::DropOldest, Some(6));
    [21, 14, 11].into_iter().for_each(|n| pair.run(Op::Send(n)));
    let rest = [Op::Peek, Op::Send(11), Op::Signals(1, false), Op::Take(1), Op::Send(2), Op::Send(1)];
    rest.into_iter().chain([Op::Signals(1, true), Op::Send(1)]).for_each(|op| pair.run(op));
    pair.finish();
}

#[test]
fn without_signals_the_newest_items_are_all_there_at_once_whatever_was_made_before() {
    for burst in [1, 15, 16, 17, 1_000] {
        let mut pair = Pair::new(16, 16, DropPolicy::DropOldest, None);
        for round in 1..20 {
            (0..round % 3 + 1).for_each(|_| pair.run(Op::Send(burst)));
            assert_eq!(
                pair.take(usize::MAX),
                16.min(burst as usize * (round % 3 + 1)),
                "round {round} of {burst}"
            );
        }
    }
}
