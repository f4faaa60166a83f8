//! QEMU's device: its mailbox over qtest, its manager over QMP.

use std::time::{Duration, Instant};

use memtide_cxl::{
    Opcode, ReturnCode,
    command::{events::EventLog, fabric_manager::Selection},
    mailbox::{self, Capabilities, CommandRegister, Control},
    registers::{
        self, BlockKind, DeviceCapability, DeviceCapabilityId, EventStatus, RegisterBlock,
    },
};
use memtide_testbed::{Error, Qtest, machines, qtest::pci::PciDevice};
use serde_json::json;

/// The vendor of CXL's capabilities in configuration space, and the register locator among them.
const CXL_VENDOR: u16 = 0x1e98;
const REGISTER_LOCATOR: u16 = 8;
/// How long a command may take (CXL 3.1, 8.2.8.4.1).
const COMMAND_LIMIT: Duration = Duration::from_secs(2);

/// QEMU's version: major and minor.
pub fn version() -> Result<(u64, u64), Error> {
    let machine = Qtest::start(&machines::plain())?;
    let told = machine.qmp().execute("query-version", json!({}))?;
    let part = |name: &str| told["qemu"][name].as_u64().expect("a version has numbers");
    Ok((part("major"), part("minor")))
}

/// A device in a machine of its own.
pub struct Emulated {
    machine: Qtest,
    mailbox: u64,
    status: u64,
    capabilities: Capabilities,
}

/// What a manager's request is to QEMU: offsets in one region.
pub struct Request<'a> {
    pub host: u16,
    pub region: u8,
    /// Bytes from the region's start, and how many.
    pub extents: &'a [(u64, u64)],
}

impl Emulated {
    pub fn start() -> Result<Self, Error> {
        let machine = Qtest::start(&machines::cxl_dynamic())?;
        let block = device_registers(&PciDevice::behind_first_port(&machine)?)?;
        let count = registers::device_capabilities(machine.read64(block)?).expect("an array");
        let (mut mailbox, mut status) = (None, None);
        for number in 0..count {
            let at = block + DeviceCapability::entry(number);
            let mut entry = [0; 4];
            for (word, at) in entry.iter_mut().zip((at..).step_by(4)) {
                *word = machine.read32(at)?;
            }
            let found = DeviceCapability::decode(entry);
            let place = Some(block + u64::from(found.offset));
            match found.id {
                DeviceCapabilityId::MAILBOX => mailbox = place,
                DeviceCapabilityId::STATUS => status = place,
                _ => {}
            }
        }
        let mailbox = mailbox.expect("a mailbox");
        let register = machine.read32(mailbox + mailbox::offset::CAPABILITIES)?;
        let capabilities = Capabilities::decode(register).expect("a size of payloads");
        Ok(Self { machine, mailbox, status: status.expect("event status"), capabilities })
    }

    /// Bytes of a payload.
    pub fn payload_bytes(&self) -> usize {
        self.capabilities.payload_bytes()
    }

    /// A command through the mailbox, and what comes back.
    pub fn command(&self, opcode: Opcode, payload: &[u8]) -> Result<(ReturnCode, Vec<u8>), Error> {
        let register = |offset| self.mailbox + offset;
        self.silence()?;
        let command = CommandRegister::new(opcode, payload.len(), self.capabilities);
        let command = command.expect("tests send what fits");
        self.machine.write(register(mailbox::offset::PAYLOAD), payload)?;
        self.machine.write64(register(mailbox::offset::COMMAND), command.encode())?;
        let control = Control(self.machine.read32(register(mailbox::offset::CONTROL))?);
        self.machine.write32(register(mailbox::offset::CONTROL), control.ring().0)?;
        self.silence()?;
        let status = self.machine.read64(register(mailbox::offset::STATUS))?;
        let answer = self.machine.read64(register(mailbox::offset::COMMAND))?;
        let answer = CommandRegister::decode(answer, self.capabilities).expect("a length");
        let code = mailbox::decode_status(status).code;
        let bytes = if code == ReturnCode::SUCCESS { answer.payload_bytes() } else { 0 };
        Ok((code, self.machine.read(register(mailbox::offset::PAYLOAD), bytes)?))
    }

