//! What a run did, for people and for programs.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use corelane::driver::{MemoryBinding, ParkPrice};
use corelane::model::columns;
use corelane::observe::{Account, HeldPages};
use corelane::topology::{CpuId, CpuList, EffectiveIdle};
use hdrhistogram::Histogram;
use serde::Serialize;

/// What a job tells of its run, beside what all jobs have to tell.
pub trait Told: Serialize {
    /// Lines for people, behind the one that says how the run ended. It took `elapsed_s` seconds.
    ///
    /// # Errors
    ///
    /// Those of the formatter.
    fn lines(&self, elapsed_s: f64, f: &mut fmt::Formatter<'_>) -> fmt::Result;
}

/// What a run did. `Display` is the text for people; [`Summary::to_json`] is one line for programs.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Summary<J> {
    /// The driver that ran, and why, if it is not the one asked for.
    pub driver: String,
    /// The cores used, as the operating system numbers them.
    pub cores: Vec<usize>,
    /// What its cores did when there was nothing to do, and what parking costs here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle: Option<IdleSummary>,
    /// Where its memory lay.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<MemorySummary>,
    /// How the run ended: completed, or what a signal made of it.
    pub outcome: String,
    /// Wall-clock time from start to end.
    pub elapsed_s: f64,
    /// What the job tells.
    #[serde(flatten)]
    pub job: J,
    /// One line per stage, in the order of the pipeline.
    pub stages: Vec<StageSummary>,
    /// Times from one point of the pipeline to another.
    pub latencies: Vec<LatencySummary>,
    /// What is allowed and probably not meant.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// What became of every item, by stage and edge; empty without a pipeline.
    pub account: Account,
    /// Whether it closes.
    pub account_closes: bool,
}

/// What cores did without work, and its price.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct IdleSummary {
    /// What they did: one entry for each way there was.
    pub ways: Vec<String>,
    /// How long a parked core takes to be woken, in nanoseconds: the median, as measured at the start.
    pub park_wake_ns: u64,
    /// What one in twenty takes at least.
    pub park_wake_p95_ns: u64,
    /// The share of a core that a parked one takes.
    pub parked_share: f64,
}

impl IdleSummary {
    /// The ways of `idle`, each once, and the price.
    pub fn new(idle: &[EffectiveIdle], price: &ParkPrice) -> Self {
        let mut ways: Vec<String> = idle.iter().map(ToString::to_string).collect();
        ways.sort_unstable();
        ways.dedup();
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        Self {
            ways,
            park_wake_ns: nanos(price.wake),
            park_wake_p95_ns: nanos(price.wake_p95),
            parked_share: price.parked_share,
        }
    }
}

impl fmt::Display for IdleSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = Duration::from_nanos;
        writeln!(
            f,
            "idle    {}; a parked core is woken in {:.1?} (1 in 20: {:.1?}) and takes {:.2} % of itself",
            self.ways.join(" / "),
            time(self.park_wake_ns),
            time(self.park_wake_p95_ns),
            self.parked_share * 100.0
        )
    }
}

/// On which NUMA nodes the memory of a run lay.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct MemorySummary {
    /// What became of the wish for memory near its cores.
    pub binding: String,
    /// Pages of rings and of the memory pool, by node, when the run ended. Empty if nothing was bound.
    pub pages: BTreeMap<u32, u64>,
    /// Those that lay on another node than the core that reads the ring, or that the buffers belong to.
    pub misplaced_pages: u64,
    /// Whether people are told of it: not where all memory is on one node.
    #[serde(skip)]
    pub is_told: bool,
}

impl MemorySummary {
    /// Adds up what is `held`.
    pub fn new(binding: MemoryBinding, held: &[HeldPages]) -> Self {
        let mut pages = BTreeMap::new();
        for (node, count) in held.iter().flat_map(|held| &held.pages.nodes) {
            *pages.entry(*node).or_default() += count;
        }
        Self {
            binding: binding.to_string(),
            pages,
            misplaced_pages: held.iter().map(HeldPages::misplaced).sum(),
            is_told: binding != MemoryBinding::OneNode,
        }
    }

    /// What is allowed and probably not meant.
    pub fn warning(&self) -> Option<String> {
        let (misplaced, all) = (self.misplaced_pages, self.pages.values().sum::<u64>());
        let text = || {
            format!("{misplaced} of {all} pages of memory lay on another node than the core that uses them")
        };
        (misplaced > 0).then(text)
    }
}

impl fmt::Display for MemorySummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.is_told {
            return Ok(());
        }
        let nodes: Vec<String> =
            self.pages.iter().map(|(node, pages)| format!("{pages} pages on node {node}")).collect();
        let nodes = if nodes.is_empty() { String::new() } else { format!(": {}", nodes.join(", ")) };
        writeln!(f, "memory  {}{nodes}", self.binding)
    }
}

/// What one stage did, over all its instances.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StageSummary {
    /// Its id in the graph.
    pub id: String,
    /// Its kind (source, transform, ...).
    pub kind: String,
    /// The cores its instances ran on.
    pub cores: Vec<usize>,
    /// Items in.
    pub accepted: u64,
    /// Items out.
    pub delivered: u64,
    /// Items it failed on.
    pub errors: u64,
}

