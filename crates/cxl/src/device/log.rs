//! An event log: records until somebody clears them (CXL 3.1, 8.2.9.2.2 and 8.2.9.2.3).
//!
//! A record has a number (its handle) that no other record in the log has, and that is not 0.
//! Records are cleared in the order in which they came: whoever clears one has seen all before it.
//! A full log keeps what it has. What comes then is lost and counted, until some record is
//! cleared. Records of one group lie next to each other, or all of them are lost: a group without
//! its end would hold up its reader for ever. The reader is interrupted for what is lost, too, if
//! it had nothing to read before: nothing else would tell of it.

use alloc::{collections::VecDeque, vec::Vec};

use super::refusal::Refusal;
use crate::command::{
    More,
    events::{Clear, DynamicCapacityEvent, EventBody, EventRecord, EventRecords, Overflow},
};

/// What became of a group of records.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Appended {
    /// The log had nothing to tell, not even that something was lost: whoever reads it is
    /// interrupted.
    First,
    /// There was something to tell before it.
    Behind,
}

/// A log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Log {
    records: VecDeque<EventRecord>,
    overflow: Option<Overflow>,
    /// The last handle that was given; 0 before the first.
    last: u16,
    limit: usize,
}

impl Log {
    pub(super) fn new(limit: u16) -> Self {
        Self { records: VecDeque::new(), overflow: None, last: 0, limit: limit.into() }
    }

    /// How many more records fit.
    pub(super) fn room(&self) -> usize {
        self.limit - self.records.len()
    }

    /// How many fit when it is empty.
    pub(super) const fn limit(&self) -> usize {
        self.limit
    }

    /// Adds a group: all but the last get the flag More.
    pub(super) fn append(&mut self, group: &[DynamicCapacityEvent], time: u64) -> Appended {
        let was_empty = self.records.is_empty();
        if group.len() > self.room() {
            let interrupts = was_empty && self.overflow.is_none();
            self.lose(group.len(), time);
            return if interrupts { Appended::First } else { Appended::Behind };
        }
        for (at, &event) in group.iter().enumerate() {
            // Handles come back only after 65535 others, and the log has room for fewer.
            self.last = self.last.checked_add(1).unwrap_or(1);
            let more = if at + 1 == group.len() { More::Last } else { More::Follows };
            let body = EventBody::DynamicCapacity(DynamicCapacityEvent { more, ..event });
            let record = EventRecord { handle: self.last, related: 0, timestamp: time, body };
            self.records.push_back(record);
        }
        let interrupts = was_empty && !group.is_empty();
        if interrupts { Appended::First } else { Appended::Behind }
    }

    fn lose(&mut self, records: usize, time: u64) {
        let lost = u16::try_from(records).unwrap_or(u16::MAX);
        let so_far = self.overflow.unwrap_or(Overflow { count: 0, first: time, last: time });
        let count = so_far.count.saturating_add(lost);
        self.overflow = Some(Overflow { count, first: so_far.first, last: time });
    }

    /// The oldest records, as many as fit.
    pub(super) fn read(&self, fit: usize) -> EventRecords {
        let records: Vec<_> = self.records.iter().take(fit).copied().collect();
        let all = records.len() == self.records.len();
        let more = if all { More::Last } else { More::Follows };
        EventRecords { overflow: self.overflow, more, records }
    }

    /// Clears records: the oldest ones, named in their order, or, if some were lost, all.
    pub(super) fn clear(&mut self, what: &Clear) -> Result<(), Refusal> {
        match what {
            Clear::All if self.overflow.is_none() => return Err(Refusal::ClearAll),
            Clear::All => self.records.clear(),
            Clear::Handles(handles) if handles.is_empty() => return Err(Refusal::NoHandles),
            Clear::Handles(handles) => {
                let mut oldest = self.records.iter().map(|record| record.handle);
                for &handle in handles {
                    let expected = oldest.next();
                    if expected != Some(handle) {
                        return Err(Refusal::Handle { handle, expected });
                    }
                }
                self.records.drain(..handles.len());
            }
        }
        self.overflow = None;
        Ok(())
    }

    /// Empties it, as a reset does.
    pub(super) fn reset(&mut self) {
        self.records.clear();
        self.overflow = None;
    }

    /// Its own rules.
    pub(super) fn holds(&self) -> bool {
        let handles: Vec<u16> = self.records.iter().map(|record| record.handle).collect();
        let next = |handle: u16| handle.checked_add(1).unwrap_or(1);
        handles.len() <= self.limit
            && !handles.contains(&0)
            && handles.windows(2).all(|two| two[1] == next(two[0]))
    }
}
