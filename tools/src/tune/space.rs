//! What can be tried: core maps that fit pipeline and machine, and what else there is to choose.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use corelane::driver::DriverChoice;
use corelane::engine::ExecutionOptions;
use corelane::graph::{ChannelOrdering, ValidatedGraph};
use corelane::model::StageId;
use corelane::plan::{Carriage, Plan, Span, Wishes, plan, propose};
use corelane::policy::IdlePolicy;
use corelane::topology::{CoreMap, Cores, CpuId, CpuList, EdgeName, Machine};
use serde::Serialize;

use super::search::Point;

/// Items that a task moves in one step at most; the first is what runs without tuning.
pub const BUDGETS: [usize; 4] = [1024, 256, 64, 4096];
/// By how much the rings of a map are larger; the first is what runs without tuning.
pub const RINGS: [RingScale; 3] = [
    RingScale::AS_PLANNED,
    RingScale { numerator: 1, denominator: 4 },
    RingScale { numerator: 4, denominator: 1 },
];
/// Maps that are tried at most.
const MOST_MAPS: usize = 12;
/// The longest ring that is tried.
const LONGEST_RING: u64 = 1 << 20;

/// A factor for the capacity of rings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RingScale {
    numerator: u64,
    denominator: u64,
}

impl RingScale {
    const AS_PLANNED: Self = Self { numerator: 1, denominator: 1 };

    fn of(self, capacity: u64) -> u64 {
        (capacity.saturating_mul(self.numerator) / self.denominator).clamp(1, LONGEST_RING.max(capacity))
    }
}

impl fmt::Display for RingScale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self { numerator, denominator: 1 } => write!(f, "x{numerator}"),
            Self { numerator, denominator } => write!(f, "x{numerator}/{denominator}"),
        }
    }
}

/// What may be chosen from. An empty list stands for everything there is.
#[derive(Debug, Clone, Default)]
pub struct Choices {
    /// Drivers.
    pub drivers: Vec<DriverChoice>,
    /// Idle policies.
    pub idle: Vec<IdlePolicy>,
    /// Step budgets.
    pub budgets: Vec<usize>,
    /// Maps beside those that are made up, with the names that they go by.
    pub maps: Vec<(String, CoreMap)>,
    /// Only those maps.
    pub only_maps: bool,
    /// Rings as planned only.
    pub rings_as_planned: bool,
}

/// A map, where it comes from, and its rings.
#[derive(Debug, Clone)]
struct NamedMap {
    name: String,
    map: CoreMap,
    rings: Vec<(EdgeName, u64)>,
}

/// Everything that may be tried, dimension by dimension.
#[derive(Debug, Clone)]
pub struct Space {
    maps: Vec<NamedMap>,
    drivers: Vec<DriverChoice>,
    idle: Vec<IdlePolicy>,
    budgets: Vec<usize>,
    rings: Vec<RingScale>,
}

/// A point of the space, as it is run.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Candidate {
    /// Where its map comes from.
    pub name: String,
    /// Stages to cores, idle policies and rings.
    pub map: CoreMap,
    /// The driver.
    pub driver: DriverChoice,
    /// What cores do without work.
    pub idle: IdlePolicy,
    /// Items that a task moves in one step, as [`ExecutionOptions::step_budget`] says.
    pub step_budget: usize,
    /// Its rings beside those of the plan.
    pub rings: String,
}

impl Candidate {
    /// The engine's options for it.
    pub fn options(&self) -> ExecutionOptions {
        ExecutionOptions {
            driver: self.driver,
            core_map: self.map.clone(),
            step_budget: self.step_budget,
            ..ExecutionOptions::default()
        }
    }

    /// The options of `corelane run` that its map has no place for.
    pub fn run_options(&self) -> String {
        format!("--driver {} --step-budget {}", word(self.driver), self.step_budget)
    }
}

impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, driver, idle, step_budget, rings, .. } = self;
        write!(f, "{name}, {}, {}, budget {step_budget}, rings {rings}", word(driver), word(idle))
    }
}

/// The name of a choice as the command line has it.
fn word(choice: impl fmt::Debug) -> String {
    format!("{choice:?}").to_lowercase()
}

