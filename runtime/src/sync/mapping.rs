//! Whole pages from the system: where they are to lie, and where they do.

use std::ffi::{c_long, c_ulong, c_void};
use std::io::Error;
use std::ptr::{NonNull, null, null_mut};

use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};

use crate::observe::PageNodes;
use crate::policy::MemoryLocality;

/// The smallest page there is on the machines this runs on.
const LEAST_PAGE_BYTES: usize = 4096;
/// Nodes that a mask of ours has room for: as many as a kernel can have.
const MOST_NODES: u32 = 1024;
const WORD_BITS: u32 = c_ulong::BITS;
/// The bits of such a mask, and one more, as the kernel counts.
const MASK_BITS: c_ulong = MOST_NODES as c_ulong + 1;
/// Pages that lie elsewhere are moved.
const MOVE: c_ulong = 1 << 1; // MPOL_MF_MOVE of linux/mempolicy.h
/// Pages that the kernel is asked about at once.
const PAGES_AT_ONCE: usize = 512;

/// Where memory is to lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HomeNode {
    /// The kernel's number of a NUMA node that has memory.
    pub node: u32,
    /// How firmly.
    pub locality: MemoryLocality,
}

/// Why memory was not put on a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// The machine has no such node, or none of its memory is for this process.
    #[error("NUMA node {node} has no memory that this process may use")]
    NoMemory {
        /// The node.
        node: u32,
    },
    /// The kernel has no NUMA, or a system call filter is in the way (containers without the capability `SYS_NICE`).
    #[error("the system does not let this process place memory: {}", Error::from_raw_os_error(*.os_error))]
    NotPermitted {
        /// What it said.
        os_error: i32,
    },
    /// The system refused for another reason.
    #[error("memory cannot be bound to NUMA node {node}: {}", Error::from_raw_os_error(*.os_error))]
    Refused {
        /// The node.
        node: u32,
        /// What it said.
        os_error: i32,
    },
    /// Memory lies elsewhere, though the system had agreed.
    #[error("{pages} pages do not lie on NUMA node {node}")]
    Elsewhere {
        /// The node.
        node: u32,
        /// How many do not.
        pages: u64,
    },
}

impl HomeNode {
    /// How the kernel calls the wish, and its mask of nodes; `None` where nothing is asked of it.
    fn as_policy(self) -> Option<Result<(c_long, NodeMask), BindError>> {
        let mode = match self.locality {
            MemoryLocality::Any => return None,
            MemoryLocality::Local => libc::MPOL_PREFERRED,
            MemoryLocality::Strict => libc::MPOL_BIND,
        };
        Some(NodeMask::of(self.node).map(|mask| (c_long::from(mode), mask)))
    }

    pub(crate) fn error(self, error: &Error) -> BindError {
        let (node, os_error) = (self.node, error.raw_os_error().unwrap_or_default());
        match os_error {
            libc::EINVAL => BindError::NoMemory { node },
            libc::EPERM | libc::EACCES | libc::ENOSYS => BindError::NotPermitted { os_error },
            _ => BindError::Refused { node, os_error },
        }
    }

    /// Has the system take all memory that the calling thread touches first from this node, for as long as the thread lives;
    /// only if the wish is [`MemoryLocality::Strict`]. One system call.
    ///
    /// # Errors
    /// [`BindError`]: nothing has changed.
    pub fn bind_thread(self) -> Result<(), BindError> {
        if self.locality != MemoryLocality::Strict {
            return Ok(());
        }
        let Some(policy) = self.as_policy() else { return Ok(()) };
        let (mode, mask) = policy?;
        // SAFETY: the mask is read only, and as long as is said.
        let answer = unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, mask.words.as_ptr(), MASK_BITS) };
        if answer == 0 { Ok(()) } else { Err(self.error(&Error::last_os_error())) }
    }

    /// Nothing that was `found` lies elsewhere, or the wish is not strict.
    ///
    /// # Errors
    /// [`BindError::Elsewhere`].
    pub(crate) fn check(self, found: &PageNodes) -> Result<(), BindError> {
        match found.not_on(self.node) {
            pages if pages > 0 && self.locality == MemoryLocality::Strict => {
                Err(BindError::Elsewhere { node: self.node, pages })
            }
            _ => Ok(()),
        }
    }

    /// Tries with a page that is given back at once.
    ///
    /// # Errors
    /// What `Mapping::bind` says.
    pub fn try_out(self) -> Result<(), BindError> {
        let page = Mapping::new(1, 1, false);
        page.map_err(|error| self.error(&error.into()))?.bind(self)
    }
}

