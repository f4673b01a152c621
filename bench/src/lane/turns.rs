//! A source whose instances take turns.

use std::ops::Range;

use corelane::stage::{Chain, Emitter, Produced, Source, StageError, StageSite};

use crate::workload::tumbling::part;

/// Makes item `i` of `0..count` by `item`, each instance the blocks that are its turn: so all of them get on evenly.
///
/// Each core that the core map gives the source builds its own.
pub(super) fn in_turn<T: 'static, F: FnMut(u64) -> T + 'static>(
    count: u64,
    site: &StageSite,
    item: F,
) -> impl Source<Item = T> + use<T, F> {
    let (instance, instances) = (site.context.instance as u64, site.context.parallelism.max(1) as u64);
    InTurn { blocks: part(count, instance, instances), block: 0..0, item }
}

struct InTurn<I, F> {
    blocks: I,
    /// What is left of the block it is at.
    block: Range<u64>,
    item: F,
}

impl<T, I, F> Source for InTurn<I, F>
where
    T: 'static,
    I: Iterator<Item = Range<u64>> + 'static,
    F: FnMut(u64) -> T + 'static,
{
    type Item = T;

    #[inline]
    fn produce<C: Chain<T>>(&mut self, out: &mut Emitter<'_, T, C>) -> Result<Produced, StageError> {
        loop {
            if self.block.is_empty() {
                let Some(block) = self.blocks.next() else { return Ok(Produced::End) };
                self.block = block;
            }
            let room = out.room() as u64;
            if room == 0 {
                return Ok(Produced::More);
            }
            let part = self.block.start..self.block.end.min(self.block.start + room);
            self.block.start = part.end;
            out.emit_range(part, &mut self.item);
        }
    }
}
