//! A timer wheel: deadlines of keys, retries and users' timers, on whatever clock the owner has.

const BITS: u32 = 6;
const SLOTS: usize = 1 << BITS;
/// Enough digits of [`BITS`] bits for all 64 bits of a time.
const LEVELS: usize = 64usize.div_ceil(BITS as usize);
/// The list of timers whose deadline lay behind them when they were scheduled.
const OVERDUE: usize = LEVELS * SLOTS;
const NIL: u32 = u32::MAX;

/// Names a timer from [`schedule`](TimerWheel::schedule) until it fires or is cancelled; names nothing after that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimerId {
    node: u32,
    generation: u32,
}

#[derive(Debug)]
struct Node {
    deadline: u64,
    token: u64,
    prev: u32,
    next: u32,
    list: u32,
    /// Odd while the timer is scheduled.
    generation: u32,
}

/// A list of timers, with the least deadline in it or, once a timer was cancelled, a time at or before that.
#[derive(Clone, Copy, Debug)]
struct List {
    head: u32,
    tail: u32,
    least: u64,
}

const EMPTY: List = List { head: NIL, tail: NIL, least: u64::MAX };

/// A hierarchical hashed timer wheel over `i64` nanoseconds, the whole range, on one clock that never goes back.
///
/// Timers fire in the order of their deadlines, those with the same deadline in the order they were scheduled in, and
/// never early. (A timer scheduled for a time at or before the deadline that fired last fires next.)
///
/// The wheel has 11 levels of 64 slots. A timer lies on the level of the highest of its 6-bit digits in which it differs
/// from the wheel's own time, and moves at most once per level, down, in its life: to schedule, to cancel and to fire
/// each cost a constant, and a jump of the clock over any time costs no more than the timers it makes due. Memory is 32
/// bytes per timer, reused and never given back: no allocation once the number of timers has been seen before.
#[derive(Debug)]
pub struct TimerWheel {
    /// Placement refers to this time. No timer in a slot lies before it; it trails the clock.
    time: u64,
    levels: u32,
    occupied: [u64; LEVELS],
    lists: Box<[List]>,
    /// The slot whose timers are being spread over the levels below it. Nothing else may fire before that is done.
    spreading: Option<usize>,
    nodes: Vec<Node>,
    free: u32,
    len: usize,
}

/// Maps times to numbers without sign, keeping their order.
const fn to_ticks(time: i64) -> u64 {
    time.cast_unsigned() ^ (1 << 63)
}

const fn to_time(ticks: u64) -> i64 {
    (ticks ^ (1 << 63)).cast_signed()
}

impl Default for TimerWheel {
    fn default() -> Self {
        Self::new()
    }
}

impl TimerWheel {
    /// A wheel without timers. Allocates about 11 KiB.
    pub fn new() -> Self {
        Self {
            time: 0,
            levels: 0,
            occupied: [0; LEVELS],
            lists: vec![EMPTY; LEVELS * SLOTS + 1].into(),
            spreading: None,
            nodes: Vec::new(),
            free: NIL,
            len: 0,
        }
    }

    /// Timers scheduled.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Bytes of memory it takes.
    pub fn memory(&self) -> usize {
        self.nodes.len() * size_of::<Node>() + size_of_val(&*self.lists)
    }

    /// Whether no timer is scheduled.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Schedules a timer; `token` comes back when it fires.
    ///
    /// # Panics
    /// With 2^32 - 1 timers scheduled.
    pub fn schedule(&mut self, deadline: i64, token: u64) -> TimerId {
        let deadline = to_ticks(deadline);
        let node = self.take_node(deadline, token);
        let list = self.list_for(deadline);
        self.append(node, list);
        self.len += 1;
        TimerId { node, generation: self.nodes[node as usize].generation }
    }

    /// Takes a timer back. False if it has fired or was cancelled already.
    pub fn cancel(&mut self, id: TimerId) -> bool {
        let scheduled = self.node(id).is_some();
        if scheduled {
            self.unlink(id.node);
            self.release(id.node);
        }
        scheduled
    }

