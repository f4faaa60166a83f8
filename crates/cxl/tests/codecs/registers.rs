//! Registers: literal values, from the layouts.

use memtide_cxl::{
    Opcode, ReturnCode,
    cci::{Background, Outcome, TooLong},
    command::events::EventLog,
    mailbox::{self, offset},
    registers::{
        self, BlockKind, ComponentCapability, DeviceCapability, DeviceCapabilityId, EventStatus,
        Media, MemoryDeviceStatus, RegisterBlock,
        decoder::{
            self, Coherence, DecoderCapability, DecoderControl, DecoderState, GlobalControl,
            Interleave, Window,
        },
    },
};
use proptest::prelude::*;

#[test]
fn mailbox_registers() {
    let offsets = [
        offset::CAPABILITIES,
        offset::CONTROL,
        offset::COMMAND,
        offset::STATUS,
        offset::BACKGROUND_STATUS,
        offset::PAYLOAD,
    ];
    assert_eq!(offsets, [0, 4, 8, 0x10, 0x18, 0x20]);

    let mailbox = mailbox::Capabilities::decode(0xffff_ffe0 | 11).unwrap();
    assert_eq!(mailbox.payload_bytes(), 2048);
    assert_eq!(mailbox::Capabilities::decode(20).unwrap().payload_bytes(), 1 << 20);
    for wrong in [0, 7, 21, 31] {
        assert!(mailbox::Capabilities::decode(wrong).is_err(), "{wrong}");
    }

    assert!(mailbox::Control(0xffff_ffff).is_ringing());
    assert!(!mailbox::Control(0xffff_fffe).is_ringing());
    assert_eq!(mailbox::Control(4).ring(), mailbox::Control(5));

    let command = mailbox::CommandRegister::new(Opcode::GET_DC_EXTENT_LIST, 8, mailbox).unwrap();
    assert_eq!(command.encode(), 0x0008_4801);
    let answer = mailbox::CommandRegister::decode(0xffff_ffe0_0008_4801, mailbox).unwrap();
    assert_eq!((answer.opcode(), answer.payload_bytes()), (Opcode(0x4801), 8));
    // Bits 36:16 are the length: 2^20 is more than this mailbox has.
    let (what, bytes, max) = ("a mailbox payload", 1 << 20, 2048);
    let refused = Err(TooLong { what, bytes, max });
    assert_eq!(mailbox::CommandRegister::decode(1 << 36, mailbox), refused);
    assert_eq!(mailbox::CommandRegister::new(Opcode(0), bytes, mailbox), refused);

    let outcome = Outcome {
        code: ReturnCode::INVALID_EXTENT_LIST,
        vendor_status: 0x0102,
        background: Background::Running,
    };
    assert_eq!(mailbox::decode_status(0x0102_001e_ffff_ffff), outcome);
    assert_eq!(mailbox::encode_status(outcome), 0x0102_001e_0000_0001);

    let status = mailbox::BackgroundStatus::decode(0x0102_001e_ffb2_4801);
    assert_eq!((status.opcode, status.percent), (Opcode(0x4801), 50));
    assert_eq!((status.code, status.vendor_status), (outcome.code, 0x0102));
    assert_eq!(status.encode(), 0x0102_001e_0032_4801);
}

#[test]
fn register_locator() {
    // As QEMU's device has them: component registers in BAR 0, device registers in BAR 2.
    let block = RegisterBlock::decode(0x0000_0100, 0).unwrap();
    assert_eq!(block, RegisterBlock { bar: 0, kind: BlockKind::COMPONENT, offset: 0 });
    let block = RegisterBlock::decode(0x0003_0302, 1).unwrap();
    assert_eq!(block, RegisterBlock { bar: 2, kind: BlockKind::DEVICE, offset: 0x1_0003_0000 });
    assert!(RegisterBlock::decode(6, 0).is_err());
}

#[test]
fn device_capabilities() {
    assert_eq!(registers::device_capabilities(0xffff_0003_ffff_0000), Ok(3));
    assert!(registers::device_capabilities(1).is_err());
    assert_eq!((DeviceCapability::entry(0), DeviceCapability::entry(2)), (0x10, 0x30));
    let mailbox = DeviceCapability::decode([0x0001_0002, 0x50, 0x820, 0xffff_ffff]);
    let id = DeviceCapabilityId::MAILBOX;
    assert_eq!(mailbox, DeviceCapability { id, version: 1, offset: 0x50, length: 0x820 });
    assert_eq!(mailbox.end(), 0x870);
    assert_eq!(DeviceCapability::decode([0, u32::MAX, u32::MAX, 0]).end(), 0x1_ffff_fffe);
}

#[test]
fn status_registers() {
    assert!(EventStatus(0x10).has(EventLog::DynamicCapacity));
    assert!(!EventStatus(!0x10).has(EventLog::DynamicCapacity));
    assert!(EventStatus(1).has(EventLog::Informational));
    let ready = MemoryDeviceStatus(0x14);
    assert_eq!((ready.media(), ready.is_mailbox_ready()), (Media::Ready, true));
    assert!(!ready.is_fatal() && !ready.is_firmware_halted());
    let broken = MemoryDeviceStatus(0x0b);
    assert_eq!((broken.media(), broken.is_mailbox_ready()), (Media::Error, false));
    assert!(broken.is_fatal() && broken.is_firmware_halted());
    assert_eq!(MemoryDeviceStatus(0).media(), Media::NotReady);
    assert_eq!(MemoryDeviceStatus(0xc).media(), Media::Disabled);
}