    fn silence(&self) -> Result<(), Error> {
        let deadline = Instant::now() + COMMAND_LIMIT;
        loop {
            let control = self.machine.read32(self.mailbox + mailbox::offset::CONTROL)?;
            if !Control(control).is_ringing() {
                return Ok(());
            }
            assert!(Instant::now() < deadline, "the doorbell rings for {COMMAND_LIMIT:?}");
        }
    }

    /// Whether the register says that the log of dynamic capacity has records.
    pub fn has_events(&self) -> Result<bool, Error> {
        Ok(EventStatus(self.machine.read32(self.status)?).has(EventLog::DynamicCapacity))
    }

    /// Has the manager offer extents. QEMU's words, where it refuses.
    pub fn add(
        &self,
        request: &Request<'_>,
        selection: Selection,
        tag: &str,
    ) -> Result<Option<String>, Error> {
        let policy = match selection {
            Selection::Free => "free",
            Selection::Contiguous => "contiguous",
            Selection::Prescriptive => "prescriptive",
            Selection::EnableSharedAccess => "enable-shared-access",
        };
        let mut arguments = request.arguments();
        arguments["selection-policy"] = policy.into();
        arguments["tag"] = tag.into();
        refused(self.machine.qmp().execute("cxl-add-dynamic-capacity", arguments))
    }

    /// Has the manager ask for extents, or take them.
    pub fn release(
        &self,
        request: &Request<'_>,
        forced: bool,
        sanitize: bool,
    ) -> Result<Option<String>, Error> {
        let mut arguments = request.arguments();
        arguments["removal-policy"] = "prescriptive".into();
        arguments["forced-removal"] = forced.into();
        arguments["sanitize-on-release"] = sanitize.into();
        refused(self.machine.qmp().execute("cxl-release-dynamic-capacity", arguments))
    }
}

impl Request<'_> {
    fn arguments(&self) -> serde_json::Value {
        let extent = |&(offset, len): &(u64, u64)| json!({ "offset": offset, "len": len });
        json!({
            "path": "/machine/peripheral/mem0",
            "host-id": self.host,
            "region": self.region,
            "extents": self.extents.iter().map(extent).collect::<Vec<_>>(),
        })
    }
}

fn refused(done: Result<serde_json::Value, Error>) -> Result<Option<String>, Error> {
    match done {
        Ok(_) => Ok(None),
        Err(Error::Refused { description, .. }) => Ok(Some(description)),
        Err(error) => Err(error),
    }
}

/// Where the device's registers are, by its register locator.
fn device_registers(device: &PciDevice<'_>) -> Result<u64, Error> {
    let locator = device.vendor_capability(CXL_VENDOR, REGISTER_LOCATOR)?;
    let locator = locator.expect("a CXL device has a register locator");
    let length = (device.read(locator + 4)? >> 20) as u16;
    for at in (locator + 0xc..locator + length).step_by(8) {
        let block = RegisterBlock::decode(device.read(at)?, device.read(at + 4)?);
        let block = block.expect("a base address that exists");
        if block.kind == BlockKind::DEVICE {
            let base = device.base_address(block.bar).expect("it got an address");
            return Ok(base + block.offset);
        }
    }
    panic!("the register locator names no device registers");
}

#[test]
fn a_machine_that_ends_is_an_error_and_nobody_waits_for_it() -> Result<(), Error> {
    if !memtide_testbed::ready() {
        return Ok(());
    }
    let machine = Qtest::start(&machines::plain())?;
    machine.write64(0x1000, 0x0123_4567_89ab_cdef)?;
    assert_eq!(machine.read32(0x1004)?, 0x0123_4567);
    machine.write(0x1002, &[0xff; 3])?;
    assert_eq!(machine.read(0x1000, 8)?, [0xef, 0xcd, 0xff, 0xff, 0xff, 0x45, 0x23, 0x01]);
    machine.qmp().execute("quit", json!({}))?;
    let error = (0..1000).find_map(|_| machine.read32(0x1000).err()).expect("it ended");
    assert!(matches!(error, Error::Ended { .. }), "{error}");
    Ok(())
}
