//! What a guest has, as its agent says it: whether that can be, and taking it over.

use memtide_cxl::{
    command::{
        HostId, More,
        dynamic_capacity::AddResponse,
        fabric_manager::{InitiateAdd, Selection},
    },
    device::{Device, Refusal},
};
use memtide_units::{DcExtent, DpaRange, Tag};

use super::error::HearError;

/// What is accepted, ascending, in whole blocks of one region each, and nothing twice.
pub(super) fn check(
    accepted: &[DcExtent],
    regions: &[DpaRange],
    block_bytes: u64,
) -> Result<Vec<DcExtent>, HearError> {
    let mut sorted = accepted.to_vec();
    sorted.sort_unstable();
    let mut end = 0;
    for extent in &mut sorted {
        let range = extent.range;
        // Regions begin at multiples of 256 MiB.
        let is_somewhere = range.exists()
            && range.is_aligned(block_bytes)
            && regions.iter().any(|region| region.contains(range));
        if !is_somewhere || u128::from(range.start) < end {
            return Err(HearError::Extent { range });
        }
        end = range.end();
        // Nothing is shared here.
        extent.sequence = 0;
    }
    Ok(sorted)
}

/// The parts of a range that lie in none of the others, ascending.
pub(super) fn without(range: DpaRange, others: impl Iterator<Item = DpaRange>) -> Vec<DpaRange> {
    let mut parts = vec![range];
    for other in others {
        parts = parts.into_iter().flat_map(|part| minus(part, other)).flatten().collect();
    }
    parts
}

/// What of a range is before and behind another one.
fn minus(part: DpaRange, other: DpaRange) -> [Option<DpaRange>; 2] {
    if !part.overlaps(other) {
        return [Some(part), None];
    }
    let before = other.start.checked_sub(part.start).filter(|&length| length > 0);
    let behind = part.end().checked_sub(other.end()).filter(|&length| length > 0);
    let length = |behind: u128| u64::try_from(behind).expect("no longer than the part");
    [
        before.map(|length| DpaRange::new(part.start, length)),
        // There are bytes behind it, so its end is an address.
        behind.map(|behind| DpaRange::new(other.end() as u64, length(behind))),
    ]
}

/// Gives a host what it has already. It has no offers, and its log is read when this is done.
pub(super) fn adopt(
    device: &mut Device,
    host: HostId,
    extents: &[DcExtent],
    regions: &[DpaRange],
) -> Result<(), HearError> {
    let region_of =
        |range: DpaRange| regions.iter().position(|region| region.contains(range)).unwrap_or(0);
    let mut rest = extents;
    while let Some(first) = rest.first() {
        let (region, tag) = (region_of(first.range), first.tag);
        let same = |extent: &&DcExtent| {
            region_of(extent.range) == region && extent.tag == tag && !extent.tag.is_null()
        };
        let count = rest.iter().take_while(same).count().max(1);
        let (group, others) = rest.split_at(count);
        // A tag that is used already is of an allocation that was made in parts, of which a device
        // has one only.
        match offer(device, host, region, tag, group) {
            Err(_) if !tag.is_null() => offer(device, host, region, Tag::NULL, group)?,
            done => done?,
        }
        let accepted = group.iter().map(|extent| extent.range).collect();
        device.add_response(host, &AddResponse { more: More::Last, accepted })?;
        rest = others;
    }
    Ok(())
}

fn offer(
    device: &mut Device,
    host: HostId,
    region: usize,
    tag: Tag,
    extents: &[DcExtent],
) -> Result<(), Refusal> {
    let extent = |extent: &DcExtent| DcExtent { tag, ..*extent };
    device.initiate_add(&InitiateAdd {
        host,
        selection: Selection::Prescriptive,
        // There are 8 at most.
        region: region as u8,
        length: 0,
        tag,
        extents: extents.iter().map(extent).collect(),
    })
}
