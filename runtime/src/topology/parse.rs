//! Reads core maps, in one line or as TOML, and reports every error at once.

use std::collections::BTreeMap;
use std::ops::Range;

use toml::de::{DeTable, DeValue};

use crate::model::{ErrorList, IdError, Place, StageId, Text};
use crate::policy::{IdlePolicy, MemoryLocality, sorted};

use super::core_map::{IDLE_NAMES, MEMORY};
use super::{CoreMap, Cores, CpuList, CpuListError, EdgeName, EdgeNameError};
use crate::ring::MAX_CAPACITY;

/// All that is wrong with the text of a core map.
pub type CoreMapParseErrors = ErrorList<CoreMapParseError>;

/// One thing wrong with the text of a core map.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CoreMapParseError {
    /// A one-line map without any text.
    #[error(
        "the core map is empty; write stages and cores like \"decode=0;*=0-1\", or \"*=*\" for all cores"
    )]
    Empty,
    /// Two semicolons in a row, or one at an end.
    #[error("{place}: there is nothing between the semicolons")]
    EmptyEntry {
        /// Where.
        place: Place,
    },
    /// An entry without `=`.
    #[error("{place}: {token:?} is not of the form stage=cores")]
    NoEquals {
        /// Where.
        place: Place,
        /// The entry.
        token: String,
    },
    /// A name that cannot be that of a stage.
    #[error("{place}: {token:?} cannot be the name of a stage: {source}")]
    StageName {
        /// Where.
        place: Place,
        /// The name.
        token: String,
        /// What is wrong with it.
        source: IdError,
    },
    /// A set of cores that makes no sense.
    #[error("{place}: cores {:?}: {}", .source.token, .source.problem)]
    Cores {
        /// Where the wrong token starts.
        place: Place,
        /// Token, position within the list, and what is wrong with it.
        source: CpuListError,
    },
    /// A stage or core named before.
    #[error("{place}: {token} is given twice")]
    Duplicate {
        /// Where the second one is.
        place: Place,
        /// What is given twice.
        token: String,
    },
    /// An idle policy that does not exist.
    #[error("{place}: {token:?} is not an idle policy; there are spin, yield, park and adaptive")]
    IdlePolicy {
        /// Where.
        place: Place,
        /// The policy.
        token: String,
    },
    /// A locality of memory that does not exist.
    #[error("{place}: {token:?} does not say where memory lies; there are any, local and strict")]
    MemoryLocality {
        /// Where.
        place: Place,
        /// The word.
        token: String,
    },
    /// What should name an edge and does not.
    #[error("{place}: {token:?} names no edge: {source}")]
    EdgeName {
        /// Where.
        place: Place,
        /// The name.
        token: String,
        /// What is wrong with it.
        source: EdgeNameError,
    },
    /// A capacity of a ring that cannot be.
    #[error(
        "{place}: {token:?} cannot be the capacity of a ring: it is a number of items from 1 to {MAX_CAPACITY}"
    )]
    RingCapacity {
        /// Where.
        place: Place,
        /// The capacity.
        token: String,
    },
    /// Text that is not TOML.
    #[error("{place}: {message}{}", if .token.is_empty() { String::new() } else { format!(": {:?}", .token) })]
    Toml {
        /// Where.
        place: Place,
        /// The part of the text, shortened.
        token: String,
        /// The TOML reader's words.
        message: String,
    },
    /// A table other than `stages`, `cores` and `rings`.
    #[error("{place}: a core map has no such field; it has the tables [stages], [cores] and [rings]")]
    UnknownField {
        /// Where.
        place: Place,
    },
    /// A value of another type.
    #[error("{place}: expected {expected}, found {found}")]
    WrongType {
        /// Where.
        place: Place,
        /// What should be there.
        expected: &'static str,
        /// The type that is there.
        found: &'static str,
    },
}

/// A key or value and where it starts.
#[derive(Clone, Copy)]
struct Token<'a> {
    text: &'a str,
    offset: usize,
}

/// Collects a map and its errors, entry by entry.
struct Reader<'a> {
    text: Text<'a>,
    map: CoreMap,
    errors: Vec<CoreMapParseError>,
}

