//! What a switch is, and what is at its ports (CXL 3.1, 7.6.7.1.1 and 7.6.7.1.2).

use alloc::vec::Vec;

use crate::{
    Command, DecodeError, Opcode, Payload,
    payload::{Fields, Record, Writer, fixed_size},
};

/// 5100h: what is the switch?
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IdentifySwitch;

/// The answer to 5100h: 73 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Switch {
    /// The port that the request came in at.
    pub ingress_port: u8,
    /// How many ports it has.
    pub ports: u8,
    /// How many virtual switches it has.
    pub virtual_switches: u8,
    /// Which ports are in use: 256 bits, the lowest first.
    pub active_ports: [u8; 32],
    /// Which virtual switches are.
    pub active_virtual_switches: [u8; 32],
    /// How many bridges its virtual switches have.
    pub bridges: u16,
    /// How many of them have something behind them.
    pub bound_bridges: u16,
    /// How many ranges of addresses each virtual switch can decode.
    pub decoders: u8,
}

impl Command for IdentifySwitch {
    const OPCODE: Opcode = Opcode::IDENTIFY_SWITCH;
    type Response = Switch;
}

/// 5101h: what is at these ports?
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GetPhysicalPortState {
    /// Which: at most 255.
    pub ports: Vec<u8>,
}

/// The answer to 5101h: a header of 4 bytes, and 16 for each port.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PhysicalPortState {
    /// In the order of the request: at most 255.
    pub ports: Vec<Port>,
}

impl Command for GetPhysicalPortState {
    const OPCODE: Opcode = Opcode::GET_PHYSICAL_PORT_STATE;
    type Response = PhysicalPortState;
}

/// A port (CXL 3.1, table 7-19).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Port {
    /// Its number.
    pub number: u8,
    /// What it is used as.
    pub configuration: PortConfiguration,
    /// How what is there speaks: 0 not CXL or nobody, 1 RCD, 2 68-byte flits, 3 256-byte flits,
    /// 4 those at low latency, 5 PBR. 4 bits.
    pub mode: u8,
    /// What is there. Nothing is said of it at an upstream port.
    pub connected: ConnectedDevice,
    /// Ways of speaking that it can do: bit n is mode n + 1.
    pub modes_supported: u8,
    /// Its link.
    pub link: Link,
    /// How many logical devices it can tell apart there.
    pub ld_count: u8,
}

/// What a port is used as: 4 bits. Uses that this crate has no name for are kept as they are.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PortConfiguration(pub u8);

impl PortConfiguration {
    /// Nothing.
    pub const DISABLED: Self = Self(0);
    /// Something behind it is being given to a host.
    pub const BINDING: Self = Self(1);
    /// Something behind it is being taken from a host.
    pub const UNBINDING: Self = Self(2);
    /// A device is there.
    pub const DOWNSTREAM: Self = Self(3);
    /// A host is there.
    pub const UPSTREAM: Self = Self(4);
    /// Another switch is there.
    pub const FABRIC: Self = Self(5);
    /// There is no such port.
    pub const INVALID: Self = Self(0xf);
}

/// What is at a port. Kinds that this crate has no name for are kept as they are.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ConnectedDevice(pub u8);

impl ConnectedDevice {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// A device that only speaks PCIe.
    pub const PCIE: Self = Self(1);
    /// Of type 1: it caches.
    pub const TYPE_1: Self = Self(2);
    /// Of type 2, it caches and has memory; or a switch.
    pub const TYPE_2: Self = Self(3);
    /// Of type 3: memory for one host.
    pub const MEMORY: Self = Self(4);
    /// Of type 3: memory in logical devices.
    pub const MEMORY_MULTI_LOGICAL: Self = Self(5);
    /// Somebody who speaks PBR.
    pub const PBR: Self = Self(6);
}

