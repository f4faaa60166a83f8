//! The files of the images.
//!
//! After a restart, an image's files come back with its processes, and may still hold what an
//! earlier daemon had no time to zero. When the last process that is awaited of an image has come
//! back or is gone, all that none of them claims is zeroed, before anything of it is leased anew.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
};

use memtide_store::{NodeFile, Store, StoreError};
use memtide_units::{Extent, ImageId, MemberId};

/// One image's files, one per node in node order.
#[derive(Debug)]
pub struct Files {
    files: Vec<NodeFile>,
    /// The same, as they are handed out.
    handles: Vec<Arc<OwnedFd>>,
}

/// Why the files that a returning process brought are not taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdoptError {
    /// Not one per node.
    #[error("{files} files; expected one for each of {nodes} nodes")]
    Count {
        /// How many there were.
        files: usize,
        /// How many nodes there are.
        nodes: usize,
    },
    /// One of them is none of ours.
    #[error(transparent)]
    Foreign(#[from] StoreError),
    /// Another process of the image has other files.
    #[error("the files are not those of the image")]
    NotTheImages,
}

impl Files {
    fn new(files: Vec<NodeFile>) -> Result<Self, StoreError> {
        let handles: io::Result<Vec<_>> =
            files.iter().map(|file| Ok(Arc::new(file.as_fd().try_clone_to_owned()?))).collect();
        let handles = handles.map_err(|source| StoreError::Io {
            what: "cannot duplicate a memory file's descriptor",
            source,
        })?;
        Ok(Self { files, handles })
    }

    /// Fresh ones.
    ///
    /// # Errors
    /// When the kernel gives none.
    pub fn create(stores: &[Store]) -> Result<Self, StoreError> {
        Self::new(stores.iter().map(Store::create_file).collect::<Result<_, _>>()?)
    }

    /// Those that a returning process brought.
    ///
    /// # Errors
    /// [`AdoptError`].
    pub fn adopt(stores: &[Store], fds: Vec<OwnedFd>) -> Result<Self, AdoptError> {
        if fds.len() != stores.len() {
            return Err(AdoptError::Count { files: fds.len(), nodes: stores.len() });
        }
        let files = stores.iter().zip(fds).map(|(store, fd)| store.adopt_file(fd));
        Ok(Self::new(files.collect::<Result<_, _>>()?)?)
    }

    /// The file of the node at this position.
    #[must_use]
    pub fn at(&self, node: usize) -> &NodeFile {
        &self.files[node]
    }

    /// Whether both have the same files of their own; a device's may have become another.
    fn is_same(&self, other: &Self) -> bool {
        let own = |file: &&NodeFile| !file.is_shared();
        let identities =
            |files: &Self| files.files.iter().filter(own).map(NodeFile::identity).collect();
        let (a, b): (Vec<_>, Vec<_>) = (identities(self), identities(other));
        a == b
    }
}

/// What an earlier daemon's image is still to say.
#[derive(Debug, Default)]
struct Unsettled {
    awaited: BTreeSet<MemberId>,
    claimed: Vec<Extent>,
}

/// All of them.
#[derive(Debug, Default)]
pub struct Images {
    files: BTreeMap<ImageId, Files>,
    unsettled: BTreeMap<ImageId, Unsettled>,
}

impl Images {
    /// This process will come back.
    pub fn await_member(&mut self, image: ImageId, member: MemberId) {
        self.unsettled.entry(image).or_default().awaited.insert(member);
    }

    /// These are the image's files from now on.
    pub fn insert(&mut self, image: ImageId, files: Files) {
        self.files.insert(image, files);
    }

    /// The files of a returning process: known, or new with it.
    ///
    /// # Errors
    /// [`AdoptError::NotTheImages`].
    pub fn check(&self, image: ImageId, files: &Files) -> Result<(), AdoptError> {
        match self.files.get(&image) {
            Some(known) if !known.is_same(files) => Err(AdoptError::NotTheImages),
            _ => Ok(()),
        }
    }

    /// Keeps a returning process's files, unless they are known.
    pub fn keep(&mut self, image: ImageId, files: Files) {
        self.files.entry(image).or_insert(files);
    }

    /// Drops the files of an image none of whose processes could join.
    pub fn forget_files(&mut self, image: ImageId) {
        self.files.remove(&image);
    }

    /// The images that have files.
    #[must_use]
    pub fn names(&self) -> Vec<ImageId> {
        self.files.keys().copied().collect()
    }

