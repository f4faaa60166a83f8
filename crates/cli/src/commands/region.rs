//! `memtide region`.

use std::process::ExitCode;

use memtide_host::{
    BlockId, MemoryBlocks, Root, dax, memory_blocks,
    plan::StepError,
    region::{RegionRefusal, RegionWish, create, destroy},
};
use memtide_units::ByteSize;
use serde::Serialize;

use super::change;
use crate::{
    arguments::{RegionCreate, RegionDestroy, RegionMode, RegionWhat},
    failure::Failure,
    output,
};

/// What is told of a region that is made.
#[derive(Serialize)]
struct Made {
    region: String,
    window: String,
    start: u64,
    size: ByteSize,
    granularity: u32,
    targets: Vec<Target>,
}

#[derive(Serialize)]
struct Target {
    device: String,
    decoder: String,
}

/// What is told of a region that is unmade.
#[derive(Serialize)]
struct Unmade {
    region: String,
    window: String,
    size: ByteSize,
}

pub fn region(what: &RegionWhat) -> Result<ExitCode, Failure> {
    match what {
        RegionWhat::Create(options) => create(options),
        RegionWhat::Destroy(options) => destroy(options),
    }
}

fn create(options: &RegionCreate) -> Result<ExitCode, Failure> {
    let RegionMode::Ram = options.mode;
    let machine = change::machine(&options.change)?;
    let root = machine.root();
    let wish = RegionWish {
        window: options.window.clone(),
        devices: options.devices.clone(),
        size: options.size,
        granularity: options.granularity,
        ways: options.ways,
    };
    let created = create::plan(root, &wish).map_err(|error| change::no_plan(&error))?;
    let names: Vec<&str> = created.targets.iter().map(|(device, _)| device.as_str()).collect();
    let text = format!(
        "{}: {} at {} in {} over {}, {} bytes each in turn\n",
        created.region,
        created.size,
        created.range.start(),
        created.window,
        names.join(", "),
        created.granularity
    );
    let of = |(device, decoder): &(String, String)| Target {
        device: device.clone(),
        decoder: decoder.clone(),
    };
    let told = Made {
        region: created.region.clone(),
        window: created.window.clone(),
        start: created.range.start().0,
        size: created.size,
        granularity: created.granularity,
        targets: created.targets.iter().map(of).collect(),
    };
    let told = (&told, text.as_str());
    change::carry_out(root, &options.change, &created.plan, told, why(root))?;
    if !options.change.dry_run && !options.change.json {
        output::text(&what_next(root, &created.region))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn destroy(options: &RegionDestroy) -> Result<ExitCode, Failure> {
    let machine = change::machine(&options.change)?;
    let root = machine.root();
    let destroyed =
        destroy::plan(root, &options.region).map_err(|error| change::no_plan(&error))?;
    let text = format!(
        "{}: gone; {} of {} are free again\n",
        destroyed.region, destroyed.size, destroyed.window
    );
    let told = Unmade {
        region: destroyed.region.clone(),
        window: destroyed.window.clone(),
        size: destroyed.size,
    };
    let told = (&told, text.as_str());
    change::carry_out(root, &options.change, &destroyed.plan, told, why(root))?;
    Ok(ExitCode::SUCCESS)
}

fn why(root: &Root) -> impl Fn(&StepError) -> RegionRefusal {
    |error| RegionRefusal::of_step(root, error)
}

/// What has become of the region's memory, and how to use it. Nothing where that cannot be read:
/// the region is there all the same.
fn what_next(root: &Root, region: &str) -> String {
    let devices = dax::read(root).unwrap_or_default();
    let Some(device) = devices.iter().find(|it| it.parent.as_deref() == Some(region)) else {
        return String::new();
    };
    let Some(mode) = device.mode else {
        return format!("{}: memtide dax mode {0} system-ram|devdax\n", device.name);
    };
    let blocks = MemoryBlocks::read(root).ok().flatten();
    let of_device = blocks.iter().flat_map(|blocks| {
        device.ranges.iter().flat_map(|&range| blocks.within(range).map(|block| block.id))
    });
    let ids: Vec<BlockId> = of_device.collect();
    if ids.is_empty() {
        return format!("{}: {mode}\n", device.name);
    }
    let node = device.target_node.map(|node| format!(" of {node}")).unwrap_or_default();
    let list = memory_blocks::list(ids);
    format!("{}: {mode}, blocks {list}{node}\n", device.name)
}
