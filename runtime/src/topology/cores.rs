//! Sets of cores, as a core map names them.

use std::fmt;
use std::str::FromStr;

use crate::model::StageId;

use super::{CpuList, CpuListError, CpuListProblem};

const NODES: &str = "node:";
const CACHES: &str = "l3:";
const SAME: &str = "same:";

/// A set of cores, as a core map names it.
///
/// ```
/// use corelane::topology::Cores;
///
/// assert_eq!("*".parse(), Ok(Cores::All));
/// assert_eq!("0-2,7".parse(), Ok(Cores::List("0-2,7".parse()?)));
/// assert_eq!("node:1".parse(), Ok(Cores::Nodes("1".parse()?)));
/// assert_eq!("l3:0-1".parse(), Ok(Cores::Caches("0-1".parse()?)));
/// assert_eq!("same:decode".parse(), Ok(Cores::SameAs("decode".parse()?)));
/// let each = vec!["4".parse()?, "node:0".parse()?];
/// assert_eq!("4/node:0".parse(), Ok(Cores::Each(each)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cores {
    /// Every allowed core; written `*`.
    All,
    /// These cores, numbered within the allowed set: 0 is the first allowed core.
    List(CpuList),
    /// The allowed cores of these NUMA nodes, which have the kernel's numbers; written `node:0-1`.
    Nodes(CpuList),
    /// The allowed cores under these last-level caches, numbered as [`Cpu::l3`](super::Cpu::l3); written `l3:0`.
    Caches(CpuList),
    /// The cores of another stage, instance by instance; written `same:decode`.
    SameAs(StageId),
    /// A set for each instance, at least two and none of them [`SameAs`](Self::SameAs); written `0/4/node:1`. An instance runs
    /// on one core of its set: the one with the fewest instances of the stage so far.
    Each(Vec<Cores>),
}

impl fmt::Display for Cores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("*"),
            Self::List(list) => list.fmt(f),
            Self::Nodes(nodes) => write!(f, "{NODES}{nodes}"),
            Self::Caches(caches) => write!(f, "{CACHES}{caches}"),
            Self::SameAs(stage) => write!(f, "{SAME}{stage}"),
            Self::Each(sets) => sets.iter().enumerate().try_for_each(|(i, set)| {
                let slash = if i == 0 { "" } else { "/" };
                write!(f, "{slash}{set}")
            }),
        }
    }
}

impl FromStr for Cores {
    type Err = CpuListError;

    fn from_str(text: &str) -> Result<Self, CpuListError> {
        if !text.contains('/') {
            return one(text, 0);
        }
        let mut position = 0;
        let mut sets = Vec::new();
        for part in text.split('/') {
            let set = one(part, position)?;
            if matches!(set, Self::SameAs(_)) {
                let problem = CpuListProblem::SameAsInEach;
                return Err(CpuListError { token: part.into(), position, problem });
            }
            sets.push(set);
            position += part.len() + 1;
        }
        Ok(Self::Each(sets))
    }
}

/// A set that starts at byte `position`.
fn one(text: &str, position: usize) -> Result<Cores, CpuListError> {
    let list = |list: &str| {
        let position = position + text.len() - list.len();
        list.parse::<CpuList>().map_err(|error| CpuListError { position: position + error.position, ..error })
    };
    if text == "*" {
        Ok(Cores::All)
    } else if let Some(nodes) = text.strip_prefix(NODES) {
        list(nodes).map(Cores::Nodes)
    } else if let Some(caches) = text.strip_prefix(CACHES) {
        list(caches).map(Cores::Caches)
    } else if let Some(stage) = text.strip_prefix(SAME) {
        let problem = CpuListProblem::NotAStage;
        let error = |_| CpuListError { token: stage.into(), position: position + SAME.len(), problem };
        StageId::new(stage).map(Cores::SameAs).map_err(error)
    } else if text.contains(':') {
        Err(CpuListError { token: text.into(), position, problem: CpuListProblem::UnknownGroup })
    } else {
        list(text).map(Cores::List)
    }
}
