//! What is encoded is decoded to the same, and the other way round.

use std::fmt::Debug;

use memtide_cxl::{DecodeError, Payload, cci};
use memtide_units::Tag;
use proptest::{prelude::*, test_runner::TestCaseResult};

use crate::any;

fn comes_back<T: Payload + PartialEq + Debug>(message: &T) -> TestCaseResult {
    let bytes = message.to_bytes();
    let again = T::decode(&bytes);
    prop_assert_eq!(again.as_ref(), Ok(message));
    // Encoding appends: what was there before stays.
    let mut out = vec![0xa5];
    message.encode(&mut out);
    prop_assert_eq!(&out[1..], bytes.as_slice());
    prop_assert_eq!(out[0], 0xa5);
    // One byte more or less is another length.
    let mut longer = bytes.clone();
    longer.push(0);
    prop_assert!(is_length(&T::decode(&longer)));
    if let Some((_, shorter)) = bytes.split_last() {
        prop_assert!(is_length(&T::decode(shorter)));
    }
    Ok(())
}

fn is_length<T>(decoded: &Result<T, DecodeError>) -> bool {
    matches!(decoded, Err(DecodeError::Length { .. }))
}

macro_rules! identities {
    ($($name:ident),+ $(,)?) => {
        proptest! {$(
            #[test]
            fn $name(message in any::$name()) {
                comes_back(&message)?;
            }
        )+}
    };
}

identities!(
    get_configuration,
    configuration,
    get_extent_list,
    extent_list,
    add_response,
    release,
    get_event_records,
    event_records,
    clear_event_records,
    info,
    get_host_configuration,
    host_configuration,
    set_configuration,
    get_host_extents,
    host_extents,
    initiate_add,
    initiate_release,
    list_tags,
    tags,
    background_operation,
    identity,
    memory_device,
    switch_identity,
    get_physical_port_state,
    physical_port_state,
    ld_info,
    get_ld_allocations,
    ld_allocations,
    get_multi_headed_info,
    multi_headed_info,
    tunnel,
    tunneled,
);

proptest! {
    #[test]
    fn references(tag in any::tag()) {
        use memtide_cxl::command::fabric_manager::{AddReference, RemoveReference};
        comes_back(&AddReference(tag))?;
        comes_back(&RemoveReference(tag))?;
        prop_assert_eq!(Tag(AddReference(tag).to_bytes().try_into().unwrap()), tag);
    }

    #[test]
    fn cci_message(message in any::cci()) {
        let bytes = message.encode().unwrap();
        prop_assert_eq!(cci::Message::decode(&bytes), Ok(message.clone()));
        let header = bytes.first_chunk().unwrap();
        prop_assert_eq!(cci::payload_bytes(header), Ok(message.payload.len()));
    }
}

#[test]
fn nothing() {
    use memtide_cxl::command::fabric_manager::GetInfo;
    assert_eq!((GetInfo.to_bytes(), GetInfo::decode(&[])), (vec![], Ok(GetInfo)));
    assert_eq!(<()>::decode(&[]), Ok(()));
    assert!(GetInfo::decode(&[0]).is_err());
    assert!(<()>::decode(&[0]).is_err());
}
