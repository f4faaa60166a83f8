//! Why a region cannot be made.

use memtide_units::ByteSize;

use super::{arrange::ArrangeError, capacity::CapacityError, create, window::WindowError};
use crate::{
    ReadError,
    cxl::Capability,
    plan::{Fault, Refusal},
};

/// Why a region cannot be. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CreateError {
    /// Something could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// No CXL.
    #[error(
        "there is no CXL window: this machine has none, or the modules cxl_acpi, cxl_pci, cxl_port \
         and cxl_mem are not loaded"
    )]
    NoCxl,
    /// No such window.
    #[error("window {name}: no such root decoder; expected one of {}", known.join(", "))]
    NoWindow {
        /// The name.
        name: String,
        /// Those that are.
        known: Vec<String>,
    },
    /// Not for volatile memory.
    #[error(
        "window {window} is not for volatile memory: firmware allows {}",
        capabilities(allowed)
    )]
    NotForRam {
        /// Which window.
        window: String,
        /// What may live there.
        allowed: Vec<Capability>,
    },
    /// No such device.
    #[error("device {name}: no such memory device; expected {}", one_of(known))]
    NoDevice {
        /// The name.
        name: String,
        /// Those that are.
        known: Vec<String>,
    },
    /// Named twice.
    #[error(
        "device {name} is named twice: expected each device once, a region interleaves over \
             several"
    )]
    Twice {
        /// The name.
        name: String,
    },
    /// Cannot be reached.
    #[error(
        "device {device} cannot be reached: it has no endpoint{}; expected the driver cxl_mem \
         bound to it, and cxl_port to all ports on the way",
        driver.as_ref().map_or(" and no driver", |_| "")
    )]
    NotReached {
        /// Which.
        device: String,
        /// The driver that is bound to it.
        driver: Option<String>,
    },
    /// Devices and ways contradict each other.
    #[error("ways {ways} and {devices} devices: expected as many devices as ways")]
    WaysAndDevices {
        /// How many ways.
        ways: u32,
        /// How many devices.
        devices: usize,
    },
    /// No such granularity, or not the window's.
    #[error("granularity {granularity}: expected {}", match window_granularity {
        Some(of_window) => format!("{of_window}, that of {window}, which interleaves itself"),
        None => "a power of two from 256 to 16384".to_owned(),
    })]
    Granularity {
        /// How much.
        granularity: u32,
        /// Which window.
        window: String,
        /// The window's own, if it must be that.
        window_granularity: Option<u32>,
    },
    /// Not a multiple.
    #[error(
        "size {size}: expected a multiple of {} (256MiB for each of {ways} ways), such as {}",
        ByteSize(create::step(*ways)),
        neighbours(*size, create::step(*ways))
    )]
    Size {
        /// How much.
        size: ByteSize,
        /// Over how many devices.
        ways: u32,
    },
    /// Not enough devices.
    #[error(
        "{found} devices below {window} have a free decoder and free volatile memory: {ways} are \
         needed{}",
        list(reasons)
    )]
    TooFewDevices {
        /// The window.
        window: String,
        /// How many there are.
        found: usize,
        /// How many are needed.
        ways: u32,
        /// Why others are not.
        reasons: Vec<String>,
    },
    /// The devices do not fit the window's interleave.
    #[error(transparent)]
    Arrange(#[from] ArrangeError),
    /// A device or a port has nothing left.
    #[error(transparent)]
    Capacity(#[from] CapacityError),
    /// The window has no room.
    #[error(transparent)]
    Window(#[from] WindowError),
    /// In no window.
    #[error("no window can have the region{}", list(reasons))]
    NowhereFits {
        /// Why not, for each.
        reasons: Vec<String>,
    },
}

/// The multiples below and above, as far as there are.
fn neighbours(size: ByteSize, step: u64) -> String {
    let below = size.0 / step;
    let multiples = [Some(below), below.checked_add(1)].into_iter().flatten();
    let bytes = multiples.filter_map(|count| count.checked_mul(step)).filter(|&bytes| bytes > 0);
    bytes.map(|bytes| ByteSize(bytes).to_string()).collect::<Vec<_>>().join(" or ")
}

fn capabilities(allowed: &[Capability]) -> String {
    allowed.iter().map(|capability| capability.as_str()).collect::<Vec<_>>().join(", ")
}

fn one_of(known: &[String]) -> String {
    if known.is_empty() {
        return "one, but this machine has none".to_owned();
    }
    format!("one of {}", known.join(", "))
}

fn list(reasons: &[String]) -> String {
    reasons.iter().map(|reason| format!("\n  {reason}")).collect()
}

impl Refusal for CreateError {
    fn fault(&self) -> Fault {
        match self {
            Self::Read(_)
            | Self::NoCxl
            | Self::Window(WindowError::Read(_) | WindowError::Hidden { .. }) => Fault::Machine,
            _ => Fault::Request,
        }
    }
}
