//! Opcodes (CXL 3.1, tables 8-37, 8-133 and 8-230): the set in the high byte, the command below.

/// An opcode.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Opcode(pub u16);

/// Names, and what `Display` says.
macro_rules! opcodes {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $text:literal;)*) => {
        impl Opcode {
            $($(#[$doc])* pub const $name: Self = Self($number);)*

            /// The specification's name of it, or none.
            #[must_use]
            pub const fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($number => Some($text),)*
                    _ => None,
                }
            }
        }
    };
}

opcodes! {
    /// Who is at the other end of a component command interface.
    IDENTIFY = 0x0001, "Identify";
    /// What became of a command that goes on after its response.
    BACKGROUND_OPERATION_STATUS = 0x0002, "Background Operation Status";
    /// How long answers may be.
    SET_RESPONSE_MESSAGE_LIMIT = 0x0004, "Set Response Message Limit";
    /// Event records of a log.
    GET_EVENT_RECORDS = 0x0100, "Get Event Records";
    /// Forget event records that were read.
    CLEAR_EVENT_RECORDS = 0x0101, "Clear Event Records";
    /// What a memory device is.
    IDENTIFY_MEMORY_DEVICE = 0x4000, "Identify Memory Device";
    /// A host's regions.
    GET_DC_CONFIGURATION = 0x4800, "Get Dynamic Capacity Configuration";
    /// What a host has accepted.
    GET_DC_EXTENT_LIST = 0x4801, "Get Dynamic Capacity Extent List";
    /// What a host makes of an offer.
    ADD_DC_RESPONSE = 0x4802, "Add Dynamic Capacity Response";
    /// A host gives back.
    RELEASE_DC = 0x4803, "Release Dynamic Capacity";
    /// What a switch is.
    IDENTIFY_SWITCH = 0x5100, "Identify Switch Device";
    /// What is at a switch's ports.
    GET_PHYSICAL_PORT_STATE = 0x5101, "Get Physical Port State";
    /// A command for whoever is behind a port.
    TUNNEL_MANAGEMENT_COMMAND = 0x5300, "Tunnel Management Command";
    /// How a device is cut into logical devices.
    GET_LD_INFO = 0x5400, "Get LD Info";
    /// How much each logical device has.
    GET_LD_ALLOCATIONS = 0x5401, "Get LD Allocations";
    /// Which logical device is at which head.
    GET_MULTI_HEADED_INFO = 0x5500, "Get Multi-Headed Info";
    /// What a device that several hosts share can do.
    GET_DCD_INFO = 0x5600, "Get DCD Info";
    /// The regions of one host.
    GET_HOST_DC_REGION_CONFIGURATION = 0x5601, "Get Host DC Region Configuration";
    /// Configure a region.
    SET_DC_REGION_CONFIGURATION = 0x5602, "Set DC Region Configuration";
    /// The extents of one host.
    GET_DC_REGION_EXTENT_LISTS = 0x5603, "Get DC Region Extent Lists";
    /// Offer capacity to a host.
    INITIATE_DC_ADD = 0x5604, "Initiate Dynamic Capacity Add";
    /// Ask for capacity back, or take it.
    INITIATE_DC_RELEASE = 0x5605, "Initiate Dynamic Capacity Release";
    /// Keep a tag's capacity when its last host releases it.
    DC_ADD_REFERENCE = 0x5606, "Dynamic Capacity Add Reference";
    /// No longer keep it.
    DC_REMOVE_REFERENCE = 0x5607, "Dynamic Capacity Remove Reference";
    /// All tags, and which hosts have them.
    DC_LIST_TAGS = 0x5608, "Dynamic Capacity List Tags";
}

impl core::fmt::Debug for Opcode {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{:04X}h", self.0)
    }
}

impl core::fmt::Display for Opcode {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self.name() {
            Some(name) => write!(f, "{name} ({self:?})"),
            None => write!(f, "opcode {self:?}"),
        }
    }
}