    /// When a timer is due; `None` if it has fired or was cancelled.
    pub fn deadline(&self, id: TimerId) -> Option<i64> {
        self.node(id).map(|node| to_time(node.deadline))
    }

    /// The next timer with a deadline at or before `now`: its deadline and token. `None` when there is no such timer, or
    /// `budget` is used up.
    ///
    /// Each timer fired or moved to a lower level takes one from `budget`, so that a step's work is bounded however many
    /// timers are due at once. What is left stays due.
    pub fn pop(&mut self, now: i64, budget: &mut usize) -> Option<(i64, u64)> {
        let now = to_ticks(now);
        if now < self.time {
            return None;
        }
        while *budget > 0 {
            let head = self.lists[OVERDUE].head;
            if head != NIL {
                *budget -= 1;
                return Some(self.fire(head));
            }
            let list = match self.spreading {
                Some(list) => list,
                None => self.enter_first(now)?,
            };
            let head = self.lists[list].head;
            if head == NIL {
                self.spreading = None;
                continue;
            }
            *budget -= 1;
            let deadline = self.nodes[head as usize].deadline;
            if deadline == self.time {
                return Some(self.fire(head));
            }
            self.unlink(head);
            let lower = self.slot_for(deadline);
            self.append(head, lower);
        }
        None
    }

    /// The earliest deadline; `None` without timers. Once timers have been cancelled it may be a time before that: to
    /// wake up then and find nothing due is harmless, and the answer is later the next time.
    pub fn next_deadline(&self) -> Option<i64> {
        let overdue = self.lists[OVERDUE].head;
        let ticks = if overdue != NIL {
            self.nodes[overdue as usize].deadline
        } else if self.spreading.is_some_and(|list| self.lists[list].head != NIL) {
            self.time
        } else {
            self.lists[self.first()?].least
        };
        Some(to_time(ticks))
    }

    /// The slot with the earliest timers. Timers on a lower level share more digits with the wheel's time: they are
    /// earlier than all on the levels above.
    fn first(&self) -> Option<usize> {
        if self.levels == 0 {
            return None;
        }
        let level = self.levels.trailing_zeros() as usize;
        Some(level * SLOTS + self.occupied[level].trailing_zeros() as usize)
    }

    /// Moves time to the earliest timer if that is due, and begins to spread its slot.
    fn enter_first(&mut self, now: u64) -> Option<usize> {
        let list = self.first()?;
        let least = self.lists[list].least;
        if least > now {
            return None;
        }
        self.time = least;
        self.spreading = Some(list);
        Some(list)
    }

    /// Where a new timer goes.
    fn list_for(&self, deadline: u64) -> usize {
        if deadline < self.time {
            return OVERDUE;
        }
        let slot = self.slot_for(deadline);
        match self.spreading {
            // Behind those of the same slot that have not been moved yet, or it would overtake one of the same time.
            Some(list) if slot == list || slot / SLOTS < list / SLOTS => list,
            _ if deadline == self.time => OVERDUE,
            _ => slot,
        }
    }

    fn slot_for(&self, deadline: u64) -> usize {
        let level = (63 - ((deadline ^ self.time) | 1).leading_zeros()) / BITS;
        let digit = (deadline >> (level * BITS)) as usize % SLOTS;
        level as usize * SLOTS + digit
    }

    fn node(&self, id: TimerId) -> Option<&Node> {
        self.nodes.get(id.node as usize).filter(|node| node.generation == id.generation)
    }

    fn take_node(&mut self, deadline: u64, token: u64) -> u32 {
        if self.free == NIL {
            let node = u32::try_from(self.nodes.len()).ok().filter(|&node| node != NIL);
            let Some(node) = node else { panic!("more than 2^32 - 1 timers") };
            self.nodes.push(Node { deadline, token, prev: NIL, next: NIL, list: 0, generation: 1 });
            return node;
        }
        let node = self.free;
        let free = &mut self.nodes[node as usize];
        self.free = free.next;
        free.deadline = deadline;
        free.token = token;
        free.generation = free.generation.wrapping_add(1);
        node
    }

    fn release(&mut self, node: u32) {
        let freed = &mut self.nodes[node as usize];
        freed.generation = freed.generation.wrapping_add(1);
        freed.next = self.free;
        self.free = node;
        self.len -= 1;
    }

