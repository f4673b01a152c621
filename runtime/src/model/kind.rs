//! What sort of thing a stage is.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The six kinds of stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StageKind {
    /// Brings items in. No input.
    Source,
    /// Makes items of items, one at a time.
    Transform,
    /// Gathers items by key until they make a result.
    Accumulator,
    /// Hands items to one or more of several outputs.
    Branch,
    /// Makes one stream of several.
    Merge,
    /// Takes items out. No output.
    Sink,
}

impl StageKind {
    /// Every kind, in the order of a pipeline.
    pub const ALL: [Self; 6] =
        [Self::Source, Self::Transform, Self::Accumulator, Self::Branch, Self::Merge, Self::Sink];

    /// The name, as serde writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Transform => "transform",
            Self::Accumulator => "accumulator",
            Self::Branch => "branch",
            Self::Merge => "merge",
            Self::Sink => "sink",
        }
    }
}

impl fmt::Display for StageKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_written_as_it_displays_and_reads_back() {
        for kind in StageKind::ALL {
            let text = serde_json::to_string(&kind).unwrap();
            assert_eq!(text, format!("\"{kind}\""));
            assert_eq!(serde_json::from_str::<StageKind>(&text).unwrap(), kind);
        }
    }

    #[test]
    fn an_unknown_kind_is_refused_and_padding_works() {
        assert!(serde_json::from_str::<StageKind>("\"Source\"").is_err());
        assert!(serde_json::from_str::<StageKind>("\"sinks\"").is_err());
        assert_eq!(format!("{:>7}", StageKind::Sink), "   sink");
    }
}
