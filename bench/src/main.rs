//! `corelane-bench`: runs a workload's systems in turn and prints how they compare.
#![forbid(unsafe_code)]

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::builder::PossibleValuesParser;
use clap::{Parser, Subcommand};
use corelane_bench::case::{Driver, Metric, Setup};
use corelane_bench::environment::Environment;
use corelane_bench::harness::Rounds;
use corelane_bench::knee::{Search, SearchError};
use corelane_bench::nexmark::published::{self, Comparison};
use corelane_bench::workload::Workload;
use corelane_bench::workload::nexmark::Choice;
use corelane_bench::{growth, harness, memory, nexmark, pin, report, workload};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A result was wrong, or a system did not run.
const FAILED: u8 = 1;
/// The choice of cores is not possible. (2 is a wrong command line, by clap.)
const BAD_CORES: u8 = 3;
/// A workload for two cores cannot be judged on one.
const TOO_FEW_CORES: u8 = 4;
/// The output could not be written.
const NO_OUTPUT: u8 = 5;

/// Measures corelane beside hand-written programs, in one run, in turn.
///
/// Exit codes: 0 all results right; 1 a result was wrong or a system did not run; 2 wrong command line; 3 impossible
/// choice of cores; 4 too few cores to judge a two-core workload; 5 output not writable.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// What to run.
    #[arg(required = true)]
    workload: Option<Workload>,
    #[command(flatten)]
    how: How,
    /// Only this variant, such as k1000.
    #[arg(long)]
    variant: Option<String>,
    /// Also writes everything measured as JSON, plots as SVG, and a page with all of it, into this directory.
    #[arg(long)]
    out: Option<PathBuf>,
    /// nexmark: these queries, such as q1,q5. Those that have a hand-written program if not given.
    #[arg(long, value_delimiter = ',', value_parser = PossibleValuesParser::new(nexmark::QUERIES))]
    queries: Vec<String>,
    /// nexmark: how many events. 10 million if not given, 1 million where they take much memory; with --quick a tenth.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    events: Option<u64>,
}

/// How to run, whatever is run.
#[derive(Debug, clap::Args)]
struct How {
    /// Print lines of JSON on standard output, and the table on standard error.
    #[arg(long)]
    json: bool,
    /// The driver of corelane's systems.
    #[arg(long, value_enum, default_value = "auto")]
    driver: Driver,
    /// A tenth of the work and three repetitions: a first look, not a result.
    #[arg(long)]
    quick: bool,
    /// Cores by their number within the allowed set, such as 0,1 or 0-1. All allowed ones if not given.
    #[arg(long)]
    cores: Option<String>,
    /// Repetitions of each system that must be comparable, however long that takes. If not given: 7, 10 where tails are compared, 3 with --quick and
    /// in searches; after three minutes of one case 3, after nine minutes any.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    repetitions: Option<u32>,
}

impl How {
    fn repetitions(&self, unless_quick: usize) -> usize {
        let asked = self.repetitions.map(|repetitions| repetitions as usize);
        asked.unwrap_or(if self.quick { 3 } else { unless_quick })
    }

    /// What was asked for counts, however long it takes; what was not is left after a while.
    fn rounds(&self, unless_quick: usize) -> Rounds {
        let rounds = if self.repetitions.is_some() { Rounds::exactly } else { Rounds::about };
        rounds(self.repetitions(unless_quick))
    }

