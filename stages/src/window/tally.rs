//! What became of the items of a window stage.

use corelane::observe::StageAccount;

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    pub(super) absorbed: u64,
    /// Of those absorbed: in windows that have gone.
    pub(super) complete: u64,
    pub(super) late: u64,
    pub(super) filtered: u64,
    pub(super) passed: u64,
    /// Of those absorbed: thrown away with their window.
    pub(super) discarded: u64,
    pub(super) results: u64,
    pub(super) early: u64,
}

impl Tally {
    /// Takes note of an item that is too late; `kept` if it goes out beside the results.
    pub(super) fn late(&mut self, kept: bool) {
        self.late += 1;
        *(if kept { &mut self.passed } else { &mut self.filtered }) += 1;
    }

    /// Everything that is held is thrown away.
    pub(super) fn clear(&mut self) {
        self.discarded = self.absorbed - self.complete;
    }

    pub(super) fn add_to(&self, account: &mut StageAccount) {
        let absorbed = self.absorbed - self.discarded;
        account.absorbed += absorbed;
        account.items_complete += self.complete;
        account.items_open += absorbed - self.complete;
        account.late += self.late;
        account.filtered += self.filtered;
        account.passed += self.passed;
        account.discarded += self.discarded;
        account.results_complete += self.results;
        account.results_partial += self.early;
    }
}
