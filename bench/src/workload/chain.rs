//! chain: three operators on one core, `x = i * K`, keep `x & 3 != 0`, `x ^ (x >> 7)`, and a wrapping sum.

use crate::case::{Case, Measured, Setup};
use crate::lane;
pub use crate::pipelines::{MULTIPLIER, fold_bits, keep, scramble};

/// Items per virtual call.
pub const BATCH: u64 = 1_024;
/// Items of a full run.
pub const ITEMS: u64 = 50_000_000;

/// The parts of an envelope that are seldom there.
#[derive(Clone, Debug, Default)]
pub struct Cold {
    /// Any headers.
    pub headers: Vec<(String, String)>,
}

/// An item with everything an item may carry: 24 bytes over the payload.
#[derive(Debug)]
pub struct Envelope {
    /// The item.
    pub payload: u64,
    /// Nanoseconds.
    pub timestamp: i64,
    /// Position in the source.
    pub seq: u64,
    /// The cold rest, absent in this workload.
    pub cold: Option<Box<Cold>>,
}

impl Envelope {
    /// What the source builds for item `index`.
    #[inline]
    pub fn at(index: u64) -> Self {
        Self { payload: index, timestamp: (index as i64).wrapping_mul(1_000), seq: index, cold: None }
    }

    /// What the end of the chain adds to the sum: every field takes part, so none may be lost on the way.
    #[inline]
    pub fn contribution(&self) -> u64 {
        let cold = self.cold.as_ref().map_or(0, |cold| cold.headers.len() as u64);
        self.payload.wrapping_add(self.timestamp as u64).wrapping_add(self.seq).wrapping_add(cold)
    }
}

/// The programs written by hand: what a careful programmer would write without a runtime.
pub mod hand {
    use std::hint::black_box;

    use core_affinity::CoreId;
    use rtrb::{Consumer, RingBuffer};

    use super::{BATCH, Envelope, fold_bits, keep, scramble};
    use crate::case::Measured;
    use crate::pin::{self, Gate, Span};

    /// One loop over all items, without any boundary.
    pub fn plain_loop(items: u64, core: CoreId) -> Measured {
        timed(
            items,
            core,
            || (),
            |(), items| {
                let mut sum = 0_u64;
                // Not from a known zero: the compiler would then know which items the filter drops, and leave it out.
                for item in black_box(0)..black_box(items) {
                    let item = scramble(item);
                    if keep(item) {
                        sum = sum.wrapping_add(fold_bits(item));
                    }
                }
                sum
            },
        )
    }

    /// The plain loop, and it counts the items that are kept, as a filter whose account is to close has to.
    pub fn counting_loop(items: u64, core: CoreId) -> Measured {
        timed(
            items,
            core,
            || (),
            |(), items| {
                let (mut sum, mut kept) = (0_u64, 0_u64);
                for item in black_box(0)..black_box(items) {
                    let item = scramble(item);
                    if keep(item) {
                        kept += 1;
                        sum = sum.wrapping_add(fold_bits(item));
                    }
                }
                // Looked at, so that it is counted.
                if black_box(kept) > items { 0 } else { sum }
            },
        )
    }

    /// The plain loop behind one virtual call for each [`BATCH`] items.
    pub fn bare(items: u64, core: CoreId) -> Measured {
        batched::<Bare>(items, core)
    }

    /// As [`bare`], over envelopes built at the source and read at the end.
    pub fn envelope(items: u64, core: CoreId) -> Measured {
        batched::<Enveloped>(items, core)
    }

    /// Slots of the ring between two cores.
    pub const SLOTS: usize = 16_384;

    /// The first operator on one core, the others on another, a chunked ring between them.
    pub fn split(items: u64, cores: &[CoreId]) -> Measured {
        let (mut out, inward) = RingBuffer::<u64>::new(SLOTS);
        let send = move |gate: &Gate| {
            let mut chunk = [0; BATCH as usize];
            let start = gate.wait();
            let mut next = 0;
            while next < items {
                let count = BATCH.min(items - next);
                chunk.iter_mut().zip(next..).for_each(|(slot, item)| *slot = scramble(item));
                while out.push_entire_slice(&chunk[..count as usize]).is_err() {}
                next += count;
            }
            Span::since(start)
        };
        sent_and_received(items, cores, send, inward, kept_sum)
    }

    /// As [`split`], over envelopes, which are written to the ring where they stay.
    pub fn split_envelope(items: u64, cores: &[CoreId]) -> Measured {
        let (mut out, inward) = RingBuffer::<Envelope>::new(SLOTS);
        let send = move |gate: &Gate| {
            let start = gate.wait();
            let mut next = 0;
            while next < items {
                let Ok(chunk) = out.write_chunk_uninit(BATCH.min(items - next) as usize) else { continue };
                next += chunk.fill_from_iter((next..items).map(scrambled)) as u64;
            }
            Span::since(start)
        };
        sent_and_received(items, cores, send, inward, kept_contributions)
    }

