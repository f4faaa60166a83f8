//! A point of time that somebody else measured.

use core::time::Duration;

/// Time since an origin that the world around the engine chose; only differences mean anything.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Instant(pub Duration);

impl Instant {
    /// The instant `by` later; saturates.
    #[must_use]
    pub const fn after(self, by: Duration) -> Self {
        Self(self.0.saturating_add(by))
    }
}
