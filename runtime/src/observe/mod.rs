//! What a running pipeline shows: logger, tracer and metrics, counters, states, and the account.

mod account;
mod breaker;
mod cells;
mod clock;
mod context;
mod edge_state;
mod latency;
mod law;
mod log_limit;
mod logger;
mod memory;
mod metrics;
#[cfg(feature = "opentelemetry")]
pub mod opentelemetry;
mod outcome;
mod page_nodes;
mod pipeline;
mod pool_stats;
#[cfg(feature = "prometheus")]
pub mod prometheus;
mod pulse;
mod registry;
mod shards;
mod snapshot;
mod state;
mod table;
mod tracer;

pub use account::{Account, EdgeAccount, Totals};
pub use breaker::BreakerState;
pub use cells::{StageAccount, StageCells};
pub use clock::{CallClock, VirtualClock};
pub use context::StageContext;
pub use edge_state::EdgeRuntimeState;
pub use latency::{Distribution, LatencyCell, LatencyRecorder, LatencySummary};
pub use law::{Imbalance, Law, Place};
pub use log_limit::{LimitedLogger, LogLimit};
pub use logger::{LogLevel, Logger, MemoryLogger, TracingLogger};
pub use memory::{MemoryHolder, MemoryUse};
pub use metrics::{MemoryMetrics, Metrics, NoMetrics};
pub use outcome::{Outcome, PipelineResult, RunTimes};
pub use page_nodes::{HeldPages, PageNodes};
pub use pipeline::{PipelinePhase, PipelineState};
pub use pool_stats::MemoryPoolStats;
pub use pulse::{PartitionCells, PartitionState, Pulse};
pub use registry::MetricsRegistry;
pub use shards::ShardsState;
pub use snapshot::{Label, MetricFamily, MetricKind, MetricSample, MetricValue, MetricsSnapshot};
pub use state::{InstanceState, StageRuntimeState, StageState};
pub use tracer::{MemoryTracer, NoTracer, RecordedEvent, RecordedSpan, Tracer};