/// A port's link, in PCIe's numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Link {
    /// Lanes that it has.
    pub width_max: u8,
    /// Lanes that it uses.
    pub width: u8,
    /// Speeds that it can do: bits.
    pub speeds: u8,
    /// The highest.
    pub speed_max: u8,
    /// The one it does.
    pub speed: u8,
    /// What its state machine says: 0 detect … 4 L0, 7 L2, 8 disabled, 10 hot reset.
    pub ltssm: u8,
    /// Its first lane.
    pub first_lane: u8,
    /// Bit 0 lanes reversed, 1 in reset, 2 something is plugged in, 3 no power.
    pub flags: u16,
}

fixed_size!(IdentifySwitch = "an Identify Switch Device request", Switch = "a switch's identity",);

impl Record for IdentifySwitch {
    const SIZE: usize = 0;

    fn write(&self, _: &mut Writer<'_>) {}

    fn read(_: &mut Fields<'_>) -> Result<Self, DecodeError> {
        Ok(Self)
    }
}

impl Record for Switch {
    const SIZE: usize = 73;

    fn write(&self, out: &mut Writer<'_>) {
        out.u8(self.ingress_port).reserved(1).u8(self.ports).u8(self.virtual_switches);
        out.bytes(&self.active_ports).bytes(&self.active_virtual_switches);
        out.u16(self.bridges).u16(self.bound_bridges).u8(self.decoders);
    }

    fn read(fields: &mut Fields<'_>) -> Result<Self, DecodeError> {
        let ingress_port = fields.u8();
        fields.reserved(1);
        Ok(Self {
            ingress_port,
            ports: fields.u8(),
            virtual_switches: fields.u8(),
            active_ports: fields.bytes(),
            active_virtual_switches: fields.bytes(),
            bridges: fields.u16(),
            bound_bridges: fields.u16(),
            decoders: fields.u8(),
        })
    }
}

impl Payload for GetPhysicalPortState {
    fn encode(&self, out: &mut Vec<u8>) {
        Writer(out).count8(&self.ports).bytes(&self.ports);
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut fields = Fields::at_least("a Get Physical Port State request", bytes, 1)?;
        let count = fields.u8();
        Ok(Self { ports: fields.payload(count.into())?.to_vec() })
    }
}

impl Payload for PhysicalPortState {
    fn encode(&self, out: &mut Vec<u8>) {
        Writer(out).count8(&self.ports).reserved(3).list(&self.ports);
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut fields = Fields::at_least("a physical port state", bytes, 4)?;
        let count = fields.u8();
        fields.reserved(3);
        Ok(Self { ports: fields.list(count.into(), 0)? })
    }
}

/// The bits that a use or a mode has in its byte.
const LOW: u8 = 0xf;

impl Record for Port {
    const SIZE: usize = 16;

    fn write(&self, out: &mut Writer<'_>) {
        out.u8(self.number).u8(self.configuration.0 & LOW).u8(self.mode & LOW).reserved(1);
        out.u8(self.connected.0).u8(self.modes_supported).record(&self.link).u8(self.ld_count);
    }

    fn read(fields: &mut Fields<'_>) -> Result<Self, DecodeError> {
        let number = fields.u8();
        let configuration = PortConfiguration(fields.u8() & LOW);
        let mode = fields.u8() & LOW;
        fields.reserved(1);
        Ok(Self {
            number,
            configuration,
            mode,
            connected: ConnectedDevice(fields.u8()),
            modes_supported: fields.u8(),
            link: Record::read(fields)?,
            ld_count: fields.u8(),
        })
    }
}

impl Record for Link {
    const SIZE: usize = 9;

    fn write(&self, out: &mut Writer<'_>) {
        out.u8(self.width_max).u8(self.width).u8(self.speeds).u8(self.speed_max);
        out.u8(self.speed).u8(self.ltssm).u8(self.first_lane).u16(self.flags);
    }

    fn read(fields: &mut Fields<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            width_max: fields.u8(),
            width: fields.u8(),
            speeds: fields.u8(),
            speed_max: fields.u8(),
            speed: fields.u8(),
            ltssm: fields.u8(),
            first_lane: fields.u8(),
            flags: fields.u16(),
        })
    }
}
