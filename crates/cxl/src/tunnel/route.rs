//! The way to a component through others: a tunnel in a tunnel (CXL 3.1, figures 7-20 to 7-24).
//!
//! ```text
//!   5300h to port 3 ─▶ switch ─ 5300h to LD 1 ─▶ device ─ command ─▶ logical device
//! ```
//!
//! Each one on the way has a return code of its own. [`Route::unwrap`] keeps them apart: what it
//! returns is the answer of who stands at the end, whatever its code; what somebody before it
//! refused to carry is a [`RouteError`] that says who.

use alloc::{vec, vec::Vec};
use core::fmt;

use super::{Target, Tunnel, Tunneled};
use crate::{
    DecodeError, Opcode, Payload, ReturnCode,
    cci::{HEADER_BYTES, Kind, Message, TooLong},
};

/// The most tunnels in each other: a switch, the logical device that the manager owns, a pool.
pub const HOPS_MAX: usize = 3;

/// What a tunnel adds to what it carries: four bytes of its own and the header of the message.
pub const HOP_BYTES: usize = 4 + HEADER_BYTES;

/// What each tunnel leads to, the outermost first. There is always one.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Route {
    hops: Vec<Target>,
}

/// Why nothing came back from the end of a route.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RouteError {
    /// Somebody on the way refused to carry it further.
    #[error("no way to {to}: the device before it answers {code}")]
    Refused {
        /// Where it should have gone on to.
        to: Target,
        /// How it was refused.
        code: ReturnCode,
    },
    /// What came back makes no sense.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// It is the answer to something else.
    #[error("an answer to {got} with tag {got_tag:#x}; expected one to {asked} with tag {tag:#x}")]
    OtherAnswer {
        /// To what.
        got: Opcode,
        /// Its tag.
        got_tag: u8,
        /// What was asked.
        asked: Opcode,
        /// Under which tag.
        tag: u8,
    },
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PortOrLd(number) => write!(f, "port or logical device {number}"),
            Self::LdPool => f.write_str("the pool of logical devices"),
        }
    }
}

impl Route {
    /// To what is at a port of a switch.
    #[must_use]
    pub fn port(port: u8) -> Self {
        Self { hops: vec![Target::PortOrLd(port)] }
    }

    /// And on from there.
    ///
    /// # Panics
    /// There are [`HOPS_MAX`] tunnels already.
    #[must_use]
    pub fn then(mut self, to: Target) -> Self {
        assert!(self.hops.len() < HOPS_MAX, "a route of {HOPS_MAX} tunnels is as long as any");
        self.hops.push(to);
        self
    }

    /// What each tunnel leads to, the outermost first.
    #[must_use]
    pub fn hops(&self) -> &[Target] {
        &self.hops
    }

    /// The longest payload that gets through where the outermost message can have so much.
    #[must_use]
    pub fn room(&self, outermost: usize) -> usize {
        let outermost = outermost.min(super::MESSAGE_BYTES_MAX);
        outermost.saturating_sub(self.hops.len() * HOP_BYTES)
    }

    /// The request for the first one on the way. Tunnels have the tag of what they carry.
    ///
    /// # Errors
    /// It is longer than a tunnel carries.
    ///
    /// # Panics
    /// It is a response.
    pub fn wrap(&self, request: &Message) -> Result<Tunnel, TooLong> {
        let (first, others) = self.hops.split_first().expect("a route has one tunnel at least");
        let mut message = request.clone();
        for &to in others.iter().rev() {
            message = Message::command(request.tag, &Tunnel::new(to, message)?);
        }
        Tunnel::new(*first, message)
    }

    /// The answer of who stands at the end, from the payload that the first one on the way
    /// returned with success.
    ///
    /// # Errors
    /// [`RouteError`].
    pub fn unwrap(&self, request: &Message, payload: &[u8]) -> Result<Message, RouteError> {
        let (tag, asked) = (request.tag, request.opcode);
        let mut message = Tunneled::decode(payload)?.into_message();
        for &to in &self.hops[1..] {
            let tunnel = Opcode::TUNNEL_MANAGEMENT_COMMAND;
            if (message.tag, message.opcode) != (tag, tunnel) {
                return Err(other(&message, tunnel, tag));
            }
            if let Kind::Response(outcome) = message.kind
                && outcome.code != ReturnCode::SUCCESS
            {
                return Err(RouteError::Refused { to, code: outcome.code });
            }
            message = Tunneled::decode(&message.payload)?.into_message();
        }
        if message.answers(request) { Ok(message) } else { Err(other(&message, asked, tag)) }
    }
}

const fn other(message: &Message, asked: Opcode, tag: u8) -> RouteError {
    RouteError::OtherAnswer { got: message.opcode, got_tag: message.tag, asked, tag }
}
