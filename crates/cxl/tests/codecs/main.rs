//! The codecs: identity, literal bytes, registers, and bytes that mean harm.

mod any;
mod bytes;
mod identity;
