//! What a world is made of, by chance.

use std::{collections::BTreeMap, time::Duration};

use memtide_cxl::{
    command::{
        HostId, More, Sanitize,
        dynamic_capacity::AddResponse,
        fabric_manager::{InitiateAdd, Selection},
    },
    device::{Config as DeviceSetup, Device, RegionConfig, SanitizeControl, Sharing},
    manager::{Chooser, Config, DeviceConfig, HostConfig, Limits, Timing},
};
use memtide_units::{DpaRange, Random, Tag};

use super::{BLOCK, Kind, REGION};

pub(super) fn device(kind: Kind, random: &mut Random) -> DeviceSetup {
    let count = 1 + random.below(3);
    let regions: Vec<RegionConfig> = (0..count)
        .map(|number| {
            let sharable = number == 2;
            let sanitizes = sharable || random.below(4) != 0;
            RegionConfig {
                base: number * REGION,
                decode_length: REGION,
                length: REGION,
                block_size: if random.below(3) == 0 { 2 * BLOCK } else { BLOCK },
                block_sizes: BLOCK | (2 * BLOCK),
                dsmad_handle: number as u32,
                sharing: if sharable { Sharing::Sharable } else { Sharing::Exclusive },
                sanitize: if sanitizes { Sanitize::OnRelease } else { Sanitize::Never },
                sanitize_control: match random.below(2) {
                    0 => SanitizeControl::Fixed,
                    _ => SanitizeControl::Configurable,
                },
            }
        })
        .collect();
    let mut limits = memtide_cxl::device::Limits::default();
    if kind != Kind::Calm && random.below(3) == 0 {
        limits.event_records = 12 + random.below(20) as u16;
    }
    let less = if count > 1 && random.below(5) == 0 { REGION } else { 0 };
    let total_capacity = count * REGION - less;
    let hosts = 2 + random.below(4) as u16;
    DeviceSetup { serial: 1, hosts, regions, total_capacity, limits }
}

pub(super) fn give(device: &mut Device, host: HostId, range: DpaRange) {
    let extent = memtide_units::DcExtent { range, tag: Tag::NULL, sequence: 0 };
    let add = InitiateAdd {
        host,
        selection: Selection::Prescriptive,
        region: 0,
        length: 0,
        tag: Tag::NULL,
        extents: vec![extent],
    };
    device.initiate_add(&add).expect("all is free");
    let answer = AddResponse { more: More::Last, accepted: vec![range] };
    device.add_response(host, &answer).expect("it is offered");
}

pub(super) fn some_limits(random: &mut Random) -> Limits {
    let minimum = if random.below(2) == 0 { random.below(3) * 2 * BLOCK } else { 0 };
    let maximum = if random.below(3) == 0 { (4 + random.below(10)) * BLOCK } else { u64::MAX };
    Limits { minimum: minimum.min(maximum), maximum, weight: 1 + random.below(4) as u32 }
}

pub(super) fn config(random: &mut Random, limits: &BTreeMap<HostId, Limits>) -> Config {
    let host = |(&host, &limits): (&HostId, &Limits)| HostConfig {
        name: format!("h{}", host.0).parse().expect("a name"),
        host,
        limits,
    };
    let chooser = if random.below(3) == 0 { Chooser::Device } else { Chooser::Manager };
    let name = "d".parse().expect("a name");
    let hosts = limits.iter().map(host).collect();
    Config {
        devices: vec![DeviceConfig { name, chooser, hosts }],
        timing: Timing {
            patience: Duration::from_secs(5),
            retry_first: Duration::from_millis(500),
            retry_most: Duration::from_secs(4),
            settle: Duration::from_secs(3),
        },
    }
}
