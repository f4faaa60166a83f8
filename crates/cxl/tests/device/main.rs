//! The device's rules, each with its refusals: through the typed commands ([`bed`]), through bytes
//! (`wire`), and over random histories beside a model of single blocks (`random`).

mod adding;
mod answering;
mod bed;
mod configuring;
mod events;
mod naive;
mod not_as_qemu;
mod random;
mod releasing;
mod sharing;
mod wire;
