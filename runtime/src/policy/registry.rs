//! Named policies.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::document::{SettingError, SettingReader, sorted};
use super::{BackpressureStrategy, BufferPolicy, Checked, CircuitBreakerPolicy, ErrorPolicy, NamedPolicy};
use crate::model::{ErrorList, Place, Text};

/// All that is wrong with the text of a registry.
pub type RegistryErrors = ErrorList<SettingError>;

/// Policies by name, so that stages can refer to them; usually read from TOML.
///
/// ```
/// use corelane::policy::{BufferPolicy, DropPolicy, PolicyRegistry};
///
/// let registry = PolicyRegistry::from_toml(
///     r#"
///     [buffer-policies]
///     lossy = { capacity = 1024, drop-policy = "drop-oldest" }
///
///     [error-policies.patient.retry]
///     max-retries = 5
///     backoff = { base = "10ms", cap = "1s" }
///     "#,
/// )?;
/// let lossy = BufferPolicy { capacity: 1024, drop_policy: DropPolicy::DropOldest, ..BufferPolicy::default() };
/// assert_eq!(registry.buffer_policies["lossy"], lossy);
/// # Ok::<(), corelane::policy::RegistryErrors>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct PolicyRegistry {
    /// Error policies.
    #[serde(default)]
    pub error_policies: BTreeMap<String, ErrorPolicy>,
    /// Backpressure strategies.
    #[serde(default)]
    pub backpressure_policies: BTreeMap<String, BackpressureStrategy>,
    /// Circuit breakers.
    #[serde(default)]
    pub circuit_breaker_policies: BTreeMap<String, CircuitBreakerPolicy>,
    /// Buffers.
    #[serde(default)]
    pub buffer_policies: BTreeMap<String, BufferPolicy>,
}

impl PolicyRegistry {
    /// Reads it from TOML: one table for each kind of policy, one entry for each name.
    ///
    /// # Errors
    /// Everything that is wrong with the text and with its policies, each with field, line and column.
    pub fn from_toml(text: &str) -> Result<Self, RegistryErrors> {
        Self::read([Text::of(text)])
    }

    /// Reads one registry from several texts, each with its name (a file).
    ///
    /// # Errors
    /// As [`from_toml`](Self::from_toml), each with its file; and every name that is given twice, in one text or two.
    pub fn from_files<'t>(
        files: impl IntoIterator<Item = (&'t str, &'t str)>,
    ) -> Result<Self, RegistryErrors> {
        let text = |(file, content)| Text { file: Some(file), content: Some(content) };
        Self::read(files.into_iter().map(text))
    }

    fn read<'t>(texts: impl IntoIterator<Item = Text<'t>>) -> Result<Self, RegistryErrors> {
        let (mut read, mut errors) = (RegistryReader::default(), Vec::new());
        for text in texts {
            let (document, syntax) = DeTable::parse_recoverable(text.content.unwrap_or_default());
            let mut reader = SettingReader::new(text);
            reader.syntax(&syntax);
            read.tables(&mut reader, "", document.get_ref());
            reader.errors.sort_by_key(|error| error.place().at);
            errors.append(&mut reader.errors);
        }
        ErrorList::check(errors, read.registry)
    }

    /// The number of policies of all kinds.
    pub fn len(&self) -> usize {
        self.error_policies.len()
            + self.backpressure_policies.len()
            + self.circuit_breaker_policies.len()
            + self.buffer_policies.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes over the policies of `other`, also where a name is known already.
    pub(crate) fn overlay(&mut self, other: Self) {
        self.error_policies.extend(other.error_policies);
        self.backpressure_policies.extend(other.backpressure_policies);
        self.circuit_breaker_policies.extend(other.circuit_breaker_policies);
        self.buffer_policies.extend(other.buffer_policies);
    }
}

/// The tables of a registry, as written.
pub(crate) const POLICY_TABLES: [&str; 4] =
    [ErrorPolicy::TABLE, BackpressureStrategy::TABLE, CircuitBreakerPolicy::TABLE, BufferPolicy::TABLE];

/// A registry under way, read from several tables of several texts.
#[derive(Default)]
pub(crate) struct RegistryReader {
    /// What could be read; also policies that cannot work, so that their names are known.
    pub(crate) registry: PolicyRegistry,
    /// Where each name was given first, by `table.name`; also of what could not be read.
    pub(crate) given: BTreeMap<String, Place>,
}

impl RegistryReader {
    /// Reads the tables in `root`, whose fields start with `prefix`.
    pub(crate) fn tables(&mut self, reader: &mut SettingReader<'_>, prefix: &str, root: &DeTable<'_>) {
        for (key, value) in sorted(root) {
            let field = format!("{prefix}{}", key.get_ref());
            let read = match key.get_ref().as_ref() {
                ErrorPolicy::TABLE => Self::table::<ErrorPolicy>,
                BackpressureStrategy::TABLE => Self::table::<BackpressureStrategy>,
                CircuitBreakerPolicy::TABLE => Self::table::<CircuitBreakerPolicy>,
                BufferPolicy::TABLE => Self::table::<BufferPolicy>,
                _ => {
                    reader.unknown(&field, key, &POLICY_TABLES);
                    continue;
                }
            };
            read(self, reader, &field, value);
        }
    }

    fn table<P>(&mut self, reader: &mut SettingReader<'_>, field: &str, value: &Spanned<DeValue<'_>>)
    where
        P: NamedPolicy + Checked + for<'de> Deserialize<'de>,
    {
        let Some(table) = reader.table(field, value) else { return };
        for (key, value) in sorted(table) {
            let name = key.get_ref().as_ref();
            let field = format!("{field}.{name}");
            let place = reader.text.place(&field, key.span().start);
            let given = format!("{}.{name}", P::TABLE);
            if let Some(first) = self.given.get(&given) {
                reader.errors.push(SettingError::Duplicate { place, first: first.clone() });
                continue;
            }
            self.given.insert(given, place);
            if let Some(policy) = reader.value::<P>(&field, value) {
                reader.check(&field, value, &policy);
                P::policies_mut(&mut self.registry).insert(name.to_owned(), policy);
            }
        }
    }
}
