//! The home of buffers: one for each core that rents.

use std::ptr::NonNull;
use std::rc::Weak;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::buffer::PooledBuffer;
use super::check::{BACK_BYTES, Checked, FRONT_BYTES};
use super::class::{MAX_BLOCK_BYTES, class_of};
use super::counters::Counters;
use super::local::{Owner, current};
use super::returns::{Outside, Parked, Peer, RETURN_SLOTS, Sent, Wake};
use super::shared::{Quota, Seat, Shared};
use super::slab::{Block, HUGE_BYTES, Header, MapError, Region, SLAB_BYTES};
use super::store::Store;
use super::{RentError, check};
use crate::policy::MemoryLocality;
use crate::ring::{Consumer, ring};
use crate::sync::{AtomicBool, HomeNode, Mutex, Ordering, UnsafeCell};

/// Where blocks come from and go back to.
///
/// Behind a pointer that every region's header holds. It lives until it has been closed *and* all of its blocks are back, and is
/// freed by whoever sees both: the home core, or the last thread that returns a block after the close.
pub(super) struct Home {
    pub(super) lane: u64,
    pub(super) slot: u32,
    pub(super) pool_id: u64,
    pub(super) pool: Arc<Shared>,
    /// What the homes of one user of the pool may map all together, beside the pool's own limit.
    pub(super) share: Option<Arc<Quota>>,
    pub(super) counters: Arc<Counters>,
    pub(super) wake: Arc<Wake>,
    /// Where its memory is to lie.
    node: Option<HomeNode>,
    outside: Outside,
    /// Rings of cores that have returned here for the first time; `None` once the home has closed. The lock is taken once for each
    /// pair of cores.
    inbox: Mutex<Option<Vec<Consumer<Parked>>>>,
    /// Something is in the inbox.
    has_mail: AtomicBool,
    closed: AtomicBool,
    /// Only the home core's.
    store: UnsafeCell<Store>,
}

impl Home {
    /// A home without memory. `owner` is what closes it.
    pub(super) fn open(
        pool: Arc<Shared>,
        share: Option<Arc<Quota>>,
        seat: Seat,
        owner: Weak<Owner>,
    ) -> NonNull<Self> {
        let (checked, counters) = (pool.options.checked, seat.counters);
        let home = Self {
            lane: seat.lane,
            slot: seat.slot,
            pool_id: pool.id,
            pool,
            share,
            counters: Arc::clone(&counters),
            wake: seat.wake,
            node: seat.node,
            outside: Outside::new(),
            inbox: Mutex::new(Some(Vec::new())),
            has_mail: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            store: UnsafeCell::new(Store::new(Arc::clone(&counters), checked, owner)),
        };
        let me = NonNull::from(Box::leak(Box::new(home)));
        // SAFETY: just made, and alive until it is freed.
        let home = unsafe { me.as_ref() };
        // SAFETY: nobody else knows it yet.
        unsafe { home.store(|store| store.me = me) };
        me
    }

    /// Runs `f` on what only the home core uses.
    ///
    /// # Safety
    /// The caller is on the home's thread, and `f` calls neither this nor code of users.
    #[inline(always)]
    unsafe fn store<R>(&self, f: impl FnOnce(&mut Store) -> R) -> R {
        // SAFETY: one thread only comes here, and not again before `f` has returned.
        self.store.with_mut(|store| f(unsafe { &mut *store }))
    }

    /// The handle that this home belongs to.
    ///
    /// # Safety
    /// The caller is on the home's thread.
    pub(super) unsafe fn owner(&self) -> Option<std::rc::Rc<Owner>> {
        // SAFETY: promised by the caller.
        unsafe { self.store(|store| store.owner.upgrade()) }
    }

    /// Rents where no block is ready at hand; the buffer that [`LocalPool::rent`](super::LocalPool::rent) did not find.
    ///
    /// # Safety
    /// The caller is on the home's thread.
    #[inline]
    pub(super) unsafe fn rent(&self, size: usize) -> Result<PooledBuffer, RentError> {
        // SAFETY: promised by the caller.
        match unsafe { self.rent_slowly(size) } {
            Some(buffer) => Ok(buffer),
            // SAFETY: promised by the caller.
            None => Err(unsafe { self.store(|store| store.refusal) }),
        }
    }

