//! Reads a configuration, setting by setting.

use std::collections::BTreeMap;
use std::num::NonZeroU64;

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Config, ConfigError};
use crate::graph::{InputOverrides, StageOverrides};
use crate::model::{Place, StageId, Text};
use crate::policy::{Checked, PolicyRef, RegistryReader, SettingError, SettingReader, sorted};
use crate::topology::core_map_from_table;

const TABLES: [&str; 4] = ["policies", "core-map", "memory", "stages"];
const MEMORY_FIELDS: [&str; 2] = ["budget-bytes", "pool"];
const INPUT_FIELDS: [&str; 2] = ["buffer", "backpressure"];
const STAGE_FIELDS: [&str; 6] =
    ["parallelism", "buffer", "backpressure", "error-policy", "circuit-breaker", "inputs"];

/// What could be read, and everything that is wrong, in the order of the texts.
pub(super) fn read<'t>(texts: impl IntoIterator<Item = Text<'t>>) -> (Config, Vec<ConfigError>) {
    let mut read = ConfigReader::default();
    let mut errors = Vec::new();
    for text in texts {
        let (document, syntax) = DeTable::parse_recoverable(text.content.unwrap_or_default());
        let mut reader = SettingReader::new(text);
        reader.syntax(&syntax);
        read.document(&mut reader, document.get_ref());
        read.errors.extend(reader.errors.into_iter().map(ConfigError::Setting));
        read.errors.sort_by_key(|error| error.place().and_then(|place| place.at));
        errors.append(&mut read.errors);
    }
    let ConfigReader { mut config, registry, .. } = read;
    let given = registry.given.into_iter().map(|(name, place)| (format!("policies.{name}"), place));
    config.places.extend(given);
    config.policies = registry.registry;
    (config, errors)
}

#[derive(Default)]
struct ConfigReader {
    config: Config,
    registry: RegistryReader,
    errors: Vec<ConfigError>,
}

impl ConfigReader {
    fn document(&mut self, reader: &mut SettingReader<'_>, root: &DeTable<'_>) {
        for (key, value) in sorted(root) {
            let field = key.get_ref().as_ref();
            match field {
                "policies" | "core-map" | "memory" | "stages" => {}
                _ => {
                    reader.unknown(field, key, &TABLES);
                    continue;
                }
            }
            let Some(table) = reader.table(field, value) else { continue };
            match field {
                "policies" => self.registry.tables(reader, "policies.", table),
                "core-map" => self.core_map(reader, key.span().start, table),
                "memory" => self.memory(reader, table),
                _ => self.stages(reader, table),
            }
        }
    }

    fn memory(&mut self, reader: &mut SettingReader<'_>, table: &DeTable<'_>) {
        for (key, value) in sorted(table) {
            let name = key.get_ref().as_ref();
            let field = format!("memory.{name}");
            if !MEMORY_FIELDS.contains(&name) {
                reader.unknown(&field, key, &MEMORY_FIELDS);
            } else if !self.given(reader, &field, key.span().start) {
                let memory = &mut self.config.memory;
                if name == "pool" {
                    memory.pool = reader.value(&field, value);
                    memory.pool.iter().for_each(|pool| reader.check(&field, value, pool));
                } else {
                    memory.budget_bytes = reader.value::<NonZeroU64>(&field, value).map(NonZeroU64::get);
                }
            }
        }
    }

    fn core_map(&mut self, reader: &mut SettingReader<'_>, offset: usize, table: &DeTable<'_>) {
        if self.given(reader, "core-map", offset) {
            return;
        }
        let (map, errors) = core_map_from_table(reader.text, table);
        self.config.core_map = Some(map);
        self.errors.extend(errors.into_iter().map(|error| {
            let file = if error.place().is_some() { None } else { reader.text.file.map(str::to_owned) };
            ConfigError::CoreMap { file, error }
        }));
    }

