//! Fixed events and expected rows that others published: the end-to-end tests of RisingWave hold them as files of
//! [sqllogictest](https://www.sqlite.org/sqllogictest/doc/trunk/about.wiki).
//!
//! The events are in `insert_person.slt.part`, `insert_auction.slt.part` and `insert_bid.slt.part`, the rows of query `qN` in a
//! `qN.slt.part` that selects from `nexmark_qN`; each anywhere below one directory. Rows are compared as a multiset of texts, with
//! numbers in one form.
//!
//! Not compared: query 2, for which they ask for other auctions, and 6, 10, 12 and 13, which they do not have in this form. Of
//! query 16 the minute is left out: theirs is a month.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use corelane::engine::{Engine, ExecutionOptions};
use corelane::flow::PipelineBuilder;
use corelane::model::{Timed, Timestamp};

use super::event::Event;
use super::{Average, Feed};

/// Why there is nothing to compare.
#[derive(Debug, thiserror::Error)]
pub enum PublishedError {
    /// A file or directory that cannot be read.
    #[error("cannot read {}: {error}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// A file that should be there.
    #[error("there is no {name} below {}", directory.display())]
    Missing {
        /// What it is called.
        name: String,
        /// Where it was looked for.
        directory: PathBuf,
    },
    /// A file that is not as expected.
    #[error("{}: {what}", path.display())]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// A query that did not run.
    #[error("{query} did not run: {reason}")]
    DidNotRun {
        /// Which.
        query: &'static str,
        /// Why not.
        reason: String,
    },
}

/// How a query compares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comparison {
    /// The query.
    pub query: &'static str,
    /// Rows that both have.
    pub same: usize,
    /// Rows that only corelane has.
    pub only_here: Vec<String>,
    /// Rows that only the file has.
    pub only_there: Vec<String>,
}

impl Comparison {
    /// Whether both have the same rows.
    pub fn agrees(&self) -> bool {
        self.only_here.is_empty() && self.only_there.is_empty()
    }
}

/// Runs every query that has rows below `directory` over the events that are there, on the given number of instances.
///
/// # Errors
/// Files that are missing, unreadable or malformed, or a query that does not run.
pub fn compare(directory: &Path, instances: u32) -> Result<Vec<Comparison>, PublishedError> {
    let files = Files::below(directory)?;
    let feed = files.feed()?;
    let mut all = Vec::new();
    for (query, rows) in published() {
        let Some(there) = files.rows(query)? else { continue };
        let here = rows(feed, instances).map_err(|reason| PublishedError::DidNotRun { query, reason })?;
        let leave_out = if query == "q16" { Some(2) } else { None };
        all.push(difference(
            query,
            here.iter().map(|row| normal(row, None)),
            there.iter().map(|row| normal(row, leave_out)),
        ));
    }
    if all.is_empty() {
        return Err(PublishedError::Missing {
            name: "q0.slt.part".to_owned(),
            directory: directory.to_path_buf(),
        });
    }
    Ok(all)
}

fn difference(
    query: &'static str,
    here: impl Iterator<Item = String>,
    there: impl Iterator<Item = String>,
) -> Comparison {
    let mut counts: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    here.for_each(|row| counts.entry(row).or_default().0 += 1);
    there.for_each(|row| counts.entry(row).or_default().1 += 1);
    let mut comparison = Comparison { query, same: 0, only_here: Vec::new(), only_there: Vec::new() };
    for (row, (here, there)) in counts {
        comparison.same += here.min(there);
        comparison.only_here.extend(std::iter::repeat_n(row.clone(), here.saturating_sub(there)));
        comparison.only_there.extend(std::iter::repeat_n(row, there.saturating_sub(here)));
    }
    comparison
}