    /// Leaves the reason of a refusal in the store: a result that carried it would come back through memory, and what is rented the
    /// fast way would have to go through that memory too.
    ///
    /// # Safety
    /// As [`rent`](Self::rent).
    #[cold]
    #[inline(never)]
    unsafe fn rent_slowly(&self, size: usize) -> Option<PooledBuffer> {
        let refusal = match self.find_slowly(size) {
            Ok(buffer) => return Some(buffer),
            Err(refusal) => refusal,
        };
        // SAFETY: promised by the caller.
        unsafe { self.store(|store| store.refusal = refusal) };
        None
    }

    /// Takes in what has come back, asks the system, gives idle memory of other classes up. On the home's thread.
    fn find_slowly(&self, size: usize) -> Result<PooledBuffer, RentError> {
        let class = self.class_for(size)?;
        let mut found = self.find(class, size);
        if matches!(found, Err(RentError::Exhausted { .. })) {
            // Ask to be woken, then look once more: what comes back later rings.
            self.wake.starve();
            found = self.find(class, size);
            if !matches!(found, Err(RentError::Exhausted { .. })) {
                self.wake.fed();
            }
        }
        let block = found?;
        // SAFETY: the block is of one of this home's regions.
        let header = unsafe { block.header() };
        // SAFETY: the region, and with it the marks, stay while the block is rented.
        let marks = unsafe { header.marks.as_ref() };
        let Some(checked) = Checked::new(block, header, marks) else {
            return Ok(PooledBuffer::new(block.0, size as u32, 0));
        };
        let generation = checked.rent(size as u32);
        // SAFETY: inside the block.
        let start = unsafe { block.0.add(FRONT_BYTES) };
        Ok(PooledBuffer::new(start, size as u32, generation))
    }

    /// The class of a buffer, guards included.
    fn class_for(&self, size: usize) -> Result<usize, RentError> {
        let limit = self.limit();
        let guards = if self.pool.options.checked { FRONT_BYTES + BACK_BYTES } else { 0 };
        let needed = size.saturating_add(guards);
        let fits = needed <= MAX_BLOCK_BYTES && Region::bytes_for(class_of(needed)) as u64 <= limit;
        if fits { Ok(class_of(needed)) } else { Err(RentError::TooLarge { size, limit }) }
    }

    /// Makes at least `count` buffers of `size` bytes ready.
    ///
    /// # Safety
    /// The caller is on the home's thread.
    pub(super) unsafe fn preallocate(&self, size: usize, count: usize) -> Result<(), RentError> {
        let class = self.class_for(size)?;
        while self.counters.stacks[class].ready() < count {
            self.grow(class, size)?;
        }
        Ok(())
    }

    /// A block of `class`, on the home's thread.
    fn find(&self, class: usize, size: usize) -> Result<Block, RentError> {
        if let Some(block) = self.pop(class, size) {
            return Ok(block);
        }
        self.collect();
        if let Some(block) = self.pop(class, size) {
            return Ok(block);
        }
        let mut grown = self.grow(class, size);
        if matches!(grown, Err(RentError::Exhausted { .. })) && self.release_idle() > 0 {
            grown = self.grow(class, size);
        }
        grown?;
        self.pop(class, size).ok_or_else(|| self.exhausted(size))
    }

    fn pop(&self, class: usize, size: usize) -> Option<Block> {
        // SAFETY: called by `find`, on the home's thread.
        unsafe { self.store(|store| store.pop(class, size as u64)) }
    }

    fn exhausted(&self, size: usize) -> RentError {
        RentError::Exhausted { size, limit: self.limit() }
    }

    /// Bytes that may be mapped at most.
    fn limit(&self) -> u64 {
        let share = self.share.as_ref().map_or(u64::MAX, |share| share.limit());
        share.min(self.pool.quota.limit())
    }

