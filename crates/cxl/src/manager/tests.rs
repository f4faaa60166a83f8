//! Rule by rule, against the model of a device and hosts that do as the test says.

mod adding;
mod balancing;
mod bench;
mod hostile;
mod recovering;
mod releasing;
mod sanitizing;
mod withdrawing;

pub(super) use bench::{BLOCK, Bench, GIB};
