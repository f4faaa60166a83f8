//! `memtide online` and `memtide offline`.

use std::{collections::BTreeSet, path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};
use memtide_host::BlockId;
use memtide_units::{ByteSize, NodeId};

/// Blocks beyond this number no machine has: 2^52 bytes in blocks of 128 MiB are fewer.
const BLOCK_MAX: u64 = 1 << 26;

/// Take memory blocks online, each to a zone by a policy
///
/// memtide works out the zone of each block itself, by the kernel's own rules, and tells the
/// kernel; without --zone and --policy by the policy that the kernel is set up for. All that was
/// asked for goes online, or nothing.
#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("which").required(true).multiple(true)))]
pub struct Online {
    /// Which blocks: 32-40,44 or memory32
    #[arg(value_name = "BLOCKS", value_parser = blocks, group = "which",
          conflicts_with_all = ["node", "size"])]
    pub blocks: Option<Blocks>,
    /// All blocks of this node; with --size, so much of it
    #[arg(long, value_name = "NODE", value_parser = node, group = "which")]
    pub node: Option<NodeId>,
    /// So much, from the lowest address up; rounded up to whole blocks
    #[arg(long, value_name = "SIZE", group = "which")]
    pub size: Option<ByteSize>,
    #[command(flatten)]
    pub how: OnlineHow,
    #[command(flatten)]
    pub change: Change,
}

/// Where blocks go.
#[derive(Debug, Args)]
pub struct OnlineHow {
    /// All to this zone. Only what is in zone movable can leave again with some certainty
    #[arg(long, value_enum, conflicts_with = "policy")]
    pub zone: Option<ZoneKind>,
    /// Each as this policy says [default: as the kernel is set up]
    #[arg(long, value_enum)]
    pub policy: Option<PolicyKind>,
    /// Of auto-movable: movable memory in percent of what is there since boot [default: as the
    /// kernel is set up, 301]
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u32).range(0..=100_000))]
    pub ratio: Option<u32>,
    /// Of auto-movable: whether the ratio must hold on each node too [default: as the kernel is
    /// set up]
    #[arg(long, value_enum, value_name = "SCOPE")]
    pub ratio_on: Option<RatioScope>,
}

/// Take memory blocks offline, all that were asked for or none
///
/// What lies in them is moved elsewhere. To get as much as can be had, rather than certain blocks,
/// use memtide give-back.
#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("which").required(true)))]
pub struct Offline {
    /// Which blocks: 32-40,44 or memory32
    #[arg(value_name = "BLOCKS", value_parser = blocks, group = "which")]
    pub blocks: Option<Blocks>,
    /// All blocks of this node
    #[arg(long, value_name = "NODE", value_parser = node, group = "which")]
    pub node: Option<NodeId>,
    /// How long to try each block: 500ms, 30s, 2m
    #[arg(long, value_name = "TIME", default_value = "30s",
          value_parser = memtide_daemon::duration::parse)]
    pub deadline: Duration,
    #[command(flatten)]
    pub change: Change,
}

/// What all commands have that change this machine.
#[derive(Debug, Args)]
pub struct Change {
    /// Print every write as a shell would make it, and make none
    #[arg(long)]
    pub dry_run: bool,
    /// Plan for the machine whose files are in this folder, or in this file of `memtide capture`.
    /// Needs --dry-run
    #[arg(long, value_name = "DIR|FILE", default_value = "/",
          value_hint = clap::ValueHint::AnyPath)]
    pub root: PathBuf,
    /// Print JSON; sizes are bytes
    #[arg(long)]
    pub json: bool,
}

/// Blocks by number.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Blocks(pub BTreeSet<BlockId>);

/// A zone to online to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum ZoneKind {
    /// Only for what can be moved away again
    Movable,
    /// Also for the kernel's own data; it may never leave again
    Kernel,
}

/// How the kernel decides.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum PolicyKind {
    /// As much movable as the ratio bears
    AutoMovable,
    /// The zone that is there already, else kernel
    ContigZones,
}

/// Where the ratio must hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum RatioScope {
    /// On the machine as a whole
    Machine,
    /// On the machine and on the node
    Node,
}

/// `node1`, or `1`.
pub fn node(text: &str) -> Result<NodeId, String> {
    let digits = text.strip_prefix("node").unwrap_or(text);
    let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
    digits
        .parse()
        .ok()
        .filter(|_| is_number)
        .map(NodeId)
        .ok_or_else(|| "expected a node such as node1 or 1".to_owned())
}

/// `32-40,44`, each also with `memory` before it.
fn blocks(text: &str) -> Result<Blocks, String> {
    let expected = || format!("expected blocks such as 32-40,44 or memory32, up to {BLOCK_MAX}");
    let number = |text: &str| {
        let digits = text.strip_prefix("memory").unwrap_or(text);
        let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
        digits.parse::<u64>().ok().filter(|&number| is_number && number <= BLOCK_MAX)
    };
    let mut all = BTreeSet::new();
    for run in text.split(',') {
        let (first, last) = run.split_once('-').unwrap_or((run, run));
        let (first, last) = number(first).zip(number(last)).ok_or_else(expected)?;
        if last < first {
            return Err(expected());
        }
        all.extend((first..=last).map(BlockId));
    }
    Ok(Blocks(all))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_numbers_and_runs() {
        let all = |text| blocks(text).map(|blocks| blocks.0.into_iter().map(|it| it.0).collect());
        assert_eq!(all("32-34,memory40,33"), Ok::<Vec<u64>, String>(vec![32, 33, 34, 40]));
        for text in ["", "x", "5-3", "-1", "+1", "1,,2", "memory", "0-99999999999", "67108865"] {
            assert!(all(text).is_err(), "{text}");
        }
    }

    #[test]
    fn nodes_have_numbers() {
        assert_eq!(node("node3"), Ok(NodeId(3)));
        assert_eq!(node("0"), Ok(NodeId(0)));
        for text in ["", "node", "near", "-1", "+1", "65536", "node 1"] {
            assert!(node(text).is_err(), "{text}");
        }
    }
}
