//! What is encoded is decoded to the same, and the other way round.

use std::fmt::Debug;

use memtide_cxl::{DecodeError, Payload, cci};
use memtide_units::Tag;
use proptest::{prelude::*, test_runner::TestCaseResult};

use crate::any;

fn identity<T: Payload + PartialEq + Debug>(message: &T) -> TestCaseResult {
    let bytes = message.to_bytes();
    let again = T::decode(&bytes);
    prop_assert_eq!(again.as_ref(), Ok(message));
    // Encoding appends: what was there before stays.
    let mut out = vec![0xa5];
    message.encode(&mut out);
    prop_assert_eq!(&out[1..], bytes.as_slice());
    prop_assert_eq!(out[0], 0xa5);
    // One byte more or less is another length.
    prop_assert!(is_length(T::decode(&out)));
    match bytes.len() {
        0 => Ok(()),
        length => {
            prop_assert!(is_length(T::decode(&bytes[..length - 1])));
            Ok(())
        }
    }
}

fn is_length<T>(decoded: Result<T, DecodeError>) -> bool {
    matches!(decoded, Err(DecodeError::Length { .. } | DecodeError::Field { .. }))
}

macro_rules! identities {
    ($($name:ident),+ $(,)?) => {
        proptest! {$(
            #[test]
            fn $name(message in any::$name()) {
                identity(&message)?;
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
);

proptest! {
    #[test]
    fn references(tag in any::tag()) {
        use memtide_cxl::command::fabric_manager::{AddReference, RemoveReference};
        identity(&AddReference(tag))?;
        identity(&RemoveReference(tag))?;
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
