//! A pipeline whose state is much larger than its memory.

#![allow(dead_code, reason = "each test uses a part")]

use std::path::Path;

use corelane::flow::{Collected, Pipeline, PipelineBuilder};
use corelane::graph::GraphErrors;
use corelane::keyed::{
    Accumulator, CheckTime, FlushReason, SpillError, SpillSchema, StateOf, from_archive, to_archive,
};
use corelane::model::{Completeness, Cost};
use corelane::policy::{AccumulatorPolicy, SpillOptions};

/// A part of a session: its number, and which part.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part {
    pub(crate) session: u64,
    pub(crate) part: u64,
}

/// Puts the parts of sessions together, each with its bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sessions {
    pub(crate) spills: bool,
}

impl Sessions {
    /// Bytes of one part in the state.
    pub(crate) const PART: usize = 2_000;
}

/// A session, and a sum over all its bytes.
pub(crate) type Session = (u64, Vec<u64>, u64);

/// What is in every byte of a part.
fn filling(session: u64, part: u64) -> u8 {
    (session.wrapping_mul(31) ^ part.wrapping_mul(7)) as u8
}

impl Accumulator<Part> for Sessions {
    type Key = u64;
    type State = Vec<(u64, Vec<u8>)>;
    type Out = Session;

    fn key(&self, item: &Part) -> u64 {
        item.session
    }
    fn cost(&self, _: &Part) -> Cost {
        // What the allocator takes for it, and its place in the list.
        Cost::of_bytes(Self::PART as u64 + 64)
    }
    fn init(&mut self, _: &u64, _: &Part) -> Self::State {
        Vec::new()
    }
    fn update(&mut self, of: &mut StateOf<Part, Self>, item: Part) {
        of.state.push((item.part, vec![filling(item.session, item.part); Self::PART]));
    }
    fn check(&mut self, _: &mut StateOf<Part, Self>, _: CheckTime) -> Completeness<Session> {
        Completeness::Incomplete
    }
    fn flush_forced(&mut self, of: &mut StateOf<Part, Self>, _: FlushReason) -> Option<Session> {
        let sum = of.state.iter().flat_map(|(_, bytes)| bytes).map(|byte| u64::from(*byte)).sum();
        Some((of.key, of.state.iter().map(|(part, _)| *part).collect(), sum))
    }
    fn spill_schema(&self) -> Option<SpillSchema> {
        self.spills.then(SpillSchema::archive_of::<StateOf<Part, Self>>)
    }
    fn serialize_spill(&self, of: &StateOf<Part, Self>, into: &mut Vec<u8>) -> Result<(), SpillError> {
        to_archive(of, into)
    }
    fn deserialize_spill(&self, bytes: &[u8]) -> Result<StateOf<Part, Self>, SpillError> {
        from_archive(bytes)
    }
}

/// `parts` parts of each of `sessions` sessions, the first parts of all first.
pub(crate) fn session_pipeline(
    sessions: u64,
    parts: u64,
    policy: AccumulatorPolicy,
    dir: Option<&Path>,
    accumulator: Sessions,
) -> Result<(Pipeline, Collected<Session>), GraphErrors> {
    build(sessions, parts, policy, dir.map(SpillOptions::new), accumulator)
}

fn build(
    sessions: u64,
    parts: u64,
    policy: AccumulatorPolicy,
    options: Option<SpillOptions>,
    accumulator: Sessions,
) -> Result<(Pipeline, Collected<Session>), GraphErrors> {
    let mut p = PipelineBuilder::new("spilling");
    if let Some(options) = options {
        p = p.spill_to(options);
    }
    let part = move |i: u64| Part { session: i % sessions, part: i / sessions };
    let out = p
        .generate("parts", sessions.saturating_mul(parts), part)
        .accumulate("sessions", policy, accumulator)
        .collect("out");
    Ok((p.build()?, out))
}

pub(crate) fn pipeline_to(
    sessions: u64,
    parts: u64,
    policy: AccumulatorPolicy,
    options: SpillOptions,
) -> (Pipeline, Collected<Session>) {
    build(sessions, parts, policy, Some(options), Sessions { spills: true }).unwrap()
}

pub(crate) fn pipeline(
    sessions: u64,
    parts: u64,
    policy: AccumulatorPolicy,
    dir: &Path,
) -> (Pipeline, Collected<Session>) {
    pipeline_to(sessions, parts, policy, SpillOptions::new(dir))
}

/// What came out, by session.
pub(crate) fn collected(out: &Collected<Session>) -> Vec<Session> {
    let mut all = out.take();
    all.sort_unstable();
    all
}

/// More parts than any test waits for.
pub(crate) const ENDLESS: u64 = 1 << 40;

/// How many parts `session` must have when it has `parts`, one after the other from the first, and the sum of their bytes.
pub(crate) fn whole(session: u64, parts: &[u64]) -> (u64, u64) {
    let count = parts.last().map_or(0, |last| last + 1);
    assert!(parts.iter().copied().eq(0..count), "parts of {session} are missing or out of order: {parts:?}");
    (count, (0..count).map(|part| u64::from(filling(session, part)) * Sessions::PART as u64).sum())
}

/// What must come out.
pub(crate) fn expected(sessions: u64, parts: u64) -> Vec<Session> {
    let session = |session| {
        let sum = (0..parts).map(|part| u64::from(filling(session, part)) * Sessions::PART as u64).sum();
        (session, (0..parts).collect(), sum)
    };
    (0..sessions).map(session).collect()
}

/// The names in `dir`, without the lock.
pub(crate) fn files(dir: &Path) -> Vec<String> {
    let names =
        std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name != "corelane.lock").collect()
}
