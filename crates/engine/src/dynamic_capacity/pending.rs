//! Add records, until their chain ends.
//!
//! ```text
//!           more follows          more follows, and there are too many
//!  Closed ───────────────▶ Open ──────────────────────────▶ Overfull ─┐ more follows:
//!     ▲                    │  ▲ │ more follows                   │  ▲  │ refused
//!     │                    │  └─┘                                │  └──┘
//!     │ the last: weigh    │ the last: weigh                     │ the last, or
//!     └────────────────────┤ too late: answer nothing            │ too late: answer nothing
//!                          └──────▶ Closed ◀─────────────────────┘
//! ```
//!
//! The device decides when a chain ends, so it must not decide how much a host remembers
//! (`CXL_DC_MAX_PENDING_EXTENTS`) or for how long (`CXL_DC_ADD_TIMEOUT`, from the last record; an
//! overfull chain has until the time that it had then, or records could put it off for ever).

use alloc::{collections::BTreeSet, vec::Vec};

use memtide_units::Instant;

use super::{
    config::Limits,
    extent::{DcExtent, DeviceId, Tag},
    host::Host,
    input::More,
    refused::Refused,
};

/// The chain of a device (`struct pending_add_ctx`).
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Chain {
    /// There is none.
    Closed,
    /// Records are awaited.
    Open {
        /// What came.
        pending: Vec<DcExtent>,
        /// When it is too late.
        until: Instant,
    },
    /// Too many came. Its end is awaited, to answer it.
    Overfull {
        /// The tags of what came before.
        tags: BTreeSet<Tag>,
        /// When it is too late.
        until: Instant,
    },
}

/// What happens to a chain.
pub(super) enum Event {
    Record(DcExtent, More),
    TooLate,
}

/// What follows.
pub(super) enum Step {
    /// Nothing.
    Wait,
    /// All of it is weighed, and answered.
    Weigh(Vec<DcExtent>),
    /// This is refused; no answer yet.
    Refuse(Vec<DcExtent>, Refused),
    /// This is refused, and nothing accepted: that is the answer.
    AnswerNothing {
        refused: Vec<DcExtent>,
        why: Refused,
        /// Tags whose rest may be on its way; absent: the chain has come to its end.
        torn: Option<BTreeSet<Tag>>,
    },
}

impl Chain {
    pub(super) const fn until(&self) -> Option<Instant> {
        match self {
            Self::Closed => None,
            Self::Open { until, .. } | Self::Overfull { until, .. } => Some(*until),
        }
    }

    /// Every transition.
    pub(super) fn step(&mut self, event: Event, now: Instant, limits: &Limits) -> Step {
        let pending_max = limits.pending_max;
        let until = limits.chain_ends(now);
        let too_many = Refused::TooManyPending { pending_max };
        match (core::mem::replace(self, Self::Closed), event) {
            (Self::Closed, Event::Record(extent, More::Last)) => Step::Weigh(alloc::vec![extent]),
            (Self::Closed, Event::Record(extent, More::Follows)) => {
                *self = Self::Open { pending: alloc::vec![extent], until };
                Step::Wait
            }
            (Self::Open { mut pending, until: was }, Event::Record(extent, more)) => {
                pending.push(extent);
                match more {
                    _ if pending.len() > pending_max => {
                        if more == More::Last {
                            let (refused, why, torn) = (pending, too_many, None);
                            return Step::AnswerNothing { refused, why, torn };
                        }
                        *self = Self::Overfull { tags: tags(&pending), until: was };
                        Step::Refuse(pending, too_many)
                    }
                    More::Last => Step::Weigh(pending),
                    More::Follows => {
                        *self = Self::Open { pending, until };
                        Step::Wait
                    }
                }
            }
            (Self::Open { pending, .. }, Event::TooLate) => {
                let torn = Some(tags(&pending));
                Step::AnswerNothing { refused: pending, why: Refused::TimedOut, torn }
            }
            (overfull @ Self::Overfull { .. }, Event::Record(extent, More::Follows)) => {
                *self = overfull;
                Step::Refuse(alloc::vec![extent], too_many)
            }
            (Self::Overfull { .. }, Event::Record(extent, More::Last)) => {
                Step::AnswerNothing { refused: alloc::vec![extent], why: too_many, torn: None }
            }
            (Self::Overfull { tags, .. }, Event::TooLate) => {
                let (refused, why) = (Vec::new(), Refused::TimedOut);
                Step::AnswerNothing { refused, why, torn: Some(tags) }
            }
            (Self::Closed, Event::TooLate) => Step::Wait,
        }
    }
}

fn tags(extents: &[DcExtent]) -> BTreeSet<Tag> {
    extents.iter().map(|extent| extent.tag).filter(|tag| !tag.is_null()).collect()
}

impl Host {
    /// An Add record (`handle_add_event()`).
    pub(super) fn add(&mut self, device: DeviceId, extent: DcExtent, more: More) {
        self.device_mut(device).totals.offered += u128::from(extent.range.length);
        self.step_chain(device, Event::Record(extent, more));
    }

    pub(super) fn step_chain(&mut self, device: DeviceId, event: Event) {
        let (now, limits) = (self.now, self.limits);
        match self.device_mut(device).chain.step(event, now, &limits) {
            Step::Wait => {}
            Step::Weigh(pending) => self.add_pending(device, pending),
            Step::Refuse(extents, why) => self.refuse(device, &extents, why),
            Step::AnswerNothing { refused, why, torn } => {
                self.refuse(device, &refused, why);
                if let Some(torn) = torn {
                    self.device_mut(device).torn = torn;
                }
                self.answer(device, Vec::new(), Vec::new());
            }
        }
    }
}
