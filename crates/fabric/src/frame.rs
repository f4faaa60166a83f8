//! A message as bytes of a stream: its length, then postcard's encoding.
//!
//! The length is looked at before anything is kept for it: who announces more than the limit is no
//! longer read from. A message must fill its frame; what is left over makes it none.

use serde::{Serialize, de::DeserializeOwned};

/// Bytes of the length.
pub const HEADER_BYTES: usize = 4;

/// Why bytes are no frame, or a frame no message.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// Longer than agreed.
    #[error("a frame of {bytes} bytes; expected at most {limit}")]
    TooLong {
        /// How long it is said to be.
        bytes: usize,
        /// How long it may be.
        limit: usize,
    },
    /// Not what was expected.
    #[error("a frame of {bytes} bytes that is no message")]
    NoMessage {
        /// How long it is.
        bytes: usize,
    },
    /// A descriptor where none belongs.
    #[error("more descriptors than one")]
    TooManyDescriptors,
}

/// The frame of a message.
///
/// # Errors
/// [`FrameError::TooLong`] past [`MAX_FRAME_BYTES`](crate::wire::MAX_FRAME_BYTES).
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, FrameError> {
    let body = postcard::to_allocvec(message).map_err(|_| FrameError::NoMessage { bytes: 0 })?;
    let (bytes, limit) = (body.len(), crate::wire::MAX_FRAME_BYTES);
    let length = u32::try_from(bytes).ok().filter(|_| bytes <= limit);
    let length = length.ok_or(FrameError::TooLong { bytes, limit })?;
    let mut frame = Vec::with_capacity(HEADER_BYTES + bytes);
    frame.extend_from_slice(&length.to_le_bytes());
    frame.extend_from_slice(&body);
    Ok(frame)
}

/// The message in a frame's body.
///
/// # Errors
/// [`FrameError::NoMessage`].
pub fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, FrameError> {
    match postcard::take_from_bytes(body) {
        Ok((message, [])) => Ok(message),
        _ => Err(FrameError::NoMessage { bytes: body.len() }),
    }
}

/// Bytes of a stream on their way to frames.
#[derive(Debug)]
pub struct Frames {
    bytes: Vec<u8>,
    /// Where the next frame starts.
    at: usize,
    limit: usize,
}

impl Frames {
    /// With frames of at most `limit` bytes.
    #[must_use]
    pub const fn new(limit: usize) -> Self {
        Self { bytes: Vec::new(), at: 0, limit }
    }

    /// From now on, frames may be this long.
    pub const fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// Takes what has come.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.at);
        self.at = 0;
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole frame's body.
    ///
    /// # Errors
    /// [`FrameError::TooLong`]; the stream cannot be read on then.
    pub fn next_frame(&mut self) -> Result<Option<Vec<u8>>, FrameError> {
        let rest = &self.bytes[self.at..];
        let Some((header, rest)) = rest.split_first_chunk::<HEADER_BYTES>() else {
            return Ok(None);
        };
        let bytes = usize::try_from(u32::from_le_bytes(*header)).unwrap_or(usize::MAX);
        if bytes > self.limit {
            return Err(FrameError::TooLong { bytes, limit: self.limit });
        }
        let Some(body) = rest.get(..bytes) else { return Ok(None) };
        let body = body.to_vec();
        self.at += HEADER_BYTES + bytes;
        Ok(Some(body))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::{Hello, MAX_FRAME_BYTES, Role, ToFabric, VERSION};

    proptest! {
        #[test]
        fn frames_survive_any_cutting(
            bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..8),
            cuts in prop::collection::vec(1usize..200, 1..20),
        ) {
            let mut stream = Vec::new();
            for body in &bodies {
                stream.extend_from_slice(&encode(&ToFabric::Command(body.clone())).unwrap());
            }
            let (mut frames, mut got) = (Frames::new(MAX_FRAME_BYTES), Vec::new());
            let (mut rest, mut cut) = (&stream[..], cuts.iter().cycle());
            while !rest.is_empty() {
                let (now, later) = rest.split_at((*cut.next().unwrap()).min(rest.len()));
                frames.push(now);
                rest = later;
                while let Some(body) = frames.next_frame().unwrap() {
                    got.push(decode::<ToFabric>(&body).unwrap());
                }
            }
            let expected: Vec<_> = bodies.into_iter().map(ToFabric::Command).collect();
            prop_assert_eq!(got, expected);
        }

        #[test]
        fn garbage_is_refused_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            let _ = decode::<ToFabric>(&bytes);
            let _ = decode::<crate::wire::FromFabric>(&bytes);
            let _ = decode::<crate::wire::ToManager>(&bytes);
            let _ = decode::<crate::wire::FromManager>(&bytes);
            let mut frames = Frames::new(100);
            frames.push(&bytes);
            while let Ok(Some(body)) = frames.next_frame() {
                prop_assert!(body.len() <= 100);
            }
        }
    }

    #[test]
    fn a_long_frame_is_refused_by_its_length_alone() {
        let mut frames = Frames::new(64);
        frames.push(&65u32.to_le_bytes());
        assert_eq!(frames.next_frame(), Err(FrameError::TooLong { bytes: 65, limit: 64 }));
        frames.set_limit(65);
        assert_eq!(frames.next_frame(), Ok(None));
        let error = encode(&ToFabric::Command(vec![0; MAX_FRAME_BYTES])).unwrap_err();
        assert!(matches!(error, FrameError::TooLong { .. }), "{error}");
    }

    #[test]
    fn a_message_fills_its_frame() {
        let hello = ToFabric::Hello(Hello { version: VERSION, role: Role::Host(1) });
        let mut body = encode(&hello).unwrap().split_off(HEADER_BYTES);
        assert_eq!(decode::<ToFabric>(&body), Ok(hello));
        body.push(0);
        assert_eq!(decode::<ToFabric>(&body), Err(FrameError::NoMessage { bytes: body.len() }));
    }
}
