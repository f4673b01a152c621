//! NEXMark as Renoir's authors write it, made to answer what the SQL asks: windows that are [`Aligned`](super::Aligned), all that share a
//! first place, each seller once; and filters before what sends to other blocks.

use std::hash::Hash;

use core_affinity::CoreId;
use corelane::model::{Timed, Timestamp};
use corelane_stages::window::Window;
use renoir::operator::{Operator, StreamElement};
use renoir::{BatchMode, Stream, StreamContext};

use super::{Aligned, BATCH, Here, last_moment, summed};
use crate::case::Measured;
use crate::nexmark::{Auction, Bid, Event, Feed, Person, Untaken, checksum, q3, q5, q7, q8};

/// Events from one watermark to the next. At each of them Renoir looks at the windows of every key.
const WATERMARK_EVERY: u32 = 1 << 14;

/// The query called `name` over all of `feed` on `cores`; `None` if it is none of those that Renoir's authors wrote and we compare.
pub(in crate::peers) fn query(name: &str) -> Option<fn(Feed, &[CoreId]) -> Measured> {
    Some(match name {
        "q1" => |feed, cores| run(feed, cores, |env| rows(q1(events(env, feed)))),
        "q2" => |feed, cores| run(feed, cores, |env| rows(q2(events(env, feed)))),
        "q3" => |feed, cores| run(feed, cores, |env| rows(q3(events(env, feed)))),
        "q5" => |feed, cores| run(feed, cores, |env| rows(q5(events(env, feed), feed))),
        "q7" => |feed, cores| run(feed, cores, |env| rows(q7(events(env, feed), feed))),
        "q8" => |feed, cores| run(feed, cores, |env| rows(q8(events(env, feed), feed))),
        _ => return None,
    })
}

fn run<O: Operator<Out = u64> + 'static>(
    feed: Feed,
    cores: &[CoreId],
    describe: impl FnOnce(&StreamContext) -> Stream<O> + Send,
) -> Measured {
    summed(feed.events.len() as u64, cores, describe)
}

/// The sum of the checksums of the rows.
fn rows<T: Hash + Send + 'static>(
    rows: Stream<impl Operator<Out = T> + 'static>,
) -> Stream<impl Operator<Out = u64>> {
    super::sum(rows, checksum)
}

fn events(env: &StreamContext, feed: Feed) -> Stream<impl Operator<Out = Event> + use<>> {
    let untaken = Untaken::of(feed);
    env.stream_par_iter(move |_, _| untaken.flat_map(move |block| &feed.events[block]).copied())
        .batch_mode(BatchMode::fixed(BATCH))
}

/// With the times of the items, and a watermark now and then.
fn timed<T: Send + 'static>(
    stream: Stream<impl Operator<Out = T> + 'static>,
    time: fn(&T) -> Timestamp,
    feed: Feed,
) -> Stream<impl Operator<Out = T>> {
    let (mut count, disorder) = (0_u32, feed.disorder.as_nanos() as i64);
    stream.add_timestamps(
        move |item| time(item).as_nanos(),
        move |_, at| {
            count = (count + 1) % WATERMARK_EVERY;
            (count == 0).then(|| at - disorder)
        },
    )
}

fn q1(events: Stream<impl Operator<Out = Event> + 'static>) -> Stream<impl Operator<Out = Bid>> {
    events.filter_map(Event::bid).map(|bid| Bid { price: bid.price * 908, ..bid })
}

fn q2(events: Stream<impl Operator<Out = Event> + 'static>) -> Stream<impl Operator<Out = (u64, u64)>> {
    events.filter_map(Event::bid).filter(|bid| bid.auction % 123 == 0).map(|bid| (bid.auction, bid.price))
}

fn q3(events: Stream<impl Operator<Out = Event> + 'static>) -> Stream<impl Operator<Out = q3::Row>> {
    let of_interest = events.filter(|event| match event {
        Event::Person(person) => q3::is_near(person),
        Event::Auction(auction) => auction.category == 10,
        Event::Bid(_) => false,
    });
    let (people, auctions) = routed(of_interest);
    people
        .join(auctions, |person| person.0.id, |auction| auction.0.seller)
        .drop_key()
        .map(|(person, auction)| q3::row(&auction.0, &person.0))
}

