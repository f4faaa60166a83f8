//! What both do alike, but for the order of lists and how much they tell.

use memtide_cxl::{
    Opcode,
    command::{
        Sanitize,
        dynamic_capacity::{GetConfiguration, GetExtentList},
        events::DynamicCapacityEventKind,
        fabric_manager::Force,
    },
};
use memtide_testbed::Error;
use memtide_units::DpaRange;

use super::{give, offer, own};
use crate::{
    compare::event,
    deviations::Deviation::OneRecordForTwo,
    pair::{BLOCK, Pair, RECORDS, REGION, Wish, base, blocks},
};

pub fn nothing_happened(pair: &mut Pair) -> Result<(), Error> {
    for number in 0..=5 {
        pair.bytes(Opcode::GET_EVENT_RECORDS, &[number])?;
    }
    pair.bytes(Opcode(0x48ff), &[])?;
    pair.same()
}

pub fn pages(pair: &mut Pair) -> Result<(), Error> {
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

pub fn ordinary(pair: &mut Pair) -> Result<(), Error> {
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

pub fn groups(pair: &mut Pair) -> Result<(), Error> {
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

pub fn parts(pair: &mut Pair) -> Result<(), Error> {
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

pub fn asked_back(pair: &mut Pair) -> Result<(), Error> {
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

pub fn refused_by_both(pair: &mut Pair) -> Result<(), Error> {
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
    // Twice: it is the host's, whether or not there is anything to answer.
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
