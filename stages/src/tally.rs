//! What became of the items of a stage that holds them for a while.

use corelane::observe::StageAccount;

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) absorbed: u64,
    /// Of those absorbed: in windows that have gone.
    pub(crate) complete: u64,
    /// Of those absorbed: gone without having been in any result.
    pub(crate) expired: u64,
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

    /// An item that was held has gone.
    #[inline(always)]
    pub(crate) fn leave(&mut self, had_results: bool) {
        *(if had_results { &mut self.complete } else { &mut self.expired }) += 1;
    }

    /// Forgets an item that was absorbed and has gone with results.
    pub(crate) fn take_back(&mut self) {
        self.absorbed -= 1;
        self.complete -= 1;
    }

    fn open(&self) -> u64 {
        self.absorbed - self.complete - self.expired
    }

    /// Everything that is held is thrown away.
    pub(crate) fn clear(&mut self) {
        self.discarded = self.open();
    }

    pub(crate) fn add_to(&self, account: &mut StageAccount) {
        account.absorbed += self.absorbed - self.discarded;
        account.items_complete += self.complete;
        account.items_expired += self.expired;
        account.items_open += self.open() - self.discarded;
        account.late += self.late;
        account.filtered += self.filtered;
        account.passed += self.passed;
        account.discarded += self.discarded;
        account.results_complete += self.results;
        account.results_partial += self.early;
    }
}
