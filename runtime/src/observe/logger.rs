//! Where log lines go.

use std::error::Error;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

/// How much a log line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogLevel {
    /// Every step.
    Trace,
    /// For whoever looks for a fault.
    Debug,
    /// Worth knowing.
    Info,
    /// Something is not as it should be, and goes on.
    Warn,
    /// Something failed.
    Error,
}

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        })
    }
}

/// Takes log lines. Called from the cores that run the pipeline: it must not block.
pub trait Logger: Send + Sync {
    /// A line.
    fn log(&self, level: LogLevel, message: &str);

    /// A line about an error, at [`LogLevel::Error`].
    fn log_error(&self, message: &str, error: &dyn Error);
}

/// Hands every line to the `tracing` crate, with the target `corelane`. The default.
#[derive(Clone, Copy, Debug, Default)]
pub struct TracingLogger;

impl Logger for TracingLogger {
    fn log(&self, level: LogLevel, message: &str) {
        match level {
            LogLevel::Trace => tracing::trace!(target: "corelane", "{message}"),
            LogLevel::Debug => tracing::debug!(target: "corelane", "{message}"),
            LogLevel::Info => tracing::info!(target: "corelane", "{message}"),
            LogLevel::Warn => tracing::warn!(target: "corelane", "{message}"),
            LogLevel::Error => tracing::error!(target: "corelane", "{message}"),
        }
    }

    fn log_error(&self, message: &str, error: &dyn Error) {
        tracing::error!(target: "corelane", error = %Chain(error), "{message}");
    }
}

/// Keeps every line, without bound. For tests.
#[derive(Debug, Default)]
pub struct MemoryLogger {
    lines: Mutex<Vec<(LogLevel, String)>>,
}

impl MemoryLogger {
    /// All lines so far; an error's causes follow its message, separated by colons.
    pub fn lines(&self) -> Vec<(LogLevel, String)> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether some line at `level` contains `text`.
    pub fn contains(&self, level: LogLevel, text: &str) -> bool {
        self.lines().iter().any(|(l, line)| *l == level && line.contains(text))
    }
}

impl Logger for MemoryLogger {
    fn log(&self, level: LogLevel, message: &str) {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).push((level, message.to_owned()));
    }

    fn log_error(&self, message: &str, error: &dyn Error) {
        self.log(LogLevel::Error, &format!("{message}: {}", Chain(error)));
    }
}

/// An error with all its causes on one line.
struct Chain<'a>(&'a dyn Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}
