//! Telling the fabric manager who holds what, and why.
//!
//! A device only sees what is released; of what stays it hears nothing. So the host says it
//! itself, on a connection of its own, from a thread of its own: what came of the last request,
//! how much is in use, and how much more is wanted ([`super::wants`]). Only the latest of each
//! matters, and a manager that was away is told it when it is back. Without a manager nothing is
//! different.

use std::{
    os::fd::{AsFd, OwnedFd},
    sync::{
        Arc,
        mpsc::{Receiver, Sender, TryRecvError},
    },
    time::{Duration, Instant},
};

use memtide_engine::{self as engine, dynamic_capacity::Answer};
use memtide_fabric::{
    Address,
    channel::{Channel, Incoming},
    frame,
    wire::{FromManager, HeldBy, HostAnswer, MAX_FRAME_BYTES, MAX_HOLDERS, ToManager, VERSION},
};
use memtide_units::ByteSize;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec};

use super::ranges;
use crate::{daemon::Daemon, notice::Notice};

/// Between two tries to connect, at first and at most.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// How long connecting may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// The daemon's end.
#[derive(Debug)]
pub(super) struct Manager {
    says: Option<Sender<ToManager>>,
    hears: Receiver<FromManager>,
    wake: Arc<OwnedFd>,
    /// What was last said of what is in use: accepted, used.
    told: Option<(u64, u64)>,
}

impl Manager {
    /// Starts a thread that keeps a manager informed.
    ///
    /// # Errors
    /// The kernel's, when it gives no thread or descriptor.
    pub(super) fn start(at: Address, host: String) -> std::io::Result<Self> {
        let wake = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let wake = Arc::new(wake);
        let (says, said) = std::sync::mpsc::channel();
        let (heard, hears) = std::sync::mpsc::channel();
        let ear = Arc::clone(&wake);
        let hello = ToManager::Hello { version: VERSION, host };
        let mut clerk = Clerk {
            at,
            hello,
            said,
            heard,
            wake: ear,
            uses: None,
            answer: None,
            wants: None,
            ended: false,
        };
        std::thread::Builder::new().name("dcd-manager".to_owned()).spawn(move || clerk.run())?;
        Ok(Self { says: Some(says), hears, wake, told: None })
    }

    pub(super) fn say(&self, message: ToManager) {
        if let Some(says) = &self.says {
            // The thread ends only with this end.
            let _ = says.send(message);
            let _ = rustix::io::write(&*self.wake, &1u64.to_ne_bytes());
        }
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        self.says = None;
        let _ = rustix::io::write(&*self.wake, &1u64.to_ne_bytes());
    }
}

/// The thread's end.
struct Clerk {
    at: Address,
    hello: ToManager,
    said: Receiver<ToManager>,
    heard: Sender<FromManager>,
    wake: Arc<OwnedFd>,
    uses: Option<ToManager>,
    answer: Option<ToManager>,
    wants: Option<ToManager>,
    ended: bool,
}

impl Clerk {
    fn run(&mut self) {
        let (mut pause, most) = PAUSES;
        while !self.ended {
            if let Ok(socket) = self.at.connect(PATIENCE) {
                let welcomed = self.serve(Channel::new(socket, MAX_FRAME_BYTES));
                pause = if welcomed { PAUSES.0 } else { pause };
            }
            pause = (pause * 2).min(most);
            let until = Instant::now() + pause;
            while !self.ended && Instant::now() < until {
                self.wait(None, Some(until.saturating_duration_since(Instant::now())));
                self.take(None);
            }
        }
    }

    /// Until the connection ends; whether it was welcome.
    fn serve(&mut self, mut channel: Channel) -> bool {
        let latest = [self.uses.clone(), self.answer.clone(), self.wants.clone()];
        for message in [Some(self.hello.clone())].into_iter().chain(latest).flatten() {
            // Made to fit into a frame.
            let _ = channel.send(&message, None);
        }
        let mut welcomed = false;
        loop {
            channel.flush();
            match channel.receive() {
                Incoming::Frame(body) => match frame::decode(&body) {
                    Ok(FromManager::Welcome { version: VERSION }) => welcomed = true,
                    // Of a device that another agent of this host tells of.
                    Ok(FromManager::Look { .. }) => {}
                    Ok(message) => {
                        let ends = !matches!(message, FromManager::Taken { .. });
                        let _ = self.heard.send(message);
                        if ends {
                            return false;
                        }
                    }
                    Err(_) => return false,
                },
                Incoming::Nothing if !channel.is_over() => {
                    self.wait(Some(&channel), None);
                    self.take(Some(&mut channel));
                    if self.ended {
                        return welcomed;
                    }
                }
                Incoming::Nothing | Incoming::Garbage(_) | Incoming::Closed => return welcomed,
            }
        }
    }

