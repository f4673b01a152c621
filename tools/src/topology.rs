//! `corelane topology`: the machine as text, data or drawing.

use std::collections::BTreeSet;

use clap::Args;
use corelane::model::counted;
use corelane::topology::{Cpu, CpuList, FULL_CAPACITY, Machine, NumaNode};
use serde::Serialize;

use crate::drawing::{Area, Drawing};
use crate::machine::{LookError, Tree};
use crate::output::print;

/// The options of `corelane topology`.
#[derive(Debug, Clone, Args)]
pub struct Topology {
    /// Whose files are read.
    #[command(flatten)]
    pub tree: Tree,

    /// As one JSON object
    #[arg(long, conflicts_with = "svg")]
    pub json: bool,

    /// As a drawing
    #[arg(long)]
    pub svg: bool,
}

/// Prints the machine to standard output.
///
/// # Errors
/// [`LookError`].
pub fn topology(options: &Topology) -> Result<(), LookError> {
    let machine = options.tree.machine()?;
    let text = match options {
        Topology { json: true, .. } => format!("{}\n", serde_json::to_string_pretty(&Seen::of(&machine))?),
        Topology { svg: true, .. } => draw(&machine),
        _ => describe(&machine),
    };
    Ok(print(&text)?)
}

/// The machine as data, with what follows from it.
#[derive(Serialize)]
struct Seen<'a> {
    /// The CPUs this process may use; core `n` of a core map is the `n`-th of them.
    allowed: CpuList,
    #[serde(flatten)]
    machine: &'a Machine,
}

impl<'a> Seen<'a> {
    fn of(machine: &'a Machine) -> Self {
        Self { allowed: machine.allowed(), machine }
    }
}

/// The machine for people: totals, a line for each cache with its cores, and the limits.
pub fn describe(machine: &Machine) -> String {
    let distinct =
        |key: &dyn Fn(&Cpu) -> (u32, u32, u32)| machine.cpus.iter().map(key).collect::<BTreeSet<_>>().len();
    let mut text = [
        counted(distinct(&|cpu| (cpu.package, 0, 0)), "package"),
        counted(distinct(&|cpu| (cpu.package, cpu.die, 0)), "die"),
        counted(machine.nodes.len(), "node"),
        counted(distinct(&|cpu| (cpu.l3, 0, 0)), "last-level cache"),
        counted(cores_of(machine, &machine.online).len(), "core"),
        counted(machine.cpus.len(), "CPU"),
    ]
    .join(", ");
    text.push('\n');
    for node in &machine.nodes {
        text += &format!("node {}: {}\n", node.id, node_facts(node));
        for (l3, cpus) in caches_of(machine, &node.cpus) {
            let place = cpus.first().and_then(|cpu| machine.cpu(cpu));
            let (package, die) = place.map_or((0, 0), |cpu| (cpu.package, cpu.die));
            let cores: Vec<String> =
                cores_of(machine, &cpus).iter().map(|core| core_text(machine, core)).collect();
            text += &format!("  cache {l3} (package {package}, die {die}): {}\n", cores.join(" "));
        }
    }
    let allowed = machine.allowed();
    text += &format!("this process may use {}: CPUs {allowed}\n", counted(allowed.len(), "core"));
    let list = |cpus: &CpuList| if cpus.is_empty() { "none".to_owned() } else { cpus.to_string() };
    let limits = [
        ("affinity mask", machine.affinity.to_string()),
        ("cgroup cpuset", machine.cpuset.as_ref().map_or("none".into(), CpuList::to_string)),
        ("CPU quota", machine.quota().map_or("none".into(), |cpus| format!("{cpus} CPUs"))),
        ("memory nodes", machine.mems.as_ref().map_or("all".into(), CpuList::to_string)),
        ("isolated", list(&machine.isolated)),
        ("nohz_full", list(&machine.nohz_full)),
        ("offline", list(&machine.offline())),
        ("pin refused", list(&machine.refused)),
    ];
    limits.iter().for_each(|(name, value)| text += &format!("  {name:13}  {value}\n"));
    machine.notes.iter().for_each(|note| text += &format!("note: {note}\n"));
    text
}

fn node_facts(node: &NumaNode) -> String {
    let memory = match node.memory {
        None => "memory unknown".to_owned(),
        Some(0) => "no memory".to_owned(),
        Some(bytes) => format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30)),
    };
    let cpus = if node.cpus.is_empty() { "no CPU".to_owned() } else { format!("CPUs {}", node.cpus) };
    let distances: Vec<String> = node.distances.iter().map(u32::to_string).collect();
    let distances = if distances.is_empty() { "unknown".to_owned() } else { distances.join(" ") };
    format!("{cpus}, {memory}, distances {distances}")
}

/// The last-level caches of some CPUs, in ascending order.
pub(crate) fn caches_of(machine: &Machine, cpus: &CpuList) -> Vec<(u32, CpuList)> {
    let caches: BTreeSet<u32> = cpus.iter().filter_map(|cpu| machine.cpu(cpu)).map(|cpu| cpu.l3).collect();
    caches.into_iter().map(|l3| (l3, machine.l3_group(l3).intersection(cpus))).collect()
}

/// The threads of each physical core among some CPUs, in ascending order of the first.
pub(crate) fn cores_of(machine: &Machine, cpus: &CpuList) -> Vec<CpuList> {
    let siblings = |cpu| machine.cpu(cpu).map(|cpu| cpu.siblings.intersection(cpus));
    let cores: BTreeSet<CpuList> = cpus.iter().filter_map(siblings).collect();
    cores.into_iter().collect()
}

