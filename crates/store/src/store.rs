//! A node's store, which makes its files.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
};

use memtide_sys::{
    memfd::{self, Pages},
    numa::bind_file,
};
use memtide_units::{ByteSize, Extent, NodeId, Pageblock};

use crate::{error::StoreError, file::NodeFile, kernel::Kernel};

/// What a node is made of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Backing {
    /// 4 KiB pages.
    Memfd,
    /// Transparent huge pages, where the kernel finds them.
    MemfdThp,
    /// 2 MiB pages of the kernel's huge-page pool.
    Hugetlb,
    /// A device's dynamic capacity ([`crate::dcd`]).
    Dcd,
}

impl Backing {
    const fn pages(self) -> Pages {
        match self {
            Self::Memfd | Self::MemfdThp | Self::Dcd => Pages::Small,
            Self::Hugetlb => Pages::Huge2M,
        }
    }
}

/// The memory behind one node.
#[derive(Clone, Debug)]
pub struct Store {
    name: String,
    backing: Backing,
    first: Pageblock,
    pageblocks: u64,
    numa: Option<NodeId>,
}

impl Store {
    /// The store of the node `name`, of `pageblocks` pageblocks from `first` on. It costs nothing
    /// until an image uses it.
    #[must_use]
    pub fn new(name: &str, backing: Backing, first: Pageblock, pageblocks: u64) -> Self {
        Self { name: name.to_owned(), backing, first, pageblocks, numa: None }
    }

    /// The same with all its memory on a NUMA node of the kernel's ([`crate::numa`]): files count
    /// as the node's once they are bound ([`Self::bind`]).
    #[must_use]
    pub fn on_numa_node(self, numa: Option<NodeId>) -> Self {
        Self { numa, ..self }
    }

    /// Sees to it that what comes into a file from now on is of this node's NUMA node, if it has
    /// one. The NUMA node must have memory by now, unless the file has been bound before.
    ///
    /// # Errors
    /// [`StoreError::NumaMemoryGone`], [`StoreError::Bind`]; the file is as it was.
    pub fn bind(&self, file: &NodeFile) -> Result<(), StoreError> {
        let Some(numa) = self.numa else { return Ok(()) };
        bind_file(file.as_fd(), numa).map_err(|errno| {
            let (node, numa, source) = (self.name.clone(), numa.0, io::Error::from(errno));
            match source.kind() {
                io::ErrorKind::InvalidInput => StoreError::NumaMemoryGone { node, numa },
                _ => StoreError::Bind { node, numa, source },
            }
        })
    }

    /// The NUMA node that it lies on, if it is one of the kernel's.
    #[must_use]
    pub const fn numa(&self) -> Option<NodeId> {
        self.numa
    }

    /// Whether the machine could fill all these stores.
    ///
    /// # Errors
    /// What is missing, and the command that grants it.
    pub fn check_all(stores: &[Self], kernel: &Kernel) -> Result<(), StoreError> {
        if stores.iter().any(|store| store.backing == Backing::MemfdThp) {
            let setting = kernel.shmem_huge().map_err(|source| StoreError::Unsupported {
                what: "transparent huge pages",
                source,
            })?;
            if matches!(setting.as_str(), "never" | "deny") {
                return Err(StoreError::NoTransparentHugePages { setting });
            }
        }
        let needed: u64 = stores
            .iter()
            .filter(|store| store.backing == Backing::Hugetlb)
            .map(|store| store.pageblocks)
            .sum();
        if needed > 0 {
            let pages = kernel
                .huge_pages()
                .map_err(|source| StoreError::Unsupported { what: "2 MiB huge pages", source })?;
            let available = pages.available();
            if available < needed {
                let suggested = pages.total + (needed - available);
                return Err(StoreError::TooFewHugePages { needed, available, suggested });
            }
        }
        Ok(())
    }

    /// What it is made of.
    #[must_use]
    pub const fn backing(&self) -> Backing {
        self.backing
    }

    /// Its size.
    #[must_use]
    pub const fn size(&self) -> ByteSize {
        ByteSize::from_pageblocks(self.pageblocks)
    }

    /// The pageblocks that it holds.
    #[must_use]
    pub fn contains(&self, extent: Extent) -> bool {
        let last = self.first.checked_add(self.pageblocks);
        extent.start >= self.first && extent.end().is_some_and(|end| Some(end) <= last)
    }

