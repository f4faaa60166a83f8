//! Shadows, and a QEMU that is played.
