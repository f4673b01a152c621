//! What can be wrong with a policy, found without building anything.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use super::{
    AccumulationDescriptor, AccumulatorPolicy, Backoff, BackpressureStrategy, BufferPolicy,
    CircuitBreakerPolicy, ErrorPolicy, MAX_SHARDS, MemoryPoolOptions, Parallelism, RebalancePolicy,
};

/// Items one edge holds at most.
pub const MAX_CAPACITY: u64 = 1 << 32;
/// Instances of one stage at most.
pub const MAX_PARALLELISM: u32 = 1 << 16;
/// Retries of one item at most.
pub const MAX_RETRIES: u32 = 10_000;
/// Longest duration: what fits in signed 64-bit nanoseconds, about 292 years.
const MAX_DURATION: Duration = Duration::from_nanos(i64::MAX as u64);

/// What is wrong with a field of a policy, and what to do about it.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum PolicyProblem {
    /// A buffer, a window or a lot without room.
    #[error("is 0: nothing could ever pass; give at least 1")]
    ZeroAmount,
    /// More items than an edge may hold.
    #[error("is {0}: an edge holds at most {MAX_CAPACITY} items; make it smaller")]
    CapacityTooLarge(u64),
    /// The smallest batch is larger than the largest.
    #[error("is {min}, above max-batch {max}: swap or change them")]
    MinAboveMax {
        /// Smallest batch.
        min: u32,
        /// Largest batch.
        max: u32,
    },
    /// Credits that would be waited for for ever.
    #[error("is {threshold}, not below initial {initial}: replenish below the number of credits there are")]
    CreditsNeverRefill {
        /// Credits at the start.
        initial: u32,
        /// Where they are replenished.
        threshold: u32,
    },
    /// A rate of nothing.
    #[error("is 0: nothing could ever pass; give a rate of at least 1 per second or leave rate shaping out")]
    ZeroRate,
    /// A bucket without room.
    #[error("is 0: no item could ever take a token; give at least 1")]
    ZeroBurst,
    /// More retries than anybody waits for.
    #[error("is {0}: at most {MAX_RETRIES} retries; use fewer, and dead-letter what still fails")]
    TooManyRetries(u32),
    /// All waits together do not fit.
    #[error("is {retries} with waits of up to {cap:?}: together more than 292 years; lower one of them")]
    RetryTimeOverflows {
        /// Retries.
        retries: u32,
        /// Longest wait.
        cap: Duration,
    },
    /// A duration that must be longer than nothing.
    #[error("is zero: give a duration above zero")]
    ZeroDuration,
    /// A duration that does not fit in signed 64-bit nanoseconds.
    #[error("is {0:?}: the longest duration is about 292 years; make it shorter")]
    DurationTooLong(Duration),
    /// The longest wait is shorter than the first.
    #[error("is {cap:?}, below base {base:?}: raise the cap or lower the base")]
    CapBelowBase {
        /// First wait.
        base: Duration,
        /// Longest wait.
        cap: Duration,
    },
    /// A share that is not in `0.0..=1.0`.
    #[error("is {0}: give a share from 0.0 to 1.0")]
    NotAShare(f64),
    /// More than everything.
    #[error("is {0}: give a percentage from 0 to 100")]
    NotAPercentage(u8),
    /// A weight that is negative, infinite or not a number.
    #[error("is {0}: give a finite weight that is not negative")]
    BadWeight(f64),
    /// Weights whose sum says nothing.
    #[error("add up to {0}: give weights with a finite sum above zero, or none at all")]
    BadWeightSum(f64),
    /// Nothing ends a key.
    #[error(
        "has no limit: state would grow without bound; set max-items, max-bytes, max-latency or completeness-ttl, \
         or until-end = true if the key space is bounded"
    )]
    Unbounded,
    /// More made ready than there may be.
    #[error(
        "comes to {wanted} bytes on each core, above the limit of {limit}: prepare less, or raise limit-bytes"
    )]
    PreparedAboveLimit {
        /// Bytes of all buffers to be made ready on a core; saturates.
        wanted: u64,
        /// The limit of the pool, over all cores.
        limit: u64,
    },
    /// More shards than a stage may have.
    #[error("is {0}: a stage has at most {MAX_SHARDS} shards; use fewer")]
    TooManyShards(u32),
    /// No instance.
    #[error("is fixed at 0: nothing would run; use at least 1, or sequential")]
    ZeroInstances,
    /// More instances than a stage may have.
    #[error("is fixed at {0}: a stage has at most {MAX_PARALLELISM} instances; use fewer, or cpu-bound")]
    TooManyInstances(u32),
}