    /// `send` on one core, what arrives summed by `sum` on another, chunk by chunk.
    fn sent_and_received<T: Send>(
        items: u64,
        cores: &[CoreId],
        send: impl FnOnce(&Gate) -> Span + Send,
        mut inward: Consumer<T>,
        sum: fn(&[T]) -> u64,
    ) -> Measured {
        let receive = move |gate: &Gate| {
            let start = gate.wait();
            let (mut checksum, mut taken) = (0_u64, 0);
            while taken < items {
                let available = inward.slots().min(BATCH as usize);
                let Ok(chunk) = inward.read_chunk(available) else { continue };
                let (first, second) = chunk.as_slices();
                checksum = checksum.wrapping_add(sum(first)).wrapping_add(sum(second));
                taken += available as u64;
                chunk.commit_all();
            }
            (Span::since(start), checksum)
        };
        let (sent, (received, checksum)) = pin::on_two(cores, send, receive);
        Measured { items, elapsed: sent.union(received), checksum }
    }

    /// The envelope of item `index`, behind the first operator.
    #[inline]
    fn scrambled(index: u64) -> Envelope {
        let envelope = Envelope::at(index);
        Envelope { payload: scramble(envelope.payload), ..envelope }
    }

    /// As [`kept_sum`], of envelopes.
    fn kept_contributions(envelopes: &[Envelope]) -> u64 {
        let kept = envelopes.iter().filter(|envelope| keep(envelope.payload));
        // What an envelope adds is all of its fields: the payload is folded, the others stay.
        kept.fold(0, |sum, envelope| {
            let rest = envelope.contribution().wrapping_sub(envelope.payload);
            sum.wrapping_add(fold_bits(envelope.payload)).wrapping_add(rest)
        })
    }

    /// What the operators behind the first one make of a chunk.
    pub fn kept_sum(items: &[u64]) -> u64 {
        let kept = items.iter().filter(|item| keep(**item)).map(|item| fold_bits(*item));
        kept.fold(0, u64::wrapping_add)
    }

    trait Step {
        fn step(&mut self, from: u64, to: u64);
        fn sum(&self) -> u64;
    }

    #[derive(Default)]
    struct Bare(u64);

    impl Step for Bare {
        fn step(&mut self, from: u64, to: u64) {
            let mut sum = self.0;
            for item in from..to {
                let item = scramble(item);
                if keep(item) {
                    sum = sum.wrapping_add(fold_bits(item));
                }
            }
            self.0 = sum;
        }

        fn sum(&self) -> u64 {
            self.0
        }
    }

    #[derive(Default)]
    struct Enveloped(u64);

    impl Step for Enveloped {
        fn step(&mut self, from: u64, to: u64) {
            let mut sum = self.0;
            for index in from..to {
                let mut envelope = Envelope::at(index);
                envelope.payload = scramble(envelope.payload);
                if keep(envelope.payload) {
                    envelope.payload = fold_bits(envelope.payload);
                    sum = sum.wrapping_add(envelope.contribution());
                }
            }
            self.0 = sum;
        }

        fn sum(&self) -> u64 {
            self.0
        }
    }

    fn batched<S: Step + Default + 'static>(items: u64, core: CoreId) -> Measured {
        // The black box hides the type, so the call stays virtual.
        let build = || black_box(Box::<S>::default() as Box<dyn Step>);
        timed(items, core, build, |mut chain: Box<dyn Step>, items| {
            let mut from = 0;
            while from < items {
                let to = items.min(from + BATCH);
                chain.step(black_box(from), black_box(to));
                from = to;
            }
            chain.sum()
        })
    }

    fn timed<C>(
        items: u64,
        core: CoreId,
        build: impl FnOnce() -> C + Send,
        work: impl FnOnce(C, u64) -> u64 + Send,
    ) -> Measured {
        pin::on_one(core, || {
            let chain = build();
            let start = std::time::Instant::now();
            let checksum = work(chain, items);
            let span = Span::since(start);
            Measured { items, elapsed: span.union(span), checksum }
        })
    }
}

/// The right answer for bare items, by iterators.
pub fn expected_bare(items: u64) -> u64 {
    (0..items).map(scramble).filter(|&item| keep(item)).map(fold_bits).fold(0, u64::wrapping_add)
}

/// The right answer for envelopes: the bare one, and what the kept items carry besides.
pub fn expected_envelope(items: u64) -> u64 {
    let kept = (0..items).filter(|&index| keep(scramble(index)));
    kept.map(|index| index.wrapping_mul(1_001)).fold(expected_bare(items), u64::wrapping_add)
}