    /// Takes what is to be said, keeps the latest, and says it if somebody is there.
    fn take(&mut self, mut channel: Option<&mut Channel>) {
        loop {
            let message = match self.said.try_recv() {
                Ok(message) => message,
                Err(TryRecvError::Empty) => return,
                Err(TryRecvError::Disconnected) => {
                    self.ended = true;
                    return;
                }
            };
            if let Some(channel) = &mut channel {
                let _ = channel.send(&message, None);
            }
            match message {
                ToManager::Uses { .. } => self.uses = Some(message),
                ToManager::Answer(_) => self.answer = Some(message),
                ToManager::Wants { .. } => self.wants = Some(message),
                ToManager::Hello { .. } | ToManager::Extents { .. } => {}
            }
        }
    }

    fn wait(&self, channel: Option<&Channel>, limit: Option<Duration>) {
        let mut fds = vec![PollFd::new(&*self.wake, PollFlags::IN)];
        fds.extend(channel.map(|it| PollFd::from_borrowed_fd(it.as_fd(), it.interest())));
        let limit = limit.map(|limit| Timespec {
            tv_sec: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(limit.subsec_nanos()),
        });
        // Errors (EINTR) and timeouts alike: look what there is.
        let _ = rustix::event::poll(&mut fds, limit.as_ref());
        let _ = rustix::io::read(&*self.wake, &mut [0; 8]);
    }
}

impl Daemon {
    /// What became of a device's request.
    pub(super) fn tell_manager(&self, answer: &Answer) {
        let device = &self.dcd.devices[&answer.device];
        let (Some(manager), Some(welcome)) = (&device.manager, &device.welcome) else { return };
        let holders = answer.holders.iter().take(MAX_HOLDERS).map(|holder| self.held_by(holder));
        manager.say(ToManager::Answer(HostAnswer {
            serial: welcome.serial,
            asked: answer.asked.0,
            released: answer.released.0,
            remaining: answer.remaining.0,
            holders: holders.collect(),
        }));
    }

    fn held_by(&self, holder: &engine::Holder) -> HeldBy {
        HeldBy {
            tenant: Some(self.tenant_of_image(holder.image)),
            program: Some(holder.name.clone()),
            pid: Some(holder.pid),
            bytes: holder.bytes.0,
            reason: holder.reason,
        }
    }

    /// How much of each device is accepted and in use, to those who have not heard; and what they
    /// say.
    pub(super) fn tell_use(&mut self) {
        let mut heard = Vec::new();
        for (name, device) in &mut self.dcd.devices {
            let (Some(manager), Some(welcome)) = (&mut device.manager, &device.welcome) else {
                continue;
            };
            while let Ok(message) = manager.hears.try_recv() {
                heard.push((*name, message));
            }
            let totals = self.dcd.port.host().totals(*name).unwrap_or_default();
            let had = totals.accepted + totals.recovered;
            let gone = totals.released + totals.lost + totals.rejected;
            let accepted = u64::try_from(had - gone).unwrap_or(u64::MAX);
            let now = (accepted, device.leased.0);
            if manager.told != Some(now) {
                manager.told = Some(now);
                let (serial, used) = (welcome.serial, now.1);
                manager.say(ToManager::Uses { serial, accepted, used });
            }
        }
        for (name, message) in heard {
            let node = self.node_name_of(name);
            self.notice(match message {
                FromManager::Refused(why) => Notice::ManagerRefuses { node, why },
                FromManager::Taken { extents, .. } => {
                    let taken: Vec<_> = extents.iter().map(|extent| extent.range).collect();
                    Notice::Taken { node, bytes: ByteSize(ranges::bytes(&taken)) }
                }
                // It is not passed on to here.
                FromManager::Look { .. } => continue,
                FromManager::Welcome { version } => {
                    let why = format!("it speaks version {version}; expected {VERSION}");
                    Notice::ManagerRefuses { node, why }
                }
            });
        }
    }
}
