//! Sets of CPUs in the kernel's list syntax.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The kernel's number of a CPU, or a core number relative to the allowed set; the context says which.
pub type CpuId = u32;

/// The largest number a [`CpuList`] may hold.
pub const MAX_CPU: CpuId = 65_535;

/// A set of CPUs, in ascending order; reads and prints the kernel's list syntax (`0-3,8`).
///
/// Parsing is strict: decimal numbers without sign, leading zero or space, ranges in ascending order, no number
/// twice, nothing empty. Order between items is free (`8,0-3` is the same set).
///
/// ```
/// use corelane::topology::CpuList;
/// let list: CpuList = "0-2,8,9".parse()?;
/// assert_eq!(list.to_string(), "0-2,8-9");
/// assert!("3-1".parse::<CpuList>().is_err());
/// # Ok::<(), corelane::topology::CpuListError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CpuList(Vec<CpuId>);

/// Why a text is not a CPU list.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{token:?} at byte {position}: {problem}")]
pub struct CpuListError {
    /// The part of the text that is wrong.
    pub token: String,
    /// Where it starts, in bytes from the start of the text.
    pub position: usize,
    /// What is wrong with it.
    pub problem: CpuListProblem,
}

/// What is wrong with one token of a CPU list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CpuListProblem {
    /// A list without any number.
    #[error("a list needs at least one number")]
    Empty,
    /// Two commas in a row, or one at an end.
    #[error("there is nothing between the commas")]
    EmptyItem,
    /// A range without start or end.
    #[error("a range needs a number on both sides, like 0-3")]
    OpenRange,
    /// A range whose end lies before its start.
    #[error("a range goes from the smaller to the larger number")]
    Backwards,
    /// Signs, spaces, letters, hexadecimal digits.
    #[error("not a decimal number (no sign, space or prefix is allowed)")]
    NotANumber,
    /// `007`.
    #[error("a number must not start with a zero")]
    LeadingZero,
    /// Above [`MAX_CPU`].
    #[error("larger than {MAX_CPU}, the largest number there can be")]
    TooLarge,
    /// Named before in the same list.
    #[error("{0} is named twice")]
    Duplicate(CpuId),
    /// A colon behind another word than `node`, `l3` or `same`.
    #[error("before a colon there may be node, l3 or same")]
    UnknownGroup,
    /// `same:` and what cannot be the name of a stage.
    #[error("behind same: there must be the name of a stage")]
    NotAStage,
    /// `same:` for one instance of several.
    #[error("same: is for a whole stage, not for one of its instances")]
    SameAsInEach,
}

impl CpuList {
    /// No CPU at all. Not writable in the list syntax, but it is what two disjoint lists have in common.
    pub const EMPTY: Self = Self(Vec::new());

    /// The CPUs `0..count`.
    pub fn first_n(count: u32) -> Self {
        Self((0..count).collect())
    }

    /// Reads what a kernel file holds: the list syntax and a newline, where an empty line is the empty set.
    ///
    /// # Errors
    /// [`CpuListError`] names the first wrong token.
    pub fn from_kernel(text: &str) -> Result<Self, CpuListError> {
        match text.strip_suffix('\n').unwrap_or(text) {
            "" => Ok(Self::EMPTY),
            line => line.parse(),
        }
    }

    /// How many CPUs are in it.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether no CPU is in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `cpu` is in it. Logarithmic.
    pub fn contains(&self, cpu: CpuId) -> bool {
        self.0.binary_search(&cpu).is_ok()
    }

    /// The CPUs in ascending order.
    pub fn as_slice(&self) -> &[CpuId] {
        &self.0
    }

    /// The CPUs in ascending order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = CpuId> + Clone + '_ {
        self.0.iter().copied()
    }

    /// The `index`-th CPU in ascending order.
    pub fn get(&self, index: usize) -> Option<CpuId> {
        self.0.get(index).copied()
    }

    /// The lowest CPU.
    pub fn first(&self) -> Option<CpuId> {
        self.0.first().copied()
    }

    /// The CPUs in both lists.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        self.iter().filter(|&cpu| other.contains(cpu)).collect()
    }

    /// The CPUs of this list that are not in `other`.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        self.iter().filter(|&cpu| !other.contains(cpu)).collect()
    }

    /// The CPUs in at least one of the lists.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        self.iter().chain(other.iter()).collect()
    }
}

/// Numbers may come in any order and more than once.
impl FromIterator<CpuId> for CpuList {
    fn from_iter<I: IntoIterator<Item = CpuId>>(cpus: I) -> Self {
        Self(cpus.into_iter().collect::<BTreeSet<_>>().into_iter().collect())
    }
}

impl fmt::Display for CpuList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let runs = self.0.chunk_by(|a, b| a + 1 == *b);
        for (i, run) in runs.enumerate() {
            let comma = if i == 0 { "" } else { "," };
            match run {
                [first, .., last] => write!(f, "{comma}{first}-{last}")?,
                [only] => write!(f, "{comma}{only}")?,
                [] => {}
            }
        }
        Ok(())
    }
}

impl FromStr for CpuList {
    type Err = CpuListError;

    fn from_str(text: &str) -> Result<Self, CpuListError> {
        let error = |token: &str, position, problem| CpuListError { token: token.into(), position, problem };
        if text.is_empty() {
            return Err(error(text, 0, CpuListProblem::Empty));
        }
        let mut cpus = BTreeSet::new();
        let mut position = 0;
        for item in text.split(',') {
            let (first, last) = parse_item(item).map_err(|problem| error(item, position, problem))?;
            for cpu in first..=last {
                if !cpus.insert(cpu) {
                    return Err(error(item, position, CpuListProblem::Duplicate(cpu)));
                }
            }
            position += item.len() + 1;
        }
        Ok(cpus.into_iter().collect())
    }
}

/// `7` or `0-3`, as first and last number.
fn parse_item(item: &str) -> Result<(CpuId, CpuId), CpuListProblem> {
    match item.split_once('-') {
        _ if item.is_empty() => Err(CpuListProblem::EmptyItem),
        None => parse_number(item).map(|cpu| (cpu, cpu)),
        Some(("", _) | (_, "")) => Err(CpuListProblem::OpenRange),
        Some((first, last)) => {
            let range = (parse_number(first)?, parse_number(last)?);
            if range.0 > range.1 { Err(CpuListProblem::Backwards) } else { Ok(range) }
        }
    }
}

fn parse_number(digits: &str) -> Result<CpuId, CpuListProblem> {
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(CpuListProblem::NotANumber);
    }
    if digits.len() > 1 && digits.starts_with('0') {
        return Err(CpuListProblem::LeadingZero);
    }
    // All digits, so the only way to fail is to be too large.
    digits.parse().ok().filter(|&cpu| cpu <= MAX_CPU).ok_or(CpuListProblem::TooLarge)
}

impl TryFrom<String> for CpuList {
    type Error = CpuListError;
    fn try_from(text: String) -> Result<Self, CpuListError> {
        Self::from_kernel(&text)
    }
}

impl From<CpuList> for String {
    fn from(list: CpuList) -> String {
        list.to_string()
    }
}