/// Percentiles of one latency, in nanoseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LatencySummary {
    /// What was measured.
    pub name: String,
    /// Measurements.
    pub count: u64,
    /// Median.
    pub p50_ns: u64,
    /// 90th percentile.
    pub p90_ns: u64,
    /// 99th percentile.
    pub p99_ns: u64,
    /// 99.9th percentile.
    pub p999_ns: u64,
    /// Largest.
    pub max_ns: u64,
}

impl LatencySummary {
    /// Takes the percentiles of a histogram of nanoseconds; all zero when it is empty.
    pub fn new(name: &str, histogram: &Histogram<u64>) -> Self {
        LatencySummary {
            name: name.to_owned(),
            count: histogram.len(),
            p50_ns: histogram.value_at_quantile(0.5),
            p90_ns: histogram.value_at_quantile(0.9),
            p99_ns: histogram.value_at_quantile(0.99),
            p999_ns: histogram.value_at_quantile(0.999),
            max_ns: histogram.max(),
        }
    }
}

impl<J: Told> Summary<J> {
    /// One JSON object without a newline at the end.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_else(|error| format!("{{\"error\":\"{error}\"}}"))
    }
}

impl<J: Told> fmt::Display for Summary<J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cores = if self.cores.is_empty() { String::new() } else { format!(" on {}", cores(&self.cores)) };
        writeln!(f, "{} after {:.3} s with {}{cores}", self.outcome, self.elapsed_s, self.driver)?;
        self.job.lines(self.elapsed_s, f)?;
        self.idle.iter().try_for_each(|idle| write!(f, "{idle}"))?;
        self.memory.iter().try_for_each(|memory| write!(f, "{memory}"))?;
        self.write_stages(f)?;
        self.write_latencies(f)?;
        self.write_account(f)?;
        for warning in &self.warnings {
            writeln!(f, "warning: {warning}")?;
        }
        Ok(())
    }
}

impl<J> Summary<J> {
    fn write_stages(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.stages.is_empty() {
            return Ok(());
        }
        let head = ["stage", "kind", "in", "out", "errors", "cores"].map(str::to_owned);
        let row = |stage: &StageSummary| {
            let [accepted, delivered, errors] =
                [stage.accepted, stage.delivered, stage.errors].map(|items| items.to_string());
            [
                stage.id.clone(),
                stage.kind.clone(),
                accepted,
                delivered,
                errors,
                list(&stage.cores).to_string(),
            ]
        };
        let rows: Vec<_> = std::iter::once(head).chain(self.stages.iter().map(row)).collect();
        write!(f, "\n{}", columns("", &rows, 2..5))
    }

    /// The totals in one line; by stage they stand in the table, by edge in the JSON.
    fn write_account(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.account.stages.is_empty() {
            return Ok(());
        }
        let totals = self.account.totals();
        let fields = totals.fields();
        let (incoming, outcomes) = fields.split_at(2);
        let sum = |fields: &[(&str, u64)]| {
            let shown = fields.iter().filter(|(_, items)| *items > 0);
            let parts: Vec<String> = shown.map(|(name, items)| format!("{items} {name}")).collect();
            parts.join(" + ")
        };
        let verdict = if self.account_closes { "closes" } else { "DOES NOT CLOSE" };
        writeln!(f, "\naccount {verdict}: {} = {}", sum(incoming), sum(outcomes))
    }

    fn write_latencies(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.latencies.is_empty() {
            return Ok(());
        }
        let head = ["latency", "count", "p50", "p90", "p99", "p99.9", "max"].map(str::to_owned);
        let row = |line: &LatencySummary| {
            let [p50, p90, p99, p999, max] =
                [line.p50_ns, line.p90_ns, line.p99_ns, line.p999_ns, line.max_ns]
                    .map(|ns| format!("{:.2?}", Duration::from_nanos(ns)));
            [line.name.clone(), line.count.to_string(), p50, p90, p99, p999, max]
        };
        let rows: Vec<_> = std::iter::once(head).chain(self.latencies.iter().map(row)).collect();
        write!(f, "\n{}", columns("", &rows, 1..7))
    }
}

/// How many of `items` there were in each of `elapsed_s` seconds.
pub(crate) fn per_second(items: u64, elapsed_s: f64) -> f64 {
    if elapsed_s > 0.0 { items as f64 / elapsed_s } else { 0.0 }
}

/// The numbers in order, runs shortened.
fn list(cores: &[usize]) -> CpuList {
    cores.iter().filter_map(|core| CpuId::try_from(*core).ok()).collect()
}

/// "core 3" or "cores 0-3,6".
fn cores(numbers: &[usize]) -> String {
    let list = list(numbers);
    format!("{} {list}", if list.len() == 1 { "core" } else { "cores" })
}

