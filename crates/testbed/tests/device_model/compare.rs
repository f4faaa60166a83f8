//! What both devices answer, side by side: the same but for rows of the table.

use memtide_cxl::{
    Opcode, Payload,
    command::{
        More,
        dynamic_capacity::{Configuration, ExtentList, GetExtentList, Resources},
        events::{DynamicCapacityEvent, EventBody, EventRecord, EventRecords},
        identify::MemoryDevice,
    },
};
use memtide_units::{DcExtent, DpaRange, Tag};

use crate::{
    deviations::Deviation,
    pair::{FIRST, HOST, Pair, RECORDS},
};

impl Pair {
    /// Both answers to a command that both did.
    pub fn compare(&mut self, opcode: Opcode, request: &[u8], qemu: &[u8], ours: &[u8]) {
        match opcode {
            Opcode::GET_DC_CONFIGURATION => {
                self.configurations(decoded(opcode, qemu), decoded(opcode, ours));
            }
            Opcode::GET_DC_EXTENT_LIST => {
                let request = GetExtentList::decode(request).expect("it was taken");
                self.extent_lists(request, decoded(opcode, qemu), decoded(opcode, ours));
            }
            Opcode::GET_EVENT_RECORDS => {
                self.records(&decoded(opcode, qemu), &decoded(opcode, ours));
            }
            Opcode::IDENTIFY_MEMORY_DEVICE => {
                self.identities(decoded(opcode, qemu), decoded(opcode, ours));
            }
            _ => assert_eq!(qemu, ours, "{opcode}"),
        }
    }

    /// They are of two makers: only what they say of dynamic capacity is the same.
    fn identities(&mut self, qemu: MemoryDevice, ours: MemoryDevice) {
        let log = |device: MemoryDevice| device.dynamic_capacity_log_records;
        assert_eq!((log(qemu), log(ours)), (Some(RECORDS), Some(RECORDS)));
        assert_eq!((qemu.total_capacity, qemu.volatile_capacity), (FIRST, FIRST));
        assert_eq!((ours.total_capacity, ours.volatile_capacity), (0, 0));
        self.see(Deviation::StaticMemory);
    }

    fn configurations(&mut self, mut qemu: Configuration, ours: Configuration) {
        let Resources { tags_supported, tags_available, .. } = qemu.resources;
        if (tags_supported, tags_available) == (0, 0) {
            self.see(Deviation::NoTags);
            qemu.resources.tags_supported = ours.resources.tags_supported;
            qemu.resources.tags_available = ours.resources.tags_available;
        }
        let available = &mut qemu.resources.extents_available;
        *available = self.extents_available(*available, ours.resources.extents_available);
        assert_eq!(qemu, ours, "configuration: QEMU's, the model's");
    }

    /// QEMU's number, without what is offered where QEMU does not count that.
    fn extents_available(&mut self, qemu: u32, ours: u32) -> u32 {
        if self.offered() == 0 || qemu != ours + self.offered() {
            return qemu;
        }
        self.see(Deviation::OffersNotCounted);
        ours
    }

    /// Extents that are offered.
    fn offered(&self) -> u32 {
        self.model.offers(HOST).map(|offer| offer.len() as u32).sum()
    }

    /// A page. What is on a page of several depends on the order; how much is, does not.
    fn extent_lists(&mut self, request: GetExtentList, mut qemu: ExtentList, ours: ExtentList) {
        let zero = DcExtent { range: DpaRange::new(0, 0), tag: Tag::NULL, sequence: 0 };
        let told = ours.extents.len().min(qemu.extents.len());
        let filled = qemu.extents.split_off(told);
        if !filled.is_empty() {
            let all = request.count.min(ours.total - request.start + self.offered());
            assert!(filled.iter().all(|&extent| extent == zero), "{filled:?}");
            assert_eq!(told + filled.len(), all as usize, "pending ones are counted");
            self.see(Deviation::PendingCounted);
        }
        assert_eq!((qemu.total, told), (ours.total, ours.extents.len()), "{qemu:?} {ours:?}");
        if qemu.generation != ours.generation {
            assert_eq!(qemu.generation, 0);
            self.see(Deviation::Generation);
        }
        if told != ours.total as usize {
            return;
        }
        let in_order = |list: &[DcExtent]| list.windows(2).all(|two| two[0].range < two[1].range);
        assert!(in_order(&ours.extents), "{ours:?}");
        if !in_order(&qemu.extents) {
            self.see(Deviation::ReleaseReorders);
        }
        qemu.extents.sort();
        for (theirs, extent) in qemu.extents.iter().zip(&ours.extents) {
            self.extents(*theirs, *extent);
        }
    }

    fn extents(&mut self, qemu: DcExtent, ours: DcExtent) {
        let told = if qemu.tag.is_null() && !ours.tag.is_null() {
            self.see(Deviation::TagLost);
            DcExtent { tag: ours.tag, ..qemu }
        } else {
            qemu
        };
        assert_eq!(told, ours, "an extent: QEMU's, the model's");
    }

    fn records(&mut self, qemu: &EventRecords, ours: &EventRecords) {
        assert_eq!((qemu.overflow, ours.overflow), (None, None), "overflow");
        assert_eq!(ours.more, More::Last, "all fit");
        let more = if qemu.records.is_empty() { More::Last } else { More::Follows };
        assert_eq!(qemu.more, more, "QEMU sets it whenever there is one");
        if more == More::Follows {
            self.see(Deviation::MoreRecords);
        }
        assert_eq!(qemu.records.len(), ours.records.len(), "{qemu:#?} {ours:#?}");
        for (theirs, record) in qemu.records.iter().zip(&ours.records) {
            assert_eq!((theirs.related, theirs.timestamp), (record.related, record.timestamp));
            self.events(event(theirs), event(record));
        }
    }

    fn events(&mut self, qemu: DynamicCapacityEvent, ours: DynamicCapacityEvent) {
        self.extents(qemu.extent, ours.extent);
        let mut expected = DynamicCapacityEvent { extent: qemu.extent, ..ours };
        if (qemu.extents_available, qemu.tags_available) == (0, 0) {
            self.see(Deviation::EventsTellNothing);
            expected.extents_available = 0;
            expected.tags_available = 0;
        } else if qemu.tags_available == 0 {
            self.see(Deviation::NoTags);
            expected.tags_available = 0;
        }
        assert_eq!(qemu, expected, "an event: QEMU's, the model's");
    }
}

/// The event of a record.
pub fn event(record: &EventRecord) -> DynamicCapacityEvent {
    match record.body {
        EventBody::DynamicCapacity(event) => event,
        EventBody::Other(uuid) => panic!("a record of {uuid:02x?}"),
    }
}

/// An answer as what it is.
pub fn decoded<T: Payload>(opcode: Opcode, answer: &[u8]) -> T {
    T::decode(answer).unwrap_or_else(|error| panic!("{opcode} answered {answer:02x?}: {error}"))
}