impl Space {
    /// What there is for `graph` on `machine`. Maps that come to the same placement are one, and those that the machine or the graph does not
    /// allow are left out.
    pub fn new(graph: &ValidatedGraph, machine: &Machine, choices: &Choices) -> Self {
        let given = choices.maps.iter().cloned();
        let made = if choices.only_maps { Vec::new() } else { made_maps(graph, machine) };
        let mut seen = BTreeSet::new();
        let fitting = given.chain(made).filter_map(|(name, map)| {
            let (placed, rings) = stand(graph, machine, &map)?;
            // With rings and idle policies of its own it is another one.
            let details = (map.rings().count(), map.idle_policies().count());
            seen.insert((placed, details)).then_some(NamedMap { name, map, rings })
        });
        let or = |given: &[_], all: &[_]| if given.is_empty() { all.to_vec() } else { given.to_vec() };
        let drivers = [DriverChoice::Thread, DriverChoice::Glommio];
        let mut drivers = if choices.drivers.is_empty() { drivers.to_vec() } else { choices.drivers.clone() };
        drivers.retain(|driver| driver.resolve().is_ok());
        let idle = [IdlePolicy::Adaptive, IdlePolicy::Park, IdlePolicy::Spin, IdlePolicy::Yield];
        Self {
            maps: fitting.take(MOST_MAPS).collect(),
            drivers,
            idle: if choices.idle.is_empty() { idle.to_vec() } else { choices.idle.clone() },
            budgets: or(&choices.budgets, &BUDGETS),
            rings: if choices.rings_as_planned { vec![RingScale::AS_PLANNED] } else { RINGS.to_vec() },
        }
    }

    /// Every point of it. Those that would be the same as another one are left out: rings of a map that has none,
    /// and idle policies beside a map's own.
    pub fn points(&self) -> BTreeSet<Point> {
        let count = |n: usize| 0..u8::try_from(n).unwrap_or(u8::MAX);
        let mut points = BTreeSet::new();
        for (map, named) in count(self.maps.len()).zip(&self.maps) {
            let rings = if named.rings.is_empty() { 1 } else { self.rings.len() };
            for driver in count(self.drivers.len()) {
                let idle = if named.map.idle_policies().next().is_none() { self.idle.len() } else { 1 };
                for idle in count(idle) {
                    for budget in count(self.budgets.len()) {
                        points.extend(count(rings).map(|ring| [map, driver, idle, budget, ring]));
                    }
                }
            }
        }
        points
    }

    /// What a point stands for; `None` for one that is not in the space.
    pub fn candidate(&self, point: Point) -> Option<Candidate> {
        let [map, driver, idle, budget, ring] = point.map(usize::from);
        let NamedMap { name, map, rings } = self.maps.get(map)?;
        let (driver, idle, scale) =
            (*self.drivers.get(driver)?, *self.idle.get(idle)?, *self.rings.get(ring)?);
        let mut map = map.clone();
        if map.idle_policies().next().is_none() {
            map = map.idle_rest(idle);
        }
        if scale != RingScale::AS_PLANNED {
            for (edge, capacity) in rings {
                map = map.ring(edge.clone(), scale.of(*capacity));
            }
        }
        let (name, step_budget) = (name.clone(), *self.budgets.get(budget)?);
        Some(Candidate { name, map, driver, idle, step_budget, rings: scale.to_string() })
    }
}

/// On which CPUs the instances of each stage are, and the rings between them; `None` if it cannot run.
type Placed = Vec<Vec<Option<CpuId>>>;

fn stand(graph: &ValidatedGraph, machine: &Machine, map: &CoreMap) -> Option<(Placed, Vec<(EdgeName, u64)>)> {
    let placement = map.resolve(machine, &graph.parallelism()).ok()?;
    let planned = plan(graph, &placement).ok()?;
    let cpu = |partition: &usize| placement.partitions.get(*partition).and_then(|place| place.cpu);
    let placed = planned.instances.iter().map(|stage| stage.iter().map(cpu).collect()).collect();
    Some((placed, rings(graph, &planned)))
}

/// The edges that are rings, each once, with what their rings hold.
fn rings(graph: &ValidatedGraph, plan: &Plan) -> Vec<(EdgeName, u64)> {
    let edges = graph.graph().edges.iter().zip(&plan.edges);
    let rings = edges.filter(|(_, planned)| planned.carriage != Carriage::Fused);
    let named = rings.filter_map(|(edge, planned)| {
        let (from, to) = (StageId::new(&edge.from).ok()?, StageId::new(&edge.to).ok()?);
        let label = edge.label.clone().filter(|label| !label.contains(['=', ';']));
        Some((EdgeName { from, label, to }, planned.capacity))
    });
    named.collect::<BTreeMap<_, _>>().into_iter().collect()
}

/// Every stage on every core, on one core, as `map plan` proposes, and cut in two at each place where the work changes.
fn made_maps(graph: &ValidatedGraph, machine: &Machine) -> Vec<(String, CoreMap)> {
    let mut maps = vec![("every core".to_owned(), CoreMap::default())];
    for (span, name) in [(Span::Node, "as planned"), (Span::Cache, "one cache"), (Span::Machine, "all nodes")]
    {
        let wishes = Wishes { span, ..Wishes::default() };
        maps.extend(propose(graph, machine, &wishes).ok().map(|proposal| (name.to_owned(), proposal.map)));
    }
    maps.push(("one core".to_owned(), CoreMap::default().rest(list(0..1))));
    let cores = u32::try_from(machine.allowed().len()).unwrap_or(u32::MAX);
    for cut in cuts(graph) {
        for at in splits(cores) {
            maps.push(cut_at(graph, cut, at, cores));
        }
    }
    maps
}

