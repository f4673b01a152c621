//! The progress line on standard error.

use std::io::Write;
use std::time::Duration;

use crate::otlp::InputProgress;

/// The shortest time between two updates.
const UPDATE_INTERVAL: Duration = Duration::from_millis(100);

/// One line, rewritten in place; errors of the terminal are ignored, progress is not worth a failure.
#[derive(Debug)]
pub struct ProgressLine<W: Write> {
    terminal: Option<W>,
    input: InputProgress,
    next_update: Duration,
    shown: bool,
}

impl<W: Write> ProgressLine<W> {
    /// A line on `terminal`, or nothing for `None`.
    pub fn new(terminal: Option<W>, input: InputProgress) -> Self {
        ProgressLine { terminal, input, next_update: UPDATE_INTERVAL, shown: false }
    }

    /// Rewrites the line if the last time was long enough ago. `elapsed` is the time since the start. Costs a
    /// comparison otherwise.
    pub fn update(&mut self, elapsed: Duration, spans: u64, traces: u64) {
        if elapsed < self.next_update {
            return;
        }
        self.next_update = elapsed + UPDATE_INTERVAL;
        let Some(terminal) = &mut self.terminal else { return };
        let read = self.input.bytes_read();
        let share = match self.input.total_bytes() {
            Some(total) if total > 0 => format!("{:3}%", read.min(total) * 100 / total),
            _ => format!("{} MiB", read >> 20),
        };
        let rate = spans as f64 / elapsed.as_secs_f64();
        let line = format!("\r{share}  {spans} spans  {traces} traces  {rate:.0} spans/s\x1b[K");
        self.shown =
            terminal.write_all(line.as_bytes()).and_then(|()| terminal.flush()).is_ok() || self.shown;
    }

    /// Removes the line, until the next update.
    pub fn clear(&mut self) {
        if let Some(terminal) = self.terminal.as_mut().filter(|_| self.shown) {
            let _ = terminal.write_all(b"\r\x1b[K").and_then(|()| terminal.flush());
        }
        self.shown = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn updates_come_at_most_once_per_interval_and_leave_a_clean_line() {
        let mut screen = Vec::new();
        let mut line = ProgressLine::new(Some(&mut screen), InputProgress::default());
        (0..=1_000).for_each(|ms| line.update(Duration::from_millis(ms), ms * 10, ms));
        line.clear();
        drop(line);
        let screen = String::from_utf8(screen).unwrap();
        assert_eq!(screen.matches("spans/s").count(), 10);
        assert!(screen.contains("\r0 MiB  1000 spans  100 traces  10000 spans/s"), "{screen:?}");
        assert!(screen.ends_with("\r\x1b[K"));
    }

    #[test]
    fn nothing_is_written_when_it_is_not_shown() {
        let mut line = ProgressLine::<Vec<u8>>::new(None, InputProgress::default());
        line.update(Duration::from_secs(5), 1, 1);
        line.clear();
        assert!(!line.shown);
    }
}
