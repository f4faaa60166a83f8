//! Graph traversals: what Graph500 and GAP do to memory.
//!
//! A graph of 2^scale vertices in compressed rows. Half of the pages hold the edges, row after
//! row; half hold a record for each vertex. To visit a vertex is to read its row, a line of 16
//! edges at a time, and the records of its neighbours; and to write its own record. Rows and
//! records are as large as makes them fill the pages.
//!
//! Edges are drawn as Graph500 does (R-MAT with 0.57, 0.19, 0.19, 0.05), or evenly. Vertices keep
//! their numbers, so those with many edges are neighbours, as in real graphs, whose numbers come
//! from a crawl or a registration.

use memtide_units::Random;
use serde::Deserialize;

use super::{Stream, Traversal};
use crate::tiering::placement::WRITE;

/// How edges are drawn.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GraphKind {
    /// A Kronecker graph: a few vertices have most of the edges.
    Kronecker,
    /// Every vertex as likely as any other.
    Uniform,
}

/// Edges of a line of memory.
const EDGES_PER_LINE: usize = 16;

/// A graph in compressed rows.
pub struct Graph {
    scale: u32,
    /// Where the row of a vertex begins, and the end of the last.
    rows: Vec<u32>,
    /// The neighbours, row after row.
    edges: Vec<u32>,
}

impl Graph {
    /// 2^scale vertices (scale from 1 to 31) with `degree` edges each on average.
    pub fn new(kind: GraphKind, scale: u32, degree: u32, seed: u64) -> Self {
        let vertices = 1_usize << scale;
        let count = vertices * degree as usize;
        let mut random = Random::new(seed);
        let mut draw = || match kind {
            GraphKind::Kronecker => kronecker(scale, &mut random),
            GraphKind::Uniform => {
                let bits = random.next();
                [(bits >> (64 - scale)) as u32, bits as u32 >> (32 - scale)]
            }
        };
        let pairs: Vec<[u32; 2]> = (0..count).map(|_| draw()).collect();
        let mut rows = vec![0_u32; vertices + 1];
        pairs.iter().for_each(|pair| rows[pair[0] as usize + 1] += 1);
        (0..vertices).for_each(|vertex| rows[vertex + 1] += rows[vertex]);
        let mut next = rows.clone();
        let mut edges = vec![0; count];
        for [from, to] in pairs {
            let at = &mut next[from as usize];
            edges[*at as usize] = to;
            *at += 1;
        }
        Self { scale, rows, edges }
    }

    fn row(&self, vertex: u32) -> &[u32] {
        let [from, to] = [0, 1].map(|more| self.rows[vertex as usize + more] as usize);
        &self.edges[from..to]
    }

    /// All vertices, each after those that are nearer to the first; then from the next vertex that
    /// was not reached.
    fn breadth_first(&self, first: u32) -> Vec<u32> {
        let vertices = 1_u32 << self.scale;
        let mut seen = vec![false; vertices as usize];
        let mut order = Vec::with_capacity(vertices as usize);
        let mut done = 0;
        for start in (first..vertices).chain(0..first) {
            if !std::mem::replace(&mut seen[start as usize], true) {
                order.push(start);
            }
            while let Some(&vertex) = order.get(done) {
                done += 1;
                for &next in self.row(vertex) {
                    if !std::mem::replace(&mut seen[next as usize], true) {
                        order.push(next);
                    }
                }
            }
        }
        order
    }
}

/// An edge of a Kronecker graph: bit by bit, a quarter of the adjacency matrix each.
fn kronecker(scale: u32, random: &mut Random) -> [u32; 2] {
    let mut edge = [0, 0];
    let mut bits = 0;
    for level in 0..scale {
        if level % 4 == 0 {
            bits = random.next();
        }
        // Of 2^16: 0.57, 0.57 + 0.19, 0.57 + 0.19 + 0.19.
        let quarter = bits as u16;
        bits >>= 16;
        let from = u32::from(quarter >= 49_807);
        let to = u32::from((37_355..49_807).contains(&quarter) || quarter >= 62_259);
        edge = [edge[0] << 1 | from, edge[1] << 1 | to];
    }
    edge
}

/// A traversal, over and over.
pub struct Walk {
    graph: Graph,
    /// For a BFS, the vertices in its order.
    order: Option<Vec<u32>>,
    edge_pages: u64,
    record_pages: u64,
    random: Random,
    /// The visits of one vertex.
    visits: Vec<u32>,
    /// How many of them are done.
    done: usize,
    next: u32,
}

impl Walk {
    /// Over at least 2 pages.
    pub fn new(graph: Graph, traversal: Traversal, pages: u32, seed: u64) -> Self {
        let record_pages = u64::from(pages / 2);
        let edge_pages = u64::from(pages) - record_pages;
        let (random, visits) = (Random::new(!seed), Vec::new());
        let order = matches!(traversal, Traversal::Bfs).then(Vec::new);
        Self { graph, order, edge_pages, record_pages, random, visits, done: 0, next: 0 }
    }

    /// The next vertex; a BFS that is through begins anew elsewhere.
    fn vertex(&mut self) -> u32 {
        let vertices = 1_u32 << self.graph.scale;
        let at = self.next;
        self.next = (at + 1) % vertices;
        let Some(order) = &mut self.order else { return at };
        if at == 0 {
            let first = self.random.below(u64::from(vertices)) as u32;
            *order = self.graph.breadth_first(first);
        }
        order[at as usize]
    }

    /// The visits of the next vertex.
    fn step(&mut self) {
        let vertex = self.vertex();
        let Self { graph, record_pages, edge_pages, visits, .. } = self;
        let record = |vertex: u32| ((u64::from(vertex) * *record_pages) >> graph.scale) as u32;
        let mut edge = u64::from(graph.rows[vertex as usize]);
        visits.clear();
        self.done = 0;
        for neighbours in graph.row(vertex).chunks(EDGES_PER_LINE) {
            let page = *record_pages + edge * *edge_pages / graph.edges.len() as u64;
            visits.push(page as u32);
            visits.extend(neighbours.iter().map(|&neighbour| record(neighbour)));
            edge += neighbours.len() as u64;
        }
        visits.push(record(vertex) | WRITE);
    }
}

impl Stream for Walk {
    fn fill(&mut self, _phase: u64, into: &mut [u32]) {
        let mut filled = 0;
        while filled < into.len() {
            if self.done == self.visits.len() {
                self.step();
            }
            let rest = &self.visits[self.done..];
            let count = rest.len().min(into.len() - filled);
            into[filled..filled + count].copy_from_slice(&rest[..count]);
            filled += count;
            self.done += count;
        }
    }
}
