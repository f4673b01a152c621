//! Items of one window.

use serde::{Deserialize, Serialize};

use super::{Costed, Envelope, Timestamp};

/// Items gathered for a span of time, in the order they were added.
///
/// The window is half open: it starts at `window_start` and ends before `window_end`. It is a label: items are not
/// checked against it, as what happens to late ones is for the stage to decide.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "Raw<P>")]
pub struct Batch<P> {
    items: Vec<Envelope<P>>,
    window_start: Timestamp,
    window_end: Timestamp,
    total_bytes: u64,
    total_items: u64,
}

/// What of a batch is read back: the totals are counted again, not believed.
#[derive(Deserialize)]
struct Raw<P> {
    items: Vec<Envelope<P>>,
    window_start: Timestamp,
    window_end: Timestamp,
}

impl<P> From<Raw<P>> for Batch<P> {
    fn from(raw: Raw<P>) -> Self {
        let mut batch = Self::new(raw.window_start, raw.window_end);
        batch.extend(raw.items);
        batch
    }
}

impl<P> Batch<P> {
    /// An empty batch for the window from `window_start` to before `window_end`.
    pub const fn new(window_start: Timestamp, window_end: Timestamp) -> Self {
        Self { items: Vec::new(), window_start, window_end, total_bytes: 0, total_items: 0 }
    }

    /// Adds an item at the end. Its cost is counted as it is now.
    pub fn push(&mut self, item: Envelope<P>) {
        self.total_bytes = self.total_bytes.saturating_add(item.cost().bytes());
        self.total_items += 1;
        self.items.push(item);
    }

    /// The items, in order.
    pub fn items(&self) -> &[Envelope<P>] {
        &self.items
    }

    /// The items, in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Envelope<P>> {
        self.items.iter()
    }

    /// Where the window starts.
    pub const fn window_start(&self) -> Timestamp {
        self.window_start
    }

    /// The first time after the window.
    pub const fn window_end(&self) -> Timestamp {
        self.window_end
    }

    /// Whether `timestamp` lies in the window.
    pub fn covers(&self, timestamp: Timestamp) -> bool {
        self.window_start <= timestamp && timestamp < self.window_end
    }

    /// Bytes of all items, by their cost. Saturates.
    pub const fn total_bytes(&self) -> u64 {
        self.total_bytes
    }

    /// Number of items.
    pub const fn total_items(&self) -> u64 {
        self.total_items
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.total_items == 0
    }
}

impl<P> Extend<Envelope<P>> for Batch<P> {
    fn extend<I: IntoIterator<Item = Envelope<P>>>(&mut self, items: I) {
        items.into_iter().for_each(|item| self.push(item));
    }
}

impl<P> IntoIterator for Batch<P> {
    type Item = Envelope<P>;
    type IntoIter = std::vec::IntoIter<Envelope<P>>;

    fn into_iter(self) -> Self::IntoIter {
        self.items.into_iter()
    }
}

impl<'a, P> IntoIterator for &'a Batch<P> {
    type Item = &'a Envelope<P>;
    type IntoIter = std::slice::Iter<'a, Envelope<P>>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::Cost;

    proptest! {
        #[test]
        fn totals_are_what_counting_the_items_gives(costs in prop::collection::vec(prop::option::of(0u64..1000), 0..20)) {
            let mut batch = Batch::new(Timestamp(0), Timestamp(10));
            for (i, cost) in costs.iter().enumerate() {
                let item = Envelope::at(i, Timestamp(i as i64), i as u64);
                batch.push(match cost {
                    Some(bytes) => item.with_cost(Cost::of_bytes(*bytes)),
                    None => item,
                });
            }
            prop_assert_eq!(batch.total_items(), costs.len() as u64);
            prop_assert_eq!(batch.total_bytes(), costs.iter().flatten().sum::<u64>());
            prop_assert_eq!(batch.is_empty(), costs.is_empty());
            let back: Batch<usize> = serde_json::from_str(&serde_json::to_string(&batch).unwrap()).unwrap();
            prop_assert_eq!(&back, &batch);
            let order: Vec<_> = batch.into_iter().map(|item| item.payload).collect();
            prop_assert_eq!(order, (0..costs.len()).collect::<Vec<_>>());
        }
    }

    #[test]
    fn totals_written_in_a_file_are_not_believed() {
        let text =
            r#"{"items":[{"payload":1}],"window_start":0,"window_end":9,"total_bytes":99,"total_items":5}"#;
        let batch: Batch<u8> = serde_json::from_str(text).unwrap();
        assert_eq!((batch.total_bytes(), batch.total_items()), (0, 1));
    }

    #[test]
    fn a_window_holds_its_start_and_not_its_end() {
        let batch = Batch::<()>::new(Timestamp(-1), Timestamp(1));
        assert!(batch.covers(Timestamp(-1)) && batch.covers(Timestamp(0)));
        assert!(!batch.covers(Timestamp(1)) && !batch.covers(Timestamp(-2)));
    }

    #[test]
    fn bytes_saturate() {
        let mut batch = Batch::new(Timestamp(0), Timestamp(1));
        batch.extend([1, 2].map(|n| Envelope::new(n).with_cost(Cost::of_bytes(u64::MAX))));
        assert_eq!((batch.total_bytes(), batch.iter().count()), (u64::MAX, 2));
        assert_eq!((&batch).into_iter().map(|item| item.payload).sum::<i32>(), 3);
        assert_eq!(batch.items().len(), 2);
    }
}