/// People and auctions, each on a way of their own.
fn routed(
    events: Stream<impl Operator<Out = Event> + 'static>,
) -> (Stream<impl Operator<Out = Here<Person>>>, Stream<impl Operator<Out = Here<Auction>>>) {
    let routes = events
        .map(Here)
        .route()
        .add_route(|event| matches!(event.0, Event::Person(_)))
        .add_route(|event| matches!(event.0, Event::Auction(_)))
        .build();
    let [people, auctions] = <[_; 2]>::try_from(routes).ok().expect("two routes were asked for");
    (
        people.filter_map(|event| event.0.person().map(Here)),
        auctions.filter_map(|event| event.0.auction().map(Here)),
    )
}

fn q5(
    events: Stream<impl Operator<Out = Event> + 'static>,
    feed: Feed,
) -> Stream<impl Operator<Out = q5::Row>> {
    let bids = events.filter_map(|event| event.bid().map(|bid| (bid.auction, bid.at)));
    timed(bids, |bid| bid.1, feed)
        .map(|bid| bid.0)
        .group_by(|auction| *auction)
        .map(|_| ())
        .window(Aligned::sliding(q5::SIZE, q5::EVERY))
        .count()
        .unkey()
        // A count is of the last moment of its window: in each step, those of one window.
        .window_all(Aligned::tumbling(q5::EVERY))
        .fold(Vec::new(), |most: &mut Vec<(u64, usize)>, count| lead(most, count, |count| count.1))
        .drop_key()
        .rich_map_custom(|mut windows| {
            let element: StreamElement<Vec<_>> = windows.next();
            let end = last_moment(&element) + 1;
            let window = Window::from_nanos(end.saturating_sub(q5::SIZE.as_nanos() as i64), end);
            element.map(|most| (window, most))
        })
        .flat_map(|(window, most)| {
            most.into_iter().map(move |(auction, bids)| q5::Row { window, auction, bids: bids as u64 })
        })
}

/// Puts `item` among the `first` if nothing in them is above it; what it is above has to go.
fn lead<T: Copy, V: Ord>(first: &mut Vec<T>, item: &T, value: impl Fn(&T) -> V) {
    match first.first().map(|one| value(item).cmp(&value(one))) {
        Some(std::cmp::Ordering::Less) => return,
        Some(std::cmp::Ordering::Greater) => first.clear(),
        Some(std::cmp::Ordering::Equal) | None => {}
    }
    first.push(*item);
}

fn q7(events: Stream<impl Operator<Out = Event> + 'static>, feed: Feed) -> Stream<impl Operator<Out = Bid>> {
    let highest = |highest: &mut Vec<Bid>, bid: &Bid| lead(highest, bid, |bid| bid.price);
    timed(events.filter_map(Event::bid), Timed::timestamp, feed)
        .key_by(|_| ())
        .window(Aligned::tumbling(q7::SIZE))
        .fold(Vec::new(), highest)
        .drop_key()
        .map(Here)
        .window_all(Aligned::tumbling(q7::SIZE))
        .fold(Vec::new(), move |all, here: &Here<Vec<Bid>>| here.0.iter().for_each(|bid| highest(all, bid)))
        .drop_key()
        .flatten()
}

fn q8(
    events: Stream<impl Operator<Out = Event> + 'static>,
    feed: Feed,
) -> Stream<impl Operator<Out = q8::Row>> {
    let windows = Aligned::tumbling(q8::SIZE);
    let no_bids = events.filter(|event| !matches!(event, Event::Bid(_)));
    let (people, auctions) = routed(timed(no_bids, Timed::timestamp, feed));
    let sellers = auctions
        .map(|auction| auction.0.seller)
        .group_by(|seller| *seller)
        .map(|_| ())
        .window(windows)
        .count();
    people.group_by(|person| person.0.id).window_join(windows, sellers).drop_key().map(|(person, _)| {
        let (at, size) = (person.0.timestamp().as_nanos(), q8::SIZE.as_nanos() as i64);
        q8::row(&person.0, Timestamp(at - at.rem_euclid(size)))
    })
}
