//! Programs that may have memory of one node only, and what becomes of them without it.
//!
//! Memory whose policy is `MPOL_BIND` to a node comes from nowhere else. Should that node have no
//! memory at all, the kernel finds no zone for the next page, and kills the program
//! (`CONSTRAINT_MEMORY_POLICY` in mm/oom_kill.c).

use memtide_units::{ByteSize, NodeId};

use super::program::Program;
use crate::{Root, node_list::IdList};

/// A program that is bound to a node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Bound {
    /// Which process.
    pub pid: u32,
    /// Its name.
    pub name: String,
    /// Its control group, as far as it has one.
    pub tenant: String,
    /// What it has of such memory at this moment, on any node.
    pub bytes: ByteSize,
}

/// So many are named in a message.
const NAMED: usize = 8;

impl Bound {
    /// Their names and numbers, for a message.
    #[must_use]
    pub fn names(all: &[Self]) -> String {
        let named = all.iter().take(NAMED).map(|it| format!("{} (pid {})", it.name, it.pid));
        let named = named.collect::<Vec<_>>().join(", ");
        match all.len().saturating_sub(NAMED) {
            0 => named,
            more => format!("{named} and {more} more"),
        }
    }

    /// Programs with memory whose policy is to come from this node alone, whether or not any of it
    /// is there.
    #[must_use]
    pub fn of_node(root: &Root, node: NodeId) -> Vec<Self> {
        let names = root.names("proc").unwrap_or_default();
        let pids = names.iter().filter_map(|name| name.parse::<u32>().ok());
        let programs = pids.filter_map(|pid| Program::find(root, pid).ok());
        programs
            .filter_map(|program| {
                let maps = program.numa_maps().ok()?;
                let bound: Vec<_> =
                    maps.iter().filter(|map| binds_only_to(&map.policy, node)).collect();
                let pages = bound.iter().flat_map(|map| {
                    map.nodes.values().map(|pages| pages.saturating_mul(map.page_bytes))
                });
                (!bound.is_empty()).then(|| Bound {
                    pid: program.pid(),
                    name: program.name().to_owned(),
                    tenant: control_group(root, program.pid()),
                    bytes: ByteSize(pages.fold(0, u64::saturating_add)),
                })
            })
            .collect()
    }
}

/// `bind:1`, `bind=static:1`, as numa_maps has it.
pub(crate) fn binds_only_to(policy: &str, node: NodeId) -> bool {
    let Some(rest) = policy.strip_prefix("bind") else { return false };
    let list = rest.rsplit_once(':').and_then(|(_, list)| list.parse::<IdList>().ok());
    list.is_some_and(|list| list.len() == 1 && list.has(u32::from(node.0)))
}

/// The control group that a process is charged to (cgroups(7), the unified hierarchy); empty
/// without one.
#[must_use]
pub fn control_group(root: &Root, pid: u32) -> String {
    let text = root.text(format!("proc/{pid}/cgroup")).ok().flatten().unwrap_or_default();
    let group = text.lines().find_map(|line| line.strip_prefix("0::"));
    group.unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_policy_for_this_node_alone_binds() {
        for (policy, binds) in [
            ("bind:1", true),
            ("bind=static|balancing:1", true),
            ("bind:0-1", false),
            ("bind:2", false),
            ("prefer:1", false),
            ("default", false),
            ("bind", false),
        ] {
            assert_eq!(binds_only_to(policy, NodeId(1)), binds, "{policy}");
        }
    }
}
