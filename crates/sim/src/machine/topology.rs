//! Who reaches which memory over what: processors, switches, nodes, and the links between them.
//!
//! A link leads away from processors. A path's latency is the sum of what lies on it, its
//! bandwidth the least of it; of several paths the one of the least latency counts, and of those
//! the first in the order of the links. A node that no link leads to is direct: every processor
//! reaches it, and nothing lies between. A link can become narrower or be lost; then paths are
//! sought again.
//!
//! Refused: a link whose end is no such thing, that leads to a processor or from a node, or that
//! closes a circle; a node that links lead to but no processor reaches.

use std::collections::BTreeMap;

/// A processor, or whatever else accesses memory, by number.
pub type Processor = usize;

/// One end of a link.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Place {
    /// A processor.
    Processor(usize),
    /// A switch.
    Switch(usize),
    /// A memory node.
    Node(usize),
}

/// A link.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Link {
    /// Its name.
    pub name: String,
    /// The end closer to processors.
    pub from: Place,
    /// The other end.
    pub to: Place,
    /// What crossing it takes.
    pub latency_ns: u32,
    /// MiB a second at full width.
    pub bandwidth_mib: u32,
}

/// What has become of a link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Width {
    /// So many percent of its bandwidth, 1 to 100.
    Percent(u32),
    /// It is gone.
    Lost,
}

/// A way from a processor to a node.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Path {
    /// What lies between, without the node itself.
    pub latency_ns: u32,
    /// The least bandwidth of the links; absent when nothing lies between.
    pub bandwidth_mib: Option<u32>,
    /// The links on it.
    pub links: Vec<usize>,
}

/// All of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Topology {
    /// How many processors.
    pub processors: usize,
    /// How many nodes.
    pub nodes: usize,
    /// The links.
    pub links: Vec<Link>,
    /// What has become of each.
    pub widths: Vec<Width>,
}

/// Why links make no sense; which link, if it is one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TopologyError {
    /// Which link is to blame.
    pub link: Option<usize>,
    /// What is wrong.
    pub problem: String,
}

impl Topology {
    /// These links at full width.
    ///
    /// # Errors
    /// [`TopologyError`].
    pub fn new(processors: usize, nodes: usize, links: Vec<Link>) -> Result<Self, TopologyError> {
        for (number, link) in links.iter().enumerate() {
            let wrong = |problem: &str| {
                let problem = format!("link {}: {problem}", link.name);
                TopologyError { link: Some(number), problem }
            };
            match (link.from, link.to) {
                (Place::Node(_), _) => return Err(wrong("it leads from a node")),
                (_, Place::Processor(_)) => return Err(wrong("it leads to a processor")),
                _ => {}
            }
            if closes_circle(&links, number) {
                return Err(wrong(
                    "it closes a circle; expected links that lead away from processors",
                ));
            }
        }
        let widths = vec![Width::Percent(100); links.len()];
        let topology = Self { processors, nodes, links, widths };
        for node in 0..nodes {
            let reached = (0..processors).any(|from| topology.path(from, node).is_some());
            if !reached {
                let link = topology.links.iter().position(|link| link.to == Place::Node(node));
                let problem = "no processor reaches the node that this link leads to".to_owned();
                return Err(TopologyError { link, problem });
            }
        }
        Ok(topology)
    }

    fn bandwidth(&self, link: usize) -> Option<u32> {
        match self.widths[link] {
            Width::Lost => None,
            Width::Percent(percent) => {
                let full = u64::from(self.links[link].bandwidth_mib);
                Some((full * u64::from(percent) / 100).max(1) as u32)
            }
        }
    }

    /// What a link carries now, MiB a second; 0 when it is lost.
    #[must_use]
    pub fn carries(&self, link: usize) -> u32 {
        self.bandwidth(link).unwrap_or(0)
    }

    /// The way from a processor to a node, if there is one.
    #[must_use]
    pub fn path(&self, from: Processor, to: usize) -> Option<Path> {
        if !self.links.iter().any(|link| link.to == Place::Node(to)) {
            return Some(Path::default());
        }
        // Dijkstra's; places that are done leave the map.
        let mut best = BTreeMap::from([(Place::Processor(from), Path::default())]);
        let mut done = Vec::new();
        loop {
            let next = best.iter().min_by_key(|(_, path)| path.latency_ns).map(|(at, _)| *at)?;
            let path = best.remove(&next).expect("found in it");
            if next == Place::Node(to) {
                return Some(path);
            }
            done.push(next);
            for (number, link) in self.links.iter().enumerate() {
                let Some(bandwidth) = self.bandwidth(number) else { continue };
                if link.from != next || done.contains(&link.to) {
                    continue;
                }
                let mut longer = path.clone();
                longer.latency_ns = longer.latency_ns.saturating_add(link.latency_ns);
                longer.bandwidth_mib =
                    Some(path.bandwidth_mib.map_or(bandwidth, |b| b.min(bandwidth)));
                longer.links.push(number);
                match best.get(&link.to) {
                    Some(known) if known.latency_ns <= longer.latency_ns => {}
                    _ => drop(best.insert(link.to, longer)),
                }
            }
        }
    }
}

/// Whether one can go on from a link's end and come back to where it starts.
fn closes_circle(links: &[Link], number: usize) -> bool {
    let (start, mut reached) = (links[number].from, vec![links[number].to]);
    let mut at = 0;
    while at < reached.len() {
        if reached[at] == start {
            return true;
        }
        let from = reached[at];
        for link in links.iter().filter(|link| link.from == from) {
            if !reached.contains(&link.to) {
                reached.push(link.to);
            }
        }
        at += 1;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(from: Place, to: Place, latency_ns: u32, bandwidth_mib: u32) -> Link {
        Link { name: format!("{from:?}-{to:?}"), from, to, latency_ns, bandwidth_mib }
    }

    use Place::{Node, Processor, Switch};

    #[test]
    fn latencies_add_up_and_the_narrowest_link_counts() {
        let links = vec![
            link(Processor(0), Switch(0), 30, 1000),
            link(Switch(0), Node(1), 70, 400),
            link(Processor(0), Node(1), 150, 900),
        ];
        let mut topology = Topology::new(1, 2, links).unwrap();
        let path =
            |topology: &Topology| topology.path(0, 1).map(|p| (p.latency_ns, p.bandwidth_mib));
        assert_eq!(topology.path(0, 0), Some(Path::default()), "direct");
        assert_eq!(path(&topology), Some((100, Some(400))));
        topology.widths[1] = Width::Percent(50);
        assert_eq!(path(&topology), Some((100, Some(200))), "the latency decides");
        topology.widths[0] = Width::Lost;
        assert_eq!(path(&topology), Some((150, Some(900))));
        topology.widths[2] = Width::Lost;
        assert_eq!(path(&topology), None);
    }

    #[test]
    fn circles_and_islands_are_refused() {
        let wrong = |links| Topology::new(1, 1, links).unwrap_err();
        let circle = wrong(vec![
            link(Processor(0), Switch(0), 1, 1),
            link(Switch(0), Switch(1), 1, 1),
            link(Switch(1), Switch(0), 1, 1),
        ]);
        assert_eq!(circle.link, Some(1));
        assert!(circle.problem.contains("circle"));
        let island = wrong(vec![link(Switch(0), Node(0), 1, 1)]);
        assert!(island.problem.contains("no processor"), "{island:?}");
        assert!(wrong(vec![link(Node(0), Switch(0), 1, 1)]).problem.contains("from a node"));
        assert!(
            wrong(vec![link(Switch(0), Processor(0), 1, 1)]).problem.contains("to a processor")
        );
    }
}