/// A problem and the field it is in, relative to the policy (`backoff.base`).
#[derive(Clone, Debug, PartialEq)]
pub struct FieldProblem {
    /// The field as written in configuration; empty for the policy as a whole.
    pub field: Cow<'static, str>,
    /// What is wrong with it.
    pub problem: PolicyProblem,
}

/// Policies that can be checked by themselves.
pub trait Checked {
    /// Everything that is wrong, in the order of the fields.
    fn problems(&self) -> Vec<FieldProblem>;
}

fn at(field: impl Into<Cow<'static, str>>, problem: PolicyProblem) -> Option<FieldProblem> {
    Some(FieldProblem { field: field.into(), problem })
}

fn amount(field: &'static str, amount: u64) -> Option<FieldProblem> {
    if amount == 0 { at(field, PolicyProblem::ZeroAmount) } else { None }
}

fn capacity(field: &'static str, items: u64) -> Option<FieldProblem> {
    if items > MAX_CAPACITY {
        return at(field, PolicyProblem::CapacityTooLarge(items));
    }
    amount(field, items)
}

fn not_too_long(field: &'static str, duration: Duration) -> Option<FieldProblem> {
    if duration > MAX_DURATION { at(field, PolicyProblem::DurationTooLong(duration)) } else { None }
}

fn above_zero(field: &'static str, duration: Duration) -> Option<FieldProblem> {
    if duration.is_zero() { at(field, PolicyProblem::ZeroDuration) } else { not_too_long(field, duration) }
}

impl Checked for BufferPolicy {
    fn problems(&self) -> Vec<FieldProblem> {
        let bytes = self.max_bytes.and_then(|bytes| amount("max-bytes", bytes));
        capacity("capacity", self.capacity).into_iter().chain(bytes).collect()
    }
}

impl Checked for BackpressureStrategy {
    fn problems(&self) -> Vec<FieldProblem> {
        let [first, second] = match *self {
            Self::Bounded { capacity: items, .. } => [capacity("bounded.capacity", items), None],
            Self::CreditBased { initial: 0, .. } => [amount("credit-based.initial", 0), None],
            Self::CreditBased { initial, replenish_threshold: threshold } if threshold >= initial => {
                let problem = PolicyProblem::CreditsNeverRefill { initial, threshold };
                [at("credit-based.replenish-threshold", problem), None]
            }
            Self::CreditBased { .. } => [None, None],
            // Both fit 32 bits, so that rate * burst fits 64: larger numbers are refused when they are read.
            Self::RateShaping { rate, burst } => [
                (rate == 0).then(|| at("rate-shaping.rate", PolicyProblem::ZeroRate)).flatten(),
                (burst == 0).then(|| at("rate-shaping.burst", PolicyProblem::ZeroBurst)).flatten(),
            ],
            Self::Adaptive { min_batch, max_batch } => [
                amount("adaptive.min-batch", min_batch.into()).or_else(|| {
                    let problem = PolicyProblem::MinAboveMax { min: min_batch, max: max_batch };
                    if min_batch > max_batch { at("adaptive.min-batch", problem) } else { None }
                }),
                amount("adaptive.max-batch", max_batch.into()),
            ],
            Self::ReactivePull { window_size } => {
                [amount("reactive-pull.window-size", window_size.into()), None]
            }
        };
        first.into_iter().chain(second).collect()
    }
}

impl Checked for ErrorPolicy {
    fn problems(&self) -> Vec<FieldProblem> {
        let Self::Retry { max_retries, backoff: Backoff { base, cap, jitter_percent }, max_parked, .. } =
            *self
        else {
            return Vec::new();
        };
        let overflows = cap.checked_mul(max_retries).is_none_or(|total| total > MAX_DURATION);
        let retries = if max_retries > MAX_RETRIES {
            at("retry.max-retries", PolicyProblem::TooManyRetries(max_retries))
        } else if cap <= MAX_DURATION && overflows {
            at("retry.max-retries", PolicyProblem::RetryTimeOverflows { retries: max_retries, cap })
        } else {
            None
        };
        let below = || {
            if cap < base { at("retry.backoff.cap", PolicyProblem::CapBelowBase { base, cap }) } else { None }
        };
        retries
            .into_iter()
            .chain(above_zero("retry.backoff.base", base))
            .chain(not_too_long("retry.backoff.cap", cap).or_else(below))
            .chain((jitter_percent > 100).then(|| percent_problem(jitter_percent)).flatten())
            .chain(amount("retry.max-parked", max_parked.into()))
            .collect()
    }
}

fn percent_problem(percent: u8) -> Option<FieldProblem> {
    at("retry.backoff.jitter-percent", PolicyProblem::NotAPercentage(percent))
}

