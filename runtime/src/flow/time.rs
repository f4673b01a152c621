//! Event time on a stream.

use super::closures::stage_of;
use super::segment::Segment;
use super::stream::Stream;
use crate::policy::Watermarks;
use crate::stage::{EventTime, WatermarkOp};

impl<S: Segment> Stream<S> {
    /// Puts watermarks between the items: `time` says when each happened, `strategy` how far event time has come then.
    ///
    /// Put it right behind the source, where the order of the items is still that of the source: every instance makes
    /// its own watermarks, and stages that read several take the least. Watermarks from upstream end here.
    ///
    /// ```
    /// use std::time::Duration;
    /// use corelane::flow::PipelineBuilder;
    /// use corelane::model::Timestamp;
    /// use corelane::policy::Watermarks;
    ///
    /// let p = PipelineBuilder::new("readings");
    /// let strategy = Watermarks::bounded(Duration::from_secs(5)).idle_after(Duration::from_secs(30));
    /// p.generate("readings", 1_000, |i| (i as i64, i % 10))
    ///     .watermarks("time", strategy, |(second, _)| Timestamp::from_nanos(second * 1_000_000_000))
    ///     .for_each("out", drop);
    /// # p.build().unwrap();
    /// ```
    pub fn watermarks<E, F>(
        self,
        name: &str,
        strategy: Watermarks,
        time: F,
    ) -> Stream<impl Segment<Item = S::Item> + use<S, E, F>>
    where
        E: Into<EventTime> + 'static,
        F: FnMut(&S::Item) -> E + Clone + Send + 'static,
    {
        self.operator(
            name,
            stage_of((strategy, time), |(strategy, time), site| WatermarkOp::new(strategy, time, site)),
        )
    }
}
