//! The manager's side: the state machine, its journal, and the line to the device.
//!
//! The manager is [`memtide_cxl::manager`]. The journal outlives it. A line carries one command at
//! a time; what is lost on it ends it, and a new one begins. What belongs to an old line is dropped
//! at either end.

use std::collections::BTreeMap;

use memtide_cxl::manager::{Config, ConfigError, Key, Manager, Record, Report, Request, Value};
use memtide_units::{Instant, RequestId};

use super::judge::Broken;

/// The manager and what outlives it.
pub(super) struct Center {
    pub(super) config: Config,
    /// Nothing: it is not running.
    pub(super) manager: Option<Manager>,
    journal: BTreeMap<Key, Value>,
    /// The line's number: another one for each connection.
    pub(super) line: u64,
    /// The number of the command that is under way, if one is.
    pub(super) under_way: Option<u64>,
    pub(super) commands: u64,
    /// When it is woken next.
    pub(super) wakes_at: Option<Instant>,
    /// It is to fall over in the middle of what it does next.
    pub(super) falls: Falls,
    /// What operators asked, and the last answer.
    asked: BTreeMap<RequestId, (Request, Option<Report>)>,
    /// The last number that a request got.
    last_id: u64,
}

/// Whether the manager is to fall over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Falls {
    /// Not now.
    Not,
    /// With the next thing that it does.
    Next,
}

impl Center {
    pub(super) fn new(config: Config) -> Result<Self, ConfigError> {
        Ok(Self {
            manager: Some(Manager::new(config.clone())?),
            config,
            journal: BTreeMap::new(),
            line: 0,
            under_way: None,
            commands: 0,
            wakes_at: None,
            falls: Falls::Not,
            asked: BTreeMap::new(),
            last_id: 0,
        })
    }

    /// It is killed.
    pub(super) fn die(&mut self) {
        self.manager = None;
        self.falls = Falls::Not;
        self.wakes_at = None;
        self.hang_up();
    }

    /// The line is gone, whoever ends it.
    pub(super) const fn hang_up(&mut self) {
        self.line += 1;
        self.under_way = None;
    }

    /// It starts again, from what is durable.
    pub(super) fn start(&mut self, now: Instant) -> Result<(), Broken> {
        let journal = self.journal.clone();
        self.manager = Some(Manager::restore(self.config.clone(), now, journal)?);
        Ok(())
    }

    /// All of it, at once.
    pub(super) fn write(&mut self, records: Vec<Record>) {
        for record in records {
            match record.value {
                Some(value) => self.journal.insert(record.key, value),
                None => self.journal.remove(&record.key),
            };
        }
    }

    /// An operator's request gets a number.
    pub(super) fn ask(&mut self, request: Request) -> RequestId {
        self.last_id += 1;
        let id = RequestId(self.last_id);
        self.asked.insert(id, (request, None));
        id
    }

    /// An answer came; nothing of it when the request was refused.
    pub(super) fn answered(&mut self, report: &Report) {
        if let Some((_, known)) = self.asked.get_mut(&report.id) {
            *known = Some(report.clone());
        }
    }

    /// It was refused: that is an answer, too.
    pub(super) fn refused(&mut self, id: RequestId) {
        self.asked.remove(&id);
    }

    /// Requests without an answer.
    pub(super) fn unanswered(&self) -> Vec<(RequestId, Request)> {
        let open = self.asked.iter().filter(|(_, (_, report))| report.is_none());
        open.map(|(&id, (request, _))| (id, request.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use memtide_cxl::manager::Timing;

    #[test]
    fn a_number_is_given_once() {
        let config = Config { devices: Vec::new(), timing: Timing::default() };
        let mut center = Center::new(config).expect("it makes sense");
        let request = |of| Request::Cancel { request: RequestId(of) };
        let [first, second] = [1, 2].map(|of| center.ask(request(of)));
        center.refused(first);
        let third = center.ask(request(3));
        assert!(third != first && third != second, "{third:?}");
        assert_eq!(center.unanswered(), [(second, request(2)), (third, request(3))]);
    }
}
