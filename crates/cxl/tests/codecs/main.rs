//! The codecs: identity, literal bytes, and bytes that mean harm.

mod any;
mod identity;
