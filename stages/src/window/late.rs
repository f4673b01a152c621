//! What a window stage emits.

use corelane::model::{Batch, Envelope};

use super::{LateItems, Windowed};

/// A result, or an item that came too late for any.
#[derive(Clone, Debug, PartialEq)]
pub enum Fired<K, R, In> {
    /// A result.
    Result(Windowed<K, R>),
    /// An item whose windows have gone.
    Late(In),
}

impl<K, R, In> Fired<K, R, In> {
    /// Whether it is a result.
    pub const fn is_result(&self) -> bool {
        matches!(self, Self::Result(_))
    }

    /// The result, if it is one.
    pub fn into_result(self) -> Option<Windowed<K, R>> {
        match self {
            Self::Result(result) => Some(result),
            Self::Late(_) => None,
        }
    }

    /// The late item, if it is one.
    pub fn into_late(self) -> Option<In> {
        match self {
            Self::Result(_) => None,
            Self::Late(item) => Some(item),
        }
    }
}

/// Makes a batch of the envelopes of a window; late ones are dropped.
#[derive(Clone, Copy, Debug, Default)]
pub struct IntoBatch;

impl<P: Send + 'static, K: Send + 'static> LateItems<Envelope<P>, K, Vec<Envelope<P>>> for IntoBatch {
    type Out = Windowed<K, Batch<P>>;

    fn result(&self, result: Windowed<K, Vec<Envelope<P>>>) -> Windowed<K, Batch<P>> {
        let Windowed { key, window, value, pane } = result;
        let mut batch = Batch::new(window.start, window.end);
        batch.extend(value);
        Windowed { key, window, value: batch, pane }
    }

    fn late(&self, _item: Envelope<P>) -> Option<Windowed<K, Batch<P>>> {
        None
    }
}
