//! Event time of several inputs as one.

use crate::model::{Signal, Timestamp};

/// What an input has to do with the common event time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// It counts.
    Aligned,
    /// It is back from a silence, behind what was given out meanwhile; it counts again once it has caught up.
    Behind,
    /// It has nothing for now.
    Idle,
    /// Nothing follows.
    Ended,
}

#[derive(Clone, Copy, Debug)]
struct Input {
    watermark: Timestamp,
    standing: Standing,
}

/// What goes out, in order.
pub(crate) type Due = [Option<Signal>; 2];

const NOTHING: Due = [None, None];

/// Combines the watermarks of several inputs: the least of those that count, never going back.
///
/// An idle input does not count. It is back with its next item or watermark, but counts only once it has caught up with
/// what was given out meanwhile, so that it cannot hold back event time by what is late anyway. When all inputs are
/// idle, the latest of their watermarks goes out, and then that this side is idle too. An input that has ended does not
/// count any more. Costs a look at each input per change.
#[derive(Debug)]
pub(crate) struct Valve {
    inputs: Vec<Input>,
    out: Timestamp,
    idle: bool,
}

impl Valve {
    pub(crate) fn new(inputs: usize) -> Self {
        let input = Input { watermark: Timestamp::MIN, standing: Standing::Aligned };
        Self { inputs: vec![input; inputs], out: Timestamp::MIN, idle: false }
    }

    /// The watermark of one input.
    pub(crate) fn input(&self, i: usize) -> Timestamp {
        self.inputs[i].watermark
    }

    #[inline]
    pub(crate) fn is_idle(&self, i: usize) -> bool {
        self.inputs[i].standing == Standing::Idle
    }

    #[inline]
    pub(crate) fn has_ended(&self, i: usize) -> bool {
        self.inputs[i].standing == Standing::Ended
    }

    pub(crate) fn all_ended(&self) -> bool {
        self.inputs.iter().all(|input| input.standing == Standing::Ended)
    }

    /// Input `i` has an item.
    #[inline]
    pub(crate) fn active(&mut self, i: usize) {
        if self.is_idle(i) {
            self.back(i);
        }
    }

    #[cold]
    fn back(&mut self, i: usize) {
        self.idle = false;
        self.inputs[i].standing = Standing::Behind;
        self.align(i);
    }

    fn align(&mut self, i: usize) {
        let input = &mut self.inputs[i];
        if input.standing == Standing::Behind && input.watermark >= self.out {
            input.standing = Standing::Aligned;
        }
    }

    /// Input `i` promises that no item before `time` follows.
    pub(crate) fn watermark(&mut self, i: usize, time: Timestamp) -> Due {
        self.active(i);
        let input = &mut self.inputs[i];
        input.watermark = input.watermark.max(time);
        self.align(i);
        self.settle()
    }

    /// Input `i` has nothing for now.
    pub(crate) fn idle(&mut self, i: usize) -> Due {
        if !self.has_ended(i) {
            self.inputs[i].standing = Standing::Idle;
        }
        self.settle()
    }

    /// Input `i` has ended.
    pub(crate) fn end(&mut self, i: usize) -> Due {
        self.inputs[i].standing = Standing::Ended;
        self.settle()
    }

    fn settle(&mut self) -> Due {
        let of = |standing| {
            self.inputs.iter().filter(move |input| input.standing == standing).map(|input| input.watermark)
        };
        let least = of(Standing::Aligned).min();
        if least.is_some() || of(Standing::Behind).next().is_some() {
            return [least.and_then(|time| self.advance(time)), None];
        }
        let Some(latest) = of(Standing::Idle).max() else { return NOTHING };
        let watermark = self.advance(latest);
        let idle = (!std::mem::replace(&mut self.idle, true)).then_some(Signal::Idle);
        [watermark, idle]
    }

    fn advance(&mut self, time: Timestamp) -> Option<Signal> {
        (time > self.out).then(|| {
            self.out = time;
            Signal::Watermark(time)
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Copy, Debug)]
    enum Op {
        Watermark(usize, i64),
        Item(usize),
        Idle(usize),
        End(usize),
    }

    fn op() -> impl Strategy<Value = Op> {
        let input = 0usize..3;
        prop_oneof![
            8 => (input.clone(), 0i64..40).prop_map(|(i, t)| Op::Watermark(i, t)),
            2 => input.clone().prop_map(Op::Item),
            2 => input.clone().prop_map(Op::Idle),
            1 => input.prop_map(Op::End),
        ]
    }

    proptest! {
        /// C10.
        #[test]
        fn what_goes_out_never_goes_back_and_never_passes_an_input_that_counts(
            ops in prop::collection::vec(op(), 0..60),
        ) {
            let mut valve = Valve::new(3);
            let mut out = Timestamp::MIN;
            for op in ops {
                let (Op::Watermark(input, _) | Op::Item(input) | Op::Idle(input) | Op::End(input)) = op;
                if valve.has_ended(input) {
                    continue;
                }
                let due = match op {
                    Op::Watermark(i, t) => valve.watermark(i, Timestamp(t)),
                    Op::Item(i) => { valve.active(i); NOTHING }
                    Op::Idle(i) => valve.idle(i),
                    Op::End(i) => valve.end(i),
                };
                for signal in due.into_iter().flatten() {
                    if let Signal::Watermark(time) = signal {
                        prop_assert!(time > out);
                        out = time;
                    }
                }
                for input in &valve.inputs {
                    prop_assert!(input.standing != Standing::Aligned || out <= input.watermark);
                }
                let counting = valve.inputs.iter().filter(|input| input.standing == Standing::Aligned);
                if let Some(least) = counting.map(|input| input.watermark).min() {
                    // Items bring inputs back in silence; the next change gives out what they allow.
                    prop_assert!(out == least || matches!(op, Op::Item(_)) || out == Timestamp::MIN);
                }
            }
        }
    }
}
