//! Topological order and cycles, without recursion.

use std::collections::VecDeque;

/// Successors of each of `n` positions, packed.
pub(super) struct Successors {
    start: Vec<usize>,
    target: Vec<usize>,
}

impl Successors {
    /// Edges keep their order.
    pub(super) fn new(n: usize, edges: &[(usize, usize)]) -> Self {
        let mut start = vec![0; n + 1];
        for &(from, _) in edges {
            start[from + 1] += 1;
        }
        for i in 0..n {
            start[i + 1] += start[i];
        }
        let mut next = start.clone();
        let mut target = vec![0; edges.len()];
        for &(from, to) in edges {
            target[next[from]] = to;
            next[from] += 1;
        }
        Self { start, target }
    }

    pub(super) fn of(&self, position: usize) -> &[usize] {
        &self.target[self.start[position]..self.start[position + 1]]
    }

    fn len(&self) -> usize {
        self.start.len() - 1
    }
}

/// Positions such that every edge leads forward, as far as there is such an order: stages on a cycle or behind one
/// are left out. Cost: linear in stages and edges.
pub(super) fn forward(successors: &Successors) -> Vec<usize> {
    let mut waiting_for = vec![0usize; successors.len()];
    for &to in &successors.target {
        waiting_for[to] += 1;
    }
    let mut order = Vec::with_capacity(successors.len());
    order.extend((0..successors.len()).filter(|&i| waiting_for[i] == 0));
    let mut done = 0;
    while done < order.len() {
        for &to in successors.of(order[done]) {
            waiting_for[to] -= 1;
            if waiting_for[to] == 0 {
                order.push(to);
            }
        }
        done += 1;
    }
    order
}

/// One cycle for each tangle (strongly connected set of more than one stage): a shortest one through its first
/// stage. Cost: linear in stages and edges.
pub(super) fn cycles(successors: &Successors) -> Vec<Vec<usize>> {
    let tangle = tangles(successors);
    let mut size = vec![0usize; successors.len()];
    for &t in &tangle {
        size[t] += 1;
    }
    let mut reported = vec![false; successors.len()];
    let mut came_from = vec![usize::MAX; successors.len()];
    let mut found = Vec::new();
    for first in 0..successors.len() {
        if size[tangle[first]] > 1 && !std::mem::replace(&mut reported[tangle[first]], true) {
            found.push(cycle_through(first, successors, &tangle, &mut came_from));
        }
    }
    found
}

/// Breadth-first from `first` inside its tangle until something leads back to it.
fn cycle_through(
    first: usize,
    successors: &Successors,
    tangle: &[usize],
    came_from: &mut [usize],
) -> Vec<usize> {
    let mut queue = VecDeque::from([first]);
    while let Some(at) = queue.pop_front() {
        for &to in successors.of(at) {
            if to == first && at != first {
                let mut path = vec![at];
                let mut last = at;
                while last != first {
                    last = came_from[last];
                    path.push(last);
                }
                path.reverse();
                return path;
            }
            if to != first && tangle[to] == tangle[first] && came_from[to] == usize::MAX {
                came_from[to] = at;
                queue.push_back(to);
            }
        }
    }
    vec![first]
}

/// Tarjan's algorithm with its own stack: for each position a number shared by its strongly connected set.
fn tangles(successors: &Successors) -> Vec<usize> {
    const UNSEEN: usize = usize::MAX;
    let n = successors.len();
    let mut seen_at = vec![UNSEEN; n];
    let mut low = vec![0; n];
    let mut tangle = vec![UNSEEN; n];
    let mut open = Vec::new();
    let mut calls: Vec<(usize, usize)> = Vec::new();
    let (mut seen, mut closed) = (0, 0);
    for root in 0..n {
        if seen_at[root] == UNSEEN {
            calls.push((root, 0));
        }
        while let Some((at, child)) = calls.pop() {
            if child == 0 {
                (seen_at[at], low[at]) = (seen, seen);
                seen += 1;
                open.push(at);
            }
            if let Some(&to) = successors.of(at).get(child) {
                calls.push((at, child + 1));
                if seen_at[to] == UNSEEN {
                    calls.push((to, 0));
                } else if tangle[to] == UNSEEN {
                    low[at] = low[at].min(seen_at[to]);
                }
                continue;
            }
            if low[at] == seen_at[at] {
                while let Some(member) = open.pop() {
                    tangle[member] = closed;
                    if member == at {
                        break;
                    }
                }
                closed += 1;
            }
            if let Some(&(caller, _)) = calls.last() {
                low[caller] = low[caller].min(low[at]);
            }
        }
    }
    tangle
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn reaches(n: usize, edges: &[(usize, usize)]) -> Vec<Vec<bool>> {
        let mut reach = vec![vec![false; n]; n];
        for &(a, b) in edges {
            reach[a][b] = true;
        }
        for k in 0..n {
            for i in 0..n {
                for j in 0..n {
                    reach[i][j] |= reach[i][k] && reach[k][j];
                }
            }
        }
        reach
    }

    proptest! {
        #[test]
        fn order_and_cycles_agree_with_the_reachability_matrix(
            edges in prop::collection::vec((0usize..9, 0usize..9), 0..24)
        ) {
            let edges: Vec<_> = edges.into_iter().filter(|(a, b)| a != b).collect();
            let reach = reaches(9, &edges);
            let successors = Successors::new(9, &edges);
            let order = forward(&successors);
            let cycles = cycles(&successors);
            let tangled = (0..9).any(|i| reach[i][i]);
            prop_assert_eq!(order.len() < 9, tangled);
            prop_assert_eq!(cycles.is_empty(), !tangled);
            for (at, &stage) in order.iter().enumerate() {
                prop_assert!(order[..=at].iter().all(|&before| !reach[stage][before]));
            }
            for cycle in &cycles {
                for (i, &at) in cycle.iter().enumerate() {
                    prop_assert!(edges.contains(&(at, cycle[(i + 1) % cycle.len()])));
                }
            }
            let mut tangles: Vec<Vec<usize>> = (0..9)
                .filter(|&i| reach[i][i])
                .map(|i| (0..9).filter(|&j| reach[i][j] && reach[j][i]).collect())
                .collect();
            tangles.sort();
            tangles.dedup();
            prop_assert_eq!(tangles.len(), cycles.len());
        }
    }
}
