//! `memtide online`.

use std::{collections::BTreeSet, process::ExitCode};

use memtide_engine::onlining::{AutoMovable, NumaAware, OnlinePolicy, OnlineZone};
use memtide_host::{
    BlockId, MemoryBlocks, Root, Zone, memory_blocks,
    online::{self, BlockRefusal, How, OnlinePlan, OnlineWish, Placed, Which, policy},
    plan::{Action, StepError},
};
use memtide_units::ByteSize;
use serde::Serialize;

use super::change;
use crate::{
    arguments::{Online, OnlineHow, PolicyKind, RatioScope, ZoneKind},
    failure::{self, Failure},
};

/// What is told in JSON.
#[derive(Serialize)]
struct Told {
    how: String,
    online: Vec<ToldBlock>,
    already: Vec<ToldAlready>,
}

/// A block that goes online.
#[derive(Serialize)]
pub struct ToldBlock {
    block: u64,
    node: Option<u16>,
    bytes: ByteSize,
    zone: &'static str,
    kernel_says: Option<&'static str>,
}

#[derive(Serialize)]
struct ToldAlready {
    block: u64,
    zone: Option<&'static str>,
}

pub fn online(options: &Online) -> Result<ExitCode, Failure> {
    let machine = change::machine(&options.change)?;
    let root = machine.root();
    let which = match (&options.blocks, options.size, options.node) {
        (Some(blocks), _, _) => Which::Blocks(blocks.0.clone()),
        (None, Some(bytes), node) => Which::Size { bytes, node },
        (None, None, Some(node)) => Which::Node(node),
        (None, None, None) => return Err(Failure::Usage("BLOCKS, --node or --size?".to_owned())),
    };
    let how = how(root, &options.how)?;
    let planned =
        online::plan(root, &OnlineWish { which, how }).map_err(|error| change::no_plan(&error))?;
    let told = Told {
        how: how.to_string(),
        online: blocks(&planned.placed, planned.block_bytes),
        already: planned
            .already
            .iter()
            .map(|(block, zone)| ToldAlready { block: block.0, zone: zone.map(|it| it.name()) })
            .collect(),
    };
    let text = text(&planned, how);
    let told = (&told, text.as_str());
    change::carry_out(root, &options.change, &planned.plan, told, |error| why(root, error))?;
    Ok(ExitCode::SUCCESS)
}

/// What the command line says, and for the rest what the kernel is set up for.
pub fn how(root: &Root, options: &OnlineHow) -> Result<How, Failure> {
    let failed = |error: memtide_host::ReadError| Failure::Failed(failure::chain(&error));
    let of_kernel = || policy::of_kernel(root).map_err(failed);
    let policy = match (options.zone, options.policy) {
        (Some(ZoneKind::Movable), _) => return of_zone(options, How::Movable),
        (Some(ZoneKind::Kernel), _) => return of_zone(options, How::Kernel),
        (None, Some(PolicyKind::ContigZones)) => policy::contig_zones(root).map_err(failed)?,
        (None, Some(PolicyKind::AutoMovable)) => {
            OnlinePolicy::AutoMovable(policy::auto_movable(root).map_err(failed)?)
        }
        (None, None) => of_kernel()?,
    };
    match policy {
        OnlinePolicy::AutoMovable(knobs) => {
            let numa_aware = match options.ratio_on {
                None => knobs.numa_aware,
                Some(RatioScope::Machine) => NumaAware::Machine,
                Some(RatioScope::Node) => NumaAware::MachineAndNode,
            };
            let ratio = options.ratio.unwrap_or(knobs.ratio);
            Ok(How::Policy(OnlinePolicy::AutoMovable(AutoMovable { ratio, numa_aware })))
        }
        policy => of_zone(options, How::Policy(policy)),
    }
}

/// Without auto-movable a ratio means nothing.
fn of_zone(options: &OnlineHow, how: How) -> Result<How, Failure> {
    if options.ratio.is_none() && options.ratio_on.is_none() {
        return Ok(how);
    }
    Err(Failure::Usage(format!(
        "--ratio and --ratio-on: expected the policy auto-movable with them, not {how}"
    )))
}

pub fn blocks(placed: &[Placed], bytes: ByteSize) -> Vec<ToldBlock> {
    let told = |placed: &Placed| ToldBlock {
        block: placed.block.0,
        node: placed.node.map(|node| node.0),
        bytes,
        zone: name(placed.zone),
        kernel_says: placed.kernel_says.map(|zone| zone.name()),
    };
    placed.iter().map(told).collect()
}

pub const fn name(zone: OnlineZone) -> &'static str {
    zone.name()
}

fn text(planned: &OnlinePlan, how: How) -> String {
    let mut text = String::new();
    let bytes = |count: usize| ByteSize((count as u64).saturating_mul(planned.block_bytes.0));
    for zone in [OnlineZone::Movable, OnlineZone::Kernel] {
        let of_zone = planned.placed.iter().filter(|placed| placed.zone == zone);
        let ids: Vec<BlockId> = of_zone.map(|placed| placed.block).collect();
        if !ids.is_empty() {
            let (size, name) = (bytes(ids.len()), name(zone));
            let list = memory_blocks::list(ids);
            text += &format!("{size} online in zone {name} ({how}): blocks {list}\n");
        }
    }
    let zones: BTreeSet<Option<Zone>> = planned.already.iter().map(|(_, zone)| *zone).collect();
    for zone in zones {
        let of_zone = planned.already.iter().filter(|(_, of)| *of == zone);
        let ids: Vec<BlockId> = of_zone.map(|(block, _)| *block).collect();
        let (size, name) = (bytes(ids.len()), zone.map_or("unknown", Zone::name));
        let list = memory_blocks::list(ids);
        text += &format!("{size} were online already, in zone {name}");
        if !how.allows(zone) {
            text += &format!(", not as asked for ({how}); take them offline first");
        }
        text += &format!(": blocks {list}\n");
    }
    if text.is_empty() { "nothing to do\n".to_owned() } else { text }
}

/// What the answer to a write to a block's state means.
pub fn why(root: &Root, error: &StepError) -> BlockRefusal {
    let file = match &error.action {
        Action::Write { file, .. } | Action::WaitFor { file, .. } => file.as_str(),
        Action::Bind { .. } | Action::Unbind { .. } => "",
    };
    let number = file.split('/').find_map(|part| part.strip_prefix("memory")?.parse().ok());
    let block = BlockId(number.unwrap_or(0));
    let zone = MemoryBlocks::read(root).ok().flatten();
    let zone = zone.and_then(|blocks| blocks.blocks.get(&block)?.zone());
    BlockRefusal::of(block, zone, &error.source)
}
