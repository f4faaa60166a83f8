//! What comes of it, and what should.

use memtide_cxl::{
    Opcode, Payload, ReturnCode,
    command::{
        HostId,
        dynamic_capacity::{AddResponse, GetConfiguration, GetExtentList, Release},
        events::{Clear, ClearEventRecords, EventLog, GetEventRecords},
        fabric_manager::{
            AddReference, GetHostConfiguration, GetHostExtents, InitiateAdd, ListTags,
            RemoveReference, Selection,
        },
    },
    device::Refusal,
};

use super::{History, tags};
use crate::naive::{BLOCKS, Naive};

impl History {
    pub(super) fn manager_says(&mut self, (opcode, bytes): (Opcode, Vec<u8>)) {
        let expected = self.expect_manager(opcode, &bytes);
        let before = self.bed.device.clone();
        let reply = self.bed.device.manager(opcode, &bytes);
        let said = (opcode, reply.refusal);
        assert_eq!(reply.code, expected.err().unwrap_or(ReturnCode::SUCCESS), "{said:?}");
        if reply.code != ReturnCode::SUCCESS {
            assert_eq!(self.bed.device, before, "a refused command changed something");
        } else if opcode == Opcode::INITIATE_DC_ADD {
            self.note_offer(InitiateAdd::decode(&bytes).unwrap(), expected.unwrap());
        }
        *self.outcomes.entry(reply.code.0).or_default() += 1;
    }

    /// What is offered, if the device chose that: it is as much as was asked for.
    pub(super) fn note_offer(&mut self, request: InitiateAdd, extents: usize) {
        let offered = self.bed.device.offers(request.host).last().unwrap().to_vec();
        assert_eq!(offered.len(), extents);
        match request.selection {
            Selection::Prescriptive => assert_eq!(offered, request.extents),
            Selection::EnableSharedAccess => {
                assert!(offered.iter().all(|extent| extent.tag == request.tag));
            }
            Selection::Free | Selection::Contiguous => {
                let length: u64 = offered.iter().map(|extent| extent.range.length).sum();
                assert_eq!(length, request.length);
                let region = usize::from(request.region);
                for extent in &offered {
                    let blocks = self.naive.of(extent.range, 0xf).unwrap();
                    assert!(blocks.iter().all(|block| block / BLOCKS == region));
                }
            }
        }
        self.naive.offered(usize::from(request.host.0), &offered);
    }

    pub(super) fn expect_manager(
        &mut self,
        opcode: Opcode,
        bytes: &[u8],
    ) -> Result<usize, ReturnCode> {
        if bytes.len() > self.naive.config.limits.payload_bytes as usize {
            return Err(ReturnCode::INVALID_PAYLOAD_LENGTH);
        }
        let naive = &mut self.naive;
        let hosts = naive.hosts();
        let is_host = |host: HostId| usize::from(host.0) < hosts;
        let wrong = |is_right: bool| if is_right { Ok(()) } else { Err(ReturnCode(2)) };
        match opcode {
            Opcode::INITIATE_DC_ADD => return naive.may_add(&read(bytes)?),
            Opcode::INITIATE_DC_RELEASE => naive.take_back(&read(bytes)?)?,
            Opcode::DC_ADD_REFERENCE => naive.reference(read::<AddReference>(bytes)?.0, true)?,
            Opcode::DC_REMOVE_REFERENCE => {
                naive.reference(read::<RemoveReference>(bytes)?.0, false)?;
            }
            Opcode::SET_DC_REGION_CONFIGURATION => naive.configure(&read(bytes)?)?,
            Opcode::CLEAR_EVENT_RECORDS => clear(naive, hosts, &read(bytes)?)?,
            Opcode::GET_EVENT_RECORDS => drop(read::<GetEventRecords>(bytes)?),
            Opcode::IDENTIFY => drop(read::<()>(bytes)?),
            Opcode::GET_DCD_INFO => drop(read::<()>(bytes)?),
            Opcode::GET_HOST_DC_REGION_CONFIGURATION => {
                let request: GetHostConfiguration = read(bytes)?;
                wrong(is_host(request.host) && request.start < 2)?;
            }
            Opcode::GET_DC_REGION_EXTENT_LISTS => {
                let request: GetHostExtents = read(bytes)?;
                wrong(is_host(request.host))?;
                let held = naive.held(usize::from(request.host.0)).len();
                wrong(request.start as usize <= held)?;
            }
            Opcode::DC_LIST_TAGS => {
                let request: ListTags = read(bytes)?;
                wrong(request.start as usize <= tags(naive).len())?;
            }
            _ => return Err(ReturnCode::UNSUPPORTED),
        }
        Ok(0)
    }

