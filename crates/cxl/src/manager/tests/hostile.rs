//! A device that says anything.

use alloc::{vec, vec::Vec};

use memtide_units::{DcExtent, DpaRange, Random, Tag};

use super::{BLOCK, Bench, GIB, bench::execute};
use crate::{
    ReturnCode,
    command::{
        HostId,
        events::{Clear, EventRecords, Overflow},
        fabric_manager::{HostExtents, TagInfo, Tags},
    },
    manager::*,
};

fn number(random: &mut Random) -> u64 {
    match random.below(4) {
        0 => random.next(),
        1 => random.below(9) * BLOCK,
        2 => u64::MAX - random.below(3),
        _ => 0,
    }
}

fn extents(random: &mut Random) -> Vec<DcExtent> {
    let extent = |random: &mut Random| DcExtent {
        range: DpaRange::new(number(random), number(random)),
        tag: Tag([random.below(2) as u8; 16]),
        sequence: 0,
    };
    (0..random.below(5)).map(|_| extent(random)).collect()
}

fn lie(random: &mut Random, reply: Reply) -> Reply {
    match (random.below(12), reply) {
        (0, _) => Err(ReturnCode(random.below(40) as u16)),
        (1, _) => Ok(Response::Done),
        (2, Ok(Response::Info(mut info))) => {
            info.hosts = random.next() as u8;
            info.total_capacity = number(random);
            Ok(Response::Info(info))
        }
        (2 | 3, Ok(Response::HostConfiguration(mut answer))) => {
            for region in &mut answer.regions {
                (region.base, region.length) = (number(random), number(random));
                region.block_size = number(random);
            }
            Ok(Response::HostConfiguration(answer))
        }
        (2..=4, Ok(Response::HostExtents(_))) => Ok(Response::HostExtents(HostExtents {
            host: HostId(random.below(9) as u16),
            start: random.next() as u32,
            total: number(random) as u32,
            generation: random.next() as u32,
            extents: extents(random),
        })),
        (2, Ok(Response::Tags(mut tags))) => {
            (tags.total, tags.generation) = (number(random) as u32, random.next() as u32);
            Ok(Response::Tags(tags))
        }
        (2, Ok(Response::EventRecords(_))) => Ok(Response::EventRecords(EventRecords {
            overflow: None,
            more: crate::command::More::Follows,
            records: Vec::new(),
        })),
        (_, reply) => reply,
    }
}

#[test]
fn a_device_that_lies_breaks_nothing_and_answers_come() {
    for seed in 0..300 {
        let mut random = Random::new(seed);
        let mut bench = Bench::new();
        let ids: Vec<_> = (0..6)
            .filter_map(|_| {
                let host = random.below(3);
                let size = (1 + random.below(4)) * BLOCK;
                let request = match random.below(2) {
                    0 => bench.add(host, size, Rest::Drop),
                    _ => bench.release(host, size, Forcing::AtDeadline, Rest::Drop),
                };
                bench.ask(request).ok().map(|report| report.id)
            })
            .collect();
        for _ in 0..400 {
            let device = bench.name();
            match bench.take_command() {
                Some(command) => {
                    let reply = execute(&mut bench.device, &command);
                    let reply = lie(&mut random, reply);
                    bench.tell(Input::Reply { device, reply });
                }
                None if random.below(4) == 0 => bench.tell(Input::DeviceUp { device }),
                None => bench.tell(Input::EventsPending { device }),
            }
            bench.now = bench.now.after(core::time::Duration::from_millis(random.below(200)));
        }
        bench.now = bench.now.after(core::time::Duration::from_secs(1000));
        bench.tell(Input::Tick);
        for id in ids {
            assert_ne!(bench.report(id).state, State::Open, "seed {seed}");
        }
    }
}

#[test]
fn a_device_that_makes_no_sense_is_left_alone() {
    let mut bench = Bench::new();
    let device = bench.name();
    bench.tell(Input::DeviceUp { device: device.clone() });
    let reply = Ok(Response::Done);
    bench.take_command();
    bench.tell(Input::Reply { device: device.clone(), reply });
    assert_eq!(bench.manager.devices()[0].state, DeviceState::Unusable);
    assert_eq!(bench.take_command(), None);
    bench.tell(Input::DeviceUp { device });
    bench.run();
    assert_eq!(bench.manager.devices()[0].state, DeviceState::Ready, "a new connection");
}

