//! The `corelane` command: parses the command line, runs the job, turns the outcome into an exit code.
#![forbid(unsafe_code)]

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use corelane_tools::args::{Cli, Command, Job};
use corelane_tools::exit::{Exit, told};
use corelane_tools::{check, dead_letters, machine, run, tune};

/// Decoding allocates a message tree per request, on one core, and frees it on another: mimalloc is made for that.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(message) => return print_usage(&message).into(),
    };
    let done = match &cli.command {
        Command::Run(Job::TraceAssembly(job)) => run::trace_assembly(job).map_err(told),
        Command::Run(Job::NexmarkQ5(job)) => run::nexmark_q5(job).map_err(told),
        Command::Check(options) => check::check(options).map_err(told),
        Command::Tune(options) => tune::tune(options).map_err(told),
        Command::Machine(command) => machine::run(command),
        Command::DeadLetters(command) => dead_letters::dead_letters(command).map_err(told),
    };
    let Err((exit, message)) = done else { return Exit::Ok.into() };
    if !exit.is_quiet() {
        // Nothing is left to tell when standard error is gone too.
        let _ = writeln!(io::stderr(), "corelane: {message}");
    }
    exit.into()
}

/// Help and version go to standard output, everything else is a usage error on standard error.
fn print_usage(message: &clap::Error) -> Exit {
    match message.print().and_then(|()| io::stdout().flush()) {
        _ if message.use_stderr() => Exit::Usage,
        Ok(()) => Exit::Ok,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Exit::OutputClosed,
        Err(_) => Exit::Output,
    }
}
