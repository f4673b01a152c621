//! What became of the items of a stage that holds them for a while.

use corelane::observe::StageAccount;

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) absorbed: u64,
    /// Of those absorbed: in windows that have gone.
    pub(crate) complete: u64,
    pub(crate) late: u64,
    pub(crate) filtered: u64,
    pub(crate) passed: u64,
    /// Of those absorbed: thrown away with their window.
    pub(crate) discarded: u64,
    pub(crate) results: u64,
    pub(crate) early: u64,
}

impl Tally {
    /// Takes note of an item that is too late; `kept` if it goes out beside the results.
    pub(crate) fn late(&mut self, kept: bool) {
        self.late += 1;
        *(if kept { &mut self.passed } else { &mut self.filtered }) += 1;
    }

    /// Everything that is held is thrown away.
    pub(crate) fn clear(&mut self) {
        self.discarded = self.absorbed - self.complete;
    }

    pub(crate) fn add_to(&self, account: &mut StageAccount) {
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
