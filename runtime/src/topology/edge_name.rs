//! Names of edges.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::model::{IdError, StageId};

/// An edge, by its ends and where needed its label; written `decode->traces` or `keep/errors->join`.
///
/// ```
/// use corelane::topology::EdgeName;
///
/// let edge: EdgeName = "keep/errors->join".parse()?;
/// assert_eq!((edge.from.as_str(), edge.label.as_deref(), edge.to.as_str()), ("keep", Some("errors"), "join"));
/// assert_eq!(edge.to_string(), "keep/errors->join");
/// # Ok::<(), corelane::topology::EdgeNameError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EdgeName {
    /// The producing stage.
    pub from: StageId,
    /// Which of its outputs; without, every edge between the two stages is meant.
    pub label: Option<String>,
    /// The consuming stage.
    pub to: StageId,
}

/// Why a text does not name an edge.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EdgeNameError {
    /// No arrow.
    #[error("an edge is written from->to, or from/label->to")]
    NoArrow,
    /// An end that cannot be a stage.
    #[error(transparent)]
    Stage(#[from] IdError),
    /// A label that is empty or has a character that core maps use themselves.
    #[error("{0:?} cannot be a label here: it must not be empty nor hold = or ;")]
    Label(String),
}

impl FromStr for EdgeName {
    type Err = EdgeNameError;

    fn from_str(text: &str) -> Result<Self, EdgeNameError> {
        let (origin, to) = text.rsplit_once("->").ok_or(EdgeNameError::NoArrow)?;
        let (from, label) =
            origin.split_once('/').map_or((origin, None), |(from, label)| (from, Some(label)));
        if let Some(label) = label.filter(|label| label.is_empty() || label.contains(['=', ';'])) {
            return Err(EdgeNameError::Label(label.to_owned()));
        }
        Ok(Self { from: StageId::new(from)?, label: label.map(str::to_owned), to: StageId::new(to)? })
    }
}

impl fmt::Display for EdgeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.label {
            Some(label) => write!(f, "{}/{label}->{}", self.from, self.to),
            None => write!(f, "{}->{}", self.from, self.to),
        }
    }
}

impl TryFrom<String> for EdgeName {
    type Error = EdgeNameError;
    fn try_from(text: String) -> Result<Self, EdgeNameError> {
        text.parse()
    }
}

impl From<EdgeName> for String {
    fn from(edge: EdgeName) -> String {
        edge.to_string()
    }
}
