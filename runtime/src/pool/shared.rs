//! What the homes of a pool share. Nothing in it is touched by a rent that finds a block ready, or by a return.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::counters::Counters;
use super::returns::{Starving, Wake};
use super::slab::Region;
use crate::observe::{MemoryPoolStats, PageNodes};
use crate::policy::MemoryPoolOptions;
use crate::sync::{Doorbell, HomeNode, Mutex, page_nodes};

/// Numbers of homes and pools: no two of a process have the same.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// So many bytes, and how many of them are taken.
#[derive(Debug)]
pub(super) struct Quota {
    limit: u64,
    taken: AtomicU64,
}

impl Quota {
    pub(super) fn new(limit: u64) -> Self {
        Self { limit, taken: AtomicU64::new(0) }
    }

    pub(super) fn limit(&self) -> u64 {
        self.limit
    }

    /// Takes `bytes`, if there are so many left.
    pub(super) fn take(&self, bytes: u64) -> bool {
        let fits = |taken: u64| taken.checked_add(bytes).filter(|sum| *sum <= self.limit);
        self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok()
    }

    pub(super) fn give_back(&self, bytes: u64) {
        self.taken.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub(super) fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }
}

pub(super) struct Shared {
    pub(super) id: u64,
    pub(super) options: MemoryPoolOptions,
    /// Bytes mapped, or about to be.
    pub(super) quota: Quota,
    pub(super) starving: Arc<Starving>,
    homes: Mutex<Homes>,
    /// Where memory is, by its start.
    regions: Mutex<BTreeMap<usize, Mapped>>,
}

/// Memory of a home.
#[derive(Clone, Copy)]
struct Mapped {
    bytes: usize,
    lane: u64,
    /// It has a header and blocks.
    cut: bool,
}

#[derive(Default)]
struct Homes {
    entries: Vec<Entry>,
    /// The highest sum of peaks that was seen when a home closed.
    peak: u64,
}

struct Entry {
    lane: u64,
    slot: u32,
    open: bool,
    counters: Arc<Counters>,
    wake: Arc<Wake>,
}

impl Homes {
    /// The statistics of all homes, those already forgotten counted in the peak.
    fn sum(&self) -> MemoryPoolStats {
        let all = self.entries.iter().map(|entry| entry.counters.statistics());
        let sum = all.fold(MemoryPoolStats::default(), MemoryPoolStats::and);
        MemoryPoolStats { peak_usage: sum.peak_usage.max(self.peak), ..sum }
    }
}

/// What a new home is given.
pub(super) struct Seat {
    pub(super) lane: u64,
    pub(super) slot: u32,
    pub(super) counters: Arc<Counters>,
    pub(super) wake: Arc<Wake>,
    /// Where its memory is to lie.
    pub(super) node: Option<HomeNode>,
}

impl Shared {
    pub(super) fn new(options: MemoryPoolOptions) -> Self {
        Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            quota: Quota::new(options.limit_bytes),
            options,
            starving: Arc::default(),
            homes: Mutex::new(Homes::default()),
            regions: Mutex::new(BTreeMap::new()),
        }
    }

    pub(super) fn take_seat(&self, bell: Option<Arc<Doorbell>>, node: Option<HomeNode>) -> Seat {
        let lane = NEXT.fetch_add(1, Ordering::Relaxed);
        let counters = Arc::<Counters>::default();
        let wake = Arc::new(Wake::new(bell, Arc::clone(&self.starving)));
        let mut homes = self.homes.lock();
        homes.peak = homes.sum().peak_usage;
        homes.entries.retain(|entry| entry.open || entry.counters.statistics().rented_buffers > 0);
        let taken = |slot: u32| homes.entries.iter().any(|entry| entry.open && entry.slot == slot);
        let slot = (0..u32::MAX).find(|slot| !taken(*slot)).unwrap_or(u32::MAX);
        let entry =
            Entry { lane, slot, open: true, counters: Arc::clone(&counters), wake: Arc::clone(&wake) };
        homes.entries.push(entry);
        Seat { lane, slot, counters, wake, node }
    }

    /// A home has closed: its slot is free.
    pub(super) fn leave(&self, lane: u64) {
        let mut homes = self.homes.lock();
        homes.peak = homes.sum().peak_usage;
        homes.entries.iter_mut().filter(|entry| entry.lane == lane).for_each(|entry| entry.open = false);
    }

    pub(super) fn statistics(&self) -> MemoryPoolStats {
        self.homes.lock().sum()
    }

    pub(super) fn statistics_by_core(&self) -> Vec<MemoryPoolStats> {
        let homes = self.homes.lock();
        homes.entries.iter().filter(|entry| entry.open).map(|entry| entry.counters.statistics()).collect()
    }

    /// Wakes every home that waits for memory.
    pub(super) fn wake_starving(&self) {
        if self.starving.any() {
            let wakes: Vec<_> =
                self.homes.lock().entries.iter().map(|entry| Arc::clone(&entry.wake)).collect();
            wakes.iter().for_each(|wake| wake.came_back()); // not under the lock: wakers are not ours
        }
    }

    /// Memory of a home has been mapped.
    pub(super) fn add_region(&self, region: &Region, lane: u64) {
        let mapped = Mapped { bytes: region.bytes(), lane, cut: false };
        self.regions.lock().insert(region.address(), mapped);
    }

    /// It has been cut into blocks.
    pub(super) fn region_is_cut(&self, region: &Region) {
        if let Some(mapped) = self.regions.lock().get_mut(&region.address()) {
            mapped.cut = true;
        }
    }

    pub(super) fn forget_regions(&self, gone: &[Region]) {
        if !gone.is_empty() {
            let mut regions = self.regions.lock();
            for region in gone {
                regions.remove(&region.address());
            }
        }
    }

    /// The start of the region with blocks that `address` is in.
    pub(super) fn region_of(&self, address: usize) -> Option<usize> {
        let regions = self.regions.lock();
        let (start, mapped) = regions.range(..=address).next_back()?;
        (mapped.cut && address - start < mapped.bytes).then_some(*start)
    }

    /// Where the memory of a home lies. Not under the lock: what is given up meanwhile lies nowhere.
    pub(super) fn page_nodes(&self, lane: u64) -> std::io::Result<PageNodes> {
        let regions = self.regions.lock();
        let own = regions.iter().filter(|(_, mapped)| mapped.lane == lane);
        let own: Vec<(usize, usize)> = own.map(|(start, mapped)| (*start, mapped.bytes)).collect();
        drop(regions);
        let mut sum = PageNodes::default();
        for (start, bytes) in own {
            sum.add(&page_nodes(start, bytes)?);
        }
        Ok(sum)
    }
}
