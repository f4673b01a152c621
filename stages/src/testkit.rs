//! The end of a chain that keeps everything, for tests by hand.

use corelane::model::{Now, Signal, StageId};
use corelane::stage::{Chain, Pending, StageError, StepCx};

struct Sink<T>(Vec<T>);

impl<T: 'static> Chain<T> for Sink<T> {
    fn run<I: Iterator<Item = T>>(&mut self, items: I, _cx: &StepCx) {
        self.0.extend(items);
    }
    fn room(&mut self) -> usize {
        usize::MAX
    }
    fn signal(&mut self, _signal: Signal, _cx: &StepCx) {}
    fn tick(&mut self, _cx: &StepCx) -> bool {
        false
    }
    fn flush(&mut self, _cx: &StepCx) {}
    fn next_deadline(&self, _now: i64) -> Option<i64> {
        None
    }
    fn is_finished(&self) -> bool {
        false
    }
    fn open(&mut self) -> Result<(), (StageId, StageError)> {
        Ok(())
    }
    fn report(&mut self, _received: u64) {}
    fn close(&mut self, _discard: bool) {}
}

/// Takes what waits in `out`.
pub(crate) fn drain<T: 'static>(out: &mut Pending<T>) -> Vec<T> {
    let mut sink = Sink(Vec::new());
    out.settle(&mut sink, &StepCx::new(Now::default()));
    sink.0
}