    /// Where people read: standard output, unless programs read that.
    fn table(&self) -> Box<dyn Write> {
        if self.json { Box::new(io::stderr()) } else { Box::new(io::stdout()) }
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Finds the highest rate at which a percentile of latency stays under a target: an open loop, as in the workload `latency`.
    Knee {
        #[command(flatten)]
        how: How,
        /// What the percentile must stay under.
        #[arg(long, default_value = "1ms", value_parser = humantime::parse_duration)]
        target: Duration,
        /// The percentile: p50, p90, p99, p999 or p9999.
        #[arg(long, default_value = "p9999", value_parser = percentile)]
        percentile: Metric,
        /// The lowest rate to try, in items a second.
        #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
        from: u64,
        /// The highest rate to try.
        #[arg(long, default_value_t = 20_000_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
        to: u64,
        /// The systems, as in the workload `latency`.
        #[arg(long, value_delimiter = ',', default_value = "hand,corelane")]
        systems: Vec<String>,
    },
    /// Tables of what an item costs with more items, more shards, and more stages.
    Growth {
        #[command(flatten)]
        how: How,
    },
    /// Runs NEXMark queries over events that others published, and compares the rows with those that they expect.
    ///
    /// Reads the files of RisingWave's end-to-end tests (`e2e_test`), anywhere below a directory.
    NexmarkCheck {
        /// Where the files are.
        #[arg(long)]
        dir: PathBuf,
    },
}

/// Why the run ended early: what to say, and the exit code.
struct Stop(u8, String);

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self(NO_OUTPUT, format!("cannot write the results: {error}"))
    }
}

fn main() -> ExitCode {
    // A panicking thread would leave its peer spinning for good.
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        print(panic);
        std::process::exit(i32::from(FAILED));
    }));
    let arguments = Arguments::parse();
    let done = match (&arguments.command, arguments.workload) {
        (Some(Command::NexmarkCheck { dir }), _) => check(dir),
        (Some(Command::Knee { how, target, percentile, from, to, systems }), _) => {
            let search = Search {
                percentile: *percentile,
                target: *target,
                rates: (*from, *to),
                duration: Duration::from_millis(if how.quick { 100 } else { 1_000 }),
                rounds: how.rounds(3),
                systems: systems.clone(),
            };
            knee(how, &search)
        }
        (Some(Command::Growth { how }), _) => grow(how),
        (None, Some(workload)) => run(&arguments, workload),
        (None, None) => Ok(()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Stop(code, message)) => {
            // Standard error may be closed too: the exit code still tells.
            let _ = writeln!(io::stderr(), "corelane-bench: {message}");
            ExitCode::from(code)
        }
    }
}

/// Compares every query that has published rows.
fn check(dir: &Path) -> Result<(), Stop> {
    let mut out = io::stdout();
    let mut differ = Vec::new();
    for instances in [1, 2, 8] {
        let all = published::compare(dir, instances).map_err(|error| Stop(FAILED, error.to_string()))?;
        for comparison in all {
            let Comparison { query, same, only_here, only_there } = &comparison;
            writeln!(out, "{query} on {instances}: {same} rows as published")?;
            only_here.iter().try_for_each(|row| writeln!(out, "  only here: {row}"))?;
            only_there.iter().try_for_each(|row| writeln!(out, "  only there: {row}"))?;
            if !comparison.agrees() && !differ.contains(query) {
                differ.push(*query);
            }
        }
    }
    if differ.is_empty() {
        Ok(())
    } else {
        Err(Stop(FAILED, format!("not as published: {}", differ.join(", "))))
    }
}

fn percentile(name: &str) -> Result<Metric, String> {
    let percentiles = workload::latency::PERCENTILES;
    let found = percentiles.iter().find(|metric| metric.name() == format!("ns_{name}"));
    found.copied().ok_or_else(|| "this is none of p50, p90, p99, p999 and p9999".to_owned())
}

/// The cores that are meant, tried.
fn cores(how: &How, allowed: &[pin::CoreId]) -> Result<Vec<pin::CoreId>, Stop> {
    let bad_cores = |error: pin::PinError| Stop(BAD_CORES, error.to_string());
    let cores = match &how.cores {
        Some(list) => pin::select(list, allowed).map_err(bad_cores)?,
        None => allowed.to_vec(),
    };
    pin::trial(&cores).map_err(bad_cores)?;
    if cores.is_empty() {
        return Err(Stop(BAD_CORES, "the system does not say which cores may be used".to_owned()));
    }
    Ok(cores)
}

