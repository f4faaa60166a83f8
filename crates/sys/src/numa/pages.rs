//! Where pages are, and moving them to another node.
//!
//! `move_pages(2)` answers for each page. How it goes about it matters to whoever calls it
//! (`do_pages_move` in mm/migrate.c): it gathers pages, moves what it has gathered when one comes
//! that it cannot take or at the end of the list, and **stops for good when a gathered page would
//! not move** (it is pinned, or the node has no room). Pages after it were never tried, and of
//! those gathered nothing is told. So an answer is a fact only where it is an error or a node; for
//! the others one asks again ([`where_are`]). [`Moved`] says so in its types.
//!
//! What the answers for a page mean:
//!
//! | errno | why it stays |
//! |---|---|
//! | `EACCES` | other processes map it too, and shared pages were not to be moved |
//! | `EBUSY` | it cannot be taken off its list: pinned, under I/O, or part of a huge page that is already being moved |
//! | `EFAULT` | nothing is mapped there, or a kind of mapping that does not move; when asking: nothing there yet, or the zero page |
//! | `ENOENT` | no page there |
//! | `ENOMEM` | no room on the node |

use memtide_units::NodeId;
use rustix::io::Errno;

use crate::kernel::call;

/// Whose pages.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Process {
    /// Of this process: needs no right.
    Own,
    /// Of another one: needs the right to look at it (`PTRACE_MODE_READ_REALCREDS`: the same
    /// user, and a process that may be dumped; or `CAP_SYS_PTRACE`).
    Other(u32),
}

impl Process {
    /// `ESRCH` for what no process number is.
    fn number(self) -> Result<usize, Errno> {
        match self {
            Self::Own => Ok(0),
            Self::Other(pid) if pid > 0 && pid <= i32::MAX as u32 => Ok(pid as usize),
            Self::Other(_) => Err(Errno::SRCH),
        }
    }
}

/// Which pages may move.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum WhichPages {
    /// Those that only this process maps (`MPOL_MF_MOVE`).
    Own,
    /// Those that others map as well (`MPOL_MF_MOVE_ALL`): needs `CAP_SYS_NICE`.
    Shared,
}

const MPOL_MF_MOVE: usize = 1 << 1;
const MPOL_MF_MOVE_ALL: usize = 1 << 2;

/// What the kernel said of a page.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum PageStatus {
    /// It is on this node.
    On(NodeId),
    /// It stays where it is, or there is none; see the table of the module.
    Not(Errno),
    /// Nothing: tried in vain, not tried, or moved, one must ask.
    Untold,
}

/// No node and no errno.
const UNTOLD: i32 = i32::MIN;

impl PageStatus {
    fn from_kernel(status: i32) -> Self {
        match status {
            0.. => u16::try_from(status).map_or(Self::Untold, |node| Self::On(NodeId(node))),
            -4095..=-1 => Self::Not(Errno::from_raw_os_error(-status)),
            _ => Self::Untold,
        }
    }
}

/// How an attempt to move pages came out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Moved {
    /// Of each page, in the order of the request.
    pub pages: Vec<PageStatus>,
    /// How the attempt ended: at the end of the list, or before.
    pub ended: Result<(), Errno>,
    /// Pages that would not move or were not tried any more; known only if it `ended` well.
    pub left: usize,
}

/// The node of each page of a process. Looking does not bring a page in.
///
/// # Errors
/// The kernel's: `ESRCH` no such process, `EPERM` no right to look at it.
pub fn where_are(process: Process, addresses: &[usize]) -> Result<Vec<PageStatus>, Errno> {
    let mut status = vec![UNTOLD; addresses.len()];
    let pages = addresses.as_ptr().expose_provenance();
    let written = status.as_mut_ptr().expose_provenance();
    let arguments = [process.number()?, addresses.len(), pages, 0, written, 0];
    // SAFETY: the kernel reads as many addresses, and writes as many ints, as both have.
    unsafe { call(libc::SYS_move_pages, arguments) }?;
    Ok(status.into_iter().map(PageStatus::from_kernel).collect())
}

