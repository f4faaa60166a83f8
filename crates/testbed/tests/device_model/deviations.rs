//! What QEMU's device does otherwise than the specification, row by row, and how that is seen.
//!
//! References are to CXL 3.1. Rows without versions are those of QEMU 10.0 to 10.2.

use memtide_cxl::{DecodeError, Opcode, ReturnCode, device::Refusal};

/// A row.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Deviation {
    OutOfOrder,
    NothingPending,
    PartOfExtent,
    TwoExtentsAsOne,
    EmptyRange,
    LongList,
    AnswerMoreIgnored,
    ReleaseMoreIgnored,
    ReleaseReorders,
    OffersNotCounted,
    EventsTellNothing,
    PendingCounted,
    Generation,
    TagLost,
    NoTags,
    MoreRecords,
    LogOverflows,
    WrongHandle,
    TooManyHandles,
    NoHandles,
    ClearAllIgnored,
    OneRecordForTwo,
    HostIgnored,
    OnlyPrescriptive,
    NotForced,
    NotSanitized,
    StaticMemory,
}

/// What is known of it.
pub struct Row {
    pub deviation: Deviation,
    pub what: &'static str,
    pub qemu: &'static str,
    pub ours: &'static str,
    pub why: &'static str,
    pub versions: Versions,
}

/// In which versions of QEMU a row is seen. What is said of 10.0 was tried there; others may have
/// such a row or not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Versions {
    All,
    /// 10.0 has it.
    Old,
    /// 10.0 does not have it.
    New,
}

impl Versions {
    /// Whether it must be seen.
    pub fn must(self, version: (u64, u64)) -> bool {
        self == Self::All || self == Self::Old && version == (10, 0)
    }

    /// Whether it may be seen.
    pub fn may(self, version: (u64, u64)) -> bool {
        self != Self::New || version != (10, 0)
    }
}

impl Row {
    const fn only(self, versions: Versions) -> Self {
        Self { versions, ..self }
    }
}

use Deviation::*;

const fn row(
    deviation: Deviation,
    what: &'static str,
    qemu: &'static str,
    ours: &'static str,
    why: &'static str,
) -> Row {
    Row { deviation, what, qemu, ours, why, versions: Versions::All }
}

/// All of them.
pub const TABLE: &[Row] = &[
    row(
        OutOfOrder,
        "4802h for an offer that is not the oldest",
        "Invalid Physical Address",
        "Invalid Input",
        "8.2.9.9.9.3: answers come in the order of the events, others get Invalid Input",
    ),
    row(
        NothingPending,
        "4802h with extents where nothing is offered",
        "Invalid Physical Address, and with no extents it crashes",
        "Invalid Input",
        "8.2.9.9.9.3: it is no answer in the order of the events, as there is no event",
    ),
    row(
        PartOfExtent,
        "4802h with a part of an offered extent",
        "takes the part, and drops the rest of the group",
        "Invalid Extent List, and the offer stays",
        "8.2.9.9.9.3: what is accepted is a subset of the original extents",
    ),
    row(
        TwoExtentsAsOne,
        "4802h with two offered extents that touch, as one",
        "Invalid Physical Address",
        "Invalid Extent List",
        "8.2.9.9.9.3: the addresses were offered; it is the extent that was not",
    ),
    row(
        EmptyRange,
        "4802h and 4803h with a range of no bytes",
        "Invalid Physical Address, and success",
        "Invalid Extent List",
        "8.2.9.9.9.3: an extent is of blocks, and is malformed without one",
    ),
    row(
        LongList,
        "4802h and 4803h with more bytes than the count says",
        "succeeds",
        "Invalid Payload Length",
        "8.2.9.4.1: the length is not the one of the command",
    ),
    row(
        AnswerMoreIgnored,
        "4802h with More",
        "is the whole answer",
        "waits for the rest of it",
        "8.2.9.9.9.3: flag More",
    ),
    row(
        ReleaseMoreIgnored,
        "4803h with More",
        "releases at once",
        "waits for the rest of it",
        "8.2.9.9.9.4: flag More",
    ),
    row(
        ReleaseReorders,
        "the extent list",
        "in the order of answers, what is left of an extent at the end",
        "in the order of addresses",
        "8.2.9.9.9.2: none is demanded; one that does not change lets a list be read in pages",
    ),
    row(
        PendingCounted,
        "4801h while something is offered",
        "counts offered extents as returned, and fills up with zeros",
        "returns what was accepted",
        "8.2.9.9.9.2: the list is of the extents that the host has added",
    )
    .only(Versions::New),
    row(
        OffersNotCounted,
        "extents available while something is offered",
        "as if it were not",
        "less",
        "9.13.3.3: what is pending takes up resources, too",
    )
    .only(Versions::Old),
    row(
        EventsTellNothing,
        "what is available, in events",
        "is not told",
        "is told",
        "table 8-50: validity flags",
    )
    .only(Versions::Old),
    row(
        Generation,
        "the generation of the extent list",
        "always 0",
        "changes with the list",
        "8.2.9.9.9.2: a change of the list changes it",
    ),
    row(
        TagLost,
        "the tag of an offer made over QMP",
        "null in events and extents",
        "as the manager said",
        "9.13.3: the tag is the name of the allocation",
    ),
    row(NoTags, "tags supported", "0", "some", "8.2.9.9.9.1: a device says how many it has"),
    row(
        MoreRecords,
        "0100h, More Event Records",
        "set whenever there is a record",
        "set where there are more than were told",
        "8.2.9.2.2: there are more than fit into the payload",
    ),
    row(
        LogOverflows,
        "an offer or request whose records do not fit",
        "is made, and records are lost",
        "Retry Required, and nothing is made",
        "7.6.7.6.5: an offer of which the host cannot know would block all others",
    ),
    row(
        WrongHandle,
        "0101h with another handle than the oldest",
        "Invalid Input",
        "Invalid Handle",
        "8.2.9.2.3: Invalid Handle, where an older record would stay",
    ),
    row(
        TooManyHandles,
        "0101h with more handles than there are records",
        "clears those that there are",
        "Invalid Handle, and nothing is cleared",
        "8.2.9.2.3: each handle is of a record",
    ),
    row(
        NoHandles,
        "0101h without handles",
        "succeeds",
        "Invalid Input",
        "8.2.9.2.3: zero handles are for Clear All Events",
    ),
    row(
        ClearAllIgnored,
        "0101h, Clear All Events",
        "succeeds and clears nothing",
        "clears all if some were lost, else Invalid Input",
        "8.2.9.2.3: to be used when the log has overflowed",
    ),
    row(
        OneRecordForTwo,
        "a request for two extents that touch, as one",
        "one record",
        "a record for each",
        "table 8-50: a record has an extent, which has one tag",
    ),
    row(
        HostIgnored,
        "an offer or request for a host that does not exist",
        "is made",
        "Invalid Input",
        "7.6.7.6.5: the host is one of the device's",
    ),
    row(
        OnlyPrescriptive,
        "an offer of free capacity",
        "is refused",
        "is made",
        "7.6.7.6.5: the policies free and contiguous",
    ),
    row(
        NotForced,
        "capacity taken by force",
        "is refused",
        "is taken, and the host is told",
        "7.6.7.6.6: Forced Removal",
    ),
    row(
        NotSanitized,
        "capacity that is to be overwritten on release",
        "is free at once",
        "is free when it has been overwritten",
        "7.6.7.6.6: Sanitize on Release",
    ),
    row(
        StaticMemory,
        "4000h: who it is, and what memory it has that is always there",
        "Intel's name for it, and 1 GiB",
        "memtide's, and none",
        "the model has no other capacity than dynamic",
    ),
];