/// What every system is given, and the stamp on top of the table.
fn prepared(how: &How, nexmark: Choice) -> Result<(Setup, Environment), Stop> {
    let allowed = pin::allowed();
    let cores = cores(how, &allowed)?;
    let setup = Setup { cores, driver: how.driver, quick: how.quick, nexmark };
    let environment = Environment::detect(&allowed, &setup.cores, setup.driver.into());
    Ok((setup, environment))
}

fn knee(how: &How, search: &Search) -> Result<(), Stop> {
    let (setup, environment) = prepared(how, Choice::default())?;
    if setup.cores.len() < 2 {
        return Err(Stop(
            TOO_FEW_CORES,
            "a knee cannot be looked for with one core: two are needed".to_owned(),
        ));
    }
    let mut table = how.table();
    writeln!(table, "{environment}\n")?;
    let lines = search.run(&setup, &mut *table).map_err(|error| match error {
        SearchError::Write(error) => error.into(),
        SearchError::NoSuchSystem(_) => Stop(2, error.to_string()),
        SearchError::Bench(error) => Stop(FAILED, error.to_string()),
    })?;
    if how.json {
        lines.iter().try_for_each(|line| writeln!(io::stdout(), "{line}"))?;
    }
    Ok(())
}

fn grow(how: &How) -> Result<(), Stop> {
    let (setup, environment) = prepared(how, Choice::default())?;
    let mut table = how.table();
    writeln!(table, "{environment}")?;
    growth::run(&setup, how.repetitions(3), |growth| {
        let json = if how.json {
            serde_json::to_string(growth).map_err(|error| error.to_string())?
        } else {
            String::new()
        };
        let written = write!(table, "\n{}", growth.table());
        let written = written.and_then(|()| if how.json { writeln!(io::stdout(), "{json}") } else { Ok(()) });
        written.map_err(|error| error.to_string())
    })
    .map_err(|why| Stop(FAILED, why))
}

fn run(arguments: &Arguments, workload: Workload) -> Result<(), Stop> {
    if let Err(error) = memory::kept() {
        // The page faults below each table tell what comes of it.
        writeln!(io::stderr(), "corelane-bench: the allocator gives memory back while it runs: {error}")?;
    }
    let nexmark = Choice { queries: arguments.queries.clone(), events: arguments.events };
    let (setup, environment) = prepared(&arguments.how, nexmark)?;
    let cores = setup.cores.len();
    let refusal = (cores < workload.cores()).then(|| {
        let which =
            if workload == Workload::All { "ring, keyed, latency, pool and spill" } else { "this workload" };
        format!("with one core {which} cannot be judged: two cores are needed")
    });
    let runnable = if refusal.is_some() && workload == Workload::All { Workload::Chain } else { workload };
    if runnable.cores() <= cores {
        compare(arguments, runnable, &setup, &environment)?;
    }
    refusal.map_or(Ok(()), |message| Err(Stop(TOO_FEW_CORES, message)))
}

fn compare(
    arguments: &Arguments,
    workload: Workload,
    setup: &Setup,
    environment: &Environment,
) -> Result<(), Stop> {
    let mut table = arguments.how.table();
    writeln!(table, "{environment}")?;
    let mut cases = workload.cases(setup);
    if let Some(variant) = &arguments.variant {
        cases.retain(|case| case.variant == variant);
        if cases.is_empty() {
            return Err(Stop(2, format!("there is no variant `{variant}`")));
        }
    }
    let mut all = Vec::new();
    for case in cases {
        let results = harness::run(&case, setup, arguments.how.rounds(case.repetitions));
        let results = results.map_err(|error| Stop(FAILED, error.to_string()))?;
        write!(table, "\n{}", report::table(&results))?;
        if arguments.how.json {
            let lines = report::json(&results).map_err(io::Error::from)?;
            io::stdout().write_all(lines.as_bytes())?;
        }
        all.push(results);
        // After each case: what ends the run later must not take with it what has been measured.
        if let Some(dir) = &arguments.out {
            report::page::write(dir, environment, &std::env::args().collect::<Vec<_>>(), &all)?;
        }
    }
    Ok(())
}