/// Moves pages of a process to a node. Some may have moved even if an error ended it: `pages`
/// tells as far as the kernel did.
///
/// # Errors
/// None of its own: they are in the answer. `ESRCH`, `EPERM` as [`where_are`], and `EPERM` for
/// [`WhichPages::Shared`] without `CAP_SYS_NICE`: then nothing was tried. `ENODEV`: the node has
/// no memory; `EACCES`: the process's cpuset keeps it off the node. `ENOMEM`: no room there.
#[must_use]
pub fn move_pages(process: Process, addresses: &[usize], to: NodeId, which: WhichPages) -> Moved {
    let mut status = vec![UNTOLD; addresses.len()];
    let nodes = vec![i32::from(to.0); addresses.len()];
    let flags = match which {
        WhichPages::Own => MPOL_MF_MOVE,
        WhichPages::Shared => MPOL_MF_MOVE_ALL,
    };
    let ended = process.number().and_then(|number| {
        let pages = addresses.as_ptr().expose_provenance();
        let nodes = nodes.as_ptr().expose_provenance();
        let written = status.as_mut_ptr().expose_provenance();
        let arguments = [number, addresses.len(), pages, nodes, written, flags];
        // SAFETY: the kernel reads as many addresses and nodes, and writes as many ints, as all
        // three have. It moves pages without changing what they hold.
        unsafe { call(libc::SYS_move_pages, arguments) }
    });
    Moved {
        pages: status.into_iter().map(PageStatus::from_kernel).collect(),
        ended: ended.map(|_| ()),
        left: ended.unwrap_or(addresses.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::numa::allowed_nodes;

    const PAGE: usize = 4096;
    const ABSENT: NodeId = NodeId(1023);

    /// Pages of this process that are there, and their addresses.
    fn pages(count: usize) -> (Vec<u8>, Vec<usize>) {
        let memory = vec![1u8; (count + 1) * PAGE];
        let first = memory.as_ptr().expose_provenance().next_multiple_of(PAGE);
        (memory, (0..count).map(|page| first + page * PAGE).collect())
    }

    fn node_here() -> NodeId {
        allowed_nodes().unwrap().iter().next().unwrap()
    }

    #[test]
    fn pages_are_somewhere_and_moving_them_there_is_no_move() {
        let (_memory, addresses) = pages(3);
        let status = where_are(Process::Own, &addresses).unwrap();
        let PageStatus::On(node) = status[0] else { panic!("{status:?}") };
        let moved = move_pages(Process::Own, &addresses[..1], node, WhichPages::Own);
        assert_eq!(moved, Moved { pages: vec![PageStatus::On(node)], ended: Ok(()), left: 0 });
        let me = Process::Other(std::process::id());
        assert_eq!(where_are(me, &addresses).unwrap(), status);
    }

    #[test]
    fn what_is_not_there_is_said_to_be_so() {
        let arena = crate::Arena::reserve_exactly(2 << 20).unwrap();
        let addresses = [0, arena.range().start];
        let status = where_are(Process::Own, &addresses).unwrap();
        assert_eq!(status[0], PageStatus::Not(Errno::FAULT));
        assert!(matches!(status[1], PageStatus::Not(Errno::FAULT | Errno::NOENT)), "{status:?}");
        let moved = move_pages(Process::Own, &addresses, node_here(), WhichPages::Own);
        assert_eq!(moved.ended, Ok(()));
        assert!(moved.pages.iter().all(|page| matches!(page, PageStatus::Not(_))), "{moved:?}");
    }

    #[test]
    fn an_absent_node_takes_nothing() {
        let (_memory, addresses) = pages(2);
        let moved = move_pages(Process::Own, &addresses, ABSENT, WhichPages::Own);
        assert_eq!(moved.ended, Err(Errno::NODEV));
        assert_eq!(moved.pages, [PageStatus::Untold; 2]);
    }

    #[test]
    fn no_process_has_no_pages() {
        let (_memory, addresses) = pages(1);
        for pid in [0, 1 << 30, u32::MAX] {
            assert_eq!(where_are(Process::Other(pid), &addresses), Err(Errno::SRCH), "{pid}");
            let moved = move_pages(Process::Other(pid), &addresses, node_here(), WhichPages::Own);
            assert_eq!((moved.ended, moved.left), (Err(Errno::SRCH), 1));
        }
    }

    #[test]
    fn numbers_of_the_kernel_are_nodes_errors_or_nothing() {
        assert_eq!(PageStatus::from_kernel(3), PageStatus::On(NodeId(3)));
        assert_eq!(PageStatus::from_kernel(-16), PageStatus::Not(Errno::BUSY));
        assert_eq!(PageStatus::from_kernel(UNTOLD), PageStatus::Untold);
        assert_eq!(PageStatus::from_kernel(i32::MAX), PageStatus::Untold);
    }
}
