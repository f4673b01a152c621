//! What a graph says of failures that is allowed and probably not meant.

use super::{At, PipelineGraph, ResolvedStage, ValidationContext, Warning};
use crate::policy::{AfterRetries, WhileOpen};

/// Dead letters that nobody takes or that never come, and circuit breakers on stages that make no calls.
pub(super) fn warnings(
    graph: &PipelineGraph,
    stages: &[ResolvedStage],
    context: &ValidationContext,
) -> Vec<Warning> {
    let mut warnings = Vec::new();
    for (index, stage) in stages.iter().enumerate() {
        let at = || At::Stage { index, id: graph.nodes[index].id.clone() };
        let by_policy = stage.error_policy.last_resort() == AfterRetries::DeadLetter;
        let by_breaker = stage.circuit_breaker.is_some_and(|b| b.while_open == WhileOpen::DeadLetter);
        match (by_policy || by_breaker, stage.dead_letters) {
            (true, None) => warnings.push(Warning::DeadLettersOnlyCounted { at: at() }),
            (false, Some(_)) => warnings.push(Warning::NoDeadLetters { at: at() }),
            _ => {}
        }
        let makes_calls = context.makes_calls.get(index).copied().flatten();
        if stage.circuit_breaker.is_some() && makes_calls == Some(false) {
            warnings.push(Warning::BreakerWithoutCalls { at: at() });
        }
    }
    warnings
}
