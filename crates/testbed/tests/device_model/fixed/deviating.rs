//! What QEMU does otherwise.

use memtide_cxl::{
    Opcode, Payload, ReturnCode,
    command::{
        HostId, More, Sanitize,
        dynamic_capacity::Release,
        events::{Clear, ClearEventRecords, EventLog, GetEventRecords},
        fabric_manager::{Force, Selection},
        identify::IdentifyMemoryDevice,
    },
};
use memtide_testbed::Error;
use memtide_units::Tag;

use super::{give, offer, own};
use crate::{
    compare::event,
    deviations::Deviation::*,
    pair::{BLOCK, Pair, RECORDS, Wish, blocks},
    reconcile::{chained_answer, chained_release, end_part, refuse_alone},
};

pub fn out_of_order(pair: &mut Pair) -> Result<(), Error> {
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

pub fn parts_of_extents(pair: &mut Pair) -> Result<(), Error> {
    offer(pair, &[own(0, 4), own(4, 4)])?;
    assert_eq!(pair.answer(&[own(0, 8)])?, Some(TwoExtentsAsOne));
    pair.same()?;
    assert_eq!(pair.answer(&[own(1, 2)])?, Some(PartOfExtent));
    end_part(pair, &[own(1, 2)])?;
    give(pair, &[own(0, 4), own(4, 4)])
}

pub fn more(pair: &mut Pair) -> Result<(), Error> {
    offer(pair, &[own(0, 4), own(8, 4)])?;
    chained_answer(pair, &[own(0, 4)], &[own(8, 4)])?;
    assert_eq!(pair.release(&[own(0, 4)])?, None);
    give(pair, &[own(0, 4), own(8, 4)])?;
    chained_release(pair, &[own(0, 1)], &[own(8, 4)])?;
    pair.same()
}

pub fn tags(pair: &mut Pair) -> Result<(), Error> {
    let wish = Wish { tag: Tag([0xa; 16]), ..Wish::of(0, &[own(0, 1), own(2, 1)]) };
    assert_eq!(pair.add(&wish)?, None);
    pair.same()?;
    assert_eq!(pair.answer(&wish.ranges)?, None);
    pair.same()?;
    pair.drain()?;
    assert_eq!(pair.release(&wish.ranges)?, None);
    pair.same()
}

pub fn overflow(pair: &mut Pair) -> Result<(), Error> {
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

pub fn overflow_by_requests(pair: &mut Pair) -> Result<(), Error> {
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

pub fn handles(pair: &mut Pair) -> Result<(), Error> {
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

pub fn managers(pair: &mut Pair) -> Result<(), Error> {
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

pub fn sanitize(pair: &mut Pair) -> Result<(), Error> {
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
pub fn payloads(pair: &mut Pair) -> Result<(), Error> {
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

pub fn identify(pair: &mut Pair) -> Result<(), Error> {
    assert_eq!(pair.host(&IdentifyMemoryDevice)?, None);
    Ok(())
}

pub fn empty_ranges(pair: &mut Pair) -> Result<(), Error> {
    give(pair, &[own(0, 1)])?;
    assert_eq!(pair.release(&[own(0, 0)])?, Some(EmptyRange));
    pair.same()?;
    offer(pair, &[own(4, 1)])?;
    assert_eq!(pair.answer(&[own(4, 0)])?, Some(EmptyRange));
    pair.same()
}
