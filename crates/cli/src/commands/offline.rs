//! `memtide offline`.

use std::process::ExitCode;

use memtide_host::{
    memory_blocks,
    offline::{self, OfflinePlan, Which},
};
use memtide_units::ByteSize;
use serde::Serialize;

use super::{change, online};
use crate::{arguments::Offline, failure::Failure};

/// What is told in JSON.
#[derive(Serialize)]
struct Told {
    offline: Vec<ToldBlock>,
    already: Vec<u64>,
}

#[derive(Serialize)]
struct ToldBlock {
    block: u64,
    bytes: ByteSize,
    zone: Option<&'static str>,
}

pub fn offline(options: &Offline) -> Result<ExitCode, Failure> {
    let machine = change::machine(&options.change)?;
    let root = machine.root();
    let which = match (&options.blocks, options.node) {
        (Some(blocks), _) => Which::Blocks(blocks.0.clone()),
        (None, Some(node)) => Which::Node(node),
        (None, None) => return Err(Failure::Usage("BLOCKS or --node?".to_owned())),
    };
    let planned =
        offline::plan(root, &which, options.deadline).map_err(|error| change::no_plan(&error))?;
    let of = |&(block, zone): &(memtide_host::BlockId, Option<memtide_host::Zone>)| ToldBlock {
        block: block.0,
        bytes: planned.block_bytes,
        zone: zone.map(memtide_host::Zone::name),
    };
    let told = Told {
        offline: planned.leaving.iter().map(of).collect(),
        already: planned.already.iter().map(|block| block.0).collect(),
    };
    let text = text(&planned);
    let told = (&told, text.as_str());
    let why = |error: &_| online::why(root, error);
    change::carry_out(root, &options.change, &planned.plan, told, why)?;
    Ok(ExitCode::SUCCESS)
}

fn text(planned: &OfflinePlan) -> String {
    let bytes = |count: usize| ByteSize((count as u64).saturating_mul(planned.block_bytes.0));
    let mut text = String::new();
    if !planned.leaving.is_empty() {
        let list = memory_blocks::list(planned.leaving.iter().map(|(block, _)| *block));
        text += &format!("{} offline: blocks {list}\n", bytes(planned.leaving.len()));
    }
    if !planned.already.is_empty() {
        let list = memory_blocks::list(planned.already.iter().copied());
        text += &format!("{} were offline already: blocks {list}\n", bytes(planned.already.len()));
    }
    text
}
