//! What a node has in a zone.

use memtide_units::{ByteSize, OnlineZone};
use serde::{Deserialize, Serialize};

/// What a node has in one zone.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ZoneBytes {
    /// Which.
    pub zone: OnlineZone,
    /// In the pool, in use or not.
    pub online: ByteSize,
    /// Can be leased.
    pub free: ByteSize,
}
