//! rayon: a parallel iterator on a pool of one thread.

use core_affinity::CoreId;
use rayon::prelude::*;

use crate::case::Measured;
use crate::pin;
use crate::workload::chain::{fold_bits, keep, scramble};

/// The chain as a parallel iterator. rayon is not a stream processor: it knows all of its input before it starts.
///
/// # Panics
/// If a pool of one thread cannot be made.
pub(super) fn chain(items: u64, core: CoreId) -> Measured {
    // The pool's thread inherits the core of the thread that makes it.
    pin::on_one(core, || {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a pool of one thread");
        pin::timed(items, || {
            pool.install(|| {
                (0..std::hint::black_box(items))
                    .into_par_iter()
                    .map(scramble)
                    .filter(|item| keep(*item))
                    .map(fold_bits)
                    .reduce(|| 0, u64::wrapping_add)
            })
        })
    })
}
