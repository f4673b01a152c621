//! Which stage the user wants on which core.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::model::{Place, StageId};
use crate::policy::{IdlePolicy, MemoryLocality};

use super::parse::{self, CoreMapParseErrors};
use super::{Cores, CpuList, EdgeName};

/// Stages to cores, how each core idles, how near memory is to lie, and how many items rings hold.
///
/// Core numbers are relative to the cores this process is allowed to use, so one map fits a laptop, a container and
/// `taskset`. A set of cores can also be given by node, by last-level cache, as that of another stage, or for each instance:
/// see [`Cores`]. Two spellings:
///
/// ```text
/// decode=node:0;traces=same:decode;*=0-1;@0=spin;@*=park;@memory=strict;decode->traces=256
/// ```
///
/// ```toml
/// [stages]
/// decode = "node:0"
/// traces = "same:decode"
/// "*" = "0-1"      # every other stage
///
/// [cores]          # optional
/// 0 = "spin"
/// "*" = "park"     # every other core
/// memory = "strict"
///
/// [rings]          # optional
/// "decode->traces" = "256"
/// ```
///
/// A ring's capacity is rounded up to a power of two and goes before what the graph says. It makes no ring where stages are fused.
///
/// A stage the map does not name runs on the cores of `*`; where the map has no `*`, on all cores the map names. The
/// default map is `*=*`: every stage on every allowed core. A core without an idle policy takes the default one;
/// so does memory ([`MemoryLocality`]).
///
/// [`FromStr`] and [`Display`](fmt::Display) are the one-line form, [`CoreMap::from_toml`] and [`CoreMap::to_toml`]
/// the other; deserialising takes either, serialising gives the tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoreMap {
    pub(super) stages: BTreeMap<StageId, Cores>,
    pub(super) rest: Option<Cores>,
    pub(super) idle: BTreeMap<u32, IdlePolicy>,
    pub(super) idle_rest: Option<IdlePolicy>,
    pub(super) memory: Option<MemoryLocality>,
    pub(super) rings: BTreeMap<EdgeName, u64>,
}

impl Default for CoreMap {
    fn default() -> Self {
        Self {
            stages: BTreeMap::new(),
            rest: Some(Cores::All),
            idle: BTreeMap::new(),
            idle_rest: None,
            memory: None,
            rings: BTreeMap::new(),
        }
    }
}

impl CoreMap {
    /// A map of these stages only: every other stage runs on all cores they name. Without stages, the default map.
    pub fn of_stages(stages: impl IntoIterator<Item = (StageId, Cores)>) -> Self {
        Self { stages: stages.into_iter().collect(), rest: None, ..Self::default() }.or_all_cores()
    }

    /// Puts a stage on these cores.
    #[must_use]
    pub fn stage(mut self, stage: StageId, cores: Cores) -> Self {
        self.stages.insert(stage, cores);
        self
    }

    /// Puts every stage that is not named on these cores.
    #[must_use]
    pub fn rest(mut self, cores: Cores) -> Self {
        self.rest = Some(cores);
        self
    }

    /// How one core idles.
    #[must_use]
    pub fn idle(mut self, core: u32, policy: IdlePolicy) -> Self {
        self.idle.insert(core, policy);
        self
    }

    /// How every core that is not named idles.
    #[must_use]
    pub fn idle_rest(mut self, policy: IdlePolicy) -> Self {
        self.idle_rest = Some(policy);
        self
    }

    /// How near to its cores memory is to lie.
    #[must_use]
    pub fn with_memory(mut self, locality: MemoryLocality) -> Self {
        self.memory = Some(locality);
        self
    }

    /// How many items each ring of an edge holds: 1 to [`ring::MAX_CAPACITY`](crate::ring::MAX_CAPACITY).
    #[must_use]
    pub fn ring(mut self, edge: EdgeName, items: u64) -> Self {
        self.rings.insert(edge, items);
        self
    }

    /// The stages it names, with their cores, in the order of their names.
    pub fn stages(&self) -> impl Iterator<Item = (&StageId, &Cores)> {
        self.stages.iter()
    }

    /// The cores of every stage that it does not name, if it says so.
    pub fn cores_of_rest(&self) -> Option<&Cores> {
        self.rest.as_ref()
    }

    /// The cores whose idle policy it gives, in ascending order, and at last that of all others (`None`).
    pub fn idle_policies(&self) -> impl Iterator<Item = (Option<u32>, IdlePolicy)> {
        let named = self.idle.iter().map(|(core, policy)| (Some(*core), *policy));
        named.chain(self.idle_rest.map(|policy| (None, policy)))
    }

    /// The edges it names, with the items that each of their rings holds.
    pub fn rings(&self) -> impl Iterator<Item = (&EdgeName, u64)> {
        self.rings.iter().map(|(edge, items)| (edge, *items))
    }

    /// The cores a stage may use, as the map says it; `None` when the map does not name it.
    pub fn cores_of(&self, stage: &StageId) -> Option<&Cores> {
        self.stages.get(stage)
    }

    /// How a core idles.
    pub fn idle_of(&self, core: u32) -> IdlePolicy {
        self.idle.get(&core).copied().or(self.idle_rest).unwrap_or_default()
    }

    /// How near to its cores memory is to lie, if it says so.
    pub fn memory(&self) -> Option<MemoryLocality> {
        self.memory
    }

