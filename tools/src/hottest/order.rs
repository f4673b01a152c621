//! The stage `in-order`.

use std::collections::BTreeSet;

use corelane::model::Timestamp;
use corelane::stage::{Output, StageError, Transform};
use corelane_bench::nexmark::q5::Row;

/// Lets rows go by window, and within a window by auction. They come from several cores, each in its own order; once event time
/// has reached the end of a window none of its rows is missing.
#[derive(Debug, Default)]
pub(super) struct InOrder {
    waiting: BTreeSet<Row>,
}

impl Transform for InOrder {
    type In = Row;
    type Out = Row;

    const HOLDS_ITEMS: bool = true;

    fn process(&mut self, row: Row, _out: &mut Output<'_, Row>) -> Result<(), StageError> {
        self.waiting.insert(row);
        Ok(())
    }

    fn on_watermark(&mut self, time: Timestamp, out: &mut Output<'_, Row>) -> Result<(), StageError> {
        while let Some(row) = self.waiting.pop_first() {
            if row.window.end > time {
                self.waiting.insert(row);
                break;
            }
            out.emit(row);
        }
        Ok(())
    }

    fn finish(&mut self, out: &mut Output<'_, Row>) -> Result<(), StageError> {
        std::mem::take(&mut self.waiting).into_iter().for_each(|row| out.emit(row));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use corelane::stage::StageSite;
    use corelane::testing::assert_stage;
    use corelane_stages::window::Window;

    use super::*;

    #[test]
    fn rows_of_two_cores_leave_by_window_and_auction() {
        let row = |start, auction| Row { window: Window::from_nanos(start, start + 10), auction, bids: 1 };
        assert_stage(
            |rows| rows.transform("in-order", |_: &StageSite| Ok(InOrder::default())),
            [row(0, 7), row(2, 5), row(0, 3), row(4, 1), row(2, 4)],
            [row(0, 3), row(0, 7), row(2, 4), row(2, 5), row(4, 1)],
        );
    }
}
