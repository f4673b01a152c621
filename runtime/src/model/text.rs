//! Where in a text something is, and what is said about it.

use std::fmt;

/// Where in a text something is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The name of the text, where it has one: a file.
    pub file: Option<String>,
    /// Line and column in characters, both from 1; `None` when the text came through another format.
    pub at: Option<(usize, usize)>,
    /// The field, as written: `stages.decode.buffer`; empty for the text as a whole.
    pub field: String,
}

/// `file:3:5: field`, or `field (line 3, column 5)` in a text without a name.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let field = self.field.as_str();
        match (&self.file, self.at) {
            (Some(file), at) => {
                f.write_str(file)?;
                at.map_or(Ok(()), |(line, column)| write!(f, ":{line}:{column}"))?;
                if field.is_empty() { Ok(()) } else { write!(f, ": {field}") }
            }
            (None, Some((line, column))) if field.is_empty() => write!(f, "line {line}, column {column}"),
            (None, Some((line, column))) => write!(f, "{field} (line {line}, column {column})"),
            (None, None) => f.write_str(field),
        }
    }
}

/// A text whose byte offsets can be told as places; without its content there are only fields.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Text<'a> {
    pub(crate) file: Option<&'a str>,
    pub(crate) content: Option<&'a str>,
}

impl<'a> Text<'a> {
    /// A text without a name.
    pub(crate) fn of(content: &'a str) -> Self {
        Self { file: None, content: Some(content) }
    }

    pub(crate) fn place(self, field: &str, offset: usize) -> Place {
        let at = self.content.map(|text| {
            let before = text.get(..offset).unwrap_or(text);
            let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
            (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
        });
        Place { file: self.file.map(str::to_owned), at, field: field.to_owned() }
    }
}

/// The known name that is nearest to `name`, where one is near enough to be a slip of the keyboard.
pub(crate) fn nearest<'k>(name: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let name = name.to_lowercase();
    let near = (name.len() / 3).clamp(1, 3);
    known
        .into_iter()
        .map(|known| (strsim::damerau_levenshtein(&name, &known.to_lowercase()), known))
        .filter(|(distance, _)| *distance <= near)
        .min()
        .map(|(_, known)| known)
}

/// What helps whoever wrote a name that does not exist: the nearest one, or all there are.
pub(crate) fn help_with_name<'k>(name: &str, known: impl IntoIterator<Item = &'k str> + Clone) -> String {
    if let Some(nearest) = nearest(name, known.clone()) {
        return format!("did you mean {nearest}?");
    }
    let known: Vec<_> = known.into_iter().take(20).collect();
    if known.is_empty() { "there are none".to_owned() } else { format!("there are {}", known.join(", ")) }
}

/// One or more errors found in the same input, in the order of the input.
///
/// Prints one error a line.
#[derive(Clone, Debug, PartialEq)]
pub struct ErrorList<E>(Vec<E>);

impl<E> ErrorList<E> {
    /// `Ok(value)` when nothing was found, all of `errors` otherwise.
    pub(crate) fn check<T>(errors: Vec<E>, value: T) -> Result<T, Self> {
        if errors.is_empty() { Ok(value) } else { Err(Self(errors)) }
    }

    /// The errors; at least one.
    pub fn as_slice(&self) -> &[E] {
        &self.0
    }

    /// Every error in turn.
    pub fn iter(&self) -> std::slice::Iter<'_, E> {
        self.0.iter()
    }
}

impl<E> IntoIterator for ErrorList<E> {
    type Item = E;
    type IntoIter = std::vec::IntoIter<E>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a, E> IntoIterator for &'a ErrorList<E> {
    type Item = &'a E;
    type IntoIter = std::slice::Iter<'a, E>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl<E: fmt::Display> fmt::Display for ErrorList<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, error) in self.0.iter().enumerate() {
            write!(f, "{}{error}", if i == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}

impl<E: std::error::Error> std::error::Error for ErrorList<E> {}