/// A row with single spaces, without column `leave_out`, and with decimals to six places.
fn normal(row: &str, leave_out: Option<usize>) -> String {
    let columns = row.split_whitespace().enumerate().filter(|(at, _)| Some(*at) != leave_out);
    let number = |text: &str| match text.parse::<f64>() {
        Ok(number) if text.contains('.') => {
            let text = format!("{number:.6}");
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        }
        _ => text.to_owned(),
    };
    columns.map(|(_, text)| number(text)).collect::<Vec<_>>().join(" ")
}

struct Files(Vec<PathBuf>);

impl Files {
    fn below(directory: &Path) -> Result<Self, PublishedError> {
        let (mut files, mut open) = (Vec::new(), vec![directory.to_path_buf()]);
        while let Some(path) = open.pop() {
            let unreadable = |error| PublishedError::Unreadable { path: path.clone(), error };
            for entry in fs::read_dir(&path).map_err(unreadable)? {
                let entry = entry.map_err(unreadable)?;
                // Not through links: they may lead back.
                if entry.file_type().map_err(unreadable)?.is_dir() {
                    open.push(entry.path());
                } else {
                    files.push(entry.path());
                }
            }
        }
        files.sort();
        Ok(Self(files))
    }

    fn read(path: &Path) -> Result<String, PublishedError> {
        fs::read_to_string(path)
            .map_err(|error| PublishedError::Unreadable { path: path.to_path_buf(), error })
    }

    fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a PathBuf> {
        self.0.iter().filter(move |path| path.file_name().is_some_and(|file| file == name))
    }

    /// The rows of a query, if there are any.
    fn rows(&self, query: &str) -> Result<Option<Vec<String>>, PublishedError> {
        for path in self.named(&format!("{query}.slt.part")) {
            let text = Self::read(path)?;
            let lower = text.to_lowercase();
            let asks = lower.lines().any(|line| {
                line.trim_end_matches(';').split_whitespace().any(|word| word == format!("nexmark_{query}"))
                    && line.trim_start().starts_with("select")
            });
            if let Some((_, rows)) = text.split_once("\n----\n")
                && asks
            {
                // Rows go up to an empty line.
                return Ok(Some(
                    rows.lines().take_while(|row| !row.trim().is_empty()).map(str::to_owned).collect(),
                ));
            }
        }
        Ok(None)
    }

    /// All events, in the order of their times; people and auctions before the bids of the same moment.
    fn feed(&self) -> Result<Feed, PublishedError> {
        let mut events = Vec::new();
        for table in ["person", "auction", "bid"] {
            let name = format!("insert_{table}.slt.part");
            let Some(path) = self.named(&name).next() else {
                let directory =
                    self.0.first().and_then(|path| path.parent()).unwrap_or(Path::new(".")).to_path_buf();
                return Err(PublishedError::Missing { name, directory });
            };
            let malformed = |what| PublishedError::Malformed { path: path.clone(), what };
            for row in rows_of(&Self::read(path)?).map_err(malformed)? {
                events.push(event(table, &row).map_err(malformed)?);
            }
        }
        events.sort_by_key(Event::timestamp);
        Ok(Feed::of(events).in_blocks_of(7))
    }
}