    /// The files of all images on the node at this position.
    pub fn on_node(&self, node: usize) -> impl Iterator<Item = &NodeFile> {
        self.files.values().map(move |files| files.at(node))
    }

    /// Gives an image another file for the node at this position.
    ///
    /// # Errors
    /// Those of fcntl(2); nothing has changed then.
    pub fn replace(&mut self, image: ImageId, node: usize, file: &NodeFile) -> io::Result<()> {
        if let Some(files) = self.files.get_mut(&image) {
            let handle = Arc::new(file.as_fd().try_clone_to_owned()?);
            files.files[node] = file.try_clone()?;
            files.handles[node] = handle;
        }
        Ok(())
    }

    /// The files as they go out beside a packet.
    #[must_use]
    pub fn handles(&self, image: ImageId) -> Vec<Arc<OwnedFd>> {
        self.files.get(&image).map(|files| files.handles.clone()).unwrap_or_default()
    }

    /// The image is gone; the kernel takes what is left in its files.
    pub fn remove(&mut self, image: ImageId) {
        self.files.remove(&image);
        self.unsettled.remove(&image);
    }

    /// Zeroes pageblocks of the node at this position.
    ///
    /// # Errors
    /// Those of fallocate(2).
    pub fn zero(&self, image: ImageId, node: usize, extent: Extent) -> io::Result<()> {
        // Without files there is nothing to zero: the process that brought them never came back.
        self.files.get(&image).map_or(Ok(()), |files| files.files[node].zero(extent))
    }

    /// A process has come back and claims these, or (none) is gone. Zeroes what nobody claims if
    /// it was the image's last.
    ///
    /// # Errors
    /// Those of fallocate(2).
    pub fn settle(
        &mut self,
        image: ImageId,
        member: MemberId,
        claimed: impl IntoIterator<Item = Extent>,
    ) -> io::Result<()> {
        let Some(unsettled) = self.unsettled.get_mut(&image) else { return Ok(()) };
        unsettled.claimed.extend(claimed);
        unsettled.awaited.remove(&member);
        if !unsettled.awaited.is_empty() {
            return Ok(());
        }
        let unsettled = self.unsettled.remove(&image).expect("it was there");
        let kept = Extent::from_blocks(unsettled.claimed.iter().copied().flat_map(Extent::iter));
        match self.files.get(&image) {
            // What others have in a file is not this image's to empty.
            Some(files) => files
                .files
                .iter()
                .filter(|file| !file.is_shared())
                .try_for_each(|file| file.zero_all_but(&kept)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use memtide_store::Backing;
    use memtide_units::Pageblock;
    use rustix::io::pwrite;

    use super::*;

    fn stores() -> [Store; 2] {
        [
            Store::new("near", Backing::Memfd, Pageblock(0), 4),
            Store::new("far", Backing::Memfd, Pageblock(4), 4),
        ]
    }

    fn fds(files: &Files) -> Vec<OwnedFd> {
        files.handles.iter().map(|fd| fd.try_clone().unwrap()).collect()
    }

    #[test]
    fn a_returning_process_must_bring_the_files_of_its_image() {
        let mut images = Images::default();
        let files = Files::create(&stores()).unwrap();
        let again = Files::adopt(&stores(), fds(&files)).unwrap();
        let other = Files::create(&stores()).unwrap();
        images.insert(ImageId(1), files);
        images.check(ImageId(1), &again).unwrap();
        assert!(images.check(ImageId(1), &other).is_err());
        images.check(ImageId(2), &other).unwrap();
        let mut few = fds(&other);
        few.pop();
        assert!(matches!(Files::adopt(&stores(), few), Err(AdoptError::Count { .. })));
    }

    #[test]
    fn what_nobody_claims_is_zeroed_when_the_last_has_spoken() {
        let mut images = Images::default();
        let (image, one, two) = (ImageId(1), MemberId(1), MemberId(2));
        images.await_member(image, one);
        images.await_member(image, two);
        let files = Files::create(&stores()).unwrap();
        for block in 0..4 {
            pwrite(&files.files[1], b"x", block << 21).unwrap();
        }
        images.keep(image, files);
        let used = |images: &Images| images.files[&image].files[1].allocated().unwrap().0;
        images.settle(image, one, [Extent::new(Pageblock(4), 1)]).unwrap();
        assert_eq!(used(&images), 4 * 4096);
        images.settle(image, two, [Extent::new(Pageblock(7), 1)]).unwrap();
        assert_eq!(used(&images), 2 * 4096);
        images.settle(image, two, []).unwrap();
        assert_eq!(used(&images), 2 * 4096, "only once");
    }
}
