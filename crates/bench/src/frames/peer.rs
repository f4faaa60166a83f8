//! The figures of another allocator, as LLFree's benchmark writes them.

use std::collections::BTreeMap;

use super::{FramesError, spread::Spread};

/// Nanoseconds that another allocator took, by threads and order.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Peer {
    cases: BTreeMap<(u16, u8), Vec<(f64, f64)>>,
}

/// What it took in one case.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct PeerCase {
    /// To take one.
    pub take_ns: Spread,
    /// To give one back.
    pub give_ns: Spread,
}

const COLUMNS: [&str; 4] = ["x", "order", "get_avg", "put_avg"];

impl Peer {
    /// Reads a table of commas and lines whose first line names the columns: `x` threads, blocks
    /// of `order`, `get_avg` and `put_avg` nanoseconds. Lines of one case are repetitions; other
    /// columns are ignored, and so are repeated headings, so that files may be put together.
    ///
    /// # Errors
    /// [`FramesError::Peer`] with the line that is something else.
    pub fn parse(text: &str) -> Result<Self, FramesError> {
        let mut peer = Self::default();
        let mut at = None;
        for (number, line) in text.lines().enumerate() {
            let error = |what: String| FramesError::Peer { line: number + 1, what };
            let cells: Vec<&str> = line.split(',').map(str::trim).collect();
            if line.trim().is_empty() {
                continue;
            }
            if at.is_none() || cells.contains(&COLUMNS[0]) {
                at = Some(columns(&cells).map_err(error)?);
                continue;
            }
            let at = at.unwrap_or_default();
            let cell = |column: usize| {
                let cell = cells.get(at[column]).copied().unwrap_or_default();
                let figure = cell.parse::<f64>().ok().filter(|figure| *figure >= 0.0);
                figure.ok_or_else(|| {
                    error(format!("{} is {cell:?}; expected a number", COLUMNS[column]))
                })
            };
            let case = (cell(0)? as u16, cell(1)? as u8);
            peer.cases.entry(case).or_default().push((cell(2)?, cell(3)?));
        }
        Ok(peer)
    }

    /// What it took with so many threads and blocks of this order.
    #[must_use]
    pub fn case(&self, threads: u16, order: u8) -> Option<PeerCase> {
        let found = self.cases.get(&(threads, order))?;
        let take_ns = Spread::of(&found.iter().map(|&(take, _)| take).collect::<Vec<_>>())?;
        let give_ns = Spread::of(&found.iter().map(|&(_, give)| give).collect::<Vec<_>>())?;
        Some(PeerCase { take_ns, give_ns })
    }
}

fn columns(cells: &[&str]) -> Result<[usize; 4], String> {
    let mut at = [0; 4];
    for (place, name) in at.iter_mut().zip(COLUMNS) {
        let found = cells.iter().position(|&cell| cell == name);
        *place = found.ok_or_else(|| format!("no column {name:?} in the heading"))?;
    }
    Ok(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LLFREE: &str = "\
alloc,x,order,iteration,memory,get_min,get_avg,get_max,put_min,put_avg,put_max,init,total,allocs
LLFree,1,0,0,8,58,58,58,64,64,64,0,131,524288
LLFree,1,0,1,8,60,60,60,62,62,62,0,131,524288
LLFree,2,9,0,8,73,74,75,32,33.5,34,0,131,1024
";

    #[test]
    fn repetitions_of_a_case_come_together() {
        let twice = LLFREE.to_owned() + LLFREE;
        for text in [LLFREE, &twice] {
            let peer = Peer::parse(text).unwrap();
            let case = peer.case(1, 0).unwrap();
            assert_eq!(case.take_ns, Spread { min: 58.0, median: 59.0, max: 60.0 });
            assert_eq!(case.give_ns, Spread { min: 62.0, median: 63.0, max: 64.0 });
            let case = peer.case(2, 9).unwrap();
            assert_eq!(case.take_ns, Spread { min: 74.0, median: 74.0, max: 74.0 });
            assert_eq!(case.give_ns, Spread { min: 33.5, median: 33.5, max: 33.5 });
            assert_eq!(peer.case(2, 0), None);
        }
    }

    #[test]
    fn other_files_are_refused_with_their_line() {
        let error = |text: &str| Peer::parse(text).unwrap_err().to_string();
        let expected = "line 1 of the peer's figures: no column \"x\" in the heading";
        assert_eq!(error("threads,order\n1,0\n"), expected);
        let wrong = LLFREE.replace("33.5", "fast");
        let expected = "line 4 of the peer's figures: put_avg is \"fast\"; expected a number";
        assert_eq!(error(&wrong), expected);
        assert!(error("x,order,get_avg,put_avg\n1,0,3\n").starts_with("line 2"));
        assert!(error("x,order,get_avg,put_avg\n1,0,3,-1\n").starts_with("line 2"));
        assert_eq!(Peer::parse("").unwrap(), Peer::default());
    }
}