/// A set of nodes, as the kernel takes it.
struct NodeMask {
    words: [c_ulong; (MOST_NODES / WORD_BITS) as usize],
}

impl NodeMask {
    fn of(node: u32) -> Result<Self, BindError> {
        let mut mask = Self { words: [0; (MOST_NODES / WORD_BITS) as usize] };
        let word = mask.words.get_mut((node / WORD_BITS) as usize).ok_or(BindError::NoMemory { node })?;
        *word = 1 << (node % WORD_BITS);
        Ok(mask)
    }
}

/// Bytes of a page.
pub(crate) fn page_bytes() -> usize {
    rustix::param::page_size()
}

/// Pages of this process alone, zeroed, given back to the system when it is dropped.
///
/// What is in them is up to the owner, who reads and writes through [`base`](Self::base). No method reads or writes it but
/// [`touch`](Self::touch).
#[derive(Debug)]
pub(crate) struct Mapping {
    base: NonNull<u8>,
    bytes: usize,
}

// SAFETY: memory is not bound to a thread; the methods ask the system about addresses, and say themselves what else they need.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps `bytes`, rounded up to whole pages, at a multiple of `align`, a power of two. Touches nothing.
    ///
    /// With `huge` the system is asked for huge pages; it may have none.
    pub(crate) fn new(bytes: usize, align: usize, huge: bool) -> Result<Self, Errno> {
        let page = page_bytes();
        let bytes = bytes.checked_next_multiple_of(page).ok_or(Errno::NOMEM)?;
        // Pages are aligned to pages anyway.
        let slack = if align > page { align } else { 0 };
        let padded = bytes.checked_add(slack).ok_or(Errno::NOMEM)?;
        // SAFETY: a new private mapping overlaps nothing.
        let start = unsafe {
            mmap_anonymous(null_mut(), padded, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE)
        }?;
        let before = if slack > 0 { start.cast::<u8>().align_offset(align) } else { 0 };
        let base = start.cast::<u8>().wrapping_add(before);
        unmap(start, before);
        unmap(base.wrapping_add(bytes).cast(), slack - before);
        let Some(base) = NonNull::new(base) else { return Err(Errno::NOMEM) };
        if huge {
            // SAFETY: the range is ours. The system may refuse: then pages are small.
            let _ = unsafe { madvise(base.as_ptr().cast(), bytes, Advice::LinuxHugepage) };
        }
        Ok(Self { base, bytes })
    }

    /// Where it starts.
    pub(crate) fn base(&self) -> NonNull<u8> {
        self.base
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Cuts it into mappings of `part` bytes, a multiple of the page size that it is a multiple of.
    pub(crate) fn into_parts(self, part: usize) -> impl Iterator<Item = Self> {
        debug_assert!(self.bytes.is_multiple_of(part) && part.is_multiple_of(LEAST_PAGE_BYTES));
        let whole = std::mem::ManuallyDrop::new(self);
        (0..whole.bytes / part).map(move |index| {
            // SAFETY: inside the mapping.
            let base = unsafe { whole.base.add(index * part) };
            Self { base, bytes: part }
        })
    }

    /// Writes a zero to every page, so that it lies where its policy, or else the calling core, says.
    ///
    /// # Safety
    /// Nobody else uses the memory meanwhile, and nothing is in it.
    pub(crate) unsafe fn touch(&self) {
        for page in (0..self.bytes).step_by(LEAST_PAGE_BYTES) {
            // SAFETY: inside the mapping.
            let page = unsafe { self.base.add(page) };
            // SAFETY: the mapping is writable, and promised to be the caller's.
            unsafe { page.write_volatile(0) };
        }
    }

    /// Has the system put the pages on the node of `home`: those that are touched from now on, and those that already lie elsewhere
    /// are moved. May be called while the memory is in use. One system call; none where nothing is asked for.
    ///
    /// The kernel's automatic balancing leaves pages alone that were bound.
    ///
    /// # Errors
    /// [`BindError`]: pages that are touched from now on lie as if nothing had been asked.
    pub(crate) fn bind(&self, home: HomeNode) -> Result<(), BindError> {
        self.set_policy(home, MOVE).map(drop)
    }

    /// As [`bind`](Self::bind), for memory with nothing in it: pages that are there already are given up, not moved.
    ///
    /// They may be there although nobody has touched them. Mappings that lie side by side are one to the kernel until one of them is bound, and a
    /// touch anywhere in it may bring a huge page. To move a part of that moves all of it, with what others have bound.
    ///
    /// Two system calls; none where nothing is asked for.
    ///
    /// # Errors
    /// As [`bind`](Self::bind).
    ///
    /// # Safety
    /// Nobody else uses the memory meanwhile, and nothing is in it.
    pub(crate) unsafe fn bind_empty(&self, home: HomeNode) -> Result<(), BindError> {
        // Bound first: from then on only a touch of this memory brings pages of it.
        if self.set_policy(home, 0)? {
            // SAFETY: the range is ours, and promised to be empty. Pages that stay, because the system refuses, are as good as before.
            let _ = unsafe { madvise(self.base.as_ptr().cast(), self.bytes, Advice::LinuxDontNeed) };
        }
        Ok(())
    }

    /// False where nothing is asked of the system.
    fn set_policy(&self, home: HomeNode, flags: c_ulong) -> Result<bool, BindError> {
        let Some(policy) = home.as_policy() else { return Ok(false) };
        let (mode, mask) = policy?;
        let (start, bytes) = (self.base.as_ptr(), self.bytes);
        // SAFETY: the range is ours and stays mapped; moving a page changes nothing that is in it. The mask is read only,
        // and as long as is said.
        let answer = unsafe {
            libc::syscall(libc::SYS_mbind, start, bytes, mode, mask.words.as_ptr(), MASK_BITS, flags)
        };
        if answer == 0 { Ok(true) } else { Err(home.error(&Error::last_os_error())) }
    }

    /// Where its pages lie now.
    ///
    /// # Errors
    /// As [`page_nodes`].
    pub(crate) fn page_nodes(&self) -> std::io::Result<PageNodes> {
        page_nodes(self.base.as_ptr().addr(), self.bytes)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        unmap(self.base.as_ptr().cast(), self.bytes);
    }
}