    pub(super) fn host_says(&mut self, host: HostId, (opcode, bytes): (Opcode, Vec<u8>)) {
        let expected = self.expect_host(host, opcode, &bytes);
        let before = self.bed.device.clone();
        let reply = self.bed.device.host(host, opcode, &bytes);
        let said = (host, opcode, reply.refusal);
        assert_eq!(reply.code, expected.err().unwrap_or(ReturnCode::SUCCESS), "{said:?}");
        let is_chain = [Opcode::ADD_DC_RESPONSE, Opcode::RELEASE_DC].contains(&opcode);
        if reply.refusal.is_some() && !is_chain {
            assert_eq!(self.bed.device, before, "a refused command changed something");
        }
        if reply.refusal == Some(Refusal::Dead) {
            *self.outcomes.entry(u16::MAX).or_default() += 1;
        }
        *self.outcomes.entry(reply.code.0).or_default() += 1;
    }

    pub(super) fn expect_host(
        &mut self,
        host: HostId,
        opcode: Opcode,
        bytes: &[u8],
    ) -> Result<(), ReturnCode> {
        let number = usize::from(host.0);
        let naive = &mut self.naive;
        let is_chain = [Opcode::ADD_DC_RESPONSE, Opcode::RELEASE_DC].contains(&opcode);
        let is_answer = opcode == Opcode::ADD_DC_RESPONSE;
        if bytes.len() > naive.config.limits.payload_bytes as usize {
            if is_chain {
                naive.unreadable(number, is_answer);
            }
            return Err(ReturnCode::INVALID_PAYLOAD_LENGTH);
        }
        let is_host = number < naive.hosts();
        let wrong = |is_right: bool| if is_right { Ok(()) } else { Err(ReturnCode(2)) };
        match opcode {
            Opcode::ADD_DC_RESPONSE | Opcode::RELEASE_DC => {
                let done = if is_answer {
                    read::<AddResponse>(bytes)
                        .map(|request| wrong(is_host).and_then(|()| naive.answer(number, &request)))
                } else {
                    read::<Release>(bytes).map(|request| {
                        wrong(is_host).and_then(|()| naive.release(number, &request))
                    })
                };
                done.unwrap_or_else(|code| {
                    naive.unreadable(number, is_answer);
                    Err(code)
                })
            }
            Opcode::CLEAR_EVENT_RECORDS => {
                let request = read(bytes)?;
                wrong(is_host)?;
                clear(naive, number, &request)
            }
            Opcode::IDENTIFY | Opcode::IDENTIFY_MEMORY_DEVICE => read::<()>(bytes),
            Opcode::GET_EVENT_RECORDS => read::<GetEventRecords>(bytes).and(wrong(is_host)),
            Opcode::GET_DC_CONFIGURATION => {
                let request: GetConfiguration = read(bytes)?;
                wrong(is_host && request.start < 2)
            }
            Opcode::GET_DC_EXTENT_LIST => {
                let request: GetExtentList = read(bytes)?;
                wrong(is_host)?;
                wrong(request.start as usize <= naive.held(number).len())
            }
            _ => Err(ReturnCode::UNSUPPORTED),
        }
    }
}

fn read<P: Payload>(bytes: &[u8]) -> Result<P, ReturnCode> {
    P::decode(bytes).map_err(|why| why.code())
}

fn clear(naive: &mut Naive, who: usize, request: &ClearEventRecords) -> Result<(), ReturnCode> {
    match (request.log, &request.what) {
        (EventLog::DynamicCapacity, what) => naive.clear(who, what),
        (_, Clear::All) => Err(ReturnCode::INVALID_INPUT),
        (_, Clear::Handles(_)) => Err(ReturnCode::INVALID_HANDLE),
    }
}
