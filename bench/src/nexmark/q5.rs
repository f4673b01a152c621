//! Query 5: the auctions with the most bids in the last ten seconds, every two seconds.
//!
//! ```sql
//! SELECT AuctionBids.auction, AuctionBids.num FROM (
//!     SELECT auction, count(*) AS num, window_start, window_end
//!     FROM TABLE(HOP(TABLE bid, DESCRIPTOR(dateTime), INTERVAL '2' SECOND, INTERVAL '10' SECOND))
//!     GROUP BY auction, window_start, window_end) AS AuctionBids
//! JOIN (SELECT max(num) AS maxn, .. of the same, by window) AS MaxBids
//! ON .. the same window .. AND AuctionBids.num >= MaxBids.maxn
//! ```
//!
//! All that share the first place. Bids are counted where they come in, for two seconds, and only counts are sent to the core that
//! an auction belongs to.

use std::collections::BTreeMap;
use std::time::Duration;

use corelane::flow::{PipelineBuilder, Segment, Stream};
use corelane::model::Timestamp;
use corelane_stages::window::{
    Count, KeyedWindows, Leaders, PerCore, Sliding, Sum, Tumbling, Window, Windowed,
};

use super::{Event, Feed, timed_events};

/// How much each look looks back.
pub const SIZE: Duration = Duration::from_secs(10);
/// How often it looks.
pub const EVERY: Duration = Duration::from_secs(2);

/// An auction in the first place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Row {
    /// In which ten seconds.
    pub window: Window,
    /// Which auction.
    pub auction: u64,
    /// How many bids it got.
    pub bids: u64,
}

/// The query.
pub fn query(p: &PipelineBuilder, feed: Feed) -> Stream<impl Segment<Item = Row> + use<>> {
    hottest(timed_events(p, feed).filter_map("bids", |event| event.bid().map(|bid| (bid.auction, bid.at))))
}

/// The same of bids from anywhere: for which auction each is, and when it was made.
///
/// Functions, not closures: a closure in a generic function has the parameters of that function in its type, here everything that
/// comes before the bids, and types would double with every stage.
pub fn hottest<S>(made: Stream<S>) -> Stream<impl Segment<Item = Row> + use<S>>
where
    S: Segment<Item = (u64, Timestamp)>,
{
    made.per_core(auction)
        .window_at(time, Tumbling::of(EVERY))
        .aggregate("bids-here", Count)
        .key_by(counted)
        .window(Sliding::of(SIZE).every(EVERY))
        .aggregate_across("hottest-here", Sum::of(bids), Leaders::of(bids))
        .flat_map("candidates", leaders)
        // A count counts as of the last moment of its window.
        .key_by(window)
        .window(Tumbling::of(EVERY))
        .aggregate("hottest", Leaders::of(bids))
        .flat_map("rows", leaders)
        .map("row", row)
}

/// How many bids an auction got in a window.
type Bids = Windowed<u64, u64>;

fn auction(bid: &(u64, Timestamp)) -> u64 {
    bid.0
}

fn time(bid: &(u64, Timestamp)) -> Timestamp {
    bid.1
}

fn counted(count: &Bids) -> u64 {
    count.key
}

fn bids(count: &Bids) -> u64 {
    count.value
}

fn window(count: &Bids) -> Window {
    count.window
}

fn leaders<K>(hottest: Windowed<K, Vec<Bids>>) -> Vec<Bids> {
    hottest.value
}

fn row(count: Bids) -> Row {
    Row { window: count.window, auction: count.key, bids: count.value }
}

/// The same by looking at everything.
pub fn reference(events: &[Event]) -> Vec<Row> {
    let (size, every) = (SIZE.as_nanos() as i64, EVERY.as_nanos() as i64);
    let mut windows: BTreeMap<Window, BTreeMap<u64, u64>> = BTreeMap::new();
    for bid in events.iter().filter_map(|event| event.bid()) {
        let Timestamp(at) = bid.at;
        let last = at - at.rem_euclid(every);
        for start in (0..size / every).map(|n| last - n * every) {
            let window = Window::from_nanos(start, start + size);
            *windows.entry(window).or_default().entry(bid.auction).or_default() += 1;
        }
    }
    let rows = |(window, counts): (Window, BTreeMap<u64, u64>)| {
        let most = counts.values().copied().max();
        let first = counts.into_iter().filter(move |(_, bids)| Some(*bids) == most);
        first.map(move |(auction, bids)| Row { window, auction, bids })
    };
    windows.into_iter().flat_map(rows).collect()
}
