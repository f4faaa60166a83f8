//! The codecs: identity, literal bytes, registers, and bytes that mean harm.

mod any;
mod bytes;
mod every;
mod hostile;
mod identity;
mod registers;
