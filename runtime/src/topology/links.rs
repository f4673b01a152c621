//! What was measured between pairs of CPUs.

use serde::{Deserialize, Serialize};

use super::{CpuId, CpuList};

/// What crossing from one CPU to another costs, as `corelane c2c` measures it. Rows are the CPUs that send, columns those that
/// receive, both in ascending order; the diagonal is 0.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct CoreLinks {
    /// The CPUs measured.
    pub cpus: CpuList,
    /// Half of the median round trip of one item, in nanoseconds.
    pub one_way_ns: Vec<Vec<f64>>,
    /// Items of eight bytes per second, in one direction.
    pub items_per_s: Vec<Vec<f64>>,
}

/// A table that is no table.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{table} is not a table of {cpus} rows of {cpus} numbers of 0 or more")]
pub struct CoreLinksError {
    /// Which of the tables.
    pub table: &'static str,
    /// The CPUs there are.
    pub cpus: usize,
}

impl CoreLinks {
    /// Checks that both tables have a number for each pair of CPUs.
    ///
    /// # Errors
    /// The first table that has not.
    pub fn check(&self) -> Result<(), CoreLinksError> {
        let cpus = self.cpus.len();
        for (name, table) in [("one-way-ns", &self.one_way_ns), ("items-per-s", &self.items_per_s)] {
            let right = |row: &Vec<f64>| row.len() == cpus && row.iter().all(|n| n.is_finite() && *n >= 0.0);
            if table.len() != cpus || !table.iter().all(right) {
                return Err(CoreLinksError { table: name, cpus });
            }
        }
        Ok(())
    }

    /// Nanoseconds from one CPU to another, the mean of both directions; `None` where that was not measured. Logarithmic.
    pub fn between(&self, a: CpuId, b: CpuId) -> Option<f64> {
        let at = |cpu| self.cpus.as_slice().binary_search(&cpu).ok();
        let (a, b) = (at(a)?, at(b)?);
        let one_way = |from: usize, to: usize| self.one_way_ns.get(from)?.get(to).copied();
        Some((one_way(a, b)? + one_way(b, a)?) / 2.0)
    }
}
