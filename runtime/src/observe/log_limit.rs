//! Keeps a stage that fails from flooding the log.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};

use super::{LogLevel, Logger, PartitionCells, StageCells};
use crate::model::Attributes;

/// Lets a number of lines through in each second and counts the others. Time is told to it.
#[derive(Debug)]
pub struct LogLimit {
    left: AtomicU32,
    /// Monotonic time from which there are as many as at the start again.
    refill_at: AtomicI64,
    left_out: AtomicU64,
}

impl Default for LogLimit {
    fn default() -> Self {
        let left = AtomicU32::new(Self::LINES);
        Self { left, refill_at: AtomicI64::new(i64::MIN), left_out: AtomicU64::new(0) }
    }
}

impl LogLimit {
    /// Lines in a second at most.
    pub const LINES: u32 = 20;
    const SECOND: i64 = 1_000_000_000;

    /// Whether a line may be written at the monotonic time `now`; counted if not.
    ///
    /// Made for one thread; of several at once, a few lines more may get through.
    pub fn allow(&self, now: i64) -> bool {
        if now >= self.refill_at.load(Ordering::Relaxed) {
            self.refill_at.store(now.saturating_add(Self::SECOND), Ordering::Relaxed);
            self.left.store(Self::LINES, Ordering::Relaxed);
        }
        let one_less = |left: u32| left.checked_sub(1);
        let allowed = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_ok();
        if !allowed {
            self.left_out.fetch_add(1, Ordering::Relaxed);
        }
        allowed
    }

    /// Lines left out since the start.
    pub fn left_out(&self) -> u64 {
        self.left_out.load(Ordering::Relaxed)
    }
}

/// A logger that a [`LogLimit`] stands before. A line after some that were left out says how many. Time is that of the
/// last report of its partition, so that a simulated run writes the same lines each time.
pub struct LimitedLogger {
    inner: Arc<dyn Logger>,
    partition: Arc<PartitionCells>,
    /// Of the instance that logs: its limit is there, where what was left out can be seen.
    cells: Arc<StageCells>,
    /// Lines left out that have been told of.
    told: AtomicU64,
}

impl LimitedLogger {
    /// Hands what the limit of `cells` allows to `inner`; `partition` is where the stage runs.
    pub fn new(inner: Arc<dyn Logger>, partition: Arc<PartitionCells>, cells: Arc<StageCells>) -> Self {
        Self { inner, partition, cells, told: AtomicU64::new(0) }
    }

    fn write(&self, message: &str, write: impl FnOnce(&str)) {
        let limit = &self.cells.log_limit;
        if !limit.allow(self.partition.now()) {
            return;
        }
        let left_out = limit.left_out();
        let untold = left_out - self.told.swap(left_out, Ordering::Relaxed).min(left_out);
        if untold == 0 {
            write(message);
        } else {
            write(&format!("{message} ({untold} lines before this one were left out)"));
        }
    }
}

impl Logger for LimitedLogger {
    fn log(&self, level: LogLevel, message: &str) {
        self.write(message, |message| self.inner.log(level, message));
    }

    fn log_fields(&self, level: LogLevel, message: &str, fields: &Attributes) {
        self.write(message, |message| self.inner.log_fields(level, message, fields));
    }

    fn log_error(&self, message: &str, error: &dyn Error) {
        self.write(message, |message| self.inner.log_error(message, error));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::{MemoryLogger, Pulse};

    #[test]
    fn so_many_lines_a_second_pass_and_the_rest_is_counted() {
        let limit = LogLimit::default();
        let allowed = |now: i64, lines: u32| (0..lines).filter(|_| limit.allow(now)).count() as u32;
        assert_eq!(allowed(0, 100), LogLimit::LINES);
        assert_eq!(allowed(LogLimit::SECOND - 1, 5), 0);
        assert_eq!(limit.left_out(), u64::from(100 - LogLimit::LINES) + 5);
        assert_eq!(allowed(LogLimit::SECOND, 3), 3);
        assert_eq!(allowed(LogLimit::SECOND * 9, 100), LogLimit::LINES, "unused lines do not add up");
    }

    #[test]
    fn a_flood_is_cut_and_the_next_line_says_by_how_much() {
        let (memory, partition) = (Arc::new(MemoryLogger::default()), Arc::new(PartitionCells::default()));
        let cells = Arc::new(StageCells::default());
        let logger = LimitedLogger::new(memory.clone(), Arc::clone(&partition), Arc::clone(&cells));
        (0..1_000).for_each(|_| logger.log(LogLevel::Warn, "no"));
        assert_eq!(memory.lines().len() as u32, LogLimit::LINES);
        partition.publish(1, Pulse::Working, 5_000_000_000);
        logger.log_fields(LogLevel::Warn, "no", &Attributes::new().with("stage", "s"));
        logger.log(LogLevel::Info, "yes");
        let lines = memory.lines();
        let last: Vec<_> = lines[LogLimit::LINES as usize..].iter().map(|(_, line)| line.as_str()).collect();
        assert_eq!(last, ["no (980 lines before this one were left out) stage=s", "yes"]);
        assert_eq!(cells.log_limit.left_out(), 980);
    }
}
