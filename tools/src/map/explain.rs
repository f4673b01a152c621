//! What a core map comes to, in words.

use std::collections::BTreeMap;

use corelane::plan::{Carriage, EdgeHops, EdgePlan, conflicts, hops};
use corelane::topology::PartitionPlace;

use super::Stand;
use crate::table::table;

/// The map, a line for each core, a line for each edge, and what may be regretted.
pub(super) fn explain(stand: &Stand) -> String {
    let Stand { graph, machine, links, map, placement, plan } = stand;
    let mut text = format!("map: {map}\n\n");
    let cores = placement.partitions.iter().enumerate().map(|(at, place)| core_row(stand, at, place));
    text += &table(["CORE", "CPU", "NODE", "CACHE", "IDLE", "STAGES"], cores);
    text.push('\n');
    let hops = hops(graph, plan, placement, machine, links.as_ref());
    let edges = hops.iter().zip(&plan.edges).map(|(hops, edge)| edge_row(stand, hops, edge));
    text += &table(["EDGE", "CARRIED", "RINGS", "HOLD", "CROSSES", "LONGEST"], edges);
    let conflicts = conflicts(graph, plan, placement, machine);
    let notes = placement.warnings.iter().map(ToString::to_string);
    let notes = notes.chain(conflicts.iter().map(ToString::to_string));
    let notes = notes.chain(rings_of_fused(stand));
    let notes: Vec<String> = notes.map(|note| format!("note: {note}\n")).collect();
    if !notes.is_empty() {
        text.push('\n');
    }
    text + &notes.concat()
}

fn core_row(stand: &Stand, at: usize, place: &PartitionPlace) -> [String; 6] {
    let cpu = place.cpu.and_then(|cpu| stand.machine.cpu(cpu));
    let of = |value: Option<u32>| value.map_or("-".to_owned(), |value| value.to_string());
    [
        place.core.to_string(),
        of(place.cpu),
        of(cpu.map(|cpu| cpu.node)),
        of(cpu.map(|cpu| cpu.l3)),
        format!("{:?}", place.idle).to_lowercase(),
        stages_of(stand, at),
    ]
}

/// The stages with an instance in a partition, in the order of the pipeline, `x2` behind those with several.
pub(super) fn stages_of(stand: &Stand, partition: usize) -> String {
    let mut here = Vec::new();
    for &stage in stand.graph.order() {
        let instances = stand.plan.instances[stage].iter().filter(|&&at| at == partition).count();
        let id = &stand.graph.stages()[stage].id;
        match instances {
            0 => {}
            1 => here.push(id.to_string()),
            n => here.push(format!("{id} x{n}")),
        }
    }
    here.join(" ")
}

fn edge_row(stand: &Stand, hops: &EdgeHops, edge: &EdgePlan) -> [String; 6] {
    let ends = &stand.graph.graph().edges[hops.edge];
    let rings: usize = hops.rings.values().sum();
    let crosses = crossings(&hops.rings);
    let longest = hops.longest_ns.map_or("-".to_owned(), |ns| format!("{ns:.0} ns"));
    let name = format!("{} -> {}", ends.input_name(), ends.to);
    let (rings, hold) = match edge.carriage {
        Carriage::Fused => ("-".to_owned(), "-".to_owned()),
        _ => (rings.to_string(), edge.capacity.to_string()),
    };
    [name, carried(edge).to_owned(), rings, hold, crosses, longest]
}

fn carried(edge: &EdgePlan) -> &'static str {
    match edge.carriage {
        Carriage::Fused => "fused: a call",
        Carriage::Forward => "one to one",
        Carriage::Balance => "to whom has room",
        Carriage::Turns => "in turns",
        Carriage::Exchange => "by key",
    }
}

fn crossings<D: ToString>(rings: &BTreeMap<D, usize>) -> String {
    let parts: Vec<String> =
        rings.iter().map(|(distance, rings)| format!("{rings} {}", distance.to_string())).collect();
    if parts.is_empty() { "nothing".to_owned() } else { parts.join(", ") }
}

/// Entries of the map that have no effect.
fn rings_of_fused(stand: &Stand) -> Vec<String> {
    let fused = |(edge, _): &(&corelane::topology::EdgeName, u64)| {
        let edges = stand.graph.graph().edges.iter().zip(&stand.plan.edges);
        edges
            .filter(|(e, _)| e.from == edge.from.as_str() && e.to == edge.to.as_str())
            .all(|(_, plan)| plan.carriage == Carriage::Fused)
    };
    let named = stand.map.rings().filter(fused);
    named
        .map(|(edge, items)| format!("{edge}={items} has no effect: the stages are fused, there is no ring"))
        .collect()
}