#[test]
fn component_capabilities() {
    assert_eq!(registers::COMPONENT_HEADER, 0x1000);
    assert_eq!(registers::component_capabilities(0x0511_0001), Ok(5));
    assert!(registers::component_capabilities(0x0511_0002).is_err());
    assert_eq!((ComponentCapability::entry(0), ComponentCapability::entry(4)), (4, 0x14));
    let (id, version, offset) = (ComponentCapability::DECODERS, 3, 0x110);
    let decoders = ComponentCapability::decode(0x1103_0005);
    assert_eq!(decoders, ComponentCapability { id, version, offset });
}

#[test]
fn decoder_capability() {
    let counts = [1, 2, 4, 6, 8, 10, 12, 14, 16, 20, 24, 28, 32];
    for (number, count) in counts.into_iter().enumerate() {
        assert_eq!(DecoderCapability(0xfff0 | number as u32).decoders(), Ok(count));
    }
    assert!(DecoderCapability(13).decoders().is_err());
    let interleave = |ways, granularity| Interleave::new(ways, granularity).unwrap();
    assert!(DecoderCapability(0).can(Interleave::NONE));
    for (bit, ways, granularity) in [(8, 2, 256), (8, 8, 2048), (9, 4, 4096), (9, 2, 16384)] {
        assert!(DecoderCapability(1 << bit).can(interleave(ways, granularity)));
        assert!(!DecoderCapability(!(1 << bit)).can(interleave(ways, granularity)));
    }
    for (bit, ways) in [(11, 3), (11, 6), (11, 12), (12, 16)] {
        assert!(DecoderCapability(1 << 8 | 1 << bit).can(interleave(ways, 256)));
        assert!(!DecoderCapability(!(1 << bit)).can(interleave(ways, 256)));
    }
}

#[test]
fn decoder_registers() {
    assert_eq!((decoder::CAPABILITY, decoder::GLOBAL_CONTROL), (0, 4));
    assert_eq!(GlobalControl(1).enable(), GlobalControl(3));
    assert!(GlobalControl(2).is_enabled() && !GlobalControl(!2).is_enabled());

    let window = Window::new(0x12_1000_0000, 0x1_2000_0000, 0x3000_0000).unwrap();
    let writes = [
        (0x30, 0x1000_0000),
        (0x34, 0x12),
        (0x38, 0x2000_0000),
        (0x3c, 0x1),
        (0x44, 0x3000_0000),
        (0x48, 0),
    ];
    assert_eq!(window.writes(1), writes);
    assert_eq!(Window::offsets(1), writes.map(|(offset, _)| offset));
    assert_eq!((DecoderControl::offset(0), DecoderControl::offset(1)), (0x20, 0x40));
    // Bits 27:0 of the low words are reserved.
    let words = [0x1fff_ffff, 0x12, 0x2fff_ffff, 1, 0x3fff_ffff, 0];
    assert_eq!(Window::decode(words), Ok(window));

    let unit = 256 << 20;
    assert!(Window::new(unit - 1, unit, 0).is_err());
    assert!(Window::new(unit, unit + 4096, 0).is_err());
    assert!(Window::new(unit, unit, 1).is_err());
    assert!(Window::new(0_u64.wrapping_sub(unit), unit, 0).is_ok());
    assert!(Window::new(0_u64.wrapping_sub(unit), 2 * unit, 0).is_err());
}

#[test]
fn decoder_control() {
    let control = DecoderControl::commit(Interleave::NONE, Coherence::HostOnly);
    assert_eq!(control, DecoderControl(1 << 12 | 1 << 9));
    let twelve = Interleave::new(12, 4096).unwrap();
    let control = DecoderControl::commit(twelve, Coherence::Device);
    assert_eq!(control, DecoderControl(1 << 9 | 0xa << 4 | 4));
    assert_eq!((control.interleave(), control.coherence()), (Ok(twelve), Coherence::Device));
    let states = [
        (0, DecoderState::Off),
        (1 << 9, DecoderState::Committing),
        (1 << 9 | 1 << 10, DecoderState::Committed),
        (1 << 9 | 1 << 11, DecoderState::Refused),
    ];
    for (value, state) in states {
        assert_eq!(DecoderControl(value).state(), state);
    }
    assert_eq!(DecoderControl::OFF.state(), DecoderState::Off);
    assert!(DecoderControl(1 << 8).is_locked() && !DecoderControl(!(1 << 8)).is_locked());
    for wrong in [7, 5 << 4, 7 << 4, 11 << 4] {
        assert!(DecoderControl(wrong).interleave().is_err(), "{wrong:#x}");
    }
}

#[test]
fn every_interleave() {
    for ways in 0..=u8::MAX {
        for granularity in (0..=15).map(|bit| 1_u16 << bit).chain([0, 257, 768]) {
            let is_right = [1, 2, 3, 4, 6, 8, 12, 16].contains(&ways)
                && [256, 512, 1024, 2048, 4096, 8192, 16384].contains(&granularity);
            let interleave = Interleave::new(ways, granularity);
            assert_eq!(interleave.is_ok(), is_right, "{ways} ways of {granularity}");
            let Ok(interleave) = interleave else { continue };
            assert_eq!((interleave.ways(), interleave.granularity()), (ways, granularity));
            let control = DecoderControl::commit(interleave, Coherence::HostOnly);
            assert_eq!(control.interleave(), Ok(interleave));
        }
    }
}

proptest! {
    #[test]
    fn windows_come_back(base in 0..1_u64 << 36, size in 0..1_u64 << 36, skip in 0..1_u64 << 36) {
        if let Ok(window) = Window::new(base << 28, size << 28, skip << 28) {
            let words = window.writes(0).map(|(_, word)| word);
            prop_assert_eq!(Window::decode(words), Ok(window));
            let values = (window.base(), window.size(), window.skip());
            prop_assert_eq!(values, (base << 28, size << 28, skip << 28));
        } else {
            prop_assert!(base + size > 1 << 36);
        }
    }
}
