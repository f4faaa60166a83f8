//! Firmware's map of memory, made free of contradictions.
//!
//! Entries may overlap, and then the kinds decide: the one with the higher e820 number wins, as in
//! Linux (`e820__update_table`): what is reserved is no memory even where another entry says so.
//! Then what touches and is of one kind is one range.

use alloc::{collections::BTreeMap, vec::Vec};

use memtide_units::{PhysAddr, PhysRange};

use super::{
    FirmwareRange,
    conflict::{Conflict, Conflicts, Party, Source},
};
use crate::{ranges, resource::Kind};

/// How strong a kind is: the order of the e820 types, of which Soft Reserved has the highest
/// number.
const fn strength(kind: Kind) -> u8 {
    match kind {
        Kind::SystemRam => 1,
        Kind::Reserved => 2,
        Kind::Acpi => 3,
        Kind::Persistent => 4,
        Kind::SoftReserved => 5,
        _ => 0,
    }
}

/// What a source calls a range of firmware's map.
pub(super) fn party(memory: &FirmwareRange) -> Party {
    Party::new(Source::MemoryMap, memory.name.as_str(), memory.range)
}

/// The map without overlaps, ascending; reports each entry that loses something, once.
pub(super) fn resolve(memory: &[FirmwareRange], conflicts: &mut Conflicts) -> Vec<FirmwareRange> {
    let mut strongest_first: Vec<_> = memory.iter().collect();
    strongest_first.sort_by_key(|it| core::cmp::Reverse(strength(it.kind)));
    // What is taken so far, by first address: who took it, and how far.
    let mut taken: BTreeMap<PhysAddr, (PhysRange, &FirmwareRange)> = BTreeMap::new();
    for it in strongest_first {
        let below = taken.range(..=it.range.start()).next_back();
        let above = taken.range(it.range.start()..=it.range.last());
        let over: Vec<_> = below
            .into_iter()
            .chain(above)
            .map(|(_, &at)| at)
            .filter(|(range, _)| range.overlaps(it.range))
            .collect();
        if let Some((_, winner)) = over.iter().find(|(_, winner)| winner.name != it.name) {
            let (winner, loser) = (party(winner), party(it));
            conflicts.push(Conflict::MemoryOverlap { winner, loser });
        }
        let over = ranges::union(over.into_iter().map(|(range, _)| range));
        for part in ranges::without(it.range, &over) {
            taken.insert(part.start(), (part, it));
        }
    }
    let mut resolved: Vec<FirmwareRange> = Vec::new();
    for (range, it) in taken.into_values() {
        match resolved.last_mut() {
            Some(last) if last.name == it.name && ranges::follows(last.range, range) => {
                last.range = last.range.hull(range);
            }
            _ => resolved.push(FirmwareRange { range, ..it.clone() }),
        }
    }
    resolved
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use proptest::prelude::*;

    const NAMES: [&str; 5] =
        ["System RAM", "Reserved", "ACPI Tables", "Persistent Memory", "Soft Reserved"];

    fn entry(start: u64, last: u64, name: &str) -> FirmwareRange {
        let range = PhysRange::new(PhysAddr(start), PhysAddr(last)).unwrap();
        FirmwareRange::named(range, name)
    }

    #[test]
    fn what_is_reserved_is_no_memory() {
        let mut conflicts = Conflicts::default();
        let memory = [entry(0, 99, "System RAM"), entry(40, 59, "Reserved")];
        let resolved = resolve(&memory, &mut conflicts);
        let expected =
            [entry(0, 39, "System RAM"), entry(40, 59, "Reserved"), entry(60, 99, "System RAM")];
        assert_eq!(resolved, expected);
        assert_eq!(
            conflicts.list[0].to_string(),
            "System RAM of the memory map (0x0-0x63) overlaps Reserved of the memory map \
             (0x28-0x3b), which wins"
        );
    }

    proptest! {
        #[test]
        fn every_address_goes_to_the_strongest(
            entries in prop::collection::vec((0u64..60, 0u64..30, 0usize..5), 0..12),
        ) {
            let memory: Vec<_> =
                entries.iter().map(|&(at, more, name)| entry(at, at + more, NAMES[name])).collect();
            let resolved = resolve(&memory, &mut Conflicts::default());
            for address in (0..100).map(PhysAddr) {
                let here = memory.iter().filter(|it| it.range.has(address));
                let strongest = here.map(|it| strength(it.kind)).max();
                let found: Vec<_> = resolved.iter().filter(|it| it.range.has(address)).collect();
                prop_assert!(found.len() <= 1);
                prop_assert_eq!(found.first().map(|it| strength(it.kind)), strongest);
            }
            for two in resolved.windows(2) {
                prop_assert!(two[0].range.last() < two[1].range.start());
                let split = ranges::follows(two[0].range, two[1].range);
                prop_assert!(!(split && two[0].name == two[1].name), "one kind is one range");
            }
        }
    }
}
