//! The files of the tenants.
//!
//! After a restart, a tenant's files come back with its processes, and may still hold what an
//! earlier daemon had no time to zero. When the last process that is awaited of a tenant has come
//! back or is gone, all that none of them claims is zeroed, before anything of it is leased anew.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
};

use memtide_store::{NodeFile, Store, StoreError};
use memtide_units::{Extent, MemberId, TenantId};

/// One tenant's files, one per node in node order.
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
    /// Another process of the tenant has other files.
    #[error("the files are not those of the tenant")]
    NotTheTenants,
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

    fn is_same(&self, other: &Self) -> bool {
        let identities = |files: &Self| files.files.iter().map(NodeFile::identity).collect();
        let (a, b): (Vec<_>, Vec<_>) = (identities(self), identities(other));
        a == b
    }
}

/// What an earlier daemon's tenant is still to say.
#[derive(Debug, Default)]
struct Unsettled {
    awaited: BTreeSet<MemberId>,
    claimed: Vec<Extent>,
}

/// All of them.
#[derive(Debug, Default)]
pub struct Tenants {
    files: BTreeMap<TenantId, Files>,
    unsettled: BTreeMap<TenantId, Unsettled>,
}

impl Tenants {
    /// This process will come back.
    pub fn await_member(&mut self, tenant: TenantId, member: MemberId) {
        self.unsettled.entry(tenant).or_default().awaited.insert(member);
    }

    /// These are the tenant's files from now on.
    pub fn insert(&mut self, tenant: TenantId, files: Files) {
        self.files.insert(tenant, files);
    }

    /// The files of a returning process: known, or new with it.
    ///
    /// # Errors
    /// [`AdoptError::NotTheTenants`].
    pub fn check(&self, tenant: TenantId, files: &Files) -> Result<(), AdoptError> {
        match self.files.get(&tenant) {
            Some(known) if !known.is_same(files) => Err(AdoptError::NotTheTenants),
            _ => Ok(()),
        }
    }

    /// Keeps a returning process's files, unless they are known.
    pub fn keep(&mut self, tenant: TenantId, files: Files) {
        self.files.entry(tenant).or_insert(files);
    }

    /// Drops the files of a tenant none of whose processes could join.
    pub fn forget_files(&mut self, tenant: TenantId) {
        self.files.remove(&tenant);
    }

    /// The files as they go out beside a packet.
    #[must_use]
    pub fn handles(&self, tenant: TenantId) -> Vec<Arc<OwnedFd>> {
        self.files.get(&tenant).map(|files| files.handles.clone()).unwrap_or_default()
    }

    /// The tenant is gone; the kernel takes what is left in its files.
    pub fn remove(&mut self, tenant: TenantId) {
        self.files.remove(&tenant);
        self.unsettled.remove(&tenant);
    }

    /// Zeroes pageblocks of the node at this position.
    ///
    /// # Errors
    /// Those of fallocate(2).
    pub fn zero(&self, tenant: TenantId, node: usize, extent: Extent) -> io::Result<()> {
        // Without files there is nothing to zero: the process that brought them never came back.
        self.files.get(&tenant).map_or(Ok(()), |files| files.files[node].zero(extent))
    }

    /// A process has come back and claims these, or (none) is gone. Zeroes what nobody claims if
    /// it was the tenant's last.
    ///
    /// # Errors
    /// Those of fallocate(2).
    pub fn settle(
        &mut self,
        tenant: TenantId,
        member: MemberId,
        claimed: impl IntoIterator<Item = Extent>,
    ) -> io::Result<()> {
        let Some(unsettled) = self.unsettled.get_mut(&tenant) else { return Ok(()) };
        unsettled.claimed.extend(claimed);
        unsettled.awaited.remove(&member);
        if !unsettled.awaited.is_empty() {
            return Ok(());
        }
        let unsettled = self.unsettled.remove(&tenant).expect("it was there");
        let kept = Extent::from_blocks(unsettled.claimed.iter().copied().flat_map(Extent::iter));
        match self.files.get(&tenant) {
            Some(files) => files.files.iter().try_for_each(|file| file.zero_all_but(&kept)),
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
    fn a_returning_process_must_bring_the_files_of_its_tenant() {
        let mut tenants = Tenants::default();
        let files = Files::create(&stores()).unwrap();
        let again = Files::adopt(&stores(), fds(&files)).unwrap();
        let other = Files::create(&stores()).unwrap();
        tenants.insert(TenantId(1), files);
        tenants.check(TenantId(1), &again).unwrap();
        assert!(tenants.check(TenantId(1), &other).is_err());
        tenants.check(TenantId(2), &other).unwrap();
        let mut few = fds(&other);
        few.pop();
        assert!(matches!(Files::adopt(&stores(), few), Err(AdoptError::Count { .. })));
    }

    #[test]
    fn what_nobody_claims_is_zeroed_when_the_last_has_spoken() {
        let mut tenants = Tenants::default();
        let (tenant, one, two) = (TenantId(1), MemberId(1), MemberId(2));
        tenants.await_member(tenant, one);
        tenants.await_member(tenant, two);
        let files = Files::create(&stores()).unwrap();
        for block in 0..4 {
            pwrite(&files.files[1], b"x", block << 21).unwrap();
        }
        tenants.keep(tenant, files);
        let used = |tenants: &Tenants| tenants.files[&tenant].files[1].allocated().unwrap().0;
        tenants.settle(tenant, one, [Extent::new(Pageblock(4), 1)]).unwrap();
        assert_eq!(used(&tenants), 4 * 4096);
        tenants.settle(tenant, two, [Extent::new(Pageblock(7), 1)]).unwrap();
        assert_eq!(used(&tenants), 2 * 4096);
        tenants.settle(tenant, two, []).unwrap();
        assert_eq!(used(&tenants), 2 * 4096, "only once");
    }
}
