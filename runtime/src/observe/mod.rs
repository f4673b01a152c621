//! What a running pipeline shows: logger, tracer and metrics, counters, states, and the account.

mod account;
mod breaker;
mod cells;
mod clock;
mod context;
mod edge_state;
mod law;
mod logger;
mod memory;
mod metrics;
mod outcome;
mod pool_stats;
mod state;
mod table;
mod tracer;

pub use account::{Account, EdgeAccount, Totals};
pub use breaker::BreakerState;
pub use cells::{StageAccount, StageCells};
pub use clock::{CallClock, VirtualClock};
pub use context::StageContext;
pub use edge_state::EdgeRuntimeState;
pub use law::{Imbalance, Law, Place};
pub use logger::{LogLevel, Logger, MemoryLogger, TracingLogger};
pub use memory::{MemoryHolder, MemoryUse};
pub use metrics::{MemoryMetrics, Metrics, NoMetrics};
pub use outcome::{Outcome, PipelineResult, RunTimes};
pub use pool_stats::MemoryPoolStats;
pub use state::{StageRuntimeState, StageState};
pub use tracer::{MemoryTracer, NoTracer, RecordedEvent, RecordedSpan, Tracer};