/// Which row says that a host command has another code, or that ours is refused.
pub fn of_command(opcode: Opcode, ours: Option<&Refusal>, qemu: ReturnCode) -> Option<Deviation> {
    let is_list = matches!(opcode, Opcode::ADD_DC_RESPONSE | Opcode::RELEASE_DC);
    Some(match (ours?, qemu) {
        (Refusal::OutOfOrder { .. }, ReturnCode::INVALID_PHYSICAL_ADDRESS) => OutOfOrder,
        (Refusal::NothingOffered, ReturnCode::INVALID_PHYSICAL_ADDRESS) => NothingPending,
        (Refusal::NotTheExtent { .. }, ReturnCode::SUCCESS) => PartOfExtent,
        (Refusal::NotTheExtent { .. }, ReturnCode::INVALID_PHYSICAL_ADDRESS) => TwoExtentsAsOne,
        (Refusal::Empty { .. }, _) if opcode == Opcode::RELEASE_DC => {
            (qemu == ReturnCode::SUCCESS).then_some(EmptyRange)?
        }
        (Refusal::Empty { .. }, ReturnCode::INVALID_PHYSICAL_ADDRESS) => EmptyRange,
        (Refusal::Decode(DecodeError::Length { .. }), ReturnCode::SUCCESS) if is_list => LongList,
        (Refusal::Handle { expected: None, .. }, ReturnCode::SUCCESS) => TooManyHandles,
        (Refusal::Handle { .. }, ReturnCode::INVALID_INPUT) => WrongHandle,
        (Refusal::Decode(DecodeError::Field { value: 0, .. }), ReturnCode::SUCCESS)
            if opcode == Opcode::CLEAR_EVENT_RECORDS =>
        {
            NoHandles
        }
        (Refusal::ClearAll, ReturnCode::SUCCESS) => ClearAllIgnored,
        _ => return None,
    })
}

/// Which row says that only one of them refuses a manager: ours with a reason, or QEMU with words.
pub fn of_request(ours: Option<&Refusal>, qemu: Option<&str>) -> Option<Deviation> {
    Some(match (ours, qemu) {
        (Some(Refusal::Host { .. }), None) => HostIgnored,
        (Some(Refusal::LogFull { .. }), None) => LogOverflows,
        (Some(Refusal::Sanitizing { .. }), None) => NotSanitized,
        (None, Some("Selection policy not supported")) => OnlyPrescriptive,
        (None, Some("Forced removal not supported yet")) => NotForced,
        _ => return None,
    })
}
