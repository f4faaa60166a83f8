//! The plan that unmakes a region.
//!
//! Taking the driver away from a region whose memory is online would succeed, and leave the memory
//! in use by a device that is gone: it could not be removed until the next boot
//! (`dev_dax_kmem_remove`). And a program that has mapped the region's device would be killed
//! (`kill_dev_dax`). So both are refused. The steps are those of making it, backwards.
//!
//! A device that vanishes in between takes its decoders with it (`cxl_decoder_kill_region`): there
//! is no way back then, and what was to be taken from it is gone. So its steps are passed over,
//! and the rest goes forward.

use memtide_units::{ByteSize, PhysRange};

use crate::{
    BlockState, MemoryBlocks, ReadError, Root,
    cxl::{Cxl, DEVICES, Decoder, DecoderKind, Region},
    dax::{self, DaxMode},
    memory_groups::whole_blocks,
    plan::{Action, Fault, Plan, Refusal, Step},
};

/// What will be unmade.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Destroyed {
    /// The writes.
    pub plan: Plan,
    /// The region.
    pub region: String,
    /// Its window.
    pub window: String,
    /// Its size.
    pub size: ByteSize,
}

/// Why a region stays. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DestroyError {
    /// Something could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// No such region.
    #[error("region {name}: no such CXL region; expected {}", if known.is_empty() {
        "one, but this machine has none".to_owned()
    } else {
        format!("one of {}", known.join(", "))
    })]
    NoRegion {
        /// The name.
        name: String,
        /// Those that are.
        known: Vec<String>,
    },
    /// Its window is not known.
    #[error("{region}: the window it lies in is not known, for the link to it is odd")]
    NoWindow {
        /// Which.
        region: String,
    },
    /// Its memory is in use.
    #[error(
        "{blocks} memory blocks ({bytes}) of {region} are online: expected all of them offline; \
         memtide offline {list}"
    )]
    Online {
        /// Which.
        region: String,
        /// How many blocks.
        blocks: usize,
        /// Their size.
        bytes: ByteSize,
        /// The blocks, as the command line takes them.
        list: String,
    },
    /// Programs have its device open or mapped.
    #[error(
        "{device} of {region} is in use: {} it open; expected nobody to, for its memory would \
         vanish under them",
        dax::have(by)
    )]
    InUse {
        /// Which.
        region: String,
        /// Its dax device.
        device: String,
        /// Processes, by number and name.
        by: Vec<(u32, String)>,
    },
    /// Not of volatile memory.
    #[error("{region} is of persistent memory: expected ram; use ndctl and cxl for it")]
    Persistent {
        /// Which.
        region: String,
    },
    /// Another region was made on top of it.
    #[error(
        "{decoder} of {region} is not the last of its endpoint that is in use: {later} was made \
         after it{}, and decoders are freed in reverse order; destroy that first",
        by.as_ref().map(|region| format!(" by {region}")).unwrap_or_default()
    )]
    NotLast {
        /// Which.
        region: String,
        /// Its decoder.
        decoder: String,
        /// The one after it.
        later: String,
        /// Whose that is.
        by: Option<String>,
    },
    /// Locked by firmware.
    #[error("{decoder} of {region} is locked until the next reset: firmware set it up for good")]
    Locked {
        /// Which.
        region: String,
        /// Its decoder.
        decoder: String,
    },
}

/// What it takes to unmake a region.
///
/// # Errors
/// [`DestroyError`].
pub fn plan(root: &Root, name: &str) -> Result<Destroyed, DestroyError> {
    let cxl = Cxl::read_whole(root)?;
    let Some(region) = cxl.region(name) else {
        let known = cxl.regions.iter().map(|region| region.name.clone()).collect();
        return Err(DestroyError::NoRegion { name: name.to_owned(), known });
    };
    let region_name = || region.name.clone();
    if region.mode.as_deref() == Some("pmem") {
        return Err(DestroyError::Persistent { region: region_name() });
    }
    let no_window = || DestroyError::NoWindow { region: region_name() };
    let window = region.decoder.clone().ok_or_else(no_window)?;
    check_unused(root, region)?;
    let targets = targets(&cxl, region)?;
    let plan = steps(&window, region, &targets);
    Ok(Destroyed { plan, region: region_name(), window, size: region.size.unwrap_or_default() })
}

