//! The typed builder: a pipeline as it is written.
//!
//! ```
//! use corelane::flow::PipelineBuilder;
//! use corelane::engine::Engine;
//!
//! let p = PipelineBuilder::new("squares");
//! let total = p
//!     .generate("numbers", 1_000, |i| i)
//!     .map("square", |x| x * x)
//!     .filter("odd", |x| x % 2 == 1)
//!     .fold("sum", 0u64, |sum, x| sum + x);
//! let result = Engine::default().run(p.build()?)?;
//! assert!(result.success);
//! assert_eq!(total.take().iter().sum::<u64>(), 166_666_500);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A wrong item type does not compile:
//!
//! ```compile_fail
//! # use corelane::flow::PipelineBuilder;
//! PipelineBuilder::new("p").generate("n", 10, |i| i).map("len", |s: String| s.len()).collect("out");
//! ```

mod assembly;
mod blueprint;
mod closures;
mod draft;
mod edges;
mod erase;
mod failures;
mod keyed;
mod meet;
mod merge;
mod observed;
mod segment;
mod stream;
mod time;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::Arc;

pub use assembly::{Assembled, Assembly, BuildError, Collected, EdgeWires};
pub use blueprint::{ChainBlueprint, Factory, OutletBlueprint};
pub use draft::StageOptions;
pub use erase::BoxedStream;
pub use failures::{FallibleSegment, LettersBlueprint, SinkOptions};
pub use keyed::Keyed;
pub use meet::KeyedInput;
pub use merge::MergeInput;
pub use observed::{ProbedBlueprint, ProbedSegment};
pub use segment::{ByKey, PortSegment, Routing, Segment, SourceSegment, Then, Unkeyed};
pub use stream::Stream;

use crate::config::Config;
use crate::graph::{ChannelOrdering, GraphErrors, PipelineGraph, StageOverrides, ValidatedGraph, Warning};
use crate::model::{StageId, StageKind};
use crate::partition::{Inlet, MergePolicy};
use crate::plan::Plan;
use crate::policy::{self, Parallelism, PolicyRegistry, SpillOptions};
use crate::stage::{Generate, IterSource, Source, StageError, StageSite};
use crate::sync::Doorbell;
use draft::{Draft, Origin, SharedDraft, Taps, Terminal};

/// Names stages and connects them; [`build`](Self::build) checks the whole graph.
pub struct PipelineBuilder {
    draft: SharedDraft,
    registry: PolicyRegistry,
    overrides: BTreeMap<StageId, StageOverrides>,
    spill: Option<SpillOptions>,
}

impl PipelineBuilder {
    /// An empty pipeline.
    pub fn new(name: &str) -> Self {
        let mut draft = Draft::default();
        draft.graph.id = Some(name.to_owned());
        Self {
            draft: Rc::new(RefCell::new(draft)),
            registry: PolicyRegistry::default(),
            overrides: BTreeMap::new(),
            spill: None,
        }
    }

    /// Policies that stages refer to by name.
    #[must_use]
    pub fn with_policies(mut self, registry: PolicyRegistry) -> Self {
        self.registry = registry;
        self
    }

    /// Takes over policies and what differs at single stages; both go before what the code says. The core map goes to
    /// the engine.
    #[must_use]
    pub fn with_config(mut self, config: &Config) -> Self {
        self.registry.overlay(config.policies.clone());
        self.overrides.extend(config.stages.clone());
        self
    }

    /// Where keyed state goes that does not fit into memory, for the stages whose policy allows it.
    #[must_use]
    pub fn spill_to(mut self, options: SpillOptions) -> Self {
        self.spill = Some(options);
        self
    }

    /// Says something about the pipeline: shown with its graph and its measurements.
    #[must_use]
    pub fn with_metadata(self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.draft.borrow_mut().graph.metadata.insert(name.into(), value.into());
        self
    }

    /// A source made by `factory` on its own core. One instance unless asked otherwise.
    pub fn source<S, F>(&self, name: &str, factory: F) -> Stream<SourceSegment<F, S>>
    where
        S: Source,
        S::Item: Send,
        F: FnOnce(&StageSite) -> Result<S, StageError> + Clone + Send + 'static,
    {
        self.source_by(name, factory)
    }

    /// As [`source`](Self::source), for a factory whose type has a name.
    pub(crate) fn source_by<S, F>(&self, name: &str, factory: F) -> Stream<SourceSegment<F, S>>
    where
        S: Source,
        S::Item: Send,
        F: Factory<S>,
    {
        let node = self.draft.borrow_mut().node::<(), S::Item>(
            name,
            StageKind::Source,
            Some(Parallelism::Sequential),
        );
        Stream {
            draft: Rc::clone(&self.draft),
            origin: Origin::of(node),
            segment: SourceSegment { node, factory, source: PhantomData },
        }
    }

    /// A source of `f(i)` for `i` in `0..count`. Several instances share the range in contiguous parts.
    pub fn generate<T, F>(&self, name: &str, count: u64, f: F) -> Stream<impl Segment<Item = T> + use<T, F>>
    where
        T: Send + 'static,
        F: FnMut(u64) -> T + Clone + Send + 'static,
    {
        self.source(name, move |site: &StageSite| Ok(Generate::new(count, f, site)))
    }

