//! `memtide fm list` and `memtide fm show`.

use std::process::ExitCode;

use memtide_cxl::manager::{Ending, Request, State};
use memtide_fabric::control::{
    AgentView, DeviceStateView, DeviceView, HostView, Kept, RequestView,
};
use memtide_units::ByteSize;

use super::{ask::sentences, connect, failure};
use crate::{
    arguments::{FmList, FmShow},
    failure::Failure,
    output,
};

pub fn list(options: &FmList) -> Result<ExitCode, Failure> {
    let mut client = connect(&options.socket)?;
    if options.requests {
        let requests = client.requests().map_err(failure)?;
        if options.socket.json {
            output::json(&requests)?;
        } else {
            output::text(&request_table(&requests))?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let devices = client.devices().map_err(failure)?;
    if options.socket.json {
        output::json(&devices)?;
    } else {
        output::text(&device_table(&devices))?;
    }
    Ok(ExitCode::SUCCESS)
}

pub fn show(options: &FmShow) -> Result<ExitCode, Failure> {
    let mut client = connect(&options.socket)?;
    let (what, json) = (&options.what, options.socket.json);
    if let Ok(number) = what.parse::<u64>() {
        let requests = client.requests().map_err(failure)?;
        if let Some(request) = requests.into_iter().find(|request| request.id.0 == number) {
            if json {
                output::json(&request)?;
            } else {
                output::text(&sentences(&request.request, &request.report))?;
            }
            return Ok(ExitCode::SUCCESS);
        }
    }
    let mut devices = client.devices().map_err(failure)?;
    devices.retain_mut(|device| {
        if device.name == *what {
            return true;
        }
        device.hosts.retain(|host| host.name.as_ref() == Some(what));
        !device.hosts.is_empty()
    });
    if devices.is_empty() {
        return Err(Failure::Usage(format!(
            "{what:?}; expected the name of a device or host, or the number of a request that is \
             known (memtide fm list)"
        )));
    }
    if json {
        output::json(&devices)?;
    } else {
        output::text(&devices.iter().map(details).collect::<String>())?;
    }
    Ok(ExitCode::SUCCESS)
}

pub fn host_name(host: &HostView) -> String {
    host.name.clone().unwrap_or_else(|| format!("(host {})", host.number))
}

fn state(device: &DeviceView) -> String {
    match (device.state, &device.problem) {
        (DeviceStateView::Ready, None) => "ready".to_owned(),
        (DeviceStateView::Ready, Some(problem)) => format!("ready ({problem})"),
        (DeviceStateView::Reading, None) => "being read".to_owned(),
        (DeviceStateView::Reading, Some(problem)) => format!("being read ({problem})"),
        (DeviceStateView::Unusable, _) => "unusable".to_owned(),
        (DeviceStateView::Down, Some(problem)) => format!("not connected: {problem}"),
        (DeviceStateView::Down, None) => "not connected".to_owned(),
    }
}

fn size(bytes: u64) -> String {
    ByteSize(bytes).to_string()
}

fn row(cells: &[&str]) -> Vec<String> {
    cells.iter().map(|cell| (*cell).to_owned()).collect()
}

pub fn device_table(devices: &[DeviceView]) -> String {
    let mut text = String::new();
    for device in devices {
        text += &format!(
            "{} at {}: {}; {} free of {}\n",
            device.name,
            device.address,
            state(device),
            size(device.free),
            size(device.capacity)
        );
        let mut rows = vec![row(&["  HOST", "HAS", "USES", "OFFERED", "WANTS", "AGENT"])];
        for host in &device.hosts {
            rows.push(vec![
                format!("  {}", host_name(host)),
                size(host.held),
                host.used.map_or_else(|| "?".to_owned(), size),
                size(host.pending),
                size(host.wants),
                agent(host.agent).to_owned(),
            ]);
        }
        text += &output::table(&rows);
    }
    text
}

const fn agent(agent: AgentView) -> &'static str {
    match agent {
        AgentView::Connected => "connected",
        AgentView::Absent => "absent",
    }
}

fn request_table(requests: &[RequestView]) -> String {
    let mut rows =
        vec![row(&["REQUEST", "WHAT", "STATE", "ASKED", "RETURNED", "ACCEPTED", "HELD"])];
    for RequestView { id, request, report } in requests {
        rows.push(vec![
            id.0.to_string(),
            what(request),
            ended(report.state),
            size(report.asked),
            size(report.returned),
            size(report.accepted),
            size(report.held),
        ]);
    }
    if requests.is_empty() { "No requests.\n".to_owned() } else { output::table(&rows) }
}

fn what(request: &Request) -> String {
    match request {
        Request::Add { to, .. } => format!("add to {}", to.host),
        Request::Release { from, .. } => format!("release from {}", from.host),
        Request::Move { from, to, .. } => format!("move from {} to {to}", from.host),
        Request::AddReference { tag, .. } => format!("keep {tag}"),
        Request::RemoveReference { tag, .. } => format!("forget {tag}"),
        Request::SetLimits { of, .. } => format!("limits of {}", of.host),
        Request::Cancel { request } => format!("cancel {}", request.0),
    }
}

fn ended(state: State) -> String {
    match state {
        State::Open => "open".to_owned(),
        State::Ended(Ending::Done) => "done".to_owned(),
        State::Ended(Ending::Partly) => "partly done".to_owned(),
        State::Ended(Ending::Cancelled) => "cancelled".to_owned(),
        State::Ended(Ending::NoLongerFits) => "no longer fits".to_owned(),
        State::Ended(Ending::Refused(code)) => {
            format!("refused: {}", memtide_cxl::ReturnCode(code))
        }
    }
}

fn details(device: &DeviceView) -> String {
    let mut text = device_table(std::slice::from_ref(device));
    for (number, region) in device.regions.iter().enumerate() {
        text += &format!(
            "  region {number}: {:#x}+{}, blocks of {}\n",
            region.base,
            size(region.length),
            size(region.block_size)
        );
    }
    for host in &device.hosts {
        let limits = host.limits;
        let maximum =
            if limits.maximum == u64::MAX { "all".to_owned() } else { size(limits.maximum) };
        text += &format!(
            "  {} (number {}): at least {}, at most {maximum}, weight {}\n",
            host_name(host),
            host.number,
            size(limits.minimum),
            limits.weight
        );
        for extent in &host.extents {
            let tag = if extent.tag.is_null() { String::new() } else { format!(" {}", extent.tag) };
            text += &format!("    {:#x}+{}{tag}\n", extent.range.start, size(extent.range.length));
        }
        if host.extents_total > host.extents.len() {
            text += &format!("    and {} more\n", host.extents_total - host.extents.len());
        }
    }
    for tag in &device.tags {
        let kept = if tag.kept == Kept::ByReference { ", kept" } else { "" };
        text += &format!("  tag {}: {} hosts{kept}\n", tag.tag, tag.holders);
    }
    text
}