/// A run over bare items as a system of a case over envelopes: right there if it is right here.
pub fn beside_envelopes(run: Measured) -> Measured {
    run.standing_for(expected_bare(run.items), expected_envelope(run.items))
}

/// The comparisons: corelane's systems are added beside `hand`.
pub fn cases(setup: &Setup) -> Vec<Case> {
    let items = setup.scaled(ITEMS);
    let bare = Case::new("chain", "bare", 1, expected_bare(items))
        .work(format!("{} M u64, {BATCH} a virtual call", items / 1_000_000))
        .reference("hand")
        .reference("loop")
        .reference("counting-loop")
        .system("hand", move |setup| hand::bare(items, setup.cores[0]))
        .try_system("corelane", move |setup| lane::chain::bare(items, setup))
        .system("loop", move |setup| hand::plain_loop(items, setup.cores[0]))
        .system("counting-loop", move |setup| hand::counting_loop(items, setup.cores[0]));
    let envelope = Case::new("chain", "envelope", 1, expected_envelope(items))
        .work(format!("{} M envelopes of {} bytes", items / 1_000_000, size_of::<Envelope>()))
        .reference("hand")
        .system("hand", move |setup| hand::envelope(items, setup.cores[0]))
        .try_system("corelane", move |setup| lane::chain::envelope(items, setup))
        .system("bare-loop", move |setup| beside_envelopes(hand::plain_loop(items, setup.cores[0])));
    let millions = items / 1_000_000;
    let split = Case::new("chain", "split", 2, expected_bare(items))
        .work(format!("{millions} M u64, the first operator on one core, the others on the other"))
        .reference("hand")
        .system("hand", move |setup| hand::split(items, &setup.cores))
        .try_system("corelane", move |setup| lane::chain::split(items, setup));
    let split_envelope = Case::new("chain", "split-envelope", 2, expected_envelope(items))
        .work(format!("{millions} M envelopes, split as the bare items of the reference"))
        .reference("bare-hand")
        .reference("hand")
        .system("hand", move |setup| hand::split_envelope(items, &setup.cores))
        .system("bare-hand", move |setup| beside_envelopes(hand::split(items, &setup.cores)))
        .try_system("corelane", move |setup| lane::chain::split_envelope(items, setup));
    let mut cases = vec![bare, envelope];
    if setup.cores.len() >= 2 {
        cases.extend([split, split_envelope]);
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_envelope_is_24_bytes_over_its_payload() {
        assert_eq!(size_of::<Envelope>(), 32);
    }

    #[test]
    fn every_program_computes_what_the_oracle_does() {
        let core = crate::pin::allowed()[0];
        for items in [0, 1, BATCH, 3 * BATCH + 17] {
            assert_eq!(hand::plain_loop(items, core).checksum, expected_bare(items));
            assert_eq!(hand::counting_loop(items, core).checksum, expected_bare(items));
            assert_eq!(hand::bare(items, core).checksum, expected_bare(items));
            assert_eq!(hand::envelope(items, core).checksum, expected_envelope(items));
        }
    }

    #[test]
    fn the_split_programs_compute_what_the_oracle_does() {
        let cores = crate::pin::allowed();
        if cores.len() < 2 {
            return;
        }
        let setup =
            Setup { cores, driver: crate::case::Driver::Thread, quick: true, nexmark: Default::default() };
        for items in [1, BATCH, 3 * BATCH + 17] {
            assert_eq!(hand::split(items, &setup.cores).checksum, expected_bare(items));
            assert_eq!(lane::chain::split(items, &setup).unwrap().checksum, expected_bare(items));
            assert_eq!(hand::split_envelope(items, &setup.cores).checksum, expected_envelope(items));
            assert_eq!(
                lane::chain::split_envelope(items, &setup).unwrap().checksum,
                expected_envelope(items)
            );
        }
    }

    #[test]
    fn beside_envelopes_a_right_run_is_right_and_a_wrong_one_wrong() {
        let run = |checksum| Measured { items: 9, elapsed: std::time::Duration::ZERO, checksum };
        assert_eq!(beside_envelopes(run(expected_bare(9))).checksum, expected_envelope(9));
        assert_ne!(beside_envelopes(run(expected_bare(9) + 1)).checksum, expected_envelope(9));
    }

    #[test]
    fn the_oracle_agrees_with_a_sum_by_hand() {
        // Item 0 is dropped; items 1 and 2 end in 01 and 10 after the odd multiplier.
        let item = |index: u64| (index as u128 * u128::from(MULTIPLIER) % (1 << 64)) as u64;
        let sum = [1, 2, 3]
            .map(|index| item(index) ^ (item(index) / 128))
            .iter()
            .fold(0, |a: u64, b| a.wrapping_add(*b));
        assert_eq!(expected_bare(4), sum);
        assert_eq!(expected_envelope(4), sum.wrapping_add(6 * 1_001));
    }
}
