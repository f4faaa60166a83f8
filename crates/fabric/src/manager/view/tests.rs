//! The largest device.

use memtide_cxl::manager::Limits;
use memtide_units::{DcExtent, DpaRange, Tag};

use super::*;
use crate::{
    channel::QUEUE_MAX_BYTES,
    control::{DEVICES_PAGE, FromService},
    frame,
    wire::MAX_NAME_BYTES,
};

const MAX: u64 = u64::MAX;
/// As many as 5600h can say, which counts them in a byte.
const HOSTS: usize = 255;

fn largest_host(number: usize) -> HostView {
    let range = DpaRange::new(MAX - 1, MAX);
    let limits = Limits { minimum: MAX, maximum: MAX, weight: u32::MAX };
    HostView {
        name: Some("h".repeat(MAX_NAME_BYTES)),
        number: u16::MAX - number as u16,
        agent: AgentView::Absent,
        limits,
        held: MAX,
        pending: MAX,
        used: Some(MAX),
        wants: MAX,
        extents: vec![DcExtent { range, tag: Tag([0xff; 16]), sequence: u16::MAX }; MAX_LISTED],
        extents_total: usize::MAX,
    }
}

#[test]
fn a_page_of_devices_fits_whatever_is_in_them() {
    let text = "x".repeat(MAX_TEXT_BYTES);
    let tag =
        TagView { tag: Tag([0xff; 16]), holders: u32::MAX, offered: u32::MAX, kept: Kept::ByHosts };
    let view = DeviceView {
        name: "d".repeat(MAX_NAME_BYTES),
        address: text.clone(),
        state: DeviceStateView::Unusable,
        problem: Some(text),
        capacity: MAX,
        free: MAX,
        regions: vec![RegionView { base: MAX, length: MAX, block_size: MAX }; 8],
        hosts: (0..HOSTS).map(largest_host).collect(),
        tags: vec![tag; MAX_LISTED],
        tags_total: usize::MAX,
    };
    // It is a frame, or there is an error.
    let bytes = frame::encode(&FromService::Device(view)).unwrap().len();
    assert!(DEVICES_PAGE * bytes < QUEUE_MAX_BYTES, "{bytes}");
}

#[test]
fn what_others_say_is_shown_in_short() {
    let status = DeviceStatus {
        name: "pool".parse().unwrap(),
        state: DeviceState::Down,
        capacity: 0,
        free: 0,
        regions: Vec::new(),
        hosts: Vec::new(),
        tags: Vec::new(),
    };
    let long = "ü".repeat(MAX_TEXT_BYTES);
    let view = device(status, long.clone(), Some(long), |_| false);
    let short = "ü".repeat(MAX_TEXT_BYTES / 2);
    assert_eq!((view.address, view.problem), (short.clone(), Some(short)));
}