    /// A fresh file for one image.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn create_file(&self) -> Result<NodeFile, StoreError> {
        let name = format!("memtide-{}", self.name);
        let fd = memfd::create(&name, self.size().0, self.backing.pages())
            .map_err(|source| StoreError::Io { what: "cannot make a memory file", source })?;
        self.file(fd)
    }

    /// The file that a process of an earlier daemon brought back. Of a device's node it may be any:
    /// it is only ever compared with the device's.
    ///
    /// # Errors
    /// [`StoreError::ForeignFile`] for anything that this node could not have given it.
    pub fn adopt_file(&self, fd: OwnedFd) -> Result<NodeFile, StoreError> {
        if self.backing != Backing::Dcd
            && !memfd::is_ours(fd.as_fd(), self.size().0, self.backing.pages())
        {
            return Err(StoreError::ForeignFile { size: self.size() });
        }
        self.file(fd)
    }

    pub(crate) fn file(&self, fd: OwnedFd) -> Result<NodeFile, StoreError> {
        let identity = memfd::identity(fd.as_fd()).map_err(|error| StoreError::Io {
            what: "cannot look at a memory file",
            source: error.into(),
        })?;
        let shared = self.backing == Backing::Dcd;
        Ok(NodeFile { fd, identity, first: self.first, pageblocks: self.pageblocks, shared })
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::FileExt};

    use memtide_units::PAGEBLOCK_BYTES;

    use super::*;

    const FIRST: Pageblock = Pageblock(100);

    fn store(backing: Backing) -> Store {
        Store::new("far", backing, FIRST, 8)
    }

    fn write(file: &NodeFile, pageblock: u64) {
        let file = fs::File::from(file.fd.try_clone().unwrap());
        file.write_at(b"x", (pageblock - FIRST.0) * PAGEBLOCK_BYTES).unwrap();
    }

    #[test]
    fn a_file_is_bound_to_the_nodes_numa_node_and_no_other() {
        use memtide_sys::numa::{Mode, NodeSet, Policy, allowed_nodes, file_policy};
        let node = allowed_nodes().unwrap().iter().next().unwrap();
        let policy = |file: &NodeFile| file_policy(file.as_fd()).unwrap();
        let unbound = store(Backing::Memfd);
        let file = unbound.create_file().unwrap();
        unbound.bind(&file).unwrap();
        assert_eq!((policy(&file), unbound.numa()), (Policy::DEFAULT, None));
        for backing in [Backing::Memfd, Backing::MemfdThp] {
            let store = store(backing).on_numa_node(Some(node));
            let file = store.create_file().unwrap();
            store.bind(&file).unwrap();
            write(&file, 103);
            assert_eq!(policy(&file), Policy::new(Mode::Bind, NodeSet::only(node).unwrap()));
            assert_eq!(file.allocated().unwrap(), ByteSize(4096));
        }
        let absent = store(Backing::Memfd).on_numa_node(Some(NodeId(1023)));
        let error = absent.bind(&file).unwrap_err().to_string();
        let expected = "a memory file of node far cannot be bound to NUMA node 1023, which has no \
                        memory that this daemon may use";
        assert_eq!(error, expected);
        assert_eq!(policy(&file), Policy::DEFAULT);
    }

    #[test]
    fn only_a_file_of_the_node_is_adopted() {
        let file = store(Backing::Memfd).create_file().unwrap();
        let again = store(Backing::Memfd).adopt_file(file.fd.try_clone().unwrap()).unwrap();
        assert_eq!(again.identity(), file.identity());
        let other = Store::new("near", Backing::Memfd, FIRST, 9).create_file().unwrap();
        let error = store(Backing::Memfd).adopt_file(other.fd).unwrap_err();
        assert!(matches!(error, StoreError::ForeignFile { size: ByteSize(16_777_216) }));
    }

    fn machine(files: &[(&str, &str)]) -> (tempdir::TempDir, Kernel) {
        let root = tempdir::TempDir::new();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let kernel = Kernel::below(root.path());
        (root, kernel)
    }

    /// A directory that goes away.
    mod tempdir {
        use std::path::{Path, PathBuf};

        pub struct TempDir(PathBuf);

        impl TempDir {
            pub fn new() -> Self {
                use std::sync::atomic::{AtomicU32, Ordering};
                static NEXT: AtomicU32 = AtomicU32::new(0);
                let number = NEXT.fetch_add(1, Ordering::Relaxed);
                let name = format!("memtide-store-{}-{number}", std::process::id());
                let path = std::env::temp_dir().join(name);
                std::fs::create_dir_all(&path).unwrap();
                Self(path)
            }

            pub fn path(&self) -> &Path {
                &self.0
            }
        }

        impl Drop for TempDir {
            fn drop(&mut self) {
                let _ = std::fs::remove_dir_all(&self.0);
            }
        }
    }

    #[test]
    fn too_few_huge_pages_are_named_with_the_cure() {
        let base = "sys/kernel/mm/hugepages/hugepages-2048kB";
        let files = [
            (format!("{base}/nr_hugepages"), "10\n"),
            (format!("{base}/free_hugepages"), "4\n"),
            (format!("{base}/resv_hugepages"), "1\n"),
            (format!("{base}/nr_overcommit_hugepages"), "2\n"),
            (format!("{base}/surplus_hugepages"), "0\n"),
        ];
        let files: Vec<_> = files.iter().map(|(path, text)| (path.as_str(), *text)).collect();
        let (_root, kernel) = machine(&files);
        let error = Store::check_all(&[store(Backing::Hugetlb)], &kernel).unwrap_err();
        assert_eq!(
            error.to_string(),
            "8 huge pages of 2 MiB are needed, 5 are available; run: sysctl -w vm.nr_hugepages=13"
        );
        let small = Store::new("far", Backing::Hugetlb, FIRST, 5);
        Store::check_all(&[small], &kernel).unwrap();
    }

    #[test]
    fn transparent_huge_pages_must_be_allowed() {
        let path = "sys/kernel/mm/transparent_hugepage/shmem_enabled";
        let never = "always within_size advise [never] deny force\n";
        let (_root, kernel) = machine(&[(path, never)]);
        let error = Store::check_all(&[store(Backing::MemfdThp)], &kernel).unwrap_err();
        assert!(error.to_string().contains("echo advise >"), "{error}");
        Store::check_all(&[store(Backing::Memfd)], &kernel).unwrap();
        let advise = "always within_size [advise] never deny force\n";
        let (_root, kernel) = machine(&[(path, advise)]);
        Store::check_all(&[store(Backing::MemfdThp)], &kernel).unwrap();
    }
}
