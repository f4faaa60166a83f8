//! Bytes that mean harm: cut off, made up, and with counts that promise too much.

use memtide_cxl::{
    DecodeError, Payload, ReturnCode,
    cci::Message,
    command::{
        dynamic_capacity as dc, events, fabric_manager as fm, identify, logical_device as ld,
        switch,
    },
    tunnel::{Tunnel, Tunneled},
};
use memtide_units::DcExtent;
use proptest::{collection::vec, prelude::*};

use crate::{
    any,
    every::{LISTS, List, decode_every, decode_with_counts},
};

fn length_error<T: Payload>(bytes: &[u8]) -> (usize, usize) {
    match T::decode(bytes) {
        Err(error @ DecodeError::Length { bytes, expected, .. }) => {
            assert_eq!(error.code(), ReturnCode::INVALID_PAYLOAD_LENGTH);
            (bytes, expected)
        }
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("{} bytes are a message", bytes.len()),
    }
}

/// A list's count of all ones, where 64 bytes arrive, is refused before there is room for it.
#[test]
fn counts_of_all_ones() {
    fn refused<T: Payload>(list: usize) {
        let List { count, each, around } = &LISTS[list];
        let mut bytes = vec![0; 64.max(*around)];
        bytes[count.clone()].fill(0xff);
        let most = (1_usize << (8 * count.len())) - 1;
        let mut lengths = (0, 0);
        let used = allocation_counter::measure(|| lengths = length_error::<T>(&bytes));
        assert_eq!(lengths, (bytes.len(), around + most * each));
        assert_eq!(used.count_total, 0, "room for a list that is not there");
    }
    refused::<dc::Configuration>(0);
    refused::<dc::ExtentList>(1);
    refused::<dc::AddResponse>(2);
    refused::<dc::Release>(2);
    refused::<events::EventRecords>(3);
    refused::<events::ClearEventRecords>(4);
    refused::<fm::HostConfiguration>(5);
    refused::<fm::HostExtents>(6);
    refused::<fm::InitiateAdd>(7);
    refused::<fm::InitiateRelease>(7);
    refused::<fm::Tags>(8);
    refused::<switch::GetPhysicalPortState>(9);
    refused::<switch::PhysicalPortState>(10);
    refused::<ld::LdAllocations>(11);
    refused::<ld::MultiHeadedInfo>(12);
    refused::<Tunnel>(13);
    refused::<Tunneled>(14);
}

/// A message that was cut off, or goes on, is none: at every length.
#[test]
fn every_other_length() {
    let extents = vec![any_extent(); 3];
    let list = dc::ExtentList { total: 3, generation: 1, extents: extents.clone() }.to_bytes();
    let host = memtide_cxl::command::HostId(1);
    let hosts = fm::HostExtents { host, start: 0, total: 3, generation: 1, extents }.to_bytes();
    let info = vec![0; 84];
    let identity = vec![0; 18];
    let message = Message::command(1, &fm::GetInfo);
    let tunnel = Tunnel::new(memtide_cxl::tunnel::Target::LdPool, message).unwrap().to_bytes();
    for length in 0..256 {
        let cut = |bytes: &[u8]| {
            let mut bytes = bytes.to_vec();
            bytes.resize(length, 0);
            bytes
        };
        assert_eq!(dc::ExtentList::decode(&cut(&list)).is_ok(), length == 136);
        assert_eq!(fm::HostExtents::decode(&cut(&hosts)).is_ok(), length == 144);
        assert_eq!(fm::Info::decode(&cut(&info)).is_ok(), length == 84);
        assert_eq!(fm::SetConfiguration::decode(&cut(&[])).is_ok(), length == 16);
        assert_eq!(fm::GetHostExtents::decode(&cut(&[])).is_ok(), length == 12);
        assert_eq!(identify::Identity::decode(&cut(&identity)).is_ok(), length == 18);
        let is_device = identify::MemoryDevice::decode(&cut(&[])).is_ok();
        assert_eq!(is_device, length == 67 || length == 69);
        assert_eq!(Tunnel::decode(&cut(&tunnel)).is_ok(), length == 16);
    }
}