fn list(cores: std::ops::Range<u32>) -> Cores {
    Cores::List(cores.collect::<CpuList>())
}

/// So many cores for the stages before a cut: one, half, all but one.
fn splits(cores: u32) -> BTreeSet<u32> {
    [1, cores / 2, cores.saturating_sub(1)].into_iter().filter(|first| (1..cores).contains(first)).collect()
}

/// Positions in the order of the graph before which it may be cut: where the number of instances changes, or keys are exchanged.
fn cuts(graph: &ValidatedGraph) -> Vec<usize> {
    let stages = graph.parallelism();
    let order = graph.order();
    let changes = |at: &usize| {
        let (before, behind) = (order[at - 1], order[*at]);
        let keyed = graph.edges().iter().zip(&graph.graph().edges).any(|(resolved, edge)| {
            resolved.to == behind && matches!(edge.channel.ordering, ChannelOrdering::PartitionOrdered { .. })
        });
        keyed || stages[before].1 != stages[behind].1
    };
    (1..order.len()).filter(changes).collect()
}

/// The stages before the cut on the first cores, all others on the rest.
fn cut_at(graph: &ValidatedGraph, cut: usize, first: u32, cores: u32) -> (String, CoreMap) {
    let (stages, order) = (graph.parallelism(), graph.order());
    let place = |map: CoreMap, stage: &usize| map.stage(stages[*stage].0.clone(), list(0..first));
    let map = order[..cut].iter().fold(CoreMap::default().rest(list(first..cores)), place);
    let (last, next) = (&stages[order[cut - 1]].0, &stages[order[cut]].0);
    (format!("{last} on {first} | {next} on {}", cores - first), map)
}

#[cfg(test)]
mod tests {
    use corelane::config::Config;

    use super::*;
    use crate::args::JobArg;
    use crate::check;

    fn traces() -> ValidatedGraph {
        check::build(JobArg::TraceAssembly, Config::default()).unwrap().validated().clone()
    }

    fn thread_only() -> Choices {
        Choices { drivers: vec![DriverChoice::Thread], ..Choices::default() }
    }

    #[test]
    fn every_candidate_of_every_machine_can_run_and_no_two_maps_are_the_same() {
        let graph = traces();
        for cores in [1, 2, 3, 4, 16] {
            let machine = Machine::flat(cores);
            let space = Space::new(&graph, &machine, &thread_only());
            let points = space.points();
            assert!(points.contains(&[0; 5]), "what runs without tuning is tried");
            let mut placed = BTreeSet::new();
            for point in &points {
                let candidate = space.candidate(*point).unwrap();
                let (stages, _) = stand(&graph, &machine, &candidate.map).unwrap();
                if point[1..] == [0; 4] {
                    assert!(placed.insert(stages), "{cores} cores: {candidate} is there twice");
                }
            }
            assert_eq!(placed.len(), space.maps.len());
            assert!(
                space.maps.len() <= MOST_MAPS && (cores == 1) == (placed.len() == 1),
                "{cores}: {placed:?}"
            );
        }
    }

    #[test]
    fn a_map_written_as_toml_is_the_candidate_that_was_tried() {
        let space = Space::new(&traces(), &Machine::flat(2), &thread_only());
        for point in space.points() {
            let candidate = space.candidate(point).unwrap();
            assert_eq!(CoreMap::from_toml(&candidate.map.to_toml()).unwrap(), candidate.map);
            assert_eq!(candidate.map.idle_of(0), candidate.idle);
        }
    }

    #[test]
    fn pipelines_are_cut_where_work_changes() {
        let graph = traces();
        let (stages, order) = (graph.parallelism(), graph.order());
        let behind: Vec<&str> = cuts(&graph).iter().map(|cut| stages[order[*cut]].0.as_str()).collect();
        assert!(["decode", "spans", "traces"].iter().all(|stage| behind.contains(stage)), "{behind:?}");
        assert_eq!(splits(2), BTreeSet::from([1]));
        assert_eq!(splits(8), BTreeSet::from([1, 4, 7]));
        assert_eq!(splits(1), BTreeSet::new());
    }

    #[test]
    fn rings_grow_and_shrink_but_hold_at_least_one_item() {
        let told = RINGS.map(|scale| (scale.to_string(), scale.of(64), scale.of(2)));
        assert_eq!(told, [("x1".to_owned(), 64, 2), ("x1/4".to_owned(), 16, 1), ("x4".to_owned(), 256, 8)]);
    }

    #[test]
    fn given_maps_come_first_and_can_be_all_there_is() {
        let given: CoreMap = "decode=1;*=0;@*=park".parse().unwrap();
        let choices =
            Choices { maps: vec![("mine.toml".to_owned(), given.clone())], only_maps: true, ..thread_only() };
        let space = Space::new(&traces(), &Machine::flat(2), &choices);
        assert_eq!(space.maps.len(), 1);
        assert_eq!(space.candidate([0; 5]).unwrap().map, given, "its own idle policy stays");
    }
}
