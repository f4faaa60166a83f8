//! The device model against QEMU's: the same commands to both, and every difference is known.
//!
//! QEMU's device is driven register by register, without a guest; the model is configured like it.
//! Host commands go through the one's mailbox and to the other as bytes; what a fabric manager
//! wants goes to the one over QMP and to the other as 5604h and 5605h. After each step their return
//! codes, configurations, extent lists and event records are held side by side. A difference that
//! is no row of [`deviations`] fails, and so does a row that no sequence shows.
//!
//! * [`emulated`]: QEMU's device. [`pair`]: it and the model. [`compare`]: their answers.
//! * [`reconcile`]: how both come to have the same again after a row that parts them.
//! * [`fixed`]: sequences for ordinary days and for each row. [`random`]: sequences from a seed.

mod compare;
mod deviations;
mod emulated;
mod fixed;
mod pair;
mod random;
mod reconcile;