impl<'a> Reader<'a> {
    fn new(text: Text<'a>) -> Self {
        let map = CoreMap { rest: None, ..CoreMap::default() };
        Self { text, map, errors: Vec::new() }
    }

    fn finish(self) -> Result<CoreMap, CoreMapParseErrors> {
        ErrorList::check(self.errors, self.map.or_all_cores())
    }

    /// `key = cores`; `key` is a stage or `*`.
    fn stage(&mut self, key: Token<'_>, value: Token<'_>) {
        let place = self.text.place(key.text, key.offset);
        let cores = value.text.parse::<Cores>().map_err(|e| self.cores_error(key.text, value, e));
        let cores = self.keep(cores);
        let token = key.text.to_owned();
        if key.text == "*" {
            if self.map.rest.is_some() {
                self.errors.push(CoreMapParseError::Duplicate { place, token });
            }
            // A wrong value still counts as given.
            self.map.rest = Some(cores.unwrap_or(Cores::All));
            return;
        }
        match StageId::new(key.text) {
            Err(source) => self.errors.push(CoreMapParseError::StageName { place, token, source }),
            Ok(stage) => {
                if self.map.stages.insert(stage, cores.unwrap_or(Cores::All)).is_some() {
                    self.errors.push(CoreMapParseError::Duplicate { place, token });
                }
            }
        }
    }

    /// `key = idle policy`; `key` is a list of cores or `*`. Or `memory = locality`.
    fn core(&mut self, key: Token<'_>, value: Token<'_>) {
        let field = format!("@{}", key.text);
        let place = self.text.place(&field, key.offset);
        if key.text == MEMORY {
            return self.memory(field, place, value);
        }
        let policy = IDLE_NAMES.iter().find(|(name, _)| *name == value.text).map(|(_, policy)| *policy);
        if policy.is_none() {
            let place = self.text.place(&field, value.offset);
            self.errors.push(CoreMapParseError::IdlePolicy { place, token: value.text.into() });
        }
        let policy = policy.unwrap_or_default();
        if key.text == "*" {
            if self.map.idle_rest.replace(policy).is_some() {
                self.errors.push(CoreMapParseError::Duplicate { place, token: field });
            }
            return;
        }
        let cores = key.text.parse::<CpuList>().map_err(|e| self.cores_error(&field, key, e));
        self.keep(cores).into_iter().for_each(|cores| self.idle_cores(&cores, policy, &place));
    }

    fn memory(&mut self, field: String, place: Place, value: Token<'_>) {
        let known = MemoryLocality::NAMES.iter().find(|(name, _)| *name == value.text);
        if known.is_none() {
            let place = self.text.place(&field, value.offset);
            self.errors.push(CoreMapParseError::MemoryLocality { place, token: value.text.into() });
        }
        let locality = known.map(|(_, locality)| *locality).unwrap_or_default();
        if self.map.memory.replace(locality).is_some() {
            self.errors.push(CoreMapParseError::Duplicate { place, token: field });
        }
    }

    /// `key = items`; `key` is an edge.
    fn ring(&mut self, key: Token<'_>, value: Token<'_>) {
        let place = self.text.place(key.text, key.offset);
        let digits = value.text.bytes().all(|byte| byte.is_ascii_digit()) && !value.text.starts_with('0');
        let items = value.text.parse::<u64>().ok().filter(|items| digits && *items <= MAX_CAPACITY as u64);
        if items.is_none() {
            let place = self.text.place(key.text, value.offset);
            self.errors.push(CoreMapParseError::RingCapacity { place, token: value.text.into() });
        }
        match key.text.parse::<EdgeName>() {
            Err(source) => {
                self.errors.push(CoreMapParseError::EdgeName { place, token: key.text.into(), source });
            }
            Ok(edge) => {
                let token = edge.to_string();
                // A wrong value still counts as given.
                if self.map.rings.insert(edge, items.unwrap_or(1)).is_some() {
                    self.errors.push(CoreMapParseError::Duplicate { place, token });
                }
            }
        }
    }

