//! A running pipeline's own measurements, as a snapshot for adapters.

use super::Monitor;
use crate::model::StageId;
use crate::observe::{
    EdgeAccount, EdgeRuntimeState, InstanceState, Label, LatencyCell, MetricKind, MetricValue,
    MetricsSnapshot, PipelineState, StageAccount, StageCells, Totals,
};

use MetricKind::{Counter, Gauge, Histogram};

fn kind(is_gauge: bool) -> MetricKind {
    if is_gauge { Gauge } else { Counter }
}

impl Monitor {
    /// Everything the runtime measures: of each stage instance every counter of its [`StageAccount`], its state, watermark
    /// and latencies; of each edge every counter of its [`EdgeAccount`]; of each partition its steps; the [`Totals`] of the
    /// account, and the graph's metadata. Read from the same cells as [`account`](Self::account): the same numbers.
    ///
    /// No partition waits for it. Costs microseconds per stage instance.
    pub fn metrics(&self) -> MetricsSnapshot {
        let state = self.inspect_all();
        let pipeline: Label = ("pipeline".into(), state.pipeline_id.clone());
        let mut snapshot = MetricsSnapshot::default();
        self.add_pipeline(&pipeline, &state, &mut snapshot);
        self.add_stages(&pipeline, &state, &mut snapshot);
        self.add_edges(&pipeline, &state, &mut snapshot);
        self.add_edge_policies(&pipeline, &mut snapshot);
        self.add_partitions(&pipeline, &state, &mut snapshot);
        add_memory(&pipeline, &state, &mut snapshot);
        snapshot
    }

    fn add_pipeline(&self, pipeline: &Label, state: &PipelineState, snapshot: &mut MetricsSnapshot) {
        let about = ("corelane_pipeline_metadata", "Metadata of the graph; always 1.", Gauge);
        for (key, value) in &self.graph().metadata {
            let labels = vec![pipeline.clone(), ("key".into(), key.clone()), ("value".into(), value.clone())];
            snapshot.add(about, labels, MetricValue::Count(1));
        }
        for ((name, items), help) in state.account.totals().fields().into_iter().zip(Totals::HELP) {
            let about = (format!("corelane_pipeline_{name}"), help, kind(Totals::is_gauge(name)));
            snapshot.add(about, vec![pipeline.clone()], items.into());
        }
    }

    fn add_stages(&self, pipeline: &Label, state: &PipelineState, snapshot: &mut MetricsSnapshot) {
        let instances = || {
            let stages = state.stages.iter().zip(self.instance_cells());
            stages.flat_map(|(stage, cells)| stage.instances.iter().zip(cells).map(move |one| (stage, one)))
        };
        let labels = |stage: &str, i: &InstanceState| -> Vec<Label> {
            vec![
                pipeline.clone(),
                ("stage".into(), stage.to_owned()),
                ("instance".into(), i.instance.to_string()),
                ("partition".into(), i.partition.to_string()),
            ]
        };
        for (at, (name, help)) in StageAccount::FIELDS.iter().zip(StageAccount::HELP).enumerate() {
            for (stage, (i, _)) in instances() {
                let about =
                    (format!("corelane_stage_{name}"), help.trim(), kind(StageAccount::is_gauge(name)));
                let count = i.account.fields().nth(at).map_or(0, |(_, count)| count);
                snapshot.add(about, labels(stage.stage_id.as_str(), i), count.into());
            }
        }
        for stage in &state.stages {
            let about = ("corelane_stage_input_items", "Items in front of the stage.", Gauge);
            let labels = vec![pipeline.clone(), ("stage".into(), stage.stage_id.to_string())];
            snapshot.add(about, labels, stage.input_queue_depth.into());
        }
        let about =
            ("corelane_stage_log_lines_left_out", "Log lines left out: too many in a second.", Counter);
        for (stage, (i, _)) in instances() {
            snapshot.add(about, labels(stage.stage_id.as_str(), i), i.log_lines_left_out.into());
        }
        for (stage, (i, _)) in instances() {
            let about = ("corelane_stage_state", "The state the instance is in; always 1.", Gauge);
            let mut labels = labels(stage.stage_id.as_str(), i);
            labels.push(("state".into(), i.state.to_string()));
            snapshot.add(about, labels, MetricValue::Count(1));
        }
        let about = ("corelane_stage_breaker", "The state of the circuit breaker; always 1.", Gauge);
        snapshot.declare(about.0, about.1, about.2);
        for (stage, (i, _)) in instances() {
            if let Some(breaker) = i.breaker {
                let mut labels = labels(stage.stage_id.as_str(), i);
                labels.push(("state".into(), breaker.to_string()));
                snapshot.add(about, labels, MetricValue::Count(1));
            }
        }
        let about = ("corelane_stage_watermark_seconds", "Event time reached, since the Unix epoch.", Gauge);
        snapshot.declare(about.0, about.1, about.2);
        for (stage, (i, _)) in instances() {
            if let Some(time) = i.watermark {
                let seconds = MetricValue::Number(time.as_nanos() as f64 / 1e9);
                snapshot.add(about, labels(stage.stage_id.as_str(), i), seconds);
            }
        }
        type Read = fn(&StageCells) -> &LatencyCell;
        let times: [(&'static str, &'static str, Read); 3] = [
            ("corelane_stage_queue_wait_seconds", "Time that items waited in the input, sampled.", |cells| {
                &cells.queue_wait
            }),
            (
                "corelane_stage_batch_seconds",
                "Time that batches took to the end of the chain, sampled.",
                |cells| &cells.batch,
            ),
            (
                "corelane_stage_latency_seconds",
                "Time from that which items carry to the stage, sampled.",
                |cells| &cells.latency,
            ),
        ];
        for (name, help, read) in times {
            snapshot.declare(name, help, Histogram);
            for (stage, (i, cells)) in instances() {
                add_times((name, help), read(cells), labels(stage.stage_id.as_str(), i), snapshot);
            }
        }
    }

