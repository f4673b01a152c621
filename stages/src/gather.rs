//! Items of a batch brought together before what follows sees any of them.

use corelane::flow::{Segment, Stream};
use corelane::observe::StageAccount;
use corelane::stage::{Chain, Operator, StageError, StageSite, StepCx};

/// Streams whose items can be gathered.
///
/// ```
/// use corelane::engine::Engine;
/// use corelane::flow::PipelineBuilder;
/// use corelane_stages::gather::Gather;
///
/// struct Order {
///     country: String,
/// }
/// // One event in fifty is an order, and what it says lies elsewhere.
/// let event = |n: u64| (n % 50 == 0).then(|| Box::new(Order { country: format!("{}", n % 3) }));
/// let p = PipelineBuilder::new("orders");
/// let there = p
///     .generate("events", 30_000, event)
///     .filter_map("orders", |event| event)
///     .gather("gathered")
///     .filter("there", |order| order.country == "2")
///     .fold("count", 0, |count, _| count + 1);
/// assert!(Engine::default().run(p.build()?)?.success);
/// assert_eq!(there.take().iter().sum::<u32>(), 200);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Gather: Sized {
    /// What is upstream.
    type Segment: Segment;

    /// Passes all items on, in their order, those of a batch right after each other.
    ///
    /// For what few items get to, and which reads memory that is far away for each of them. A chain takes an item from its source to its end
    /// before it takes the next one; with many in between that go no further, each that does waits for its memory alone. Behind this they wait
    /// together. Costs a copy of each item, and memory for those of a batch.
    fn gather(self, name: &str) -> Stream<impl Segment<Item = <Self::Segment as Segment>::Item> + use<Self>>;
}

impl<S: Segment> Gather for Stream<S> {
    type Segment = S;

    fn gather(self, name: &str) -> Stream<impl Segment<Item = S::Item> + use<S>> {
        self.operator(name, gathering)
    }
}

/// Makes the stage.
fn gathering<T>(_site: &StageSite) -> Result<Gathering<T>, StageError> {
    Ok(Gathering { items: Vec::new() })
}

/// Takes all items of a batch before it passes the first one on.
struct Gathering<T> {
    items: Vec<T>,
}

impl<T: 'static> Operator<T> for Gathering<T> {
    type Out = T;

    #[inline(always)]
    fn run<I: Iterator<Item = T>, D: Chain<T>>(&mut self, items: I, down: &mut D, cx: &StepCx) {
        items.for_each(|item| self.items.push(item));
        down.run(self.items.drain(..), cx);
    }

    #[inline]
    fn takes_signal<D: Chain<T>>(&mut self, down: &mut D) -> bool {
        down.takes_signal()
    }

    fn account(&self, account: &mut StageAccount) {
        account.pass_all_but(0);
    }
}

#[cfg(test)]
mod tests {
    use corelane::driver::Simulation;
    use corelane::flow::PipelineBuilder;

    use super::*;

    #[test]
    fn all_items_pass_in_their_order_and_those_of_a_batch_after_all_of_it_has_come() {
        use std::sync::atomic::{AtomicU64, Ordering};
        static COME: AtomicU64 = AtomicU64::new(0);
        let p = PipelineBuilder::new("gather");
        let out = p
            .generate("numbers", 10_000, |n| n)
            .inspect("come", |n| COME.store(*n, Ordering::Relaxed))
            .gather("gathered")
            .map("with-latest", |n| (n, COME.load(Ordering::Relaxed)))
            .collect("out");
        let result = Simulation::new(1).run(p.build().unwrap()).unwrap().result;
        result.account.verify().unwrap();
        let out = out.take();
        assert!(result.success && out.iter().map(|pair| pair.0).eq(0..10_000));
        // What follows always sees the end of a batch, which is more than one item.
        assert!(out.iter().all(|(n, latest)| latest >= n));
        assert!(out.windows(2).filter(|pair| pair[0].1 == pair[1].1).count() > 9_000);
    }
}
