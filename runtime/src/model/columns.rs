//! Tables and numbers for people.

use std::fmt::Display;
use std::ops::Range;

/// Rows of cells as lines: `margin`, then the cells, two spaces apart, each column as wide as its widest cell. Columns in `numbers` end at the
/// right, others begin at the left; no line ends with a space. Rows may have fewer cells than others.
///
/// ```
/// let rows = [["stage", "items"], ["spans", "7"]].map(|row| row.map(str::to_owned));
/// assert_eq!(corelane::model::columns("", &rows, 1..2), "stage  items\nspans      7\n");
/// ```
pub fn columns<R: AsRef<[String]>>(margin: &str, rows: &[R], numbers: Range<usize>) -> String {
    let mut widths = Vec::new();
    for row in rows.iter().map(AsRef::as_ref) {
        widths.resize(widths.len().max(row.len()), 0);
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let line = |row: &R| {
        let padded = |(column, (cell, width)): (usize, (&String, &usize))| match numbers.contains(&column) {
            true => format!("{cell:>width$}"),
            false => format!("{cell:<width$}"),
        };
        let cells: Vec<String> = row.as_ref().iter().zip(&widths).enumerate().map(padded).collect();
        format!("{}\n", format!("{margin}{}", cells.join("  ")).trim_end())
    };
    rows.iter().map(line).collect()
}

/// A number of things by its name: `1 core`, `2 cores`. For names whose plural ends in s.
///
/// ```
/// assert_eq!([0, 1, 2].map(|n| corelane::model::counted(n, "core")), ["0 cores", "1 core", "2 cores"]);
/// ```
pub fn counted<N: Display + PartialEq + From<u8>>(number: N, name: &str) -> String {
    format!("{number} {name}{}", if number == N::from(1) { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::columns;

    fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
        cells.map(str::to_owned).to_vec()
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_in_characters() {
        let rows = [row(["head", "n"]), row(["a", "1"]), row(["lön\u{b5}ger", ""])];
        assert_eq!(columns("", &rows, 0..0), "head     n\na        1\nlön\u{b5}ger\n");
        assert_eq!(columns("  ", &rows[..2], 1..2), "  head  n\n  a     1\n");
    }

    #[test]
    fn numbers_end_under_each_other_and_short_rows_stay_short() {
        let rows = [row(["n", "name"]), row(["100", "x"]), row(["7"])];
        assert_eq!(columns("", &rows, 0..1), "  n  name\n100  x\n  7\n");
        assert_eq!(columns::<Vec<String>>("", &[], 0..1), "");
    }
}
