//! Where an item stands in a distributed trace, and the W3C headers that carry it.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Headers, TraceState};

/// Why a string is not a `traceparent`, a trace id or a span id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TraceParseError {
    /// Too short, or longer than its version allows.
    #[error("wrong length: {0} bytes")]
    Length(usize),
    /// A field is not closed by a hyphen.
    #[error("expected '-' at byte {0}")]
    Delimiter(usize),
    /// A character other than `0-9 a-f`.
    #[error("not a lower-case hex digit at byte {0}")]
    Hex(usize),
    /// Version `ff` is forbidden.
    #[error("version ff is not valid")]
    Version,
    /// All bytes of the trace id are zero.
    #[error("the trace id is all zero")]
    ZeroTraceId,
    /// All bytes of the span id are zero.
    #[error("the span id is all zero")]
    ZeroSpanId,
}

fn hex<const N: usize>(text: &[u8], at: usize) -> Result<[u8; N], TraceParseError> {
    let mut bytes = [0; N];
    for i in 0..2 * N {
        let digit = match text.get(at + i) {
            Some(c @ b'0'..=b'9') => c - b'0',
            Some(c @ b'a'..=b'f') => c - b'a' + 10,
            _ => return Err(TraceParseError::Hex(at + i)),
        };
        bytes[i / 2] = bytes[i / 2] << 4 | digit;
    }
    Ok(bytes)
}

macro_rules! hex_id {
    ($(#[$doc:meta])* $name:ident, $bytes:literal) => {
        $(#[$doc])*
        ///
        /// All zero means: none. Text form: lower-case hex.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(pub [u8; $bytes]);

        impl $name {
            /// Whether any byte is not zero.
            pub fn is_valid(self) -> bool {
                self.0 != [0; $bytes]
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
            }
        }

        impl FromStr for $name {
            type Err = TraceParseError;
            fn from_str(s: &str) -> Result<Self, TraceParseError> {
                if s.len() != 2 * $bytes {
                    return Err(TraceParseError::Length(s.len()));
                }
                hex(s.as_bytes(), 0).map(Self)
            }
        }

        impl TryFrom<String> for $name {
            type Error = TraceParseError;
            fn try_from(s: String) -> Result<Self, TraceParseError> {
                s.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.to_string()
            }
        }
    };
}

hex_id! {
    /// The id of a trace.
    TraceId, 16
}
hex_id! {
    /// The id of a span within a trace.
    SpanId, 8
}

/// A position in a trace, with optional state and baggage. Cloning copies 25 bytes and two pointers.
///
/// Displays as, and parses from, a W3C Trace Context `traceparent`. State has a header of its own, `tracestate`: see
/// [`from_headers`](Self::from_headers) and [`to_headers`](Self::to_headers). Baggage is in neither.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TraceContext {
    /// The trace.
    pub trace_id: TraceId,
    /// The span within it.
    pub span_id: SpanId,
    /// The flags byte; bit 0 says that the trace is sampled.
    #[serde(default)]
    pub flags: u8,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    state: Option<Arc<TraceState>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    baggage: Option<Arc<Headers>>,
}

static NO_STATE: TraceState = TraceState::new();
static NO_BAGGAGE: Headers = Headers::new();

/// `text` without the white space that HTTP allows around a header's value.
pub(super) fn trim_blanks(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}

impl TraceContext {
    /// The bit of [`flags`](Self::flags) that says "sampled".
    pub const SAMPLED: u8 = 1;

    /// A context without state and baggage.
    pub const fn new(trace_id: TraceId, span_id: SpanId, flags: u8) -> Self {
        Self { trace_id, span_id, flags, state: None, baggage: None }
    }

    /// The context that a request's headers name, by W3C Trace Context; other headers are passed over, names are
    /// compared without case. `None` where a new trace is to be started: there is not exactly one `traceparent`, or it is
    /// not valid. A `tracestate` that is not valid is left out.
    pub fn from_headers<'a>(headers: impl IntoIterator<Item = (&'a str, &'a str)>) -> Option<Self> {
        let (mut parents, mut states) = (Vec::new(), Vec::new());
        for (name, value) in headers {
            if name.eq_ignore_ascii_case("traceparent") {
                parents.push(trim_blanks(value));
            } else if name.eq_ignore_ascii_case("tracestate") {
                states.push(value);
            }
        }
        let [parent] = parents[..] else { return None };
        let state = TraceState::from_headers(states).unwrap_or_default();
        Some(parent.parse::<Self>().ok()?.with_state(state))
    }

    /// The headers that carry this context on: `traceparent`, and `tracestate` if there is any.
    pub fn to_headers(&self) -> impl Iterator<Item = (&'static str, String)> {
        let state = self.state.as_ref().map(|state| ("tracestate", state.to_string()));
        std::iter::once(("traceparent", self.to_string())).chain(state)
    }

    /// Whether both ids are set. The default context is not valid: it stands for "no trace".
    pub fn is_valid(&self) -> bool {
        self.trace_id.is_valid() && self.span_id.is_valid()
    }

    /// Whether the caller may have recorded the trace.
    pub const fn is_sampled(&self) -> bool {
        self.flags & Self::SAMPLED != 0
    }

    /// The same trace, flags, state and baggage with another span.
    #[must_use]
    pub fn child(&self, span_id: SpanId) -> Self {
        Self { span_id, ..self.clone() }
    }

    /// What the tracing systems on the way keep in it; shared between clones.
    pub fn state(&self) -> &TraceState {
        self.state.as_deref().unwrap_or(&NO_STATE)
    }

    /// Sets the state; an empty one is the same as none.
    #[must_use]
    pub fn with_state(mut self, state: TraceState) -> Self {
        self.state = (!state.is_empty()).then(|| Arc::new(state));
        self
    }

    /// What travels along the whole trace; shared between clones.
    pub fn baggage(&self) -> &Headers {
        self.baggage.as_deref().unwrap_or(&NO_BAGGAGE)
    }

    /// Adds an entry of baggage. Copies the map if another context shares it.
    #[must_use]
    pub fn with_baggage(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        Arc::make_mut(self.baggage.get_or_insert_default()).insert(name, value);
        self
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{}-{:02x}", self.trace_id, self.span_id, self.flags)
    }
}

