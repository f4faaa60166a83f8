//! Operators: they ask for anything, ask twice, and expect one answer.

use std::{collections::BTreeMap, time::Duration};

use memtide_cxl::manager::{
    DeviceStatus, Forcing, HostName, Place, Policy, Report, Request, Rest, State, What,
};
use memtide_units::{DpaRange, Random, RequestId, Tag};

/// All that was asked, and what came of it.
#[derive(Default)]
pub struct Operator {
    next: u64,
    /// Taken by the manager, as far as the operator knows; the answer, if it is over.
    pub sent: BTreeMap<RequestId, (Request, Option<Report>)>,
}

impl Operator {
    pub fn next_id(&mut self) -> RequestId {
        self.next += 1;
        RequestId(self.next)
    }

    /// An answer came.
    pub fn hear(&mut self, report: &Report) {
        if report.id.0 >= memtide_cxl::manager::FIRST_OWN_ID {
            return;
        }
        let (request, known) = self.sent.get_mut(&report.id).expect("only what was asked");
        check(request, report);
        if let Some(known) = known {
            assert_eq!(known.state, report.state, "an answer is not taken back");
        }
        if report.state != State::Open {
            *known = Some(report.clone());
        }
    }

    pub fn open(&self) -> Vec<RequestId> {
        self.sent.iter().filter(|(_, (_, end))| end.is_none()).map(|(&id, _)| id).collect()
    }
}

/// The sums that every answer keeps to.
fn check(request: &Request, report: &Report) {
    let Report { asked, returned, held, accepted, refused, pending, missing, .. } = *report;
    match request {
        Request::Add { .. } => {
            assert_eq!(asked, accepted + refused + pending + missing, "{request:?} {report:?}");
        }
        Request::Release { .. } => {
            assert_eq!(asked, returned + held + missing, "{request:?} {report:?}");
        }
        Request::Move { .. } => {
            assert_eq!(asked, returned + held + missing, "{request:?} {report:?}");
            assert!(accepted + refused + pending <= returned, "{request:?} {report:?}");
        }
        _ => {}
    }
}

fn tag(random: &mut Random) -> Tag {
    let mut tag = [0; 16];
    if random.below(3) == 0 {
        tag[15] = 1 + random.below(6) as u8;
    }
    Tag(tag)
}

fn deadline(random: &mut Random) -> Option<Duration> {
    (random.below(2) == 0).then(|| Duration::from_millis(100 + random.below(8000)))
}

fn rest(random: &mut Random) -> Rest {
    if random.below(3) == 0 { Rest::Stand } else { Rest::Drop }
}

/// Anything; most of it makes sense.
pub fn anything(
    random: &mut Random,
    device: &DeviceStatus,
    hosts: &[HostName],
    block: u64,
    open: &[RequestId],
) -> Request {
    let host = |random: &mut Random| hosts[random.below(hosts.len() as u64) as usize].clone();
    let named = (random.below(2) == 0).then(|| device.name.clone());
    let region = (random.below(3) == 0).then(|| random.below(4) as u8);
    let place = Place { host: host(random), device: named, region };
    let size = (1 + random.below(10)) * block;
    let name = device.name.clone();
    match random.below(20) {
        0..=6 => {
            let policy = policy(random, device, block);
            let says = matches!(policy, Policy::Prescriptive(_) | Policy::Shared);
            Request::Add {
                to: place,
                size: if says { 0 } else { size },
                tag: tag(random),
                policy,
                rest: rest(random),
                deadline: deadline(random),
            }
        }
        7..=11 => {
            let what = match random.below(4) {
                0 => What::Tag(tag(random)),
                1 => What::Extents(some_extents(random, device, &place.host)),
                _ => What::Size(size),
            };
            let forcing = match random.below(6) {
                0 => Forcing::AtOnce,
                1 => Forcing::AtDeadline,
                _ => Forcing::Never,
            };
            let (rest, deadline) = (rest(random), deadline(random));
            Request::Release { from: place, what, forcing, rest, deadline }
        }
        12..=15 => {
            let (to, rest, deadline) = (host(random), rest(random), deadline(random));
            Request::Move { from: place, to, size, rest, deadline }
        }
        16 => Request::AddReference { device: name, tag: tag(random) },
        17 => Request::RemoveReference { device: name, tag: tag(random) },
        _ if open.is_empty() => Request::Cancel { request: RequestId(random.below(9)) },
        _ => Request::Cancel { request: open[random.below(open.len() as u64) as usize] },
    }
}

fn policy(random: &mut Random, device: &DeviceStatus, block: u64) -> Policy {
    match random.below(8) {
        0..=3 => Policy::Free,
        4 | 5 => Policy::Contiguous,
        6 => Policy::Shared,
        _ => {
            let at = random.below(device.regions.len().max(1) as u64) as usize;
            let base = device.regions.get(at).map_or(0, |region| region.base);
            let range = |random: &mut Random| {
                DpaRange::new(base + random.below(16) * block, (1 + random.below(3)) * block)
            };
            Policy::Prescriptive((0..1 + random.below(2)).map(|_| range(random)).collect())
        }
    }
}

fn some_extents(random: &mut Random, device: &DeviceStatus, host: &HostName) -> Vec<DpaRange> {
    let host = device.hosts.iter().find(|status| status.name.as_ref() == Some(host));
    let held = host.map_or(&[][..], |status| &status.extents[..]);
    held.iter().filter(|_| random.below(2) == 0).map(|extent| extent.range).collect()
}
