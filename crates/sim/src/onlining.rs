//! Memory is plugged into a machine unit by unit, and onlined block by block: which zone gets it?

use memtide_engine::onlining::{
    AutoMovable, GroupKind, Memory, OnlinePolicy, OnlineType, OnlineZone,
};
use memtide_units::{ByteSize, FrameRange, NodeId, PAGE_BYTES, Pfn};
use serde::Serialize;

use crate::{
    SimError,
    scenario::{Device, Onlining, OnliningCase},
};

/// Runs of zones that are told, at most.
pub const RUNS_MAX: usize = 12;

/// What one machine made of it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct OnliningRow {
    /// What plugged.
    pub device: Device,
    /// A unit.
    pub unit_bytes: u64,
    /// A block.
    pub block_bytes: u64,
    /// `auto_movable_ratio`.
    pub ratio: u32,
    /// What went to ZONE_MOVABLE.
    pub movable_bytes: u64,
    /// What went to a kernel zone.
    pub kernel_bytes: u64,
    /// The first units: how many in a row, and their zone: `96M 1K 3M …`.
    pub pattern: String,
    /// `[plugged, movable]` bytes, 128 points at most.
    pub curve: Vec<[u64; 2]>,
}

/// All machines of a scenario.
///
/// # Errors
/// [`SimError`] when the rules refuse what is plugged.
pub fn run(what: &Onlining) -> Result<Vec<OnliningRow>, SimError> {
    what.case.iter().map(|case| run_case(what, case)).collect()
}

const fn pages(size: ByteSize) -> u64 {
    size.0 / PAGE_BYTES
}

fn run_case(what: &Onlining, case: &OnliningCase) -> Result<OnliningRow, SimError> {
    let node = NodeId(0);
    let knobs = AutoMovable { ratio: case.ratio, ..AutoMovable::default() };
    let policy = OnlinePolicy::AutoMovable(knobs);
    let (early, unit, block) = (pages(what.early), pages(case.unit), pages(case.block));
    let mut memory = Memory::new();
    memory.boot(node, FrameRange::new(Pfn(0), early), 0)?;
    let device = match case.device {
        Device::VirtioMem => Some(memory.add_group(node, GroupKind::Dynamic { unit_pages: unit })?),
        Device::Dimm => None,
    };
    let units = pages(what.plugged) / unit;
    let mut pattern = Pattern::default();
    let mut curve = vec![[0, 0]];
    for number in 0..units {
        let first = early + number * unit;
        let group = match device {
            Some(group) => group,
            None => memory.add_group(node, GroupKind::Static { max_pages: unit })?,
        };
        for at in (first..first + unit).step_by(block as usize) {
            let range = FrameRange::new(Pfn(at), block);
            let zone = memory.online(policy, OnlineType::Online, node, Some(group), range)?;
            if at == first {
                pattern.add(zone);
            }
        }
        if (number + 1).is_multiple_of(units.div_ceil(128)) || number + 1 == units {
            let movable = memory.plugged(OnlineZone::Movable);
            curve.push([(number + 1) * unit * PAGE_BYTES, movable * PAGE_BYTES]);
        }
    }
    Ok(OnliningRow {
        device: case.device,
        unit_bytes: case.unit.0,
        block_bytes: case.block.0,
        ratio: case.ratio,
        movable_bytes: memory.plugged(OnlineZone::Movable) * PAGE_BYTES,
        kernel_bytes: memory.plugged(OnlineZone::Kernel) * PAGE_BYTES,
        pattern: pattern.text(),
        curve,
    })
}

/// The zones of units, those in a row together.
#[derive(Default)]
struct Pattern(Vec<(OnlineZone, u64)>);

impl Pattern {
    fn add(&mut self, zone: OnlineZone) {
        match self.0.last_mut() {
            Some((last, count)) if *last == zone => *count += 1,
            _ => self.0.push((zone, 1)),
        }
    }

    fn text(&self) -> String {
        let letter = |zone| match zone {
            OnlineZone::Kernel => 'K',
            OnlineZone::Movable => 'M',
        };
        let runs = self.0.iter().take(RUNS_MAX);
        let mut text: Vec<String> =
            runs.map(|&(zone, count)| format!("{count}{}", letter(zone))).collect();
        if self.0.len() > RUNS_MAX {
            text.push("…".to_owned());
        }
        text.join(" ")
    }
}
