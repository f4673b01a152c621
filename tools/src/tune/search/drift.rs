//! How far a machine wanders while it is measured: heat, neighbours and the host's own doings make everything slower or faster for minutes.
//!
//! A bootstrap interval of one run knows nothing of that. Here the level is taken to be a random walk under noise (the local level model of
//! time series), seen through medians of few long blocks: bursts of disturbance are shorter than half of one, and no drift. Each block says by itself how
//! far its median can be trusted: where half of the trials are disturbed it jumps, and that is no drift either. How fast the level walks is
//! uncertain, so all speeds are weighed by how well they explain what was seen.

use corelane_bench::stats::{Summary, summarise};

/// A level and the second at which it was seen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Seen {
    pub at: f64,
    pub level: f64,
}

/// What was seen is cut into so many blocks.
const BLOCKS: usize = 6;
/// With fewer levels in each nothing is said.
const SHORTEST_BLOCK: usize = 6;
/// Speeds that are weighed, from none to `FASTEST` times what the blocks would show without any noise.
const SPEEDS: usize = 64;
const FASTEST: f64 = 3.0;
/// The middles of two adjacent blocks of a walk are two thirds as far apart, squared, as the walk goes in that time.
const SMOOTHED: f64 = 1.5;
/// Deviations on each side within which 95 of 100 normal values lie.
pub(super) const DEVIATIONS_OF_95: f64 = 1.96;
/// What a block can be trusted at most, as a variance: a likelihood needs some doubt where all levels are the same.
const LEAST_NOISE: f64 = 1e-12;

/// The median of some levels, one after the other.
struct Block {
    at: f64,
    level: f64,
    /// The variance of the median.
    noise: f64,
}

/// The variance that the level gains in a second, from what was `seen` in the order of time; `None` if that is too little to say.
pub(super) fn variance_per_second(seen: &[Seen]) -> Option<f64> {
    let blocks = blocks(seen)?;
    let steps = blocks.windows(2).map(|pair| (pair[1].level - pair[0].level).powi(2)).sum::<f64>();
    let time = blocks[blocks.len() - 1].at - blocks[0].at;
    let fastest = FASTEST * (steps / time).sqrt();
    if !fastest.is_normal() {
        return Some(0.0);
    }
    let speeds = (0..SPEEDS).map(|index| (fastest * index as f64 / (SPEEDS - 1) as f64).powi(2));
    let weighed: Vec<(f64, f64)> = speeds.map(|speed| (speed, likelihood(&blocks, speed))).collect();
    let most = weighed.iter().map(|(_, likelihood)| *likelihood).fold(f64::NEG_INFINITY, f64::max);
    let weight = |likelihood: f64| (likelihood - most).exp();
    let sum: f64 = weighed.iter().map(|(_, likelihood)| weight(*likelihood)).sum();
    Some(SMOOTHED * weighed.iter().map(|(speed, likelihood)| speed * weight(*likelihood)).sum::<f64>() / sum)
}

fn blocks(seen: &[Seen]) -> Option<Vec<Block>> {
    let length = seen.len() / BLOCKS;
    if length < SHORTEST_BLOCK {
        return None;
    }
    let block = |levels: &[Seen]| {
        let Summary { median, interval, .. } =
            summarise(&levels.iter().map(|seen| seen.level).collect::<Vec<_>>())?;
        let at = levels.iter().map(|seen| seen.at).sum::<f64>() / levels.len() as f64;
        let deviation = (interval.high - interval.low) / (2.0 * DEVIATIONS_OF_95);
        Some(Block { at, level: median, noise: deviation.powi(2).max(LEAST_NOISE) })
    };
    // The last ones that do not fill a block are left out.
    let blocks: Vec<Block> = seen.chunks_exact(length).take(BLOCKS).filter_map(block).collect();
    blocks.windows(2).all(|pair| pair[1].at > pair[0].at).then_some(blocks)
}

/// The logarithm of how likely `blocks` are if the level gains `speed` in variance each second: a Kalman filter, which begins where the first block is.
fn likelihood(blocks: &[Block], speed: f64) -> f64 {
    let (mut level, mut doubt, mut sum) = (blocks[0].level, blocks[0].noise, 0.0);
    for pair in blocks.windows(2) {
        let noise = pair[1].noise;
        doubt += speed * (pair[1].at - pair[0].at);
        let (surprise, expected) = (pair[1].level - level, doubt + noise);
        sum -= (expected.ln() + surprise.powi(2) / expected) / 2.0;
        level += surprise * doubt / expected;
        doubt *= noise / expected;
    }
    sum
}