fn any_extent() -> DcExtent {
    let range = memtide_units::DpaRange::new(1 << 28, 1 << 21);
    DcExtent { range, tag: memtide_units::Tag::NULL, sequence: 0 }
}

/// Numbers that have no meaning are refused as invalid input, whatever else there is.
#[test]
fn numbers_without_meaning() {
    fn refused<T: Payload>(bytes: usize, at: usize, value: u8) {
        let mut bytes = vec![0; bytes];
        bytes[at] = value;
        match T::decode(&bytes) {
            Err(error @ DecodeError::Field { .. }) => {
                assert_eq!(error.code(), ReturnCode::INVALID_INPUT);
            }
            Err(other) => panic!("{other}"),
            Ok(_) => panic!("byte {at} is {value}"),
        }
    }
    refused::<events::GetEventRecords>(1, 0, 5);
    refused::<fm::InitiateAdd>(32, 2, 4);
    refused::<fm::InitiateRelease>(32, 2, 2);
    refused::<ld::LdAllocations>(4, 1, 3);
    // 2^36 units of 256 MiB are 2^64 bytes.
    refused::<fm::Info>(84, 16, 0x10);
    refused::<identify::MemoryDevice>(69, 20, 0x10);
    // A device that does not know who has the tags.
    let mut tags = vec![0; 16 + 84];
    tags[8] = 1;
    for (validity, is_known) in [(0, false), (1, false), (2, false), (3, true), (0xff, true)] {
        tags[12] = validity;
        assert_eq!(fm::Tags::decode(&tags).is_ok(), is_known, "{validity}");
    }
    let mut record = vec![0; 160];
    record[20] = 1;
    record[32..48].copy_from_slice(&events::DYNAMIC_CAPACITY_UUID);
    for kind in 0..=255 {
        record[80] = kind;
        assert_eq!(events::EventRecords::decode(&record).is_ok(), kind <= 5, "{kind}");
    }
}

/// Where a tunnel carries what it may not.
#[test]
fn tunnels_carry_the_right_kind() {
    let request = Message::command(1, &fm::GetInfo);
    let response = Message::response(&request, ReturnCode::SUCCESS, vec![]);
    let carry =
        |front: [u8; 4], message: &Message| [front.as_slice(), &message.encode().unwrap()].concat();
    assert!(Tunnel::decode(&carry([0, 0, 12, 0], &request)).is_ok());
    assert!(Tunnel::decode(&carry([0, 0, 12, 0], &response)).is_err());
    assert!(Tunnel::decode(&carry([0, 2, 12, 0], &request)).is_err());
    assert!(Tunneled::decode(&carry([12, 0, 0, 0], &response)).is_ok());
    assert!(Tunneled::decode(&carry([12, 0, 0, 0], &request)).is_err());
    // Too short for a header.
    assert!(Tunnel::decode(&[0, 0, 0, 0]).is_err());
}

proptest! {
    #[test]
    fn random_bytes(bytes in vec(any::<u8>(), 0..400)) {
        decode_with_counts(&bytes);
    }

    /// Mostly zeros: counts that are small, and so lists that are read.
    #[test]
    fn sparse_bytes(
        length in 0_usize..400,
        set in vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
    ) {
        let mut bytes = vec![0; length];
        for (at, value) in set {
            if length > 0 {
                bytes[at.index(length)] = value;
            }
        }
        decode_with_counts(&bytes);
    }

    /// Records of events with something broken.
    #[test]
    fn broken_events(
        message in any::event_records(),
        at in any::<prop::sample::Index>(),
        value: u8,
    ) {
        let mut bytes = message.to_bytes();
        let at = at.index(bytes.len());
        bytes[at] = value;
        decode_every(&bytes);
    }

    /// What is decoded takes no more room than its bytes, times what the types are larger.
    #[test]
    fn room_is_bounded(message in any::tags(), records in any::event_records()) {
        let (tags, records) = (message.to_bytes(), records.to_bytes());
        for bytes in [tags, records] {
            let used = allocation_counter::measure(|| {
                let _ = fm::Tags::decode(&bytes);
                let _ = events::EventRecords::decode(&bytes);
            });
            let bytes = bytes.len() as u64;
            prop_assert!(used.bytes_max <= 4 * bytes, "{used:?} for {bytes} bytes");
        }
    }
}
