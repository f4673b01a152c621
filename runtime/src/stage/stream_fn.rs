//! Any function from a stream to a stream as a stage: the contract's `Process: StreamIn -> StreamOut`, literally.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures_core::Stream;

use super::gate::catch;
use super::{Chain, Gate, Operator, StageError, StageSite, StepCx};
use crate::model::Signal;
use crate::observe::StageAccount;
use crate::sync::Doorbell;

/// Inputs that may wait in front of a stream function.
const INPUT_CAPACITY: usize = 1024;
/// Outputs taken from a stream function at a time.
const OUTPUT_BATCH: usize = 256;

struct Inbox<T> {
    items: VecDeque<T>,
    taken: u64,
    ended: bool,
    waker: Option<Waker>,
}

/// The input of a stream function.
///
/// Ends when the stage's input has ended. Wakes its task when an item arrives.
pub struct StreamIn<T> {
    inbox: Rc<RefCell<Inbox<T>>>,
}

impl<T> Stream for StreamIn<T> {
    type Item = T;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let mut inbox = self.inbox.borrow_mut();
        if let Some(item) = inbox.items.pop_front() {
            inbox.taken += 1;
            return Poll::Ready(Some(item));
        }
        if inbox.ended {
            return Poll::Ready(None);
        }
        inbox.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

struct Flag {
    woken: AtomicBool,
    doorbell: Arc<Doorbell>,
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.store(true, Ordering::Release);
        self.doorbell.ring();
    }
}

/// The operator that runs a stream function.
///
/// Items it has taken count as passed, whatever it makes of them: a stream is free to merge, split and drop. Signals
/// wait until the function has taken every item before them; a watermark may therefore overtake what the function
/// still holds inside.
pub struct StreamFn<T, S> {
    inbox: Rc<RefCell<Inbox<T>>>,
    stream: Option<Pin<Box<S>>>,
    flag: Arc<Flag>,
    waker: Waker,
    gate: Gate,
    emitted: u64,
    discarded: u64,
    pending: Option<Signal>,
}

impl<T: 'static, S: Stream> StreamFn<T, S> {
    /// Runs what `f` makes of the input.
    pub fn new(f: impl FnOnce(StreamIn<T>) -> S, site: &StageSite) -> Self {
        let inbox =
            Rc::new(RefCell::new(Inbox { items: VecDeque::new(), taken: 0, ended: false, waker: None }));
        let flag = Arc::new(Flag { woken: AtomicBool::new(true), doorbell: Arc::clone(&site.doorbell) });
        Self {
            stream: Some(Box::pin(f(StreamIn { inbox: Rc::clone(&inbox) }))),
            inbox,
            waker: Waker::from(Arc::clone(&flag)),
            flag,
            gate: Gate::new(site),
            emitted: 0,
            discarded: 0,
            pending: None,
        }
    }

    /// Takes what the stream has ready, as far as there is room. True if anything moved.
    fn poll<D: Chain<S::Item>>(&mut self, down: &mut D, cx: &StepCx) -> bool {
        let Some(stream) = self.stream.as_mut() else { return false };
        let room = down.room().min(OUTPUT_BATCH);
        if room == 0 || !self.flag.woken.swap(false, Ordering::Acquire) {
            return false;
        }
        let mut task = Context::from_waker(&self.waker);
        for _ in 0..room {
            match catch(|| stream.as_mut().poll_next(&mut task)) {
                Ok(Poll::Ready(Some(item))) => {
                    self.emitted += 1;
                    down.run(std::iter::once(item), cx);
                }
                Ok(Poll::Ready(None)) => {
                    self.stream = None;
                    return true;
                }
                Ok(Poll::Pending) => return true,
                Err(panic) => {
                    // A stream that panicked must not be polled again.
                    self.stream = None;
                    self.gate.fail(panic, cx);
                    return true;
                }
            }
        }
        // Out of room before it was out of items: it is still to be polled.
        self.flag.woken.store(true, Ordering::Relaxed);
        true
    }

    fn settle<D: Chain<S::Item>>(&mut self, down: &mut D, cx: &StepCx) -> bool {
        let Some(signal) = self.pending else { return false };
        let done = match signal {
            Signal::End => self.stream.is_none(),
            _ => self.stream.is_none() || self.inbox.borrow().items.is_empty(),
        };
        if done && down.room() > 0 {
            self.pending = None;
            down.signal(signal, cx);
            return true;
        }
        false
    }
}

impl<T: 'static, S: Stream + 'static> Operator<T> for StreamFn<T, S> {
    type Out = S::Item;

    fn run<I: Iterator<Item = T>, D: Chain<S::Item>>(&mut self, items: I, _down: &mut D, _cx: &StepCx) {
        let mut inbox = self.inbox.borrow_mut();
        inbox.items.extend(items);
        if let Some(waker) = inbox.waker.take() {
            waker.wake();
        }
    }

    fn room<D: Chain<S::Item>>(&mut self, _down: &mut D) -> usize {
        if self.pending.is_some() {
            return 0;
        }
        let inbox = self.inbox.borrow();
        INPUT_CAPACITY.saturating_sub(inbox.items.len())
    }

    fn signal<D: Chain<S::Item>>(&mut self, signal: Signal, _down: &mut D, _cx: &StepCx) {
        self.pending = Some(signal);
        if signal == Signal::End {
            let mut inbox = self.inbox.borrow_mut();
            inbox.ended = true;
            self.flag.woken.store(true, Ordering::Relaxed);
            if let Some(waker) = inbox.waker.take() {
                waker.wake();
            }
        }
    }

    fn tick<D: Chain<S::Item>>(&mut self, down: &mut D, cx: &StepCx) -> bool {
        self.poll(down, cx) | self.settle(down, cx)
    }

    fn account(&self, account: &mut StageAccount) {
        let inbox = self.inbox.borrow();
        self.gate.account(account);
        account.waiting_retry = inbox.items.len() as u64;
        account.discarded = self.discarded;
        account.passed = account.received - account.waiting_retry - self.discarded;
        account.emitted = self.emitted;
    }

    fn last_error(&mut self) -> Option<String> {
        self.gate.take_last_error()
    }

    fn close(&mut self, _discard: bool) -> Result<(), StageError> {
        self.stream = None;
        let mut inbox = self.inbox.borrow_mut();
        self.discarded += inbox.items.len() as u64;
        inbox.items.clear();
        Ok(())
    }
}
