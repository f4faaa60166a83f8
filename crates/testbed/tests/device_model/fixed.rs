//! Sequences for each ordinary step and for each row.
//!
//! A sequence says which rows it shows; whatever else differs fails. Where a row changes what the
//! devices have, both are brought to the same again before it goes on.

mod deviating;
mod ordinary;

use std::collections::BTreeSet;

use memtide_testbed::{Error, ready};
use memtide_units::DpaRange;

use crate::{
    deviations::{Deviation, Deviation::*, TABLE, Versions},
    emulated,
    pair::{Pair, Wish, blocks},
};

type Sequence = fn(&mut Pair) -> Result<(), Error>;

/// All of them, with the rows that they show.
const SEQUENCES: &[(&str, &[Deviation], Sequence)] = &[
    ("nothing happened", &[NoTags], ordinary::nothing_happened),
    ("pages", &[NoTags], ordinary::pages),
    ("accept, refuse, give back", &[Generation, MoreRecords], ordinary::ordinary),
    (
        "several offers and extents",
        &[PendingCounted, OffersNotCounted, EventsTellNothing],
        ordinary::groups,
    ),
    ("parts are given back", &[ReleaseReorders], ordinary::parts),
    ("a manager asks back", &[OneRecordForTwo], ordinary::asked_back),
    ("what both refuse", &[], ordinary::refused_by_both),
    ("out of order", &[OutOfOrder, NothingPending], deviating::out_of_order),
    ("parts of extents", &[PartOfExtent, TwoExtentsAsOne], deviating::parts_of_extents),
    ("more", &[AnswerMoreIgnored, ReleaseMoreIgnored], deviating::more),
    ("tags", &[TagLost], deviating::tags),
    ("overflow", &[LogOverflows], deviating::overflow),
    ("requests that overflow", &[LogOverflows], deviating::overflow_by_requests),
    ("handles", &[WrongHandle, TooManyHandles, NoHandles, ClearAllIgnored], deviating::handles),
    ("managers", &[HostIgnored, OnlyPrescriptive, NotForced], deviating::managers),
    ("sanitize", &[NotSanitized], deviating::sanitize),
    ("payloads", &[LongList], deviating::payloads),
    ("identify", &[StaticMemory], deviating::identify),
    ("empty ranges", &[EmptyRange], deviating::empty_ranges),
];

#[test]
fn the_model_differs_from_qemu_in_each_row_of_the_table_and_nowhere_else() -> Result<(), Error> {
    if !ready() {
        return Ok(());
    }
    let (mut seen, version) = (BTreeSet::new(), emulated::version()?);
    println!("QEMU {}.{}", version.0, version.1);
    for &(name, expected, sequence) in SEQUENCES {
        println!("{name}");
        let mut pair = Pair::start()?;
        pair.same()?;
        sequence(&mut pair)?;
        for deviation in expected.iter().filter(|&&row| versions(row).must(version)) {
            assert!(pair.seen.contains(deviation), "{name} does not show {deviation:?}");
        }
        seen.append(&mut pair.seen);
    }
    for row in TABLE {
        let told = format!("{}: QEMU {}; the model {} ({})", row.what, row.qemu, row.ours, row.why);
        let was_seen = seen.contains(&row.deviation);
        assert!(was_seen || !row.versions.must(version), "never seen: {told}");
        assert!(!was_seen || row.versions.may(version), "seen on {version:?}: {told}");
        println!("{}{told}", if was_seen { "" } else { "not on this QEMU: " });
    }
    for deviation in seen {
        versions(deviation);
    }
    Ok(())
}

fn versions(deviation: Deviation) -> Versions {
    let row = TABLE.iter().find(|row| row.deviation == deviation);
    row.unwrap_or_else(|| panic!("{deviation:?} has no row")).versions
}

fn own(first: u64, count: u64) -> DpaRange {
    blocks(0, first, count)
}

fn offer(pair: &mut Pair, ranges: &[DpaRange]) -> Result<(), Error> {
    assert_eq!(pair.add(&Wish::of(0, ranges))?, None);
    pair.same()
}

/// Offered and accepted.
fn give(pair: &mut Pair, ranges: &[DpaRange]) -> Result<(), Error> {
    offer(pair, ranges)?;
    assert_eq!(pair.answer(ranges)?, None);
    pair.drain()?;
    pair.same()
}
