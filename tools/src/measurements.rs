//! Measurements of a run in the Prometheus text format.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use corelane::driver::Monitor;
use corelane::observe::prometheus;

use crate::output::{LineWriter, OutputError, OutputPath, write_error};

/// Writes measurements, at the end of a run and perhaps every now and then before.
///
/// A regular file is replaced as a whole, so that whoever reads it (the textfile collector of a node exporter, for example)
/// never sees half of it; a pipe or a device is written as it is.
#[derive(Debug)]
pub struct Measurements {
    output: OutputPath,
    every: Option<Duration>,
    next: Duration,
    /// The first fault of a write before the end: the run goes on.
    failed: Option<OutputError>,
}

impl Measurements {
    /// Writes to `output`, before the end only if `every` says how often.
    ///
    /// # Errors
    ///
    /// The file cannot be made where it is to be.
    pub fn new(output: OutputPath, every: Option<Duration>) -> Result<Self, OutputError> {
        if let OutputPath::File(path) = &output
            && is_replaced(path)
        {
            let beside = beside(path);
            File::create(&beside).map_err(|error| write_error(&path.to_string_lossy(), error))?;
            // Made only to see that it can be made.
            let _ = fs::remove_file(beside);
        }
        Ok(Measurements { output, every, next: every.unwrap_or_default(), failed: None })
    }

    /// Writes if it is time to. `elapsed` is the time since the start.
    pub fn update(&mut self, elapsed: Duration, monitor: &Monitor) {
        let Some(every) = self.every else { return };
        if elapsed < self.next || self.failed.is_some() {
            return;
        }
        self.next = elapsed + every;
        self.failed = self.write(monitor).err();
    }

    /// Writes for the last time.
    ///
    /// # Errors
    ///
    /// What this write or an earlier one met.
    pub fn finish(mut self, monitor: &Monitor) -> Result<(), OutputError> {
        self.write(monitor)?;
        self.failed.take().map_or(Ok(()), Err)
    }

    fn write(&self, monitor: &Monitor) -> Result<(), OutputError> {
        let text = prometheus::text(&monitor.metrics());
        match &self.output {
            OutputPath::File(path) if is_replaced(path) => {
                replace(path, &text).map_err(|error| write_error(&path.to_string_lossy(), error))
            }
            output => {
                let mut writer = LineWriter::open(output, &[])?;
                writer.write(text.as_bytes())?;
                writer.finish().map(drop)
            }
        }
    }
}

/// Whether the file at `path` is one that can be replaced: it is regular, or not there yet.
fn is_replaced(path: &Path) -> bool {
    fs::metadata(path).map_or(true, |data| data.is_file())
}

/// A name in the same directory, where renaming does not copy. One of ours: two runs with one file are a mistake anyway.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    path.with_file_name(name)
}

fn replace(path: &Path, text: &str) -> io::Result<()> {
    let beside = beside(path);
    let written = File::create(&beside).and_then(|mut file| file.write_all(text.as_bytes()));
    let renamed = written.and_then(|()| fs::rename(&beside, path));
    renamed.inspect_err(|_| {
        // What is left of a failed write helps nobody.
        let _ = fs::remove_file(&beside);
    })
}