/// Nothing of it is in use: neither as memory of a node, nor by programs.
fn check_unused(root: &Root, region: &Region) -> Result<(), DestroyError> {
    let inside = |range: &PhysRange| region.range().is_some_and(|all| all.contains(*range));
    let devices = dax::read(root)?.into_iter().filter(|device| {
        device.parent.as_deref() == Some(&region.name) || device.ranges.iter().any(inside)
    });
    let (memory, others): (Vec<_>, Vec<_>) =
        devices.partition(|device| device.mode == Some(DaxMode::SystemRam));
    for device in others {
        let by = dax::users(root, &device.name)?;
        if !by.is_empty() {
            let (region, device) = (region.name.clone(), device.name);
            return Err(DestroyError::InUse { region, device, by });
        }
    }
    let Some(blocks) = MemoryBlocks::read(root)? else { return Ok(()) };
    let ranges = memory.iter().flat_map(|device| &device.ranges);
    let online: Vec<_> = ranges
        .filter_map(|&range| whole_blocks(range, &blocks))
        .flat_map(|range| blocks.within(range).collect::<Vec<_>>())
        .filter(|block| block.state != BlockState::Offline)
        .collect();
    if online.is_empty() {
        return Ok(());
    }
    Err(DestroyError::Online {
        region: region.name.clone(),
        blocks: online.len(),
        bytes: ByteSize(online.len() as u64 * blocks.block_bytes),
        list: crate::memory_blocks::list(online.iter().map(|block| block.id)),
    })
}

/// The endpoint decoders of a region by position, all of which can be freed.
fn targets<'a>(cxl: &'a Cxl, region: &Region) -> Result<Vec<(usize, &'a Decoder)>, DestroyError> {
    let positions = region.targets.iter().enumerate();
    let named = positions.filter_map(|(at, name)| Some((at, cxl.decoder(name.as_deref()?)?)));
    let found: Vec<(usize, &Decoder)> = named.collect();
    for (_, decoder) in &found {
        if decoder.locked == Some(true) {
            let decoder = decoder.name.clone();
            return Err(DestroyError::Locked { region: region.name.clone(), decoder });
        }
        let later = cxl
            .decoders_of(decoder.port)
            .find(|other| other.index > decoder.index && dpa_size(other) > 0);
        if let Some(later) = later {
            return Err(DestroyError::NotLast {
                region: region.name.clone(),
                decoder: decoder.name.clone(),
                later: later.name.clone(),
                by: later.region().map(ToOwned::to_owned),
            });
        }
    }
    Ok(found)
}

fn dpa_size(decoder: &Decoder) -> u64 {
    match &decoder.kind {
        DecoderKind::Endpoint { dpa_size, .. } => dpa_size.unwrap_or_default().0,
        _ => 0,
    }
}

/// The steps of making it, backwards. What has vanished by then needs no unmaking.
fn steps(window: &str, region: &Region, targets: &[(usize, &Decoder)]) -> Plan {
    let mut plan = Plan::new();
    let mut push = |step: Step| plan.push(step.passed_when_gone());
    let of = |device: &str, attribute: &str| format!("{DEVICES}/{device}/{attribute}");
    let name = &region.name;
    if region.driver.is_some() {
        let device = || name.clone();
        push(Step::new(
            Action::Unbind { bus: "cxl", driver: "cxl_region", device: device() },
            Action::Bind { bus: "cxl", driver: "cxl_region", device: device() },
        ));
    }
    if region.committed == Some(true) {
        let file = of(name, "commit");
        push(Step::new(Action::write(&file, "0"), Action::write(file, "1")));
    }
    for (position, decoder) in targets.iter().rev() {
        let file = of(name, &format!("target{position}"));
        push(Step::new(Action::write(&file, ""), Action::write(file, &decoder.name)));
    }
    for (_, decoder) in targets.iter().rev() {
        let (file, size) = (of(&decoder.name, "dpa_size"), dpa_size(decoder));
        if size > 0 {
            let back = Action::write(&file, format!("{size:#x}"));
            push(Step::new(Action::write(file, "0"), back));
        }
    }
    push(Step::without_undo(Action::write(of(window, "delete_region"), name)));
    plan
}

impl Refusal for DestroyError {
    fn fault(&self) -> Fault {
        match self {
            Self::Read(_) | Self::NoWindow { .. } => Fault::Machine,
            _ => Fault::Request,
        }
    }
}
