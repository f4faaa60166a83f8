//! Memory policies of threads: from which nodes new pages come.
//!
//! The policy of a thread holds for whatever it touches first in ranges without a policy of their
//! own, for the page cache that it fills, and for much of what the kernel allocates on its behalf.
//! `fork`, `clone` and `execve` hand it on: whoever sets it before starting a program sets it for
//! the program and its children, without being in them.
//!
//! A policy names nodes that may have no memory yet. With [`NodesMean::TheseNumbers`] the kernel
//! keeps the list as given and looks again whenever memory comes or goes (`cpuset` hot-plug,
//! `mpol_rebind_task`); but only for the modes bind, interleave and weighted interleave
//! (`mpol_rebind_nodemask`), and at least one node must have memory when the policy is set. The
//! preferred modes keep the nodes that had memory at that time.

use rustix::io::Errno;

use super::NodeSet;
use crate::kernel::call;

/// How a policy chooses among its nodes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Mode {
    /// None of its own: that of the thread, else the processor's own node first.
    Default,
    /// One node first, then all others.
    Preferred,
    /// These nodes and no others, the nearest to the processor first.
    Bind,
    /// These nodes in turn, page by page.
    Interleave,
    /// The processor's own node first, then all others.
    Local,
    /// These nodes first, then all others (Linux 5.15).
    PreferredMany,
    /// These nodes in turn, each as often as its weight in
    /// `/sys/kernel/mm/mempolicy/weighted_interleave` says (Linux 6.9).
    WeightedInterleave,
}

const MPOL_PREFERRED_MANY: i32 = 5;
const MPOL_WEIGHTED_INTERLEAVE: i32 = 6;
const MODE_FLAGS: i32 =
    libc::MPOL_F_STATIC_NODES | libc::MPOL_F_RELATIVE_NODES | libc::MPOL_F_NUMA_BALANCING;
const MPOL_F_MEMS_ALLOWED: usize = 1 << 2;
const _: () = assert!(
    libc::MPOL_LOCAL + 1 == MPOL_PREFERRED_MANY
        && MPOL_PREFERRED_MANY + 1 == MPOL_WEIGHTED_INTERLEAVE
        && MODE_FLAGS == 7 << 13
);

impl Mode {
    const fn number(self) -> i32 {
        match self {
            Self::Default => libc::MPOL_DEFAULT,
            Self::Preferred => libc::MPOL_PREFERRED,
            Self::Bind => libc::MPOL_BIND,
            Self::Interleave => libc::MPOL_INTERLEAVE,
            Self::Local => libc::MPOL_LOCAL,
            Self::PreferredMany => MPOL_PREFERRED_MANY,
            Self::WeightedInterleave => MPOL_WEIGHTED_INTERLEAVE,
        }
    }

    const ALL: [Self; 7] = [
        Self::Default,
        Self::Preferred,
        Self::Bind,
        Self::Interleave,
        Self::Local,
        Self::PreferredMany,
        Self::WeightedInterleave,
    ];
}

/// What the list of nodes means when the nodes that the thread may use change.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum NodesMean {
    /// As many as given, renumbered by the kernel to those allowed.
    #[default]
    Renumbered,
    /// Just these numbers, as far as they are allowed and have memory
    /// (`MPOL_F_STATIC_NODES`).
    TheseNumbers,
    /// The n-th of those that are allowed (`MPOL_F_RELATIVE_NODES`).
    PositionsAmongAllowed,
}

/// Whether the kernel's NUMA balancing may move pages of a bind or preferred-many policy between
/// the nodes of the list (`MPOL_F_NUMA_BALANCING`). It does so only while
/// `/proc/sys/kernel/numa_balancing` is on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum NumaBalancing {
    /// It may not.
    #[default]
    No,
    /// It may.
    Within,
}

