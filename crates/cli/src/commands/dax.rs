//! `memtide dax`.

use std::{fmt, process::ExitCode};

use memtide_host::{
    Root,
    dax::DaxMode,
    dax_mode::{self, ModeChange, ModeWish},
    memory_blocks,
    online::BlockRefusal,
    plan::{Action, StepError},
};
use memtide_units::ByteSize;
use rustix::io::Errno;
use serde::Serialize;

use super::{change, online};
use crate::{
    arguments::{DaxModeKind, DaxModeOptions, DaxWhat},
    failure::Failure,
};

/// What is told in JSON.
#[derive(Serialize)]
struct Told {
    device: String,
    from: Option<&'static str>,
    mode: &'static str,
    size: ByteSize,
    node: Option<u16>,
    online: Vec<ToldBlock>,
    offline: Vec<u64>,
}

#[derive(Serialize)]
struct ToldBlock {
    block: u64,
    zone: &'static str,
}

pub fn dax(what: &DaxWhat) -> Result<ExitCode, Failure> {
    match what {
        DaxWhat::Mode(options) => mode(options),
    }
}

fn mode(options: &DaxModeOptions) -> Result<ExitCode, Failure> {
    let machine = change::machine(&options.change)?;
    let root = machine.root();
    let wants_online = options.online
        || options.how.zone.is_some()
        || options.how.policy.is_some()
        || options.how.ratio.is_some()
        || options.how.ratio_on.is_some();
    let wish = ModeWish {
        device: options.device.clone(),
        mode: match options.mode {
            DaxModeKind::SystemRam => DaxMode::SystemRam,
            DaxModeKind::Devdax => DaxMode::Devdax,
        },
        online: if wants_online { Some(online::how(root, &options.how)?) } else { None },
        limit: options.deadline,
    };
    let change = dax_mode::plan(root, &wish).map_err(|error| change::no_plan(&error))?;
    let told = Told {
        device: wish.device.clone(),
        from: change.from.map(DaxMode::name),
        mode: wish.mode.name(),
        size: change.size,
        node: change.node.map(|node| node.0),
        online: change
            .placed
            .iter()
            .map(|placed| ToldBlock { block: placed.block.0, zone: online::name(placed.zone) })
            .collect(),
        offline: change.leaving.iter().map(|(block, _)| block.0).collect(),
    };
    let text = text(&wish, &change);
    let told = (&told, text.as_str());
    change::carry_out(root, &options.change, &change.plan, told, |error| Why::of(root, error))?;
    Ok(ExitCode::SUCCESS)
}

fn text(wish: &ModeWish, change: &ModeChange) -> String {
    if change.plan.is_empty() {
        return format!("{}: {} already\n", wish.device, wish.mode);
    }
    let from = change.from.map_or("no driver", DaxMode::name);
    let mut text = format!("{}: {} from {from}, {}\n", wish.device, wish.mode, change.size);
    if !change.leaving.is_empty() {
        let list = memory_blocks::list(change.leaving.iter().map(|(block, _)| *block));
        text += &format!("offline: blocks {list}\n");
    }
    if !change.placed.is_empty() {
        let list = memory_blocks::list(change.placed.iter().map(|placed| placed.block));
        text += &format!("online: blocks {list}\n");
    }
    text
}

/// What the kernel's answer means: to a block's state, to a driver's file, or to the knob of the
/// kernel's own onlining.
enum Why {
    Block(BlockRefusal),
    Driver { device: String },
    Knob { file: String },
    NoBlocks,
    NotPermitted,
}

impl Why {
    fn of(root: &Root, error: &StepError) -> Self {
        let errno = error.source.raw_os_error().map(Errno::from_raw_os_error);
        match &error.action {
            _ if matches!(errno, Some(Errno::PERM | Errno::ACCESS | Errno::ROFS)) => {
                Self::NotPermitted
            }
            Action::Bind { device, .. } | Action::Unbind { device, .. } => {
                Self::Driver { device: device.clone() }
            }
            Action::Write { file, value, .. } if file.contains("/drivers/") => {
                Self::Driver { device: value.clone() }
            }
            Action::Write { file, .. } if !file.ends_with("/state") => {
                Self::Knob { file: file.clone() }
            }
            Action::Write { .. } => Self::Block(online::why(root, error)),
            Action::WaitFor { .. } => Self::NoBlocks,
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Block(refusal) => refusal.fmt(f),
            Self::Driver { device } => write!(
                f,
                "the driver did not take or let go of {device}: its range may be in use by \
                 something else (see /proc/iomem), or was left behind by memory that could not be \
                 removed; the kernel's log (dmesg) says which"
            ),
            Self::Knob { file } => write!(f, "this kernel does not let /{file} be changed so"),
            Self::NoBlocks => f.write_str(
                "the driver has it, but the memory block does not appear: other System RAM lies \
                 in its range (see memtide map); the kernel's log (dmesg) says which",
            ),
            Self::NotPermitted => f.write_str("it needs root and a writable /sys: run as root"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{io, time::Duration};

    use memtide_host::plan::{Condition, Undone};

    use super::*;

    #[test]
    fn what_is_no_block_is_not_explained_as_one() {
        const BLOCKS: &str = "sys/devices/system/memory";
        let why = |action: Action, errno: Errno| {
            let (source, undone) = (errno.into(), Undone::default());
            let error = StepError { number: 1, of: 9, action, undone, source };
            Why::of(&Root::new("/nowhere"), &error).to_string()
        };
        let knob = || Action::write(format!("{BLOCKS}/auto_online_blocks"), "offline");
        assert!(why(knob(), Errno::ACCESS).ends_with("run as root"));
        assert!(why(knob(), Errno::INVAL).contains("/auto_online_blocks be changed"));
        let bind = Action::Bind { bus: "dax", driver: "kmem", device: "dax0.0".to_owned() };
        assert!(why(bind.clone(), Errno::BUSY).contains("take or let go of dax0.0"));
        assert!(why(bind, Errno::PERM).ends_with("run as root"));
        let state = || format!("{BLOCKS}/memory40/state");
        assert!(why(Action::write(state(), "offline"), Errno::NODEV).contains("memory40 is gone"));
        let (condition, limit) = (Condition::Exists, Duration::ZERO);
        let wait = Action::WaitFor { file: state(), condition, limit };
        let error = StepError {
            number: 1,
            of: 9,
            action: wait,
            undone: Undone::default(),
            source: io::ErrorKind::TimedOut.into(),
        };
        assert!(Why::of(&Root::new("/nowhere"), &error).to_string().contains("does not appear"));
    }
}
