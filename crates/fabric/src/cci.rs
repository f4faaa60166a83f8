//! Requests and their answers, as whole CCI messages (CXL 3.1, 7.6.3, figure 7-19).

use memtide_cxl::{Opcode, ReturnCode};

use crate::frame::FrameError;

const HEADER_BYTES: usize = 12;
const MAX_PAYLOAD_BYTES: usize = 1 << 20;
const RESPONSE: u8 = 1;

/// The message of a request.
pub fn request(tag: u8, opcode: Opcode, payload: &[u8]) -> Result<Vec<u8>, FrameError> {
    let (bytes, limit) = (payload.len(), MAX_PAYLOAD_BYTES);
    let length = u32::try_from(bytes).ok().filter(|_| bytes <= limit);
    let length = length.ok_or(FrameError::TooLong { bytes, limit })?;
    let mut message = vec![0, tag, 0];
    message.extend_from_slice(&opcode.0.to_le_bytes());
    message.extend_from_slice(&length.to_le_bytes()[..3]);
    message.resize(HEADER_BYTES, 0);
    message.extend_from_slice(payload);
    Ok(message)
}

/// What answers the request of this tag and opcode, or nothing if this does not.
pub fn response(message: &[u8], tag: u8, opcode: Opcode) -> Option<(ReturnCode, &[u8])> {
    let (header, payload) = message.split_first_chunk::<HEADER_BYTES>()?;
    let length = usize::try_from(u32::from_le_bytes([header[5], header[6], header[7], 0])).ok()?;
    let fits = header[0] & 0xf == RESPONSE
        && header[1] == tag
        && u16::from_le_bytes([header[3], header[4]]) == opcode.0
        && length & 0x1f_ffff == payload.len();
    fits.then(|| (ReturnCode(u16::from_le_bytes([header[8], header[9]])), payload))
}
