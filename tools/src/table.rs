//! Tables for people.

use corelane::model::columns;

/// The rows under their head.
pub(crate) fn table<const N: usize>(head: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let rows: Vec<[String; N]> = std::iter::once(head.map(str::to_owned)).chain(rows).collect();
    columns("", &rows, 0..0)
}