/// A number of bytes in the unit that fits.
pub(crate) struct Bytes(pub(crate) u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const KIB: f64 = 1024.0;
        match self.0 as f64 {
            bytes if bytes < KIB => write!(f, "{} B", self.0),
            bytes if bytes < KIB * KIB => write!(f, "{:.1} KiB", bytes / KIB),
            bytes if bytes < KIB * KIB * KIB => write!(f, "{:.1} MiB", bytes / KIB / KIB),
            bytes => write!(f, "{:.1} GiB", bytes / KIB / KIB / KIB),
        }
    }
}

#[cfg(test)]
mod tests {
    use corelane::observe::StageAccount;

    use super::*;

    /// A job with a number to tell.
    #[derive(Default, Serialize)]
    struct Read {
        spans: u64,
    }

    impl Told for Read {
        fn lines(&self, elapsed_s: f64, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            writeln!(f, "{} spans, {} a second", self.spans, per_second(self.spans, elapsed_s))
        }
    }

    fn memory() -> MemorySummary {
        let held = |home, nodes: [(u32, u64); 2]| HeldPages {
            holder: corelane::observe::MemoryHolder::Pool,
            partition: 0,
            home: Some(home),
            pages: corelane::observe::PageNodes { nodes: nodes.into(), nowhere: 1 },
            small_bytes: 0,
        };
        let binding = MemoryBinding::Bound(corelane::policy::MemoryLocality::Local);
        MemorySummary::new(binding, &[held(0, [(0, 5), (1, 2)]), held(1, [(0, 0), (1, 30)])])
    }

    #[test]
    fn memory_on_one_node_is_not_spoken_of_and_pages_elsewhere_are_a_warning() {
        let told = memory();
        assert_eq!((told.misplaced_pages, &told.pages), (2, &[(0, 5), (1, 32)].into()));
        let warning = "2 of 37 pages of memory lay on another node than the core that uses them";
        assert_eq!(told.warning().as_deref(), Some(warning));
        let silent = MemorySummary::new(MemoryBinding::OneNode, &[]);
        assert_eq!((silent.to_string(), silent.warning()), (String::new(), None));
    }

    fn summary() -> Summary<Read> {
        let source = StageAccount { received: 100, passed: 100, emitted: 100, ..StageAccount::default() };
        let sink = StageAccount { received: 100, delivered: 100, ..StageAccount::default() };
        let mut histogram = Histogram::new(3).unwrap();
        (1..=1_000_u64).for_each(|us| histogram.record(us * 1_000).unwrap());
        Summary {
            driver: "thread".to_owned(),
            cores: vec![1, 0],
            idle: Some(IdleSummary {
                ways: vec!["parks".to_owned()],
                park_wake_ns: 6_200,
                park_wake_p95_ns: 9_000,
                parked_share: 0.0012,
            }),
            memory: Some(memory()),
            outcome: "completed".to_owned(),
            elapsed_s: 0.5,
            job: Read { spans: 100 },
            stages: vec![StageSummary {
                id: "decode".to_owned(),
                kind: "transform".to_owned(),
                cores: vec![0],
                accepted: 7,
                delivered: 100,
                errors: 0,
            }],
            latencies: vec![LatencySummary::new("end to end", &histogram)],
            account: Account {
                stages: [("read".parse().unwrap(), source), ("write".parse().unwrap(), sink)].into(),
                edges: Vec::new(),
                ..Account::default()
            },
            account_closes: true,
            warnings: vec!["cores 0 and 1 share a core".to_owned()],
        }
    }

    #[test]
    fn the_text_names_driver_cores_counts_stages_latencies_and_account() {
        let text = summary().to_string();
        for part in [
            "completed after 0.500 s with thread on cores 0-1\n",
            "100 spans, 200 a second\n",
            "idle    parks; a parked core is woken in 6.2µs (1 in 20: 9.0µs) and takes 0.12 % of itself\n",
            "memory  bound to the nodes of its cores (local): 5 pages on node 0, 32 pages on node 1\n",
            "decode  transform   7  100       0  0\n",
            "500.",
            "account closes: 200 accepted = 100 delivered\n",
            "warning: cores 0 and 1 share a core\n",
        ] {
            assert!(text.contains(part), "{part:?} in\n{text}");
        }
    }

    #[test]
    fn the_json_is_one_line_with_the_same_numbers() {
        let text = summary().to_json();
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert!(!text.contains('\n'));
        assert_eq!(json["spans"], 100);
        assert_eq!(json["stages"][0]["delivered"], 100);
        assert_eq!(json["latencies"][0]["count"], 1_000);
        assert_eq!(json["cores"], serde_json::json!([1, 0]));
    }

    #[test]
    fn a_run_without_anything_is_still_a_summary() {
        let (driver, outcome) = ("thread".to_owned(), "stopped".to_owned());
        let text = Summary { driver, outcome, ..Summary::<Read>::default() }.to_string();
        assert!(text.starts_with("stopped after 0.000 s with thread\n") && !text.contains("NaN"), "{text}");
        assert_eq!(LatencySummary::new("x", &Histogram::new(3).unwrap()).max_ns, 0);
    }

    #[test]
    fn core_numbers_are_shortened_to_runs() {
        assert_eq!(cores(&[3]), "core 3");
        assert_eq!(cores(&[6, 0, 1, 2, 1, 3]), "cores 0-3,6");
    }
}
