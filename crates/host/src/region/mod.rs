//! Making and unmaking CXL regions of volatile memory.
//!
//! A region is made by some ten writes in an order that the kernel insists on without saying so
//! (Documentation/ABI/testing/sysfs-bus-cxl): a name from the window, interleave granularity and
//! ways, device memory (DPA) for an endpoint decoder of each device, the size, the targets by
//! position, commit, driver. Most mistakes end as ENXIO, EINVAL or EBUSY, the reason in a debug
//! message at most. So all that the kernel will check is checked here first, from what it shows:
//!
//! * [`arrange`]: which devices, in which positions: the window's host bridges take turns, and so
//!   do the ports below them. [`pick`]: which devices, where none are named.
//! * [`window`]: where in the window there is room. [`capacity`]: what each device has left, and
//!   which of its decoders is next.
//! * [`create`], [`destroy`]: the plans; [`create_error`]: why there is none.
//! * [`explain`]: what is left to go wrong, and what to do about it.
//!
//! Persistent memory is refused: its regions carry labels and namespaces, and ndctl's tools.

pub mod arrange;
pub mod capacity;
pub mod create;
pub mod create_error;
pub mod destroy;
pub mod explain;
mod pick;
pub mod window;

pub use self::{
    arrange::ArrangeError,
    capacity::{CapacityError, Share},
    create::{Created, RegionWish},
    create_error::CreateError,
    destroy::{DestroyError, Destroyed},
    explain::RegionRefusal,
    window::WindowError,
};

/// What a region's size and place are multiples of, for each of its ways (`alloc_hpa`, and the
/// registers of HDM decoders, CXL 3.1, 8.2.4.20.3).
pub const REGION_ALIGN: u64 = 256 << 20;
