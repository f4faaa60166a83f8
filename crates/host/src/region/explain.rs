//! What it means when the kernel refuses a step of making or unmaking a region.
//!
//! What can be checked beforehand was; these are the rest: what the kernel shows nowhere, and what
//! others did in between. The cases are those of drivers/cxl/core/region.c, hdm.c and port.c, each
//! of which says more in a debug message only.

use std::{fmt, io};

use rustix::io::Errno;

use crate::{
    Root,
    plan::{Action, StepError},
};

/// Why the kernel refused a step.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum RegionRefusal {
    /// The CPU caches cannot be written back and emptied for a range, which the kernel wants before
    /// addresses change their meaning (`cxl_region_invalidate_memregion`).
    CacheInvalidation {
        /// Which region.
        region: String,
    },
    /// The region has not all it takes.
    NotReady {
        /// Which region.
        region: String,
    },
    /// A decoder on the way was not committed: out of order, or in use.
    CommitOrder {
        /// Which region.
        region: String,
    },
    /// The hardware did not take the decoder's settings.
    Hardware {
        /// Which region.
        region: String,
    },
    /// The name was taken by somebody else in between.
    NameTaken {
        /// Which window.
        window: String,
    },
    /// A decoder's memory cannot be taken or freed now.
    DecoderBusy {
        /// Which decoder.
        decoder: String,
    },
    /// Not so much memory left.
    NoDpa {
        /// Which decoder.
        decoder: String,
    },
    /// A device in a position where it cannot be.
    Position {
        /// Which region.
        region: String,
        /// Which decoder.
        decoder: String,
        /// The attribute: `target0`.
        position: String,
    },
    /// A port on the way has no decoder for it.
    PortBusy {
        /// Which region.
        region: String,
        /// Which decoder.
        decoder: String,
    },
    /// The window has no room.
    NoRoom {
        /// Which region.
        region: String,
    },
    /// The region's driver did not take it.
    Driver {
        /// Which region.
        region: String,
    },
    /// It is there, but its memory is not.
    NoDax {
        /// Which.
        region: String,
    },
    /// Not allowed.
    NotPermitted,
    /// A device left in between.
    Gone {
        /// What is gone.
        device: String,
    },
    /// None of the known.
    Other,
}

impl RegionRefusal {
    /// What it means that a step failed, on this machine. Where what was done before it could not
    /// be taken back because a device is not there any more, that is the cause: without its device
    /// a region waits in vain for its memory.
    #[must_use]
    pub fn of_step(root: &Root, error: &StepError) -> Self {
        let mut in_vain = error.undone.failed.iter().filter_map(|(action, error)| match action {
            Action::Write { file, value, .. } => Some(of_write(root, file, value, error)),
            _ => None,
        });
        let gone = in_vain.find(|refusal| matches!(refusal, Self::Gone { .. }));
        gone.unwrap_or_else(|| Self::of(root, &error.action, &error.source))
    }

    /// What the kernel's answer to an action means, on this machine.
    #[must_use]
    pub fn of(root: &Root, action: &Action, error: &io::Error) -> Self {
        let errno = Errno::from_io_error(error);
        match action {
            _ if matches!(errno, Some(Errno::PERM | Errno::ACCESS | Errno::ROFS)) => {
                Self::NotPermitted
            }
            Action::Write { file, value, .. } => of_write(root, file, value, error),
            Action::Bind { device, .. } | Action::Unbind { device, .. } => {
                Self::Driver { region: device.clone() }
            }
            Action::WaitFor { file, .. } => {
                let name = file.rsplit('/').next().unwrap_or_default();
                Self::NoDax { region: name.trim_start_matches("dax_").to_owned() }
            }
        }
    }
}

