//! Memory as `--near` and `--far` name it: a size for a pool of one's own, or nodes of the
//! kernel's.
//!
//! A size starts with a digit (`4GiB`), a list of nodes with `node` (`node0`, `node0-1,3`): neither
//! can be taken for the other.

use std::str::FromStr;

use memtide_host::processes::parse_list;
use memtide_sys::numa::NodeSet;
use memtide_units::ByteSize;

/// What is given to `--near` or `--far`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Memory {
    /// So much for a node of the program's own pool.
    Size(ByteSize),
    /// These nodes of the kernel's.
    Nodes(NodeSet),
}

impl FromStr for Memory {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.starts_with("node") {
            return nodes(text).map(Self::Nodes);
        }
        text.parse().map(Self::Size).map_err(|error| format!("{error}; or nodes such as node0-1,3"))
    }
}

/// A list of nodes: `node0`, `node0-1,3`.
pub fn nodes(text: &str) -> Result<NodeSet, String> {
    let list = text.strip_prefix("node").filter(|list| !list.is_empty());
    let list = list.ok_or("expected nodes such as node0 or node0-1,3")?;
    parse_list(list).map_err(|error| format!("{error}, as in node0-1,3"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_nodes_cannot_be_confused() {
        assert_eq!("64M".parse(), Ok(Memory::Size(ByteSize(64 << 20))));
        assert_eq!("0".parse(), Ok(Memory::Size(ByteSize(0))));
        assert_eq!("node0".parse(), Ok(Memory::Nodes(parse_list("0").unwrap())));
        assert_eq!("node0-1,3".parse(), Ok(Memory::Nodes(parse_list("0-1,3").unwrap())));
        for text in ["node", "nodes", "node1,node2", "node-1", "node2-1", "node1024", "near", "0-1"]
        {
            let error = text.parse::<Memory>().unwrap_err();
            assert!(error.contains("node0-1,3"), "{text}: {error}");
        }
        assert!(nodes("64M").is_err());
    }
}
