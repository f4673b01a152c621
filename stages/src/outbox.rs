//! From a sink to a thread that writes: it may block in the operating system, which a core must never do.
//!
//! One batch may wait while another is written. What comes meanwhile is collected in the sink, so that batches grow when the
//! thread is slow and are small when it is not.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use corelane::sync::Doorbell;
use crossbeam::channel::{Receiver, Sender, TrySendError, bounded};

/// What a sink collects for its thread.
pub trait Batch: Default + Send + 'static {
    /// How many bytes there are to write; with none it is not handed over.
    fn bytes(&self) -> usize;

    /// Empties it. Its memory may be kept: it is filled again.
    fn clear(&mut self);
}

impl Batch for Vec<u8> {
    fn bytes(&self) -> usize {
        self.len()
    }

    fn clear(&mut self) {
        self.clear();
    }
}

/// The thread has let go of its [`Inbox`] with something left to hand over. Why, only the thread knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the thread that writes has ended")]
pub struct ThreadGone;

#[derive(Default)]
struct Shared {
    /// Of the core of the sink, once it is known.
    doorbell: OnceLock<Arc<Doorbell>>,
    /// The thread has ended.
    done: AtomicBool,
}

impl Shared {
    fn ring(&self) {
        if let Some(doorbell) = self.doorbell.get() {
            doorbell.ring();
        }
    }
}

/// The sink's end: what is being collected, and the way to the thread. None of its calls waits.
///
/// Clones share the way, and are for factories of sinks: one sink only is to use it.
pub struct Outbox<B> {
    batch: B,
    /// `None` once everything has been handed over.
    batches: Option<Sender<B>>,
    /// Empty again, to be filled.
    used: Receiver<B>,
    shared: Arc<Shared>,
}

/// The thread's end. Dropped, however that comes about, it tells the sink that the thread has ended.
pub struct Inbox<B> {
    batches: Receiver<B>,
    used: Sender<B>,
    /// Dropped behind `batches`: who is woken must find that nobody takes anything any more.
    end: Ended,
}

struct Ended(Arc<Shared>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.done.store(true, Ordering::Release);
        self.0.ring();
    }
}

impl<B: Default> Clone for Outbox<B> {
    fn clone(&self) -> Self {
        let Self { batches, used, shared, .. } = self;
        Self { batch: B::default(), batches: batches.clone(), used: used.clone(), shared: Arc::clone(shared) }
    }
}

impl<B: Batch> Outbox<B> {
    /// Both ends of the way.
    pub fn new() -> (Self, Inbox<B>) {
        let (batches, filled) = bounded(1);
        let (returned, used) = bounded(2);
        let shared = Arc::<Shared>::default();
        let inbox = Inbox { batches: filled, used: returned, end: Ended(Arc::clone(&shared)) };
        (Self { batch: B::default(), batches: Some(batches), used, shared }, inbox)
    }

    /// Has `doorbell` rung when a batch was taken, and when the thread has ended. Only the first call counts.
    pub fn wake(&self, doorbell: &Arc<Doorbell>) {
        self.shared.doorbell.get_or_init(|| Arc::clone(doorbell));
    }

    /// What is being collected.
    pub fn batch(&mut self) -> &mut B {
        &mut self.batch
    }

    /// Hands over what has been collected. True if nothing is left here.
    ///
    /// # Errors
    ///
    /// [`ThreadGone`], again and again; what was collected stays.
    pub fn hand_over(&mut self) -> Result<bool, ThreadGone> {
        let Some(batches) = &self.batches else { return Ok(true) };
        if self.batch.bytes() == 0 {
            return Ok(true);
        }
        match batches.try_send(std::mem::take(&mut self.batch)) {
            Ok(()) => {
                self.batch = self.used.try_recv().unwrap_or_default();
                Ok(true)
            }
            Err(TrySendError::Full(batch)) => {
                self.batch = batch;
                Ok(false)
            }
            Err(TrySendError::Disconnected(batch)) => {
                self.batch = batch;
                Err(ThreadGone)
            }
        }
    }

    /// The answer of [`Sink::room`](corelane::stage::Sink::room): none while `most_bytes` or more wait here. As that is asked on every
    /// step, this is where a batch that found another one waiting is tried again. An error is left to the next
    /// [`hand_over`](Self::hand_over), which can report it.
    pub fn room(&mut self, most_bytes: usize) -> usize {
        match self.hand_over() {
            Ok(_) if self.batch.bytes() >= most_bytes => 0,
            _ => usize::MAX,
        }
    }

    /// Hands over what is left, and then the end: the thread has no further batch. True once the thread has ended as well.
    ///
    /// # Errors
    ///
    /// [`ThreadGone`] if something is left.
    pub fn finish(&mut self) -> Result<bool, ThreadGone> {
        if !self.hand_over()? {
            return Ok(false);
        }
        self.batches = None;
        Ok(self.shared.done.load(Ordering::Acquire))
    }
}

impl<B: Batch> Inbox<B> {
    /// Waits for the next batch; `None` behind the last one.
    pub fn take(&self) -> Option<B> {
        let batch = self.batches.recv().ok()?;
        self.end.0.ring(); // there is room for the next
        Some(batch)
    }

    /// Lets the sink fill the memory of `batch` again.
    pub fn give_back(&self, mut batch: B) {
        batch.clear();
        let _ = self.used.try_send(batch); // only saves an allocation
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn collect(outbox: &mut Outbox<Vec<u8>>, text: &[u8]) -> Result<bool, ThreadGone> {
        outbox.batch().extend_from_slice(text);
        outbox.hand_over()
    }

    #[test]
    fn what_comes_while_a_batch_waits_goes_together_and_in_order() {
        let (mut outbox, inbox) = Outbox::<Vec<u8>>::new();
        assert_eq!(collect(&mut outbox, b"a"), Ok(true));
        assert_eq!(collect(&mut outbox, b"b"), Ok(false));
        assert_eq!(collect(&mut outbox, b"c"), Ok(false));
        assert_eq!((outbox.room(3), outbox.room(2)), (usize::MAX, 0));
        assert_eq!(inbox.take().as_deref(), Some(&b"a"[..]));
        assert_eq!(outbox.room(2), usize::MAX, "handed over when asked for room");
        assert_eq!(outbox.finish(), Ok(false), "the thread has not ended");
        assert_eq!((inbox.take().as_deref(), inbox.take()), (Some(&b"bc"[..]), None));
        drop(inbox);
        assert_eq!(outbox.finish(), Ok(true));
    }

    #[test]
    fn memory_that_was_given_back_is_filled_again() {
        let (mut outbox, inbox) = Outbox::<Vec<u8>>::new();
        inbox.give_back(Vec::with_capacity(1_000));
        assert_eq!(collect(&mut outbox, b"a"), Ok(true));
        assert_eq!((outbox.batch().len(), outbox.batch().capacity()), (0, 1_000));
    }

    #[test]
    fn a_thread_that_has_gone_is_reported_until_the_sink_gives_up_and_loses_nothing_that_was_collected() {
        let (mut outbox, inbox) = Outbox::<Vec<u8>>::new();
        drop(inbox);
        assert_eq!(collect(&mut outbox, b"a"), Err(ThreadGone));
        assert_eq!(outbox.room(1), usize::MAX);
        assert_eq!((outbox.hand_over(), outbox.finish()), (Err(ThreadGone), Err(ThreadGone)));
        assert_eq!(outbox.batch(), b"a");
    }
}
