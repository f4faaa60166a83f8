//! How much is free in a zone, and when that is little.
//!
//! Each core counts what it takes and releases in its own record and folds that into the zone's
//! count once it has grown to [`FOLD`] frames; so the zone's count is off by that much for each
//! core at most, and an exact sum is made only when that could matter (as the kernel's
//! `zone_watermark_ok_safe`).
//!
//! Nobody is called back. [`Frames::pressure`] says how a zone stands, and a core that notices a
//! change while it refills keeps it for [`crate::Core::crossing`].

use crate::{
    frames::{Frames, header},
    layout::RECORD,
    primitive::{AtomicU64, Ordering::*},
    record,
    request::Urgency,
    zone::Zone,
};

/// Frames that a core may take or release before the zone's count knows.
pub(crate) const FOLD: i64 = 1 << 15;

/// The watermarks of a zone, in frames. All zero, as at first: never any pressure.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Watermarks {
    /// Below it only emergencies are served.
    pub min: u64,
    /// Below it something should be freed or moved out.
    pub low: u64,
    /// Above it there is no more need to.
    pub high: u64,
}

/// How a zone stands.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Pressure {
    /// At or above `high`.
    None,
    /// Below `high`.
    BelowHigh,
    /// Below `low`.
    BelowLow,
    /// Below `min`.
    BelowMin,
}

/// A zone that stands otherwise than when it was last looked at.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Crossing {
    /// The zone.
    pub zone: Zone,
    /// How it stands now.
    pub pressure: Pressure,
}

/// Why watermarks were refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("watermarks min {min}, low {low}, high {high}; expected them in ascending order")]
pub struct WatermarkError {
    /// As given.
    pub min: u64,
    /// As given.
    pub low: u64,
    /// As given.
    pub high: u64,
}

impl Frames<'_> {
    /// Sets the watermarks of a zone.
    ///
    /// # Errors
    /// When they are not in ascending order.
    pub fn set_watermarks(&self, zone: Zone, marks: Watermarks) -> Result<(), WatermarkError> {
        let Watermarks { min, low, high } = marks;
        if min > low || low > high {
            return Err(WatermarkError { min, low, high });
        }
        for (n, mark) in [min, low, high].into_iter().enumerate() {
            self.zone_word(zone.id(), header::WATERMARKS + n).store(mark, Release);
        }
        let (populated, watched) = (&self.header[header::POPULATED], header::WATCHED);
        let bit = 1 << (watched + zone.id() as u32);
        if high == 0 {
            populated.fetch_and(!bit, AcqRel);
        } else {
            populated.fetch_or(bit, AcqRel);
        }
        Ok(())
    }

    /// The watermarks of a zone.
    #[must_use]
    pub fn watermarks(&self, zone: Zone) -> Watermarks {
        let mark = |n| self.zone_word(zone.id(), header::WATERMARKS + n).load(Acquire);
        Watermarks { min: mark(0), low: mark(1), high: mark(2) }
    }

    /// How a zone stands.
    #[must_use]
    pub fn pressure(&self, zone: Zone) -> Pressure {
        let Watermarks { min, low, high } = self.watermarks(zone);
        if high == 0 {
            return Pressure::None;
        }
        let free = self.free_at_least(zone.id(), high);
        match free {
            free if free < min => Pressure::BelowMin,
            free if free < low => Pressure::BelowLow,
            free if free < high => Pressure::BelowHigh,
            _ => Pressure::None,
        }
    }

    /// Whether a request of so many frames leaves a zone its reserve.
    #[cold]
    pub(crate) fn leaves_reserve(&self, zone: u64, frames: u64, urgency: Urgency) -> bool {
        let min = self.zone_word(zone, header::WATERMARKS).load(Relaxed);
        let enough = min.saturating_add(frames);
        min == 0 || urgency == Urgency::Emergency || self.free_at_least(zone, enough) >= enough
    }

    /// Frames of a zone that are not taken: exact if that is less than `enough`.
    fn free_at_least(&self, zone: u64, enough: u64) -> u64 {
        let about = self.zone_word(zone, header::FREE).load(Relaxed) as i64;
        let error = i64::from(self.layout.geometry.cores) * FOLD;
        if about - error >= i64::try_from(enough).unwrap_or(i64::MAX) {
            return enough;
        }
        self.free_frames(zone)
    }

    /// Frames of a zone that are not taken: exact while nobody changes them.
    pub(crate) fn free_frames(&self, zone: u64) -> u64 {
        let mut sum = self.zone_word(zone, header::FREE).load(Acquire) as i64;
        for core in 0..self.layout.geometry.cores {
            sum += self.record(core)[record::FREED + zone as usize].load(Acquire) as i64;
        }
        sum.max(0) as u64
    }

    /// Counts frames of a zone that were released, or taken if negative.
    pub(crate) fn account(&self, zone: u64, frames: i64) {
        self.zone_word(zone, header::FREE).fetch_add(frames as u64, AcqRel);
    }

    /// The same by a core, in its own record.
    #[inline]
    pub(crate) fn account_by(&self, record: &[AtomicU64; RECORD], zone: u64, frames: i64) {
        let own = &record[record::FREED + (zone & 15) as usize];
        let sum = own.load(Relaxed) as i64 + frames;
        if sum.unsigned_abs() < FOLD as u64 {
            return own.store(sum as u64, Release);
        }
        own.store(0, Release);
        self.account(zone, sum);
    }
}
