//! A fabric hands out memory, and asks it back: what comes, at once and later, and who holds the
//! rest?
//!
//! Each case is a fabric of its own ([`crate::fabric`]), with the same programs on the first host.

use core::time::Duration;

use memtide_engine::dynamic_capacity::Splitting;
use memtide_units::{ByteSize, PAGEBLOCK_BYTES};
use serde::{Deserialize, Serialize};

use crate::{
    SimError,
    fabric::{self, CHAIN_MAX, Fault, Plan, RECORDS_MAX, Seen, Tags},
    kind::{Job, Kind},
    outcome::{gib, heading},
    plot::{self, Line, Plot},
    scenario::{Wrong, length, size, whole},
};

/// The most memory that a fabric and a host may have.
pub const MEMORY_MAX: ByteSize = ByteSize(1 << 42);
/// The most programs.
pub const PROGRAMS_MAX: u64 = 64;
/// The longest that memory is pinned, in seconds.
pub const PINS_END_MAX: u64 = 86_400;
/// Holders that a row names, at most.
const HOLDERS_MAX: usize = 8;

/// Memory comes from a fabric, is used, and asked back.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct DynamicCapacity {
    /// What the host has of its own.
    #[serde(deserialize_with = "size")]
    pub near: ByteSize,
    /// What the device has, for all hosts.
    #[serde(deserialize_with = "size")]
    pub capacity: ByteSize,
    /// What the host is given, and asked for.
    #[serde(deserialize_with = "size")]
    pub granted: ByteSize,
    /// Programs of the host.
    pub programs: u64,
    /// Percent of what is granted that they use.
    pub used_percent: u64,
    /// What of that they have pinned.
    #[serde(deserialize_with = "size")]
    pub pinned: ByteSize,
    /// The last of them stops pinning so many seconds after memory was asked back.
    pub pins_end_s: u64,
    /// What is copied, or zeroed, in a second.
    #[serde(deserialize_with = "size")]
    pub copied_a_second: ByteSize,
    /// The fabrics to compare.
    pub case: Vec<FabricCase>,
}

/// One fabric.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct FabricCase {
    /// An extent.
    #[serde(deserialize_with = "size")]
    pub extent: ByteSize,
    /// How extents are tagged.
    pub tags: Tags,
    /// What the device takes back of an allocation.
    pub takes_back: TakesBack,
    /// Pinned memory lies in runs of so much, anywhere.
    #[serde(deserialize_with = "size")]
    pub pinned_run: ByteSize,
    /// What goes wrong before memory is asked back, in this order.
    #[serde(default)]
    pub faults: Vec<Fault>,
}

/// What a device takes back of an allocation.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum TakesBack {
    /// All of it.
    Groups,
    /// Any of its extents.
    Extents,
    /// Any blocks of them.
    Blocks,
}

/// Who holds what could not leave at first.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct HolderRow {
    /// The program.
    pub name: String,
    /// Its process number.
    pub pid: u32,
    /// How much.
    pub bytes: u64,
    /// Why, as the glossary has it.
    pub reason: &'static str,
}

/// What came of one fabric. `first + remaining = asked`, and at the end
/// `returned + kept = asked`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct FabricRow {
    /// An extent.
    pub extent_bytes: u64,
    /// How extents are tagged.
    pub tags: Tags,
    /// What the device takes back.
    pub takes_back: TakesBack,
    /// A run of pinned memory.
    pub pinned_run_bytes: u64,
    /// Asked for.
    pub asked_bytes: u64,
    /// What the first answer gave.
    pub first_bytes: u64,
    /// How long it took, in microseconds.
    pub first_us: u64,
    /// What it did not give.
    pub remaining_bytes: u64,
    /// Who held that: the largest.
    pub holders: Vec<HolderRow>,
    /// Whether the first answer says to ask again.
    pub ask_again: bool,
    /// What came in the end.
    pub returned_bytes: u64,
    /// What the host still has then.
    pub kept_bytes: u64,
    /// When the last of it came, in microseconds.
    pub last_us: u64,
    /// Answers in all: the first, and one for each time the host tried again.
    pub answers: u64,
    /// What was copied.
    pub moved_bytes: u64,
    /// What programs lost.
    pub lost_bytes: u64,
    /// Extents that the host refused.
    pub refused: u64,
    /// Extents that it had, was offered again, and accepted again.
    pub again: u64,
    /// What another host has of it in the end.
    pub handed_on_bytes: u64,
    /// `[microseconds, bytes]` that have come back.
    pub curve: Vec<[u64; 2]>,
}

