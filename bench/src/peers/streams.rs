//! futures streams: the combinators of `futures-util`, polled to the end on one thread.

use std::future::ready;

use core_affinity::CoreId;
use futures_util::{FutureExt, StreamExt, stream};

use crate::case::Measured;
use crate::pin;
use crate::workload::chain::{fold_bits, keep, scramble};

/// The chain as a stream of ready items.
///
/// # Panics
/// If the stream is not ready at once, which would be a bug of ours.
pub(super) fn chain(items: u64, core: CoreId) -> Measured {
    pin::timed_on_one(items, core, || {
        stream::iter(0..std::hint::black_box(items))
            .map(scramble)
            .filter(|item| ready(keep(*item)))
            .map(fold_bits)
            .fold(0_u64, |sum, item| ready(sum.wrapping_add(item)))
            .now_or_never()
            .expect("every item is ready")
    })
}