/// `3+11`, with what is special about it.
fn core_text(machine: &Machine, core: &CpuList) -> String {
    let threads: Vec<String> = core.iter().map(|cpu| cpu.to_string()).collect();
    let mut text = threads.join("+");
    let marks = core.first().map(|cpu| marks(machine, cpu)).unwrap_or_default();
    if !marks.is_empty() {
        text += &format!("({})", marks.join(","));
    }
    text
}

fn marks(machine: &Machine, cpu: u32) -> Vec<String> {
    let capacity = machine.cpu(cpu).map_or(FULL_CAPACITY, |cpu| cpu.capacity);
    let mut marks = Vec::new();
    if capacity < FULL_CAPACITY {
        marks.push(format!("{}%", capacity * 100 / FULL_CAPACITY));
    }
    if machine.isolated.contains(cpu) {
        marks.push("isolated".to_owned());
    }
    if !machine.allowed().contains(cpu) {
        marks.push("not allowed".to_owned());
    }
    marks
}

const CELL: usize = 46;
const CELL_HEIGHT: usize = 34;
const GAP: usize = 10;
const HEAD: usize = 22;
/// Cores of a cache drawn in one row.
const IN_A_ROW: usize = 8;

/// Nodes as boxes, caches within them, cores as columns of their threads.
pub fn draw(machine: &Machine) -> String {
    let nodes: Vec<(&NumaNode, Vec<(u32, CpuList)>)> =
        machine.nodes.iter().map(|node| (node, caches_of(machine, &node.cpus))).collect();
    let size = |cpus: &CpuList| {
        let cores = cores_of(machine, cpus);
        let threads = cores.iter().map(CpuList::len).max().unwrap_or(1);
        let (columns, rows) = (cores.len().clamp(1, IN_A_ROW), cores.len().div_ceil(IN_A_ROW).max(1));
        (columns * CELL + 2 * GAP, rows * (threads * CELL_HEIGHT + GAP) + HEAD + GAP)
    };
    let node_size = |caches: &[(u32, CpuList)]| {
        let sizes: Vec<(usize, usize)> = caches.iter().map(|(_, cpus)| size(cpus)).collect();
        let width = sizes.iter().map(|(width, _)| width + GAP).sum::<usize>().max(320) + GAP;
        (width, sizes.iter().map(|(_, height)| *height).max().unwrap_or(0) + HEAD + GAP)
    };
    let width = nodes.iter().map(|(_, caches)| node_size(caches).0).max().unwrap_or(0) + 2 * GAP;
    let height: usize = nodes.iter().map(|(_, caches)| node_size(caches).1 + GAP).sum::<usize>() + HEAD + GAP;
    let mut drawing = Drawing::new("machine", width, height).text(
        (GAP, HEAD - 6),
        "head",
        "start",
        &format!("green: this process may use it ({})", machine.allowed()),
    );
    let mut y = HEAD;
    for (node, caches) in &nodes {
        let (node_width, node_height) = node_size(caches);
        let label = format!("node {}: {}", node.id, node_facts(node));
        let area = Area { x: GAP, y, width: node_width, height: node_height };
        drawing = drawing.block(area, "#f2f2f2", &label).text((2 * GAP, y + 15), "head", "start", &label);
        let mut x = 2 * GAP;
        for (l3, cpus) in caches {
            let (width, height) = size(cpus);
            let area = Area { x, y: y + HEAD, width, height };
            drawing = draw_cache(drawing, machine, area, *l3, cpus);
            x += width + GAP;
        }
        y += node_height + GAP;
    }
    drawing.finish()
}

fn draw_cache(mut drawing: Drawing, machine: &Machine, area: Area, l3: u32, cpus: &CpuList) -> Drawing {
    let label = format!("cache {l3}");
    drawing = drawing.block(area, "#e4ecf7", &label).text((area.x + GAP, area.y + 15), "", "start", &label);
    let cores = cores_of(machine, cpus);
    let threads = cores.iter().map(CpuList::len).max().unwrap_or(1);
    let allowed = machine.allowed();
    for (at, core) in cores.iter().enumerate() {
        let (column, row) = (at % IN_A_ROW, at / IN_A_ROW);
        for (thread, cpu) in core.iter().enumerate() {
            let cell = Area {
                x: area.x + GAP + column * CELL,
                y: area.y + HEAD + row * (threads * CELL_HEIGHT + GAP) + thread * CELL_HEIGHT,
                width: CELL - 4,
                height: CELL_HEIGHT - 2,
            };
            let fill = match (allowed.contains(cpu), machine.isolated.contains(cpu)) {
                (true, false) => "#d8f0d8",
                (true, true) => "#a8dca8",
                (false, _) => "#ddd",
            };
            let hint = format!("CPU {cpu} {}", marks(machine, cpu).join(", "));
            let number = allowed.iter().position(|other| other == cpu);
            let core = number.map_or(String::new(), |core| format!("core {core}"));
            let middle = cell.x + cell.width / 2;
            drawing = drawing
                .block(cell, fill, hint.trim_end())
                .text((middle, cell.y + 14), "", "middle", &cpu.to_string())
                .text((middle, cell.y + 27), "small", "middle", &core);
        }
    }
    drawing
}
