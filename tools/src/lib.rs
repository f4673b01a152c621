//! Everything behind the `corelane` command, as a library so that tests reach it without starting a process.
//!
//! * [`run`]: `corelane run`, from parsed options to written output. [`check`]: `corelane check`.
//! * [`dead_letters`]: `corelane dead-letters`, what a run gave up.
//! * [`job`]: the trace-assembly pipeline, and the thread that reads for it. [`hottest`]: query 5 of NEXMark.
//! * [`delivery`]: the thread that writes for both.
//! * [`args`], [`exit`], [`config`], [`output`], [`measurements`], [`progress`], [`summary`], [`signals`]: the command line and what it
//!   prints.
//! * [`machine`], [`topology`], [`map`], [`doctor`], [`c2c`], [`idle`]: the commands that look at the machine and not at data.
//! * [`tune`]: `corelane tune`, which runs pipelines under load to find the best core map.
//! * [`otlp`]: OTLP files and streams as raw requests, and requests as spans.
//! * [`trace`]: spans as assembled traces, tail sampling, the NDJSON line, and a single-threaded reference run.
//!
//! Nothing but [`clock`] reads a clock, and only [`job`], [`delivery`], [`c2c`] and [`idle`] start threads.
#![forbid(unsafe_code)]

pub mod args;
pub mod c2c;
pub mod check;
pub mod clock;
pub mod config;
pub mod dead_letters;
pub mod delivery;
pub mod doctor;
mod drawing;
pub mod exit;
pub mod hottest;
pub mod idle;
pub mod job;
pub mod machine;
pub mod map;
pub mod measurements;
pub mod otlp;
pub mod output;
pub mod progress;
mod report;
pub mod run;
pub mod signals;
pub mod summary;
mod table;
pub mod topology;
pub mod trace;
pub mod tune;