#[test]
fn callers_that_say_what_cannot_be_change_nothing() {
    let mut bench = Bench::new();
    let (device, host) = (bench.name(), bench.host(0));
    let other: DeviceName = "e".parse().expect("a name");
    let nobody: HostName = "x".parse().expect("a name");
    let answer = HostAnswer { asked: 3, released: u64::MAX, remaining: 4, holders: vec![] };
    let cases = [
        (Input::DeviceUp { device: other.clone() }, InputError::NoSuchDevice { device: other }),
        (Input::HostUp { host: nobody.clone() }, InputError::NoSuchHost { host: nobody }),
        (
            Input::Reply { device: device.clone(), reply: Ok(Response::Done) },
            InputError::NotAsked { device: device.clone() },
        ),
        (
            Input::HostAnswer { host: host.clone(), device, answer },
            InputError::Answer { host, asked: 3, released: u64::MAX, remaining: 4 },
        ),
    ];
    for (input, error) in cases {
        assert_eq!(bench.manager.handle(bench.now, input), Err(error));
    }
    assert_eq!(bench.manager.devices()[0].free, 2 * GIB);
}

/// The device's lists are longer than one page, and shorter when the second is asked for: so often.
fn reads_lists_that_shrink(times: u32) -> DeviceState {
    let mut bench = Bench::new();
    let device = bench.name();
    bench.tell(Input::DeviceDown { device: device.clone() });
    bench.tell(Input::DeviceUp { device: device.clone() });
    let (mut extents_left, mut tags_left) = (times, times);
    let shrinks = |start: u32, left: &mut u32, first: Response| -> Option<Reply> {
        *left = left.checked_sub(u32::from(start != 0))?;
        if start != 0 {
            return Some(Err(ReturnCode::INVALID_INPUT));
        }
        (*left != 0).then_some(Ok(first))
    };
    while let Some(command) = bench.take_command() {
        let tag = Tag([9; 16]);
        let reply = match &command {
            Command::GetHostExtents(what) if what.host == HostId(1) => {
                let extent = DcExtent { range: DpaRange::new(0, BLOCK), tag, sequence: 0 };
                let extents = vec![extent];
                let (host, start, total, generation) = (what.host, what.start, 40, 1);
                let first = HostExtents { host, start, total, generation, extents };
                shrinks(start, &mut extents_left, Response::HostExtents(first))
            }
            Command::ListTags(what) => {
                let tag = TagInfo { tag, referenced: false, holders: [0; 32], pending: [0; 32] };
                let first = Tags { generation: 1, total: 40, tags: vec![tag] };
                shrinks(what.start, &mut tags_left, Response::Tags(first))
            }
            _ => None,
        };
        let reply = reply.unwrap_or_else(|| execute(&mut bench.device, &command));
        bench.tell(Input::Reply { device: device.clone(), reply });
    }
    let status = bench.manager.devices().remove(0);
    if status.state == DeviceState::Ready {
        assert_eq!((extents_left, tags_left), (0, 0), "both were refused as often as was meant");
        assert_eq!(bench.manager.devices[0].tags, Some(Vec::new()), "it does list tags");
    }
    status.state
}

#[test]
fn a_list_that_becomes_shorter_between_pages_is_begun_anew_but_not_for_ever() {
    assert_eq!(reads_lists_that_shrink(1), DeviceState::Ready);
    assert_eq!(reads_lists_that_shrink(16), DeviceState::Ready);
    assert_eq!(reads_lists_that_shrink(17), DeviceState::Unusable);
}

#[test]
fn an_overflow_without_records_is_cleared_once() {
    let mut bench = Bench::new();
    let device = bench.name();
    let overflow = Some(Overflow { count: 3, first: 1, last: 2 });
    let mut clears = 0;
    bench.tell(Input::EventsPending { device: device.clone() });
    while let Some(command) = bench.take_command() {
        let reply = match &command {
            Command::GetEventRecords(_) => Ok(Response::EventRecords(EventRecords {
                overflow,
                more: crate::command::More::Last,
                records: Vec::new(),
            })),
            Command::ClearEventRecords(what) => {
                assert_eq!(what.what, Clear::All);
                clears += 1;
                Ok(Response::Done)
            }
            _ => execute(&mut bench.device, &command),
        };
        bench.tell(Input::Reply { device: device.clone(), reply });
    }
    assert_eq!(clears, 1, "also when the device does not do it");
}