    fn idle_cores(&mut self, cores: &CpuList, policy: IdlePolicy, place: &Place) {
        let twice: CpuList =
            cores.iter().filter(|&core| self.map.idle.insert(core, policy).is_some()).collect();
        if !twice.is_empty() {
            let token = format!("@{twice}");
            self.errors.push(CoreMapParseError::Duplicate { place: place.clone(), token });
        }
    }

    fn cores_error(&self, field: &str, list: Token<'_>, source: CpuListError) -> CoreMapParseError {
        CoreMapParseError::Cores { place: self.text.place(field, list.offset + source.position), source }
    }

    fn keep<T>(&mut self, read: Result<T, CoreMapParseError>) -> Option<T> {
        read.map_err(|error| self.errors.push(error)).ok()
    }
}

/// `decode=0;traces=0-1;*=0-1;@0=spin`
pub(super) fn one_line(text: &str) -> Result<CoreMap, CoreMapParseErrors> {
    let mut reader = Reader::new(Text::of(text));
    if text.is_empty() {
        reader.errors.push(CoreMapParseError::Empty);
        return reader.finish();
    }
    let mut offset = 0;
    for entry in text.split(';') {
        let place = reader.text.place("", offset);
        match entry.split_once('=') {
            _ if entry.is_empty() => reader.errors.push(CoreMapParseError::EmptyEntry { place }),
            None => reader.errors.push(CoreMapParseError::NoEquals { place, token: entry.into() }),
            Some((key, value)) => {
                let value = Token { text: value, offset: offset + key.len() + 1 };
                match key.strip_prefix('@') {
                    Some(cores) => reader.core(Token { text: cores, offset: offset + 1 }, value),
                    None if key.contains("->") => reader.ring(Token { text: key, offset }, value),
                    None => reader.stage(Token { text: key, offset }, value),
                }
            }
        }
        offset += entry.len() + 1;
    }
    reader.finish()
}

/// The tables of the TOML form, without their text.
pub(super) fn tables(
    stages: &BTreeMap<String, String>,
    cores: &BTreeMap<String, String>,
    rings: &BTreeMap<String, String>,
) -> Result<CoreMap, CoreMapParseErrors> {
    let mut reader = Reader::new(Text::default());
    let token = |text| Token { text, offset: 0 };
    for (stage, cores) in stages {
        reader.stage(token(stage), token(cores));
    }
    for (cores, policy) in cores {
        reader.core(token(cores), token(policy));
    }
    for (edge, items) in rings {
        reader.ring(token(edge), token(items));
    }
    reader.finish()
}

pub(super) fn toml(text: &str) -> Result<CoreMap, CoreMapParseErrors> {
    let (document, syntax) = DeTable::parse_recoverable(text);
    let mut reader = Reader::new(Text::of(text));
    read_tables(&mut reader, document.get_ref());
    add_syntax_errors(&mut reader, &syntax);
    reader.finish()
}

/// Where each entry of a map stands, by stage, `*`, `@` and cores, or edge.
pub(super) fn places(text: &str) -> BTreeMap<String, Place> {
    let at = Text::of(text);
    let mut places = BTreeMap::new();
    let (document, syntax) = DeTable::parse_recoverable(text);
    if syntax.is_empty() {
        for (table, content) in sorted(document.get_ref()) {
            let prefix = if table.get_ref() == "cores" { "@" } else { "" };
            for (key, _) in content.get_ref().as_table().into_iter().flat_map(sorted) {
                let field = format!("{prefix}{}", key.get_ref());
                places.insert(field.clone(), at.place(&field, key.span().start));
            }
        }
    }
    if !places.is_empty() {
        return places;
    }
    let mut offset = 0;
    for entry in text.split(';') {
        if let Some((field, _)) = entry.split_once('=') {
            places.insert(field.to_owned(), at.place(field, offset));
        }
        offset += entry.len() + 1;
    }
    places
}

/// The map in a table of a larger document, and all that is wrong with it but its syntax.
pub(crate) fn from_table(text: Text<'_>, table: &DeTable<'_>) -> (CoreMap, Vec<CoreMapParseError>) {
    let mut reader = Reader::new(text);
    read_tables(&mut reader, table);
    (reader.map.or_all_cores(), reader.errors)
}