impl TakesBack {
    const fn splitting(self) -> Splitting {
        match self {
            Self::Groups => Splitting::Group,
            Self::Extents => Splitting::Extent,
            Self::Blocks => Splitting::Block,
        }
    }

    /// Its name in tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Groups => "groups",
            Self::Extents => "extents",
            Self::Blocks => "blocks",
        }
    }
}

impl Tags {
    /// Its name in tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Shared => "shared",
            Self::Each => "each",
            Self::None => "none",
        }
    }
}

impl Kind for DynamicCapacity {
    type Row = FabricRow;

    fn check(&self) -> Result<(), Wrong> {
        let Self { near, capacity, granted, programs, used_percent, pinned, .. } = self;
        for (name, size) in [
            ("near", near),
            ("capacity", capacity),
            ("granted", granted),
            ("pinned", pinned),
            ("copied-a-second", &self.copied_a_second),
        ] {
            if size.0 == 0 || size.0 > MEMORY_MAX.0 {
                return Err(
                    format!("{name} {size}; expected more than 0, {MEMORY_MAX} at most").into()
                );
            }
            whole(name, *size, "pageblocks", ByteSize(PAGEBLOCK_BYTES))?;
        }
        if granted > capacity {
            return Err(format!("granted {granted}; expected capacity, {capacity}, at most").into());
        }
        if !(1..=PROGRAMS_MAX).contains(programs) {
            return Err(format!("programs {programs}; expected 1 to {PROGRAMS_MAX}").into());
        }
        if *used_percent > 100 {
            return Err(format!("used-percent {used_percent}; expected 100 at most").into());
        }
        let used = granted.0 / 100 * used_percent;
        if pinned.0 > used {
            let used = ByteSize(used);
            return Err(format!("pinned {pinned}; expected what is used, {used}, at most").into());
        }
        if self.pins_end_s > PINS_END_MAX {
            let seconds = self.pins_end_s;
            return Err(format!("pins-end-s {seconds}; expected {PINS_END_MAX} at most").into());
        }
        length("case", self.case.len())?;
        for (number, case) in self.case.iter().enumerate() {
            self.check_case(&format!("case {}", number + 1), case)?;
        }
        Ok(())
    }

    fn jobs(&self) -> usize {
        self.case.len()
    }

    fn run(&self, job: Job<'_>) -> Result<Vec<FabricRow>, SimError> {
        let case = &self.case[job.number];
        let seen = fabric::run(&self.plan(case), job.seed, job.told)?;
        Ok(vec![row(case, seen)])
    }

    fn table(rows: &[FabricRow]) -> Vec<Vec<String>> {
        let names = [
            "EXTENT",
            "TAGS",
            "TAKES BACK",
            "PINNED IN",
            "ASKED GiB",
            "AT ONCE GiB",
            "ms",
            "AGAIN FOR GiB",
            "HELD BY",
            "IN THE END GiB",
            "s",
            "LOST GiB",
            "HANDED ON GiB",
        ];
        let rows = rows.iter().map(|row| {
            vec![
                ByteSize(row.extent_bytes).to_string(),
                row.tags.name().to_owned(),
                row.takes_back.name().to_owned(),
                ByteSize(row.pinned_run_bytes).to_string(),
                gib(row.asked_bytes),
                gib(row.first_bytes),
                (row.first_us / 1000).to_string(),
                gib(row.remaining_bytes),
                held_by(&row.holders),
                gib(row.returned_bytes),
                (row.last_us / 1_000_000).to_string(),
                gib(row.lost_bytes),
                gib(row.handed_on_bytes),
            ]
        });
        std::iter::once(heading(&names)).chain(rows).collect()
    }

    fn plots(rows: &[FabricRow]) -> Result<Vec<Plot>, SimError> {
        let axes = ["s after it was asked back", "came back, GiB"];
        let lines: Vec<Line> = rows.iter().map(line).collect();
        let svg = plot::draw("What came back, and when", axes, &lines)?;
        Ok(vec![Plot { name: "dynamic-capacity".to_owned(), svg }])
    }
}

