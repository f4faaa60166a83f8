//! Real kernels on emulated hardware, driven by tests.

#![forbid(unsafe_code)]
