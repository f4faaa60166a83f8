//! Bytes, decoded as every message there is. Shared with the fuzzer.

use std::{fmt::Debug, ops::Range};

use memtide_cxl::{
    Payload,
    cci::{self, Message},
    command::{
        background, dynamic_capacity as dc, events, fabric_manager as fm, identify,
        logical_device as ld, message_limit, switch,
    },
    mailbox, registers,
    tunnel::{HOP_BYTES, HOPS_MAX, Route, Target, Tunnel, Tunneled},
};

/// What decodes must come back the same from its own bytes, of which there are as many.
fn decode<T: Payload + PartialEq + Debug>(bytes: &[u8]) {
    let Ok(message) = T::decode(bytes) else { return };
    let again = message.to_bytes();
    assert_eq!(again.len(), bytes.len(), "{message:?}");
    assert_eq!(T::decode(&again).as_ref(), Ok(&message));
}

/// Decodes as each type: `each!(bytes: A, B)`.
macro_rules! each {
    ($bytes:ident: $($message:ty),+ $(,)?) => {$( decode::<$message>($bytes); )+};
}

/// A message with a list.
pub struct List {
    /// Where its count is.
    pub count: Range<usize>,
    /// Bytes of a member.
    pub each: usize,
    /// Bytes of the message around its list.
    pub around: usize,
}

const fn list(count: Range<usize>, each: usize, around: usize) -> List {
    List { count, each, around }
}

/// All of them; where two are alike, one.
pub const LISTS: [List; 15] = [
    // 4800h, 4801h, and 4802h as 4803h.
    list(1..2, 40, 24),
    list(0..4, 40, 16),
    list(0..4, 24, 8),
    // 0100h and 0101h.
    list(20..22, 128, 32),
    list(2..3, 2, 6),
    // 5601h, 5603h, 5604h as 5605h, and 5608h.
    list(3..4, 40, 20),
    list(8..12, 40, 24),
    list(28..32, 40, 32),
    list(8..12, 84, 16),
    // 5101h and its answer, 5401h and 5500h.
    list(0..1, 1, 1),
    list(0..1, 16, 4),
    list(3..4, 16, 4),
    list(5..6, 1, 8),
    // 5300h and its answer.
    list(2..4, 1, 4),
    list(0..2, 1, 4),
];

/// Decodes these bytes, and the same with the count that each list would need.
pub fn decode_with_counts(bytes: &[u8]) {
    decode_every(bytes);
    for list in &LISTS {
        let Some(room) = bytes.len().checked_sub(list.around) else { continue };
        let most = (1_usize << (8 * list.count.len())) - 1;
        let count = most.min(room / list.each);
        let mut bytes = bytes[..list.around + count * list.each].to_vec();
        bytes[list.count.clone()].copy_from_slice(&count.to_le_bytes()[..list.count.len()]);
        decode_every(&bytes);
    }
}

/// Decodes these bytes as every message and register.
pub fn decode_every(bytes: &[u8]) {
    each!(
        bytes: (),
        dc::GetConfiguration,
        dc::Configuration,
        dc::GetExtentList,
        dc::ExtentList,
        dc::AddResponse,
        dc::Release,
        events::GetEventRecords,
        events::EventRecords,
        events::ClearEventRecords,
        fm::GetInfo,
        fm::Info,
        fm::GetHostConfiguration,
        fm::HostConfiguration,
        fm::SetConfiguration,
        fm::GetHostExtents,
        fm::HostExtents,
        fm::InitiateAdd,
        fm::InitiateRelease,
        fm::AddReference,
        fm::RemoveReference,
        fm::ListTags,
        fm::Tags,
        background::GetBackgroundOperation,
        background::BackgroundOperation,
        message_limit::SetResponseLimit,
        message_limit::ResponseLimit,
        identify::Identify,
        identify::Identity,
        identify::IdentifyMemoryDevice,
        identify::MemoryDevice,
        switch::IdentifySwitch,
        switch::Switch,
        switch::GetPhysicalPortState,
        switch::PhysicalPortState,
        ld::GetLdInfo,
        ld::LdInfo,
        ld::GetLdAllocations,
        ld::LdAllocations,
        ld::GetMultiHeadedInfo,
        ld::MultiHeadedInfo,
        Tunnel,
        Tunneled,
    );
    decode_cci(bytes);
    decode_routed(bytes);
    decode_registers(bytes);
}

/// As what comes back through one tunnel, two and three: an answer to the request, or none.
fn decode_routed(bytes: &[u8]) {
    let request = Message::command(bytes.first().copied().unwrap_or(0), &fm::GetInfo);
    let mut route = Route::port(1);
    for _ in 1..=HOPS_MAX {
        if let Ok(answer) = route.unwrap(&request, bytes) {
            assert!(answer.answers(&request));
            assert_eq!(answer.bytes() + HOP_BYTES * route.hops().len(), bytes.len() + 12);
        }
        if route.hops().len() < HOPS_MAX {
            route = route.then(Target::LdPool);
        }
    }
}

fn decode_cci(bytes: &[u8]) {
    let Ok(message) = Message::decode(bytes) else { return };
    let again = message.encode().expect("it was short enough to arrive");
    assert_eq!(again.len(), bytes.len());
    assert_eq!(Message::decode(&again), Ok(message));
    let header = again.first_chunk().expect("a header arrived");
    assert_eq!(cci::payload_bytes(header), Ok(bytes.len() - cci::HEADER_BYTES));
}

fn decode_registers(bytes: &[u8]) {
    let Some(words) = bytes.first_chunk::<28>() else { return };
    let words: [u32; 7] = std::array::from_fn(|n| {
        u32::from_le_bytes(*words[4 * n..].first_chunk().expect("7 words are 28 bytes"))
    });
    let wide = u64::from(words[0]) | u64::from(words[1]) << 32;
    let [entry @ .., _, _, _] = words;
    assert!(registers::DeviceCapability::decode(entry).end() < 1 << 33);
    let _ = registers::RegisterBlock::decode(words[0], words[1]);
    let _ = registers::device_capabilities(wide);
    let _ = registers::component_capabilities(words[0]);
    let _ = registers::ComponentCapability::decode(words[0]);
    let _ = registers::decoder::DecoderCapability(words[0]).decoders();
    let status = mailbox::decode_status(wide);
    assert_eq!(mailbox::decode_status(mailbox::encode_status(status)), status);
    let background = mailbox::BackgroundStatus::decode(wide);
    assert_eq!(mailbox::BackgroundStatus::decode(background.encode()), background);
    if let Ok(mailbox) = mailbox::Capabilities::decode(words[2])
        && let Ok(command) = mailbox::CommandRegister::decode(wide, mailbox)
    {
        assert!(command.payload_bytes() <= mailbox.payload_bytes());
        assert_eq!(mailbox::CommandRegister::decode(command.encode(), mailbox), Ok(command));
    }
    let [window @ .., _] = words;
    if let Ok(window) = registers::decoder::Window::decode(window) {
        let words = window.writes(3).map(|(_, word)| word);
        assert_eq!(registers::decoder::Window::decode(words), Ok(window));
    }
}
