//! Sets of nodes, and how people write them.
//!
//! The text form is numactl's: numbers and ranges with commas between them, `all`, and `!` in front
//! for all others. What it means depends on which nodes there are, so those are given along, and a
//! node that is not among them is an error: whoever names it expects something of it.

use alloc::{
    collections::{BTreeSet, btree_set},
    string::String,
};
use core::fmt;

use memtide_units::NodeId;

/// Longest text of a mask, in bytes.
pub const MASK_TEXT_MAX: usize = 4096;

/// A set of nodes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct NodeMask(BTreeSet<NodeId>);

/// Why a text is no mask.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ParseMaskError {
    /// It is long.
    #[error("a node list of {length} bytes; expected {MASK_TEXT_MAX} at most")]
    TooLong {
        /// How long.
        length: usize,
    },
    /// A part of it is neither a number nor a range, or there is nothing.
    #[error("{part:?} is not a node or a range; expected a list such as 0-3,8, or all, or !2")]
    Part {
        /// Which part.
        part: String,
    },
    /// A range ends before it starts.
    #[error("the range {part:?} ends before it starts; expected the lower node first")]
    Backwards {
        /// Which part.
        part: String,
    },
    /// A node that is not there.
    #[error("node {node} is not there; expected some of {known}")]
    NoSuchNode {
        /// Its number.
        node: u64,
        /// Those that are there.
        known: NodeMask,
    },
}

impl NodeMask {
    /// Whether a node is in it.
    #[must_use]
    pub fn contains(&self, node: NodeId) -> bool {
        self.0.contains(&node)
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The nodes, lowest first.
    pub fn iter(&self) -> impl Iterator<Item = NodeId> + Clone + '_ {
        self.0.iter().copied()
    }

    /// The lowest node.
    #[must_use]
    pub fn first(&self) -> Option<NodeId> {
        self.0.first().copied()
    }

    /// Puts a node in; whether it was not there before.
    pub fn insert(&mut self, node: NodeId) -> bool {
        self.0.insert(node)
    }

    /// Takes a node out; whether it was there.
    pub fn remove(&mut self, node: NodeId) -> bool {
        self.0.remove(&node)
    }

    /// Those in both (`nodes_and`).
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        self.0.intersection(&other.0).copied().collect()
    }

    /// Those in either (`nodes_or`).
    #[must_use]
    pub fn or(&self, other: &Self) -> Self {
        self.0.union(&other.0).copied().collect()
    }

    /// Those in this one only (`nodes_andnot`).
    #[must_use]
    pub fn andnot(&self, other: &Self) -> Self {
        self.0.difference(&other.0).copied().collect()
    }

    /// Whether all of this one are in the other (`nodes_subset`).
    #[must_use]
    pub fn is_subset(&self, other: &Self) -> bool {
        self.0.is_subset(&other.0)
    }

    /// The mask that a text means where these nodes are known.
    ///
    /// # Errors
    /// [`ParseMaskError`].
    pub fn parse(text: &str, known: &Self) -> Result<Self, ParseMaskError> {
        if text.len() > MASK_TEXT_MAX {
            return Err(ParseMaskError::TooLong { length: text.len() });
        }
        let text = text.trim();
        let (list, inverted) = text.strip_prefix('!').map_or((text, false), |rest| (rest, true));
        let listed = match list {
            "all" => known.clone(),
            _ => Self::parse_list(list, known)?,
        };
        Ok(if inverted { known.andnot(&listed) } else { listed })
    }

    fn parse_list(list: &str, known: &Self) -> Result<Self, ParseMaskError> {
        let mut mask = Self::default();
        for part in list.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (number(first, part)?, number(last, part)?);
            if last < first {
                return Err(ParseMaskError::Backwards { part: part.into() });
            }
            // Ends at the first that is not known, so a wide range costs nothing.
            for node in first..=last {
                let id = u16::try_from(node).map(NodeId).ok().filter(|&id| known.contains(id));
                let known = || known.clone();
                mask.insert(id.ok_or_else(|| ParseMaskError::NoSuchNode { node, known: known() })?);
            }
        }
        Ok(mask)
    }
}

/// A number: digits and nothing else.
fn number(text: &str, part: &str) -> Result<u64, ParseMaskError> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = digits.then(|| text.parse().ok()).flatten();
    number.ok_or_else(|| ParseMaskError::Part { part: part.into() })
}

impl fmt::Display for NodeMask {
    /// As numactl reads it: `0-3,8`. Nothing for no node.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut nodes = self.iter().map(|node| node.0).peekable();
        let mut comma = "";
        while let Some(first) = nodes.next() {
            let mut last = first;
            while let Some(next) = nodes.next_if(|&next| next - last == 1) {
                last = next;
            }
            match last - first {
                0 => write!(f, "{comma}{first}")?,
                _ => write!(f, "{comma}{first}-{last}")?,
            }
            comma = ",";
        }
        Ok(())
    }
}

