//! `corelane dead-letters`: what a run gave up, listed, shown, and run again.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use corelane_stages::dead_letters::{Letter, LetterError, Payload, Record, read};

use crate::args::{DeadLetters, LettersFile, Replay, ShowLetter};
use crate::exit::Exit;
use crate::job::frame_of;
use crate::otlp::RequestReader;
use crate::output::{LineWriter, OutputError, OutputPath};
use crate::run::{JobError, replay_requests};

/// Why the dead letters could not be listed, shown or run again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeadLettersError {
    /// The file cannot be opened.
    #[error("{}: cannot read: {source}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// Lines of the file are no dead letters.
    #[error("{}: {first}{}", path.display(), more(*.lines))]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The first that was found.
        first: LetterError,
        /// How many there are.
        lines: usize,
    },
    /// There is no letter of that number.
    #[error(
        "{}: there is no dead letter number {wanted}, the file has {there}{}",
        path.display(),
        damaged.as_ref().map(|first| format!("; {first}")).unwrap_or_default()
    )]
    NoSuchLetter {
        /// The file.
        path: PathBuf,
        /// The number asked for.
        wanted: u64,
        /// How many there are.
        there: u64,
        /// The first line that is none.
        damaged: Option<LetterError>,
    },
    /// None of the letters can be run again.
    #[error("{}: no dead letter of {} can be run again", path.display(), stage.as_deref().unwrap_or("any stage"))]
    NothingToReplay {
        /// The file.
        path: PathBuf,
        /// The stage asked for.
        stage: Option<String>,
    },
    /// The output cannot be written.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// The job that runs them again.
    #[error(transparent)]
    Job(#[from] Box<JobError>),
}

fn more(lines: usize) -> String {
    if lines > 1 { format!("; and {} lines more", lines - 1) } else { String::new() }
}

impl From<&DeadLettersError> for Exit {
    fn from(error: &DeadLettersError) -> Self {
        match error {
            DeadLettersError::Open { .. }
            | DeadLettersError::Damaged { .. }
            | DeadLettersError::NoSuchLetter { .. }
            | DeadLettersError::NothingToReplay { .. } => Exit::Input,
            DeadLettersError::Output(error) => error.into(),
            DeadLettersError::Job(error) => Exit::from(&**error),
        }
    }
}

/// Runs `corelane dead-letters`.
///
/// # Errors
///
/// [`DeadLettersError`]. Damaged lines are reported after everything else has been done.
pub fn dead_letters(command: &DeadLetters) -> Result<(), DeadLettersError> {
    match command {
        DeadLetters::List(options) => list(options),
        DeadLetters::Show(options) => show(options),
        DeadLetters::Replay(options) => replay(options),
    }
}

/// The letters of a file, and what was wrong with other lines of it.
struct Opened {
    letters: Vec<Letter>,
    damaged: Vec<LetterError>,
}

impl Opened {
    fn of(path: &Path) -> Result<Self, DeadLettersError> {
        let open = |source| DeadLettersError::Open { path: path.to_path_buf(), source };
        let mut opened = Self { letters: Vec::new(), damaged: Vec::new() };
        for letter in read(path).map_err(open)? {
            match letter {
                Ok(letter) => opened.letters.push(letter),
                Err(error) => opened.damaged.push(error),
            }
        }
        Ok(opened)
    }

    fn end(self, path: &Path) -> Result<(), DeadLettersError> {
        let (path, lines) = (path.to_path_buf(), self.damaged.len());
        match self.damaged.into_iter().next() {
            Some(first) => Err(DeadLettersError::Damaged { path, first, lines }),
            None => Ok(()),
        }
    }
}

fn list(options: &LettersFile) -> Result<(), DeadLettersError> {
    let opened = Opened::of(&options.file)?;
    let mut output = LineWriter::open(&OutputPath::Stdout, &[])?;
    output.write(b"number\ttime\tstage\tkind\tattempts\tbytes\terror\n")?;
    for (number, letter) in (1..).zip(&opened.letters) {
        output.write(line(number, &letter.record).as_bytes())?;
    }
    output.finish()?;
    opened.end(&options.file)
}

/// One line for people and for `cut`: fields are separated by tabs, and no field holds one or ends the line.
fn line(number: u64, record: &Record) -> String {
    let Record { stage, kind, attempts, time, error, content, .. } = record;
    let kind = serde_json::to_value(kind).unwrap_or_default();
    let kind = kind.as_str().unwrap_or_default();
    let bytes = match &content.payload {
        None => "-".to_owned(),
        Some(Payload::Base64(bytes)) => bytes.len().to_string(),
        Some(Payload::Json(value)) => value.to_string().len().to_string(),
    };
    let error = error.replace(|c: char| c.is_control(), " ");
    format!("{number}\t{}\t{stage}\t{kind}\t{attempts}\t{bytes}\t{error}\n", time.as_nanos())
}

fn show(options: &ShowLetter) -> Result<(), DeadLettersError> {
    let opened = Opened::of(&options.file)?;
    let there = opened.letters.len() as u64;
    let found = options.number.checked_sub(1).and_then(|at| opened.letters.get(usize::try_from(at).ok()?));
    let Some(letter) = found else {
        let (path, wanted) = (options.file.clone(), options.number);
        let damaged = opened.damaged.into_iter().next();
        return Err(DeadLettersError::NoSuchLetter { path, wanted, there, damaged });
    };
    let mut output = LineWriter::open(&OutputPath::Stdout, &[])?;
    if options.payload {
        match &letter.record.content.payload {
            Some(Payload::Base64(bytes)) => output.write(bytes)?,
            Some(Payload::Json(value)) => output.write(format!("{value}\n").as_bytes())?,
            None => {}
        }
    } else {
        let text = serde_json::to_string_pretty(&letter.record).unwrap_or_default();
        output.write(format!("{text}\n").as_bytes())?;
    }
    output.finish()?;
    Ok(())
}

fn replay(options: &Replay) -> Result<(), DeadLettersError> {
    let opened = Opened::of(&options.file)?;
    if opened.letters.is_empty() && !opened.damaged.is_empty() {
        return opened.end(&options.file);
    }
    let label: Arc<str> = Arc::from(options.file.to_string_lossy());
    let wanted = |letter: &&Letter| options.stage.as_ref().is_none_or(|s| letter.record.stage.as_str() == s);
    let chosen: Vec<&Letter> = opened.letters.iter().filter(wanted).collect();
    let frames: Vec<_> = chosen.iter().filter_map(|letter| frame_of(&letter.record, &label)).collect();
    if frames.is_empty() {
        return Err(DeadLettersError::NothingToReplay {
            path: options.file.clone(),
            stage: options.stage.clone(),
        });
    }
    let left_out = chosen.len() - frames.len();
    if left_out > 0 {
        // A standard error that cannot be written changes nothing.
        let _ =
            writeln!(io::stderr(), "corelane: {left_out} dead letters are no requests of this job and stay");
    }
    let job = options.job().map_err(|error| Box::new(JobError::from(error)))?;
    replay_requests(&job, RequestReader::of_frames(frames), &options.file).map_err(Box::new)?;
    opened.end(&options.file)
}
