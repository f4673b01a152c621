//! `corelane run`: the jobs, from parsed options to written output.

use std::io::{self, Write};
use std::time::Instant;

use crate::args::{SummaryArg, TraceAssembly, UsageError};
use crate::exit::Exit;
use crate::otlp::{InputError, Repeat, RepeatError, RequestReader};
use crate::output::{LineWriter, OutputError};
use crate::progress::ProgressLine;
use crate::summary::Summary;
use crate::trace::{RunError, run_reference};

/// Why a job ended early.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JobError {
    /// The options contradict each other.
    #[error(transparent)]
    Usage(#[from] UsageError),
    /// An input is not usable.
    #[error(transparent)]
    Input(#[from] InputError),
    /// The length of the recording could not be measured.
    #[error(transparent)]
    Repeat(#[from] RepeatError),
    /// The output is not usable.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// The run met an unusable input or output.
    #[error(transparent)]
    Run(#[from] RunError<OutputError>),
}

impl From<&JobError> for Exit {
    fn from(error: &JobError) -> Self {
        match error {
            JobError::Usage(_) => Exit::Usage,
            JobError::Input(error) => error.into(),
            JobError::Repeat(error) => error.into(),
            JobError::Output(error) => error.into(),
            JobError::Run(error) => error.into(),
        }
    }
}

/// Runs `corelane run trace-assembly` on the calling thread.
///
/// All inputs are checked before the output is touched.
///
/// # Errors
///
/// [`JobError`]; output written before stays.
pub fn trace_assembly(job: &TraceAssembly) -> Result<(), JobError> {
    let inputs = job.inputs()?;
    let rules = job.rules()?;
    let requests = RequestReader::open(inputs.clone(), job.repeat)?;
    let repeat = if job.repeat > 1 {
        Repeat::measure(RequestReader::open(inputs.clone(), 1)?)?
    } else {
        Repeat::default()
    };
    let mut output = LineWriter::open(&job.output(), &inputs)?;
    let input = requests.progress();
    let mut progress = ProgressLine::stderr(job.progress(), input.clone());
    let start = now();
    let result = run_reference(
        requests,
        rules,
        repeat,
        |line| output.write(line),
        |counts| progress.update(start.elapsed(), counts.spans, counts.traces),
    );
    progress.clear();
    // After a damaged request what was assembled before it is still delivered, and the damage still reported.
    let finished = output.finish();
    let counts = result?;
    let summary = Summary {
        driver: "the calling thread".to_owned(),
        elapsed_s: start.elapsed().as_secs_f64(),
        input_bytes: input.bytes_read(),
        output_bytes: finished?,
        counts,
        ..Summary::default()
    };
    print_summary(job.summary(), &summary);
    Ok(())
}

/// The run is done and its output written: a standard error that cannot be written does not change that.
fn print_summary(style: SummaryArg, summary: &Summary) {
    let _ = match style {
        SummaryArg::Text => write!(io::stderr(), "{summary}"),
        SummaryArg::Json => writeln!(io::stderr(), "{}", summary.to_json()),
        SummaryArg::None => Ok(()),
    };
}

/// The only clock of this crate, for the progress line and the summary; event time comes from the spans.
#[allow(clippy::disallowed_methods)]
fn now() -> Instant {
    Instant::now()
}