fn share(field: &'static str, share: f64) -> Option<FieldProblem> {
    if (0.0..=1.0).contains(&share) { None } else { at(field, PolicyProblem::NotAShare(share)) }
}

impl Checked for CircuitBreakerPolicy {
    fn problems(&self) -> Vec<FieldProblem> {
        share("error-threshold", self.error_threshold)
            .into_iter()
            .chain(above_zero("latency-threshold", self.latency_threshold))
            .chain(share("slow-call-threshold", self.slow_call_threshold))
            .chain(above_zero("window-size", self.window_size))
            .chain(amount("minimum-throughput", self.minimum_throughput.into()))
            .chain(not_too_long("cooldown-period", self.cooldown_period))
            .chain(amount("half-open-probes", self.half_open_probes.into()))
            .collect()
    }
}

impl Checked for MemoryPoolOptions {
    fn problems(&self) -> Vec<FieldProblem> {
        let (limit, bytes) = (self.limit_bytes, |count: usize| u64::try_from(count).unwrap_or(u64::MAX));
        let each = self.preallocate.iter().map(|one| bytes(one.size).saturating_mul(bytes(one.count)));
        let wanted = each.fold(0, u64::saturating_add);
        let prepared = (wanted > limit && limit > 0)
            .then(|| at("preallocate", PolicyProblem::PreparedAboveLimit { wanted, limit }));
        amount("limit-bytes", limit).into_iter().chain(prepared.flatten()).collect()
    }
}

impl Checked for AccumulatorPolicy {
    fn problems(&self) -> Vec<FieldProblem> {
        let unbounded = if self.is_bounded() { None } else { at("", PolicyProblem::Unbounded) };
        unbounded
            .into_iter()
            .chain(self.max_items.and_then(|items| amount("max-items", items)))
            .chain(self.max_bytes.and_then(|bytes| amount("max-bytes", bytes)))
            .chain(self.memory_bytes.and_then(|bytes| amount("memory-bytes", bytes)))
            .chain(self.max_latency.and_then(|latency| above_zero("max-latency", latency)))
            .chain(self.completeness_ttl.and_then(|ttl| above_zero("completeness-ttl", ttl)))
            .collect()
    }
}

impl Checked for AccumulationDescriptor {
    fn problems(&self) -> Vec<FieldProblem> {
        let policy = self.policy.problems().into_iter().map(|p| within("policy", p));
        let hint = self.engine_hint.problems().into_iter().map(|p| within("engine-hint", p));
        policy.chain(hint).chain(weight_problems(&self.progress_weights)).collect()
    }
}

impl Checked for RebalancePolicy {
    fn problems(&self) -> Vec<FieldProblem> {
        let shards = match self.shards {
            shards if shards > MAX_SHARDS => at("shards", PolicyProblem::TooManyShards(shards)),
            shards => amount("shards", shards.into()),
        };
        let automatic = self.automatic.iter().flat_map(|automatic| {
            above_zero("automatic.period", automatic.period)
                .into_iter()
                .chain(share("automatic.imbalance", automatic.imbalance))
                .chain(amount("automatic.periods", automatic.periods.into()))
                .chain(not_too_long("automatic.cooldown", automatic.cooldown))
        });
        shards.into_iter().chain(automatic).collect()
    }
}

impl Checked for Parallelism {
    fn problems(&self) -> Vec<FieldProblem> {
        let problem = match *self {
            Self::Fixed(0) => at("", PolicyProblem::ZeroInstances),
            Self::Fixed(n) if n > MAX_PARALLELISM => at("", PolicyProblem::TooManyInstances(n)),
            _ => None,
        };
        problem.into_iter().collect()
    }
}

/// The problem seen from one level further out.
pub(crate) fn within(outer: &str, FieldProblem { field, problem }: FieldProblem) -> FieldProblem {
    let field = if field.is_empty() { outer.to_owned() } else { format!("{outer}.{field}") };
    FieldProblem { field: field.into(), problem }
}

fn weight_problems(weights: &BTreeMap<String, f64>) -> Vec<FieldProblem> {
    let bad = |weight: f64| !weight.is_finite() || weight < 0.0;
    let mut problems: Vec<_> = weights
        .iter()
        .filter(|&(_, &weight)| bad(weight))
        .filter_map(|(name, &weight)| {
            at(format!("progress-weights.{}", name.escape_debug()), PolicyProblem::BadWeight(weight))
        })
        .collect();
    let sum: f64 = weights.values().sum();
    if problems.is_empty() && !weights.is_empty() && (sum <= 0.0 || !sum.is_finite()) {
        problems.extend(at("progress-weights", PolicyProblem::BadWeightSum(sum)));
    }
    problems
}
