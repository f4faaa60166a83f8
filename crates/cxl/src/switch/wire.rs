//! Commands as bytes: what the switch answers itself, and what it hands on.

use alloc::vec::Vec;

use super::{Attached, Port, Refusal, Switch};
use crate::{
    Opcode, Payload, ReturnCode,
    cci::Message,
    command::{
        HostId,
        identify::{Component, Identify, Identity},
        switch::{
            self, ConnectedDevice, GetPhysicalPortState, IdentifySwitch, PhysicalPortState,
            PortConfiguration,
        },
    },
    device::Device,
    tunnel::{MESSAGE_BYTES_MAX, Target, Tunnel, Tunneled},
};

/// The PCI number of the CXL Consortium.
const CONSORTIUM: u16 = 0x1e98;
/// 68-byte flits: what a device of CXL 2.0 speaks, as a mode and as a bit of those that a port can.
const FLITS_68: u8 = 2;
const FLITS_68_SUPPORTED: u8 = 1 << 1;
/// Bytes of 5101h's answer around its list, and of a member.
const PORTS_AROUND: usize = 4;
const PORT_BYTES: usize = 16;

/// What comes back for a command.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reply {
    /// How it went.
    pub code: ReturnCode,
    /// What was asked for; empty if it was refused.
    pub payload: Vec<u8>,
    /// Why it was refused: what a switch cannot say on the wire.
    pub refusal: Option<Refusal>,
}

impl Switch {
    /// What somebody says through the mailbox: 0001h, 5100h, 5101h, 5300h.
    pub fn execute(&mut self, opcode: Opcode, payload: &[u8]) -> Reply {
        match self.run(opcode, payload) {
            Ok(payload) => Reply { code: ReturnCode::SUCCESS, payload, refusal: None },
            Err(why) => Reply { code: why.code(), payload: Vec::new(), refusal: Some(why) },
        }
    }

    fn run(&mut self, opcode: Opcode, payload: &[u8]) -> Result<Vec<u8>, Refusal> {
        let (bytes, room) = (payload.len(), self.payload_bytes());
        if bytes > room {
            return Err(Refusal::PayloadLength { bytes, room });
        }
        let answer = match opcode {
            Opcode::IDENTIFY => {
                Identify::decode(payload)?;
                self.identity().to_bytes()
            }
            Opcode::IDENTIFY_SWITCH => {
                IdentifySwitch::decode(payload)?;
                self.switch().to_bytes()
            }
            Opcode::GET_PHYSICAL_PORT_STATE => {
                self.port_states(&GetPhysicalPortState::decode(payload)?)?.to_bytes()
            }
            Opcode::TUNNEL_MANAGEMENT_COMMAND => self.tunnel(&Tunnel::decode(payload)?)?,
            _ => return Err(Refusal::Command { opcode }),
        };
        let bytes = answer.len();
        if bytes > room { Err(Refusal::AnswerLength { bytes, room }) } else { Ok(answer) }
    }

    /// 0001h.
    const fn identity(&self) -> Identity {
        Identity {
            vendor: CONSORTIUM,
            device: 0,
            // Not defined for a switch.
            subsystem_vendor: 0,
            subsystem: 0,
            serial: self.serial,
            message_log2_max: self.payload_log2,
            component: Component::SWITCH,
        }
    }

    /// 5100h.
    fn switch(&self) -> switch::Switch {
        let upstream = |(_, port): &(&u8, &Port)| port.attached == Attached::Host;
        let ingress_port = self.ports.iter().find(upstream).map_or(0, |(&number, _)| number);
        let mut active_ports = [0; 32];
        for &number in self.ports.keys() {
            active_ports[usize::from(number / 8)] |= 1 << (number % 8);
        }
        let mut active_virtual_switches = [0; 32];
        active_virtual_switches[0] = 1;
        let taken = |port: &&Port| port.attached != Attached::Nothing;
        switch::Switch {
            ingress_port,
            // At most 255 were let in.
            ports: self.ports.len() as u8,
            virtual_switches: 1,
            active_ports,
            active_virtual_switches,
            bridges: self.ports.len() as u16,
            bound_bridges: self.ports.values().filter(taken).count() as u16,
            decoders: 4,
        }
    }

    /// 5101h: of all that are asked for, or of none.
    fn port_states(&self, request: &GetPhysicalPortState) -> Result<PhysicalPortState, Refusal> {
        let room = (self.payload_bytes() - PORTS_AROUND) / PORT_BYTES;
        let ports = request.ports.len();
        if ports > room {
            return Err(Refusal::TooManyPorts { ports, room });
        }
        let state = |&port: &u8| match self.ports.get(&port) {
            Some(at) => Ok(at.state(port)),
            None => Err(Refusal::NoPort { port }),
        };
        let ports = request.ports.iter().map(state).collect::<Result<_, _>>()?;
        Ok(PhysicalPortState { ports })
    }

