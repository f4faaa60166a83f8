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

/// What the kernel's answer means: to a block's state, or to a driver's file.
enum Why {
    Block(BlockRefusal),
    Driver { device: String },
}

impl Why {
    fn of(root: &Root, error: &StepError) -> Self {
        match &error.action {
            Action::Bind { device, .. } | Action::Unbind { device, .. } => {
                Self::Driver { device: device.clone() }
            }
            Action::Write { file, value, .. } if file.contains("/drivers/") => {
                Self::Driver { device: value.clone() }
            }
            Action::Write { .. } | Action::WaitFor { .. } => Self::Block(online::why(root, error)),
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
        }
    }
}