/// The rows of an `INSERT INTO table (columns) VALUES (..), (..)`, by column.
fn rows_of(text: &str) -> Result<Vec<BTreeMap<String, String>>, String> {
    let mut tokens = Tokens(text);
    while tokens.next()?.ok_or("there is no INSERT INTO")? != Token::Word("into") {}
    tokens.next()?;
    let columns: Vec<String> =
        tokens.list()?.into_iter().map(|name| name.trim_matches('"').to_owned()).collect();
    if tokens.next()? != Some(Token::Word("values")) {
        return Err("there is no VALUES behind the columns".to_owned());
    }
    let mut rows = Vec::new();
    loop {
        let values = tokens.list()?;
        if values.len() != columns.len() {
            return Err(format!(
                "row {} has {} values for {} columns",
                rows.len() + 1,
                values.len(),
                columns.len()
            ));
        }
        rows.push(columns.iter().cloned().zip(values).collect());
        if tokens.next()? != Some(Token::Mark(',')) {
            return Ok(rows);
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Token<'a> {
    Word(&'a str),
    Text(String),
    Mark(char),
}

struct Tokens<'a>(&'a str);

impl<'a> Tokens<'a> {
    fn next(&mut self) -> Result<Option<Token<'a>>, String> {
        self.0 = self.0.trim_start();
        let Some(first) = self.0.chars().next() else { return Ok(None) };
        if first == '\'' {
            return self.text().map(Some);
        }
        if !first.is_alphanumeric() && !"_\"-".contains(first) {
            self.0 = &self.0[first.len_utf8()..];
            return Ok(Some(Token::Mark(first)));
        }
        let end = self.0.find(|c: char| !c.is_alphanumeric() && !"_\"-.".contains(c)).unwrap_or(self.0.len());
        let (word, rest) = self.0.split_at(end);
        self.0 = rest;
        // Keywords are told apart in small letters; nothing else has capitals.
        Ok(Some(Token::Word(match word {
            "INTO" => "into",
            "VALUES" => "values",
            word => word,
        })))
    }

    /// What stands between quotes; two of them are one.
    fn text(&mut self) -> Result<Token<'a>, String> {
        let mut text = String::new();
        loop {
            let rest = self.0.strip_prefix('\'').unwrap_or(self.0);
            let end = rest.find('\'').ok_or("a text does not end")?;
            text.push_str(&rest[..end]);
            self.0 = &rest[end + 1..];
            if !self.0.starts_with('\'') {
                return Ok(Token::Text(text));
            }
            text.push('\'');
        }
    }

    /// `(a, b, ..)`
    fn list(&mut self) -> Result<Vec<String>, String> {
        let expected = |what: &str, got: Option<Token<'_>>| format!("{what} expected, not {got:?}");
        match self.next()? {
            Some(Token::Mark('(')) => {}
            other => return Err(expected("a list", other)),
        }
        let mut values = Vec::new();
        loop {
            match self.next()? {
                Some(Token::Word(word)) => values.push(word.to_owned()),
                Some(Token::Text(text)) => values.push(text),
                other => return Err(expected("a value", other)),
            }
            match self.next()? {
                Some(Token::Mark(',')) => {}
                Some(Token::Mark(')')) => return Ok(values),
                other => return Err(expected("a comma", other)),
            }
        }
    }
}

fn event(table: &str, row: &BTreeMap<String, String>) -> Result<Event, String> {
    let text = |name: &str| row.get(name).cloned().ok_or_else(|| format!("there is no column {name}"));
    let number = |name: &str| -> Result<usize, String> {
        text(name)?.parse().map_err(|_| format!("{name} is no number: {}", row[name]))
    };
    let millis = |name: &str| -> Result<u64, String> {
        let time = humantime::parse_rfc3339_weak(&text(name)?).map_err(|error| format!("{name}: {error}"))?;
        let since = time.duration_since(UNIX_EPOCH).map_err(|_| format!("{name} is before 1970"))?;
        u64::try_from(since.as_millis()).map_err(|error| error.to_string())
    };
    Ok(match table {
        "person" => nexmark::event::Event::Person(nexmark::event::Person {
            id: number("id")?,
            name: text("name")?,
            email_address: text("email_address")?,
            credit_card: text("credit_card")?,
            city: text("city")?,
            state: text("state")?,
            date_time: millis("date_time")?,
            extra: text("extra")?,
        }),
        "auction" => nexmark::event::Event::Auction(nexmark::event::Auction {
            id: number("id")?,
            item_name: text("item_name")?,
            description: text("description")?,
            initial_bid: number("initial_bid")?,
            reserve: number("reserve")?,
            date_time: millis("date_time")?,
            expires: millis("expires")?,
            seller: number("seller")?,
            category: number("category")?,
            extra: text("extra")?,
        }),
        _ => nexmark::event::Event::Bid(nexmark::event::Bid {
            auction: number("auction")?,
            bidder: number("bidder")?,
            price: number("price")?,
            channel: text("channel")?,
            url: text("url")?,
            date_time: millis("date_time")?,
            extra: text("extra")?,
        }),
    }
    .into())
}

