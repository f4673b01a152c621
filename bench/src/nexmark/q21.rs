//! Query 21: bids with the number of their channel.
//!
//! ```sql
//! SELECT auction, bidder, price, channel,
//!     CASE WHEN lower(channel) = 'apple' THEN '0' WHEN lower(channel) = 'google' THEN '1'
//!          WHEN lower(channel) = 'facebook' THEN '2' WHEN lower(channel) = 'baidu' THEN '3'
//!          ELSE REGEXP_EXTRACT(url, '(&|^)channel_id=([^&]*)', 2) END AS channel_id
//! FROM bid WHERE REGEXP_EXTRACT(url, '(&|^)channel_id=([^&]*)', 2) is not null OR
//!     lower(channel) in ('apple', 'google', 'facebook', 'baidu')
//! ```

use corelane::flow::{PipelineBuilder, Segment, Stream};

use super::{Bid, Event, Feed, events};

/// A bid from a channel that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Row {
    /// The bid.
    pub bid: Bid,
    /// The channel's number.
    pub channel_id: &'static str,
}

/// The query.
pub fn query(p: &PipelineBuilder, feed: Feed) -> Stream<impl Segment<Item = Row> + use<>> {
    events(p, feed).filter_map("bids", Event::bid).filter_map("known", |bid| {
        Some(Row { bid, channel_id: known(&bid.texts().channel).or_else(|| from_url(&bid.texts().url))? })
    })
}

fn known(channel: &str) -> Option<&'static str> {
    let names = ["apple", "google", "facebook", "baidu"];
    let at = names.iter().position(|name| channel.eq_ignore_ascii_case(name))?;
    Some(["0", "1", "2", "3"][at])
}

fn from_url(url: &str) -> Option<&str> {
    url.split('&').find_map(|part| part.strip_prefix("channel_id="))
}

/// The same by looking at everything.
pub fn reference(events: &[Event]) -> Vec<Row> {
    let mut rows = Vec::new();
    for bid in events.iter().filter_map(|event| event.bid()) {
        let (channel, url) = (bid.texts().channel.to_lowercase(), bid.texts().url.as_str());
        // At the start, or behind an ampersand; up to the next one.
        let start = if url.starts_with("channel_id=") {
            Some("channel_id=".len())
        } else {
            url.find("&channel_id=").map(|at| at + "&channel_id=".len())
        };
        let number = start.map(|start| &url[start..url[start..].find('&').map_or(url.len(), |end| start + end)]);
        let channel_id = match channel.as_str() {
            "apple" => Some("0"),
            "google" => Some("1"),
            "facebook" => Some("2"),
            "baidu" => Some("3"),
            _ => number,
        };
        rows.extend(channel_id.map(|channel_id| Row { bid, channel_id }));
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_is_known_by_its_name_or_by_the_address_of_the_page() {
        assert_eq!(known("Apple"), Some("0"));
        assert_eq!(known("BAIDU"), Some("3"));
        assert_eq!(known("channel-7"), None);
        assert_eq!(from_url("channel_id=7&x=1"), Some("7"));
        assert_eq!(from_url("https://host/a?query=1&channel_id=12"), Some("12"));
        assert_eq!(from_url("https://host/a?channel_id=12"), None);
        assert_eq!(from_url("https://host/a?b&channel_id="), Some(""));
    }
}
