//! Which records of its log say nothing to a host that has read its list of extents after them.
//!
//! Records stay until they are cleared, and a host that was killed finds them again: of an offer
//! that was taken back by force since, and of the force. The same capacity may have been offered
//! anew, and accepted. An answer to the old offer would be taken for one to the new; and what the
//! list has would be given up for an old record. What the list says is younger than all of that. So a
//! host reads the log, then the list (4801h), and passes over what is named here.
//!
//! Force takes what is held, and ends an offer as a whole. So an offer of which anything was taken
//! later was answered, or is dead.
//!
//! What was given back or asked back is not named: a request to give back is answered again.

use alloc::{collections::BTreeSet, vec::Vec};

use crate::command::{
    More,
    events::{DynamicCapacityEvent, DynamicCapacityEventKind as Kind, EventBody, EventRecord},
};

/// The handles of these records, the oldest first, that are outdated once the list is read: all
/// that tell of force (Forced Capacity Release), and the chains of offers (Add Capacity) of which
/// something was taken by force later.
#[must_use]
pub fn outdated(records: &[EventRecord]) -> BTreeSet<u16> {
    let mut outdated = BTreeSet::new();
    let mut chain = Vec::new();
    for (at, record) in records.iter().enumerate() {
        let Some(event) = event_of(record) else { continue };
        match event.kind {
            Kind::ForcedRelease => {
                outdated.insert(record.handle);
                // Nothing comes between the records of a chain: its end was lost.
                chain.clear();
            }
            Kind::Add => {
                let later = records[at..].iter().filter_map(event_of);
                chain.push((record.handle, is_taken(event, later)));
                if event.more == More::Last {
                    let is_dead = chain.iter().any(|(_, is_taken)| *is_taken);
                    let handles = chain.drain(..).map(|(handle, _)| handle);
                    outdated.extend(handles.filter(|_| is_dead));
                }
            }
            _ => {}
        }
    }
    outdated
}

const fn event_of(record: &EventRecord) -> Option<&DynamicCapacityEvent> {
    match &record.body {
        EventBody::DynamicCapacity(event) => Some(event),
        _ => None,
    }
}

/// Whether one of the records that follow an offer takes something of it by force.
fn is_taken<'a>(
    offer: &DynamicCapacityEvent,
    mut later: impl Iterator<Item = &'a DynamicCapacityEvent>,
) -> bool {
    let range = offer.extent.range;
    later.any(|event| event.kind == Kind::ForcedRelease && event.extent.range.overlaps(range))
}

#[cfg(test)]
mod tests {
    use memtide_units::{DcExtent, DpaRange, Tag};

    use super::*;
    use crate::command::HostId;

    fn log(events: &[(Kind, u64, More)]) -> Vec<EventRecord> {
        let record = |(number, &(kind, start, more)): (usize, &(Kind, u64, More))| {
            let extent = DcExtent { range: DpaRange::new(start, 10), tag: Tag::NULL, sequence: 0 };
            let body = EventBody::DynamicCapacity(DynamicCapacityEvent {
                kind,
                host: HostId(0),
                region: 0,
                more,
                extent,
                extents_available: 9,
                tags_available: 9,
            });
            EventRecord { handle: number as u16 + 1, related: 0, timestamp: 0, body }
        };
        events.iter().enumerate().map(record).collect()
    }

    fn handles(events: &[(Kind, u64, More)]) -> Vec<u16> {
        outdated(&log(events)).into_iter().collect()
    }

    #[test]
    fn an_offer_is_outdated_by_what_took_it_and_the_next_is_not() {
        let (add, force) = ((Kind::Add, 0, More::Last), (Kind::ForcedRelease, 0, More::Last));
        assert_eq!(handles(&[add, force, add]), [1, 2]);
        assert_eq!(handles(&[force, add]), [1]);
        assert_eq!(handles(&[add, (Kind::ForcedRelease, 10, More::Last)]), [2]);
        assert_eq!(handles(&[add, (Kind::Release, 0, More::Last), add]), []);
    }

    #[test]
    fn a_chain_of_which_something_was_taken_waits_for_no_answer() {
        let (first, last) = ((Kind::Add, 0, More::Follows), (Kind::Add, 10, More::Last));
        let force = |start| (Kind::ForcedRelease, start, More::Last);
        assert_eq!(handles(&[first, last, force(20)]), [3]);
        assert_eq!(handles(&[first, last, force(10)]), [1, 2, 3]);
        assert_eq!(handles(&[first, last, force(5)]), [1, 2, 3]);
        assert_eq!(handles(&[first, last, force(10), force(0)]), [1, 2, 3, 4]);
        // It has not ended, or its end was lost.
        assert_eq!(handles(&[first, force(0)]), [2]);
        assert_eq!(handles(&[first, force(0), last]), [2]);
    }
}
