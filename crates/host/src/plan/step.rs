//! One step of a plan.

use std::{fmt, time::Duration};

use crate::Root;

/// How long a write may take unless its step says otherwise. The kernel sets up and tears down
/// page descriptors under some of them, a second for each 100 GiB or so.
const WRITE_LIMIT: Duration = Duration::from_secs(600);

/// What is done. Files are below the root, without a slash at their start.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// Writes a value to an attribute.
    Write {
        /// Which.
        file: String,
        /// The value, without a newline at its end.
        value: String,
        /// After so long the kernel is asked to give up.
        limit: Duration,
    },
    /// Binds a device to a driver; nothing if it is bound to it already.
    Bind {
        /// Its bus: `cxl`, `dax`.
        bus: &'static str,
        /// The driver.
        driver: &'static str,
        /// The device.
        device: String,
    },
    /// Takes a device from its driver; nothing if it is not bound to it.
    Unbind {
        /// Its bus.
        bus: &'static str,
        /// The driver.
        driver: &'static str,
        /// The device.
        device: String,
    },
    /// Waits until something is so.
    WaitFor {
        /// The attribute or folder.
        file: String,
        /// What is to be so.
        condition: Condition,
        /// After so long the step fails.
        limit: Duration,
    },
}

/// What a step waits for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Condition {
    /// It is there.
    Exists,
    /// It is not there.
    Absent,
    /// It holds this text.
    Holds(String),
}

/// An action, and the one that takes it back.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Step {
    /// What is done.
    pub action: Action,
    /// What takes it back; `None` if nothing needs to be.
    pub undo: Option<Action>,
    /// What happens where its device is gone.
    pub when_gone: WhenGone,
}

/// What a step makes of it that the device is gone that it is to change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WhenGone {
    /// It fails, and those before it are taken back.
    Fail,
    /// It is passed over: all it was to do was to take something from the device.
    Pass,
}

impl Action {
    /// A write that may take its time.
    pub fn write(file: impl Into<String>, value: impl Into<String>) -> Self {
        Self::write_within(file, value, WRITE_LIMIT)
    }

    /// A write that may take so long.
    pub fn write_within(
        file: impl Into<String>,
        value: impl Into<String>,
        limit: Duration,
    ) -> Self {
        Self::Write { file: file.into(), value: value.into(), limit }
    }

    /// What of it is a write: the file, the value, and how long it may take. `None` for waiting.
    pub(super) fn as_write(&self) -> Option<(String, &str, Duration)> {
        match self {
            Self::Write { file, value, limit } => Some((file.clone(), value, *limit)),
            Self::Bind { bus, driver, device } => {
                Some((format!("sys/bus/{bus}/drivers/{driver}/bind"), device, WRITE_LIMIT))
            }
            Self::Unbind { bus, driver, device } => {
                Some((format!("sys/bus/{bus}/drivers/{driver}/unbind"), device, WRITE_LIMIT))
            }
            Self::WaitFor { .. } => None,
        }
    }

    /// Whether the kernel has done it already, by itself.
    pub(super) fn is_so(&self, root: &Root) -> bool {
        match self {
            Self::Write { .. } | Self::WaitFor { .. } => false,
            Self::Bind { bus, driver, device } => is_bound(root, bus, driver, device),
            Self::Unbind { bus, driver, device } => !is_bound(root, bus, driver, device),
        }
    }
}

fn is_bound(root: &Root, bus: &str, driver: &str, device: &str) -> bool {
    root.link(format!("sys/bus/{bus}/devices/{device}/driver")).as_deref() == Some(driver)
}

impl Condition {
    /// Whether it is so. What cannot be read is not so.
    pub(super) fn holds(&self, root: &Root, file: &str) -> bool {
        match self {
            Self::Exists => root.exists(file),
            Self::Absent => !root.exists(file),
            Self::Holds(text) => root.text(file).is_ok_and(|found| found.as_ref() == Some(text)),
        }
    }
}

impl Step {
    /// A step that can be taken back.
    #[must_use]
    pub const fn new(action: Action, undo: Action) -> Self {
        Self { action, undo: Some(undo), when_gone: WhenGone::Fail }
    }

    /// A step after which nothing needs to be taken back.
    #[must_use]
    pub const fn without_undo(action: Action) -> Self {
        Self { action, undo: None, when_gone: WhenGone::Fail }
    }

    /// As this one, but passed over where its device is gone.
    #[must_use]
    pub fn passed_when_gone(self) -> Self {
        Self { when_gone: WhenGone::Pass, ..self }
    }
}

impl fmt::Display for Action {
    /// As a shell would do it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WaitFor { file, condition: Condition::Exists, .. } => {
                write!(f, "wait until /{file} is there")
            }
            Self::WaitFor { file, condition: Condition::Absent, .. } => {
                write!(f, "wait until /{file} is gone")
            }
            Self::WaitFor { file, condition: Condition::Holds(text), .. } => {
                write!(f, "wait until /{file} holds {text}")
            }
            action => {
                let (file, value, _) = action.as_write().expect("all others are writes");
                write!(f, "echo {} > /{file}", quoted(value))
            }
        }
    }
}

/// A value as a shell takes it.
fn quoted(value: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-:".contains(c);
    if !value.is_empty() && value.chars().all(plain) {
        value.to_owned()
    } else {
        format!("'{}'", value.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_read_as_a_shell_would_do_them() {
        let write = Action::write("sys/bus/cxl/devices/region0/target0", "");
        assert_eq!(write.to_string(), "echo '' > /sys/bus/cxl/devices/region0/target0");
        let bind = Action::Bind { bus: "dax", driver: "kmem", device: "dax0.0".to_owned() };
        assert_eq!(bind.to_string(), "echo dax0.0 > /sys/bus/dax/drivers/kmem/bind");
        assert_eq!(quoted("a'b"), r"'a'\''b'");
    }
}
