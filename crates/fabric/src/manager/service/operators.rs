//! Operators: what `memtide fm` asks for.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use memtide_cxl::manager::{Key, Output, Request};
use memtide_units::RequestId;

use super::{Notice, RunError, Service, devices::chain};
use crate::{
    control::{
        DEVICES_PAGE, DeviceView, FromService, REQUESTS_PAGE, RequestView, ToService, VERSION,
    },
    frame,
    manager::view,
    serving::GuestId,
    wire::MAX_FRAME_BYTES,
};

/// Most operators that are connected.
const OPERATORS_MAX: usize = 128;
/// Most often that watchers are told.
const WATCH_PAUSE: Duration = Duration::from_millis(20);

/// An operator who has introduced himself.
#[derive(Debug, Default)]
pub struct Operator {
    /// What he was told of devices last, if he watches.
    watches: Option<BTreeMap<String, DeviceView>>,
    /// The device that he is told of first, if there is something new: so that those that change all
    /// the time do not keep him from hearing of the others.
    next: usize,
    /// Something has changed while he was still being told of something else, or more has than is
    /// told at a time. When he has read that, the loop wakes up, and he is told what is new then.
    behind: bool,
}

impl Service {
    pub(super) fn operator_says(&mut self, id: GuestId, body: &[u8]) -> Result<(), RunError> {
        let message = match frame::decode(body) {
            Ok(message) => message,
            Err(error) => {
                self.garbage(id, error);
                return Ok(());
            }
        };
        match (message, self.operators.contains_key(&id)) {
            (ToService::Hello { version }, false) => self.operator_hello(id, version),
            (ToService::Hello { .. }, true) | (_, false) => self.misplaced(id),
            (ToService::Ask(request), true) => return self.ask(id, request),
            (ToService::Devices(from), true) => self.tell_devices(id, from),
            (ToService::Requests(from), true) => self.tell_requests(id, from),
            (ToService::Watch, true) => {
                if let Some(operator) = self.operators.get_mut(&id) {
                    operator.watches = Some(BTreeMap::new());
                }
                self.changed = true;
            }
        }
        Ok(())
    }

    /// A page of devices, from one on.
    fn tell_devices(&mut self, to: GuestId, from: u64) {
        let first = usize::try_from(from).unwrap_or(usize::MAX);
        let mut page: Vec<_> = self.views().into_iter().skip(first).collect();
        let next = (page.len() > DEVICES_PAGE).then(|| from + DEVICES_PAGE as u64);
        page.truncate(DEVICES_PAGE);
        for view in page {
            self.hub.send(to, &FromService::Device(view), None);
        }
        self.hub.send(to, &next.map_or(FromService::End, FromService::Next), None);
    }

    /// A page of requests, from one on.
    fn tell_requests(&mut self, to: GuestId, from: u64) {
        let view = |(id, request, report): (_, &Request, _)| RequestView {
            id,
            request: request.clone(),
            report,
        };
        let known = self.manager.requests().skip_while(|(id, ..)| id.0 < from);
        let mut page: Vec<_> = known.take(REQUESTS_PAGE + 1).map(view).collect();
        let next = page.get(REQUESTS_PAGE).map(|view| view.id.0);
        page.truncate(REQUESTS_PAGE);
        for view in page {
            self.hub.send(to, &FromService::Request(view), None);
        }
        self.hub.send(to, &next.map_or(FromService::End, FromService::Next), None);
    }

    fn operator_hello(&mut self, id: GuestId, version: u16) {
        let why = if version != VERSION {
            format!("version {version}; expected {VERSION}")
        } else if self.operators.len() >= OPERATORS_MAX {
            format!("{OPERATORS_MAX} operators are connected; expected fewer")
        } else {
            self.hub.introduced(id, MAX_FRAME_BYTES);
            self.hub.send(id, &FromService::Welcome { version: VERSION }, None);
            self.operators.insert(id, Operator::default());
            return;
        };
        self.hub.send(id, &FromService::Refused(why.clone()), None);
        self.hub.close(id);
        self.notice(Notice::Refused(why));
    }

