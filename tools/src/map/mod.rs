//! `corelane map`: proposes core maps, checks, explains, compares and draws them. Nothing is run.

mod diff;
mod draw;
mod explain;
mod input;

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use corelane::graph::ValidatedGraph;
use corelane::model::counted;
use corelane::plan::{Plan, Proposal, ProposeError, Span, Wishes, plan, propose};
use corelane::topology::{CoreLinks, CoreMap, Machine, Placement};

use crate::check::Problems;
use crate::config::ConfigError;
use crate::exit::Exit;
use crate::machine::{LookError, Tree};
use crate::output::{OutputError, print};
use crate::tune::load::LoadError;

pub(crate) use input::GivenMap;
use input::pipeline;

/// The subcommands of `corelane map`.
#[derive(Debug, Subcommand)]
pub enum MapCommand {
    /// Propose a core map for a pipeline on this machine, and say why
    #[command(after_help = Exit::help())]
    Plan(PlanOptions),
    /// Say what is wrong with a core map, line by line
    #[command(after_help = Exit::help())]
    Check(MapOptions),
    /// Say what a core map comes to: who runs where, what each edge crosses, what may be regretted
    #[command(after_help = Exit::help())]
    Explain(MapOptions),
    /// Say in what two core maps differ
    #[command(after_help = Exit::help())]
    Diff(DiffOptions),
    /// Draw a core map as SVG: cores as lanes, stages in them
    #[command(after_help = Exit::help())]
    Draw(MapOptions),
}

/// The pipeline, and the machine it is to run on.
#[derive(Debug, Clone, Args)]
pub struct Where {
    /// A job of `corelane run`, `keyed` of `corelane tune`, or a file with a graph as TOML or JSON, as --graph prints it
    #[arg(value_name = "PIPELINE")]
    pub pipeline: String,

    /// What differs at single stages, from a TOML file; for jobs only
    #[arg(long, value_name = "FILE")]
    pub config: Vec<PathBuf>,

    /// What `corelane c2c --json` measured on the machine
    #[arg(long, value_name = "FILE")]
    pub links: Option<PathBuf>,

    /// Whose files are read.
    #[command(flatten)]
    pub tree: Tree,
}

/// The options of `corelane map plan`.
#[derive(Debug, Clone, Args)]
pub struct PlanOptions {
    /// The pipeline, and the machine it is to run on.
    #[command(flatten)]
    pub place: Where,

    /// Use so many cores at most
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub cores: Option<u32>,

    /// Stay under one last-level cache, in one node, or use the whole machine
    #[arg(long, value_enum, default_value_t = SpanArg::Node)]
    pub within: SpanArg,

    /// Print the map alone, as TOML or in one line
    #[arg(long, value_enum)]
    pub only: Option<FormArg>,
}

/// The options of `corelane map check`, `explain` and `draw`.
#[derive(Debug, Clone, Args)]
pub struct MapOptions {
    /// The pipeline, and the machine it is to run on.
    #[command(flatten)]
    pub place: Where,

    /// The core map: a TOML file, or one line like "decode=0;*=0-1"
    #[arg(value_name = "MAP")]
    pub map: String,
}

/// The options of `corelane map diff`.
#[derive(Debug, Clone, Args)]
pub struct DiffOptions {
    /// A core map: a TOML file, or one line
    #[arg(value_name = "OLD")]
    pub old: String,

    /// Another one
    #[arg(value_name = "NEW")]
    pub new: String,
}

/// `--within`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SpanArg {
    /// One last-level cache
    L3,
    /// One NUMA node
    Node,
    /// All of it
    Machine,
}

/// `--only`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum FormArg {
    /// For a file
    Toml,
    /// For --cores
    Line,
}

