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

    /// Four sockets of two cores, node to node in a ring, so that the opposite one is two hops away.
    pub(crate) fn four_sockets() -> Self {
        let machine =
            Self::new(&Shape { packages: 4, cores_per_package: 2, threads_per_core: 1, cores_per_l3: 2 });
        for (node, distances) in
            ["10 16 22 16", "16 10 16 22", "22 16 10 16", "16 22 16 10"].iter().enumerate()
        {
            let node = node as u32;
            machine.node(node, &format!("{}-{}", node * 2, node * 2 + 1), 1 << 20, distances);
        }
        machine
    }

    /// One socket of four chiplets (CCDs) of four cores of two threads, each with a cache and a die of its own, in one node.
    pub(crate) fn chiplets() -> Self {
        let machine =
            Self::new(&Shape { packages: 1, cores_per_package: 16, threads_per_core: 2, cores_per_l3: 4 });
        (0..32).for_each(|cpu| {
            machine.cpu_file(&format!("cpu{cpu}/topology/die_id"), &(cpu % 16 / 4).to_string())
        });
        machine
    }

    /// An ARM board: four slow cores and four fast ones, a level 2 cache for each four, no level 3, no NUMA.
    pub(crate) fn big_little() -> Self {
        let machine =
            Self::new(&Shape { packages: 1, cores_per_package: 8, threads_per_core: 1, cores_per_l3: 8 });
        machine.remove("sys/devices/system/node");
        for cpu in 0..8 {
            let (cluster, capacity) = if cpu < 4 { ("0-3", 446) } else { ("4-7", 1024) };
            machine.cpu_file(&format!("cpu{cpu}/cpu_capacity"), &capacity.to_string());
            machine.cpu_file(&format!("cpu{cpu}/cache/index2/shared_cpu_list"), cluster);
            machine.remove(&format!("sys/devices/system/cpu/cpu{cpu}/cache/index3"));
        }
        machine
    }

    /// Two fast cores of two threads (0 and 1, 2 and 3) and four slow ones, all under one cache.
    pub(crate) fn hybrid_laptop() -> Self {
        let machine =
            Self::new(&Shape { packages: 1, cores_per_package: 8, threads_per_core: 1, cores_per_l3: 8 });
        for cpu in 0..8 {
            let siblings =
                ["0-1", "0-1", "2-3", "2-3"].get(cpu as usize).map_or(cpu.to_string(), |two| (*two).into());
            for list in ["core_cpus_list", "thread_siblings_list"] {
                machine.cpu_file(&format!("cpu{cpu}/topology/{list}"), &siblings);
            }
            machine.cpu_file(
                &format!("cpu{cpu}/topology/core_id"),
                &if cpu < 4 { cpu / 2 } else { cpu }.to_string(),
            );
            machine.cpu_file(&format!("cpu{cpu}/cpu_capacity"), if cpu < 4 { "1024" } else { "640" });
        }
        machine
    }

    /// Two sockets; the memory of the second is not there.
    pub(crate) fn node_without_memory() -> Self {
        let machine = Self::two_sockets();
        machine.node(1, "4-7,12-15", 0, "21 10");
        machine
    }

    /// The SMT server with every second thread but one taken offline.
    pub(crate) fn offline_cpus() -> Self {
        let machine = Self::smt_server();
        (9..16).for_each(|cpu| machine.offline(cpu));
        machine
    }

    /// Eight cores of which four are kept free of everything that is not pinned to them.
    pub(crate) fn isolated_cpus() -> Self {
        let machine =
            Self::new(&Shape { packages: 1, cores_per_package: 8, threads_per_core: 1, cores_per_l3: 8 });
        machine.cpu_file("isolated", "4-7");
        machine.cpu_file("nohz_full", "4-7");
        machine
    }

    /// A container of the SMT server: cgroups of version 2, six CPUs, one and a half of them.
    pub(crate) fn v2_container() -> Self {
        let machine = Self::smt_server();
        machine.file("proc/self/cgroup", "0::/pod/app\n");
        machine.file("sys/fs/cgroup/pod/app/cpuset.cpus.effective", "4-6,12-14\n");
        machine.file("sys/fs/cgroup/pod/cpu.max", "150000 100000\n");
        machine
    }

    /// A container of the desktop: cgroups of version 1, two CPUs, two and a half of them.
    pub(crate) fn v1_container() -> Self {
        let fake = Self::desktop();
        fake.file(
            "proc/self/cgroup",
            "4:cpuset:/kube/app\n3:cpu,cpuacct:/kube/app\n1:name=systemd:/\n0::/\n",
        );
        fake.mounts(&[
            "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct",
            "34 31 0:31 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset",
            "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw",
        ]);
        fake.file("sys/fs/cgroup/cpuset/kube/app/cpuset.effective_cpus", "1,3\n");
        fake.file("sys/fs/cgroup/cpuset/kube/app/cpuset.cpus", "0-7\n");
        fake.file("sys/fs/cgroup/cpu,cpuacct/kube/app/cpu.cfs_quota_us", "-1\n");
        fake.file("sys/fs/cgroup/cpu,cpuacct/kube/app/cpu.cfs_period_us", "100000\n");
        fake.file("sys/fs/cgroup/cpu,cpuacct/kube/cpu.cfs_quota_us", "250000\n");
        fake.file("sys/fs/cgroup/cpu,cpuacct/kube/cpu.cfs_period_us", "100000\n");
        fake
    }

    /// A container in which nothing of the machine can be read but the affinity mask.
    pub(crate) fn missing_files() -> Self {
        let machine = Self::empty();
        machine.affinity("0-3");
        machine
    }

    /// All of them, by name.
    pub(crate) fn gallery() -> Vec<(&'static str, Self)> {
        let taskset = Self::desktop();
        taskset.affinity("2");
        vec![
            ("desktop", Self::desktop()),
            ("smt-server", Self::smt_server()),
            ("two-sockets", Self::two_sockets()),
            ("four-sockets", Self::four_sockets()),
            ("chiplets", Self::chiplets()),
            ("big-little", Self::big_little()),
            ("hybrid-laptop", Self::hybrid_laptop()),
            ("v1-container", Self::v1_container()),
            ("v2-container", Self::v2_container()),
            ("node-without-memory", Self::node_without_memory()),
            ("offline-cpus", Self::offline_cpus()),
            ("isolated-cpus", Self::isolated_cpus()),
            ("missing-files", Self::missing_files()),
            ("taskset", taskset),
        ]
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

    /// The affinity mask of the process that the tree is about.
    pub(crate) fn affinity(&self, cpus: &str) {
        self.file("proc/self/status", &format!("Name:\tcorelane\nCpus_allowed_list:\t{cpus}\nThreads:\t1\n"));
    }

    /// As read by a process whose affinity mask is `affinity`.
    pub(crate) fn read(&self, affinity: &str) -> Result<Machine, MachineError> {
        Machine::read(self.root(), &list(affinity))
    }
}
