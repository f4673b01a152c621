//! A graph as a table for people.

use std::fmt;

use humantime::format_duration;

use crate::model::columns;
use crate::policy::{
    AccumulatorPolicy, BackpressureStrategy, BufferPolicy, CircuitBreakerPolicy, DropPolicy, ErrorPolicy,
    MergePolicy, Parallelism, PolicyRef, TimeDomain,
};

use super::{ChannelDescriptor, ChannelOrdering, PipelineGraph, StageNode};

impl fmt::Display for PipelineGraph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.id.as_deref().map_or("pipeline".to_owned(), cell);
        writeln!(f, "{name}: {} stages, {} edges", self.nodes.len(), self.edges.len())?;
        let stages = self.nodes.iter().map(|node| {
            [
                cell(&node.id),
                node.kind.to_string(),
                parallelism(node.parallelism),
                reference(&node.error_policy, error_policy),
                stage_policies(node),
            ]
        });
        table(f, ["STAGE", "KIND", "PARALLELISM", "ON ERROR", "POLICIES"], stages)?;
        let edges = self.edges.iter().map(|edge| {
            [
                format!("{} -> {}", cell(&edge.from), cell(&edge.to)),
                edge.label.as_deref().map_or("-".to_owned(), cell),
                edge.channel.buffer_size.to_string(),
                ordering(&edge.channel.ordering),
                channel_policies(&edge.channel),
            ]
        });
        table(f, ["EDGE", "LABEL", "BUFFER", "ORDER", "POLICIES"], edges)
    }
}

fn table<const N: usize>(
    f: &mut fmt::Formatter<'_>,
    head: [&str; N],
    rows: impl Iterator<Item = [String; N]>,
) -> fmt::Result {
    let rows: Vec<[String; N]> = std::iter::once(head.map(str::to_owned)).chain(rows).collect();
    f.write_str(&columns("  ", &rows, 0..0))
}

/// Text from outside, escaped and cut after 40 characters.
fn cell(text: &str) -> String {
    let escaped: String = text.chars().take(40).flat_map(char::escape_debug).collect();
    if text.chars().nth(40).is_some() { format!("{escaped}...") } else { escaped }
}

fn parallelism(parallelism: Parallelism) -> String {
    match parallelism {
        Parallelism::Sequential => "1".to_owned(),
        Parallelism::Fixed(n) => n.to_string(),
        Parallelism::CpuBound => "one per core".to_owned(),
        Parallelism::IoBound => "async".to_owned(),
    }
}

fn reference<P>(policy: &PolicyRef<P>, text: impl Fn(&P) -> String) -> String {
    match policy {
        PolicyRef::Inline(policy) => text(policy),
        PolicyRef::Named(name) => format!("@{}", cell(name)),
    }
}

fn error_policy(policy: &ErrorPolicy) -> String {
    match policy {
        ErrorPolicy::Retry { max_retries, backoff, .. } => {
            let (base, cap) = (format_duration(backoff.base), format_duration(backoff.cap));
            let jitter = match backoff.jitter_percent {
                0 => String::new(),
                percent => format!(" \u{b1}{percent}%"),
            };
            format!("retry {max_retries} times, {base} to {cap}{jitter}")
        }
        ErrorPolicy::DeadLetter => "dead-letter".to_owned(),
        ErrorPolicy::Fail => "fail".to_owned(),
        ErrorPolicy::Ignore => "ignore".to_owned(),
    }
}

fn drop_policy(policy: DropPolicy) -> &'static str {
    match policy {
        DropPolicy::DropOldest => "drop-oldest",
        DropPolicy::DropNewest => "drop-newest",
        DropPolicy::Block => "block",
    }
}

fn buffer(policy: &BufferPolicy) -> String {
    let bytes = policy.max_bytes.map(|bytes| format!(" max {bytes} bytes")).unwrap_or_default();
    format!("buffer {} {}{bytes}", policy.capacity, drop_policy(policy.drop_policy))
}

fn backpressure(strategy: &BackpressureStrategy) -> String {
    match *strategy {
        BackpressureStrategy::Bounded { capacity, drop_policy: policy } => {
            format!("bounded {capacity} {}", drop_policy(policy))
        }
        BackpressureStrategy::CreditBased { initial, replenish_threshold } => {
            format!("credits {initial}, replenished at {replenish_threshold}")
        }
        BackpressureStrategy::RateShaping { rate, burst } => format!("rate {rate}/s, burst {burst}"),
        BackpressureStrategy::Adaptive { min_batch, max_batch } => {
            format!("batches {min_batch} to {max_batch}")
        }
        BackpressureStrategy::ReactivePull { window_size } => format!("pull {window_size}"),
    }
}

fn breaker(policy: &CircuitBreakerPolicy) -> String {
    format!("breaker at {} of {}", policy.error_threshold, format_duration(policy.window_size))
}

fn accumulator(policy: &AccumulatorPolicy) -> String {
    let clock = if policy.clock == TimeDomain::Event { " (event time)" } else { "" };
    let parts = [
        policy.max_items.map(|items| format!("max {items} items")),
        policy.max_bytes.map(|bytes| format!("max {bytes} bytes")),
        policy.max_latency.map(|latency| format!("max latency {}{clock}", format_duration(latency))),
        policy.completeness_ttl.map(|ttl| format!("ttl {}{clock}", format_duration(ttl))),
        policy.until_end.then(|| "until the end".to_owned()),
        policy.partial_flush.then(|| "partial flush".to_owned()),
        policy.spill_allowed.then(|| "spill".to_owned()),
    ];
    listed(parts)
}

fn merge(policy: MergePolicy) -> &'static str {
    match policy {
        MergePolicy::Fair => "fair",
        MergePolicy::Priority => "priority",
        MergePolicy::ByTimestamp => "by timestamp",
        MergePolicy::Turns => "in turns",
    }
}

fn ordering(ordering: &ChannelOrdering) -> String {
    match ordering {
        ChannelOrdering::Unordered => "unordered".to_owned(),
        ChannelOrdering::Ordered => "ordered".to_owned(),
        ChannelOrdering::PartitionOrdered { key: Some(key) } => format!("by {}", cell(key)),
        ChannelOrdering::PartitionOrdered { key: None } => "by ?".to_owned(),
    }
}

fn stage_policies(node: &StageNode) -> String {
    listed([
        node.accumulation.as_ref().map(|accumulation| accumulator(&accumulation.policy)),
        node.merge.map(|policy| merge(policy).to_owned()),
        node.buffer.as_ref().map(|policy| reference(policy, buffer)),
        node.backpressure.as_ref().map(|policy| reference(policy, backpressure)),
        node.circuit_breaker.as_ref().map(|policy| reference(policy, breaker)),
    ])
}

fn channel_policies(channel: &ChannelDescriptor) -> String {
    listed([
        channel.buffer.as_ref().map(|policy| reference(policy, buffer)),
        channel.backpressure.as_ref().map(|policy| reference(policy, backpressure)),
    ])
}

fn listed<const N: usize>(parts: [Option<String>; N]) -> String {
    let parts: Vec<String> = parts.into_iter().flatten().filter(|part| !part.is_empty()).collect();
    if parts.is_empty() { "-".to_owned() } else { parts.join("; ") }
}