    /// Reads the TOML form.
    ///
    /// # Errors
    /// Every error of the text, each with field, line and token.
    pub fn from_toml(text: &str) -> Result<Self, CoreMapParseErrors> {
        parse::toml(text)
    }

    /// Where each entry of the text of a map stands, in either form: by stage, `*`, `@` and cores, or edge. For errors that are
    /// found when the map is used.
    pub fn places(text: &str) -> BTreeMap<String, Place> {
        parse::places(text)
    }

    /// Writes the TOML form.
    pub fn to_toml(&self) -> String {
        let tables = Tables::from(self);
        let table = |name: &str, entries: &BTreeMap<String, String>| {
            let quoted = |key: &String| toml::Value::from(key.as_str()).to_string();
            let lines = entries.iter().map(|(k, v)| format!("{} = {}\n", quoted(k), quoted(v)));
            if entries.is_empty() {
                String::new()
            } else {
                format!("[{name}]\n{}", lines.collect::<String>())
            }
        };
        let rings = tables.rings.into_iter().map(|(edge, items)| (edge, items.into())).collect();
        table("stages", &tables.stages) + &table("cores", &tables.cores) + &table("rings", &rings)
    }

    /// A map that names no stage at all means every core.
    pub(super) fn or_all_cores(mut self) -> Self {
        if self.stages.is_empty() && self.rest.is_none() {
            self.rest = Some(Cores::All);
        }
        self
    }

    /// The cores that share an idle policy, then the policy: `0-1`, spin.
    fn idle_groups(&self) -> impl Iterator<Item = (String, IdlePolicy)> + '_ {
        let named = IDLE_NAMES.iter().filter_map(|&(_, policy)| {
            let cores: CpuList =
                self.idle.iter().filter(|(_, p)| **p == policy).map(|(core, _)| *core).collect();
            (!cores.is_empty()).then(|| (cores.to_string(), policy))
        });
        named.chain(self.idle_rest.map(|policy| ("*".to_owned(), policy)))
    }
}

/// Stands among the cores for the memory of all of them.
pub(super) const MEMORY: &str = "memory";

/// The idle policies and how a core map spells them.
pub(super) const IDLE_NAMES: [(&str, IdlePolicy); 4] = [
    ("spin", IdlePolicy::Spin),
    ("yield", IdlePolicy::Yield),
    ("park", IdlePolicy::Park),
    ("adaptive", IdlePolicy::Adaptive),
];

fn idle_name(policy: IdlePolicy) -> &'static str {
    IDLE_NAMES.iter().find(|(_, p)| *p == policy).map_or("adaptive", |(name, _)| name)
}

impl fmt::Display for CoreMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stages = self.stages.iter().map(|(stage, cores)| format!("{stage}={cores}"));
        let rest = self.rest.iter().map(|cores| format!("*={cores}"));
        let idle = self.idle_groups().map(|(cores, policy)| format!("@{cores}={}", idle_name(policy)));
        let memory = self.memory.iter().map(|locality| format!("@{MEMORY}={locality}"));
        let rings = self.rings.iter().map(|(edge, items)| format!("{edge}={items}"));
        for (i, entry) in stages.chain(rest).chain(idle).chain(memory).chain(rings).enumerate() {
            write!(f, "{}{entry}", if i == 0 { "" } else { ";" })?;
        }
        Ok(())
    }
}

impl FromStr for CoreMap {
    type Err = CoreMapParseErrors;
    fn from_str(text: &str) -> Result<Self, CoreMapParseErrors> {
        parse::one_line(text)
    }
}

/// The table form, as serde sees it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tables {
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    stages: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    cores: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    rings: BTreeMap<String, Items>,
}

/// A number of items, which may stand in quotes.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Items {
    Text(String),
    Number(u64),
}

impl From<Items> for String {
    fn from(items: Items) -> String {
        match items {
            Items::Text(text) => text,
            Items::Number(items) => items.to_string(),
        }
    }
}

impl From<&CoreMap> for Tables {
    fn from(map: &CoreMap) -> Self {
        let stages = map.stages.iter().map(|(stage, cores)| (stage.to_string(), cores.to_string()));
        let rest = map.rest.iter().map(|cores| ("*".to_owned(), cores.to_string()));
        let cores = map.idle_groups().map(|(cores, policy)| (cores, idle_name(policy).to_owned()));
        let cores = cores.chain(map.memory.iter().map(|locality| (MEMORY.to_owned(), locality.to_string())));
        let rings = map.rings.iter().map(|(edge, items)| (edge.to_string(), Items::Text(items.to_string())));
        Self { stages: stages.chain(rest).collect(), cores: cores.collect(), rings: rings.collect() }
    }
}

impl Serialize for CoreMap {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Tables::from(self).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for CoreMap {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> de::Visitor<'de> for Either {
            type Value = CoreMap;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(
                    "a core map: a line like \"decode=0;*=0-1\", or tables `stages`, `cores` and `rings`",
                )
            }
            fn visit_str<E: de::Error>(self, line: &str) -> Result<CoreMap, E> {
                line.parse().map_err(E::custom)
            }
            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<CoreMap, A::Error> {
                let tables = Tables::deserialize(de::value::MapAccessDeserializer::new(map))?;
                let rings = tables.rings.into_iter().map(|(edge, items)| (edge, items.into())).collect();
                parse::tables(&tables.stages, &tables.cores, &rings).map_err(de::Error::custom)
            }
        }
        deserializer.deserialize_any(Either)
    }
}
