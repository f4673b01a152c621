//! Which stage the user wants on which core.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::model::StageId;
use crate::policy::IdlePolicy;

use super::parse::{self, CoreMapParseErrors};
use super::{CpuList, CpuListError};

/// A set of cores, as a core map names it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cores {
    /// Every allowed core; written `*`.
    All,
    /// These cores, numbered within the allowed set: 0 is the first allowed core.
    List(CpuList),
}

impl fmt::Display for Cores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("*"),
            Self::List(list) => list.fmt(f),
        }
    }
}

impl FromStr for Cores {
    type Err = CpuListError;
    fn from_str(text: &str) -> Result<Self, CpuListError> {
        if text == "*" { Ok(Self::All) } else { text.parse().map(Self::List) }
    }
}

/// Stages to cores, and how each core idles.
///
/// Core numbers are relative to the cores this process is allowed to use, so one map fits a laptop, a container and
/// `taskset`. Two spellings:
///
/// ```text
/// decode=0;traces=0-1;*=0-1;@0=spin;@*=park
/// ```
///
/// ```toml
/// [stages]
/// decode = "0"
/// traces = "0-1"
/// "*" = "0-1"      # every other stage
///
/// [cores]          # optional
/// 0 = "spin"
/// "*" = "park"     # every other core
/// ```
///
/// A stage the map does not name runs on the cores of `*`; where the map has no `*`, on all cores the map names. The
/// default map is `*=*`: every stage on every allowed core. A core without an idle policy takes the default one.
///
/// [`FromStr`] and [`Display`](fmt::Display) are the one-line form, [`CoreMap::from_toml`] and [`CoreMap::to_toml`]
/// the other; deserialising takes either, serialising gives the tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoreMap {
    pub(super) stages: BTreeMap<StageId, Cores>,
    pub(super) rest: Option<Cores>,
    pub(super) idle: BTreeMap<u32, IdlePolicy>,
    pub(super) idle_rest: Option<IdlePolicy>,
}

impl Default for CoreMap {
    fn default() -> Self {
        Self { stages: BTreeMap::new(), rest: Some(Cores::All), idle: BTreeMap::new(), idle_rest: None }
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

    /// The cores a stage may use, as the map says it; `None` when the map does not name it.
    pub fn cores_of(&self, stage: &StageId) -> Option<&Cores> {
        self.stages.get(stage)
    }

    /// How a core idles.
    pub fn idle_of(&self, core: u32) -> IdlePolicy {
        self.idle.get(&core).copied().or(self.idle_rest).unwrap_or_default()
    }

    /// Reads the TOML form.
    ///
    /// # Errors
    /// Every error of the text, each with field, line and token.
    pub fn from_toml(text: &str) -> Result<Self, CoreMapParseErrors> {
        parse::toml(text)
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
        table("stages", &tables.stages) + &table("cores", &tables.cores)
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
        for (i, entry) in stages.chain(rest).chain(idle).enumerate() {
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
}

impl From<&CoreMap> for Tables {
    fn from(map: &CoreMap) -> Self {
        let stages = map.stages.iter().map(|(stage, cores)| (stage.to_string(), cores.to_string()));
        let rest = map.rest.iter().map(|cores| ("*".to_owned(), cores.to_string()));
        let cores = map.idle_groups().map(|(cores, policy)| (cores, idle_name(policy).to_owned()));
        Self { stages: stages.chain(rest).collect(), cores: cores.collect() }
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
                f.write_str("a core map: a line like \"decode=0;*=0-1\", or tables `stages` and `cores`")
            }
            fn visit_str<E: de::Error>(self, line: &str) -> Result<CoreMap, E> {
                line.parse().map_err(E::custom)
            }
            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<CoreMap, A::Error> {
                let tables = Tables::deserialize(de::value::MapAccessDeserializer::new(map))?;
                parse::tables(&tables.stages, &tables.cores).map_err(de::Error::custom)
            }
        }
        deserializer.deserialize_any(Either)
    }
}
