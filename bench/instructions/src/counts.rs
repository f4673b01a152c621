//! The file of committed counts, and what is said when new ones are held against it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

/// How much more than the committed count is let pass, as a share: what one compiler gives twice differs by a few thousandths.
const TOLERANCE: f64 = 0.02;
/// The same if another compiler, or one for another target, built this: it may well inline and unroll otherwise.
const TOLERANCE_OF_COMPILERS: f64 = 0.10;

/// What one count may be at most, as a multiple of another, whatever was committed.
struct Mark {
    of: &'static str,
    to: &'static str,
    at_most: f64,
}

/// A window that slides by a thousandth of its length costs hardly more than one that does not slide.
const MARKS: &[Mark] = &[Mark { of: "window-sliding", to: "window-tumbling", at_most: 1.3 }];

/// Instructions per item, and what built the programs that they were counted of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Counts {
    /// The version that the compiler gives itself.
    pub(crate) compiler: String,
    /// The target's triple.
    pub(crate) target: String,
    /// By the name of the program, to hundredths.
    pub(crate) instructions_per_item: BTreeMap<String, f64>,
}

/// What a comparison came to.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Verdict {
    /// A line for each count.
    pub(crate) table: String,
    /// What is wrong, each in a line. None: passed.
    pub(crate) problems: Vec<String>,
    /// What one should know.
    pub(crate) notes: Vec<String>,
}

impl Counts {
    /// No counts yet, by the compiler that built this program.
    pub(crate) fn here() -> Self {
        let (compiler, target) = (env!("CORELANE_COMPILER").to_owned(), env!("CORELANE_TARGET").to_owned());
        Self { compiler, target, instructions_per_item: BTreeMap::new() }
    }

    /// Notes a count.
    pub(crate) fn add(&mut self, name: &str, count: f64) {
        self.instructions_per_item.insert(name.to_owned(), (count * 100.0).round() / 100.0);
    }

    /// Holds `self`, counted just now, against those committed.
    pub(crate) fn against(&self, committed: &Self) -> Verdict {
        let mut verdict = Verdict::default();
        let same = (&self.compiler, &self.target) == (&committed.compiler, &committed.target);
        let tolerance = if same { TOLERANCE } else { TOLERANCE_OF_COMPILERS };
        if !same {
            verdict.notes.push(format!(
                "counted with {} for {}, committed with {} for {}: up to {:.0} % more is let pass",
                self.compiler,
                self.target,
                committed.compiler,
                committed.target,
                100.0 * tolerance
            ));
        }
        for (name, &now) in &self.instructions_per_item {
            let before = committed.instructions_per_item.get(name).copied();
            verdict.count(name, before, now, tolerance);
        }
        let gone = committed.instructions_per_item.keys();
        for name in gone.filter(|name| !self.instructions_per_item.contains_key(*name)) {
            verdict.problems.push(format!("{name} is committed, and no program has this name"));
        }
        MARKS.iter().for_each(|mark| verdict.mark(self, mark));
        verdict
    }
}

impl Verdict {
    fn count(&mut self, name: &str, before: Option<f64>, now: f64, tolerance: f64) {
        let Some(before) = before else {
            self.problems.push(format!("{name} has no committed count: {now:.2} now"));
            return;
        };
        let ratio = now / before;
        let _ =
            writeln!(self.table, "{name:<16} {before:>8.2} {now:>8.2}  {:>+6.1} %", 100.0 * (ratio - 1.0));
        if ratio.is_nan() || ratio > 1.0 + tolerance {
            let more = 100.0 * (ratio - 1.0);
            self.problems.push(format!(
                "{name} takes {now:.2} instructions per item where {before:.2} are committed: {more:.1} % more"
            ));
        } else if ratio < 1.0 - tolerance {
            self.notes.push(format!("{name} takes fewer: commit that, or a step back will pass unseen"));
        }
    }