/// A memory policy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Policy {
    /// How nodes are chosen.
    pub mode: Mode,
    /// Among these; none for default and local.
    pub nodes: NodeSet,
    /// What the list means later.
    pub nodes_mean: NodesMean,
    /// Whether the kernel moves pages within the list.
    pub balancing: NumaBalancing,
}

impl Policy {
    /// The kernel's own: nothing said.
    pub const DEFAULT: Self = Self::new(Mode::Default, NodeSet::EMPTY);

    /// This mode with these nodes and no flags.
    #[must_use]
    pub const fn new(mode: Mode, nodes: NodeSet) -> Self {
        Self { mode, nodes, nodes_mean: NodesMean::Renumbered, balancing: NumaBalancing::No }
    }

    pub(super) fn mode_word(&self) -> usize {
        let meaning = match self.nodes_mean {
            NodesMean::Renumbered => 0,
            NodesMean::TheseNumbers => libc::MPOL_F_STATIC_NODES,
            NodesMean::PositionsAmongAllowed => libc::MPOL_F_RELATIVE_NODES,
        };
        let balancing = match self.balancing {
            NumaBalancing::No => 0,
            NumaBalancing::Within => libc::MPOL_F_NUMA_BALANCING,
        };
        (self.mode.number() | meaning | balancing) as usize
    }

    /// `None` for a mode that is newer than this code.
    pub(super) fn from_kernel(mode: i32, nodes: NodeSet) -> Option<Self> {
        let flag = |flag| mode & flag != 0;
        let number = mode & !MODE_FLAGS;
        Some(Self {
            mode: Mode::ALL.into_iter().find(|mode| mode.number() == number)?,
            nodes,
            nodes_mean: if flag(libc::MPOL_F_STATIC_NODES) {
                NodesMean::TheseNumbers
            } else if flag(libc::MPOL_F_RELATIVE_NODES) {
                NodesMean::PositionsAmongAllowed
            } else {
                NodesMean::Renumbered
            },
            balancing: if flag(libc::MPOL_F_NUMA_BALANCING) {
                NumaBalancing::Within
            } else {
                NumaBalancing::No
            },
        })
    }
}

/// Sets the policy of the calling thread, and so of what it starts.
///
/// # Errors
/// The kernel's. `EINVAL`: a mode or flag that this kernel lacks, or none of the nodes has memory
/// that this thread may use, or nodes where the mode takes none.
pub fn set_thread_policy(policy: &Policy) -> Result<(), Errno> {
    let (nodes, maxnode) = nodes_of(policy);
    let arguments = [policy.mode_word(), nodes, maxnode, 0, 0, 0];
    // SAFETY: the kernel reads the set, which lives as long as `policy`, and changes no memory.
    unsafe { call(libc::SYS_set_mempolicy, arguments) }.map(|_| ())
}

/// The policy of the calling thread.
///
/// # Errors
/// The kernel's; `EOPNOTSUPP` for a mode that is newer than this code.
pub fn thread_policy() -> Result<Policy, Errno> {
    let mut mode = 0i32;
    let mut nodes = NodeSet::EMPTY;
    let mode_at = (&raw mut mode).expose_provenance();
    let arguments = [mode_at, nodes.address_mut(), NodeSet::maxnode(), 0, 0, 0];
    // SAFETY: the kernel writes an int, and at most `maxnode` bits, which the set has.
    unsafe { call(libc::SYS_get_mempolicy, arguments) }?;
    Policy::from_kernel(mode, nodes).ok_or(Errno::OPNOTSUPP)
}

/// The nodes that the calling thread may have memory of: those of its cpuset.
///
/// # Errors
/// The kernel's: `ENOSYS` where it knows no NUMA.
pub fn allowed_nodes() -> Result<NodeSet, Errno> {
    let mut nodes = NodeSet::EMPTY;
    let arguments = [0, nodes.address_mut(), NodeSet::maxnode(), 0, MPOL_F_MEMS_ALLOWED, 0];
    // SAFETY: the kernel writes at most `maxnode` bits, which the set has.
    unsafe { call(libc::SYS_get_mempolicy, arguments) }?;
    Ok(nodes)
}

