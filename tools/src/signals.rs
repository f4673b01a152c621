//! Waiting for the end of a run while watching for SIGINT, SIGTERM and SIGQUIT.

use std::io::{self, Write};
use std::time::Duration;

use corelane::engine::Running;
use signal_hook::consts::{SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator::Signals;

/// The longest time until a signal is acted on, and between two looks at the progress.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Time that a core is given to end its step after a stop. A stage that hangs would keep the process for ever.
const STOP_GRACE: Duration = Duration::from_secs(2);

/// Catches SIGINT and SIGTERM: the first drains, the second stops. SIGQUIT prints what every stage is doing.
pub struct Interrupts {
    signals: Signals,
    drain_deadline: Duration,
    state: State,
}

/// How far it has come; the times are those at which the next comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Running,
    Draining { until: Duration },
    Stopping { until: Duration },
}

/// How waiting ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waited {
    /// The run has ended, by itself or because it was asked to.
    Ended,
    /// It was asked to stop and does not.
    Stuck,
}

/// Who watches a run that is waited for.
pub trait Watch {
    /// Called every now and then.
    fn look(&mut self, running: &Running);

    /// What a signal did.
    fn say(&mut self, text: &str);

    /// Called before something else is written to standard error.
    fn make_way(&mut self);
}

impl Interrupts {
    /// Starts catching. After the first signal a run has `drain_deadline` for what is inside to flow out.
    ///
    /// # Errors
    ///
    /// The operating system's, when it refuses the handlers.
    pub fn catch(drain_deadline: Duration) -> io::Result<Self> {
        Ok(Interrupts {
            signals: Signals::new([SIGINT, SIGTERM, SIGQUIT])?,
            drain_deadline,
            state: State::Running,
        })
    }

    /// Whether a signal came.
    pub fn came(&self) -> bool {
        self.state != State::Running
    }

    /// Waits for the end of `running`.
    pub fn wait(&mut self, running: &mut Running, watch: &mut impl Watch) -> Waited {
        while !running.wait_timeout(LOOK_EVERY) {
            let now = running.elapsed();
            let pending: Vec<i32> = self.signals.pending().collect();
            for signal in pending {
                match signal {
                    // It was asked for: also with --quiet.
                    SIGQUIT => {
                        watch.make_way();
                        _ = write!(io::stderr(), "{}", running.inspect_all());
                    }
                    _ => self.interrupt(running, now, watch),
                }
            }
            match self.state {
                State::Draining { until } if now >= until => {
                    watch.say("the drain deadline has passed: stopping");
                    running.drain(Duration::ZERO); // also notes in the result what was left
                    self.state = State::Stopping { until: now + STOP_GRACE };
                }
                State::Stopping { until } if now >= until => return Waited::Stuck,
                _ => {}
            }
            watch.look(running);
        }
        Waited::Ended
    }

    fn interrupt(&mut self, running: &Running, now: Duration, watch: &mut impl Watch) {
        self.state = match self.state {
            State::Running => {
                watch.say("no more is read, what is inside flows out; interrupt again to stop at once");
                running.begin_drain();
                State::Draining { until: now.saturating_add(self.drain_deadline) }
            }
            State::Draining { .. } => {
                running.stop();
                State::Stopping { until: now + STOP_GRACE }
            }
            State::Stopping { .. } => State::Stopping { until: now },
        };
    }
}
