//! `memtide run` on nodes of the kernel's: a policy that the program and its children inherit.
//!
//! There is no pool, no daemon and no library in the program: the kernel places each page when it
//! is first touched, and forks as it always does. Nothing is moved by this process. It looks at the
//! program's memory only for `--report`.

use std::{collections::BTreeMap, process::ExitCode};

use memtide_host::{
    Root,
    processes::{Placement, Plan, PolicyError, plan, under},
};
use memtide_sys::numa::{NodeSet, allowed_nodes};

use crate::{
    arguments::{Memory, PlacementKind, Run},
    commands::run::{child, signals, watch::Watch},
    failure::{Failure, chain},
};

/// What `--near` and `--far` name.
#[derive(Clone, Copy, Debug)]
pub struct Nodes {
    near: NodeSet,
    far: NodeSet,
}

impl Nodes {
    /// Nodes of the kernel's, or `None` if a pool is meant. Both must be of a sort, and nothing
    /// that is for pools may be said along with nodes.
    pub fn of(options: &Run) -> Result<Option<Self>, Failure> {
        use Memory::{Nodes, Size};
        let nodes = match (options.near, options.far) {
            (Some(Size(_)), Some(Nodes(_))) | (Some(Nodes(_)), Some(Size(_))) => {
                return Err(Failure::Usage(
                    "--near and --far name a size and nodes: expected two sizes, for a pool of the \
                     program's own, or nodes of the kernel's in both"
                        .to_owned(),
                ));
            }
            (Some(Nodes(near)), Some(Nodes(far))) => Self { near, far },
            (Some(Nodes(near)), None) => Self { near, far: NodeSet::EMPTY },
            (None, Some(Nodes(far))) => Self { near: NodeSet::EMPTY, far },
            _ if options.placement.is_some() => {
                return Err(Failure::Usage(
                    "--placement is for nodes of the kernel's: expected --near and --far with \
                     nodes, as in --near node0 --far node1"
                        .to_owned(),
                ));
            }
            _ => return Ok(None),
        };
        let pools = [
            ("--store", options.store.is_some()),
            ("--on-full", options.on_full.is_some()),
            ("--socket", options.socket.is_some()),
        ];
        match pools.into_iter().find(|(_, given)| *given) {
            Some((option, _)) => Err(Failure::Usage(format!(
                "{option} is for pools, but --near and --far name nodes of the kernel's; leave it \
                 out, or give sizes"
            ))),
            None => Ok(Some(nodes)),
        }
    }
}

pub fn run(options: &Run, nodes: Nodes) -> Result<ExitCode, Failure> {
    let root = Root::live();
    let allowed = allowed_nodes().map_err(|errno| {
        Failure::failed(format_args!(
            "this kernel knows no NUMA policies ({errno}); give sizes for a pool instead"
        ))
    })?;
    let plan = plan(&root, &nodes.near, &nodes.far, placement(options), &allowed)
        .map_err(|error| failure(&error))?;
    warn(&plan);
    let signals = signals::Forwarding::prepare()?;
    let watch = options.report.then(|| Watch::prepare(root));
    let started = |pid| watch.map(|watch| watch.begin(pid)).transpose();
    let (ended, seen) = child::run_with(&options.command, signals, started, |start| {
        under(&plan.policy, start).map_err(|errno| {
            Failure::failed(format_args!(
                "the kernel refuses the policy for the nodes {}: {errno}; nothing was started",
                plan.policy.nodes
            ))
        })?
    })?;
    if let Some(seen) = seen {
        seen.end().tell(&nodes.near, &nodes.far);
        tell_weights(&plan.weights);
    }
    Ok(ended.exit_code())
}

fn placement(options: &Run) -> Placement {
    match options.placement {
        None | Some(PlacementKind::NearFirst) => Placement::NearFirst,
        Some(PlacementKind::Interleave) => Placement::Interleave,
        Some(PlacementKind::Weighted) => Placement::Weighted,
        Some(PlacementKind::FarFirst) => Placement::FarFirst,
    }
}

fn failure(error: &PolicyError) -> Failure {
    match error {
        PolicyError::Machine(_) | PolicyError::Nodes(_) => Failure::Failed(chain(error)),
        _ => Failure::Usage(chain(error)),
    }
}

/// Says what is otherwise than one may think.
fn warn(plan: &Plan) {
    if !plan.without_memory.is_empty() {
        eprintln!(
            "memtide: these nodes have no memory yet: {}; they are used once they have some",
            plan.without_memory
        );
    }
    for nearer in &plan.nearer {
        eprintln!(
            "memtide: for the processors of {}, {} (distance {}) is no further than {} (distance \
             {}): the kernel may fill it first",
            nearer.from, nearer.far, nearer.far_distance, nearer.near, nearer.near_distance
        );
    }
}

fn tell_weights(weights: &BTreeMap<memtide_units::NodeId, u64>) {
    for (node, weight) in weights {
        eprintln!("memtide: {node} has weight {weight}");
    }
}