/// Modes without nodes take no mask (a mask of none would do for most, not for all).
pub(super) fn nodes_of(policy: &Policy) -> (usize, usize) {
    if policy.nodes.is_empty() { (0, 0) } else { (policy.nodes.address(), NodeSet::maxnode()) }
}

#[cfg(test)]
mod tests {
    use memtide_units::NodeId;

    use super::*;

    fn first_allowed() -> NodeId {
        allowed_nodes().unwrap().iter().next().unwrap()
    }

    /// In a thread of its own: a policy is a thread's.
    fn alone<T: Send>(work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| scope.spawn(work).join().unwrap())
    }

    #[test]
    fn a_threads_policy_is_read_as_it_was_set() {
        alone(|| {
            assert_eq!(thread_policy().unwrap(), Policy::DEFAULT);
            let nodes = NodeSet::only(first_allowed()).unwrap();
            for mode in [Mode::Bind, Mode::Interleave, Mode::Preferred, Mode::PreferredMany] {
                let policy = Policy::new(mode, nodes);
                set_thread_policy(&policy).unwrap();
                assert_eq!(thread_policy().unwrap(), policy, "{mode:?}");
            }
            set_thread_policy(&Policy::new(Mode::Local, NodeSet::EMPTY)).unwrap();
            assert_eq!(thread_policy().unwrap().mode, Mode::Local);
            set_thread_policy(&Policy::DEFAULT).unwrap();
            assert_eq!(thread_policy().unwrap(), Policy::DEFAULT);
        });
    }

    #[test]
    fn flags_come_back() {
        let policy = Policy {
            nodes_mean: NodesMean::TheseNumbers,
            balancing: NumaBalancing::Within,
            ..Policy::new(Mode::Bind, NodeSet::only(first_allowed()).unwrap())
        };
        match alone(|| set_thread_policy(&policy).and_then(|()| thread_policy())) {
            Ok(read) => assert_eq!(read, policy),
            Err(Errno::INVAL) => {
                memtide_skip::skip("needs a kernel with MPOL_F_NUMA_BALANCING");
            }
            Err(errno) => panic!("{errno}"),
        }
    }

    #[test]
    fn another_thread_and_a_child_of_this_one_inherit_it() {
        alone(|| {
            let nodes = NodeSet::only(first_allowed()).unwrap();
            set_thread_policy(&Policy::new(Mode::Bind, nodes)).unwrap();
            assert_eq!(alone(|| thread_policy().unwrap().mode), Mode::Bind);
            // What the kernel says of a program's heap names the policy that it runs under.
            let maps = std::process::Command::new("cat").arg("/proc/self/numa_maps").output();
            let text = String::from_utf8(maps.unwrap().stdout).unwrap();
            assert!(text.lines().all(|line| line.contains(" bind:")), "{text}");
        });
    }

    #[test]
    fn nodes_that_are_not_there_are_refused_and_change_nothing() {
        alone(|| {
            let absent = NodeSet::only(NodeId(1023)).unwrap();
            let policy = Policy::new(Mode::Bind, absent);
            assert_eq!(set_thread_policy(&policy), Err(Errno::INVAL));
            assert_eq!(thread_policy().unwrap(), Policy::DEFAULT);
            // With one that is there, it stays on the list of those meant. (The kernel hands out
            // whole words of as many nodes as it can ever have: node 63 is in the first.)
            let absent = NodeSet::only(NodeId(63)).unwrap();
            assert!(!allowed_nodes().unwrap().contains(NodeId(63)), "an unusual machine");
            let both = absent.union(&NodeSet::only(first_allowed()).unwrap());
            let policy =
                Policy { nodes_mean: NodesMean::TheseNumbers, ..Policy::new(Mode::Bind, both) };
            set_thread_policy(&policy).unwrap();
            assert_eq!(thread_policy().unwrap(), policy);
        });
    }
}
