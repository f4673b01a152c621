//! The command line, as parsed.

use clap::CommandFactory;
use clap::error::ErrorKind;

use super::values::{parse_slow, parse_time};
use super::*;
use crate::otlp::InputPath;
use crate::output::OutputPath;
use crate::trace::SampleThreshold;

fn parse(options: &[&str]) -> Result<TraceAssembly, clap::Error> {
    let command = ["corelane", "run", "trace-assembly"];
    match Cli::try_parse_from(command.iter().chain(options))?.command {
        Command::Run(Job::TraceAssembly(job)) => Ok(*job),
        other => panic!("{other:?}"),
    }
}

fn refused(options: &[&str]) -> (ErrorKind, String) {
    let error = parse(options).unwrap_err();
    (error.kind(), error.to_string())
}

#[test]
fn the_command_definition_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn defaults_are_those_of_the_reference() {
    let job = parse(&["file"]).unwrap();
    let rules = job.rules().unwrap();
    assert_eq!(rules.sampling.slow_ns, 250_000_000);
    assert_eq!(Some(rules.sampling.sample), SampleThreshold::new(0.1));
    assert_eq!((rules.ttl_ns, rules.lag_ns), (30_000_000_000, 5_000_000_000));
    assert_eq!((job.output(), job.repeat), (OutputPath::Stdout, 1));
    assert_eq!(job.inputs().unwrap(), [InputPath::File("file".into())]);
}

#[test]
fn times_are_exact_to_the_nanosecond() {
    assert_eq!(parse_time("30s"), Ok(Nanos(30_000_000_000)));
    assert_eq!(parse_time("1.5ms"), Ok(Nanos(1_500_000)));
    assert_eq!(parse_time("2m"), Ok(Nanos(120_000_000_000)));
    assert_eq!(parse_time("0.1m"), Ok(Nanos(6_000_000_000)));
    assert_eq!(parse_time("0.000000001s"), Ok(Nanos(1)));
    assert_eq!(parse_slow("0.1"), Ok(Nanos(100_000)));
    assert_eq!(parse_slow("18446744073709.551615"), Ok(Nanos(u64::MAX)));
}

#[test]
fn malformed_times_are_refused_fault_42() {
    for text in
        ["", "30", "s", "-1s", "+1s", "1e9s", "nans", "infs", "1.s", ".5s", "1 s", "1h", "0.5ns", "٣s"]
    {
        assert!(parse_time(text).is_err(), "{text}");
    }
    assert_eq!(parse_time("18446744073710s"), Err("too large".to_owned()));
    assert_eq!(parse_slow("99999999999999999999"), Err("too large".to_owned()));
    assert_eq!(parse_slow("18446744073709.551616"), Err("too large".to_owned()));
}

#[test]
fn a_share_outside_0_to_1_is_refused_by_name_fault_42() {
    for text in ["1.1", "nan", "1e999", "inf", "half", ""] {
        let (kind, message) = refused(&["f", "--sample", text]);
        assert_eq!(kind, ErrorKind::ValueValidation, "{text}");
        assert!(message.contains("--sample") && message.contains("between 0 and 1"), "{message}");
    }
    assert!(parse(&["f", "--sample=-0.1"]).is_err());
    assert_eq!(parse(&["f", "--sample", "1"]).unwrap().sample, 1.0);
}

#[test]
fn unknown_repeated_and_valueless_options_are_refused_fault_44() {
    assert_eq!(refused(&["f", "--nope"]).0, ErrorKind::UnknownArgument);
    assert_eq!(refused(&["f", "--lag", "1s", "--lag", "2s"]).0, ErrorKind::ArgumentConflict);
    assert_eq!(refused(&["f", "--output"]).0, ErrorKind::InvalidValue);
    assert_eq!(refused(&["f", "--driver", "tokio"]).0, ErrorKind::InvalidValue);
    assert_eq!(refused(&[]).0, ErrorKind::MissingRequiredArgument);
    assert_eq!(refused(&["f", "--repeat", "0"]).0, ErrorKind::ValueValidation);
    assert_eq!(refused(&["f", "--repeat", "4294967297"]).0, ErrorKind::ValueValidation);
    assert_eq!(refused(&["f", "--cores", "a=0", "--core-map", "m"]).0, ErrorKind::ArgumentConflict);
    assert_eq!(refused(&["f", "-q", "--summary", "json"]).0, ErrorKind::ArgumentConflict);
}

#[test]
fn names_that_are_not_utf8_work_as_paths_and_are_refused_elsewhere_fault_44() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let name = OsStr::from_bytes(b"tr\xffces");
    let with = |last: &[&OsStr]| {
        let start = ["corelane", "run", "trace-assembly"].map(OsStr::new);
        Cli::try_parse_from(start.iter().chain(last))
    };
    assert!(with(&[name]).is_ok());
    assert_eq!(
        with(&[OsStr::new("f"), OsStr::new("--cores"), name]).unwrap_err().kind(),
        ErrorKind::InvalidUtf8
    );
}

#[test]
fn standard_input_is_read_only_once() {
    assert_eq!(parse(&["-", "a", "-"]).unwrap().inputs(), Err(UsageError::StdinTwice));
    assert_eq!(parse(&["-", "--repeat", "2"]).unwrap().inputs(), Err(UsageError::RepeatStdin));
    assert_eq!(parse(&["-", "./-"]).unwrap().inputs().unwrap().len(), 2);
}

#[test]
fn measurements_go_somewhere_else_than_lines() {
    let of = |options: &[&str]| {
        let job = parse(options).unwrap();
        job.run.metrics(Some(&job.output()))
    };
    assert_eq!(of(&["f"]), Ok(None));
    assert_eq!(of(&["f", "--metrics", "-"]), Err(UsageError::SameOutput));
    assert_eq!(of(&["f", "-o", "x", "--metrics", "x"]), Err(UsageError::SameOutput));
    assert_eq!(of(&["f", "-o", "x", "--metrics", "-"]), Ok(Some((OutputPath::Stdout, None))));
    let every = &["f", "-o", "x", "--metrics", "-", "--metrics-interval", "1s"];
    assert_eq!(of(every), Err(UsageError::IntervalStdout));
    assert_eq!(refused(&["f", "--metrics-interval", "1s"]).0, ErrorKind::MissingRequiredArgument);
}

#[test]
fn quiet_turns_summary_and_progress_off() {
    let job = parse(&["f", "--quiet"]).unwrap();
    assert_eq!((job.run.summary(), job.run.progress()), (SummaryArg::None, ProgressArg::Never));
}

#[test]
fn what_is_tuned_is_what_runs_without_options() {
    assert_eq!(parse(&["f"]).unwrap().rules(), Ok(crate::trace::AssemblyRules::default()));
}
