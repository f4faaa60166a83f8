//! `memtide fm watch`.

use std::{process::ExitCode, time::Instant};

use memtide_fabric::{control::DeviceView, manager::ClientError};
use memtide_units::ByteSize;
use serde::Serialize;

use super::{connect, failure, show::host_name};
use crate::{arguments::FmWatch, failure::Failure, output};

/// A line of JSON.
#[derive(Serialize)]
struct Line<'a> {
    /// Since the first line.
    ms: u128,
    device: &'a DeviceView,
}

pub fn watch(options: &FmWatch) -> Result<ExitCode, Failure> {
    let mut client = connect(&options.socket)?;
    let start = Instant::now();
    let until = options.lasts.map(|lasts| start + lasts);
    for device in client.watch().map_err(failure)? {
        tell(&device, start, options.socket.json)?;
    }
    loop {
        match client.next_change(until) {
            Ok(device) => tell(&device, start, options.socket.json)?,
            Err(ClientError::TimedOut) if until.is_some() => return Ok(ExitCode::SUCCESS),
            Err(error) => return Err(failure(error)),
        }
    }
}

fn tell(device: &DeviceView, start: Instant, json: bool) -> Result<(), Failure> {
    let elapsed = start.elapsed();
    if json {
        return output::json(&Line { ms: elapsed.as_millis(), device });
    }
    let mut text = format!("{:8.3}  {}", elapsed.as_secs_f64(), device.name);
    for host in &device.hosts {
        text += &format!("  {} {}", host_name(host), ByteSize(host.held));
        if let Some(used) = host.used {
            text += &format!(" (uses {})", ByteSize(used));
        }
        if host.pending > 0 {
            text += &format!(" (+{} offered)", ByteSize(host.pending));
        }
    }
    text += &format!("  free {}\n", ByteSize(device.free));
    output::text(&text)
}
