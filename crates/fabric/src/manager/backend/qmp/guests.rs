//! The guests of a device: a socket of each one's QEMU, and what was told on it.

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::Instant,
};

use memtide_cxl::command::HostId;
use rustix::event::{PollFlags, epoll};

use super::{
    QmpError,
    lines::{Answer, Lines},
    log::Log,
    orders::Order,
};
use crate::manager::backend::BackendError;

/// All of them; the first is host 0.
#[derive(Debug)]
pub(super) struct Guests {
    all: Vec<Guest>,
    /// Readable when one of the sockets is.
    sockets: OwnedFd,
}

#[derive(Debug)]
struct Guest {
    lines: Lines,
    /// Where the device is in QEMU's object model.
    path: String,
    /// What the socket is waited for.
    armed: PollFlags,
    log: Log,
}

impl Guests {
    /// Behind these sockets, with the devices' paths.
    pub(super) fn new(guests: Vec<(Lines, String)>) -> Result<Self, QmpError> {
        let socket = |error: rustix::io::Errno| QmpError::Socket(error.into());
        let sockets = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(socket)?;
        let mut all = Vec::new();
        for (number, (lines, path)) in guests.into_iter().enumerate() {
            let data = epoll::EventData::new_u64(number as u64);
            epoll::add(&sockets, &lines, data, epoll::EventFlags::IN).map_err(socket)?;
            all.push(Guest { lines, path, armed: PollFlags::IN, log: Log::default() });
        }
        Ok(Self { all, sockets })
    }

    /// Waits for what is waited for, and no more.
    pub(super) fn arm(&mut self) -> Result<(), QmpError> {
        for (number, guest) in self.all.iter_mut().enumerate() {
            let interest = guest.lines.interest();
            if interest == guest.armed {
                continue;
            }
            let mut flags = epoll::EventFlags::IN;
            flags.set(epoll::EventFlags::OUT, interest.contains(PollFlags::OUT));
            let data = epoll::EventData::new_u64(number as u64);
            let changed = epoll::modify(&self.sockets, &guest.lines, data, flags);
            changed.map_err(|error| QmpError::Socket(error.into()))?;
            guest.armed = interest;
        }
        Ok(())
    }

    /// Gives the QEMU of an order's host that command.
    pub(super) fn tell(&mut self, order: &Order) -> Result<(), QmpError> {
        let guest = &mut self.all[usize::from(order.host)];
        guest.log.tell(order);
        guest.lines.begin(order.command(), &order.arguments(&guest.path))
    }

    /// What came on the sockets. Only the guest that was asked may answer.
    pub(super) fn answer(&mut self, asked: Option<u16>) -> Result<Option<Answer>, BackendError> {
        let mut found = None;
        for (number, guest) in (0..).zip(&mut self.all) {
            let Some(answer) = guest.lines.answer()? else { continue };
            if asked != Some(number) || found.is_some() {
                return Err(BackendError::OtherAnswer);
            }
            found = Some(answer);
        }
        Ok(found)
    }

    /// Whether there is such a guest: more hosts may be set up.
    pub(super) fn has(&self, host: HostId) -> bool {
        usize::from(host.0) < self.all.len()
    }

    /// What a guest was told, which there is.
    pub(super) fn log(&mut self, host: HostId) -> &mut Log {
        &mut self.all[usize::from(host.0)].log
    }

    /// The same of all of them.
    pub(super) fn logs(&mut self) -> impl Iterator<Item = (HostId, &mut Log)> {
        (0..).map(HostId).zip(self.all.iter_mut().map(|guest| &mut guest.log))
    }

    /// A guest whose log has no room for what it was to be offered.
    pub(super) fn lacks_room(&self) -> Option<HostId> {
        let mut guests = (0..).map(HostId).zip(&self.all);
        guests.find_map(|(host, guest)| guest.log.lacks_room().then_some(host))
    }

    /// When something may be asked back that leaves room for an offer now.
    pub(super) fn due(&self) -> Option<Instant> {
        self.all.iter().filter_map(|guest| guest.log.due()).min()
    }
}

impl AsFd for Guests {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.sockets.as_fd()
    }
}