    fn add_edges(&self, pipeline: &Label, state: &PipelineState, snapshot: &mut MetricsSnapshot) {
        for (at, (name, help)) in EdgeAccount::FIELDS.iter().zip(EdgeAccount::HELP).enumerate() {
            let about = (format!("corelane_edge_{name}"), help.trim(), kind(EdgeAccount::is_gauge(name)));
            for (index, edge) in state.account.edges.iter().enumerate() {
                let labels = edge_labels(pipeline, index, &edge.from, &edge.to);
                let count = edge.fields().nth(at).map_or(0, |(_, count)| count);
                snapshot.add(about.clone(), labels, count.into());
            }
        }
    }

    /// What edges keep to, where they do.
    fn add_edge_policies(&self, pipeline: &Label, snapshot: &mut MetricsSnapshot) {
        let states = self.edges();
        type Read = fn(&EdgeRuntimeState) -> Option<u64>;
        let families: [(&str, &str, Read); 6] = [
            ("corelane_edge_capacity", "Items that each ring of the edge holds at most.", |e| {
                Some(e.capacity)
            }),
            ("corelane_edge_held_bytes", "Bytes of the items in the edge.", |e| Some(e.bytes)),
            ("corelane_edge_credits", "Credits that producers have not used.", |e| e.credits),
            ("corelane_edge_batch", "Items that a consuming instance takes in a step at most.", |e| e.batch),
            ("corelane_edge_tokens", "Whole tokens in the bucket of the edge.", |e| e.tokens),
            ("corelane_edge_demand", "Items requested and not yet delivered.", |e| e.demand),
        ];
        for (name, help, read) in families {
            snapshot.declare(name, help, Gauge);
            for (index, edge) in states.iter().enumerate() {
                if let Some(value) = read(edge) {
                    snapshot.add(
                        (name, help, Gauge),
                        edge_labels(pipeline, index, &edge.from, &edge.to),
                        value.into(),
                    );
                }
            }
        }
    }

    fn add_partitions(&self, pipeline: &Label, state: &PipelineState, snapshot: &mut MetricsSnapshot) {
        let labels = |partition: usize| vec![pipeline.clone(), ("partition".into(), partition.to_string())];
        for partition in &state.partitions {
            let about = ("corelane_partition_steps", "Steps of the partition.", Counter);
            snapshot.add(about, labels(partition.partition), partition.steps.into());
        }
        let about =
            ("corelane_partition_silent_seconds", "Time since the partition last told of a step.", Gauge);
        for partition in &state.partitions {
            snapshot.add(
                about,
                labels(partition.partition),
                MetricValue::Number(partition.silent_for.as_secs_f64()),
            );
        }
        let steps = ("corelane_partition_step_seconds", "How long steps with work took, sampled.");
        snapshot.declare(steps.0, steps.1, Histogram);
        for (partition, cells) in self.partition_cells().enumerate() {
            add_times(steps, &cells.step, labels(partition), snapshot);
        }
    }
}

fn add_memory(pipeline: &Label, state: &PipelineState, snapshot: &mut MetricsSnapshot) {
    let about = ("corelane_memory_bytes", "Memory held, by who holds it.", Gauge);
    snapshot.declare(about.0, about.1, about.2);
    for (holder, bytes) in &state.memory.holders {
        let labels = vec![pipeline.clone(), ("holder".into(), holder.to_string())];
        snapshot.add(about, labels, (*bytes).into());
    }
    let about = ("corelane_memory_budget_bytes", "Memory that may be held all together.", Gauge);
    snapshot.declare(about.0, about.1, about.2);
    if let Some(budget) = state.memory.budget {
        snapshot.add(about, vec![pipeline.clone()], budget.into());
    }
    let pool = &state.pool;
    let sizes = [
        ("corelane_pool_allocated_bytes", "Memory of the pool on these cores.", pool.total_allocated),
        ("corelane_pool_rented_bytes", "Bytes rented from the pool and not returned.", pool.currently_rented),
        ("corelane_pool_peak_bytes", "The most bytes that were rented at once.", pool.peak_usage),
        (
            "corelane_pool_rented_buffers",
            "Buffers rented from the pool and not returned.",
            pool.rented_buffers,
        ),
    ];
    for (name, help, value) in sizes {
        snapshot.add((name, help, Gauge), vec![pipeline.clone()], value.into());
    }
    let about = ("corelane_pool_fragmentation_ratio", "Share of rented memory lost to rounding.", Gauge);
    snapshot.add(about, vec![pipeline.clone()], MetricValue::Number(pool.fragmentation_ratio));
}

/// The labels of an edge. Several may lead from one stage to another: its position tells them apart.
fn edge_labels(pipeline: &Label, index: usize, from: &StageId, to: &StageId) -> Vec<Label> {
    vec![
        pipeline.clone(),
        ("edge".into(), index.to_string()),
        ("from".into(), from.to_string()),
        ("to".into(), to.to_string()),
    ]
}

/// Adds a distribution that has samples.
fn add_times(
    (name, help): (&'static str, &'static str),
    cell: &LatencyCell,
    labels: Vec<Label>,
    snapshot: &mut MetricsSnapshot,
) {
    let times = cell.distribution();
    if times.count > 0 {
        snapshot.add((name, help, Histogram), labels, MetricValue::Distribution(times));
    }
}
