//! Lists of nodes as the kernel and numactl write them: `0-3,8`.

use memtide_sys::numa::NodeSet;
use memtide_units::NodeId;

use super::numa_maps::shown;
use crate::node_list::{self, BadRun};

/// Why a text is no list of nodes.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NodeListError {
    /// A part of it is neither a number nor a range.
    #[error("{part:?} is no node and no range of nodes: expected a list such as 0-3,8")]
    Part {
        /// Which part.
        part: String,
    },
    /// A range ends before it starts.
    #[error("the range {part:?} ends before it starts: expected the lower node first")]
    Backwards {
        /// Which part.
        part: String,
    },
    /// A node that no kernel has.
    #[error("there is no node {node}: expected nodes below {}", NodeSet::CAPACITY)]
    Beyond {
        /// Its number.
        node: u64,
    },
}

/// The nodes that a list names; none for an empty text (as `/sys` has it for no node).
///
/// # Errors
/// [`NodeListError`].
pub fn parse_list(text: &str) -> Result<NodeSet, NodeListError> {
    let mut nodes = NodeSet::EMPTY;
    for run in node_list::runs(text) {
        let (first, last) = run.map_err(|bad| match bad {
            BadRun::NoNumbers(part) => NodeListError::Part { part: shown(part) },
            BadRun::Backwards(part) => NodeListError::Backwards { part: shown(part) },
        })?;
        // Ends at the first that no kernel has, so that a wide range costs nothing.
        for node in first..=last {
            let id = u16::try_from(node).map_err(|_| NodeListError::Beyond { node })?;
            nodes.insert(NodeId(id)).map_err(|_| NodeListError::Beyond { node })?;
        }
    }
    Ok(nodes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_as_they_are_written() {
        for text in ["0", "0-1", "0-3,8", "63-64,1023"] {
            assert_eq!(parse_list(text).unwrap().to_string(), text);
        }
        assert_eq!(parse_list("2,0-1,1").unwrap().to_string(), "0-2");
        assert!(parse_list("").unwrap().is_empty());
    }

    #[test]
    fn nonsense_is_named() {
        for (text, error) in [
            (",", "\"\" is no node and no range of nodes: expected a list such as 0-3,8"),
            ("0,x", "\"x\" is no node and no range of nodes: expected a list such as 0-3,8"),
            ("+1", "\"+1\" is no node and no range of nodes: expected a list such as 0-3,8"),
            ("3-1", "the range \"3-1\" ends before it starts: expected the lower node first"),
            ("1024", "there is no node 1024: expected nodes below 1024"),
            ("0-18446744073709551615", "there is no node 1024: expected nodes below 1024"),
        ] {
            assert_eq!(parse_list(text).unwrap_err().to_string(), error);
        }
    }
}