fn read_tables(reader: &mut Reader<'_>, document: &DeTable<'_>) {
    for (table, content) in sorted(document) {
        let place = reader.text.place(table.get_ref(), table.span().start);
        let read: fn(&mut Reader<'_>, Token<'_>, Token<'_>) = match table.get_ref().as_ref() {
            "stages" => |reader, key, value| reader.stage(key, value),
            "cores" => |reader, key, value| reader.core(key, value),
            "rings" => |reader, key, value| reader.ring(key, value),
            _ => {
                reader.errors.push(CoreMapParseError::UnknownField { place });
                continue;
            }
        };
        match content.get_ref().as_table() {
            Some(entries) => read_table(reader, entries, read),
            None => reader.errors.push(CoreMapParseError::WrongType {
                place,
                expected: "a table",
                found: content.get_ref().type_str(),
            }),
        }
    }
}

fn read_table(
    reader: &mut Reader<'_>,
    entries: &DeTable<'_>,
    read: impl Fn(&mut Reader<'_>, Token<'_>, Token<'_>),
) {
    for (key, value) in sorted(entries) {
        let key_token = token(reader.text, key.get_ref(), key.span());
        match value.get_ref() {
            DeValue::String(content) => {
                let value = token(reader.text, content, value.span());
                read(reader, key_token, value);
            }
            // Only a number of items may stand without quotes: "0" is a set of cores.
            DeValue::Integer(items) if key.get_ref().contains("->") => {
                let value = Token { text: items.as_str(), offset: value.span().start };
                read(reader, key_token, value);
            }
            other => reader.errors.push(CoreMapParseError::WrongType {
                place: reader.text.place(key.get_ref(), key.span().start),
                expected: match other {
                    DeValue::Table(_) => "text (a name with a dot in it needs quotes)",
                    _ => "text in quotes, like \"0-1\"",
                },
                found: other.type_str(),
            }),
        }
    }
}

/// What a span of the text holds, less its opening quote.
fn token<'t>(text: Text<'_>, content: &'t str, span: Range<usize>) -> Token<'t> {
    let raw = text.content.and_then(|text| text.get(span.clone())).unwrap_or_default();
    let quote = usize::from(raw.starts_with(['"', '\'']));
    Token { text: content, offset: span.start + quote }
}

/// Adds what the TOML reader found, in place of what followed from it in the same lines.
fn add_syntax_errors(reader: &mut Reader<'_>, syntax: &[toml::de::Error]) {
    let syntax_error = |error: &toml::de::Error| {
        let span = error.span().unwrap_or_default();
        let token = reader.text.content.and_then(|text| text.get(span.clone())).unwrap_or_default();
        CoreMapParseError::Toml {
            place: reader.text.place("", span.start),
            token: token.chars().take(40).collect(),
            message: error.message().replace('\n', ", "),
        }
    };
    let errors: Vec<_> = syntax.iter().map(syntax_error).collect();
    let line = |error: &CoreMapParseError| error.place().and_then(|place| place.at).map(|(line, _)| line);
    reader.errors.retain(|error| errors.iter().all(|syntax| line(syntax) != line(error)));
    reader.errors.extend(errors);
    reader.errors.sort_by_key(|error| error.place().and_then(|place| place.at));
}

impl CoreMapParseError {
    /// Where in the text it is; `None` for an empty text.
    pub fn place(&self) -> Option<&Place> {
        match self {
            Self::Empty => None,
            Self::EmptyEntry { place }
            | Self::NoEquals { place, .. }
            | Self::StageName { place, .. }
            | Self::Cores { place, .. }
            | Self::Duplicate { place, .. }
            | Self::IdlePolicy { place, .. }
            | Self::MemoryLocality { place, .. }
            | Self::EdgeName { place, .. }
            | Self::RingCapacity { place, .. }
            | Self::Toml { place, .. }
            | Self::UnknownField { place }
            | Self::WrongType { place, .. } => Some(place),
        }
    }
}
