//! Whether a run did what the reference says.

use corelane::observe::{Outcome, PipelineResult};

use super::Item;
use super::build::Seen;
use super::reference::{Expected, Reference};

/// Everything that is wrong with a run, as one text.
///
/// # Errors
/// That text.
pub fn check(reference: &Reference, result: &PipelineResult, seen: &Seen) -> Result<(), String> {
    let mut wrong = Vec::new();
    books(reference, result, &mut wrong);
    outcome(reference, result, &mut wrong);
    if result.outcome == Outcome::Completed {
        counters(reference, result, &mut wrong);
    }
    for (name, witness) in &seen.calls {
        witness.check(name, &result.account.stages[&name.parse().unwrap()], &mut wrong);
    }
    let whole = result.outcome == Outcome::Completed;
    for (name, expected) in &reference.sinks {
        let got = seen.sinks[name].take();
        let delivered = result.account.stages[&name.parse().unwrap()].delivered;
        if got.len() as u64 != delivered {
            wrong.push(format!("{name}: {} items seen, {delivered} counted as delivered", got.len()));
        }
        if let Err(text) = compare(expected, got, whole) {
            wrong.push(format!("{name}: {text}"));
        }
    }
    if wrong.is_empty() {
        return Ok(());
    }
    Err(format!("{}\noutcome: {}\n{}", wrong.join("\n"), result.outcome, result.account))
}

/// C1 to C4: the account closes, and nothing is left inside.
fn books(reference: &Reference, result: &PipelineResult, wrong: &mut Vec<String>) {
    if let Err(broken) = result.account.verify() {
        wrong.extend(broken.iter().map(ToString::to_string));
    }
    let totals = result.account.totals();
    if !totals.closes() {
        wrong.push(format!("the books do not close: {totals:?}"));
    }
    let whole = result.outcome.is_success();
    if whole && (totals.in_flight > 0 || totals.discarded > 0) {
        wrong.push(format!("{}: something is left inside or thrown away: {totals:?}", result.outcome));
    }
    for edge in &result.account.edges {
        // C18: only an edge that may drop drops.
        let may_drop = reference.drops.get(edge.to.as_str()).copied().unwrap_or(false);
        let dropped = edge.dropped_newest + edge.dropped_oldest;
        if !may_drop && dropped > 0 || edge.staged > 0 || edge.depth > 0 {
            wrong.push(format!("edge at rest: {edge:?}"));
        }
    }
}

fn outcome(reference: &Reference, result: &PipelineResult, wrong: &mut Vec<String>) {
    match &result.outcome {
        Outcome::Failed { stage, error } => {
            let named = stage.as_ref().map_or("", |stage| stage.as_str());
            if !reference.fatal.contains(named) || !error.contains(super::quiet::PLANNED) {
                wrong.push(format!("not a planned failure: {}", result.outcome));
            }
        }
        Outcome::Completed if !reference.surely_fatal.is_empty() => {
            wrong.push(format!("completed, but {:?} must fail", reference.surely_fatal));
        }
        _ => {}
    }
}

/// C4: the counters are the truth, not only consistent.
fn counters(reference: &Reference, result: &PipelineResult, wrong: &mut Vec<String>) {
    for (name, expected) in &reference.counts {
        let stage = &result.account.stages[&name.parse().unwrap()];
        let got = super::reference::Counts {
            received: stage.received,
            filtered: stage.filtered,
            ignored: stage.ignored,
            dead_lettered: stage.dead_lettered,
            absorbed: stage.absorbed,
            delivered: stage.delivered,
            retries: stage.retries,
        };
        if got != *expected {
            wrong.push(format!("{name}: counted {got:?}, must be {expected:?}"));
        }
    }
}

fn compare(expected: &Expected, mut got: Vec<Item>, whole: bool) -> Result<(), String> {
    let exact = whole && !expected.lossy;
    if !exact && (expected.tainted || expected.folded && !whole) {
        return Ok(());
    }
    let mut want = expected.items.clone();
    if !expected.ordered {
        // C5: what is in order by key stays so under a sort that only moves keys together.
        let by_key = |item: &Item| (item.key, if expected.keyed { None } else { Some(*item) });
        got.sort_by_key(by_key);
        want.sort_by_key(by_key);
    }
    if exact {
        if got == want {
            return Ok(());
        }
        let at = got.iter().zip(&want).take_while(|(a, b)| a == b).count();
        let (a, b) = (got.get(at), want.get(at));
        let order = match (expected.ordered, expected.keyed) {
            (true, _) => "in order, ",
            (_, true) => "by key in order, ",
            _ => "",
        };
        return Err(format!("{order}got {}, want {}; number {at}: {a:?}, {b:?}", got.len(), want.len()));
    }
    // What is left of a sequence is a subsequence of it; sorted, that is what a part of a multiset is.
    let mut rest = want.iter();
    match got.iter().position(|item| !rest.any(|other| other == item)) {
        None => Ok(()),
        Some(at) if expected.ordered || expected.keyed => {
            Err(format!("number {at} is out of order or invented: {:?}", got[at]))
        }
        Some(at) => Err(format!("invented or doubled: {:?}", got[at])),
    }
}
