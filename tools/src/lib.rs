//! Everything behind the `corelane` command, as a library so that tests reach it without starting a process.
//!
//! * [`run`]: the jobs themselves.
//! * [`args`], [`exit`], [`config`], [`output`], [`progress`], [`summary`]: the command line and what it prints.
//! * [`otlp`]: OTLP files and streams as raw requests, and requests as spans.
//! * [`trace`]: spans as assembled traces, tail sampling, the NDJSON line, and a single-threaded reference run.
//!
//! Nothing but `run` reads a clock, and nothing starts threads: time is an argument, as in the runtime.
#![forbid(unsafe_code)]

pub mod args;
pub mod config;
pub mod exit;
pub mod otlp;
pub mod output;
pub mod progress;
pub mod run;
pub mod summary;
pub mod trace;
