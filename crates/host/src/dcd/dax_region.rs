//! The part of a CXL window that the kernel is willing to use as memory, piece by piece.
//!
//! A kernel without a driver for dynamic capacity has no name for memory that comes in extents.
//! What it has is the *dax region*: a range that firmware, or whoever starts the kernel, set aside
//! (Soft Reserved), in which devices of any size can be made and taken away again, and given to
//! `kmem` as memory of a node. `dax_hmem` makes one of every Soft Reserved range; over a CXL
//! window, too, as long as it is loaded before the CXL driver knows of the window
//! (`hmem_register_device`: "deferring range to CXL").
//!
//! Nothing reads or writes such memory before a device in it has been given to `kmem` and its
//! blocks were taken online. So a region may well lie over addresses behind which there is nothing
//! yet.

use memtide_units::{NodeId, PhysAddr, PhysRange};

use super::error::DcdError;
use crate::{
    Root,
    dax::{self, DaxDevice},
};

/// Where regions of Soft Reserved ranges are.
const PLATFORM: &str = "sys/devices/platform";

/// A dax region over a CXL window.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DaxRegion {
    /// The device that provides it: `hmem.0`.
    pub parent: String,
    /// Its addresses.
    pub range: PhysRange,
}

/// All regions of Soft Reserved ranges.
///
/// # Errors
/// [`DcdError`] for what cannot be read.
pub fn read(root: &Root) -> Result<Vec<DaxRegion>, DcdError> {
    let devices = dax::read(root)?;
    let mut regions = Vec::new();
    for parent in root.names(PLATFORM)? {
        let region = format!("{PLATFORM}/{parent}/dax_region");
        let Some(size) = root.number(format!("{region}/size"))? else { continue };
        if let Some(start) = start_of(root, &devices, &parent)?
            && let Some(range) = PhysRange::from_size(PhysAddr(start), size)
        {
            regions.push(DaxRegion { parent, range });
        }
    }
    Ok(regions)
}

/// Where a region begins. No attribute says so; but a device of size 0 gives it as its own start
/// (`dev_dax_resource`), and the one that is made with the region is never deleted.
fn start_of(root: &Root, devices: &[DaxDevice], parent: &str) -> Result<Option<u64>, DcdError> {
    let of_region = devices.iter().filter(|device| device.parent.as_deref() == Some(parent));
    let mut least = None;
    for device in of_region {
        let start = root.number(device.attribute("resource"))?;
        if device.size.0 == 0 && start.is_some() {
            return Ok(start);
        }
        least = least.into_iter().chain(start).min();
    }
    Ok(least)
}

impl DaxRegion {
    /// The attribute of this name, below the root.
    #[must_use]
    pub fn attribute(&self, name: &str) -> String {
        format!("{PLATFORM}/{}/dax_region/{name}", self.parent)
    }

    /// Its devices, by number.
    ///
    /// # Errors
    /// [`DcdError`] for what cannot be read.
    pub fn devices(&self, root: &Root) -> Result<Vec<DaxDevice>, DcdError> {
        let mut devices = dax::read(root)?;
        devices.retain(|device| device.parent.as_deref() == Some(self.parent.as_str()));
        Ok(devices)
    }

    /// The node of the kernel's that memory of it belongs to, also while none is online. It is the
    /// region's, and so each of its devices has the same (`dev_dax_target_node`, drivers/dax/bus.c);
    /// `None` where firmware told the kernel of none.
    ///
    /// # Errors
    /// [`DcdError`] for what cannot be read.
    pub fn node(&self, root: &Root) -> Result<Option<NodeId>, DcdError> {
        Ok(self.devices(root)?.iter().find_map(|device| device.target_node))
    }
}
