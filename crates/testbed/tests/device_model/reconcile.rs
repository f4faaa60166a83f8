//! After a row that changes what the devices have: both have the same again.

use memtide_cxl::{
    Opcode, Payload, ReturnCode,
    command::{
        More,
        dynamic_capacity::{AddResponse, Release},
    },
};
use memtide_testbed::Error;
use memtide_units::DpaRange;

use crate::{deviations::Deviation, pair::Pair};

/// QEMU took a part of the oldest offer: it gives that back, and the model refuses the offer.
pub fn end_part(pair: &mut Pair, taken: &[DpaRange]) -> Result<(), Error> {
    let release = Release { more: More::Last, released: taken.to_vec() };
    let (code, _) = pair.qemu.command(Opcode::RELEASE_DC, &release.to_bytes())?;
    assert_eq!(code, ReturnCode::SUCCESS);
    let reply = pair.ours(Opcode::ADD_DC_RESPONSE, &[0; 8]);
    assert_eq!(reply.code, ReturnCode::SUCCESS);
    pair.same()
}

/// QEMU has an offer that the model did not make: it is refused.
pub fn refuse_alone(pair: &mut Pair) -> Result<(), Error> {
    let (code, _) = pair.qemu.command(Opcode::ADD_DC_RESPONSE, &[0; 8])?;
    assert_eq!(code, ReturnCode::SUCCESS);
    pair.same()
}

/// An answer in two parts: the model takes both. QEMU took the first, and nobody has the second.
pub fn chained_answer(
    pair: &mut Pair,
    first: &[DpaRange],
    second: &[DpaRange],
) -> Result<(), Error> {
    assert_eq!(pair.answer_part(More::Follows, first)?, None);
    let (theirs, ours) = pair.extents_of_both()?;
    assert_eq!(theirs.len(), ours.len() + first.len());
    pair.see(Deviation::AnswerMoreIgnored);
    let answer = AddResponse { more: More::Last, accepted: second.to_vec() };
    let reply = pair.ours(Opcode::ADD_DC_RESPONSE, &answer.to_bytes());
    assert_eq!(reply.code, ReturnCode::SUCCESS, "{reply:?}");
    let release = Release { more: More::Last, released: second.to_vec() };
    let reply = pair.ours(Opcode::RELEASE_DC, &release.to_bytes());
    assert_eq!(reply.code, ReturnCode::SUCCESS, "{reply:?}");
    pair.same()
}

/// A release in two parts: QEMU does each at once, the model both at the end.
pub fn chained_release(
    pair: &mut Pair,
    first: &[DpaRange],
    second: &[DpaRange],
) -> Result<(), Error> {
    let (_, before) = pair.extents_of_both()?;
    assert_eq!(pair.host(&Release { more: More::Follows, released: first.to_vec() })?, None);
    let (theirs, ours) = pair.extents_of_both()?;
    assert_eq!(ours, before, "the model waits");
    assert_ne!(theirs, before, "QEMU does not");
    assert_eq!(pair.release(second)?, None);
    pair.see(Deviation::ReleaseMoreIgnored);
    pair.same()
}
