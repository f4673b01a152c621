//! What a configuration says otherwise than the code of a pipeline.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use super::{At, Edge, GraphError, GraphErrors, PipelineGraph, ValidatedGraph};
use crate::model::{StageId, StageKind, help_with_name};
use crate::policy::{
    BackpressureStrategy, BufferPolicy, CircuitBreakerPolicy, ErrorPolicy, Parallelism, PolicyRef,
    PolicyRegistry,
};

/// What is otherwise at one stage. Fields that are `None` stay as they are.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct StageOverrides {
    /// How many instances run; stages behind it that follow suit do so with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parallelism: Option<Parallelism>,
    /// Buffer of every edge into the stage; of a source, out of it. An edge that would have been fused becomes a ring.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub buffer: Option<PolicyRef<BufferPolicy>>,
    /// Backpressure of every edge into the stage; of a source, out of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backpressure: Option<PolicyRef<BackpressureStrategy>>,
    /// What a failure on one item does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_policy: Option<PolicyRef<ErrorPolicy>>,
    /// When the stage is taken out of service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub circuit_breaker: Option<PolicyRef<CircuitBreakerPolicy>>,
    /// What is otherwise at single edges into the stage, by the stage they come from, or by `stage/label` for one
    /// output of a branch. Goes before what is said for all of them.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub inputs: BTreeMap<String, InputOverrides>,
}

/// What is otherwise at one edge.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct InputOverrides {
    /// Its buffer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub buffer: Option<PolicyRef<BufferPolicy>>,
    /// Its backpressure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backpressure: Option<PolicyRef<BackpressureStrategy>>,
}

impl InputOverrides {
    /// A buffer takes the place of a bounded strategy too, whose capacity would go before it.
    fn apply(&self, edge: &mut Edge, registry: &PolicyRegistry) {
        let channel = &mut edge.channel;
        if let Some(buffer) = &self.buffer {
            channel.buffer = Some(buffer.clone());
            let bounded = |strategy: &PolicyRef<BackpressureStrategy>| {
                matches!(strategy.resolve(registry), Ok(BackpressureStrategy::Bounded { .. }))
            };
            channel.backpressure.take_if(|strategy| bounded(strategy));
        }
        if let Some(backpressure) = &self.backpressure {
            channel.backpressure = Some(backpressure.clone());
        }
    }
}

impl PipelineGraph {
    /// Changes the stages and edges that `overrides` names. What it names and is not there is returned: these are
    /// errors of the graph like those of [`validate`](Self::validate).
    ///
    /// Cost: linear in stages, edges and overrides.
    pub fn apply(
        &mut self,
        overrides: &BTreeMap<StageId, StageOverrides>,
        registry: &PolicyRegistry,
    ) -> Vec<GraphError> {
        let mut errors = Vec::new();
        let position: HashMap<String, usize> =
            self.nodes.iter().enumerate().rev().map(|(index, node)| (node.id.clone(), index)).collect();
        let mut edges: HashMap<usize, Vec<usize>> = HashMap::new();
        for (index, edge) in self.edges.iter().enumerate() {
            let source = |&i: &usize| self.nodes[i].kind == StageKind::Source;
            let from = position.get(&edge.from).copied().filter(source);
            let to = position.get(&edge.to).copied();
            from.into_iter().chain(to).for_each(|stage| edges.entry(stage).or_default().push(index));
        }
        // What a source says of its outputs gives way to what their consumers say.
        let is_source = |id: &StageId| {
            position.get(id.as_str()).is_some_and(|&i| self.nodes[i].kind == StageKind::Source)
        };
        let mut in_order: Vec<_> = overrides.iter().collect();
        in_order.sort_by_key(|(id, _)| !is_source(id));
        for (id, wanted) in in_order {
            let Some(&index) = position.get(id.as_str()) else {
                let help = help_with_name(id.as_str(), self.nodes.iter().map(|node| node.id.as_str()));
                errors.push(GraphError::OverrideOfUnknownStage { id: id.to_string(), help });
                continue;
            };
            let edges = edges.get(&index).map_or(&[][..], Vec::as_slice);
            self.apply_to_stage(index, edges, wanted, registry, &mut errors);
        }
        errors
    }

    fn apply_to_stage(
        &mut self,
        index: usize,
        edges: &[usize],
        wanted: &StageOverrides,
        registry: &PolicyRegistry,
        errors: &mut Vec<GraphError>,
    ) {
        let node = &mut self.nodes[index];
        if let Some(parallelism) = wanted.parallelism {
            node.parallelism = parallelism;
        }
        if let Some(policy) = &wanted.error_policy {
            node.error_policy = policy.clone();
        }
        if let Some(policy) = &wanted.circuit_breaker {
            node.circuit_breaker = Some(policy.clone());
        }
        let all = InputOverrides { buffer: wanted.buffer.clone(), backpressure: wanted.backpressure.clone() };
        edges.iter().for_each(|&edge| all.apply(&mut self.edges[edge], registry));
        for (input, wanted) in &wanted.inputs {
            let into = |&&edge: &&usize| {
                self.edges[edge].to == self.nodes[index].id && self.edges[edge].is_input(input)
            };
            let named: Vec<usize> = edges.iter().filter(into).copied().collect();
            named.iter().for_each(|&edge| wanted.apply(&mut self.edges[edge], registry));
            if named.is_empty() {
                let names: Vec<String> = edges.iter().map(|&edge| self.edges[edge].input_name()).collect();
                errors.push(GraphError::OverrideOfUnknownInput {
                    at: At::Stage { index, id: self.nodes[index].id.clone() },
                    input: input.clone(),
                    help: help_with_name(input, names.iter().map(String::as_str)),
                });
            }
        }
    }
}

impl Edge {
    /// `stage`, or `stage/label` for an output of a branch: its name among the inputs of the stage it leads to.
    pub fn input_name(&self) -> String {
        match &self.label {
            Some(label) => format!("{}/{label}", self.from),
            None => self.from.clone(),
        }
    }

    fn is_input(&self, name: &str) -> bool {
        self.from == name || self.input_name() == name
    }
}

impl GraphErrors {
    /// What was validated, unless `before` holds errors found earlier; then all of them.
    pub(crate) fn after(
        mut before: Vec<GraphError>,
        validated: Result<ValidatedGraph, Self>,
    ) -> Result<ValidatedGraph, Self> {
        match validated {
            Ok(graph) if before.is_empty() => Ok(graph),
            Ok(_) => Err(Self(before)),
            Err(Self(errors)) => {
                before.extend(errors);
                Err(Self(before))
            }
        }
    }
}