impl FromIterator<NodeId> for NodeMask {
    fn from_iter<I: IntoIterator<Item = NodeId>>(nodes: I) -> Self {
        Self(nodes.into_iter().collect())
    }
}

impl IntoIterator for NodeMask {
    type Item = NodeId;
    type IntoIter = btree_set::IntoIter<NodeId>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use alloc::{string::ToString, vec::Vec};

    use memtide_units::Random;

    use super::*;

    fn mask(nodes: &[u16]) -> NodeMask {
        nodes.iter().map(|&node| NodeId(node)).collect()
    }

    fn parse(text: &str) -> Result<Vec<u16>, ParseMaskError> {
        let mask = NodeMask::parse(text, &mask(&[0, 1, 2, 3, 8]))?;
        Ok(mask.into_iter().map(|node| node.0).collect())
    }

    #[test]
    fn masks_read_as_numactl_reads_them() {
        for (text, nodes) in [
            ("0", &[0][..]),
            ("0-3,8", &[0, 1, 2, 3, 8]),
            ("8,0", &[0, 8]),
            ("1-2,2,2-3", &[1, 2, 3]),
            ("2-2", &[2]),
            ("all", &[0, 1, 2, 3, 8]),
            ("!2", &[0, 1, 3, 8]),
            ("!0-3", &[8]),
            ("!all", &[]),
            (" 1 ", &[1]),
        ] {
            assert_eq!(parse(text).as_deref(), Ok(nodes), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let part = |part: &str| Err(ParseMaskError::Part { part: part.into() });
        assert_eq!(parse(""), part(""));
        assert_eq!(parse("!"), part(""));
        assert_eq!(parse("0,,1"), part(""));
        assert_eq!(parse("0-"), part("0-"));
        assert_eq!(parse("1-2-3"), part("1-2-3"));
        assert_eq!(parse("all,1"), part("all"));
        assert_eq!(parse("+1"), part("+1"));
        assert_eq!(parse("99999999999999999999"), part("99999999999999999999"));
        assert_eq!(parse("3-1"), Err(ParseMaskError::Backwards { part: "3-1".into() }));
        let long = "0,".repeat(3000);
        assert_eq!(parse(&long), Err(ParseMaskError::TooLong { length: 6000 }));
        let error = parse("0,\u{1b}[2J").unwrap_err();
        let printed = error.to_string();
        assert!(
            printed.starts_with(r#""\u{1b}[2J" is not a node or a range; expected"#),
            "{printed}"
        );
        let error = parse("!7").unwrap_err();
        assert_eq!(error.to_string(), "node 7 is not there; expected some of 0-3,8");
        let error = parse("0-99999999999").unwrap_err();
        assert_eq!(error.to_string(), "node 4 is not there; expected some of 0-3,8");
    }

    #[test]
    fn what_is_printed_reads_back() {
        assert_eq!(mask(&[]).to_string(), "");
        assert_eq!(mask(&[0, 1, 2, 3, 8]).to_string(), "0-3,8");
        assert_eq!(mask(&[u16::MAX - 1, u16::MAX]).to_string(), "65534-65535");
        let known: NodeMask = (0..40).map(NodeId).collect();
        for seed in 0..500 {
            let mut random = Random::new(seed);
            let mask: NodeMask = known.iter().filter(|_| random.below(2) == 0).collect();
            if !mask.is_empty() {
                let text = mask.to_string();
                assert_eq!(NodeMask::parse(&text, &known), Ok(mask), "seed {seed}: {text}");
            }
        }
    }

    #[test]
    fn sets_agree_with_membership() {
        for seed in 0..300 {
            let mut random = Random::new(seed);
            let mut any =
                || -> NodeMask { (0..9).map(NodeId).filter(|_| random.below(2) == 0).collect() };
            let (a, b) = (any(), any());
            for node in (0..9).map(NodeId) {
                let (in_a, in_b) = (a.contains(node), b.contains(node));
                assert_eq!(a.and(&b).contains(node), in_a && in_b);
                assert_eq!(a.or(&b).contains(node), in_a || in_b);
                assert_eq!(a.andnot(&b).contains(node), in_a && !in_b);
            }
            assert_eq!(a.is_subset(&b), a.iter().all(|node| b.contains(node)));
            assert_eq!(a.len(), a.iter().count());
            let mut changed = a.clone();
            assert_eq!(changed.remove(NodeId(4)), a.contains(NodeId(4)));
            assert!(changed.insert(NodeId(4)) && !changed.insert(NodeId(4)));
            assert_eq!(changed, a.or(&mask(&[4])));
        }
    }
}
