//! The commands, as data.
//!
//! * [`identify`]: 0001h and 4000h, who is there and what it is.
//! * [`background`]: 0002h, what has become of a command that goes on after its response.
//! * [`events`]: 0100h and 0101h, and the records of the dynamic-capacity log.
//! * [`dynamic_capacity`]: 4800h to 4803h, what a host says to its device.
//! * [`fabric_manager`]: 5600h to 5608h, what a fabric manager says.
//! * [`message_limit`]: 0004h, how long answers may be.
//! * [`switch`]: 5100h and 5101h, what is at a switch's ports.
//! * [`logical_device`]: 5400h, 5401h and 5500h, what a device is cut into.

pub mod background;
pub mod dynamic_capacity;
pub mod events;
pub mod fabric_manager;
pub mod identify;
pub mod logical_device;
pub mod message_limit;
pub mod switch;

use core::fmt;

/// A host, as a device numbers them: by their logical devices, from 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct HostId(pub u16);

impl fmt::Display for HostId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "host {}", self.0)
    }
}

/// Whether another message or record follows that belongs to this one (the flag More).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum More {
    /// Yes: 1.
    Follows,
    /// No: 0.
    Last,
}

/// What happens to capacity between two owners.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sanitize {
    /// It is overwritten before anybody else gets it.
    OnRelease,
    /// It is handed on as it is.
    Never,
}

impl More {
    /// From bit 0 of a byte of flags.
    pub(crate) const fn from_bit(bit: u8) -> Self {
        if bit & 1 == 1 { Self::Follows } else { Self::Last }
    }

    /// 1 or 0.
    pub(crate) const fn bit(self) -> u8 {
        match self {
            Self::Follows => 1,
            Self::Last => 0,
        }
    }
}

impl Sanitize {
    /// From bit 0 of a byte of flags.
    pub(crate) const fn from_bit(bit: u8) -> Self {
        if bit & 1 == 1 { Self::OnRelease } else { Self::Never }
    }

    /// 1 or 0.
    pub(crate) const fn bit(self) -> u8 {
        match self {
            Self::OnRelease => 1,
            Self::Never => 0,
        }
    }
}