    fn mark(&mut self, counts: &Counts, mark: &Mark) {
        let of = |name| counts.instructions_per_item.get(name).copied();
        let (Some(of), Some(to)) = (of(mark.of), of(mark.to)) else { return };
        let ratio = of / to;
        let _ = writeln!(self.table, "{} is {ratio:.2} of {}, {} allowed", mark.of, mark.to, mark.at_most);
        if ratio.is_nan() || ratio > mark.at_most {
            self.problems.push(format!(
                "{} takes {ratio:.2} times the instructions of {}: {} is the most",
                mark.of, mark.to, mark.at_most
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(compiler: &str, entries: &[(&str, f64)]) -> Counts {
        let mut counts = Counts {
            compiler: compiler.to_owned(),
            target: "x".to_owned(),
            instructions_per_item: BTreeMap::new(),
        };
        entries.iter().for_each(|(name, count)| counts.add(name, *count));
        counts
    }

    #[test]
    fn more_than_the_tolerance_fails_and_less_passes() {
        let committed = counts("1", &[("a", 100.0), ("b", 10.0)]);
        assert_eq!(counts("1", &[("a", 102.0), ("b", 9.9)]).against(&committed).problems, [""; 0]);
        let verdict = counts("1", &[("a", 102.1), ("b", 10.0)]).against(&committed);
        assert_eq!(verdict.problems.len(), 1);
        assert!(verdict.problems[0].starts_with("a takes 102.10 "), "{verdict:?}");
    }

    #[test]
    fn fewer_instructions_pass_and_are_asked_to_be_committed() {
        let verdict = counts("1", &[("a", 50.0)]).against(&counts("1", &[("a", 100.0)]));
        assert!(verdict.problems.is_empty() && verdict.notes.len() == 1, "{verdict:?}");
    }

    #[test]
    fn another_compiler_is_named_and_has_more_room_but_not_any() {
        let committed = counts("1", &[("a", 100.0)]);
        let verdict = counts("2", &[("a", 109.0)]).against(&committed);
        assert!(verdict.problems.is_empty() && verdict.notes[0].contains("committed with 1"), "{verdict:?}");
        assert_eq!(counts("2", &[("a", 111.0)]).against(&committed).problems.len(), 1);
    }

    #[test]
    fn a_count_that_is_missing_on_either_side_fails() {
        let (a, ab) = (counts("1", &[("a", 1.0)]), counts("1", &[("a", 1.0), ("b", 1.0)]));
        assert_eq!(a.against(&ab).problems, ["b is committed, and no program has this name"]);
        assert_eq!(ab.against(&a).problems, ["b has no committed count: 1.00 now"]);
    }

    #[test]
    fn a_count_that_is_no_number_fails() {
        let committed = counts("1", &[("a", 0.0)]);
        assert_eq!(counts("1", &[("a", 0.0)]).against(&committed).problems.len(), 1);
    }

    #[test]
    fn sliding_windows_may_take_three_tenths_more_than_tumbling_ones_whatever_is_committed() {
        let windows = |sliding| counts("1", &[("window-sliding", sliding), ("window-tumbling", 10.0)]);
        assert!(windows(13.0).against(&windows(13.0)).problems.is_empty());
        let verdict = windows(13.5).against(&windows(13.5));
        assert_eq!(verdict.problems.len(), 1);
        assert!(verdict.problems[0].contains("1.35 times"), "{verdict:?}");
    }

    #[test]
    fn the_committed_file_reads_back_as_it_is_written_and_has_every_program() {
        let text = include_str!("../counts.toml");
        let counts: Counts = toml::from_str(text).unwrap();
        let written: Counts = toml::from_str(&toml::to_string(&counts).unwrap()).unwrap();
        assert_eq!(written, counts);
        for program in crate::programs::PROGRAMS {
            assert!(counts.instructions_per_item.contains_key(program.name), "{}", program.name);
        }
    }
}
