//! The account as a table for people.

use std::fmt;

use super::{Account, EdgeAccount, StageAccount};
use crate::model::columns;

/// Rows of cells; the first row is the head. The first column is aligned to the left, the others to the right.
pub(super) struct Table(Vec<Vec<String>>);

impl Table {
    /// A table of `rows`, all of one length, at least one.
    pub(super) fn of(rows: Vec<Vec<String>>) -> Self {
        Self(rows)
    }

    /// A table without the columns that are zero in every row; the first `keep` columns stay.
    fn new(head: Vec<&str>, rows: Vec<(String, Vec<u64>)>, keep: usize) -> Self {
        let shown: Vec<usize> = (0..head.len() - 1)
            .filter(|&c| c + 1 < keep || rows.iter().any(|(_, counts)| counts[c] != 0))
            .collect();
        let row = |name: String, cell: &dyn Fn(usize) -> String| {
            std::iter::once(name).chain(shown.iter().map(|&c| cell(c))).collect::<Vec<_>>()
        };
        let first = row(head[0].to_owned(), &|c| head[c + 1].to_owned());
        let rest = rows.into_iter().map(|(name, counts)| row(name, &|c| counts[c].to_string()));
        Self(std::iter::once(first).chain(rest).collect())
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&columns("", &self.0, 1..usize::MAX))
    }
}

/// A table of stages, one of edges, and the totals; columns without a count are left out.
impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = std::iter::once("stage").chain(StageAccount::FIELDS.iter().copied()).collect();
        let stages = self.stages.iter().map(|(id, s)| (id.to_string(), s.fields().map(|(_, n)| n).collect()));
        write!(f, "{}", Table::new(head, stages.collect(), 3))?;
        let head = std::iter::once("edge").chain(EdgeAccount::FIELDS.iter().copied());
        let edges = self
            .edges
            .iter()
            .map(|e| (format!("{} -> {}", e.from, e.to), e.fields().map(|(_, n)| n).collect()));
        write!(f, "\n{}", Table::new(head.collect(), edges.collect(), 3))?;
        let totals = self.totals();
        let rows = totals.fields().into_iter().filter(|(name, n)| *n != 0 || *name == "accepted");
        let rows = rows.map(|(name, n)| (name.to_owned(), vec![n]));
        write!(f, "\n{}", Table::new(vec!["total", "items"], rows.collect(), 2))?;
        if totals.closes() {
            writeln!(f, "\nthe account closes: {} = {}", totals.incoming(), totals.outcomes())
        } else {
            writeln!(f, "\nTHE ACCOUNT DOES NOT CLOSE: {} != {}", totals.incoming(), totals.outcomes())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::StageId;

    fn account() -> Account {
        let id = |name| StageId::new(name).unwrap();
        let source = StageAccount { received: 1000, passed: 1000, emitted: 1000, ..Default::default() };
        let sink = StageAccount { received: 990, delivered: 990, ..Default::default() };
        let mut edge = EdgeAccount::fused(id("source"), id("out"), 990);
        (edge.offered, edge.dropped_oldest) = (1000, 10);
        Account {
            stages: [(id("source"), source), (id("out"), sink)].into(),
            edges: vec![edge],
            ..Account::default()
        }
    }

    #[test]
    fn columns_line_up_and_those_without_a_count_are_left_out() {
        let expected = "\
stage   received  emitted  passed  delivered
out          990        0       0        990
source      1000     1000    1000          0

edge           offered  popped  dropped_oldest
source -> out     1000     990              10

total      items
accepted    1000
delivered    990
dropped       10

the account closes: 1000 = 1000
";
        assert_eq!(account().to_string(), expected);
    }

    #[test]
    fn an_account_that_does_not_close_says_so() {
        let mut account = account();
        account.edges[0].dropped_oldest -= 1;
        assert!(account.to_string().ends_with("THE ACCOUNT DOES NOT CLOSE: 1000 != 999\n"));
    }

    #[test]
    fn an_empty_account_still_has_its_heads() {
        let text = Account::default().to_string();
        assert!(text.starts_with(
            "stage  received  emitted\n\nedge  offered  popped\n\ntotal     items\naccepted      0\n"
        ));
    }
}
