//! What the control groups of this process allow, in version 1, version 2 or the mixture of both.

use super::CpuList;
use super::files::{Fact, FileProblem, Files};

const SELF_CGROUP: &str = "/proc/self/cgroup";
const MOUNTS: &str = "/proc/self/mountinfo";
const CGROUP_FS: &str = "/sys/fs/cgroup";

/// The limits of the group this process is in and of all groups above it.
pub(super) struct CgroupLimits {
    pub(super) cpuset: Option<CpuList>,
    pub(super) quota: Option<f64>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

/// A mounted hierarchy: group `root` of it is visible at `point`.
struct Mount {
    version: Version,
    controllers: Vec<String>,
    root: String,
    point: String,
}

/// A line of `/proc/self/cgroup`.
struct Membership {
    version: Version,
    controllers: Vec<String>,
    group: String,
}

pub(super) fn read(files: &mut Files<'_>) -> CgroupLimits {
    let memberships = memberships(files);
    let mounts = mounts(files);
    CgroupLimits {
        cpuset: cpuset(files, &groups(&memberships, &mounts, "cpuset")),
        quota: quota(files, &groups(&memberships, &mounts, "cpu")),
    }
}

fn memberships(files: &mut Files<'_>) -> Vec<Membership> {
    let text = files.text(SELF_CGROUP).unwrap_or_else(|problem| {
        files.note(Fact::Cgroup, SELF_CGROUP, problem, "the limits of the root groups are taken");
        "1:cpuset:/\n1:cpu:/\n0::/\n".to_owned()
    });
    let membership = |line: &str| {
        let (hierarchy, rest) = line.split_once(':')?;
        let (controllers, group) = rest.split_once(':')?;
        let version = if hierarchy == "0" { Version::Two } else { Version::One };
        Some(Membership { version, controllers: words(controllers), group: group.to_owned() })
    };
    text.lines().filter_map(membership).collect()
}

/// The mounted hierarchies, or the places where they usually are.
fn mounts(files: &Files<'_>) -> Vec<Mount> {
    let listed: Vec<Mount> =
        files.text(MOUNTS).map(|text| text.lines().filter_map(mount).collect()).unwrap_or_default();
    if !listed.is_empty() {
        return listed;
    }
    let usual = |version, controller: &str, point: String| Mount {
        version,
        controllers: words(controller),
        root: "/".into(),
        point,
    };
    vec![
        usual(Version::One, "cpuset", format!("{CGROUP_FS}/cpuset")),
        usual(Version::One, "cpu", format!("{CGROUP_FS}/cpu")),
        usual(Version::One, "cpu", format!("{CGROUP_FS}/cpu,cpuacct")),
        usual(Version::Two, "", CGROUP_FS.to_owned()),
    ]
}

/// `31 23 0:28 / /sys/fs/cgroup/cpu rw,relatime shared:9 - cgroup cgroup rw,cpu`
fn mount(line: &str) -> Option<Mount> {
    let (place, kind) = line.split_once(" - ")?;
    let mut place = place.split(' ').skip(3);
    let (root, point) = (place.next()?, place.next()?);
    let mut kind = kind.split(' ');
    let version = match kind.next()? {
        "cgroup" => Version::One,
        "cgroup2" => Version::Two,
        _ => return None,
    };
    let controllers = words(kind.nth(1).unwrap_or_default());
    // The kernel writes a space in a path as \040.
    Some(Mount { version, controllers, root: root.replace("\\040", " "), point: point.replace("\\040", " ") })
}

fn words(list: &str) -> Vec<String> {
    list.split(',').map(str::to_owned).collect()
}

/// The directories that may limit `controller`, innermost group first, with the version of their hierarchy.
///
/// A controller sits in one hierarchy only: version 1 where one carries it, else version 2.
fn groups(memberships: &[Membership], mounts: &[Mount], controller: &str) -> Vec<(Version, String)> {
    let carries = |controllers: &[String]| controllers.iter().any(|c| c == controller);
    let mut directories = Vec::new();
    for version in [Version::One, Version::Two] {
        let in_use = |v: Version, c: &[String]| v == version && (v == Version::Two || carries(c));
        let Some(member) = memberships.iter().find(|m| in_use(m.version, &m.controllers)) else { continue };
        for mount in mounts.iter().filter(|m| in_use(m.version, &m.controllers)) {
            directories.extend(path_to_root(mount, &member.group).into_iter().map(|dir| (version, dir)));
        }
    }
    directories
}

/// The directories from `group` up to what is mounted.
fn path_to_root(mount: &Mount, group: &str) -> Vec<String> {
    // A group outside of what is mounted (a container that sees its own group as the root) leaves the mount itself.
    let inside = group.strip_prefix(mount.root.trim_end_matches('/')).unwrap_or_default();
    let inside = if inside.starts_with('/') { inside } else { "" };
    let names: Vec<&str> = inside.split('/').filter(|name| !name.is_empty()).collect();
    let depth = if names.contains(&"..") { 0 } else { names.len() };
    let directory = |n: usize| {
        names[..n].iter().fold(mount.point.clone(), |mut path, name| {
            path.push('/');
            path.push_str(name);
            path
        })
    };
    (0..=depth).rev().map(directory).collect()
}

/// The CPUs of the innermost group that states any; the kernel has applied those of the groups above.
fn cpuset(files: &mut Files<'_>, groups: &[(Version, String)]) -> Option<CpuList> {
    for (version, directory) in groups {
        let names: &[&str] = match version {
            Version::One => &["cpuset.effective_cpus", "cpuset.cpus"],
            Version::Two => &["cpuset.cpus.effective"],
        };
        for name in names {
            let path = format!("{directory}/{name}");
            match files.list(&path) {
                Ok(cpus) if !cpus.is_empty() => return Some(cpus),
                Ok(_) | Err(FileProblem::Missing) => {}
                Err(problem) => files.note(Fact::Cpuset, &path, problem, "the group above is asked"),
            }
        }
    }
    let fallback = "no cpuset is known; the affinity mask alone limits";
    files.note(Fact::Cpuset, CGROUP_FS, FileProblem::Missing, fallback);
    None
}

/// The smallest quota of all groups.
fn quota(files: &mut Files<'_>, groups: &[(Version, String)]) -> Option<f64> {
    if !files.exists(CGROUP_FS) {
        files.note(Fact::CpuQuota, CGROUP_FS, FileProblem::Missing, "no quota is assumed");
    }
    let mut smallest: Option<f64> = None;
    for (version, directory) in groups {
        let (path, limit) = match version {
            Version::One => {
                let path = format!("{directory}/cpu.cfs_quota_us");
                let both = files
                    .text(&path)
                    .and_then(|quota| Ok((quota, files.text(&format!("{directory}/cpu.cfs_period_us"))?)));
                (path, both.and_then(|(quota, period)| cpus_of(quota.trim(), period.trim())))
            }
            Version::Two => {
                let path = format!("{directory}/cpu.max");
                let limit = files.text(&path).and_then(|text| {
                    // The period may be left out; the kernel's default is 100 ms.
                    let (quota, period) = text.trim().split_once(' ').unwrap_or((text.trim(), "100000"));
                    cpus_of(quota, period)
                });
                (path, limit)
            }
        };
        match limit {
            Ok(Some(cpus)) => smallest = Some(smallest.map_or(cpus, |s| s.min(cpus))),
            Ok(None) | Err(FileProblem::Missing) => {}
            Err(problem) => {
                files.note(Fact::CpuQuota, &path, problem, "this group is taken to have no quota")
            }
        }
    }
    smallest
}

/// CPUs that a quota per period (both in microseconds) stands for; `None` for no limit.
fn cpus_of(quota: &str, period: &str) -> Result<Option<f64>, FileProblem> {
    if quota == "max" || quota == "-1" {
        return Ok(None);
    }
    match (quota.parse::<u32>(), period.parse::<u32>()) {
        (Ok(quota), Ok(period)) if quota > 0 && period > 0 => Ok(Some(f64::from(quota) / f64::from(period))),
        _ => Err(FileProblem::malformed(&format!("{quota} {period}"))),
    }
}
