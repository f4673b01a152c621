//! Query 10: all bids into files, by day and minute.
//!
//! ```sql
//! INSERT INTO fs_sink PARTITIONED BY (dt, hm)
//! SELECT auction, bidder, price, dateTime, extra, DATE_FORMAT(dateTime, 'yyyy-MM-dd'), DATE_FORMAT(dateTime, 'HH:mm')
//! FROM bid
//! ```
//!
//! Each core writes files of its own: `dt=2015-07-15/hm=00-01/part-0.csv`. It waits for the disk while it writes, which a
//! service would leave to a thread.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use corelane::flow::PipelineBuilder;
use corelane::policy::Parallelism;
use corelane::stage::{Rejected, Sink, StageError, StageSite};

use super::{Bid, Event, Feed, events};

/// Bytes of a minute that are written at once.
const BUFFER: usize = 64 * 1024;

const MINUTE_NANOS: i64 = 60_000_000_000;

/// The query; its files are made in `directory`.
pub fn query(p: &PipelineBuilder, feed: Feed, directory: &Path) {
    let directory = directory.to_path_buf();
    events(p, feed)
        .filter_map("bids", Event::bid)
        .sink("files", move |site: &StageSite| {
            let name = format!("part-{}.csv", site.context.instance);
            Ok(Files { directory, name, minutes: BTreeMap::new() })
        })
        .parallel(Parallelism::CpuBound);
}

/// What each file has to hold, by its directory.
pub fn reference(events: &[Event]) -> BTreeMap<PathBuf, Vec<String>> {
    let mut files: BTreeMap<PathBuf, Vec<String>> = BTreeMap::new();
    for bid in events.iter().filter_map(|event| event.bid()) {
        files.entry(directory_of(minute(&bid))).or_default().push(line(&bid));
    }
    files
}

fn minute(bid: &Bid) -> i64 {
    bid.at.as_nanos().div_euclid(MINUTE_NANOS)
}

fn line(bid: &Bid) -> String {
    let Bid { auction, bidder, price, at, .. } = bid;
    format!("{auction},{bidder},{price},{},{}", at.as_nanos() / 1_000_000, bid.texts().extra)
}

fn directory_of(minute: i64) -> PathBuf {
    let since = Duration::from_secs(60 * u64::try_from(minute).unwrap_or(0));
    let text = humantime::format_rfc3339_seconds(UNIX_EPOCH + since).to_string();
    let (day, time) = text.split_at(10);
    PathBuf::from(format!("dt={day}/hm={}", time[1..6].replace(':', "-")))
}

struct Files {
    directory: PathBuf,
    name: String,
    /// Lines that are not in their file yet, by minute.
    minutes: BTreeMap<i64, Vec<u8>>,
}

impl Files {
    fn write(directory: &Path, name: &str, minute: i64, lines: &mut Vec<u8>) -> io::Result<()> {
        let directory = directory.join(directory_of(minute));
        fs::create_dir_all(&directory)?;
        let mut file: File = OpenOptions::new().create(true).append(true).open(directory.join(name))?;
        file.write_all(lines)?;
        lines.clear();
        Ok(())
    }
}

impl Sink for Files {
    type Item = Bid;

    fn accept(&mut self, bid: Bid) -> Result<(), Rejected<Bid>> {
        let minute = minute(&bid);
        let lines = self.minutes.entry(minute).or_default();
        lines.extend_from_slice(line(&bid).as_bytes());
        lines.push(b'\n');
        if lines.len() < BUFFER {
            return Ok(());
        }
        Self::write(&self.directory, &self.name, minute, lines)
            .map_err(|error| Rejected { item: bid, error: StageError::msg(error) })
    }

    fn finish(&mut self) -> Result<bool, StageError> {
        while let Some((minute, mut lines)) = self.minutes.pop_first() {
            Self::write(&self.directory, &self.name, minute, &mut lines).map_err(StageError::msg)?;
        }
        Ok(true)
    }
}
