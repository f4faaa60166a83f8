//! QEMU's control socket (QEMU `docs/interop/qmp-spec.rst`): JSON in lines.
//!
//! Commands are answered in order; events come in between, and are kept until somebody waits for
//! them. Devices of a machine are `/machine/peripheral/NAME`.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use memtide_units::ByteSize;
use serde_json::{Value, json};

use crate::{
    Error,
    channel::{Broken, Channel},
    watch::Watched,
};

/// How long QEMU may take for a command.
const LIMIT: Duration = Duration::from_secs(60);
/// The pause between two looks at something.
const PAUSE: Duration = Duration::from_millis(100);
/// Events that are kept; older ones are forgotten.
const EVENTS_MAX: usize = 1024;

/// Something that QEMU told unasked.
#[derive(Clone, PartialEq, Debug)]
pub struct Event {
    /// Such as `MEMORY_DEVICE_SIZE_CHANGE`.
    pub name: String,
    /// What QEMU says about it.
    pub data: Value,
}

/// A connection to QEMU.
pub struct Qmp {
    watched: Arc<Watched>,
    inner: Mutex<Inner>,
}

struct Inner {
    channel: Channel,
    events: VecDeque<Event>,
}

impl std::fmt::Debug for Qmp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Qmp").finish_non_exhaustive()
    }
}

impl Qmp {
    /// Takes the greeting and leaves negotiation, after which commands can be given.
    pub(crate) fn new(channel: Channel, watched: Arc<Watched>) -> Result<Self, Error> {
        let inner = Mutex::new(Inner { channel, events: VecDeque::new() });
        let qmp = Self { watched, inner };
        let greeting = {
            let mut inner = qmp.inner();
            let message = inner.message(Instant::now() + LIMIT);
            message.map_err(|broken| qmp.watched.broken(broken, "starting QEMU", LIMIT))??
        };
        if greeting.get("QMP").is_none() {
            let expected = "a greeting";
            return Err(Error::Answer { speaker: "QMP", answer: greeting.to_string(), expected });
        }
        qmp.execute("qmp_capabilities", json!({}))?;
        Ok(qmp)
    }

