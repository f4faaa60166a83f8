//! What a device says of a command (CXL 3.1, table 8-34).

/// A return code. Codes that this crate has no name for are kept as they are.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ReturnCode(pub u16);

impl ReturnCode {
    /// Done.
    pub const SUCCESS: Self = Self(0);
    /// Begun; it goes on in the background.
    pub const BACKGROUND_STARTED: Self = Self(1);
    /// A field of the input is wrong.
    pub const INVALID_INPUT: Self = Self(2);
    /// No such command, or a part of it that this device does not do.
    pub const UNSUPPORTED: Self = Self(3);
    /// Something broke inside.
    pub const INTERNAL_ERROR: Self = Self(4);
    /// Not now; the same again may succeed.
    pub const RETRY_REQUIRED: Self = Self(5);
    /// Something in the background is in the way.
    pub const BUSY: Self = Self(6);
    /// No event record has that handle.
    pub const INVALID_HANDLE: Self = Self(0xe);
    /// An address that does not exist, or may not be used so.
    pub const INVALID_PHYSICAL_ADDRESS: Self = Self(0xf);
    /// Too long, too short, or not as long as it says.
    pub const INVALID_PAYLOAD_LENGTH: Self = Self(0x16);
    /// No room to remember more.
    pub const RESOURCES_EXHAUSTED: Self = Self(0x1d);
    /// An extent that is not there, overlaps, is not aligned, or belongs to somebody else.
    pub const INVALID_EXTENT_LIST: Self = Self(0x1e);
    /// Parts that do not follow each other.
    pub const TRANSFER_OUT_OF_ORDER: Self = Self(0x1f);

    /// The specification's words, or none.
    #[must_use]
    pub const fn name(self) -> Option<&'static str> {
        Some(match self {
            Self::SUCCESS => "success",
            Self::BACKGROUND_STARTED => "background command started",
            Self::INVALID_INPUT => "invalid input",
            Self::UNSUPPORTED => "unsupported",
            Self::INTERNAL_ERROR => "internal error",
            Self::RETRY_REQUIRED => "retry required",
            Self::BUSY => "busy",
            Self::INVALID_HANDLE => "invalid handle",
            Self::INVALID_PHYSICAL_ADDRESS => "invalid physical address",
            Self::INVALID_PAYLOAD_LENGTH => "invalid payload length",
            Self::RESOURCES_EXHAUSTED => "resources exhausted",
            Self::INVALID_EXTENT_LIST => "invalid extent list",
            Self::TRANSFER_OUT_OF_ORDER => "transfer out of order",
            _ => return None,
        })
    }
}

impl core::fmt::Display for ReturnCode {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self.name() {
            Some(name) => write!(f, "{name} ({:#x})", self.0),
            None => write!(f, "return code {:#x}", self.0),
        }
    }
}