    fn reserve(&self, bytes: usize) -> bool {
        let bytes = bytes as u64;
        if !self.share.as_ref().is_none_or(|share| share.take(bytes)) {
            return false;
        }
        let taken = self.pool.quota.take(bytes);
        if !taken && let Some(share) = &self.share {
            share.give_back(bytes);
        }
        taken
    }

    fn release(&self, bytes: u64) {
        self.pool.quota.give_back(bytes);
        if let Some(share) = &self.share {
            share.give_back(bytes);
        }
    }

    /// Takes in everything that has come back from elsewhere, on the home's thread.
    fn collect(&self) {
        let mail = self.has_mail.load(Ordering::Acquire).then(|| {
            let mut inbox = self.inbox.lock();
            self.has_mail.store(false, Ordering::Relaxed);
            inbox.as_mut().map(std::mem::take).unwrap_or_default()
        });
        // SAFETY: on the home's thread.
        unsafe {
            self.store(|store| {
                store.incoming.extend(mail.into_iter().flatten());
                store.drain();
                store.take_in(&self.outside);
            });
        }
    }

    /// Gets memory for `class`.
    fn grow(&self, class: usize, size: usize) -> Result<(), RentError> {
        let bytes = Region::bytes_for(class);
        // SAFETY: on the home's thread.
        let spare = if bytes == SLAB_BYTES { unsafe { self.store(|store| store.spare.pop()) } } else { None };
        let region = match spare {
            Some(region) => region,
            None => self.map(bytes, size)?,
        };
        // SAFETY: on the home's thread.
        unsafe { self.store(|store| store.adopt(region, class, self)) };
        Ok(())
    }

    fn map(&self, bytes: usize, size: usize) -> Result<Region, RentError> {
        let huge = self.pool.options.huge_pages;
        let map = |bytes: usize, align: usize| {
            let mapped = Region::map(bytes, align, huge, self.node);
            mapped.map_err(|error| {
                self.release(bytes as u64);
                match error {
                    MapError::System(error) => {
                        RentError::OutOfMemory { bytes, os_error: error.raw_os_error() }
                    }
                    MapError::Bind(error) => RentError::Binding(error),
                }
            })
        };
        if huge && bytes == SLAB_BYTES && self.reserve(HUGE_BYTES) {
            let region = map(HUGE_BYTES, HUGE_BYTES)?;
            self.counters.allocated.fetch_add(HUGE_BYTES as u64, Relaxed);
            let mut slabs = region.into_slabs().inspect(|slab| self.pool.add_region(slab, self.lane));
            let first = slabs.next();
            // SAFETY: on the home's thread.
            unsafe { self.store(|store| store.spare.extend(slabs)) };
            if let Some(first) = first {
                return Ok(first);
            }
        }
        if !self.reserve(bytes) {
            return Err(self.exhausted(size));
        }
        let region = map(bytes, SLAB_BYTES)?;
        self.pool.add_region(&region, self.lane);
        self.counters.allocated.fetch_add(bytes as u64, Relaxed);
        Ok(region)
    }

    /// Gives memory of which nothing is rented back to the system; how many bytes. On the home's thread. Looks at every
    /// block that is ready.
    fn release_idle(&self) -> u64 {
        // SAFETY: on the home's thread.
        let idle = unsafe { self.store(Store::take_idle) };
        let bytes = idle.iter().map(|region| region.bytes() as u64).sum();
        self.pool.forget_regions(&idle);
        drop(idle);
        if bytes > 0 {
            self.counters.allocated.fetch_sub(bytes, Relaxed);
            self.release(bytes);
        }
        bytes
    }

    /// Ends a step: makes returns to other homes visible, takes in what has come back, and gives idle memory up while some home of
    /// the pool waits for memory. Costs a look at each ring from another core that has ever returned something here.
    ///
    /// # Safety
    /// The caller is on the home's thread.
    #[inline]
    pub(super) unsafe fn flush(&self) {
        // SAFETY: promised by the caller.
        if unsafe { self.store(|store| store.is_dirty) } {
            self.flush_peers();
        }
        // SAFETY: promised by the caller.
        let has_returns = unsafe { self.store(Store::has_returns) };
        if has_returns || !self.outside.is_empty() || self.has_mail.load(Ordering::Relaxed) {
            self.collect();
        }
        if self.pool.starving.any() {
            self.help();
        }
    }