/// Why a command about core maps failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MapError {
    /// The machine or the output.
    #[error(transparent)]
    Look(#[from] LookError),
    /// The output.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// A file cannot be read or is of another kind.
    #[error(transparent)]
    File(#[from] ConfigError),
    /// The pipeline is not known.
    #[error(
        "{0}: neither a pipeline of this command (trace-assembly, nexmark-q5, keyed) nor a file with a graph"
    )]
    NoPipeline(String),
    /// The configuration or the graph is refused.
    #[error(transparent)]
    Problems(#[from] Problems),
    /// The core map is refused: one line for each reason.
    #[error("{}", .0.join("\n"))]
    Map(Vec<String>),
    /// The pipeline that is only there to be tuned.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// No map can be proposed.
    #[error(transparent)]
    Propose(#[from] ProposeError),
}

impl From<&MapError> for Exit {
    fn from(error: &MapError) -> Self {
        match error {
            MapError::Look(error) => error.into(),
            MapError::Output(error) => error.into(),
            MapError::File(error) => error.into(),
            MapError::Problems(problems) => problems.into(),
            MapError::Map(_) => Exit::Placement,
            MapError::Load(error) => error.into(),
            MapError::NoPipeline(_) | MapError::Propose(_) => Exit::Config,
        }
    }
}

/// Runs one of the subcommands.
///
/// # Errors
/// [`MapError`].
pub fn map(command: &MapCommand) -> Result<(), MapError> {
    match command {
        MapCommand::Plan(options) => print_plan(options),
        MapCommand::Check(options) => {
            let stand = Stand::of(options)?;
            let stages = counted(stand.graph.stages().len(), "stage");
            Ok(print(&format!("ok: {stages} on {}\n", counted(stand.placement.partitions.len(), "core")))?)
        }
        MapCommand::Explain(options) => Ok(print(&explain::explain(&Stand::of(options)?))?),
        MapCommand::Draw(options) => Ok(print(&draw::draw(&Stand::of(options)?))?),
        MapCommand::Diff(options) => {
            let (old, new) = (GivenMap::new(&options.old)?, GivenMap::new(&options.new)?);
            Ok(print(&diff::diff(&old.map, &new.map))?)
        }
    }
}

/// A core map that fits its pipeline and machine, and what it comes to.
pub(crate) struct Stand {
    pub(crate) graph: ValidatedGraph,
    pub(crate) machine: Machine,
    pub(crate) links: Option<CoreLinks>,
    pub(crate) map: CoreMap,
    pub(crate) placement: Placement,
    pub(crate) plan: Plan,
}

impl Stand {
    fn of(options: &MapOptions) -> Result<Self, MapError> {
        let graph = pipeline(&options.place)?;
        let given = GivenMap::new(&options.map)?;
        let (machine, links) = (options.place.tree.machine()?, input::links(&options.place)?);
        Self::place(graph, machine, links, given.map.clone())
            .map_err(|problems| MapError::Map(given.with_places(&problems)))
    }

    /// What stands against it otherwise, each with the entry of the map that it is about.
    fn place(
        graph: ValidatedGraph,
        machine: Machine,
        links: Option<CoreLinks>,
        map: CoreMap,
    ) -> Result<Self, Vec<(Option<String>, String)>> {
        let placement = map.resolve(&machine, &graph.parallelism()).map_err(|errors| {
            errors
                .iter()
                .map(|error| (error.field().map(str::to_owned), error.to_string()))
                .collect::<Vec<_>>()
        })?;
        let planned = plan(&graph, &placement).map_err(|errors| {
            errors
                .iter()
                .map(|error| (error.edge().map(ToString::to_string), error.to_string()))
                .collect::<Vec<_>>()
        })?;
        Ok(Self { graph, machine, links, map, placement, plan: planned })
    }
}

fn print_plan(options: &PlanOptions) -> Result<(), MapError> {
    let graph = pipeline(&options.place)?;
    let (machine, links) = (options.place.tree.machine()?, input::links(&options.place)?);
    let span = match options.within {
        SpanArg::L3 => Span::Cache,
        SpanArg::Node => Span::Node,
        SpanArg::Machine => Span::Machine,
    };
    let cores = options.cores.and_then(|cores| usize::try_from(cores).ok());
    let proposal = propose(&graph, &machine, &Wishes { span, cores, links: links.clone() })?;
    let text = match options.only {
        Some(FormArg::Toml) => proposal.map.to_toml(),
        Some(FormArg::Line) => format!("{}\n", proposal.map),
        None => {
            let Proposal { map, reasons, .. } = &proposal;
            let stand = Stand::place(graph, machine, links, map.clone()).map_err(|problems| {
                MapError::Map(problems.into_iter().map(|(_, problem)| problem).collect())
            })?;
            let why: String = reasons.iter().map(|reason| format!("  {reason}\n")).collect();
            format!("{}\nwhy:\n{why}", explain::explain(&stand))
        }
    };
    Ok(print(&text)?)
}