    fn inner(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives a command; returns what it returns.
    ///
    /// # Errors
    /// If QEMU refuses it, ends, or does not answer within a minute.
    pub fn execute(&self, command: &str, arguments: Value) -> Result<Value, Error> {
        let deadline = Instant::now() + LIMIT;
        let doing = format!("QMP {command}");
        let broken = |broken| self.watched.broken(broken, &doing, LIMIT);
        let mut inner = self.inner();
        let mut request = json!({ "execute": command, "arguments": arguments }).to_string();
        request.push('\n');
        inner.channel.send(request.as_bytes(), deadline).map_err(broken)?;
        loop {
            let mut message = inner.message(deadline).map_err(broken)??;
            if let Some(returned) = message.get_mut("return") {
                return Ok(returned.take());
            }
            if let Some(error) = message.get("error") {
                let text = |key| error[key].as_str().unwrap_or_default().to_owned();
                return Err(Error::Refused {
                    command: command.to_owned(),
                    class: text("class"),
                    description: text("desc"),
                });
            }
            inner.keep(message);
        }
    }

    /// Waits for an event, or takes one that came before. Other events stay.
    ///
    /// # Errors
    /// If it does not come within the limit, or QEMU ends.
    pub fn wait_for(
        &self,
        limit: Duration,
        name: &str,
        is_it: impl Fn(&Value) -> bool,
    ) -> Result<Event, Error> {
        let deadline = Instant::now() + limit;
        let mut inner = self.inner();
        loop {
            let wanted = |event: &Event| event.name == name && is_it(&event.data);
            if let Some(at) = inner.events.iter().position(wanted) {
                return Ok(inner.events.remove(at).expect("the position is in the queue"));
            }
            let message = inner.message(deadline).map_err(|broken| {
                self.watched.broken(broken, &format!("waiting for event {name}"), limit)
            })??;
            inner.keep(message);
        }
    }

    /// Plugs a device into the running machine: a driver, a name, and its properties.
    ///
    /// # Errors
    /// As [`Qmp::execute`].
    pub fn device_add(&self, driver: &str, name: &str, properties: Value) -> Result<(), Error> {
        let mut arguments = properties;
        arguments["driver"] = driver.into();
        arguments["id"] = name.into();
        self.execute("device_add", arguments).map(|_| ())
    }

    /// Plugs a CXL device with so much volatile memory into a root port, with this serial number.
    ///
    /// # Errors
    /// As [`Qmp::execute`].
    pub fn add_cxl_device(
        &self,
        name: &str,
        port: &str,
        volatile: ByteSize,
        serial: u64,
    ) -> Result<(), Error> {
        let backend = format!("{name}-ram");
        self.execute(
            "object-add",
            json!({
                "qom-type": "memory-backend-ram", "id": backend,
                "size": volatile.0, "reserve": false,
            }),
        )?;
        let properties = json!({ "bus": port, "volatile-memdev": backend, "sn": serial });
        self.device_add("cxl-type3", name, properties)
    }

    /// Asks the guest to let a device go, and waits until QEMU has taken it out. (A PCIe hot-plug
    /// port blinks for five seconds first.)
    ///
    /// `DEVICE_DELETED` is not waited for: QEMU sends it when the last reference to a device goes
    /// (`device_finalize`), which with a CXL device does not happen.
    ///
    /// # Errors
    /// As [`Qmp::execute`], and if the guest keeps the device longer than the limit.
    pub fn device_del(&self, name: &str, limit: Duration) -> Result<(), Error> {
        let deadline = Instant::now() + limit;
        self.execute("device_del", json!({ "id": name }))?;
        while self.devices()?.iter().any(|device| device == name) {
            if Instant::now() > deadline {
                return Err(self.watched.late(&format!("unplugging {name}"), limit));
            }
            thread::sleep(PAUSE);
        }
        Ok(())
    }

    /// The names of the devices that the machine has at this moment.
    ///
    /// # Errors
    /// As [`Qmp::execute`].
    pub fn devices(&self) -> Result<Vec<String>, Error> {
        let listed = self.execute("qom-list", json!({ "path": "/machine/peripheral" }))?;
        let children = listed.as_array().map(Vec::as_slice).unwrap_or_default();
        let is_device = |child: &&Value| child["type"].as_str().unwrap_or("").starts_with("child<");
        let names = children.iter().filter(is_device).filter_map(|child| child["name"].as_str());
        Ok(names.map(str::to_owned).collect())
    }

    /// Sets a property of a device of the machine.
    ///
    /// # Errors
    /// As [`Qmp::execute`].
    pub fn set(&self, device: &str, property: &str, value: Value) -> Result<(), Error> {
        let arguments = json!({ "path": path(device), "property": property, "value": value });
        self.execute("qom-set", arguments).map(|_| ())
    }

    /// A property of a device of the machine.
    ///
    /// # Errors
    /// As [`Qmp::execute`].
    pub fn get(&self, device: &str, property: &str) -> Result<Value, Error> {
        self.execute("qom-get", json!({ "path": path(device), "property": property }))
    }

    /// Asks a virtio-mem device's driver to have so much plugged.
    ///
    /// # Errors
    /// As [`Qmp::execute`].
    pub fn request_memory(&self, device: &str, size: ByteSize) -> Result<(), Error> {
        self.set(device, "requested-size", size.0.into())
    }

    /// How much of a virtio-mem device is plugged. The guest's memory blocks follow: its driver
    /// adds a block after plugging its memory, and unplugs memory before it removes a block.
    ///
    /// # Errors
    /// As [`Qmp::execute`].
    pub fn plugged_memory(&self, device: &str) -> Result<ByteSize, Error> {
        let size = self.get(device, "size")?;
        let bytes = size.as_u64().ok_or_else(|| Error::Answer {
            speaker: "QMP",
            answer: size.to_string(),
            expected: "a size in bytes",
        })?;
        Ok(ByteSize(bytes))
    }

    /// Poisons memory of a CXL device: from an address in the device, a multiple of 64, so many
    /// bytes, another one.
    ///
    /// # Errors
    /// As [`Qmp::execute`].
    pub fn inject_poison(&self, device: &str, start: u64, length: u64) -> Result<(), Error> {
        let arguments = json!({ "path": path(device), "start": start, "length": length });
        self.execute("cxl-inject-poison", arguments).map(|_| ())
    }
}

fn path(device: &str) -> String {
    format!("/machine/peripheral/{device}")
}

impl Inner {
    fn message(&mut self, deadline: Instant) -> Result<Result<Value, Error>, Broken> {
        let line = self.channel.line(deadline)?;
        let expected = "an object of JSON";
        let message = serde_json::from_str(&line).ok().filter(Value::is_object);
        Ok(message.ok_or(Error::Answer { speaker: "QMP", answer: line, expected }))
    }

    fn keep(&mut self, mut message: Value) {
        let Some(name) = message["event"].as_str().map(str::to_owned) else { return };
        if self.events.len() == EVENTS_MAX {
            self.events.pop_front();
        }
        self.events.push_back(Event { name, data: message["data"].take() });
    }
}
