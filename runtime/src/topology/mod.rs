//! The machine and the core map, as data.
//!
//! Three values, each computed from the one before it, none of them touching a thread:
//!
//! - [`Machine`]: what this process may run on, read from files under a root path.
//! - [`CoreMap`]: which stage the user wants on which core, with core numbers relative to what is allowed.
//! - [`Placement`]: the outcome: partitions, their CPUs, and which partition each stage instance lives in.
//!
//! ```
//! use corelane::model::StageId;
//! use corelane::policy::Parallelism;
//! use corelane::topology::{CoreMap, Machine};
//!
//! let map: CoreMap = "decode=0;*=0-1".parse()?;
//! let stages = [
//!     (StageId::new("decode")?, Parallelism::Sequential),
//!     (StageId::new("traces")?, Parallelism::CpuBound),
//! ];
//! let placement = map.resolve(&Machine::flat(2), &stages)?;
//! assert_eq!(placement.partitions.len(), 2);
//! assert_eq!(placement.instances(&stages[1].0), [0, 1]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod cgroup;
mod core_map;
mod cores;
mod cpu_list;
mod edge_name;
mod files;
mod idle;
mod links;
mod locality;
mod machine;
mod parse;
mod place;
mod read;
mod resolve;
mod select;

pub use core_map::CoreMap;
pub use cores::Cores;
pub use cpu_list::{CpuId, CpuList, CpuListError, CpuListProblem, MAX_CPU};
pub use edge_name::{EdgeName, EdgeNameError};
pub use files::{Fact, FileProblem, MachineNote};
pub use idle::{EffectiveIdle, NoSpin, effective_idle};
pub use links::{CoreLinks, CoreLinksError};
pub use machine::{Cpu, FULL_CAPACITY, Machine, MachineError, NumaNode};
pub(crate) use parse::from_table as core_map_from_table;
pub use parse::{CoreMapParseError, CoreMapParseErrors};
pub use place::{PartitionPlace, Placement, PlacementWarning};
pub use resolve::{CoreMapError, CoreMapErrors, GroupKind, Limits};
