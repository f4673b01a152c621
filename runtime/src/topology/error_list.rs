//! Many errors reported as one.

use std::fmt;

/// One or more errors found in the same input, in the order of the input.
///
/// Prints one error a line.
#[derive(Clone, Debug, PartialEq)]
pub struct ErrorList<E>(Vec<E>);

impl<E> ErrorList<E> {
    /// `Ok(value)` when nothing was found, all of `errors` otherwise.
    pub(super) fn check<T>(errors: Vec<E>, value: T) -> Result<T, Self> {
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
