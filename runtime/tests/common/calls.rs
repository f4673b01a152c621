//! Stages that fail by plan, and what they find wrong with how they are called.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use corelane::observe::{CallClock, StageAccount, VirtualClock};
use corelane::policy::{Backoff, CircuitBreakerPolicy, ErrorPolicy};

use super::graph::Node;
use super::item::Item;

/// What the instances of a stage tell of their calls.
#[derive(Clone, Debug, Default)]
pub struct Witness(Arc<Mutex<Told>>);

#[derive(Debug, Default)]
struct Told {
    calls: u64,
    opened: u64,
    half_opened: u64,
    closed: u64,
    /// Whether a model looks at the breaker.
    watched: bool,
    wrong: Vec<String>,
}

impl Witness {
    /// What is wrong with the calls of the stage called `name`, whose counters say `account`.
    pub fn check(&self, name: &str, account: &StageAccount, wrong: &mut Vec<String>) {
        let told = self.0.lock().unwrap();
        wrong.extend(told.wrong.iter().map(|text| format!("{name}: {text}")));
        // C15: an item has its first call and one for each retry, but for what was turned away or thrown away before its next.
        let due = account.received + account.retries - account.refused - account.discarded;
        if told.calls != due {
            wrong.push(format!("{name}: {} calls, must be {due}", told.calls));
        }
        // C16: a breaker opens and closes with a call. It half-opens with time: the last one of all may have had no call.
        let counted = (account.breaker_opened, account.breaker_closed);
        let half_opened = account.breaker_half_opened;
        let fits = (told.half_opened..=told.opened).contains(&half_opened);
        if told.watched && (counted != (told.opened, told.closed) || !fits) {
            wrong.push(format!("{name}: breaker counted {counted:?} and {half_opened}, must be {told:?}"));
        }
    }
}

/// The calls of one stage instance. A copy made before the first call is that of another instance.
#[derive(Clone)]
pub struct Calls {
    salt: u64,
    every: u64,
    failures: u32,
    max_retries: u32,
    /// Where waits are measured.
    backoff: Option<Backoff>,
    slow_every: u64,
    clock: Option<VirtualClock>,
    breaker: Option<NaiveBreaker>,
    /// Of items that have failed: how often, and when they may be tried again.
    tries: HashMap<Item, (u32, i64)>,
    witness: Witness,
}

impl Calls {
    /// Those of a stage that fails on about one item in `every`, `failures` times. On a clock that moves only when it is
    /// moved, the circuit breaker is watched, and unless calls of the graph may be slow, waits are.
    pub fn new(
        (salt, every, failures): (u64, u64, u32),
        node: &Node,
        clock: Option<&VirtualClock>,
        slow: bool,
        witness: &Witness,
    ) -> Self {
        let options = &node.options;
        let backoff = match options.on_error {
            // A wait counts from the beginning of the step: where calls move the clock on, that is not known here. An item
            // that was turned away may be followed by its like.
            Some(ErrorPolicy::Retry { backoff, .. }) if !slow && !options.turns_away() => Some(backoff),
            _ => None,
        };
        Self {
            salt,
            every,
            failures,
            max_retries: options.max_retries(),
            backoff,
            slow_every: options.slow_every,
            clock: clock.cloned(),
            breaker: options.breaker.filter(|_| clock.is_some()).map(NaiveBreaker::new),
            tries: HashMap::new(),
            witness: witness.clone(),
        }
    }

    /// The same for a stage whose failures take the item along.
    pub fn without_retries(self) -> Self {
        Self { max_retries: 0, ..self }
    }

    fn now(&self) -> i64 {
        self.clock.as_ref().map_or(0, CallClock::nanos)
    }

    /// A call for `item`: whether it fails.
    pub fn fails(&mut self, item: &Item) -> bool {
        let start = self.now();
        let fails = item.hits(self.salt, self.every) && self.attempt(item, start);
        let is_slow = self.slow_every > 0 && item.draw(!self.salt, self.slow_every) == 0;
        if let (Some(clock), Some(breaker), true) = (&self.clock, &self.breaker, is_slow) {
            clock.advance(breaker.policy.latency_threshold + Duration::from_nanos(1));
        }
        let end = self.now();
        let mut told = self.witness.0.lock().unwrap();
        told.calls += 1;
        if let Some(breaker) = &mut self.breaker {
            told.watched = true;
            breaker.call(Call { start, end, failed: fails }, &mut told);
        }
        fails
    }

    fn attempt(&mut self, item: &Item, now: i64) -> bool {
        let (made, due) = self.tries.entry(*item).or_default();
        if self.clock.is_some() && now < *due {
            let text = format!("C15: attempt {} at {now}, must wait until {due}", *made + 1);
            self.witness.0.lock().unwrap().wrong.push(text);
        }
        *made += 1;
        let fails = *made <= self.failures;
        if !fails || *made > self.max_retries {
            self.tries.remove(item);
        } else if let Some(backoff) = self.backoff {
            let shortest = backoff.jittered(*made - 1, 0);
            *due = now + i64::try_from(shortest.as_nanos()).unwrap();
        }
        fails
    }
}

#[derive(Clone, Copy)]
struct Call {
    start: i64,
    end: i64,
    failed: bool,
}

/// C16: a circuit breaker that keeps every call, and is told only of those that were made.
#[derive(Clone)]
struct NaiveBreaker {
    policy: CircuitBreakerPolicy,
    state: State,
}

#[derive(Clone)]
enum State {
    Closed(Vec<Call>),
    Open { until: i64 },
    HalfOpen(Vec<Call>),
}

fn nanos(time: Duration) -> i64 {
    i64::try_from(time.as_nanos()).unwrap()
}

impl NaiveBreaker {
    fn new(policy: CircuitBreakerPolicy) -> Self {
        Self { policy, state: State::Closed(Vec::new()) }
    }

    fn call(&mut self, call: Call, told: &mut Told) {
        if let State::Open { until } = self.state {
            if call.start < until {
                told.wrong.push(format!("C16: called at {}, must be open until {until}", call.start));
                return;
            }
            told.half_opened += 1;
            self.state = State::HalfOpen(Vec::new());
        }
        let policy = self.policy;
        // The window slides by a sixteenth of its length.
        let part = |at: i64| at / (nanos(policy.window_size) / 16).max(1);
        let opens = match &mut self.state {
            State::Closed(calls) => {
                calls.push(call);
                calls.retain(|old| part(old.end) > part(call.end) - 16);
                calls.len() >= policy.minimum_throughput as usize && Self::are_bad(&policy, calls)
            }
            State::HalfOpen(probes) => {
                probes.push(call);
                if probes.len() < policy.half_open_probes as usize {
                    return;
                }
                let bad = Self::are_bad(&policy, probes);
                if !bad {
                    told.closed += 1;
                    self.state = State::Closed(Vec::new());
                }
                bad
            }
            State::Open { .. } => unreachable!("left above"),
        };
        if opens {
            told.opened += 1;
            self.state = State::Open { until: call.end + nanos(policy.cooldown_period) };
        }
    }

    fn are_bad(policy: &CircuitBreakerPolicy, calls: &[Call]) -> bool {
        let reaches = |some: usize, share: f64| some > 0 && some as f64 >= share * calls.len() as f64;
        let slow = |call: &&Call| call.end - call.start > nanos(policy.latency_threshold);
        let failed = calls.iter().filter(|call| call.failed).count();
        reaches(failed, policy.error_threshold)
            || reaches(calls.iter().filter(slow).count(), policy.slow_call_threshold)
    }
}
