//! Memory policies of memory files: from which nodes their pages come, whoever touches them first.
//!
//! A shared mapping of a memory file has no policy of its own. `mbind(2)` on it sets one of the
//! *file* (`shmem_set_policy`, mm/shmem.c), which the kernel keeps in the inode, past the mapping's
//! end, for as long as the file is there. It holds for every page that comes into the file from
//! then on, in whatever process and under whatever policy of its thread, as long as its cpuset has
//! the node (`policy_nodemask`, mm/mempolicy.c): by a touch in a shared or private mapping, by
//! `write(2)`, by `fallocate(2)`, by `UFFDIO_COPY`. Pages that are there stay where they are.
//!
//! Only a node with memory that the caller may use can be named (`mpol_set_nodemask`); a file that
//! was bound stays so when the memory leaves, and has its pages from elsewhere meanwhile, as with a
//! cpuset that lacks the node. So a file that is bound already is left alone.
//!
//! Files of huge pages have no such thing: `hugetlb_vm_ops` has no `set_policy`, and `mbind` on
//! their mappings ends with the mapping. So a policy counts here only once it is read back from
//! another mapping ([`bind_file`]).
//!
//! **`Mode::Bind` and the OOM killer.** A page that may come from one node only, and finds it full,
//! is a reason for the kernel to end a program, not to look elsewhere (`constrained_alloc`,
//! mm/oom_kill.c). Whoever binds a file must know that the node bears it.
//!
//! References: mbind(2), get_mempolicy(2).

use core::ffi::c_void;
use std::os::fd::BorrowedFd;

use memtide_units::NodeId;
use rustix::{
    io::Errno,
    mm::{MapFlags, ProtFlags},
};

use super::{
    NodeSet,
    policy::{Mode, Policy, nodes_of},
};
use crate::kernel::call;

const MPOL_F_ADDR: usize = 1 << 1;
/// Mappings of huge pages can only be undone in whole ones.
const UNIT: usize = 2 << 20;

/// Binds a whole file to one node: all pages that come into it are from there. There is no way back
/// to none: the kernel takes `MPOL_DEFAULT` for no change in a mapping that has no policy
/// (`mbind_range`, mm/mempolicy.c). A file that has been bound to this node needs no memory there
/// any more, and is not mapped as a whole.
///
/// # Errors
/// The kernel's. `EINVAL`: the node has no memory that this thread may use, or the file is empty.
/// `EOPNOTSUPP`: the kernel keeps no policy for files of this kind; nothing has changed.
pub fn bind_file(file: BorrowedFd<'_>, node: NodeId) -> Result<(), Errno> {
    let nodes = NodeSet::only(node).map_err(|_| Errno::INVAL)?;
    let policy = Policy::new(Mode::Bind, nodes);
    if file_policy(file) == Ok(policy) {
        return Ok(());
    }
    let bytes = usize::try_from(rustix::fs::fstat(file)?.st_size).map_err(|_| Errno::INVAL)?;
    let mapping = Mapping::of(file, bytes)?;
    let (nodes, maxnode) = nodes_of(&policy);
    let arguments = [mapping.address(), mapping.bytes, policy.mode_word(), nodes, maxnode, 0];
    // SAFETY: the kernel reads the set, which lives as long as `policy`. The range is that of a
    // mapping made for this, in which there is nothing; no page of the file is changed or moved.
    unsafe { call(libc::SYS_mbind, arguments) }?;
    drop(mapping);
    if file_policy(file)? == policy { Ok(()) } else { Err(Errno::OPNOTSUPP) }
}

/// The policy of a memory file, at its beginning.
///
/// # Errors
/// The kernel's; `EOPNOTSUPP` for a mode that is newer than this code.
pub fn file_policy(file: BorrowedFd<'_>) -> Result<Policy, Errno> {
    let mapping = Mapping::of(file, UNIT)?;
    let mut mode = 0i32;
    let mut nodes = NodeSet::EMPTY;
    let mode_at = (&raw mut mode).expose_provenance();
    let arguments =
        [mode_at, nodes.address_mut(), NodeSet::maxnode(), mapping.address(), MPOL_F_ADDR, 0];
    // SAFETY: the kernel writes an int, and at most `maxnode` bits, which the set has.
    unsafe { call(libc::SYS_get_mempolicy, arguments) }?;
    Policy::from_kernel(mode, nodes).ok_or(Errno::OPNOTSUPP)
}

/// A mapping of a file's beginning that nobody can read or write.
struct Mapping {
    start: *mut c_void,
    bytes: usize,
}

impl Mapping {
    fn of(file: BorrowedFd<'_>, bytes: usize) -> Result<Self, Errno> {
        let whole = bytes.checked_next_multiple_of(UNIT).filter(|bytes| *bytes > 0);
        let bytes = whole.ok_or(Errno::INVAL)?;
        let flags = MapFlags::SHARED | MapFlags::NORESERVE;
        let protection = ProtFlags::empty();
        // SAFETY: the kernel chooses a range where nothing is.
        let start =
            unsafe { rustix::mm::mmap(core::ptr::null_mut(), bytes, protection, flags, file, 0)? };
        Ok(Self { start, bytes })
    }

