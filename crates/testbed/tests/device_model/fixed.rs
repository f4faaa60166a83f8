//! Sequences for each ordinary step and for each row.
//!
//! A sequence says which rows it shows; whatever else differs fails. Where a row changes what the
//! devices have, both are brought to the same again before it goes on.

use std::collections::BTreeSet;

use memtide_cxl::{
    Opcode, Payload, ReturnCode,
    command::{
        HostId, More, Sanitize,
        dynamic_capacity::{AddResponse, GetConfiguration, GetExtentList, Release},
        events::{Clear, ClearEventRecords, DynamicCapacityEventKind, EventLog, GetEventRecords},
        fabric_manager::{Force, Selection},
        identify::IdentifyMemoryDevice,
    },
};
use memtide_testbed::{Error, ready};
use memtide_units::{DpaRange, Tag};

use crate::{
    deviations::{Deviation, Deviation::*, TABLE, Versions},
    emulated,
    pair::{BLOCK, Pair, RECORDS, REGION, Wish, base, blocks, event},
};

type Sequence = fn(&mut Pair) -> Result<(), Error>;

/// All of them, with the rows that they show.
const SEQUENCES: &[(&str, &[Deviation], Sequence)] = &[
    ("nothing happened", &[NoTags], nothing_happened),
    ("pages", &[NoTags], pages),
    ("accept, refuse, give back", &[Generation, MoreRecords], ordinary),
    ("several offers and extents", &[PendingCounted, OffersNotCounted, EventsTellNothing], groups),
    ("parts are given back", &[ReleaseReorders], parts),
    ("a manager asks back", &[OneRecordForTwo], asked_back),
    ("what both refuse", &[], refused_by_both),
    ("out of order", &[OutOfOrder, NothingPending], out_of_order),
    ("parts of extents", &[PartOfExtent, TwoExtentsAsOne], parts_of_extents),
    ("more", &[AnswerMoreIgnored, ReleaseMoreIgnored], more),
    ("tags", &[TagLost], tags),
    ("overflow", &[LogOverflows], overflow),
    ("requests that overflow", &[LogOverflows], overflow_by_requests),
    ("handles", &[WrongHandle, TooManyHandles, NoHandles, ClearAllIgnored], handles),
    ("managers", &[HostIgnored, OnlyPrescriptive, NotForced], managers),
    ("sanitize", &[NotSanitized], sanitize),
    ("payloads", &[LongList], payloads),
    ("identify", &[StaticMemory], identify),
    ("empty ranges", &[EmptyRange], empty_ranges),
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

fn nothing_happened(pair: &mut Pair) -> Result<(), Error> {
    for number in 0..=5 {
        pair.bytes(Opcode::GET_EVENT_RECORDS, &[number])?;
    }
    pair.bytes(Opcode(0x48ff), &[])?;
    pair.same()
}

fn pages(pair: &mut Pair) -> Result<(), Error> {
    for start in 0..4 {
        for count in [0, 1, 2, 3, 255] {
            pair.host(&GetConfiguration { count, start })?;
        }
    }
    for first in [0, 4, 8] {
        give(pair, &[own(first, 1)])?;
    }
    for start in 0..6 {
        for count in [0, 1, 2, 3, 4, u32::MAX] {
            pair.host(&GetExtentList { count, start })?;
        }
    }
    Ok(())
}

fn ordinary(pair: &mut Pair) -> Result<(), Error> {
    offer(pair, &[own(0, 4)])?;
    assert_eq!(pair.answer(&[own(0, 4)])?, None);
    pair.same()?;
    offer(pair, &[own(8, 1)])?;
    assert_eq!(pair.answer(&[])?, None);
    pair.same()?;
    offer(pair, &[own(8, 1)])?;
    assert_eq!(pair.answer(&[own(8, 1)])?, None);
    pair.drain()?;
    assert_eq!(pair.release(&[own(0, 4), own(8, 1)])?, None);
    pair.same()?;
    // All of both regions, from their first block to their last.
    for region in 0..2 {
        let all = blocks(region, 0, REGION / BLOCK);
        assert_eq!(pair.add(&Wish::of(region, &[all]))?, None);
        assert_eq!(pair.answer(&[all])?, None);
        pair.same()?;
    }
    assert_eq!(pair.release(&[blocks(0, 0, 512), blocks(1, 0, 512)])?, None);
    pair.same()
}

fn groups(pair: &mut Pair) -> Result<(), Error> {
    offer(pair, &[own(0, 1), own(4, 2), own(2, 1)])?;
    offer(pair, &[own(10, 1), own(12, 1)])?;
    // Some of the first, in another order; all of the second.
    assert_eq!(pair.answer(&[own(2, 1), own(0, 1)])?, None);
    pair.same()?;
    assert_eq!(pair.answer(&[own(10, 1), own(12, 1)])?, None);
    pair.same()?;
    // What was left out can be offered again.
    pair.drain()?;
    give(pair, &[own(4, 2)])?;
    give(pair, &(0..RECORDS.into()).map(|n| own(100 + 2 * n, 1)).collect::<Vec<_>>())
}

fn parts(pair: &mut Pair) -> Result<(), Error> {
    give(pair, &[own(0, 8), own(16, 4)])?;
    give(pair, &[own(20, 4)])?;
    assert_eq!(pair.release(&[own(3, 2)])?, None);
    pair.same()?;
    assert_eq!(pair.release(&[own(0, 1), own(7, 1)])?, None);
    pair.same()?;
    // The end of one extent and the start of the next.
    assert_eq!(pair.release(&[own(18, 4)])?, None);
    pair.same()?;
    // Half held.
    assert_eq!(pair.release(&[own(16, 4)])?, None);
    assert_eq!(pair.release(&[own(2, 2)])?, None);
    pair.same()?;
    give(pair, &[own(3, 2)])?;
    assert_eq!(pair.release(&[own(1, 6)])?, None);
    pair.same()
}

fn asked_back(pair: &mut Pair) -> Result<(), Error> {
    give(pair, &[own(0, 8)])?;
    give(pair, &[own(8, 8)])?;
    for ranges in [&[own(0, 8)][..], &[own(2, 2), own(10, 4)], &[own(0, 8)]] {
        assert_eq!(pair.ask(&Wish::of(0, ranges), Force::Ask, Sanitize::Never)?, None);
        pair.same()?;
    }
    assert_eq!(pair.release(&[own(2, 2)])?, None);
    pair.drain()?;
    // Not there, half there, only offered.
    offer(pair, &[own(32, 1)])?;
    for range in [own(40, 1), own(2, 2), own(1, 2), own(32, 1)] {
        assert_eq!(pair.ask(&Wish::of(0, &[range]), Force::Ask, Sanitize::Never)?, None);
        pair.same()?;
    }
    pair.drain()?;
    assert_eq!(pair.ask(&Wish::of(0, &[own(6, 4)]), Force::Ask, Sanitize::Never)?, None);
    let ours: Vec<_> = pair.model_events().records.iter().map(event).collect();
    let theirs: Vec<_> = pair.qemu_events()?.records.iter().map(event).collect();
    let ranges: Vec<_> = ours.iter().map(|event| event.extent.range).collect();
    assert_eq!((theirs.len(), theirs[0].extent.range), (1, own(6, 4)));
    assert_eq!(ranges, [own(6, 2), own(8, 2)]);
    assert!(ours.iter().all(|event| event.kind == DynamicCapacityEventKind::Release));
    pair.see(OneRecordForTwo);
    pair.drain()?;
    pair.same()
}

/// What is wrong with a list, whoever sends it.
fn wrong_lists() -> Vec<Vec<DpaRange>> {
    let end = base(1) + REGION;
    vec![
        vec![DpaRange::new(base(0) + 4096, BLOCK)],
        vec![DpaRange::new(base(0), BLOCK + 4096)],
        vec![DpaRange::new(0, BLOCK)],
        vec![DpaRange::new(base(0) - BLOCK, BLOCK)],
        vec![DpaRange::new(end, BLOCK)],
        vec![DpaRange::new(end - BLOCK, 2 * BLOCK)],
        vec![DpaRange::new(base(1) - BLOCK, 2 * BLOCK)],
        vec![own(0, 1), own(0, 1)],
        vec![own(0, 4), own(2, 1)],
        vec![own(64, 1)],
    ]
}

fn refused_by_both(pair: &mut Pair) -> Result<(), Error> {
    assert_eq!(pair.bytes(Opcode::RELEASE_DC, &[0; 8])?, None);
    for list in wrong_lists() {
        assert_eq!(pair.release(&list)?, None);
    }
    // To an offer, and to one while something is held.
    offer(pair, &[own(0, 4)])?;
    for list in wrong_lists() {
        assert_eq!(pair.answer(&list)?, None);
        pair.same()?;
    }
    assert_eq!(pair.answer(&[own(0, 4)])?, None);
    for list in wrong_lists() {
        assert_eq!(pair.release(&list)?, None);
        pair.same()?;
    }
    offer(pair, &[own(8, 1)])?;
    assert_eq!(pair.answer(&[own(0, 4)])?, None);
    let twice = [own(0, 1), own(8, 1), own(4, 0), DpaRange::new(base(0), 4096)];
    for range in twice {
        assert_eq!(pair.add(&Wish::of(0, &[range]))?, None);
    }
    for ranges in [[own(16, 2), own(17, 1)], [own(16, 1), own(511, 2)]] {
        assert_eq!(pair.add(&Wish::of(0, &ranges))?, None);
    }
    pair.same()
}

fn out_of_order(pair: &mut Pair) -> Result<(), Error> {
    assert_eq!(pair.answer(&[own(0, 1)])?, Some(NothingPending));
    offer(pair, &[own(0, 1)])?;
    offer(pair, &[own(4, 1)])?;
    assert_eq!(pair.answer(&[own(4, 1)])?, Some(OutOfOrder));
    assert_eq!(pair.answer(&[own(0, 1), own(4, 1)])?, Some(OutOfOrder));
    pair.same()?;
    assert_eq!(pair.answer(&[own(0, 1)])?, None);
    assert_eq!(pair.answer(&[own(4, 1)])?, None);
    pair.same()
}

fn parts_of_extents(pair: &mut Pair) -> Result<(), Error> {
    offer(pair, &[own(0, 4), own(4, 4)])?;
    assert_eq!(pair.answer(&[own(0, 8)])?, Some(TwoExtentsAsOne));
    pair.same()?;
    assert_eq!(pair.answer(&[own(1, 2)])?, Some(PartOfExtent));
    end_part(pair, &[own(1, 2)])?;
    give(pair, &[own(0, 4), own(4, 4)])
}

/// QEMU took a part of the oldest offer: it gives that back, and the model refuses the offer.
pub fn end_part(pair: &mut Pair, taken: &[DpaRange]) -> Result<(), Error> {
    let release = Release { more: More::Last, released: taken.to_vec() };
    let (code, _) = pair.qemu.command(Opcode::RELEASE_DC, &release.to_bytes())?;
    assert_eq!(code, ReturnCode::SUCCESS);
    let reply = pair.ours(Opcode::ADD_DC_RESPONSE, &[0; 8]);
    assert_eq!(reply.code, ReturnCode::SUCCESS);
    pair.same()
}

fn more(pair: &mut Pair) -> Result<(), Error> {
    offer(pair, &[own(0, 4), own(8, 4)])?;
    chained_answer(pair, &[own(0, 4)], &[own(8, 4)])?;
    assert_eq!(pair.release(&[own(0, 4)])?, None);
    give(pair, &[own(0, 4), own(8, 4)])?;
    chained_release(pair, &[own(0, 1)], &[own(8, 4)])?;
    pair.same()
}

/// An answer in two parts: the model takes both. QEMU took the first, and nobody has the second.
pub fn chained_answer(
    pair: &mut Pair,
    first: &[DpaRange],
    second: &[DpaRange],
) -> Result<(), Error> {
    assert_eq!(pair.answer_part(More::Follows, first)?, None);
    let (theirs, ours) = pair.extents_of_both()?;
    assert_eq!(theirs.len(), ours.len() + first.len());
    pair.see(AnswerMoreIgnored);
    let answer = AddResponse { more: More::Last, accepted: second.to_vec() };
    let reply = pair.ours(Opcode::ADD_DC_RESPONSE, &answer.to_bytes());
    assert_eq!(reply.code, ReturnCode::SUCCESS, "{reply:?}");
    let release = Release { more: More::Last, released: second.to_vec() };
    let reply = pair.ours(Opcode::RELEASE_DC, &release.to_bytes());
    assert_eq!(reply.code, ReturnCode::SUCCESS, "{reply:?}");
    pair.same()
}

/// A release in two parts: QEMU does each at once, the model both at the end.
pub fn chained_release(
    pair: &mut Pair,
    first: &[DpaRange],
    second: &[DpaRange],
) -> Result<(), Error> {
    let (_, before) = pair.extents_of_both()?;
    assert_eq!(pair.host(&Release { more: More::Follows, released: first.to_vec() })?, None);
    let (theirs, ours) = pair.extents_of_both()?;
    assert_eq!(ours, before, "the model waits");
    assert_ne!(theirs, before, "QEMU does not");
    assert_eq!(pair.release(second)?, None);
    pair.see(ReleaseMoreIgnored);
    pair.same()
}

fn tags(pair: &mut Pair) -> Result<(), Error> {
    let wish = Wish { tag: Tag([0xa; 16]), ..Wish::of(0, &[own(0, 1), own(2, 1)]) };
    assert_eq!(pair.add(&wish)?, None);
    pair.same()?;
    assert_eq!(pair.answer(&wish.ranges)?, None);
    pair.same()?;
    pair.drain()?;
    assert_eq!(pair.release(&wish.ranges)?, None);
    pair.same()
}

fn overflow(pair: &mut Pair) -> Result<(), Error> {
    for number in 0..u64::from(RECORDS) - 1 {
        offer(pair, &[own(2 * number, 1)])?;
    }
    // The first record of two fits.
    let wish = Wish::of(0, &[own(100, 1), own(102, 1)]);
    assert_eq!(pair.add(&wish)?, Some(LogOverflows));
    let theirs = pair.qemu_events()?;
    assert_eq!(theirs.overflow.map(|overflow| overflow.count), Some(1));
    let last = event(theirs.records.last().expect("8 of them"));
    assert_eq!((last.extent.range, last.more), (own(100, 1), More::Follows));
    assert_eq!(pair.model_events().overflow, None);
    pair.drain()?;
    for number in 0..u64::from(RECORDS) - 1 {
        assert_eq!(pair.answer(&[own(2 * number, 1)])?, None);
    }
    refuse_alone(pair)?;
    give(pair, &[own(100, 1), own(102, 1)])
}

/// QEMU has an offer that the model did not make: it is refused.
pub fn refuse_alone(pair: &mut Pair) -> Result<(), Error> {
    let (code, _) = pair.qemu.command(Opcode::ADD_DC_RESPONSE, &[0; 8])?;
    assert_eq!(code, ReturnCode::SUCCESS);
    pair.same()
}

fn overflow_by_requests(pair: &mut Pair) -> Result<(), Error> {
    give(pair, &[own(0, 1)])?;
    let wish = Wish::of(0, &[own(0, 1)]);
    for _ in 0..RECORDS {
        assert_eq!(pair.ask(&wish, Force::Ask, Sanitize::Never)?, None);
        pair.same()?;
    }
    let row = pair.ask(&wish, Force::Ask, Sanitize::Never)?;
    assert_eq!(row, Some(LogOverflows));
    pair.drain()?;
    pair.same()?;
    assert_eq!(pair.ask(&wish, Force::Ask, Sanitize::Never)?, None);
    pair.same()
}

fn handles(pair: &mut Pair) -> Result<(), Error> {
    for number in 0..3 {
        offer(pair, &[own(2 * number, 1)])?;
    }
    let clear = |what| ClearEventRecords { log: EventLog::DynamicCapacity, what };
    // Both number their records from 1.
    for wrong in [vec![2], vec![1, 3], vec![0], vec![0xffff]] {
        assert_eq!(pair.host(&clear(Clear::Handles(wrong)))?, Some(WrongHandle));
        pair.same()?;
    }
    assert_eq!(pair.host(&clear(Clear::All))?, Some(ClearAllIgnored));
    assert_eq!(pair.bytes(Opcode::CLEAR_EVENT_RECORDS, &[4, 0, 0, 0, 0, 0])?, Some(NoHandles));
    assert_eq!(pair.bytes(Opcode::CLEAR_EVENT_RECORDS, &[5, 0, 1, 0, 0, 0, 1, 0])?, None);
    pair.same()?;
    assert_eq!(pair.host(&clear(Clear::Handles(vec![1, 2])))?, None);
    pair.same()?;
    let too_many = clear(Clear::Handles(vec![3, 4]));
    assert_eq!(pair.host(&too_many)?, Some(TooManyHandles));
    assert_eq!(pair.host(&GetEventRecords { log: EventLog::Fatal })?, None);
    pair.drain()?;
    pair.same()
}

fn managers(pair: &mut Pair) -> Result<(), Error> {
    let wish = Wish { host: HostId(3), ..Wish::of(0, &[own(0, 1)]) };
    assert_eq!(pair.add(&wish)?, Some(HostIgnored));
    pair.drain()?;
    refuse_alone(pair)?;
    for selection in [Selection::Free, Selection::Contiguous] {
        let wish = Wish { selection, ..Wish::of(1, &[blocks(1, 0, 1)]) };
        assert_eq!(pair.add(&wish)?, Some(OnlyPrescriptive));
        pair.drain()?;
        let reply = pair.ours(Opcode::ADD_DC_RESPONSE, &[0; 8]);
        assert_eq!(reply.code, ReturnCode::SUCCESS);
        pair.same()?;
    }
    give(pair, &[own(0, 4)])?;
    let wish = Wish { host: HostId(3), ..Wish::of(0, &[own(0, 1)]) };
    assert_eq!(pair.ask(&wish, Force::Ask, Sanitize::Never)?, Some(HostIgnored));
    pair.drain()?;
    let wish = Wish::of(0, &[own(0, 4)]);
    assert_eq!(pair.ask(&wish, Force::Take, Sanitize::Never)?, Some(NotForced));
    pair.drain()?;
    let release = Release { more: More::Last, released: vec![own(0, 4)] };
    let (code, _) = pair.qemu.command(Opcode::RELEASE_DC, &release.to_bytes())?;
    assert_eq!(code, ReturnCode::SUCCESS);
    pair.same()
}

fn sanitize(pair: &mut Pair) -> Result<(), Error> {
    give(pair, &[own(0, 4)])?;
    let wish = Wish::of(0, &[own(0, 4)]);
    assert_eq!(pair.ask(&wish, Force::Ask, Sanitize::OnRelease)?, None);
    pair.same()?;
    assert_eq!(pair.release(&wish.ranges)?, None);
    pair.drain()?;
    pair.same()?;
    assert_eq!(pair.add(&wish)?, Some(NotSanitized));
    pair.drain()?;
    refuse_alone(pair)?;
    pair.sanitize();
    give(pair, &wish.ranges)
}

/// Too short, too long, and counts that are more than there is.
fn payloads(pair: &mut Pair) -> Result<(), Error> {
    offer(pair, &[own(0, 1)])?;
    let mut range = [own(0, 1).start.to_le_bytes(), BLOCK.to_le_bytes(), [0; 8]].concat();
    let list = |count: u32, rest: &[u8]| [&count.to_le_bytes(), &[0; 4][..], rest].concat();
    for bytes in [list(2, &range), list(1, &range[..23]), list(u32::MAX, &range), vec![0; 7]] {
        assert_eq!(pair.bytes(Opcode::ADD_DC_RESPONSE, &bytes)?, None);
        assert_eq!(pair.bytes(Opcode::RELEASE_DC, &bytes)?, None);
    }
    for opcode in [
        Opcode::GET_DC_CONFIGURATION,
        Opcode::GET_DC_EXTENT_LIST,
        Opcode::GET_EVENT_RECORDS,
        Opcode::IDENTIFY_MEMORY_DEVICE,
    ] {
        assert_eq!(pair.bytes(opcode, &[4, 0, 0])?, None);
    }
    assert_eq!(pair.bytes(Opcode::CLEAR_EVENT_RECORDS, &[4, 0, 1, 0, 0, 0, 1])?, None);
    pair.same()?;
    pair.answer(&[own(0, 1)])?;
    range.push(0);
    assert_eq!(pair.bytes(Opcode::RELEASE_DC, &list(1, &range))?, Some(LongList));
    let reply = pair.ours(Opcode::RELEASE_DC, &list(1, &range[..24]));
    assert_eq!(reply.code, ReturnCode::SUCCESS);
    pair.drain()?;
    pair.same()
}

fn identify(pair: &mut Pair) -> Result<(), Error> {
    assert_eq!(pair.host(&IdentifyMemoryDevice)?, None);
    Ok(())
}

fn empty_ranges(pair: &mut Pair) -> Result<(), Error> {
    give(pair, &[own(0, 1)])?;
    assert_eq!(pair.release(&[own(0, 0)])?, Some(EmptyRange));
    pair.same()?;
    offer(pair, &[own(4, 1)])?;
    assert_eq!(pair.answer(&[own(4, 0)])?, Some(EmptyRange));
    pair.same()
}
