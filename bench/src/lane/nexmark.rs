//! Queries of NEXMark, on one core or two, each row of the answer in a checksum.

use super::run;
use crate::case::{Measured, Setup};
use crate::nexmark::{Feed, add_query};

/// The query called `query` over all of `feed`, on `cores` cores.
///
/// # Errors
/// There is no such query, or what kept it from running.
pub fn query(query: &str, feed: Feed, cores: usize, setup: &Setup) -> Result<Measured, String> {
    let map = if cores == 1 { "*={0}" } else { "*={0},{1}" };
    let (result, sums) = run(setup, map, |p| add_query(query, p, feed))?;
    let sums = sums.ok_or_else(|| format!("there is no query {query}"))?;
    let checksum = sums.take().into_iter().fold(0, u64::wrapping_add);
    Ok(Measured { items: feed.events.len() as u64, elapsed: result.duration, checksum })
}
