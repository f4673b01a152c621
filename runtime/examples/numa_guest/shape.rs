//! The machines that the guest is booted as, written down by hand, and what the kernel's files say without our reader.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;

/// A machine as it was ordered. CPUs are numbered thread by thread, core by core, cache by cache, node by node.
pub(crate) struct Shape {
    pub(crate) cpus: u32,
    pub(crate) cpus_per_node: u32,
    pub(crate) cpus_per_cache: u32,
    pub(crate) cpus_per_package: u32,
    pub(crate) threads: u32,
    /// Between any two nodes.
    pub(crate) distance: u32,
    pub(crate) isolated: &'static str,
}

/// Eight CPUs in two nodes, two threads to a core.
pub(crate) const TWO: Shape = Shape {
    cpus: 8,
    cpus_per_node: 4,
    cpus_per_cache: 4,
    cpus_per_package: 4,
    threads: 2,
    distance: 21,
    isolated: "",
};

/// Sixteen CPUs in four nodes of two dies, each with a cache. The last is kept free by the kernel.
pub(crate) const FOUR: Shape = Shape {
    cpus: 16,
    cpus_per_node: 4,
    cpus_per_cache: 2,
    cpus_per_package: 8,
    threads: 1,
    distance: 20,
    isolated: "15",
};

impl Shape {
    pub(crate) fn named(name: &str) -> Self {
        match name {
            "two" => TWO,
            "four" => FOUR,
            _ => panic!("there is no machine {name:?}"),
        }
    }

    pub(crate) fn node(&self, cpu: u32) -> u32 {
        cpu / self.cpus_per_node
    }
}

/// The CPUs that the running thread may run on, as the kernel writes them.
pub(crate) fn allowed_here() -> String {
    let status = fs::read_to_string("/proc/thread-self/status").expect("/proc is mounted");
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    list.expect("the kernel has affinity masks").trim().to_owned()
}

/// Memory of this process with one policy.
#[derive(Clone, Debug)]
pub(crate) struct Area {
    pub(crate) start: usize,
    /// `default`, `prefer:1`, `bind:0`.
    pub(crate) policy: String,
    /// Pages by node.
    pub(crate) pages: BTreeMap<u32, u64>,
}

impl Area {
    /// The node that its policy names.
    pub(crate) fn wanted(&self) -> Option<u32> {
        self.policy.split_once(':')?.1.parse().ok()
    }

    pub(crate) fn not_on(&self, node: u32) -> u64 {
        self.pages.iter().filter(|(other, _)| **other != node).map(|(_, pages)| pages).sum()
    }
}

/// All of them, in the order of addresses, from `/proc/self/numa_maps`: lines like `7f02a000 prefer:1 anon=8 dirty=8 N1=8 kernelpagesize_kB=4`.
pub(crate) fn areas() -> Vec<Area> {
    let text = fs::read_to_string("/proc/self/numa_maps").expect("the kernel has NUMA");
    let area = |line: &str| {
        let mut words = line.split(' ');
        let start = usize::from_str_radix(words.next()?, 16).ok()?;
        let policy = words.next()?.to_owned();
        let on_node = |word: &str| {
            let (node, pages) = word.strip_prefix('N')?.split_once('=')?;
            Some((node.parse().ok()?, pages.parse().ok()?))
        };
        Some(Area { start, policy, pages: words.filter_map(on_node).collect() })
    };
    text.lines().filter_map(area).collect()
}

/// The one that an address is in.
pub(crate) fn area_of(address: usize) -> Area {
    areas().into_iter().rfind(|area| area.start <= address).expect("the address is mapped")
}

/// The frames of physical memory that each node has, from `/proc/zoneinfo`.
pub(crate) struct Frames(Vec<(std::ops::Range<u64>, u32)>);

impl Frames {
    pub(crate) fn read() -> Self {
        let text = fs::read_to_string("/proc/zoneinfo").expect("/proc is mounted");
        let (mut node, mut spanned, mut frames) = (0, 0, Vec::new());
        for line in text.lines() {
            let number = |name| line.trim_start().strip_prefix(name)?.trim().parse::<u64>().ok();
            if let Some((of, _)) = line.strip_prefix("Node ").and_then(|rest| rest.split_once(',')) {
                node = of.parse().expect("a node");
            }
            spanned = number("spanned").unwrap_or(spanned);
            if let Some(start) = number("start_pfn:") {
                frames.push((start..start + spanned, node));
            }
        }
        Self(frames)
    }

    /// On which node the page at `address` of this process lies, by `/proc/self/pagemap`: only root is told.
    pub(crate) fn node_at(&self, address: usize) -> Option<u32> {
        /// The entry's bits that are the frame, and the one that says that there is one.
        const FRAME: u64 = (1 << 55) - 1;
        const PRESENT: u64 = 1 << 63;
        let mut entry = [0; 8];
        let map = File::open("/proc/self/pagemap").expect("the kernel has pagemap");
        map.read_exact_at(&mut entry, address as u64 / 4096 * 8).ok()?;
        let entry = Some(u64::from_ne_bytes(entry)).filter(|entry| entry & PRESENT != 0)?;
        self.0.iter().find(|(frames, _)| frames.contains(&(entry & FRAME))).map(|(_, node)| *node)
    }
}
