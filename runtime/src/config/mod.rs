//! A pipeline's configuration: named policies, a core map, and what differs from the code, stage by stage.
//!
//! ```toml
//! [policies.buffer-policies]
//! small = { capacity = 64 }
//!
//! [policies.error-policies.patient.retry]
//! max-retries = 5
//! backoff = { base = "10ms", cap = "1s" }
//!
//! [memory]
//! budget-bytes = 268435456
//! pool = { limit-bytes = 67108864, huge-pages = true }
//!
//! [core-map.stages]
//! decode = "0-1"
//! "*" = "0"
//!
//! [stages.decode]
//! parallelism = { fixed = 2 }
//! buffer = { ref = "small" }
//! error-policy = { ref = "patient" }
//!
//! [stages.join.inputs."keep/errors"]
//! buffer = { capacity = 256, drop-policy = "drop-newest" }
//! ```
//!
//! It is read from one or several texts ([`Config::from_toml`], [`Config::from_files`]), given to
//! [`PipelineBuilder::with_config`](crate::flow::PipelineBuilder::with_config), its core map and what it says of memory to
//! [`ExecutionOptions`](crate::engine::ExecutionOptions). What is wrong with the texts is reported all at once, with
//! file, line and column; what only the graph can tell (a stage that does not exist) is an error of `build`, whose
//! place [`Config::place_of`] finds.

mod read;

use std::collections::BTreeMap;

use crate::graph::{At, Edge, GraphError, StageOverrides};
use crate::model::{ErrorList, IdError, Place, StageId};
use crate::policy::{MemoryPoolOptions, POLICY_TABLES, PolicyRegistry, SettingError};
use crate::topology::{CoreMap, CoreMapParseError};

/// One thing wrong with a configuration.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ConfigError {
    /// A setting.
    #[error(transparent)]
    Setting(#[from] SettingError),
    /// The core map.
    #[error("{}{error}", file.as_ref().map(|file| format!("{file}: ")).unwrap_or_default())]
    CoreMap {
        /// The file, where it is not in the error already.
        file: Option<String>,
        /// What is wrong.
        error: CoreMapParseError,
    },
    /// A name that cannot be that of a stage.
    #[error("{place}: {name:?} cannot be the name of a stage: {problem}")]
    StageName {
        /// Where.
        place: Place,
        /// The name.
        name: String,
        /// What is wrong with it.
        problem: IdError,
    },
}

impl ConfigError {
    /// Where it is; `None` for an empty core map.
    pub fn place(&self) -> Option<&Place> {
        match self {
            Self::Setting(error) => Some(error.place()),
            Self::CoreMap { error, .. } => error.place(),
            Self::StageName { place, .. } => Some(place),
        }
    }

    /// Whether it is about the core map.
    pub fn is_core_map(&self) -> bool {
        matches!(self, Self::CoreMap { .. })
    }
}

/// Everything that is wrong with a configuration.
pub type ConfigErrors = ErrorList<ConfigError>;

/// What a configuration says of memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemorySettings {
    /// For [`ExecutionOptions::memory_budget`](crate::engine::ExecutionOptions::memory_budget).
    pub budget_bytes: Option<u64>,
    /// For the [`MemoryPool`](crate::pool::MemoryPool).
    pub pool: Option<MemoryPoolOptions>,
}

/// A configuration, read from TOML; see the [module](self).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Config {
    /// Policies that stages refer to by name.
    pub policies: PolicyRegistry,
    /// Which stages run on which cores, if it says so.
    pub core_map: Option<CoreMap>,
    /// What the pipeline may take of memory, as far as it says.
    pub memory: MemorySettings,
    /// What differs from the code, by stage.
    pub stages: BTreeMap<StageId, StageOverrides>,
    /// Where each setting was given, by its field.
    places: BTreeMap<String, Place>,
}

impl Config {
    /// Reads it from one text.
    ///
    /// # Errors
    /// Everything that is wrong with it, each with field, line and column.
    pub fn from_toml(text: &str) -> Result<Self, ConfigErrors> {
        let (config, errors) = read::read([crate::model::Text::of(text)]);
        ErrorList::check(errors, config)
    }

    /// Reads it from several texts, each with its name (a file). What is given twice is an error, also in two files.
    ///
    /// # Errors
    /// Everything that is wrong with them, each with file, field, line and column.
    pub fn from_files<'t>(files: impl IntoIterator<Item = (&'t str, &'t str)>) -> Result<Self, ConfigErrors> {
        let (config, errors) = Self::examine(files);
        ErrorList::check(errors, config)
    }

    /// As [`from_files`](Self::from_files), but gives what could be read beside what is wrong, for a check that goes
    /// on to the graph.
    pub fn examine<'t>(files: impl IntoIterator<Item = (&'t str, &'t str)>) -> (Self, Vec<ConfigError>) {
        let text = |(file, content)| crate::model::Text { file: Some(file), content: Some(content) };
        read::read(files.into_iter().map(text))
    }

    /// Where the setting stands that `error` comes from, if it comes from a setting.
    pub fn place_of(&self, error: &GraphError) -> Option<&Place> {
        match error {
            GraphError::OverrideOfUnknownStage { id, .. } => self.place(&format!("stages.{id}")),
            GraphError::OverrideOfUnknownInput { at: At::Stage { id, .. }, input, .. } => {
                self.place(&format!("stages.{id}.inputs.{input}"))
            }
            GraphError::UnknownPolicy { at, field, .. } => self.place_at(at, field),
            GraphError::Policy { at, problem, .. } => self.place_at(at, &problem.field),
            _ => None,
        }
    }

    /// Whether `error` repeats what was found when the texts were read: a policy that cannot work, or a name whose
    /// policy could not be read.
    pub fn is_known(&self, error: &GraphError) -> bool {
        match error {
            GraphError::UnknownPolicy { problem, .. } => {
                self.place(&format!("policies.{}.{}", problem.table, problem.name)).is_some()
            }
            GraphError::Policy { name: Some(name), .. } => {
                POLICY_TABLES.iter().any(|table| self.place(&format!("policies.{table}.{name}")).is_some())
            }
            GraphError::Policy { name: None, .. } => self.place_of(error).is_some(),
            _ => false,
        }
    }

    fn place(&self, field: &str) -> Option<&Place> {
        self.places.get(field)
    }

    fn place_at(&self, at: &At, field: &str) -> Option<&Place> {
        match at {
            At::Stage { id, .. } => {
                let setting = field.split('.').next().unwrap_or_default();
                self.place(&format!("stages.{id}.{setting}"))
            }
            At::Edge { from, to, label, .. } => {
                let setting = field.strip_prefix("channel.")?.split('.').next().unwrap_or_default();
                let edge = Edge { label: label.clone(), ..Edge::new(from, to) };
                let names = [edge.input_name(), from.clone()];
                let single = names.iter().map(|input| format!("stages.{to}.inputs.{input}.{setting}"));
                let all = [to, from].map(|stage| format!("stages.{stage}.{setting}"));
                single.chain(all).find_map(|field| self.place(&field))
            }
        }
    }
}
