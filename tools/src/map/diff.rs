//! In what two core maps differ.

use std::collections::BTreeMap;

use corelane::topology::CoreMap;

/// One line for each entry that is not the same in both, `-` in front of what is old and `+` in front of what is new.
pub(super) fn diff(old: &CoreMap, new: &CoreMap) -> String {
    let (before, after) = (entries(old), entries(new));
    let mut text = String::new();
    let names: std::collections::BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    for name in names {
        let (old, new) = (before.get(name), after.get(name));
        if old == new {
            continue;
        }
        if let Some(value) = old {
            text += &format!("- {name}={value}\n");
        }
        if let Some(value) = new {
            text += &format!("+ {name}={value}\n");
        }
    }
    if text.is_empty() { "the same\n".to_owned() } else { text }
}

/// The entries of the one-line form, idle policies core by core.
fn entries(map: &CoreMap) -> BTreeMap<String, String> {
    let mut entries = BTreeMap::new();
    for (stage, cores) in map.stages() {
        entries.insert(stage.to_string(), cores.to_string());
    }
    if let Some(cores) = map.cores_of_rest() {
        entries.insert("*".to_owned(), cores.to_string());
    }
    for (core, idle) in map.idle_policies() {
        let core = core.map_or("*".to_owned(), |core| core.to_string());
        entries.insert(format!("@{core}"), format!("{idle:?}").to_lowercase());
    }
    if let Some(locality) = map.memory() {
        entries.insert("@memory".to_owned(), locality.to_string());
    }
    for (edge, items) in map.rings() {
        entries.insert(edge.to_string(), items.to_string());
    }
    entries
}
