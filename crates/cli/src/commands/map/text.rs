//! The map as text: ranges with what they lie in, windows, conflicts, differences.

use std::collections::{BTreeMap, BTreeSet};

use memtide_host::address_map::MachineMap;
use memtide_physmap::{
    kernel_map::{Difference, Rule},
    resource::{Kind, Resource},
    windows::{Fate, PlacedWindow},
};
use memtide_units::{ByteSize, PhysRange};

use crate::output;

pub fn text(map: &MachineMap) -> String {
    let parts = [ranges(map), windows(map), conflicts(map), differences(map), notes(map)];
    let there: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    there.join("\n")
}

/// What is memory or a window. Registers and buses would be hundreds of lines.
fn is_shown(resource: &Resource) -> bool {
    resource.kind != Kind::Device && !resource.name.starts_with("Kernel ")
}

fn ranges(map: &MachineMap) -> String {
    let whose = if map.kernel.is_some() { "the kernel's map" } else { "firmware's map" };
    let mut text = format!("{whose}, up to {} (devices left out)\n", map.top);
    let marks = Marks::of(map);
    let mut last_shown: Vec<usize> = Vec::new();
    for (depth, resource) in map.map().tree.resources() {
        // What lies in a device that is left out hangs below the next one around.
        while last_shown.last().is_some_and(|&above| above >= depth) {
            last_shown.pop();
        }
        if !is_shown(resource) {
            continue;
        }
        let indent = "  ".repeat(last_shown.len());
        let range = format!("{indent}{}", resource.range);
        let (size, marks) = (size(resource.range), marks.at(resource));
        text += &format!("{range:<44} {size:>9}  {}{marks}\n", resource.name);
        last_shown.push(depth);
    }
    text
}

/// What is to be said at a range.
struct Marks {
    /// Numbers of conflicts that name a range, by the range as it prints.
    conflicts: BTreeMap<String, Vec<usize>>,
    /// Ranges of the kernel's that are not as firmware says, with their names.
    differs: BTreeSet<(PhysRange, String)>,
}

impl Marks {
    fn of(map: &MachineMap) -> Self {
        let mut conflicts: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (index, conflict) in map.reconciled.conflicts.iter().enumerate() {
            let text = conflict.to_string();
            let words: BTreeSet<&str> =
                text.split([' ', '(', ')', ',', ';']).filter(|word| word.contains("-0x")).collect();
            for word in words {
                conflicts.entry(word.to_owned()).or_default().push(index + 1);
            }
        }
        let told = map.differences.iter().filter(|difference| is_told(difference));
        let kernels = told.filter_map(|difference| difference.kernel.as_ref());
        let differs = kernels.map(|resource| (resource.range, resource.name.clone())).collect();
        Self { conflicts, differs }
    }

    fn at(&self, resource: &Resource) -> String {
        let numbers = self.conflicts.get(&resource.range.to_string());
        let mut marks: String =
            numbers.into_iter().flatten().map(|number| format!("  ! conflict {number}")).collect();
        if self.differs.contains(&(resource.range, resource.name.clone())) {
            marks += "  ! not as firmware says";
        }
        marks
    }
}

fn windows(map: &MachineMap) -> String {
    let mut rows = vec![
        ["WINDOW", "DECODES", "SIZE", "WAYS", "HOST BRIDGES", "LARGEST GAP", "IN THE MAP"]
            .map(str::to_owned)
            .to_vec(),
    ];
    for window in &map.map().windows {
        let bridges: Vec<String> = window.window.targets.iter().map(u32::to_string).collect();
        rows.push(vec![
            window.name(),
            window.decoder.map_or_else(|| "-".to_owned(), |range| range.to_string()),
            ByteSize(window.window.size).to_string(),
            window.window.ways.map_or_else(|| "-".to_owned(), |ways| ways.to_string()),
            if bridges.is_empty() { "-".to_owned() } else { bridges.join(", ") },
            ByteSize(largest_gap(map, window)).to_string(),
            fate(window),
        ]);
    }
    if rows.len() == 1 { String::new() } else { output::table(&rows) }
}

/// The largest range of a window in which nothing is, not yet rounded to what a region must be.
pub fn largest_gap(map: &MachineMap, window: &PlacedWindow) -> u64 {
    let gaps = window
        .territory
        .iter()
        .flat_map(|part| map.map().tree.gaps(part.resource, part.range, &[]).unwrap_or_default());
    gaps.map(|gap| u64::try_from(gap.bytes()).unwrap_or(u64::MAX)).max().unwrap_or(0)
}

pub fn fate(window: &PlacedWindow) -> String {
    match &window.fate {
        Fate::Refused(error) => format!("left out: {error}"),
        Fate::Overlaps { other } => format!("left out: overlaps window {other} of the table"),
        Fate::Nested { within } => format!("inside window {within} of the table"),
        Fate::Deleted { by } => format!("window {by} of the table grew over it"),
        Fate::Unseen => "not in the kernel's map".to_owned(),
        Fate::Rejected(error) => format!("left out: {error}"),
        Fate::Placed { range, .. } => match window.decoder {
            Some(decodes) if *range == decodes => range.to_string(),
            Some(decodes) if range.contains(decodes) => format!("{range}, widened"),
            Some(_) => format!("{range}, trimmed"),
            None => range.to_string(),
        },
        _ => "-".to_owned(),
    }
}

fn conflicts(map: &MachineMap) -> String {
    let mut text = String::new();
    for (index, conflict) in map.reconciled.conflicts.iter().enumerate() {
        text += &format!("conflict {}: {conflict}\n", index + 1);
    }
    if map.reconciled.more_conflicts > 0 {
        text += &format!("and {} more conflicts\n", map.reconciled.more_conflicts);
    }
    text
}

/// Whether a difference is told by itself: what concerns memory and windows, and what no rule
/// explains. Of the others there are tens on any machine.
fn is_told(difference: &Difference) -> bool {
    !matches!(
        difference.rule,
        Rule::Driver
            | Rule::KernelImage
            | Rule::RamBuffer
            | Rule::FirstMib
            | Rule::Plugged
            | Rule::Provisioned
            | Rule::Nesting
    )
}

fn differences(map: &MachineMap) -> String {
    if map.kernel.is_none() {
        return String::new();
    }
    let mut text = String::new();
    let mut counted: BTreeMap<Rule, usize> = BTreeMap::new();
    for difference in &map.differences {
        if is_told(difference) {
            text += &format!("difference: {difference}\n");
        } else {
            *counted.entry(difference.rule).or_default() += 1;
        }
    }
    if text.is_empty() {
        text += "of memory and windows, the kernel's map is what firmware's tables come to\n";
    }
    for (rule, count) in counted {
        text += &format!("only in the kernel's map, {count}: {rule}\n");
    }
    text
}

fn notes(map: &MachineMap) -> String {
    map.notes.iter().map(|note| format!("note: {note}\n")).collect()
}

fn size(range: PhysRange) -> ByteSize {
    ByteSize(u64::try_from(range.bytes()).unwrap_or(u64::MAX))
}
