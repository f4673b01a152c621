//! Accumulators against a plain model.

use super::*;

/// The same behaviour, as plainly as it can be said.
struct Model {
    policy: AccumulatorPolicy,
    open: BTreeMap<u8, (Vec<u64>, i64)>,
    out: Vec<Result>,
    expired: usize,
}

impl Model {
    fn let_go(&mut self, key: u8, reason: FlushReason) {
        let (ids, _) = self.open.remove(&key).unwrap();
        match self.policy.partial_flush {
            true => self.out.push((key, Some(reason), ids)),
            false => self.expired += ids.len(),
        }
    }

    fn lifetime(&self) -> Option<(i64, FlushReason)> {
        let nanos = |limit: Option<Duration>| limit.map(|limit| limit.as_nanos() as i64);
        match (nanos(self.policy.completeness_ttl), nanos(self.policy.max_latency)) {
            (None, None) => None,
            (Some(ttl), latency) if latency.is_none_or(|latency| ttl <= latency) => {
                Some((ttl, FlushReason::Ttl))
            }
            (_, latency) => latency.map(|latency| (latency, FlushReason::MaxLatency)),
        }
    }

    fn advance(&mut self, to: i64) {
        let due: Vec<u8> =
            self.open.iter().filter(|(_, (_, deadline))| *deadline <= to).map(|(key, _)| *key).collect();
        for key in due {
            self.let_go(key, self.lifetime().unwrap().1);
        }
    }

    fn add(&mut self, item: &Item, now: i64) {
        let event = self.policy.clock == TimeDomain::Event;
        if !event {
            self.advance_key(item.key, now);
        }
        let start = if event { item.time } else { now };
        let deadline = self.lifetime().map_or(i64::MAX, |(lifetime, _)| start + lifetime);
        let (ids, known) = self.open.entry(item.key).or_insert((Vec::new(), i64::MAX));
        ids.push(item.id);
        *known = deadline.min(*known);
        let items = ids.len() as u64;
        let ids = ids.clone();
        match item.act {
            Act::Complete | Act::Expire => self.out.push((item.key, None, ids)),
            Act::ExpireSilently => self.expired += ids.len(),
            _ if self.policy.max_items.is_some_and(|max| items >= max) => {
                return self.let_go(item.key, FlushReason::MaxItems);
            }
            _ if self.policy.max_bytes.is_some_and(|max| items * 10 >= max) => {
                return self.let_go(item.key, FlushReason::MaxBytes);
            }
            _ => return,
        }
        self.open.remove(&item.key);
    }

    fn advance_key(&mut self, key: u8, now: i64) {
        if self.open.get(&key).is_some_and(|(_, deadline)| *deadline <= now) {
            self.let_go(key, self.lifetime().unwrap().1);
        }
    }
}

#[derive(Clone, Debug)]
enum Do {
    Give(Vec<Item>),
    Advance(i64),
}

fn acts() -> impl Strategy<Value = Vec<Do>> {
    let act = prop_oneof![
        8 => Just(Act::Add), 2 => Just(Act::Complete), 1 => Just(Act::Expire), 1 => Just(Act::ExpireSilently),
    ];
    let item = (0u8..6, -30i64..30, act).prop_map(|(key, time, act)| Item { key, id: 0, time, act });
    let one =
        prop_oneof![prop::collection::vec(item, 1..8).prop_map(Do::Give), (0i64..25).prop_map(Do::Advance),];
    prop::collection::vec(one, 0..40)
}

fn policies() -> impl Strategy<Value = AccumulatorPolicy> {
    use prop::option::of;
    let nanos = |limit: Option<u64>| limit.map(Duration::from_nanos);
    (of(1u64..6), of(1u64..60), of(0u64..40), of(0u64..40), any::<bool>(), any::<bool>()).prop_map(
        move |(max_items, max_bytes, latency, ttl, partial_flush, event)| AccumulatorPolicy {
            max_items,
            max_bytes,
            max_latency: nanos(latency),
            completeness_ttl: nanos(ttl),
            partial_flush,
            clock: if event { TimeDomain::Event } else { TimeDomain::Processing },
            ..AccumulatorPolicy::NONE
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn an_accumulator_does_what_the_plain_model_does(
        policy in policies(), script in acts(), room in prop_oneof![1usize..4, Just(1 << 20)],
    ) {
        let mut b = bench(policy.clone());
        b.room = room;
        let event = policy.clock == TimeDomain::Event;
        let mut model = Model { policy, open: BTreeMap::new(), out: Vec::new(), expired: 0 };
        let (mut id, mut event_time, mut items) = (0, -100, 0);
        for step in script {
            match step {
                Do::Give(mut given) => {
                    for item in &mut given {
                        item.id = id;
                        id += 1;
                        if !event {
                            // The tick that comes before the items of a step.
                            model.advance(b.now);
                        }
                        model.add(item, b.now);
                    }
                    items += given.len() as u64;
                    if room > 1 << 10 || event {
                        b.give(given);
                    } else {
                        given.into_iter().for_each(|item| { b.tick(); b.settle(); b.give([item]); });
                    }
                }
                Do::Advance(by) if event => {
                    event_time += by;
                    b.watermark(event_time);
                    model.advance(event_time);
                }
                Do::Advance(by) => {
                    let to = b.now + by;
                    b.at(to);
                    model.advance(to);
                }
            }
            b.settle();
            if !event {
                model.advance(b.now);
            }
            let (mut out, mut expected) = (b.take(), model.out.clone());
            out.sort_by_key(|(_, _, ids)| ids.clone());
            expected.sort_by_key(|(_, _, ids)| ids.clone());
            prop_assert_eq!(out, expected);
            let a = b.account();
            prop_assert_eq!(a.absorbed, items);
            prop_assert_eq!(a.items_expired, model.expired as u64);
            prop_assert_eq!(a.keys, model.open.len() as u64);
        }
        b.end();
        for key in model.open.keys().copied().collect::<Vec<_>>() {
            model.let_go(key, FlushReason::End);
        }
        prop_assert_eq!(b.take().len(), model.out.len());
        prop_assert_eq!(b.account().keys, 0);
        prop_assert_eq!(b.account().items_expired, model.expired as u64);
    }
}
