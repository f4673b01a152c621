//! The live table: the auctions that were the hottest last.

use std::fmt::Write as _;
use std::io::Write;
use std::time::Duration;

use corelane_bench::nexmark::q5::Row;

use super::pipeline::clock_time;

/// Auctions that are shown.
const AUCTIONS: usize = 10;
/// The shortest time between two updates.
const UPDATE_INTERVAL: Duration = Duration::from_millis(100);
/// Characters of the longest bar.
const BAR: u64 = 24;

/// How far the run is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reached {
    /// Time since the start.
    pub elapsed: Duration,
    /// Events so far.
    pub events: u64,
    /// Events in all.
    pub of: u64,
}

impl Reached {
    /// At the start of `events` events.
    pub fn of(events: u64) -> Self {
        Self { of: events, ..Self::default() }
    }
}

/// A line for each auction that was the hottest lately, with its last window; the latest first. Rewritten in place. Errors of the
/// terminal are ignored: a table is not worth a failure.
#[derive(Debug)]
pub struct Table<W> {
    terminal: Option<W>,
    /// The latest last; every auction once.
    rows: Vec<Row>,
    next_update: Duration,
    /// Lines of the table above the cursor.
    shown: usize,
}

impl<W: Write> Table<W> {
    /// A table on `terminal`, or nothing for `None`.
    pub fn new(terminal: Option<W>) -> Self {
        Table { terminal, rows: Vec::new(), next_update: Duration::ZERO, shown: 0 }
    }

    /// Takes the rows that came since the last time, and shows them if that is long enough ago.
    pub fn update(&mut self, rows: impl Iterator<Item = Row>, reached: Reached) {
        for row in rows {
            self.rows.retain(|known| known.auction != row.auction);
            self.rows.push(row);
        }
        let hidden = self.rows.len().saturating_sub(AUCTIONS);
        self.rows.drain(..hidden);
        if reached.elapsed >= self.next_update {
            self.next_update = reached.elapsed + UPDATE_INTERVAL;
            self.draw(reached);
        }
    }

    /// Shows the table once more, as it is now, and leaves it there: what is written next stands below it.
    pub fn leave(&mut self, reached: Reached) {
        self.draw(reached);
        self.shown = 0;
    }

    fn draw(&mut self, reached: Reached) {
        let text = self.text(reached);
        let Some(terminal) = &mut self.terminal else { return };
        // Up to the first line of the last table, and everything from there on away.
        let back = if self.shown > 0 { format!("\x1b[{}A\x1b[J", self.shown) } else { String::new() };
        let drawn = terminal.write_all(format!("{back}{text}").as_bytes()).and_then(|()| terminal.flush());
        self.shown = if drawn.is_ok() { text.lines().count() } else { 0 };
    }

    fn text(&self, Reached { elapsed, events, of }: Reached) -> String {
        let rate = events as f64 / elapsed.as_secs_f64().max(1e-3);
        let share = events.min(of) * 100 / of.max(1);
        let mut text = format!("{share:3}%  {events} events, {rate:.0} a second\n");
        text += "\n   auction  bids in 10 s  until\n";
        let most = self.rows.iter().map(|row| row.bids).max().unwrap_or(0).max(1);
        for Row { window, auction, bids } in self.rows.iter().rev() {
            let bar = "#".repeat((bids * BAR).div_ceil(most) as usize);
            let until = clock_time(window.end);
            // Writing to a string does not fail.
            let _ = writeln!(text, "{auction:10}  {bids:12}  {until}  {bar}");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use corelane_stages::window::Window;

    use super::*;

    const SECOND: i64 = 1_000_000_000;

    fn row(end: i64, auction: u64, bids: u64) -> Row {
        Row { window: Window::from_nanos((end - 10) * SECOND, end * SECOND), auction, bids }
    }

    fn at(millis: u64, events: u64) -> Reached {
        Reached { elapsed: Duration::from_millis(millis), events, of: 1_000 }
    }

    #[test]
    fn an_auction_has_one_line_with_its_last_window_and_the_latest_stands_first() {
        let mut screen = Vec::new();
        let mut table = Table::new(Some(&mut screen));
        table.update([row(10, 1, 5), row(12, 2, 8), row(14, 1, 4)].into_iter(), at(1_000, 500));
        drop(table);
        let text = String::from_utf8(screen).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], " 50%  500 events, 500 a second");
        assert_eq!(lines[3], format!("         1             4  1970-01-01T00:00:14Z  {}", "#".repeat(12)));
        assert_eq!(lines[4], format!("         2             8  1970-01-01T00:00:12Z  {}", "#".repeat(24)));
        assert_eq!(lines.len(), 5);
    }

    #[test]
    fn it_is_redrawn_in_place_at_most_once_per_interval_and_stays_when_it_is_left() {
        let mut screen = Vec::new();
        let mut table = Table::new(Some(&mut screen));
        (0..=1_000).for_each(|ms| table.update([row(10 + ms as i64, ms, 1)].into_iter(), at(ms, ms)));
        table.leave(at(1_000, 1_000));
        table.update([].into_iter(), at(1_100, 1_000));
        drop(table);
        let screen = String::from_utf8(screen).unwrap();
        // Ten intervals and the first time, then the one that stays, and one more below that.
        assert_eq!(screen.matches("a second").count(), 13);
        // Only 10 auctions, of many: with the head, 13 lines are gone back over.
        assert_eq!(screen.matches("\x1b[13A\x1b[J").count(), 11 - 1);
        assert_eq!(screen.matches("\x1b[J").count(), 11);
        assert!(screen.ends_with('\n'));
    }

    #[test]
    fn nothing_is_written_when_it_is_not_shown() {
        let mut table = Table::<Vec<u8>>::new(None);
        table.update([row(10, 1, 5)].into_iter(), at(5_000, 1));
        table.leave(at(5_000, 1));
        assert_eq!((table.shown, table.rows.len()), (0, 1));
    }
}
