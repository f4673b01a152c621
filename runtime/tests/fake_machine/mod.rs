//! Fake sysfs, procfs and cgroup trees in a temporary directory, in the layout of real kernels.
#![allow(dead_code, reason = "shared by test binaries that each use a part of it")]

use std::fs;
use std::path::Path;

use corelane::topology::{CpuList, Machine, MachineError};
use tempfile::TempDir;

/// One directory that stands for `/`.
pub(crate) struct FakeMachine {
    root: TempDir,
}

/// The shape of a tree: CPU `n` is thread `n / cores` of core `n % cores`, as Linux numbers them on x86.
pub(crate) struct Shape {
    pub(crate) packages: u32,
    pub(crate) cores_per_package: u32,
    pub(crate) threads_per_core: u32,
    /// Cores that share a level 3 cache.
    pub(crate) cores_per_l3: u32,
}

pub(crate) fn list(text: &str) -> CpuList {
    text.parse().unwrap()
}

impl FakeMachine {
    pub(crate) fn empty() -> Self {
        Self { root: tempfile::tempdir().unwrap() }
    }

    /// All CPUs online, a node for each package, 1 GiB each.
    pub(crate) fn new(shape: &Shape) -> Self {
        let machine = Self::empty();
        let cores = shape.packages * shape.cores_per_package;
        let all = CpuList::first_n(cores * shape.threads_per_core);
        let cpus_of = |wanted: &dyn Fn(u32) -> bool| -> CpuList {
            all.iter().filter(|cpu| wanted(cpu % cores)).collect()
        };
        for name in ["online", "present", "possible"] {
            machine.cpu_file(name, &all.to_string());
        }
        machine.cpu_file("isolated", "");
        for cpu in all.iter() {
            let core = cpu % cores;
            let package = core / shape.cores_per_package;
            let siblings = cpus_of(&|other| other == core).to_string();
            let l3 = cpus_of(&|other| other / shape.cores_per_l3 == core / shape.cores_per_l3).to_string();
            machine.cpu_file(&format!("cpu{cpu}/topology/physical_package_id"), &package.to_string());
            machine.cpu_file(
                &format!("cpu{cpu}/topology/core_id"),
                &(core % shape.cores_per_package).to_string(),
            );
            machine.cpu_file(&format!("cpu{cpu}/topology/core_cpus_list"), &siblings);
            machine.cpu_file(&format!("cpu{cpu}/topology/thread_siblings_list"), &siblings);
            for (index, (level, shared)) in
                [(1, &siblings), (1, &siblings), (2, &siblings), (3, &l3)].into_iter().enumerate()
            {
                machine.cpu_file(&format!("cpu{cpu}/cache/index{index}/level"), &level.to_string());
                machine.cpu_file(&format!("cpu{cpu}/cache/index{index}/shared_cpu_list"), shared);
            }
        }
        for package in 0..shape.packages {
            let cpus = cpus_of(&|core| core / shape.cores_per_package == package).to_string();
            let distance = |other| if other == package { "10" } else { "21" };
            let distances: Vec<_> = (0..shape.packages).map(distance).collect();
            machine.node(package, &cpus, 1 << 20, &distances.join(" "));
        }
        machine.file("proc/self/cgroup", "0::/\n");
        machine.mounts(&["31 23 0:28 / /sys/fs/cgroup rw,relatime shared:4 - cgroup2 cgroup2 rw,nsdelegate"]);
        machine.file("sys/fs/cgroup/cpuset.cpus.effective", &format!("{all}\n"));
        machine
    }

    /// Four cores without SMT under one cache.
    pub(crate) fn desktop() -> Self {
        Self::new(&Shape { packages: 1, cores_per_package: 4, threads_per_core: 1, cores_per_l3: 4 })
    }

    /// 8 cores of 2 threads (siblings n and n + 8), two cores complexes of 4 cores with a cache each.
    pub(crate) fn smt_server() -> Self {
        Self::new(&Shape { packages: 1, cores_per_package: 8, threads_per_core: 2, cores_per_l3: 4 })
    }

    /// Two sockets of 4 cores of 2 threads.
    pub(crate) fn two_sockets() -> Self {
        Self::new(&Shape { packages: 2, cores_per_package: 4, threads_per_core: 2, cores_per_l3: 4 })
    }

    pub(crate) fn root(&self) -> &Path {
        self.root.path()
    }

    pub(crate) fn file(&self, path: &str, text: &str) {
        let path = self.root().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub(crate) fn remove(&self, path: &str) {
        let path = self.root().join(path);
        if path.is_dir() { fs::remove_dir_all(path).unwrap() } else { fs::remove_file(path).unwrap() }
    }

    pub(crate) fn cpu_file(&self, path: &str, text: &str) {
        self.file(&format!("sys/devices/system/cpu/{path}"), &format!("{text}\n"));
    }

    pub(crate) fn node(&self, id: u32, cpus: &str, memory_kib: u64, distances: &str) {
        let dir = format!("sys/devices/system/node/node{id}");
        self.file(&format!("{dir}/cpulist"), &format!("{cpus}\n"));
        self.file(&format!("{dir}/distance"), &format!("{distances}\n"));
        let meminfo = format!("Node {id} MemTotal:    {memory_kib} kB\nNode {id} MemFree:     0 kB\n");
        self.file(&format!("{dir}/meminfo"), &meminfo);
    }

    pub(crate) fn mounts(&self, lines: &[&str]) {
        let other = "22 27 0:21 / /sys rw,nosuid shared:7 - sysfs sysfs rw";
        self.file("proc/self/mountinfo", &format!("{other}\n{}\n", lines.join("\n")));
    }

    /// A CPU goes offline: the kernel takes it from every list and removes its directories.
    pub(crate) fn offline(&self, cpu: u32) {
        let online = fs::read_to_string(self.root().join("sys/devices/system/cpu/online")).unwrap();
        let online = CpuList::from_kernel(&online).unwrap().difference(&CpuList::from_iter([cpu]));
        self.cpu_file("online", &online.to_string());
        self.remove(&format!("sys/devices/system/cpu/cpu{cpu}/topology"));
        self.remove(&format!("sys/devices/system/cpu/cpu{cpu}/cache"));
    }

    /// As read by a process whose affinity mask is `affinity`.
    pub(crate) fn read(&self, affinity: &str) -> Result<Machine, MachineError> {
        Machine::read(self.root(), &list(affinity))
    }
}