/// As the files write a time: without thousandths if there are none.
fn time(at: Timestamp) -> String {
    let since = Duration::from_nanos(u64::try_from(at.as_nanos()).unwrap_or_default());
    let text = humantime::format_rfc3339_millis(UNIX_EPOCH + since).to_string();
    text.trim_end_matches('Z').trim_end_matches(".000").replace('T', " ")
}

fn day(at: Timestamp) -> String {
    time(at)[..10].to_owned()
}

fn average(average: Average) -> f64 {
    average.sum as f64 / average.count.max(1) as f64
}

/// Runs a query and writes its rows.
type Rows = fn(Feed, u32) -> Result<Vec<String>, String>;

macro_rules! rows {
    ($query:ident, $write:expr) => {
        (stringify!($query), |feed, instances| {
            let p = PipelineBuilder::new("published");
            let rows = super::$query::query(&p, feed).collect("out");
            let pipeline = p.build().map_err(|errors| errors.to_string())?;
            let options = ExecutionOptions { virtual_cores: Some(instances), ..ExecutionOptions::default() };
            let result = Engine::new(options).run(pipeline).map_err(|error| error.to_string())?;
            result.account.verify().map_err(|broken| format!("the account does not close: {broken:?}"))?;
            if !result.success {
                return Err(result.outcome.to_string());
            }
            Ok(rows.take().into_iter().map($write).collect())
        })
    };
}

/// Thousandths of a cent as cents.
fn euros(thousandths: u64) -> String {
    format!("{}.{:03}", thousandths / 1_000, thousandths % 1_000)
}

fn ranked(ranked: super::Ranked<u64>) -> String {
    ranked.map(|count| count.to_string()).join(" ")
}

fn statistics(s: super::Statistics) -> String {
    [s.bids, s.bidders, s.auctions].map(ranked).join(" ")
}