    #[cold]
    #[inline(never)]
    fn flush_peers(&self) {
        // Taken out meanwhile: a flush may ring a bell, and its waker is not ours. Should it return a buffer, it finds no peers and
        // makes new ones.
        // SAFETY: called on the home's thread.
        let mut peers = unsafe { self.store(|store| std::mem::take(&mut store.peers)) };
        for peer in &mut peers {
            if peer.as_mut().is_some_and(|peer| {
                peer.flush();
                peer.is_closed()
            }) {
                *peer = None;
            }
        }
        let is_dirty = peers.iter().flatten().any(|peer| peer.is_waiting());
        // SAFETY: as above.
        let made_meanwhile = unsafe {
            self.store(|store| {
                store.is_dirty = is_dirty;
                std::mem::replace(&mut store.peers, peers)
            })
        };
        drop(made_meanwhile); // after the store was left, because it may ring a bell too
    }

    #[cold]
    #[inline(never)]
    fn help(&self) {
        // SAFETY: called by `flush`, on the home's thread.
        if unsafe { self.store(Store::may_have_idle) } && self.release_idle() > 0 {
            self.pool.wake_starving();
        }
    }

    /// Returns a block that the running thread has not as its home's, or that is checked.
    ///
    /// # Safety
    /// The block is rented, for `requested` bytes, and the caller gives it up.
    #[inline(never)]
    pub(super) unsafe fn return_elsewhere(start: NonNull<u8>, requested: u32, generation: u32) {
        // SAFETY: a rented block's region is mapped.
        let header = unsafe { Block(start).header() };
        let mut block = Block(start);
        // SAFETY: the marks live as long as the region.
        let marks = unsafe { header.marks.as_ref() };
        if marks.is_some() {
            // SAFETY: a checked buffer starts behind its guard.
            block = Block(unsafe { start.sub(FRONT_BYTES) });
            match Checked::new(block, header, marks) {
                Some(checked) => checked.return_it(requested, generation),
                None => check::misuse(check::Misuse::InteriorPointer, start.as_ptr().addr()),
            }
        }
        let (bytes, requested) = (header.block_bytes, u64::from(requested));
        // SAFETY: what is current is alive, and its thread is this one.
        if let Some(here) = unsafe { current().as_ref() } {
            if std::ptr::eq(here, header.home.as_ptr()) {
                // SAFETY: on the home's thread.
                unsafe { here.store(|store| store.push(block, header.class as usize)) };
                here.counters.stacks[header.class as usize].forget(requested);
                return;
            }
            // SAFETY: on the thread of `here`; the caller has given the block up.
            let send = || unsafe { here.send(block, header, bytes, requested) };
            if here.pool_id == header.pool && send() {
                return;
            }
        }
        // SAFETY: the block is rented, so its home is alive.
        unsafe { header.home.as_ref() }.counters.outside.add_shared(bytes, requested);
        // SAFETY: the block has been counted.
        unsafe { Self::return_outside(header.home, block) };
    }

    /// Sends a block to its home through the return ring. False if that home has closed.
    ///
    /// # Safety
    /// The caller is on the thread of `self`, and owns the block.
    unsafe fn send(&self, block: Block, header: &Header, bytes: u64, requested: u64) -> bool {
        let slot = header.slot as usize;
        // SAFETY: promised by the caller.
        let known = unsafe { self.store(|store| store.send(block, header, bytes, requested)) };
        let sent = known.or_else(|| {
            // SAFETY: the block is rented, so its home is alive.
            let peer = unsafe { header.home.as_ref() }.connect()?;
            // SAFETY: promised by the caller.
            let old = unsafe { self.store(|store| store.install(slot, peer)) };
            drop(old); // its home has closed: what is left in it goes over the stack
            // SAFETY: promised by the caller.
            unsafe { self.store(|store| store.send(block, header, bytes, requested)) }
        });
        if sent == Some(Sent::BatchFull) {
            self.flush_peers();
        }
        sent.is_some()
    }

