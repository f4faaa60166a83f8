//! What the program accesses: a stream of visits.
//!
//! A *visit* is a page, and whether it is written. It stands for a *burst* of accesses to lines
//! of that page: a scan reads all 64 of a page of 4 KiB; for random accesses the burst is a scale,
//! so that long virtual times can be simulated: it changes how fast samplers see differences, not
//! the differences.
//!
//! The stream depends on the seed alone, not on how long accesses take: all policies get the same
//! work. Some workloads have phases, of so many visits each; a pattern is told which phase it is.

mod graph;
mod hot_set;
mod power;
mod scan;
mod trace;
mod uniform;
mod zipf;

use serde::Deserialize;

pub use graph::GraphKind;

use super::{config::Workload, placement::WRITE};

/// How visits come about.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub enum Pattern {
    /// GUPS: every page is as likely as any other.
    Uniform,
    /// GUPS with a hot set: `hot-visits` percent of the visits go to `hot-pages` percent of the
    /// pages, which lie all over the memory. With `phase`, another set is hot after so many
    /// visits.
    #[serde(rename_all = "kebab-case")]
    HotSet {
        /// Percent of the pages that are hot.
        hot_pages: u32,
        /// Percent of the visits that go to them; the others go to any page.
        hot_visits: u32,
        /// Visits after which the hot set moves.
        #[serde(default)]
        phase: Option<u64>,
    },
    /// The k-th most popular page is as likely as 1 ∕ k^theta. With `phase`, the ranks shift by an
    /// eighth of the pages after so many visits.
    #[serde(rename_all = "kebab-case")]
    Zipf {
        /// The skew: 0.99 in YCSB.
        theta: f64,
        /// Visits after which the ranks shift.
        #[serde(default)]
        phase: Option<u64>,
    },
    /// Page after page, from the first to the last, over and over.
    Scan,
    /// A scan beside a zipf of theta 0.99: the scan has so many percent of the visits.
    #[serde(rename_all = "kebab-case")]
    ScanAndHot {
        /// Percent of the visits that the scan makes.
        scan_visits: u32,
    },
    /// A traversal of a graph in compressed rows.
    #[serde(rename_all = "kebab-case")]
    Graph {
        /// In which order the vertices are visited.
        traversal: Traversal,
        /// How the edges are drawn.
        edges: GraphKind,
        /// The graph has 2^scale vertices.
        scale: u32,
        /// Edges for each vertex, on average.
        degree: u32,
    },
    /// What a program did, over and over; see [`super::trace`].
    #[serde(rename_all = "kebab-case")]
    Trace {
        /// The name of a file, beside the scenario's.
        file: String,
    },
}

/// In which order the vertices of a graph are visited.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Traversal {
    /// From one vertex to its neighbours to theirs; one vertex after another is the first.
    Bfs,
    /// All of them, in order, over and over.
    PageRank,
}

/// A stream of visits.
pub trait Stream {
    /// The next visits, all of one phase, as [`super::placement`] reads them.
    fn fill(&mut self, phase: u64, into: &mut [u32]);
}

/// The stream of a workload; a trace has been supplied.
#[must_use]
pub fn stream(workload: &Workload, seed: u64) -> Box<dyn Stream> {
    let &Workload { pages, write_percent, ref pattern, ref recorded, .. } = workload;
    let writes = Writes::new(write_percent);
    match *pattern {
        Pattern::Uniform => Box::new(uniform::Uniform::new(pages, writes, seed)),
        Pattern::HotSet { hot_pages, hot_visits, .. } => {
            Box::new(hot_set::HotSet::new(pages, hot_pages, hot_visits, writes, seed))
        }
        Pattern::Zipf { theta, .. } => Box::new(zipf::Zipf::new(pages, theta, writes, seed)),
        Pattern::Scan => Box::new(scan::Scan::new(pages, writes, seed)),
        Pattern::ScanAndHot { scan_visits } => {
            Box::new(scan::ScanAndHot::new(pages, scan_visits, writes, seed))
        }
        Pattern::Graph { traversal, edges, scale, degree } => {
            let graph = graph::Graph::new(edges, scale, degree, seed);
            Box::new(graph::Walk::new(graph, traversal, pages, seed))
        }
        Pattern::Trace { .. } => {
            let recorded = recorded.clone().expect("a trace is supplied before it is run");
            Box::new(trace::Trace::new(recorded))
        }
    }
}

/// How often a visit writes: sixteen bits of a random number decide.
#[derive(Clone, Copy, Debug)]
struct Writes(u32);

impl Writes {
    const fn new(percent: u32) -> Self {
        Self((percent << 16) / 100)
    }

    /// [`WRITE`] as often as it should be. Looks at the lowest bits of a random number.
    #[inline]
    const fn bit(self, random: u64) -> u32 {
        if (random as u16 as u32) < self.0 { WRITE } else { 0 }
    }
}
