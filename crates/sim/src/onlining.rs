//! Memory is plugged into a machine unit by unit, and onlined block by block: which zone gets it?

use memtide_engine::onlining::{
    AutoMovable, GroupKind, Memory, OnlinePolicy, OnlineType, OnlineZone,
};
use memtide_units::{ByteSize, FrameRange, NodeId, PAGE_BYTES, Pfn};
use serde::{Deserialize, Serialize};

use crate::{
    SimError,
    kind::{Job, Kind},
    outcome::{gib, heading},
    plot::{self, Line, Plot},
    scenario::{Wrong, length, size, total, whole},
};

/// The most memory that one machine may have.
pub const MEMORY_MAX: ByteSize = ByteSize(1 << 50);
/// Runs of zones that are told, at most.
pub const RUNS_MAX: usize = 12;

/// Memory is plugged into a machine, unit by unit.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Onlining {
    /// What the machine has at boot.
    #[serde(deserialize_with = "size")]
    pub early: ByteSize,
    /// What is plugged.
    #[serde(deserialize_with = "size")]
    pub plugged: ByteSize,
    /// The machines to compare.
    pub case: Vec<OnliningCase>,
}

/// One machine.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct OnliningCase {
    /// What plugs.
    pub device: Device,
    /// What is plugged at once: a DIMM, or a unit of virtio-mem.
    #[serde(deserialize_with = "size")]
    pub unit: ByteSize,
    /// A memory block of Linux, the unit of onlining.
    #[serde(deserialize_with = "size")]
    pub block: ByteSize,
    /// `auto_movable_ratio`.
    pub ratio: u32,
}

/// What plugs memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Device {
    /// One device that plugs units: one dynamic group.
    VirtioMem,
    /// A DIMM for each unit: a static group each.
    Dimm,
}

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

impl Kind for Onlining {
    type Row = OnliningRow;

    fn check(&self) -> Result<(), Wrong> {
        total(self.early, self.plugged, MEMORY_MAX)?;
        length("case", self.case.len())?;
        for (number, case) in self.case.iter().enumerate() {
            let OnliningCase { unit, block, .. } = case;
            let at = format!("case {}", number + 1);
            whole(&format!("{at}: plugged"), self.plugged, "units", *unit)?;
            whole(&format!("{at}: early"), self.early, "units", *unit)?;
            whole(&format!("{at}: unit"), *unit, "blocks", *block)?;
            if block.0 < 128 << 20 || !block.0.is_power_of_two() {
                return Err(format!(
                    "{at}: block {block}; expected a power of two, 128MiB or more"
                )
                .into());
            }
        }
        Ok(())
    }

    fn jobs(&self) -> usize {
        self.case.len()
    }

    fn run(&self, job: Job<'_>) -> Result<Vec<OnliningRow>, SimError> {
        Ok(vec![run_case(self, &self.case[job.number])?])
    }

    fn table(rows: &[OnliningRow]) -> Vec<Vec<String>> {
        let names = ["UNIT", "BLOCK", "RATIO", "MOVABLE GiB", "KERNEL GiB", "UNITS IN ORDER"];
        let rows = rows.iter().map(|row| {
            vec![
                ByteSize(row.unit_bytes).to_string(),
                ByteSize(row.block_bytes).to_string(),
                row.ratio.to_string(),
                gib(row.movable_bytes),
                gib(row.kernel_bytes),
                row.pattern.clone(),
            ]
        });
        std::iter::once(heading(&names)).chain(rows).collect()
    }

    fn plots(rows: &[OnliningRow]) -> Result<Vec<Plot>, SimError> {
        let axes = ["plugged, GiB", "movable, GiB"];
        let lines: Vec<Line> = rows.iter().map(line).collect();
        let svg = plot::draw("What is movable of what was plugged", axes, &lines)?;
        Ok(vec![Plot { name: "onlining".to_owned(), svg }])
    }
}

fn line(row: &OnliningRow) -> Line {
    let points =
        row.curve.iter().map(|&[plugged, movable]| (plot::gib(plugged), plot::gib(movable)));
    (format!("units of {}, ratio {}", ByteSize(row.unit_bytes), row.ratio), points.collect())
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
            OnlineZone::PreferMovable => 'P',
            OnlineZone::Exmem => 'X',
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
