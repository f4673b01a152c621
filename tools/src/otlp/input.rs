//! The requests of one or many inputs, in order.

use std::collections::VecDeque;
use std::sync::Arc;

use corelane::pool::MemoryPool;

use super::buffers::Buffers;
use super::error::InputError;
use super::framing::{Frame, Framing};
use super::source::{InputPath, InputProgress, Source};

/// Finds the raw requests of all inputs in the order given, and all of that again for each repetition.
///
/// Inputs are opened one at a time, when their turn comes. After the first error nothing more is yielded: the
/// bytes behind a damaged place cannot be told apart. Reading blocks; memory is one request (at most
/// [`MAX_FRAME_BYTES`](super::MAX_FRAME_BYTES), in the memory pool) and the read buffers.
pub struct RequestReader {
    inputs: Vec<InputPath>,
    repeat: u32,
    repetition: u32,
    next_input: usize,
    next_index: u64,
    open: Option<Framing>,
    /// Requests that need no reading.
    ready: VecDeque<Frame>,
    progress: InputProgress,
}

impl RequestReader {
    /// Checks that every input exists and may be read, so that such errors come before anything starts.
    ///
    /// `repeat` is the number of passes, at least one is made.
    ///
    /// # Errors
    ///
    /// The first input that cannot be used; [`InputError::StdinTwice`] when `-` is named twice or would have to
    /// be read again.
    pub fn open(inputs: Vec<InputPath>, repeat: u32) -> Result<Self, InputError> {
        let repeat = repeat.max(1);
        let stdin = inputs.iter().filter(|input| **input == InputPath::Stdin).count();
        if stdin > 1 || (stdin == 1 && repeat > 1) {
            return Err(InputError::StdinTwice);
        }
        let mut total = Some(0_u64);
        for input in &inputs {
            let size = input.check()?;
            total = total.zip(size).map(|(total, size)| total.saturating_add(size));
        }
        let total = total.map(|total| total.saturating_mul(u64::from(repeat)));
        let progress = InputProgress::new(total);
        Ok(RequestReader {
            inputs,
            repeat,
            repetition: 0,
            next_input: 0,
            next_index: 0,
            open: None,
            ready: VecDeque::new(),
            progress,
        })
    }

    /// Yields `frames`, once, numbered anew.
    pub fn of_frames(frames: Vec<Frame>) -> Self {
        let bytes = frames.iter().map(|frame| frame.bytes.len() as u64).sum();
        RequestReader {
            inputs: Vec::new(),
            repeat: 1,
            repetition: 0,
            next_input: 0,
            next_index: 0,
            open: None,
            ready: frames.into(),
            progress: InputProgress::new(Some(bytes)),
        }
    }

    /// How far reading has come; to be handed to a progress line on another core.
    pub fn progress(&self) -> InputProgress {
        self.progress.clone()
    }

    /// Reads into buffers of `pool`, from here on on the running thread. At the limit of the pool reading waits until frames are
    /// dropped on other threads.
    ///
    /// # Errors
    ///
    /// [`InputError::NoBuffer`] when the pool has no room for what it should make ready.
    pub fn read_into(self, pool: &MemoryPool) -> Result<Requests, InputError> {
        let input = self.inputs.first().map_or_else(|| Arc::from(""), InputPath::label);
        let opened = Buffers::open(pool);
        let buffers = opened.map_err(|cause| InputError::NoBuffer { input, offset: 0, cause })?;
        Ok(Requests { reader: self, buffers })
    }

    fn next_frame(&mut self, buffers: &Buffers) -> Result<Option<Frame>, InputError> {
        let result = self.advance(buffers);
        if result.is_err() {
            self.open = None;
            self.next_input = self.inputs.len();
            self.repetition = self.repeat;
        }
        result
    }

    fn advance(&mut self, buffers: &Buffers) -> Result<Option<Frame>, InputError> {
        if let Some(frame) = self.ready.pop_front() {
            self.progress.add(frame.bytes.len() as u64);
            let index = self.next_index;
            self.next_index += 1;
            return Ok(Some(Frame { index, ..frame }));
        }
        loop {
            if let Some(framing) = &mut self.open {
                if let Some((offset, bytes)) = framing.next(buffers)? {
                    let index = self.next_index;
                    self.next_index += 1;
                    return Ok(Some(Frame {
                        bytes,
                        encoding: framing.encoding(),
                        index,
                        repetition: self.repetition,
                        input: Arc::clone(framing.label()),
                        offset,
                    }));
                }
                self.open = None;
            }
            if self.next_input == self.inputs.len() {
                self.repetition = self.repetition.saturating_add(1);
                if self.repetition >= self.repeat || self.inputs.is_empty() {
                    return Ok(None);
                }
                self.next_input = 0;
            }
            let source = Source::open(&self.inputs[self.next_input], &self.progress)?;
            self.next_input += 1;
            self.open = Some(Framing::new(source)?);
        }
    }
}

/// The raw requests, read as they are asked for.
pub struct Requests {
    reader: RequestReader,
    buffers: Buffers,
}

impl Iterator for Requests {
    type Item = Result<Frame, InputError>;

    fn next(&mut self) -> Option<Self::Item> {
        let Requests { reader, buffers } = self;
        buffers.enter(|| reader.next_frame(buffers)).transpose()
    }
}