fn of_write(root: &Root, file: &str, value: &str, error: &io::Error) -> RegionRefusal {
    let mut parts = file.rsplit('/');
    let attribute = parts.next().unwrap_or_default();
    let device = parts.next().unwrap_or_default().to_owned();
    let errno = Errno::from_io_error(error);
    if error.kind() == io::ErrorKind::NotFound || errno == Some(Errno::NODEV) {
        return RegionRefusal::Gone { device };
    }
    match (attribute, errno) {
        ("commit", Some(Errno::NXIO)) if value == "1" && is_virtual(root) => {
            RegionRefusal::CacheInvalidation { region: device }
        }
        ("commit", Some(Errno::NXIO)) => RegionRefusal::NotReady { region: device },
        ("commit", Some(Errno::BUSY)) => RegionRefusal::CommitOrder { region: device },
        ("commit", Some(Errno::IO | Errno::TIMEDOUT)) => RegionRefusal::Hardware { region: device },
        ("create_ram_region", Some(Errno::BUSY | Errno::INVAL)) => {
            RegionRefusal::NameTaken { window: device }
        }
        ("delete_region", _) => RegionRefusal::Gone { device: value.to_owned() },
        ("dpa_size" | "mode", Some(Errno::BUSY | Errno::INVAL | Errno::NXIO)) => {
            RegionRefusal::DecoderBusy { decoder: device }
        }
        ("dpa_size", Some(Errno::NOSPC)) => RegionRefusal::NoDpa { decoder: device },
        ("size", Some(Errno::RANGE | Errno::BUSY | Errno::NXIO)) => {
            RegionRefusal::NoRoom { region: device }
        }
        (position, Some(Errno::NXIO | Errno::INVAL)) if position.starts_with("target") => {
            RegionRefusal::Position {
                region: device,
                decoder: value.to_owned(),
                position: position.to_owned(),
            }
        }
        (position, Some(Errno::BUSY)) if position.starts_with("target") => {
            RegionRefusal::PortBusy { region: device, decoder: value.to_owned() }
        }
        _ => RegionRefusal::Other,
    }
}

/// Whether the processor says that it is a virtual one: what the kernel goes by
/// (`cpu_cache_has_invalidate_memregion`).
fn is_virtual(root: &Root) -> bool {
    let text = root.text("proc/cpuinfo").ok().flatten().unwrap_or_default();
    let flags = text.lines().find(|line| line.starts_with("flags"));
    flags.is_some_and(|line| line.split_ascii_whitespace().any(|flag| flag == "hypervisor"))
}

impl fmt::Display for RegionRefusal {
    /// What it means, and what to do.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CacheInvalidation { region } => write!(
                f,
                "{region} is complete, but this is a virtual machine, and there the kernel cannot \
                 empty the CPU caches before addresses change their meaning \
                 (cpu_cache_invalidate_memregion): hide the hypervisor from the guest (QEMU: -cpu \
                 …,-hypervisor), or use a kernel with CONFIG_CXL_REGION_INVALIDATION_TEST"
            ),
            Self::NotReady { region } => write!(
                f,
                "{region} lacks a target, its size or its interleave, or the kernel cannot empty \
                 the CPU caches (the kernel's log says \"Failed to synchronize CPU cache \
                 state\"): somebody else changed the region meanwhile, or the platform lacks \
                 WBINVD; ask again"
            ),
            Self::CommitOrder { region } => write!(
                f,
                "a decoder between the window and the devices of {region} is in use or out of \
                 order, or a device is being sanitized: decoders of a port are committed in the \
                 order of their numbers; look for regions that are not committed, and destroy them"
            ),
            Self::Hardware { region } => write!(
                f,
                "a decoder's registers did not accept {region} (CXL 3.1, 8.2.4.20.12): the \
                 kernel's log names it; the device or the switch refused the range, or does not answer"
            ),
            Self::NameTaken { window } => write!(
                f,
                "somebody else made a region meanwhile, and the name of the next one of {window} \
                 has changed: ask again"
            ),
            Self::DecoderBusy { decoder } => write!(
                f,
                "{decoder} is in use, or not the next one of its device: memory is given to its \
                 decoders, and taken back, in the order of their numbers; look at the device's \
                 other decoders, and destroy what was made last first"
            ),
            Self::NoDpa { decoder } => {
                write!(f, "the device of {decoder} has not so much memory left: ask for less")
            }
            Self::Position { region, decoder, position } => write!(
                f,
                "{decoder} cannot be {position} of {region}: its host bridge or switch port has \
                 another turn in the interleave, or sizes or types do not agree; name the devices \
                 in another order, or fewer of them"
            ),
            Self::PortBusy { region, decoder } => write!(
                f,
                "a port between the window and {decoder} has no decoder left for {region}, or \
                 decodes a region at a higher address already: destroy that one first"
            ),
            Self::NoRoom { region } => write!(
                f,
                "the window has no place for {region} that nothing else lies in: ask for less, or \
                 look at the window in /proc/iomem"
            ),
            Self::Driver { region } => write!(
                f,
                "the driver cxl_region did not take {region}: it is not committed, or something \
                 else uses its addresses; the kernel's log says which"
            ),
            Self::NoDax { region } => write!(
                f,
                "{region} is there, but its memory does not appear: other System RAM lies in its \
                 range (see memtide map), or the driver is not cxl_region's own"
            ),
            Self::NotPermitted => f.write_str("it needs root and a writable /sys: run as root"),
            Self::Gone { device } => {
                write!(f, "{device} is gone: a device left in between; look again, and ask again")
            }
            Self::Other => f.write_str("the kernel's log (dmesg) may say more"),
        }
    }
}