    /// A request is tried on a copy of the manager: what cannot be kept has not happened.
    fn ask(&mut self, asker: GuestId, request: Request) -> Result<(), RunError> {
        if self.suspended.is_some() {
            let why = "the store can neither be written nor read; nothing was changed".to_owned();
            self.hub.send(asker, &FromService::Failed(why), None);
            return Ok(());
        }
        let id = RequestId(self.store.next_request());
        let mut trial = self.manager.clone();
        let outputs = match trial.request(self.clock.now(), id, request) {
            Ok(outputs) => outputs,
            Err(error) => {
                self.hub.send(asker, &FromService::Declined(error.to_string()), None);
                return Ok(());
            }
        };
        let mut outputs = outputs.into_iter().peekable();
        if let Some(Output::Journal(records)) =
            outputs.next_if(|output| matches!(output, Output::Journal(_)))
            && let Err(error) = self.store.commit(&records)
        {
            let why = chain(&error);
            self.notice(Notice::Store(error));
            // A failed write has kept nothing; a failed sync may have kept all.
            return match self.store.load() {
                Ok(kept) if kept.iter().any(|(key, _)| *key == Key::Request(id)) => {
                    self.accepted(asker, id);
                    self.start_over()
                }
                Ok(_) => {
                    let why = format!("{why}; nothing was changed");
                    self.hub.send(asker, &FromService::Failed(why), None);
                    Ok(())
                }
                Err(_) => {
                    let why = format!(
                        "{why}; nor can it be read: whether request {} is kept will be seen when \
                         it can",
                        id.0
                    );
                    self.hub.send(asker, &FromService::Failed(why), None);
                    self.start_over()
                }
            };
        }
        self.manager = trial;
        self.changed = true;
        self.accepted(asker, id);
        self.carry_out(outputs.collect())
    }

    fn accepted(&mut self, asker: GuestId, id: RequestId) {
        self.askers.insert(id, asker);
        self.hub.send(asker, &FromService::Accepted(id), None);
    }

    fn views(&self) -> Vec<DeviceView> {
        let view = |status: memtide_cxl::manager::DeviceStatus| {
            let (address, problem) = self.devices.told(&status.name);
            view::device(status, address, problem, |host| self.agent_of.contains_key(host))
        };
        self.manager.devices().into_iter().map(view).collect()
    }

    /// When watchers are to be told, if there is something to tell.
    pub(super) fn watchers_due(&self) -> Option<Instant> {
        let waits = |(id, operator): (&GuestId, &Operator)| {
            operator.watches.is_some() && (self.changed || operator.behind && self.hub.is_idle(*id))
        };
        self.operators.iter().any(waits).then(|| self.told_watchers + WATCH_PAUSE)
    }

    /// Tells watchers what looks different from what they were told last.
    pub(super) fn tell_watchers(&mut self) {
        let now = Instant::now();
        if self.watchers_due().is_none_or(|due| due > now) {
            return;
        }
        (self.changed, self.told_watchers) = (false, now);
        let views = self.views();
        for (id, operator) in &mut self.operators {
            let Some(told) = &mut operator.watches else { continue };
            operator.behind = !self.hub.is_idle(*id);
            if operator.behind {
                continue;
            }
            let knew_all = told.len() == views.len();
            let all = (0..views.len()).cycle().skip(operator.next).take(views.len());
            let mut new = all.filter(|&at| told.get(&views[at].name) != Some(&views[at]));
            let page: Vec<usize> = new.by_ref().take(DEVICES_PAGE).collect();
            operator.behind = new.next().is_some();
            operator.next = page.last().map_or(operator.next, |last| (last + 1) % views.len());
            for view in page.into_iter().map(|at| &views[at]) {
                self.hub.send(*id, &FromService::Device(view.clone()), None);
                told.insert(view.name.clone(), view.clone());
            }
            if !knew_all && told.len() == views.len() {
                self.hub.send(*id, &FromService::End, None);
            }
        }
    }
}

#[cfg(test)]
mod tests;
