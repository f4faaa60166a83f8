//! `[[node]] numa = 1`: a node on a NUMA node of the kernel's.
//!
//! ```toml
//! [[node]]
//! name = "far"
//! kind = "far"
//! size = "16G"
//! numa = 1
//! ```
//!
//! Its memory files take their pages from that NUMA node and from no other. What it has at the
//! start must be there (`memtide_store::numa`); `online` says how much that is where it is not all
//! of `size`, and `memtide add` brings the rest when there is memory for it. So a node can be made
//! for memory that comes and goes, such as a device's dynamic capacity.

use memtide_proto::program::Backing;
use memtide_units::{ByteSize, NodeId};

use super::{
    nodes::NodeConfig,
    raw::{Located, RawNode, number, size, wrong},
};

/// Numbers of NUMA nodes, as the widest kernel has them.
const NODES: (i64, i64) = (0, 1023);

/// Where on the machine a node lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NumaConfig {
    /// The NUMA node.
    pub node: NodeId,
    /// How much is online at the start, if that is not all: whole blocks, at most the node's size.
    pub online: Option<ByteSize>,
}

/// What a node says of it, if it does.
pub(super) fn numa(
    raw: &RawNode,
    backing: Backing,
    (bytes, block): (ByteSize, ByteSize),
    field: &impl Fn(&str) -> String,
) -> Result<Option<NumaConfig>, Located> {
    let Some(at) = &raw.numa else {
        let Some(at) = &raw.online else { return Ok(None) };
        let text = "says nothing here; expected it beside \"numa\" only";
        return Err(wrong(at, &field("online"), at.get_ref(), text));
    };
    let store = match backing {
        Backing::Memfd | Backing::MemfdThp => None,
        // hugetlb_vm_ops has no set_policy: the kernel keeps no policy for such files.
        Backing::Hugetlb => Some("hugetlb\": the kernel does not bind files of huge pages"),
        Backing::Dcd => Some("dcd\": its memory is where the device is"),
    };
    if let Some(store) = store {
        let text =
            format!("says nothing with store \"{store}; expected store \"memfd\" or \"memfd-thp\"");
        return Err(wrong(at, &field("numa"), &at.get_ref().to_string(), text));
    }
    let node = NodeId(number(at, &field("numa"), NODES, "")?);
    let online = raw.online.as_ref().map(|at| {
        let online = size(at, &field("online"))?;
        if online > bytes || !online.0.is_multiple_of(block.0) {
            let text = format!("is no part of it; expected a multiple of {block}, at most {bytes}");
            return Err(wrong(at, &field("online"), at.get_ref(), text));
        }
        Ok(online)
    });
    Ok(Some(NumaConfig { node, online: online.transpose()? }))
}

impl NodeConfig {
    /// How much is online when nobody has added or taken any.
    #[must_use]
    pub fn online_at_start(&self) -> ByteSize {
        if self.dcd.is_some() {
            return ByteSize(0);
        }
        self.numa.and_then(|numa| numa.online).unwrap_or(self.size)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{super::Config, *};

    const GOOD: &str = r#"
[[node]]
name = "near"
kind = "near"
size = "4G"
numa = 0

[[node]]
name = "far"
kind = "far"
size = "8G"
store = "memfd-thp"
numa = 2
online = "512M"
"#;

    fn parse(text: &str) -> Result<Config, (usize, String)> {
        Config::parse(text, Path::new("/default.sock")).map_err(|(offset, problem)| {
            (text[..offset].matches('\n').count() + 1, problem.to_string())
        })
    }

    #[test]
    fn a_node_says_which_numa_node_it_lies_on_and_what_is_there_at_the_start() {
        let config = parse(GOOD).unwrap();
        let [near, far] = config.nodes.as_slice() else { panic!("{config:?}") };
        assert_eq!(near.numa, Some(NumaConfig { node: NodeId(0), online: None }));
        assert_eq!(near.online_at_start(), near.size);
        assert_eq!(far.numa.map(|numa| numa.node), Some(NodeId(2)));
        assert_eq!(far.online_at_start(), ByteSize(512 << 20));
        for (from, to) in [("512M", "0"), ("512M", "8G"), ("numa = 2", "numa = 1023")] {
            let config = parse(&GOOD.replace(from, to)).unwrap();
            let text = config.to_toml();
            assert_eq!(parse(&text).map_err(|error| panic!("{error:?}: {text}")).unwrap(), config);
        }
    }

    #[test]
    fn every_mistake_about_it_is_named_with_its_line_and_what_was_expected() {
        let replace = |from: &str, to: &str| parse(&GOOD.replace(from, to)).unwrap_err();
        for (from, to, line, text) in [
            ("numa = 2", "numa = 1024", 13, "numa of node far \"1024\" is out of range; expected"),
            ("numa = 2", "numa = -1", 13, "expected 0 to 1023"),
            ("\"memfd-thp\"", "\"hugetlb\"", 13, "the kernel does not bind files of huge pages"),
            ("\"512M\"", "\"9G\"", 14, "expected a multiple of 2MiB, at most 8GiB"),
            ("\"512M\"", "\"3M\"", 14, "online of node far \"3M\" is no part of it"),
            ("numa = 2\n", "", 13, "online of node far \"512M\" says nothing here"),
            ("numa = 0", "online = \"0\"", 6, "expected it beside \"numa\" only"),
        ] {
            let (at, message) = replace(from, to);
            assert!(message.contains(text), "{to}: {message}");
            assert_eq!(at, line, "{to}: {message}");
        }
        let device = "store = \"dcd\"\nfabric = \"unix:/f\"\nhost = 0\nshared_with = \"everybody\"";
        let (_, message) = replace("size = \"4G\"", device);
        assert!(message.contains("says nothing with store \"dcd\": its memory is"), "{message}");
    }

    #[test]
    fn what_is_promised_counts_on_what_is_there_at_the_start() {
        let tenant = "\n[[tenant]]\nname = \"db\"\nfar = { min = \"1G\" }\n";
        let (_, message) = parse(&format!("{GOOD}{tenant}")).unwrap_err();
        assert!(message.contains("expected at most the 512MiB"), "{message}");
    }
}