    fn fire(&mut self, node: u32) -> (i64, u64) {
        self.unlink(node);
        self.release(node);
        let Node { deadline, token, .. } = self.nodes[node as usize];
        (to_time(deadline), token)
    }

    fn append(&mut self, node: u32, list: usize) {
        let to = &mut self.lists[list];
        let this = &mut self.nodes[node as usize];
        this.list = list as u32;
        this.prev = to.tail;
        this.next = NIL;
        to.least = to.least.min(this.deadline);
        let before = std::mem::replace(&mut to.tail, node);
        if before == NIL {
            to.head = node;
            if list != OVERDUE {
                self.occupied[list / SLOTS] |= 1 << (list % SLOTS);
                self.levels |= 1 << (list / SLOTS);
            }
        } else {
            self.nodes[before as usize].next = node;
        }
    }

    fn unlink(&mut self, node: u32) {
        let Node { prev, next, list, .. } = self.nodes[node as usize];
        let list = list as usize;
        match prev {
            NIL => self.lists[list].head = next,
            prev => self.nodes[prev as usize].next = next,
        }
        match next {
            NIL => self.lists[list].tail = prev,
            next => self.nodes[next as usize].prev = prev,
        }
        if self.lists[list].head == NIL {
            self.lists[list] = EMPTY;
            if list != OVERDUE {
                let level = list / SLOTS;
                self.occupied[level] &= !(1 << (list % SLOTS));
                self.levels &= !(u32::from(self.occupied[level] == 0) << level);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn drain(wheel: &mut TimerWheel, now: i64) -> Vec<(i64, u64)> {
        std::iter::from_fn(|| wheel.pop(now, &mut usize::MAX.clone())).collect()
    }

    /// Times that are near each other, near a digit's edge, near the ends, or anywhere.
    fn time() -> impl Strategy<Value = i64> {
        prop_oneof![
            4 => -200i64..200,
            2 => (0u32..63, -2i64..3).prop_map(|(bit, d)| (1i64 << bit).wrapping_add(d)),
            2 => (0u32..63, -2i64..3).prop_map(|(bit, d)| (-1i64 << bit).wrapping_add(d)),
            1 => prop_oneof![Just(i64::MIN), Just(i64::MAX), Just(i64::MIN + 1), Just(i64::MAX - 1)],
            1 => any::<i64>(),
        ]
    }

    #[derive(Clone, Debug)]
    enum Op {
        Schedule(i64),
        Cancel(prop::sample::Index),
        Advance { to: i64, budget: usize },
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            6 => time().prop_map(Op::Schedule),
            2 => any::<prop::sample::Index>().prop_map(Op::Cancel),
            2 => (time(), prop_oneof![0usize..6, Just(usize::MAX)])
                .prop_map(|(to, budget)| Op::Advance { to, budget }),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn what_is_due_fires_once_in_order_and_never_early(ops in prop::collection::vec(op(), 1..80)) {
            let mut wheel = TimerWheel::new();
            // The model: timers by deadline, then by the order of scheduling.
            let mut model = BTreeMap::<(i64, u64), TimerId>::new();
            let (mut now, mut fired_last) = (i64::MIN, i64::MIN);
            let mut all = Vec::new();
            for (token, op) in (0u64..).zip(ops) {
                match op {
                    Op::Schedule(deadline) => {
                        // Late ones have their own rule, and their own test.
                        let deadline = deadline.max(fired_last.saturating_add(1)).max(now);
                        if deadline > fired_last {
                            let id = wheel.schedule(deadline, token);
                            all.push((deadline, token, id));
                            model.insert((deadline, token), id);
                        }
                    }
                    Op::Cancel(at) if !all.is_empty() => {
                        let (deadline, token, id) = *at.get(&all);
                        let known = model.remove(&(deadline, token)).is_some();
                        prop_assert_eq!(wheel.deadline(id), known.then_some(deadline));
                        prop_assert_eq!(wheel.cancel(id), known);
                    }
                    Op::Cancel(_) => {}
                    Op::Advance { to, mut budget } => {
                        now = now.max(to);
                        while let Some((deadline, token)) = wheel.pop(now, &mut budget) {
                            let (&first, _) = model.first_key_value().expect("the model has a timer too");
                            prop_assert_eq!((deadline, token), first);
                            prop_assert!(deadline <= now);
                            model.pop_first();
                            fired_last = deadline;
                        }
                        if budget > 0 {
                            prop_assert!(model.keys().all(|(deadline, _)| *deadline > now));
                        }
                    }
                }
                prop_assert_eq!(wheel.len(), model.len());
                let next = wheel.next_deadline();
                prop_assert_eq!(next.is_some(), !model.is_empty());
                if let Some(((first, _), next)) = model.keys().next().zip(next) {
                    prop_assert!(next <= *first, "{} is after {}", next, first);
                }
            }
            let left: Vec<_> = model.into_keys().collect();
            prop_assert_eq!(drain(&mut wheel, i64::MAX), left);
            prop_assert_eq!(wheel.next_deadline(), None);
        }

        #[test]
        fn without_cancelling_the_next_deadline_is_exact(
            deadlines in prop::collection::vec(time(), 1..50),
            steps in prop::collection::vec(time(), 0..20),
        ) {
            let mut wheel = TimerWheel::new();
            let mut model: Vec<i64> = deadlines;
            model.iter().for_each(|&deadline| { wheel.schedule(deadline, 0); });
            for now in steps {
                prop_assert_eq!(wheel.next_deadline(), model.iter().min().copied());
                drain(&mut wheel, now);
                // A clock that goes back makes nothing due.
                model.retain(|&deadline| deadline > now);
            }
        }

        #[test]
        fn a_late_timer_fires_at_the_next_chance(first in time(), late in prop::collection::vec(time(), 1..20)) {
            let mut wheel = TimerWheel::new();
            wheel.schedule(first, u64::MAX);
            prop_assert_eq!(drain(&mut wheel, first).len(), 1);
            let late: Vec<_> = late.into_iter().filter(|&deadline| deadline <= first).zip(0..).collect();
            for &(deadline, token) in &late {
                wheel.schedule(deadline, token);
            }
            prop_assert_eq!(drain(&mut wheel, first), late);
        }
    }

    #[test]
    fn a_million_timers_due_at_once_fire_in_batches_of_bounded_work() {
        let mut wheel = TimerWheel::new();
        for token in 0..1_000_000 {
            wheel.schedule(1_000_000_000_000 + (token % 2) as i64 * 5, token);
        }
        let (mut fired, mut most) = (0, 0);
        while !wheel.is_empty() {
            let mut budget = 1000;
            let batch = std::iter::from_fn(|| wheel.pop(i64::MAX, &mut budget)).count();
            most = most.max(batch);
            fired += batch;
        }
        assert_eq!((fired, most), (1_000_000, 1000));
    }

    #[test]
    fn a_timer_moves_at_most_once_per_level_whatever_the_clock_does() {
        let (mut wheel, timers) = (TimerWheel::new(), 10_000u64);
        let deadline = |i: u64| (i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 1).cast_signed();
        (0..timers).for_each(|i| {
            wheel.schedule(deadline(i), i);
        });
        let mut budget = usize::MAX;
        for bit in 0..63 {
            while wheel.pop(1 << bit, &mut budget).is_some() {}
        }
        while wheel.pop(i64::MAX, &mut budget).is_some() {}
        assert!(wheel.is_empty());
        assert!(usize::MAX - budget <= timers as usize * LEVELS, "{}", usize::MAX - budget);
    }

    #[test]
    fn memory_is_that_of_the_most_timers_at_once() {
        let mut wheel = TimerWheel::new();
        for round in 0..1000 {
            for i in 0..100 {
                let id = wheel.schedule(round * 10 + i, 0);
                if i % 2 == 0 {
                    wheel.cancel(id);
                }
            }
            drain(&mut wheel, round * 10 + 100);
        }
        assert!(wheel.is_empty() && wheel.nodes.len() <= 100, "{} nodes", wheel.nodes.len());
        assert_eq!(size_of::<Node>(), 32);
    }
}