    /// A new way to this home, unless it has closed. Called by other cores, once each.
    #[cold]
    fn connect(&self) -> Option<Peer> {
        if self.closed.load(Ordering::Relaxed) {
            return None;
        }
        let (producer, mut consumer) = ring(RETURN_SLOTS).ok()?;
        if let Some(node) = self.node {
            // Where it may not be bound it lies with the other core: returns work all the same.
            let _ = consumer.settle(node);
        }
        let mut inbox = self.inbox.lock();
        inbox.as_mut()?.push(consumer);
        self.has_mail.store(true, Ordering::Release);
        drop(inbox);
        Some(Peer::new(self.lane, producer, Arc::clone(&self.wake), self.counters.way_back()))
    }

    /// Returns a block over the stack, and frees the home if it has closed and this was the last.
    ///
    /// # Safety
    /// The block is of this home and the caller's, and has been counted. The home may be gone afterwards.
    pub(super) unsafe fn return_outside(home: NonNull<Self>, block: Block) {
        // SAFETY: the block has not come home: the home is alive until it is settled.
        let here = unsafe { home.as_ref() };
        here.outside.push(block);
        here.wake.came_back();
        if here.outside.settle() {
            // SAFETY: closed, and this was the last block: nobody else knows the home.
            unsafe { Self::free(home) };
        }
    }

    /// The home core is done with it. Frees it if all blocks are back; otherwise the last one that comes back does.
    ///
    /// # Safety
    /// The caller is on the home's thread, the home is not current, and it is used no more by the caller.
    pub(super) unsafe fn close(home: NonNull<Self>) {
        // SAFETY: it has not been closed yet.
        let here = unsafe { home.as_ref() };
        here.wake.fed();
        here.closed.store(true, Ordering::Relaxed);
        // SAFETY: promised by the caller.
        let mut peers = unsafe { here.store(|store| std::mem::take(&mut store.peers)) };
        peers.iter_mut().flatten().for_each(|peer| peer.flush());
        drop(peers); // what does not fit goes over stacks
        here.collect();
        let late = here.inbox.lock().take();
        // SAFETY: promised by the caller.
        let incoming = unsafe {
            here.store(|store| {
                store.incoming.extend(late.into_iter().flatten());
                store.drain();
                // Its count is not atomic: it must not be dropped by another thread.
                store.owner = Weak::new();
                std::mem::take(&mut store.incoming)
            })
        };
        drop(incoming); // what is pushed into them from now on goes over the stack, with the ring
        if here.node.is_some_and(|node| node.locality != MemoryLocality::Any)
            && let Ok(nodes) = here.pool.page_nodes(here.lane)
        {
            here.counters.set_last_nodes(nodes);
        }
        here.release_idle();
        here.pool.leave(here.lane);
        // SAFETY: promised by the caller.
        let came_by_stack = unsafe { here.store(|store| store.came_by_stack) };
        if here.outside.close(here.counters.out() + came_by_stack) {
            // SAFETY: all blocks are back: nobody else knows the home.
            unsafe { Self::free(home) };
        }
    }

    /// # Safety
    /// Nobody else uses the home or any of its blocks.
    unsafe fn free(home: NonNull<Self>) {
        // SAFETY: homes are made by `Box`, and this is the only pointer left.
        let home = unsafe { Box::from_raw(home.as_ptr()) };
        let held = home.counters.allocated.swap(0, Relaxed);
        let pool = Arc::clone(&home.pool);
        // SAFETY: nobody else uses it.
        let regions = unsafe { home.store(|store| std::mem::take(&mut store.regions)) };
        pool.forget_regions(&regions);
        drop(regions);
        home.release(held);
        drop(home);
        pool.wake_starving();
    }
}