fn unmap(start: *mut c_void, bytes: usize) {
    if bytes > 0 {
        // SAFETY: the range was mapped by `Mapping::new`, and its owner is done with it.
        let unmapped = unsafe { munmap(start, bytes) };
        debug_assert!(unmapped.is_ok(), "munmap: {unmapped:?}");
    }
}

/// Where the pages of `bytes` from address `start` on lie now; those that are not mapped lie nowhere. Reads none of them. A system call
/// for each 512 pages.
///
/// # Errors
/// The system's: it has no NUMA, or a filter of system calls is in the way.
pub(crate) fn page_nodes(start: usize, bytes: usize) -> std::io::Result<PageNodes> {
    let mut found = PageNodes::default();
    let all: Vec<usize> = (0..bytes).step_by(page_bytes()).map(|at| start + at).collect();
    for pages in all.chunks(PAGES_AT_ONCE) {
        let mut nodes = [0i32; PAGES_AT_ONCE];
        // SAFETY: without target nodes nothing is moved, and addresses are looked up, not followed; there are as many answers as
        // addresses.
        let answer = unsafe {
            libc::syscall(
                libc::SYS_move_pages,
                c_long::from(0), // this process
                pages.len(),
                pages.as_ptr(),
                null::<c_void>(),
                nodes.as_mut_ptr(),
                c_long::from(0),
            )
        };
        if answer < 0 {
            return Err(Error::last_os_error());
        }
        nodes[..pages.len()].iter().for_each(|node| found.count(u32::try_from(*node).ok()));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGES: usize = 16;

    fn mapping() -> Mapping {
        Mapping::new(PAGES * page_bytes(), 1, false).unwrap()
    }

    /// The first byte of each page.
    fn bytes(mapping: &Mapping) -> Vec<u8> {
        let page = |at: usize| {
            // SAFETY: inside the mapping.
            let page = unsafe { mapping.base().add(at) };
            // SAFETY: mapped, and nobody writes.
            unsafe { page.read_volatile() }
        };
        (0..mapping.bytes()).step_by(page_bytes()).map(page).collect()
    }

    fn write(mapping: &Mapping, page: usize, byte: u8) {
        // SAFETY: inside the mapping.
        let page = unsafe { mapping.base().add(page * page_bytes()) };
        // SAFETY: mapped, and this test's alone.
        unsafe { page.write_volatile(byte) };
    }

    /// A node that has memory, or `None`, and a word about it, where the system does not answer.
    fn some_node() -> Option<u32> {
        let mapping = mapping();
        write(&mapping, 0, 1);
        match mapping.page_nodes() {
            Ok(found) => found.nodes.keys().next().copied(),
            Err(error) => {
                println!("left out: the system does not say where pages lie: {error}");
                None
            }
        }
    }

    #[test]
    fn pages_lie_nowhere_until_they_are_touched() {
        let Some(node) = some_node() else { return };
        let mapping = mapping();
        write(&mapping, 3, 1);
        let found = mapping.page_nodes().unwrap();
        assert_eq!((found.nowhere, found.nodes.values().sum::<u64>()), (PAGES as u64 - 1, 1));
        // SAFETY: this test's alone.
        unsafe { mapping.touch() };
        let found = mapping.page_nodes().unwrap();
        assert_eq!(found.nowhere, 0);
        assert!(found.nodes.contains_key(&node), "{found:?}");
    }

    #[test]
    fn what_is_bound_lies_on_its_node_before_and_behind_the_call_and_keeps_what_is_in_it() {
        let Some(node) = some_node() else { return };
        for locality in [MemoryLocality::Local, MemoryLocality::Strict] {
            let mapping = mapping();
            (0..PAGES / 2).for_each(|page| write(&mapping, page, page as u8 + 1));
            let home = HomeNode { node, locality };
            if let Err(BindError::NotPermitted { os_error }) = mapping.bind(home) {
                return println!("left out: {}", Error::from_raw_os_error(os_error));
            }
            (PAGES / 2..PAGES).for_each(|page| write(&mapping, page, page as u8 + 1));
            let found = mapping.page_nodes().unwrap();
            assert_eq!(found.nodes.get(&node), Some(&(PAGES as u64)), "{locality}: {found:?}");
            assert_eq!(bytes(&mapping), (1..=PAGES as u8).collect::<Vec<_>>());
            assert_eq!((home.check(&found), home.try_out()), (Ok(()), Ok(())));
        }
    }

    #[test]
    fn a_node_without_memory_for_this_process_is_refused_and_nothing_changes() {
        if some_node().is_none() {
            return;
        }
        for (node, locality) in [
            (1023, MemoryLocality::Local),
            (1023, MemoryLocality::Strict),
            (1024, MemoryLocality::Local),
            (u32::MAX, MemoryLocality::Strict),
        ] {
            let (home, mapping) = (HomeNode { node, locality }, mapping());
            match mapping.bind(home) {
                Err(BindError::NoMemory { node: refused }) => assert_eq!(refused, node),
                Err(BindError::NotPermitted { .. }) if node == 1023 => {}
                other => panic!("{other:?}"),
            }
            write(&mapping, 0, 7);
            assert_eq!(bytes(&mapping)[0], 7);
        }
        let any = HomeNode { node: u32::MAX, locality: MemoryLocality::Any };
        assert_eq!((mapping().bind(any), any.bind_thread()), (Ok(()), Ok(())), "nothing is asked");
    }

    #[test]
    fn a_strict_wish_is_not_content_with_pages_elsewhere() {
        let mut found = PageNodes::default();
        [Some(1), Some(0), Some(0), None].into_iter().for_each(|node| found.count(node));
        let home = |locality| HomeNode { node: 1, locality };
        assert_eq!(home(MemoryLocality::Local).check(&found), Ok(()));
        let elsewhere = BindError::Elsewhere { node: 1, pages: 2 };
        assert_eq!(home(MemoryLocality::Strict).check(&found), Err(elsewhere));
    }

    #[test]
    fn refusals_are_told_apart_by_whose_fault_they_are() {
        let home = HomeNode { node: 2, locality: MemoryLocality::Strict };
        let said = |os_error| home.error(&Error::from_raw_os_error(os_error));
        assert_eq!(said(libc::EINVAL), BindError::NoMemory { node: 2 });
        for os_error in [libc::EPERM, libc::ENOSYS] {
            assert_eq!(said(os_error), BindError::NotPermitted { os_error });
        }
        assert_eq!(said(libc::ENOMEM), BindError::Refused { node: 2, os_error: libc::ENOMEM });
    }

    #[test]
    fn what_is_bound_empty_has_no_page_until_it_is_touched_and_its_neighbours_keep_theirs() {
        let Some(node) = some_node() else { return };
        let home = HomeNode { node, locality: MemoryLocality::Local };
        if let Err(error @ BindError::NotPermitted { .. }) = home.try_out() {
            return println!("left out: {error}");
        }
        // Huge pages, where the system has them, with four parts in each.
        let part = 512 * 1024;
        let parts: Vec<Mapping> = Mapping::new(16 * part, 4 * part, true).unwrap().into_parts(part).collect();
        parts.iter().for_each(|part| write(part, 0, 7));
        for part in parts.iter().step_by(2) {
            // SAFETY: this test's alone.
            unsafe { part.bind_empty(home) }.unwrap();
            let found = part.page_nodes().unwrap();
            assert_eq!((found.nodes.len(), found.nowhere), (0, (part.bytes() / page_bytes()) as u64));
        }
        let first: Vec<u8> = parts.iter().map(|part| bytes(part)[0]).collect();
        assert_eq!(first, [0, 7].repeat(8));
        assert_eq!(parts[0].page_nodes().unwrap().not_on(node), 0);
        // SAFETY: this test's alone.
        let refused = unsafe { parts[1].bind_empty(HomeNode { node: 1023, ..home }) };
        assert_eq!(refused, Err(BindError::NoMemory { node: 1023 }));
        assert_eq!(bytes(&parts[1])[0], 7, "where the system refuses nothing is given up");
    }

    #[test]
    fn a_thread_that_is_bound_touches_first_on_its_node() {
        let Some(node) = some_node() else { return };
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let strict = |node| HomeNode { node, locality: MemoryLocality::Strict };
                assert!(strict(1023).bind_thread().is_err());
                if let Err(error @ BindError::NotPermitted { .. }) = strict(node).bind_thread() {
                    return println!("left out: {error}");
                }
                let mapping = mapping();
                write(&mapping, 0, 1);
                assert_eq!(mapping.page_nodes().unwrap().nodes, [(node, 1)].into());
            });
        });
    }

    #[test]
    fn parts_are_aligned_and_given_back_one_by_one() {
        let part = 4 * page_bytes();
        let whole = Mapping::new(3 * part, part, true).unwrap();
        assert!(whole.base().as_ptr().addr().is_multiple_of(part));
        let mut parts: Vec<Mapping> = whole.into_parts(part).collect();
        assert_eq!(parts.len(), 3);
        parts.iter().zip(1..).for_each(|(mapping, byte)| write(mapping, 3, byte));
        drop(parts.remove(1));
        assert_eq!(parts.iter().map(|mapping| bytes(mapping)[3]).collect::<Vec<_>>(), [1, 3]);
    }

    #[test]
    fn more_than_there_are_addresses_for_is_refused() {
        assert_eq!(Mapping::new(usize::MAX, 1, false).unwrap_err(), Errno::NOMEM);
        assert_eq!(Mapping::new(1 << 62, 1 << 20, false).unwrap_err(), Errno::NOMEM);
        assert_eq!(Mapping::new(1, 1, false).unwrap().bytes(), page_bytes());
    }
}
