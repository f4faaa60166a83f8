//! Dynamic capacity: extents that a device offers and asks back.
