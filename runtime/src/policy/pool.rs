//! What the memory pool may use.

use serde::{Deserialize, Serialize};

/// Buffers made ready on each core when it starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Preallocation {
    /// Bytes of each buffer.
    pub size: usize,
    /// How many, on each core.
    pub count: usize,
}

/// Options of a memory pool.
///
/// ```
/// use corelane::policy::MemoryPoolOptions;
///
/// let options = MemoryPoolOptions { limit_bytes: 64 << 20, ..MemoryPoolOptions::default() };
/// assert!(!options.checked);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub struct MemoryPoolOptions {
    /// Bytes that the pool may hold over all cores, rented or not. What does not fit is refused, and can be had again when
    /// memory comes back. Default: 256 MiB.
    pub limit_bytes: u64,
    /// Asks the system for huge pages, in units of 2 MiB as far as the limit has room. Default: no, because every core then
    /// holds at least one unit.
    pub huge_pages: bool,
    /// Finds misuse of buffers: returned twice, written after their return, written over their ends. Costs time and memory;
    /// see `pool` for what is found when. Default: no.
    pub checked: bool,
    /// Buffers may outlive the pipeline, because its output holds some: its account then does not ask for them. Default: no, and a
    /// buffer that is still rented at the end breaks a law of the account.
    pub buffers_may_outlive: bool,
    /// What each core makes ready, and touches, before its first step. Default: nothing.
    pub preallocate: Vec<Preallocation>,
}

impl Default for MemoryPoolOptions {
    fn default() -> Self {
        Self {
            limit_bytes: 256 << 20,
            huge_pages: false,
            checked: false,
            buffers_may_outlive: false,
            preallocate: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_read_back_and_unknown_fields_are_refused() {
        let options = MemoryPoolOptions {
            limit_bytes: 5 << 20,
            huge_pages: true,
            checked: true,
            buffers_may_outlive: true,
            preallocate: vec![Preallocation { size: 4096, count: 8 }],
        };
        let text = toml::to_string(&options).unwrap();
        assert_eq!(toml::from_str::<MemoryPoolOptions>(&text).unwrap(), options);
        assert_eq!(toml::from_str::<MemoryPoolOptions>("").unwrap(), MemoryPoolOptions::default());
        assert!(toml::from_str::<MemoryPoolOptions>("limit = 3").is_err());
    }
}
