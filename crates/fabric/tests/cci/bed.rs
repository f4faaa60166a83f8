//! A switch whose mailbox is a function of this machine, played, and the hosts of its devices.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use memtide_cxl::{
    Opcode, Payload, ReturnCode,
    command::{
        HostId, More,
        dynamic_capacity::{AddResponse, Release},
        events::{
            Clear, ClearEventRecords, DynamicCapacityEventKind as Kind, EventBody, EventLog,
            EventRecords, GetEventRecords,
        },
    },
    device::{Device, Effect},
    switch::Switch,
};
use memtide_fabric::manager::backend::{Backend, Connector, cci::CciConnector};
use memtide_host::switch::PortAddress;

use crate::{
    registers::{FUNCTION, Function, Said},
    switch_bed,
};

/// A function, and the switch behind it, to which hosts talk, too.
pub struct Bed {
    pub switch: Arc<Mutex<Switch>>,
    pub function: Function,
}

impl Bed {
    pub fn new(payload_log2: u8) -> Self {
        // What devices tell of themselves, and not what they are asked for in pages, has to fit.
        let switch = switch_bed::switch_before(payload_log2, 256);
        let switch = Arc::new(Mutex::new(switch));
        let behind = Arc::clone(&switch);
        let function = Function::new(payload_log2, move |opcode, payload| {
            let reply = behind.lock().unwrap().execute(opcode, payload);
            Said::Reply(reply.code, reply.payload)
        });
        Self { switch, function }
    }

    pub fn connector(&self, way: &str) -> CciConnector {
        let address: PortAddress = format!("{FUNCTION},{way}").parse().unwrap();
        CciConnector::on(self.function.root().clone(), address)
    }

    pub fn connect(&self, way: &str) -> Box<dyn Backend> {
        self.connector(way).connect().unwrap()
    }

    /// Hosts accept what they are offered, and release what they are asked for.
    fn hosts_do_as_they_are_told(&self, port: u8) {
        let mut switch = self.switch.lock().unwrap();
        let device = switch.device_mut(port).unwrap();
        for host in [HostId(0), HostId(1)] {
            host_does_as_it_is_told(device, host);
        }
        for effect in device.take_effects() {
            if let Effect::Sanitize { range } = effect {
                device.sanitized(range).unwrap();
            }
        }
    }
}

fn host_does_as_it_is_told(device: &mut Device, host: HostId) {
    let log = EventLog::DynamicCapacity;
    let get = GetEventRecords { log };
    let got = device.host(host, Opcode::GET_EVENT_RECORDS, &get.to_bytes());
    let records = EventRecords::decode(&got.payload).unwrap().records;
    let mut accepted = Vec::new();
    for record in &records {
        let EventBody::DynamicCapacity(event) = record.body else { panic!("{record:?}") };
        let range = event.extent.range;
        match event.kind {
            Kind::Add => {
                accepted.push(range);
                if event.more == More::Last {
                    let accepted = std::mem::take(&mut accepted);
                    let answer = AddResponse { more: More::Last, accepted };
                    let reply = device.host(host, Opcode::ADD_DC_RESPONSE, &answer.to_bytes());
                    assert_eq!(reply.code, ReturnCode::SUCCESS, "{:?}", reply.refusal);
                }
            }
            Kind::Release => {
                let release = Release { more: More::Last, released: vec![range] };
                device.host(host, Opcode::RELEASE_DC, &release.to_bytes());
            }
            _ => {}
        }
    }
    if !records.is_empty() {
        let what = Clear::Handles(records.iter().map(|record| record.handle).collect());
        let clear = ClearEventRecords { log, what };
        let reply = device.host(host, Opcode::CLEAR_EVENT_RECORDS, &clear.to_bytes());
        assert_eq!(reply.code, ReturnCode::SUCCESS);
    }
}

/// Tells a thread to end, also when what it runs beside panics.
struct Until<'a>(&'a AtomicBool);

impl Drop for Until<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Hosts act in a thread of their own for as long as `during` takes.
pub fn with_hosts<R>(bed: &Bed, port: u8, during: impl FnOnce() -> R) -> R {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                bed.hosts_do_as_they_are_told(port);
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        let _until = Until(&stop);
        during()
    })
}