    /// A source of what `items` yields, in order. With several instances each yields all of it.
    pub fn items<I>(&self, name: &str, items: I) -> Stream<impl Segment<Item = I::Item> + use<I>>
    where
        I: IntoIterator + Clone + Send + 'static,
        I::Item: Send + 'static,
    {
        self.source(name, move |_: &StageSite| Ok(IterSource::new(items.into_iter())))
    }

    /// Joins streams of one type into one, in the order that `policy` says. One instance unless asked otherwise.
    pub fn merge<T: Send + 'static>(
        &self,
        name: &str,
        policy: MergePolicy<T>,
        inputs: impl IntoIterator<Item = MergeInput<T>>,
    ) -> Stream<PortSegment<T>> {
        let sequential = Some(Parallelism::Sequential);
        let mut draft = self.draft.borrow_mut();
        let node = draft.node::<T, T>(name, StageKind::Merge, sequential);
        draft.graph.nodes[node].merge = Some(match &policy {
            MergePolicy::Fair => policy::MergePolicy::Fair,
            MergePolicy::Turns => policy::MergePolicy::Turns,
            MergePolicy::Priority => policy::MergePolicy::Priority,
            MergePolicy::ByTime(_) => policy::MergePolicy::ByTimestamp,
        });
        let port = draft.port();
        let (mut parts, mut cost) = (Vec::new(), None);
        for input in inputs {
            cost = cost.or_else(|| input.origin.cost.clone());
            parts.push((draft.edge(&input.origin, node, ChannelOrdering::Unordered), input.assemble));
        }
        let terminal: Terminal = Box::new(move |assembly| {
            let Some(down) = assembly.fetch::<T>(port) else { return };
            let sites = assembly.sites(node);
            assembly.gather(node, parts, |instance, inputs| {
                let (down, site, policy) = (down.duplicate(), sites[instance].clone(), policy.clone());
                Box::new(move || down.build_merge(&site, Inlet::new(inputs, policy)))
            });
        });
        draft.terminals.push(terminal);
        drop(draft);
        Stream {
            draft: Rc::clone(&self.draft),
            origin: Origin { cost, ..Origin::of(node) },
            segment: PortSegment { port, item: PhantomData },
        }
    }

    /// Checks the graph and seals it.
    ///
    /// # Errors
    /// Every error of the graph at once, each with its stage or edge and its field.
    pub fn build(self) -> Result<Pipeline, GraphErrors> {
        let mut draft = self.draft.borrow_mut();
        draft.settle_parallelism(&self.overrides);
        let mut graph = std::mem::take(&mut draft.graph);
        let terminals = std::mem::take(&mut draft.terminals);
        let unknown = graph.apply(&self.overrides, &self.registry);
        let graph = GraphErrors::after(
            unknown,
            graph.validate(&self.registry, &draft.context(self.spill.is_some())),
        )?;
        let item_bytes = draft.take_item_bytes();
        let taps = std::mem::take(&mut draft.taps);
        drop(draft);
        Ok(Pipeline { graph, item_bytes, spill: self.spill, terminals, taps })
    }
}

/// A checked pipeline: the graph as data and the code of its stages. Runs once.
pub struct Pipeline {
    graph: ValidatedGraph,
    /// Bytes of one item of each edge.
    item_bytes: Vec<Option<usize>>,
    spill: Option<SpillOptions>,
    terminals: Vec<Terminal>,
    taps: Vec<Taps>,
}

impl Pipeline {
    /// The graph as data.
    pub fn graph(&self) -> &PipelineGraph {
        self.graph.graph()
    }

    /// The graph with every policy resolved.
    pub fn validated(&self) -> &ValidatedGraph {
        &self.graph
    }

    /// What is allowed and probably not meant.
    pub fn warnings(&self) -> &[Warning] {
        self.graph.warnings()
    }

    /// Every stage with its parallelism: what a placement is made from.
    pub fn stages(&self) -> Vec<(StageId, Parallelism)> {
        self.graph.parallelism()
    }

    /// Where its state is spilled to, if any stage of it may.
    pub(crate) fn spill_options(&self) -> Option<&SpillOptions> {
        let mut keyed = self.graph().nodes.iter().filter_map(|node| node.accumulation.as_ref());
        let any = keyed.any(|accumulation| accumulation.policy.spill_allowed);
        self.spill.as_ref().filter(|_| any)
    }

    /// Bytes of one item of each edge, where known.
    pub(crate) fn item_bytes(&self) -> &[Option<usize>] {
        &self.item_bytes
    }

    /// Turns the pipeline into partitions, as planned.
    pub(crate) fn assemble(
        self,
        plan: Plan,
        sites: Vec<Arc<[StageSite]>>,
        doorbells: Vec<Arc<Doorbell>>,
        pulses: Vec<Arc<crate::observe::PartitionCells>>,
        control: Arc<crate::partition::Control>,
    ) -> Result<Assembled, Vec<BuildError>> {
        let ends = self.graph.edges().iter().map(|edge| (edge.from, edge.to)).collect();
        let mut assembly = Assembly::new(plan, ends, sites, self.taps, doorbells, pulses);
        // Downstream first: a branch needs what follows its outputs.
        for terminal in self.terminals.into_iter().rev() {
            terminal(&mut assembly);
        }
        assembly.finish(control)
    }
}
