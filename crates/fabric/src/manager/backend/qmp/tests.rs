//! What the tests of all parts share: a shadow, and commands to it.

use std::os::unix::net::UnixStream;

use memtide_cxl::{
    command::{
        HostId, Sanitize,
        fabric_manager::{Force, InitiateAdd, InitiateRelease, Removal, Selection},
    },
    manager::Command,
};
use memtide_units::{DcExtent, DpaRange, Tag};

use super::{description::Description, error::HearError, lines::Lines, shadow::Shadow};

pub(super) const MIB: u64 = 1 << 20;
pub(super) const GIB: u64 = 1 << 30;
pub(super) const HOST: HostId = HostId(0);

pub(super) fn lines() -> (UnixStream, Lines) {
    let (qemu, ours) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    (qemu, Lines::new(ours.into()))
}

/// Two regions of 512 MiB behind 1 GiB.
pub(super) fn shadow() -> Shadow {
    let description = Description { serial: 7, base: GIB, size: GIB, regions: 2 };
    let mut shadow = Shadow::new(&description, 2).unwrap();
    assert_eq!(shadow.unknown(), Some(0));
    hear(&mut shadow, &[], &[]).unwrap();
    shadow.hear(HostId(1), &[], &[]).unwrap();
    assert_eq!(shadow.unknown(), None);
    shadow
}

pub(super) fn range(at: u64, count: u64) -> DpaRange {
    DpaRange::new(GIB + at * 64 * MIB, count * 64 * MIB)
}

pub(super) fn extent(range: DpaRange) -> DcExtent {
    DcExtent { range, tag: Tag::NULL, sequence: 0 }
}

pub(super) fn hear(
    shadow: &mut Shadow,
    accepted: &[DpaRange],
    answered: &[DpaRange],
) -> Result<(), HearError> {
    let accepted: Vec<DcExtent> = accepted.iter().map(|&range| extent(range)).collect();
    shadow.hear(HOST, &accepted, answered)
}

pub(super) fn add(host: HostId, ranges: &[DpaRange]) -> Command {
    Command::InitiateAdd(InitiateAdd {
        host,
        selection: Selection::Prescriptive,
        region: 0,
        length: 0,
        tag: Tag::NULL,
        extents: ranges.iter().map(|&range| extent(range)).collect(),
    })
}

pub(super) fn release(force: Force, extents: &[DpaRange]) -> Command {
    Command::InitiateRelease(InitiateRelease {
        host: HOST,
        removal: Removal::Prescriptive,
        force,
        sanitize: Sanitize::OnRelease,
        length: 0,
        tag: Tag::NULL,
        extents: extents.iter().copied().map(extent).collect(),
    })
}

/// Ranges of 2 MiB that lie apart.
pub(super) fn apart(count: u64) -> Vec<DpaRange> {
    (0..count).map(|at| DpaRange::new(GIB + at * 4 * MIB, 2 * MIB)).collect()
}