    fn address(&self) -> usize {
        self.start.expose_provenance()
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range is this mapping's, and nobody else knows of it. It cannot fail for a
        // range that is mapped as a whole.
        let _ = unsafe { rustix::mm::munmap(self.start, self.bytes) };
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;
    use crate::{
        memfd::{self, Pages},
        numa::{PageStatus, Process, allowed_nodes, where_are},
    };

    const MIB: u64 = 1 << 20;

    fn first_allowed() -> NodeId {
        allowed_nodes().unwrap().iter().next().unwrap()
    }

    #[test]
    fn a_files_policy_outlives_the_mapping_that_set_it() {
        let file = memfd::create("bound", 4 * MIB, Pages::Small).unwrap();
        assert_eq!(file_policy(file.as_fd()).unwrap(), Policy::DEFAULT);
        let node = first_allowed();
        bind_file(file.as_fd(), node).unwrap();
        let bound = Policy::new(Mode::Bind, NodeSet::only(node).unwrap());
        assert_eq!(file_policy(file.as_fd()).unwrap(), bound);
        // Twice is once.
        bind_file(file.as_fd(), node).unwrap();
        assert_eq!(file_policy(file.as_fd()).unwrap(), bound);
    }

    /// Mapped by somebody who knows of no policy, as another process has it.
    #[test]
    fn whoever_maps_the_file_has_its_policy() {
        let file = memfd::create("memtide-bound", 4 * MIB, Pages::Small).unwrap();
        let node = first_allowed();
        bind_file(file.as_fd(), node).unwrap();
        let arena = crate::Arena::reserve_exactly(4 << 20).unwrap();
        let how = (
            crate::file_map::Sharing::Shared,
            crate::file_map::Populate::OnTouch,
            crate::file_map::HugePages::Default,
        );
        let prot = crate::Prot::READ_WRITE;
        arena.map_file(arena.range(), file.as_fd(), 0, prot, how).unwrap();
        arena.populate(arena.range()).unwrap();
        let said = where_are(Process::Own, &[arena.range().start]).unwrap();
        assert_eq!(said, [PageStatus::On(node)]);
        let maps = std::fs::read_to_string("/proc/self/numa_maps").unwrap();
        let line = format!("{:x} bind:{} ", arena.range().start, node.0);
        assert!(maps.lines().any(|it| it.starts_with(&line)), "{line}\n{maps}");
    }

    /// Has the kernel answer `mbind(2)` in this thread as it does for a node whose memory has left.
    fn lose_all_memory_to_bind_to() {
        let statement =
            |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
        let is_mbind = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
        let refuse = libc::SECCOMP_RET_ERRNO | Errno::INVAL.raw_os_error() as u32;
        let number = core::mem::offset_of!(libc::seccomp_data, nr) as u32;
        let mut filter = [
            statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, number),
            libc::sock_filter { jf: 1, ..statement(is_mbind, libc::SYS_mbind as u32) },
            statement(libc::BPF_RET | libc::BPF_K, refuse),
            statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW),
        ];
        let program = libc::sock_fprog { len: 4, filter: filter.as_mut_ptr() };
        // SAFETY: the kernel copies the filter, which is of that length; what it refuses is an
        // error to whoever asks.
        unsafe {
            assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
            let mode = libc::SECCOMP_MODE_FILTER;
            assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const program), 0);
        }
    }

    #[test]
    fn a_file_stays_bound_to_a_node_whose_memory_has_left() {
        let node = first_allowed();
        let create = || memfd::create("bound", 4 * MIB, Pages::Small).unwrap();
        let (before, later) = (create(), create());
        bind_file(before.as_fd(), node).unwrap();
        // In a thread of its own, which is not heard of again.
        std::thread::scope(|scope| {
            scope.spawn(|| {
                lose_all_memory_to_bind_to();
                assert_eq!(bind_file(before.as_fd(), node), Ok(()));
                assert_eq!(bind_file(later.as_fd(), node), Err(Errno::INVAL));
            });
        });
        let bound = Policy::new(Mode::Bind, NodeSet::only(node).unwrap());
        assert_eq!(file_policy(before.as_fd()).unwrap(), bound);
        assert_eq!(file_policy(later.as_fd()).unwrap(), Policy::DEFAULT);
    }

    #[test]
    fn a_node_that_is_not_there_is_refused_and_changes_nothing() {
        let file = memfd::create("bound", 4 * MIB, Pages::Small).unwrap();
        let node = first_allowed();
        bind_file(file.as_fd(), node).unwrap();
        assert_eq!(bind_file(file.as_fd(), NodeId(1023)), Err(Errno::INVAL));
        assert_eq!(bind_file(file.as_fd(), NodeId(u16::MAX)), Err(Errno::INVAL));
        let bound = Policy::new(Mode::Bind, NodeSet::only(node).unwrap());
        assert_eq!(file_policy(file.as_fd()).unwrap(), bound);
        let empty = memfd::create("empty", 0, Pages::Small).unwrap();
        assert_eq!(bind_file(empty.as_fd(), node), Err(Errno::INVAL));
    }

    #[test]
    fn files_of_huge_pages_keep_no_policy_and_that_is_said() {
        // A file of no page that was ever touched takes none of the kernel's pool.
        let Ok(file) = memfd::create("huge", 4 * MIB, Pages::Huge2M) else {
            memtide_skip::skip("needs a kernel with huge pages of 2 MiB");
            return;
        };
        assert_eq!(bind_file(file.as_fd(), first_allowed()), Err(Errno::OPNOTSUPP));
    }
}