    /// 5300h: what comes back from the port, in its own frame.
    fn tunnel(&mut self, tunnel: &Tunnel) -> Result<Vec<u8>, Refusal> {
        let target = tunnel.target();
        let Target::PortOrLd(port) = target else { return Err(Refusal::Target { target }) };
        let at = self.ports.get_mut(&port).ok_or(Refusal::NoPort { port })?;
        let answer = at.attached.hear(tunnel.message()).ok_or(Refusal::NoDevice { port })?;
        let bytes = answer.bytes();
        let room = self.payload_bytes().min(MESSAGE_BYTES_MAX);
        let tunneled = Tunneled::new(answer).map_err(|_| Refusal::AnswerLength { bytes, room })?;
        Ok(tunneled.to_bytes())
    }
}

impl Port {
    /// What 5101h tells of it.
    fn state(&self, number: u8) -> switch::Port {
        let (configuration, connected, ld_count) = match &self.attached {
            Attached::Nothing => (PortConfiguration::DOWNSTREAM, ConnectedDevice::NONE, 0),
            Attached::Host => (PortConfiguration::UPSTREAM, ConnectedDevice::NONE, 0),
            Attached::Memory(_) => (PortConfiguration::DOWNSTREAM, ConnectedDevice::MEMORY, 1),
            Attached::Shared(device) | Attached::SharedHead(device) => {
                let connected = ConnectedDevice::MEMORY_MULTI_LOGICAL;
                (PortConfiguration::DOWNSTREAM, connected, device.hosts().count() as u8)
            }
        };
        let mode = if connected == ConnectedDevice::NONE { 0 } else { FLITS_68 };
        let (link, modes_supported) = (self.link, FLITS_68_SUPPORTED);
        switch::Port { number, configuration, mode, connected, modes_supported, link, ld_count }
    }
}

impl Attached {
    /// What who is there answers, if anybody is.
    fn hear(&mut self, request: &Message) -> Option<Message> {
        Some(match self {
            Self::Nothing | Self::Host => return None,
            Self::Memory(identity) => {
                let done = match request.opcode {
                    Opcode::IDENTIFY => Identify::decode(&request.payload)
                        .map(|_| identity.to_bytes())
                        .map_err(|why| why.code()),
                    _ => Err(ReturnCode::UNSUPPORTED),
                };
                respond(request, done)
            }
            Self::Shared(device) => match request.opcode {
                Opcode::TUNNEL_MANAGEMENT_COMMAND => {
                    respond(request, through(device, &request.payload, logical_device))
                }
                opcode => device.manager(opcode, &request.payload).into_message(request),
            },
            Self::SharedHead(device) => match request.opcode {
                Opcode::TUNNEL_MANAGEMENT_COMMAND => {
                    respond(request, through(device, &request.payload, pool))
                }
                Opcode::IDENTIFY => {
                    device.manager(request.opcode, &request.payload).into_message(request)
                }
                _ => respond(request, Err(ReturnCode::UNSUPPORTED)),
            },
        })
    }
}

fn respond(request: &Message, done: Result<Vec<u8>, ReturnCode>) -> Message {
    match done {
        Ok(payload) => Message::response(request, ReturnCode::SUCCESS, payload),
        Err(code) => Message::response(request, code, Vec::new()),
    }
}

/// Who is behind a device: what it answers, or that it is not there.
type Behind = fn(&mut Device, Target, &Message) -> Result<Message, ReturnCode>;

/// A tunnel within a device.
fn through(device: &mut Device, payload: &[u8], behind: Behind) -> Result<Vec<u8>, ReturnCode> {
    let tunnel = Tunnel::decode(payload).map_err(|why| why.code())?;
    let answer = behind(device, tunnel.target(), tunnel.message())?;
    let tunneled = Tunneled::new(answer).map_err(|_| ReturnCode::INTERNAL_ERROR)?;
    Ok(tunneled.to_bytes())
}

/// Of a device with one head: its logical devices, each of which is a host's.
fn logical_device(
    device: &mut Device,
    target: Target,
    request: &Message,
) -> Result<Message, ReturnCode> {
    let hosts = device.hosts().count();
    match target {
        Target::PortOrLd(ld) if usize::from(ld) < hosts => {
            let reply = device.host(HostId(ld.into()), request.opcode, &request.payload);
            Ok(reply.into_message(request))
        }
        Target::PortOrLd(_) | Target::LdPool => Err(ReturnCode::INVALID_INPUT),
    }
}

/// Of a device with several heads: what owns the logical devices of all of them.
fn pool(device: &mut Device, target: Target, request: &Message) -> Result<Message, ReturnCode> {
    match target {
        Target::LdPool => {
            Ok(device.manager(request.opcode, &request.payload).into_message(request))
        }
        Target::PortOrLd(_) => Err(ReturnCode::INVALID_INPUT),
    }
}
