//! The inputs, read on a thread of their own, as a source.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use corelane::pool::MemoryPool;
use corelane::stage::{Chain, Emitter, Produced, Source, StageError, StageSite};
use corelane::sync::Doorbell;
use crossbeam::channel::{Receiver, Sender, TryRecvError, bounded};

use super::fault::Fault;
use super::items::Arrived;
use crate::clock::Clock;
use crate::otlp::{Frame, RequestReader};

/// Requests that may wait between the thread and the core. Together with one in each hand they bound its memory.
const WAITING_FRAMES: usize = 64;

/// Requests that go to one instance of `decode` before the next has its turn: few, so that the cores get equal
/// shares of a short input, and enough to pay for the turn.
const FRAMES_A_STEP: usize = 8;

/// What the source `read` is made of. Clones share it; there is one source.
#[derive(Clone)]
pub struct Feed {
    frames: Receiver<Arrived>,
    shared: Arc<Shared>,
    fault: Fault,
}

/// The thread that reads, before it starts.
pub struct FeedThread {
    frames: Sender<Arrived>,
    shared: Arc<Shared>,
    fault: Fault,
}

/// The thread that reads, as it goes.
pub struct Feeding(Arc<Shared>);

#[derive(Default)]
struct Shared {
    /// Of the core that takes the frames, once it is known.
    doorbell: OnceLock<Arc<Doorbell>>,
    frames: AtomicU64,
    reached_end: AtomicBool,
}

impl Shared {
    fn ring(&self) {
        if let Some(doorbell) = self.doorbell.get() {
            doorbell.ring();
        }
    }
}

impl Feed {
    /// Both ends of the way to the core. The first error of the input is left in `fault`; reading ends there.
    pub fn new(fault: Fault) -> (Self, FeedThread) {
        let (sender, frames) = bounded(WAITING_FRAMES);
        let shared = Arc::<Shared>::default();
        let thread = FeedThread { frames: sender, shared: Arc::clone(&shared), fault: fault.clone() };
        (Feed { frames, shared, fault }, thread)
    }

    /// The source that takes what is read.
    pub(super) fn source(self) -> FeedSource {
        FeedSource(self)
    }
}

impl FeedThread {
    /// Starts reading `requests` into buffers of `pool`, whose limit holds reading back.
    ///
    /// The thread ends with the input, with an error, or once nobody takes its frames any more. It cannot be called
    /// back from a read that blocks; it then ends with the process.
    ///
    /// # Errors
    ///
    /// The operating system's, when no thread can be started.
    pub fn start(self, requests: RequestReader, pool: MemoryPool, clock: Clock) -> io::Result<Feeding> {
        self.spawn(move |thread| thread.read(requests, &pool, clock))
    }

    /// As [`start`](Self::start), with requests that are in memory: each is handed over when it is due, in nanoseconds of `clock`,
    /// and counts as read at that time, also if the thread is late.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn start_at<R>(self, requests: R, clock: Clock) -> io::Result<Feeding>
    where
        R: Iterator<Item = (Frame, u64)> + Send + 'static,
    {
        self.spawn(move |thread| {
            for (frame, due_ns) in requests {
                while let Some(wait) = due_ns.checked_sub(clock.nanos()).filter(|wait| *wait > 0) {
                    thread::park_timeout(Duration::from_nanos(wait));
                }
                if !thread.hand_over(Arrived { frame, at_ns: due_ns }) {
                    return;
                }
            }
            thread.shared.reached_end.store(true, Ordering::Release);
        })
    }

    fn spawn(self, work: impl FnOnce(&Self) + Send + 'static) -> io::Result<Feeding> {
        let feeding = Feeding(Arc::clone(&self.shared));
        // Not a partition: it blocks in the operating system, which a core must never do.
        thread::Builder::new().name("corelane-read".to_owned()).spawn(move || {
            work(&self);
            let FeedThread { frames, shared, .. } = self;
            drop(frames); // the end is there before the bell rings
            shared.ring();
        })?;
        Ok(feeding)
    }

    fn read(&self, requests: RequestReader, pool: &MemoryPool, clock: Clock) {
        let requests = match requests.read_into(pool) {
            Ok(requests) => requests,
            Err(error) => return self.fault.raise_read(error),
        };
        for frame in requests {
            let frame = match frame {
                Ok(frame) => frame,
                Err(error) => return self.fault.raise_read(error),
            };
            if !self.hand_over(Arrived { frame, at_ns: clock.nanos() }) {
                return;
            }
        }
        self.shared.reached_end.store(true, Ordering::Release);
    }

    /// Whether anybody still takes frames.
    fn hand_over(&self, arrived: Arrived) -> bool {
        if self.frames.send(arrived).is_err() {
            return false;
        }
        self.shared.frames.fetch_add(1, Ordering::Relaxed);
        self.shared.ring();
        true
    }
}

impl Feeding {
    /// Whether all of the input has been read.
    pub fn reached_end(&self) -> bool {
        self.0.reached_end.load(Ordering::Acquire)
    }

    /// Requests handed on so far.
    pub fn frames(&self) -> u64 {
        self.0.frames.load(Ordering::Relaxed)
    }
}

/// The source `read`.
pub(super) struct FeedSource(Feed);

impl Source for FeedSource {
    type Item = Arrived;

    fn open(&mut self, site: &StageSite) -> Result<(), StageError> {
        // There is one instance, opened once; were there more, the first would be rung.
        self.0.shared.doorbell.get_or_init(|| Arc::clone(&site.doorbell));
        Ok(())
    }

    fn produce<C: Chain<Arrived>>(
        &mut self,
        out: &mut Emitter<'_, Arrived, C>,
    ) -> Result<Produced, StageError> {
        if self.0.fault.is_undecodable() {
            return Ok(Produced::End);
        }
        let mut stopped_by = None;
        let frames = &self.0.frames;
        let next = || frames.try_recv().map_err(|error| stopped_by = Some(error)).ok();
        out.emit_all(&mut std::iter::from_fn(next).take(FRAMES_A_STEP));
        Ok(match stopped_by {
            None => Produced::More,
            Some(TryRecvError::Empty) => Produced::Idle,
            Some(TryRecvError::Disconnected) => Produced::End,
        })
    }
}
