//! How the command ends: one exit code for each kind of cause, so that a script can tell them apart.

use std::process::ExitCode;

use corelane::driver::LaunchError;
use corelane::engine::StartError;
use corelane::plan::PlanError;

use crate::config::ConfigError;
use crate::otlp::{InputError, RepeatError};
use crate::output::OutputError;

/// The exit codes of `corelane`. The numbers are part of the interface and stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Exit {
    /// 0: done, all of it.
    Ok = 0,
    /// 1: a fault of the program itself (a panic ends with 101 instead, Rust's own code).
    Internal = 1,
    /// 2: the command line is not understood, or its options contradict each other.
    Usage = 2,
    /// 3: an input is missing, unreadable, damaged, cut off or of unknown format.
    Input = 3,
    /// 4: the output cannot be opened or written (no permission, no space, a directory).
    Output = 4,
    /// 5: a configuration file or the pipeline graph is not valid.
    Config = 5,
    /// 6: the core map is not valid, or names cores this process may not use.
    Placement = 6,
    /// 7: the pipeline started and failed (a stage's error or panic, or an account that does not close).
    Pipeline = 7,
    /// 8: the machine, or what the run may take of it, lacks what was asked for (io_uring with `--driver glommio`, locked memory,
    /// threads, memory for a request).
    Environment = 8,
    /// 9: a signal or deadline ended the run before all input was processed.
    Stopped = 9,
    /// 10: the reader of the output went away (`corelane ... | head`); nothing is printed.
    OutputClosed = 10,
}

/// How an error ends the command: its exit code, and what to say.
pub fn told<E: ToString>(error: E) -> (Exit, String)
where
    for<'a> Exit: From<&'a E>,
{
    (Exit::from(&error), error.to_string())
}

impl Exit {
    /// All codes with their meaning, for `--help` and the documentation.
    pub const ALL: [(Exit, &'static str); 11] = [
        (Exit::Ok, "done"),
        (Exit::Internal, "internal error"),
        (Exit::Usage, "command line not understood"),
        (Exit::Input, "input missing, unreadable, damaged or of unknown format"),
        (Exit::Output, "output cannot be opened or written"),
        (Exit::Config, "configuration or pipeline graph not valid"),
        (Exit::Placement, "core map not valid, or cores not available"),
        (Exit::Pipeline, "pipeline failed while running"),
        (Exit::Environment, "the machine lacks what was asked for"),
        (Exit::Stopped, "stopped by a signal before the end of the input"),
        (Exit::OutputClosed, "the reader of the output went away (silent)"),
    ];

    /// All codes in one line, for `--help`.
    pub fn help() -> String {
        let codes: Vec<String> =
            Exit::ALL.iter().map(|(exit, meaning)| format!("{} {meaning}", exit.code())).collect();
        format!("Exit codes: {}", codes.join("; "))
    }

    /// The number the process ends with.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// Whether the cause is worth a message. A closed pipe is not: the reader has what it wanted.
    pub fn is_quiet(self) -> bool {
        matches!(self, Exit::Ok | Exit::OutputClosed)
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit.code())
    }
}

impl From<&InputError> for Exit {
    fn from(error: &InputError) -> Self {
        // Nothing is wrong with an input for which there is no memory.
        if matches!(error, InputError::NoBuffer { .. }) { Exit::Environment } else { Exit::Input }
    }
}

impl From<&RepeatError> for Exit {
    fn from(_: &RepeatError) -> Self {
        Exit::Input
    }
}

impl From<&OutputError> for Exit {
    fn from(error: &OutputError) -> Self {
        if matches!(error, OutputError::Closed { .. }) { Exit::OutputClosed } else { Exit::Output }
    }
}

impl From<&ConfigError> for Exit {
    fn from(_: &ConfigError) -> Self {
        Exit::Config
    }
}

impl From<&StartError> for Exit {
    fn from(error: &StartError) -> Self {
        match error {
            StartError::CoreMap(_) => Exit::Placement,
            StartError::Launch(LaunchError::Plan(errors)) if errors.iter().all(PlanError::is_core_map) => {
                Exit::Placement
            }
            StartError::Launch(_) => Exit::Config,
            StartError::Machine(_)
            | StartError::Affinity(_)
            | StartError::Driver(_)
            | StartError::Memory(_)
            | StartError::Spill(_)
            | StartError::Thread(_) => Exit::Environment,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_exit_code_has_its_own_number_and_they_run_from_zero() {
        let codes: Vec<u8> = Exit::ALL.iter().map(|(exit, _)| exit.code()).collect();
        assert_eq!(codes, (0..=10).collect::<Vec<u8>>());
    }

    #[test]
    fn only_success_and_a_closed_pipe_are_quiet() {
        let quiet: Vec<u8> =
            Exit::ALL.iter().filter(|(exit, _)| exit.is_quiet()).map(|(exit, _)| exit.code()).collect();
        assert_eq!(quiet, [0, 10]);
    }
}
