//! A pool from sizes on the command line.

use std::path::PathBuf;

use memtide_daemon::{Config, NodeConfig};
use memtide_proto::program::{Backing, OnFull};
use memtide_store::kernel::Kernel;
use memtide_units::{ByteSize, NodeKind, PAGEBLOCK_BYTES};

use crate::{
    arguments::{OnFullKind, StoreKind},
    failure::Failure,
};

/// What the command line says about a pool.
#[derive(Clone, Copy, Debug)]
pub struct Wish {
    pub near: Option<ByteSize>,
    pub far: Option<ByteSize>,
    pub store: Option<StoreKind>,
    pub on_full: Option<OnFullKind>,
}

impl Wish {
    /// Whether it says how large a pool of its own is to be.
    pub fn names_a_size(&self) -> bool {
        self.near.is_some() || self.far.is_some()
    }

    /// A pool of a near and a far node. A size that is not given is a quarter of the memory that
    /// is available, or nothing when the other one is given.
    pub fn config(&self, socket: PathBuf) -> Result<Config, Failure> {
        let (near, far) = match (self.near, self.far) {
            (None, None) => {
                let quarter = quarter_of_available()?;
                (Some(quarter), Some(quarter))
            }
            given => given,
        };
        let backing = match self.store {
            None | Some(StoreKind::Memfd) => Backing::Memfd,
            Some(StoreKind::MemfdThp) => Backing::MemfdThp,
            Some(StoreKind::Hugetlb) => Backing::Hugetlb,
        };
        let node = |name: &str, kind, size: Option<ByteSize>| {
            size.map(|size| NodeConfig::new(name, kind, up(size), backing))
        };
        let nodes = [node("near", NodeKind::Near, near), node("far", NodeKind::Far, far)];
        let mut config = Config::new(socket, nodes.into_iter().flatten().collect())?;
        config.on_full = match self.on_full {
            None | Some(OnFullKind::Fail) => OnFull::Fail,
            Some(OnFullKind::Fallback) => OnFull::Fallback,
        };
        Ok(config)
    }
}

/// Whole pageblocks; zero stays zero, and is refused as such.
fn up(size: ByteSize) -> ByteSize {
    ByteSize::from_pageblocks(size.pageblocks_ceil())
}

fn quarter_of_available() -> Result<ByteSize, Failure> {
    let available = Kernel::this_machine().memory_available().map_err(|error| {
        Failure::failed(format_args!("cannot read /proc/meminfo ({error}); give --near and --far"))
    })?;
    let pageblocks = available / 4 / PAGEBLOCK_BYTES;
    if pageblocks == 0 {
        return Err(Failure::failed("this machine has no memory available for a pool"));
    }
    Ok(ByteSize::from_pageblocks(pageblocks))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: Wish = Wish { near: None, far: None, store: None, on_full: None };

    #[test]
    fn one_size_makes_one_node_and_none_makes_two() {
        let wish = Wish { far: Some(ByteSize(3 << 20)), ..NOTHING };
        let config = wish.config("/x.sock".into()).unwrap();
        assert_eq!(config.nodes.len(), 1);
        assert_eq!((config.nodes[0].kind, config.nodes[0].size.0), (NodeKind::Far, 4 << 20));
        assert_eq!(NOTHING.config("/x.sock".into()).unwrap().nodes.len(), 2);
    }

    #[test]
    fn nothing_is_no_size() {
        let wish = Wish { near: Some(ByteSize(0)), ..NOTHING };
        let error = wish.config("/x.sock".into()).unwrap_err();
        assert!(matches!(error, Failure::Usage(_)), "{error}");
        assert!(error.to_string().contains("size of node near"), "{error}");
    }
}