impl DynamicCapacity {
    fn check_case(&self, at: &str, case: &FabricCase) -> Result<(), String> {
        let FabricCase { extent, tags, takes_back, pinned_run, .. } = case;
        for (name, size) in [("extent", extent), ("pinned-run", pinned_run)] {
            if !size.0.is_power_of_two() || size.0 < PAGEBLOCK_BYTES {
                return Err(format!("{at}: {name} {size}; expected a power of two, 2MiB or more"));
            }
        }
        whole(&format!("{at}: granted"), self.granted, "extents", *extent)?;
        whole(&format!("{at}: capacity"), self.capacity, "extents", *extent)?;
        whole(&format!("{at}: granted"), self.granted, "runs", *pinned_run)?;
        whole(&format!("{at}: pinned"), self.pinned, "runs", *pinned_run)?;
        let extents = self.granted.0 / extent.0;
        // They are all asked back at once, with a record for each.
        let hosts_have = memtide_engine::dynamic_capacity::Limits::default().extents_max as u64;
        let hosts_have = hosts_have.min(RECORDS_MAX.into());
        if extents > hosts_have {
            return Err(format!("{at}: {extents} extents; expected {hosts_have} at most"));
        }
        if *tags == Tags::Shared && *takes_back == TakesBack::Groups && extents > CHAIN_MAX as u64 {
            return Err(format!(
                "{at}: {extents} extents share a tag; a chain has {CHAIN_MAX} at most"
            ));
        }
        Ok(())
    }

    fn plan(&self, case: &FabricCase) -> Plan {
        Plan {
            near: self.near.0,
            capacity: self.capacity.0,
            granted: self.granted.0,
            extent: case.extent.0,
            tags: case.tags,
            splitting: case.takes_back.splitting(),
            programs: self.programs,
            used_percent: self.used_percent,
            pinned: self.pinned.0,
            run: case.pinned_run.0,
            pins_end: Duration::from_secs(self.pins_end_s),
            bandwidth: self.copied_a_second.0,
            faults: case.faults.clone(),
        }
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn row(case: &FabricCase, seen: Seen) -> FabricRow {
    let first = seen.answers.first();
    let holders = first.map(|(_, answer)| answer.holders.as_slice()).unwrap_or_default();
    let holders = holders.iter().take(HOLDERS_MAX).map(|holder| HolderRow {
        name: holder.name.clone(),
        pid: holder.pid,
        bytes: holder.bytes.0,
        reason: holder.reason.code(),
    });
    let mut back = 0;
    let curve = seen.returned.iter().map(|&(at, bytes)| {
        back += bytes;
        [micros(at), back]
    });
    let curve: Vec<[u64; 2]> = std::iter::once([0, 0]).chain(curve).collect();
    FabricRow {
        extent_bytes: case.extent.0,
        tags: case.tags,
        takes_back: case.takes_back,
        pinned_run_bytes: case.pinned_run.0,
        asked_bytes: seen.asked,
        first_bytes: first.map_or(0, |(_, answer)| answer.released.0),
        first_us: first.map_or(0, |&(at, _)| micros(at)),
        remaining_bytes: first.map_or(0, |(_, answer)| answer.remaining.0),
        holders: holders.collect(),
        ask_again: first.is_some_and(|(_, answer)| answer.ask_again),
        returned_bytes: back,
        kept_bytes: seen.kept,
        last_us: curve.last().map_or(0, |&[at, _]| at),
        answers: seen.answers.len() as u64,
        moved_bytes: seen.moved,
        lost_bytes: seen.lost,
        refused: seen.refused,
        again: seen.again,
        handed_on_bytes: seen.handed_on,
        curve,
    }
}

fn held_by(holders: &[HolderRow]) -> String {
    let held = |holder: &HolderRow| {
        format!("{} {} ({})", holder.name, ByteSize(holder.bytes), holder.reason)
    };
    holders.iter().map(held).collect::<Vec<_>>().join(", ")
}

fn line(row: &FabricRow) -> Line {
    let name = format!(
        "extents of {}, tags {}, takes back {}, pinned in {}",
        ByteSize(row.extent_bytes),
        row.tags.name(),
        row.takes_back.name(),
        ByteSize(row.pinned_run_bytes),
    );
    // Steps: what has come back stays so until more does.
    let mut points: Vec<(f64, f64)> = Vec::new();
    for &[at, bytes] in &row.curve {
        let before = points.last().map_or(0.0, |point| point.1);
        points.push((at as f64 / 1e6, before));
        points.push((at as f64 / 1e6, plot::gib(bytes)));
    }
    (name, points)
}
