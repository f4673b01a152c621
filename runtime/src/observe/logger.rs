//! Where log lines go.

use std::error::Error;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::model::Attributes;

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

    /// A line with values by name. By default they are put behind the message, as `name=value`.
    fn log_fields(&self, level: LogLevel, message: &str, fields: &Attributes) {
        self.log(level, &format!("{message}{}", Fields(fields)));
    }

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

    /// As one field called `fields`: names must be known to `tracing` when it is compiled.
    fn log_fields(&self, level: LogLevel, message: &str, fields: &Attributes) {
        let fields = Fields(fields);
        match level {
            LogLevel::Trace => tracing::trace!(target: "corelane", %fields, "{message}"),
            LogLevel::Debug => tracing::debug!(target: "corelane", %fields, "{message}"),
            LogLevel::Info => tracing::info!(target: "corelane", %fields, "{message}"),
            LogLevel::Warn => tracing::warn!(target: "corelane", %fields, "{message}"),
            LogLevel::Error => tracing::error!(target: "corelane", %fields, "{message}"),
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

/// Values by name, a space before each.
struct Fields<'a>(&'a Attributes);

impl fmt::Display for Fields<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(name, value)| write!(f, " {name}={value}"))
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tracing::field::{Field, Visit};
    use tracing::span;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot read")]
    struct Outer(#[source] std::num::ParseIntError);

    fn error() -> Outer {
        Outer("x".parse::<i32>().unwrap_err())
    }

    const CAUSES: &str = "cannot read: invalid digit found in string";

    /// A `tracing` subscriber that writes down level, target and fields of every event.
    #[derive(Clone, Default)]
    struct Listener(Arc<Mutex<Vec<String>>>);

    struct Written(String);

    impl Visit for Written {
        fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
            self.0 += &format!(" {field}={value:?}");
        }
    }

    impl tracing::Subscriber for Listener {
        fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
            true
        }
        fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
            span::Id::from_u64(1)
        }
        fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
        fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
        fn event(&self, event: &tracing::Event<'_>) {
            let mut fields = Written(format!("{} {}", event.metadata().level(), event.metadata().target()));
            event.record(&mut fields);
            self.0.lock().unwrap().push(fields.0);
        }
        fn enter(&self, _: &span::Id) {}
        fn exit(&self, _: &span::Id) {}
    }

    #[test]
    fn the_default_logger_hands_every_level_to_tracing() {
        use LogLevel as L;
        let listener = Listener::default();
        tracing::subscriber::with_default(listener.clone(), || {
            for level in [L::Trace, L::Debug, L::Info, L::Warn, L::Error] {
                TracingLogger.log(level, "a {line}");
            }
            TracingLogger.log_error("bad", &error());
            TracingLogger.log_fields(L::Warn, "late", &Attributes::new().with("by", 3).with("at", "s"));
        });
        let mut expected: Vec<_> = ["TRACE", "DEBUG", "INFO", "WARN", "ERROR"]
            .map(|l| format!("{l} corelane message=a {{line}}"))
            .into();
        expected.push(format!("ERROR corelane message=bad error={CAUSES}"));
        expected.push("WARN corelane message=late fields= at=s by=3".to_owned());
        assert_eq!(*listener.0.lock().unwrap(), expected);
    }

    #[test]
    fn the_memory_logger_keeps_lines_in_order_and_errors_with_their_causes() {
        let logger = MemoryLogger::default();
        let seam: &dyn Logger = &logger;
        seam.log(LogLevel::Info, "started");
        seam.log_error("stage failed", &error());
        seam.log_fields(LogLevel::Debug, "done", &Attributes::new().with("items", 3));
        let expected = [
            (LogLevel::Info, "started".to_owned()),
            (LogLevel::Error, format!("stage failed: {CAUSES}")),
            (LogLevel::Debug, "done items=3".to_owned()),
        ];
        assert_eq!(logger.lines(), expected);
        assert!(
            logger.contains(LogLevel::Error, "cannot read") && !logger.contains(LogLevel::Info, "failed")
        );
    }

    #[test]
    fn levels_are_ordered_by_weight_and_written_as_they_display() {
        assert!(LogLevel::Trace < LogLevel::Debug && LogLevel::Warn < LogLevel::Error);
        assert_eq!(serde_json::to_string(&LogLevel::Warn).unwrap(), format!("\"{}\"", LogLevel::Warn));
    }
}