    fn stages(&mut self, reader: &mut SettingReader<'_>, stages: &DeTable<'_>) {
        for (key, value) in sorted(stages) {
            let name = key.get_ref().as_ref();
            let field = format!("stages.{name}");
            let place = reader.text.place(&field, key.span().start);
            let Some(table) = reader.table(&field, value) else { continue };
            match StageId::new(name) {
                Err(problem) => {
                    self.errors.push(ConfigError::StageName { place, name: name.to_owned(), problem });
                }
                Ok(id) => {
                    self.config.places.entry(field.clone()).or_insert(place);
                    let mut stage = self.config.stages.remove(&id).unwrap_or_default();
                    self.stage(reader, &field, table, &mut stage);
                    self.config.stages.insert(id, stage);
                }
            }
        }
    }

    fn stage(
        &mut self,
        reader: &mut SettingReader<'_>,
        prefix: &str,
        table: &DeTable<'_>,
        stage: &mut StageOverrides,
    ) {
        for (key, value) in sorted(table) {
            let field = format!("{prefix}.{}", key.get_ref());
            let name = key.get_ref().as_ref();
            if name == "inputs" {
                self.inputs(reader, &field, value, &mut stage.inputs);
                continue;
            }
            if !STAGE_FIELDS.contains(&name) {
                reader.unknown(&field, key, &STAGE_FIELDS);
                continue;
            }
            if self.given(reader, &field, key.span().start) {
                continue;
            }
            match name {
                "parallelism" => {
                    stage.parallelism = reader.value(&field, value);
                    stage.parallelism.iter().for_each(|p| reader.check(&field, value, p));
                }
                "buffer" => stage.buffer = policy(reader, &field, value),
                "backpressure" => stage.backpressure = policy(reader, &field, value),
                "error-policy" => stage.error_policy = policy(reader, &field, value),
                _ => stage.circuit_breaker = policy(reader, &field, value),
            }
        }
    }

    fn inputs(
        &mut self,
        reader: &mut SettingReader<'_>,
        prefix: &str,
        value: &Spanned<DeValue<'_>>,
        inputs: &mut BTreeMap<String, InputOverrides>,
    ) {
        let Some(table) = reader.table(prefix, value) else { return };
        for (key, value) in sorted(table) {
            let field = format!("{prefix}.{}", key.get_ref());
            let Some(table) = reader.table(&field, value) else { continue };
            let place = reader.text.place(&field, key.span().start);
            self.config.places.entry(field.clone()).or_insert(place);
            let input = inputs.entry(key.get_ref().to_string()).or_default();
            for (key, value) in sorted(table) {
                let field = format!("{field}.{}", key.get_ref());
                match key.get_ref().as_ref() {
                    "buffer" | "backpressure" if self.given(reader, &field, key.span().start) => {}
                    "buffer" => input.buffer = policy(reader, &field, value),
                    "backpressure" => input.backpressure = policy(reader, &field, value),
                    _ => reader.unknown(&field, key, &INPUT_FIELDS),
                }
            }
        }
    }

    /// Whether `field` was given before, which is noted; else it is given here.
    fn given(&mut self, reader: &mut SettingReader<'_>, field: &str, offset: usize) -> bool {
        let place: Place = reader.text.place(field, offset);
        if let Some(first) = self.config.places.get(field) {
            reader.errors.push(SettingError::Duplicate { place, first: first.clone() });
            return true;
        }
        self.config.places.insert(field.to_owned(), place);
        false
    }
}

/// A policy in place, which is checked, or the name of one.
fn policy<P: Checked + for<'de> Deserialize<'de>>(
    reader: &mut SettingReader<'_>,
    field: &str,
    value: &Spanned<DeValue<'_>>,
) -> Option<PolicyRef<P>> {
    let policy = reader.value(field, value)?;
    if let PolicyRef::Inline(policy) = &policy {
        reader.check(field, value, policy);
    }
    Some(policy)
}