/// Parses strictly: no white space, no upper case; a higher version may be followed by `-` and more, which is ignored.
/// Of a higher version only the "sampled" flag is taken, as its other bits may mean something else.
impl FromStr for TraceContext {
    type Err = TraceParseError;

    fn from_str(s: &str) -> Result<Self, TraceParseError> {
        const LEN: usize = 55;
        let text = s.as_bytes();
        if text.len() < LEN {
            return Err(TraceParseError::Length(text.len()));
        }
        let [version] = hex(text, 0)?;
        if version == 0xff {
            return Err(TraceParseError::Version);
        }
        for at in [2, 35, 52] {
            if text[at] != b'-' {
                return Err(TraceParseError::Delimiter(at));
            }
        }
        let (trace_id, span_id) = (TraceId(hex(text, 3)?), SpanId(hex(text, 36)?));
        let [mut flags] = hex(text, 53)?;
        match (version, text.get(LEN)) {
            (0, Some(_)) => return Err(TraceParseError::Length(text.len())),
            (0, None) => {}
            (_, None | Some(b'-')) => flags &= Self::SAMPLED,
            (_, Some(_)) => return Err(TraceParseError::Delimiter(LEN)),
        }
        if !trace_id.is_valid() {
            return Err(TraceParseError::ZeroTraceId);
        }
        if !span_id.is_valid() {
            return Err(TraceParseError::ZeroSpanId);
        }
        Ok(Self::new(trace_id, span_id, flags))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn parse(s: &str) -> Result<TraceContext, TraceParseError> {
        s.parse()
    }

    /// The W3C rules, written down another way.
    fn looks_valid(s: &str) -> bool {
        let fields: Vec<&str> = s.splitn(5, '-').collect();
        let hex = |s: &str| s.chars().all(|c| "0123456789abcdef".contains(c));
        let zero = |s: &str| s.chars().all(|c| c == '0');
        fields.len() >= 4
            && fields[..4].iter().map(|f| f.len()).eq([2, 32, 16, 2])
            && fields[..4].iter().all(|f| hex(f))
            && !zero(fields[1])
            && !zero(fields[2])
            && fields[0] != "ff"
            && (fields[0] != "00" || fields.len() == 4)
    }

    proptest! {
        #[test]
        fn traceparent_round_trips(trace: [u8; 16], span: [u8; 8], flags: u8) {
            prop_assume!(trace != [0; 16] && span != [0; 8]);
            let context = TraceContext::new(TraceId(trace), SpanId(span), flags);
            let text = context.to_string();
            prop_assert_eq!(text.len(), 55);
            prop_assert_eq!(text.parse::<TraceContext>(), Ok(context));
        }

        #[test]
        fn parsing_agrees_with_splitting_at_hyphens(
            changes in prop::collection::vec((0usize..55, "[0-9a-gAF \\-]"), 0..3),
            cut in prop::option::weighted(0.1, 0usize..55),
            version in "00|00|ff|cc",
            more in "|-|-x|0",
        ) {
            let mut text = version + &GOOD[2..];
            for (at, with) in changes {
                text.replace_range(at..at + 1, &with);
            }
            text.truncate(cut.unwrap_or(55));
            text += &more;
            prop_assert_eq!(parse(&text).is_ok(), looks_valid(&text), "{:?}", text);
        }

        #[test]
        fn any_text_is_answered_without_a_panic(text in "\\PC{0,80}") {
            prop_assert_eq!(parse(&text).is_ok(), looks_valid(&text));
        }

        #[test]
        fn one_changed_byte_never_gives_the_same_context(at in 0usize..55, byte in 0x20u8..0x7f) {
            let mut text = GOOD.as_bytes().to_vec();
            prop_assume!(text[at] != byte);
            text[at] = byte;
            let changed = parse(std::str::from_utf8(&text).unwrap());
            // Only the version may change without changing what the context says.
            prop_assert!(at < 2 || changed != parse(GOOD), "{:?}", changed);
        }
    }

    #[test]
    fn the_w3c_example_parses() {
        let context = parse(GOOD).unwrap();
        assert_eq!(context.trace_id.to_string(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(context.span_id.to_string(), "b7ad6b7169203331");
        assert!(context.is_sampled() && context.is_valid());
        assert!(!parse(&GOOD.replace("-01", "-00")).unwrap().is_sampled());
    }

    #[test]
    fn the_w3c_table_of_invalid_headers_is_refused() {
        use TraceParseError as E;
        let cases: &[(&str, E)] = &[
            ("", E::Length(0)),
            ("00", E::Length(2)),
            (&GOOD[..54], E::Length(54)),
            ("ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", E::Version),
            ("FF-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", E::Hex(0)),
            ("0x-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", E::Hex(1)),
            ("00-00000000000000000000000000000000-b7ad6b7169203331-01", E::ZeroTraceId),
            ("00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01", E::ZeroSpanId),
            ("00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", E::Hex(4)),
            ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b716920333G-01", E::Hex(51)),
            ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0A", E::Hex(54)),
            ("00_0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", E::Delimiter(2)),
            ("00-0af7651916cd43dd8448eb211c80319c b7ad6b7169203331-01", E::Delimiter(35)),
            ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331.01", E::Delimiter(52)),
            ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-", E::Length(56)),
            ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-what-the-future", E::Length(71)),
            ("cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01.what", E::Delimiter(55)),
            (" 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", E::Hex(0)),
            ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01 ", E::Length(56)),
        ];
        for (text, error) in cases {
            assert_eq!(parse(text), Err(*error), "{text:?}");
        }
    }

    #[test]
    fn a_higher_version_parses_and_prints_as_version_0() {
        for text in [
            "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-what-the-future",
            "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-ff",
        ] {
            assert_eq!(parse(text).unwrap().to_string(), GOOD, "{text:?}");
        }
    }

    #[test]
    fn multi_byte_characters_at_field_borders_are_an_error() {
        let text = "00-0af7651916cd43dd8448eb211c80319\u{e9}b7ad6b7169203331-01xxxxx";
        assert!(parse(text).is_err());
    }

    #[test]
    fn serde_keeps_ids_flags_state_and_baggage() {
        let state = "congo=t61rcWkgMzE,rojo=1".parse().unwrap();
        let context = parse(GOOD).unwrap().with_baggage("tenant", "blue").with_state(state);
        let text = serde_json::to_string(&context).unwrap();
        assert!(text.contains(r#""span_id":"b7ad6b7169203331""#), "{text}");
        assert_eq!(serde_json::from_str::<TraceContext>(&text).unwrap(), context);
        let none = TraceContext::default();
        assert_eq!(
            serde_json::from_str::<TraceContext>(&serde_json::to_string(&none).unwrap()).unwrap(),
            none
        );
        assert!(serde_json::from_str::<SpanId>("\"b7\"").is_err());
    }

    #[test]
    fn a_child_shares_trace_and_baggage_and_changing_it_leaves_the_parent_alone() {
        let parent = parse(GOOD).unwrap().with_baggage("k", "1");
        let child = parent.child(SpanId([9; 8])).with_baggage("k", "2");
        assert_eq!((child.trace_id, child.flags), (parent.trace_id, parent.flags));
        assert_eq!(parent.baggage().get("k").map(String::as_str), Some("1"));
        assert_eq!(child.baggage().get("k").map(String::as_str), Some("2"));
        assert!(TraceContext::default().baggage().is_empty() && !TraceContext::default().is_valid());
    }
}
