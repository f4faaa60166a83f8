//! `memtide dcd serve`.

use std::{
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use memtide_engine::dynamic_capacity::{DpaRange, GroupStatus};
use memtide_host::{
    MemoryBlocks, Root,
    dcd::{self, AcceptPolicy, DcdError, Report, ServeWish, Served, pci::PciDevice},
    plan::Live,
};
use memtide_units::ByteSize;
use serde::Serialize;
use serde_json::{Value, json};
use signal_hook::{
    consts::{SIGINT, SIGTERM},
    flag,
};

use super::{
    control::{Control, Policy, Question},
    manager::{Has, Teller},
    pool,
};
use crate::{
    arguments::{AcceptKind, DcdServe},
    failure::{Failure, chain},
    output,
};

/// How often the device is looked at. No interrupt of it reaches user space.
const LOOK_EVERY: Duration = Duration::from_millis(50);

pub fn serve(options: &DcdServe) -> Result<ExitCode, Failure> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT] {
        flag::register(signal, Arc::clone(&stop))?;
    }
    let mut kernel = Live::new(&Root::live()).map_err(|error| Failure::Failed(chain(&error)))?;
    let wish = ServeWish {
        device: options.device.clone(),
        policy: policy(options.accept),
        deadline: options.deadline,
    };
    let is_json = options.json;
    // Who reads along may have had enough; the device is served all the same.
    let mut say = move |report: Report| {
        let _ = if is_json { output::json(&report) } else { output::text(&format!("{report}\n")) };
    };
    let device = dcd::find(&kernel, &wish).map_err(failure)?;
    // Before anything of the machine is changed.
    let mut teller = teller(options, &device, &Root::live())?;
    let control = Control::bind(&device.address)?;
    let pool = pool::of(options)?;
    let address = device.address.clone();
    let mut served = dcd::serve(&mut kernel, device, &wish, pool, &mut say).map_err(failure)?;
    say(Report::Note { what: format!("serving {address}") });
    while !stop.load(Ordering::Relaxed) {
        let mut hear = |report: Report| {
            teller.iter_mut().for_each(|teller| teller.hear(&report));
            say(report);
        };
        served.step(&mut kernel, &mut hear).map_err(failure)?;
        if let Some(teller) = &mut teller {
            let (answered, accepted) = (served.take_answered(), served.agent().accepted());
            let used = || served.agent().used(&Root::live());
            teller.turn(Has { accepted, answered, used: &used }, &mut say);
        }
        control.answer(|question| answer(&mut served, question));
        thread::sleep(LOOK_EVERY);
    }
    say(Report::Note { what: format!("no longer serving {address}; what is in use stays so") });
    Ok(ExitCode::SUCCESS)
}

/// Who tells a manager, if there is one.
fn teller(options: &DcdServe, device: &PciDevice, root: &Root) -> Result<Option<Teller>, Failure> {
    let (Some(at), Some(host)) = (&options.manager, &options.host_name) else { return Ok(None) };
    let serial = device.serial(root).map_err(failure)?.ok_or_else(|| {
        let device = &device.address;
        Failure::Failed(format!(
            "device {device} has no serial number, by which a manager knows it: expected none of \
             --manager"
        ))
    })?;
    Ok(Some(Teller::new(at.clone(), host.to_string(), serial)))
}

pub const fn policy(kind: AcceptKind) -> AcceptPolicy {
    match kind {
        AcceptKind::All => AcceptPolicy::All,
        AcceptKind::None => AcceptPolicy::None,
    }
}

fn failure(error: DcdError) -> Failure {
    let message = chain(&error);
    match error {
        DcdError::NoDevice { .. } | DcdError::Several { .. } => Failure::Usage(message),
        _ => Failure::Failed(message),
    }
}

/// What `status` answers.
#[derive(Serialize)]
struct Status {
    device: String,
    accept_policy: Policy,
    deadline_ms: u64,
    block: ByteSize,
    accepted: ByteSize,
    online: ByteSize,
    asked_back: ByteSize,
    regions: Vec<Region>,
    groups: Vec<Group>,
}

#[derive(Serialize)]
struct Region {
    dpa: u64,
    physical: u64,
    size: ByteSize,
}

#[derive(Serialize)]
struct Group {
    group: u64,
    /// `null` for what has none.
    tag: Option<String>,
    size: ByteSize,
    asked_back: ByteSize,
    online: ByteSize,
    nodes: Vec<u16>,
    extents: Vec<Extent>,
}

#[derive(Serialize)]
struct Extent {
    dpa: u64,
    size: ByteSize,
}

fn answer(served: &mut Served, question: &Question) -> Value {
    let value = match question {
        Question::Status => serde_json::to_value(status(served)),
        Question::AcceptPolicy { set } => {
            if let Some(set) = set {
                served.set_policy(match set {
                    Policy::All => AcceptPolicy::All,
                    Policy::None => AcceptPolicy::None,
                });
            }
            Ok(json!({ "accept_policy": policy_of(served) }))
        }
    };
    value.unwrap_or_else(|error| json!({ "error": error.to_string() }))
}

fn policy_of(served: &Served) -> Policy {
    match served.agent().setup().policy {
        AcceptPolicy::All => Policy::All,
        AcceptPolicy::None => Policy::None,
    }
}

fn status(served: &Served) -> Status {
    let setup = served.agent().setup();
    // What cannot be read is not counted as online.
    let blocks = MemoryBlocks::read(&Root::live()).ok().flatten();
    let groups = served.agent().groups();
    let groups: Vec<Group> = groups.iter().map(|it| group(served, it, blocks.as_ref())).collect();
    let sum = |of: fn(&Group) -> ByteSize| ByteSize(groups.iter().map(|group| of(group).0).sum());
    Status {
        device: setup.name.clone(),
        accept_policy: policy_of(served),
        deadline_ms: u64::try_from(setup.deadline.as_millis()).unwrap_or(u64::MAX),
        block: ByteSize(setup.memory.block_bytes()),
        accepted: sum(|group| group.size),
        online: sum(|group| group.online),
        asked_back: sum(|group| group.asked_back),
        regions: setup
            .spans
            .iter()
            .map(|span| Region {
                dpa: span.dpa.start,
                physical: span.base.0,
                size: ByteSize(span.dpa.length),
            })
            .collect(),
        groups,
    }
}

fn group(served: &Served, status: &GroupStatus, blocks: Option<&MemoryBlocks>) -> Group {
    let extent = |range: &DpaRange| Extent { dpa: range.start, size: ByteSize(range.length) };
    let online = served.agent().online_of(&status.extents, blocks);
    Group {
        group: status.group.0,
        tag: (!status.tag.is_null()).then(|| status.tag.to_string()),
        size: ByteSize(status.bytes),
        asked_back: ByteSize(status.asked),
        online: online.bytes,
        nodes: online.nodes.iter().map(|node| node.0).collect(),
        extents: status.extents.iter().map(extent).collect(),
    }
}

#[cfg(test)]
mod tests;
