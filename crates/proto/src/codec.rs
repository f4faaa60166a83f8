//! Packets: their limits and their errors.

use serde::{Serialize, de::DeserializeOwned};

/// Largest packet that either side sends or accepts.
pub const MAX_PACKET_BYTES: usize = 32 << 10;
/// Most extents, blocks, pairs or outcomes that one message carries; longer lists are sent in
/// several messages. Keeps every message under [`MAX_PACKET_BYTES`].
pub const MAX_LIST: usize = 1000;
/// Most file descriptors beside one packet.
pub const MAX_FDS: usize = 64;
/// Most tokens of children that one claim carries, each with a file descriptor.
pub const MAX_CHILDREN: usize = 32;

/// A packet that is none.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CodecError {
    /// More than [`MAX_PACKET_BYTES`].
    #[error("packet of {bytes} bytes; at most {MAX_PACKET_BYTES} are allowed")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// Bytes that do not decode, or that go on after the message.
    #[error("packet of {bytes} bytes is not a message of this protocol")]
    Malformed {
        /// Its size.
        bytes: usize,
        /// What the decoder said.
        source: postcard::Error,
    },
}

/// Encodes one message.
///
/// # Errors
/// [`CodecError::TooLarge`] when the caller put more than [`MAX_LIST`] entries into it.
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, CodecError> {
    let packet = postcard::to_stdvec(message)
        .map_err(|source| CodecError::Malformed { bytes: 0, source })?;
    if packet.len() > MAX_PACKET_BYTES {
        return Err(CodecError::TooLarge { bytes: packet.len() });
    }
    Ok(packet)
}

/// Decodes one message; bytes after it are an error.
///
/// # Errors
/// [`CodecError`] for whatever is not exactly one message.
pub fn decode<T: DeserializeOwned>(packet: &[u8]) -> Result<T, CodecError> {
    let bytes = packet.len();
    if bytes > MAX_PACKET_BYTES {
        return Err(CodecError::TooLarge { bytes });
    }
    match postcard::take_from_bytes(packet) {
        Ok((message, [])) => Ok(message),
        Ok((_, _)) => {
            Err(CodecError::Malformed { bytes, source: postcard::Error::DeserializeBadEncoding })
        }
        Err(source) => Err(CodecError::Malformed { bytes, source }),
    }
}