#[cfg(test)]
mod tests {
    use corelane_bench::stats::median;

    use super::*;

    fn normal(random: &mut fastrand::Rng) -> f64 {
        (0..12).map(|_| random.f64()).sum::<f64>() - 6.0
    }

    /// Levels of a walk with this deviation after a second, under noise of 0.05 with outliers, two a second.
    fn walked(seed: u64, count: usize, speed: f64) -> Vec<Seen> {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut level = 7.0;
        let seen = |index: usize| {
            level += speed * 0.5f64.sqrt() * normal(&mut random);
            let outlier = if random.u8(..) < 10 { random.f64() } else { 0.0 };
            Seen { at: index as f64 / 2.0, level: level + 0.05 * normal(&mut random) + outlier }
        };
        (0..count).map(seen).collect()
    }

    #[test]
    fn the_speed_of_a_walk_is_found_under_noise_and_outliers() {
        for speed in [0.01, 0.03, 0.1] {
            let found: Vec<f64> = (0..100)
                .filter_map(|seed| variance_per_second(&walked(seed, 300, speed)))
                .map(|variance| variance.sqrt() / speed)
                .collect();
            let middle = median(&found).unwrap();
            let low = found.iter().filter(|ratio| **ratio < 0.5).count();
            // Rather too fast: the few steps that there are leave that open.
            assert!(
                (0.8..2.0).contains(&middle) && low <= 10,
                "{speed}: x{middle}, {low} of 100 far too slow"
            );
        }
    }

    #[test]
    fn a_machine_that_stands_still_is_hardly_said_to_walk() {
        let found: Vec<f64> =
            (0..100).filter_map(|seed| variance_per_second(&walked(seed, 300, 0.0))).collect();
        // Over as long a time as was looked at, less than the noise of a single level.
        let deviation = (median(&found).unwrap() * 150.0).sqrt();
        assert!(deviation < 0.05, "{deviation}");
    }

    #[test]
    fn bursts_of_disturbance_are_no_drift() {
        let speed = |disturbed: bool| {
            let mut seen = walked(7, 300, 0.01);
            if disturbed {
                seen[60..80].iter_mut().for_each(|seen| seen.level += 2.0);
                seen[210..220].iter_mut().for_each(|seen| seen.level += 3.0);
            }
            variance_per_second(&seen).unwrap().sqrt()
        };
        assert!(speed(true) < 4.0 * speed(false), "{} and {}", speed(true), speed(false));
    }

    #[test]
    fn a_median_that_jumps_because_half_of_its_trials_are_disturbed_is_no_drift() {
        const LEVELS: usize = 90;
        let found = (0..100).filter_map(|seed| {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut seen = walked(seed, LEVELS, 0.0);
            for block in [2, 4].map(|block| block * LEVELS / BLOCKS..(block + 1) * LEVELS / BLOCKS) {
                seen[block].iter_mut().for_each(|seen| seen.level += if random.bool() { 2.3 } else { 0.0 });
            }
            variance_per_second(&seen)
        });
        // Over as long a time as was looked at, less than from one to the other.
        let deviation = (median(&found.collect::<Vec<_>>()).unwrap() * LEVELS as f64 / 2.0).sqrt();
        assert!(deviation < 2.3, "{deviation}");
    }

    #[test]
    fn nothing_is_said_of_few_levels_and_nothing_wanders_where_all_are_the_same() {
        assert_eq!(variance_per_second(&walked(1, SHORTEST_BLOCK * BLOCKS - 1, 0.1)), None);
        assert!(variance_per_second(&walked(1, SHORTEST_BLOCK * BLOCKS, 0.1)).is_some());
        let same: Vec<Seen> = (0..60).map(|at| Seen { at: f64::from(at), level: 3.0 }).collect();
        assert_eq!(variance_per_second(&same), Some(0.0));
        assert_eq!(variance_per_second(&[Seen { at: 1.0, level: 1.0 }; 60]), None, "no time went by");
    }
}
