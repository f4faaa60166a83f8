//! What needs a real kernel. One program, so that as many machines run side by side as there are
//! cores, from the first test to the last.

mod address_map;
mod auto_movable;
mod captured;
mod end_to_end;
mod guest;
mod hardware;
mod placement;
