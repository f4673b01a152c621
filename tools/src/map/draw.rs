//! A core map as a drawing: cores as lanes, stages in them, rings between them.

use corelane::plan::{Carriage, Distance};
use corelane::topology::CpuId;

use super::Stand;
use crate::drawing::{Area, Drawing};

const LANE: usize = 64;
const LABEL: usize = 190;
const BOX: usize = 104;
const STEP: usize = 150;
const MARGIN: usize = 12;
const HEAD: usize = 34;
/// Rings beyond this many make a drawing that nobody can read.
const MAX_RINGS: usize = 600;

/// The whole drawing. The same text for the same stand.
pub(super) fn draw(stand: &Stand) -> String {
    let (lanes, columns) = (stand.placement.partitions.len(), stand.graph.order().len());
    let width = 2 * MARGIN + LABEL + columns * STEP;
    let height = HEAD + lanes * LANE + MARGIN;
    let name = stand.graph.graph().id.as_deref().unwrap_or("pipeline");
    let mut drawing = Drawing::new(name, width, height).text(
        (MARGIN, 20),
        "head",
        "start",
        &format!("{name} on {}", stand.map),
    );
    for (at, place) in stand.placement.partitions.iter().enumerate() {
        let area = Area { x: MARGIN, y: HEAD + at * LANE, width: width - 2 * MARGIN, height: LANE - 6 };
        let cpu = place.cpu.and_then(|cpu| stand.machine.cpu(cpu));
        let where_it_is = cpu.map_or("not pinned".to_owned(), |cpu| {
            format!("CPU {}, node {}, cache {}", cpu.id, cpu.node, cpu.l3)
        });
        let idle = format!("idle: {}", format!("{:?}", place.idle).to_lowercase());
        drawing = drawing
            .block(area, "#f4f6fa", &where_it_is)
            .text((area.x + 8, area.y + 18), "head", "start", &format!("core {}", place.core))
            .text((area.x + 8, area.y + 33), "small", "start", &where_it_is)
            .text((area.x + 8, area.y + 46), "small", "start", &idle);
    }
    drawing = rings(drawing, stand);
    stages(drawing, stand).finish()
}

/// The column of a stage.
fn column(stand: &Stand, stage: usize) -> usize {
    stand.graph.order().iter().position(|other| *other == stage).unwrap_or(0)
}

fn stage_area(stand: &Stand, stage: usize, partition: usize) -> Area {
    let x = MARGIN + LABEL + column(stand, stage) * STEP;
    Area { x, y: HEAD + partition * LANE + 14, width: BOX, height: 30 }
}

fn stages(mut drawing: Drawing, stand: &Stand) -> Drawing {
    for (stage, instances) in stand.plan.instances.iter().enumerate() {
        let id = stand.graph.stages()[stage].id.as_str();
        let short: String = id.chars().take(13).collect();
        let mut partitions = instances.clone();
        partitions.sort_unstable();
        partitions.dedup();
        for partition in partitions {
            let here = instances.iter().filter(|&&at| at == partition).count();
            let area = stage_area(stand, stage, partition);
            let label = if here > 1 { format!("{short} x{here}") } else { short.clone() };
            drawing = drawing.block(area, "#d8e8d8", id).text(
                (area.x + area.width / 2, area.y + 19),
                "",
                "middle",
                &label,
            );
        }
    }
    drawing
}

/// A line for each pair of instances that a ring or a call connects; red across nodes, orange across caches.
fn rings(mut drawing: Drawing, stand: &Stand) -> Drawing {
    let cpu = |partition: usize| stand.placement.partitions[partition].cpu;
    let mut drawn = 0;
    for (edge, (planned, ends)) in stand.plan.edges.iter().zip(stand.graph.edges()).enumerate() {
        let pairs: Vec<(usize, usize)> = match planned.carriage {
            Carriage::Fused => stand.plan.instances[ends.from].iter().map(|&at| (at, at)).collect(),
            _ => stand.plan.rings(&stand.graph, edge),
        };
        for (a, b) in pairs {
            drawn += 1;
            if drawn > MAX_RINGS {
                return drawing;
            }
            let (start, end) = (stage_area(stand, ends.from, a), stage_area(stand, ends.to, b));
            let colour = match planned.carriage {
                Carriage::Fused => "#bbb",
                _ => colour(stand, cpu(a).zip(cpu(b))),
            };
            let middle = start.height / 2;
            drawing =
                drawing.line((start.x + start.width, start.y + middle), (end.x, end.y + middle), colour);
        }
    }
    drawing
}

fn colour(stand: &Stand, ends: Option<(CpuId, CpuId)>) -> &'static str {
    match ends.map(|(a, b)| Distance::between(&stand.machine, a, b)) {
        Some(Distance::Nodes(_)) => "#c22",
        Some(Distance::Node) => "#d80",
        _ => "#36a",
    }
}
