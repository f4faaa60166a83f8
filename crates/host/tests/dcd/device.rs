//! A device with dynamic capacity that is as strict as any: it does what the specification says,
//! and where QEMU's ends at a wrong answer, so does the test.

use std::{cell::RefCell, collections::VecDeque, rc::Rc};

use memtide_cxl::{
    Opcode, Payload, ReturnCode,
    command::{
        HostId, More,
        dynamic_capacity::{AddResponse, ExtentList, GetExtentList, Release},
        events::{
            Clear, ClearEventRecords, DynamicCapacityEvent, DynamicCapacityEventKind as Kind,
            EventBody, EventRecord, EventRecords, GetEventRecords, Overflow,
        },
    },
};
use memtide_host::dcd::{CommandError, Commands};
use memtide_units::{DcExtent, DpaRange, Tag};

use super::killing::Killing;

/// Records that the log holds, as QEMU's.
const LOG_MAX: usize = 8;

/// What the device knows. It outlives those who serve it.
#[derive(Debug, Default)]
pub struct State {
    log: VecDeque<EventRecord>,
    lost: u16,
    next_handle: u16,
    /// Offers, the oldest first.
    pub pending: VecDeque<Vec<DpaRange>>,
    /// How many answers are refused, with nothing wrong in them, and how many there were.
    pub refuse_answers: usize,
    pub answers: usize,
    /// Accepted, ascending, in pieces of one block.
    pub accepted: Vec<DpaRange>,
}

impl State {
    fn record(&mut self, kind: Kind, range: DpaRange, more: More) {
        if self.log.len() == LOG_MAX {
            self.lost += 1;
            return;
        }
        self.next_handle += 1;
        let extent = DcExtent { range, tag: Tag::NULL, sequence: 0 };
        let body = EventBody::DynamicCapacity(DynamicCapacityEvent {
            kind,
            host: HostId(0),
            region: 0,
            more,
            extent,
            extents_available: 512,
            tags_available: 0,
        });
        let handle = self.next_handle;
        self.log.push_back(EventRecord { handle, related: 0, timestamp: 0, body });
    }

    fn chain(&mut self, kind: Kind, ranges: &[DpaRange]) {
        for (number, &range) in ranges.iter().enumerate() {
            let more = if number + 1 < ranges.len() { More::Follows } else { More::Last };
            self.record(kind, range, more);
        }
    }

    pub fn offer(&mut self, ranges: &[DpaRange]) {
        self.pending.push_back(ranges.to_vec());
        self.chain(Kind::Add, ranges);
    }

    pub fn ask_back(&mut self, ranges: &[DpaRange]) {
        self.chain(Kind::Release, ranges);
    }

    /// Takes it without asking.
    pub fn take(&mut self, range: DpaRange) {
        self.accepted.retain(|held| !range.contains(*held));
        self.record(Kind::ForcedRelease, range, More::Last);
    }

    /// Takes the last offer back.
    pub fn withdraw(&mut self) {
        for range in self.pending.pop_back().expect("an offer") {
            self.record(Kind::ForcedRelease, range, More::Last);
        }
    }

    fn blocks(ranges: &[DpaRange]) -> impl Iterator<Item = DpaRange> {
        let each = super::kernel::BLOCK;
        ranges.iter().flat_map(move |range| {
            (0..range.length / each)
                .map(move |block| DpaRange::new(range.start + block * each, each))
        })
    }

    fn add_response(&mut self, response: &AddResponse) -> Result<(), ReturnCode> {
        self.answers += 1;
        if self.refuse_answers > 0 {
            self.refuse_answers -= 1;
            return Err(ReturnCode::INVALID_INPUT);
        }
        // QEMU ends here.
        let offered = self.pending.front().expect("an answer, and nothing is pending");
        let is_offered = |range: &DpaRange| offered.iter().any(|offer| offer.contains(*range));
        if !response.accepted.iter().all(is_offered) {
            return Err(ReturnCode::INVALID_PHYSICAL_ADDRESS);
        }
        for block in Self::blocks(&response.accepted) {
            assert!(!self.accepted.contains(&block), "{block} was accepted before");
            self.accepted.push(block);
        }
        self.accepted.sort_unstable();
        self.pending.pop_front();
        Ok(())
    }

    fn release(&mut self, release: &Release) -> Result<(), ReturnCode> {
        let blocks: Vec<DpaRange> = Self::blocks(&release.released).collect();
        if blocks.is_empty() || !blocks.iter().all(|block| self.accepted.contains(block)) {
            return Err(ReturnCode::INVALID_PHYSICAL_ADDRESS);
        }
        self.accepted.retain(|held| !blocks.contains(held));
        Ok(())
    }

    fn records(&self) -> EventRecords {
        let overflow = (self.lost > 0).then_some(Overflow { count: self.lost, first: 0, last: 0 });
        let records: Vec<EventRecord> = self.log.iter().take(3).copied().collect();
        let more = if self.log.is_empty() { More::Last } else { More::Follows };
        EventRecords { overflow, more, records }
    }

    /// Only from the oldest on, as QEMU has it.
    fn clear(&mut self, clear: &ClearEventRecords) -> Result<(), ReturnCode> {
        let Clear::Handles(handles) = &clear.what else { panic!("only by handle") };
        for &handle in handles {
            if self.log.front().map(|record| record.handle) != Some(handle) {
                return Err(ReturnCode::INVALID_HANDLE);
            }
            self.log.pop_front();
        }
        self.lost = 0;
        Ok(())
    }

    fn list(&self, request: GetExtentList) -> ExtentList {
        let extent = |&range| DcExtent { range, tag: Tag::NULL, sequence: 0 };
        let rest = self.accepted.iter().skip(request.start as usize);
        let extents = rest.take(request.count as usize).map(extent).collect();
        let total = u32::try_from(self.accepted.len()).unwrap();
        ExtentList { total, generation: 0, extents }
    }

    fn execute(&mut self, opcode: Opcode, payload: &[u8]) -> Result<Vec<u8>, ReturnCode> {
        fn read<T: Payload>(payload: &[u8]) -> T {
            T::decode(payload).expect("a message that makes sense")
        }
        match opcode {
            Opcode::GET_EVENT_RECORDS => {
                let _: GetEventRecords = read(payload);
                Ok(self.records().to_bytes())
            }
            Opcode::CLEAR_EVENT_RECORDS => self.clear(&read(payload)).map(|()| Vec::new()),
            Opcode::GET_DC_EXTENT_LIST => Ok(self.list(read(payload)).to_bytes()),
            Opcode::ADD_DC_RESPONSE => self.add_response(&read(payload)).map(|()| Vec::new()),
            Opcode::RELEASE_DC => self.release(&read(payload)).map(|()| Vec::new()),
            other => panic!("{other} is not expected"),
        }
    }
}

/// The device as one who serves it has it.
#[derive(Clone, Debug)]
pub struct Device {
    pub state: Rc<RefCell<State>>,
    pub killing: Rc<Killing>,
}

impl Commands for Device {
    fn execute(&mut self, opcode: Opcode, payload: &[u8]) -> Result<Vec<u8>, CommandError> {
        self.killing.step();
        let answer = self.state.borrow_mut().execute(opcode, payload);
        self.killing.step();
        answer.map_err(|code| CommandError::Refused { opcode, code })
    }

    /// Three extents, and three records.
    fn room(&self) -> usize {
        136
    }

    fn has_records(&mut self) -> Result<bool, CommandError> {
        Ok(!self.state.borrow().log.is_empty())
    }
}
