//! Any items under any faults.

use super::*;

fn script() -> impl Strategy<Value = Vec<(u32, bool, u8)>> {
    prop::collection::vec((0u32..150, prop::bool::weighted(0.1), any::<u8>()), 0..1_200)
}

/// Runs `script` under `faults`; what came out, by key, and the account at the end.
fn run(
    seed: u64,
    faults: DiskFaults,
    script: &[(u32, bool, u8)],
) -> (BTreeMap<u32, Vec<Vec<u64>>>, StageAccount) {
    let mut r = rig_on(SimDisks::new(seed, faults), PARTS, partial(), ErrorPolicy::Ignore);
    for (id, &(key, last, pause)) in (0..).zip(script) {
        r.give([Part { last, ..part(key, id) }]);
        match pause {
            0..8 => r.wait(),
            8..100 => r.b.now += 50_000,
            100..200 => drop(r.b.tick()),
            _ => {}
        }
    }
    let mut by_key = BTreeMap::<u32, Vec<Vec<u64>>>::new();
    for (key, _, ids) in r.end() {
        by_key.entry(key).or_default().push(ids);
    }
    (by_key, r.close())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn with_any_harmless_faults_every_key_has_its_items_in_order(script in script(), seed in any::<u64>()) {
        let (by_key, a) = run(seed, DiskFaults::harmless(seed), &script);
        let mut model = BTreeMap::<u32, Vec<Vec<u64>>>::new();
        let mut open = BTreeMap::<u32, Vec<u64>>::new();
        for (id, &(key, last, _)) in (0..).zip(&script) {
            open.entry(key).or_default().push(id);
            if last {
                model.entry(key).or_default().extend(open.remove(&key));
            }
        }
        for (key, ids) in open {
            model.entry(key).or_default().push(ids);
        }
        prop_assert_eq!(by_key, model);
        prop_assert_eq!(a.items_lost, 0);
    }

    #[test]
    fn with_any_faults_at_all_what_comes_out_is_right_and_the_rest_is_counted_as_lost(
        script in script(), seed in any::<u64>(),
    ) {
        let (by_key, a) = run(seed, DiskFaults::any(seed), &script);
        let out: Vec<u64> = by_key.values().flatten().flatten().copied().collect();
        prop_assert_eq!(out.len() as u64 + a.items_lost, script.len() as u64);
        for (key, wholes) in by_key {
            let ids: Vec<u64> = wholes.into_iter().flatten().collect();
            prop_assert!(ids.is_sorted() && ids.iter().all(|id| script[*id as usize].0 == key));
        }
    }
}
