//! Moving the shards of a stage while its pipeline runs.

use super::Monitor;
use crate::shard::{MoveError, Rebalance, ShardControl, ShardMove};

/// Why the shards of a stage cannot be moved at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotMovable {
    /// The graph has no such stage.
    #[error("there is no stage {0}")]
    UnknownStage(String),
    /// The stage was built without `rebalanced`, or has no shards: it is not keyed, or its state cannot move.
    #[error("stage {0} was not built to move shards: say `rebalanced` when building the pipeline")]
    NotAsked(String),
    /// There is nowhere to move them to.
    #[error("stage {0} has one instance: there is no other to move shards to")]
    OneInstance(String),
}

/// Why shards were not moved as told.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum MoveShardsError {
    /// They cannot be moved at all.
    #[error(transparent)]
    NotMovable(#[from] NotMovable),
    /// Not these, or not now.
    #[error(transparent)]
    Move(#[from] MoveError),
}

impl Monitor {
    /// Moves shards of stage `id` from its busiest instances to its idlest, judged by the items that came since the last call, as far as they have
    /// been published. Returns at once; the stage's [`ShardsState`](crate::observe::ShardsState) tells when the move is over. Nothing is lost
    /// or reordered by it; the instances concerned take no input meanwhile.
    ///
    /// # Errors
    /// [`NotMovable`]. That no shard needs to move, or none can now, is an answer: [`Rebalance::Kept`].
    pub fn rebalance(&self, id: &str) -> Result<Rebalance, NotMovable> {
        Ok(self.movable(id)?.rebalance())
    }

    /// Moves shards of stage `id` as told. The number of the move. Otherwise as [`rebalance`](Self::rebalance).
    ///
    /// # Errors
    /// [`MoveShardsError`]: none has been moved.
    pub fn move_shards(&self, id: &str, moves: &[ShardMove]) -> Result<u64, MoveShardsError> {
        Ok(self.movable(id)?.move_shards(moves)?)
    }

    fn movable(&self, id: &str) -> Result<&ShardControl, NotMovable> {
        let index = self.ids.iter().position(|stage| stage.as_str() == id);
        let index = index.ok_or_else(|| NotMovable::UnknownStage(id.to_owned()))?;
        self.shards(index).ok_or_else(|| match self.graph().nodes[index].rebalance {
            Some(_) => NotMovable::OneInstance(id.to_owned()),
            None => NotMovable::NotAsked(id.to_owned()),
        })
    }
}