fn published() -> [(&'static str, Rows); 17] {
    [
        rows!(q0, |b| format!("{} {} {} {}", b.auction, b.bidder, b.price, time(b.at))),
        rows!(q1, |b| format!("{} {} {} {}", b.auction, b.bidder, euros(b.price), time(b.at))),
        rows!(q3, |row| format!("{} {} {} {}", row.name, row.city, row.state, row.auction)),
        rows!(q4, |(category, price)| format!("{category} {:.9}", average(price))),
        rows!(q5, |row| format!("{} {}", row.auction, row.bids)),
        rows!(q7, |b| format!("{} {} {} {}", b.auction, b.price, b.bidder, time(b.at))),
        rows!(q8, |row| format!("{} {} {}", row.person, row.name, time(row.start))),
        rows!(q9, |super::Sale { auction: a, bid: b }| {
            let when = (time(a.timestamp()), time(a.expires_at()));
            format!(
                "{} {} {} {} {} {} {} {} {} {} {} {} {}",
                a.id,
                a.item_name,
                a.description,
                a.initial_bid,
                a.reserve,
                when.0,
                when.1,
                a.seller,
                a.category,
                b.auction,
                b.bidder,
                b.price,
                time(b.at)
            )
        }),
        rows!(q14, |row| {
            let of_day = match row.time {
                super::q14::TimeOfDay::Day => "dayTime",
                super::q14::TimeOfDay::Night => "nightTime",
                super::q14::TimeOfDay::Other => "otherTime",
            };
            let b = row.bid;
            format!("{} {} {} {of_day} {} {}", b.auction, b.bidder, euros(b.price), time(b.at), row.cs)
        }),
        rows!(q15, |(start, s)| format!("{} {}", day(start), statistics(s))),
        rows!(q16, |(channel, start, s)| format!("{channel} {} {}", day(start), statistics(s))),
        rows!(q17, |(auction, start, p)| {
            let (bids, mean) = (ranked(p.bids), average(p.average));
            format!("{auction} {} {bids} {} {} {mean:.9} {}", day(start), p.min, p.max, p.average.sum)
        }),
        rows!(q18, |b| {
            let when = time(b.at);
            let t = b.texts();
            format!("{} {} {} {} {} {when} {}", b.auction, b.bidder, b.price, t.channel, t.url, t.extra)
        }),
        rows!(q19, |(place, b)| {
            let when = time(b.at);
            let t = b.texts();
            format!(
                "{} {} {} {} {} {when} {} {place}",
                b.auction, b.bidder, b.price, t.channel, t.url, t.extra
            )
        }),
        rows!(q20, |super::Sale { auction: a, bid: b }| {
            let (when, t) = (time(b.at), b.texts());
            format!(
                "{} {} {} {} {} {when} {} {} {} {} {} {} {} {} {} {}",
                b.auction,
                b.bidder,
                b.price,
                t.channel,
                t.url,
                t.extra,
                a.item_name,
                a.description,
                a.initial_bid,
                a.reserve,
                time(a.timestamp()),
                time(a.expires_at()),
                a.seller,
                a.category,
                a.extra
            )
        }),
        rows!(q21, |row| {
            let b = row.bid;
            format!("{} {} {} {} {}", b.auction, b.bidder, b.price, b.texts().channel, row.channel_id)
        }),
        rows!(q22, |row| {
            let (b, parts) = (row.bid, row.parts.join(" "));
            format!("{} {} {} {} {parts}", b.auction, b.bidder, b.price, b.texts().channel)
        }),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_compared_as_a_multiset_with_numbers_in_one_form() {
        let rows = |rows: &[&str]| rows.iter().map(|row| normal(row, None)).collect::<Vec<_>>().into_iter();
        let same =
            difference("q0", rows(&["a  1.50", "a 1.5", "b 2.0"]), rows(&["b 2", "a 1.500\t", " a 1.5"]));
        assert!(same.agrees() && same.same == 3, "{same:?}");
        let other = difference("q0", rows(&["a", "a"]), rows(&["a", "b"]));
        assert_eq!((other.same, other.only_here, other.only_there), (1, vec!["a".into()], vec!["b".into()]));
        assert_eq!(normal("x 12:07 3", Some(1)), "x 3");
        assert_eq!(normal("2015-07-15 00:00:22.005 0622", None), "2015-07-15 00:00:22.005 0622");
    }

    #[test]
    fn an_insert_is_read_with_its_quotes_and_what_is_wrong_with_one_is_said() {
        let text = "statement ok\nINSERT INTO bid (a, \"b\") VALUES\n(1, 'it''s (so), yes'),\n(-2, '');\n";
        let rows = rows_of(text).unwrap();
        assert_eq!(rows.len(), 2);
        assert_eq!((rows[0]["a"].as_str(), rows[0]["b"].as_str()), ("1", "it's (so), yes"));
        assert_eq!((rows[1]["a"].as_str(), rows[1]["b"].as_str()), ("-2", ""));
        for (text, what) in [
            ("nothing", "no INSERT"),
            ("INSERT INTO t (a) SELECT", "no VALUES"),
            ("INSERT INTO t (a) VALUES (1, 2)", "row 1 has 2 values"),
            ("INSERT INTO t (a) VALUES ('1", "does not end"),
            ("INSERT INTO t (a) VALUES (1 2)", "a comma expected"),
            ("INSERT INTO t (a) VALUES 1", "a list expected"),
        ] {
            let error = rows_of(text).unwrap_err();
            assert!(error.contains(what), "{text}: {error}");
        }
    }

    #[test]
    fn times_are_written_as_the_files_do() {
        assert_eq!(time(Timestamp(1_436_918_422_005_000_000)), "2015-07-15 00:00:22.005");
        assert_eq!(time(Timestamp(1_436_918_400_000_000_000)), "2015-07-15 00:00:00");
        assert_eq!(time(Timestamp(1_436_918_420_210_000_000)), "2015-07-15 00:00:20.210");
    }
}
