//! Rows on their way from a core to the screen.

use std::sync::Arc;

use corelane_bench::nexmark::q5::Row;
use crossbeam::queue::ArrayQueue;

/// Rows that wait to be seen at most.
const ROWS: usize = 256;

/// Holds the latest rows until they are seen. The core that posts them never waits: what is not seen in time gives way to what
/// comes later. Clones share it.
#[derive(Clone, Debug)]
pub struct Board(Arc<ArrayQueue<Row>>);

impl Default for Board {
    fn default() -> Self {
        Self(Arc::new(ArrayQueue::new(ROWS)))
    }
}

impl Board {
    /// Adds a row.
    pub fn post(&self, row: Row) {
        self.0.force_push(row);
    }

    /// Takes the rows that were posted since the last time, in order; at most as many as fit.
    pub fn take(&self) -> impl Iterator<Item = Row> {
        std::iter::from_fn(|| self.0.pop()).take(ROWS)
    }
}

#[cfg(test)]
mod tests {
    use corelane_stages::window::Window;

    use super::*;

    #[test]
    fn the_latest_rows_stay_and_are_seen_once_in_their_order() {
        let row = |auction| Row { window: Window::from_nanos(0, 1), auction, bids: 1 };
        let (board, there) = (Board::default(), Board::default());
        (0..ROWS as u64 + 3).for_each(|auction| board.post(row(auction)));
        let seen: Vec<u64> = board.take().map(|row| row.auction).collect();
        assert_eq!(seen, (3..ROWS as u64 + 3).collect::<Vec<_>>());
        assert_eq!((board.take().count(), there.take().count()), (0, 0));
    }
}
