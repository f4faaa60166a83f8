//! One word for each frame: who owns it, whether it may move, who pins it, how hot it is.
//!
//! The allocator needs none of this, and without descriptors a node costs less than a byte a
//! frame. With them it notes the movability of what it hands out (in the first frame of a block,
//! as the kernel does with compound pages), so that a plan knows what can move even in pageblocks
//! of mixed use.
//!
//! | bits | |
//! |---|---|
//! | 0–31 | owner, a number of the caller's |
//! | 32–46 | pins |
//! | 48–55 | heat |
//! | 56–57 | movability |
//! | 58 | poisoned |

use core::fmt;

use memtide_units::{FrameRange, Pfn};

use crate::{
    frames::{Bitmap, Frames},
    layout::{FRAMES, Layout},
    primitive::{AtomicU64, Ordering::*},
    request::Movability,
};

const PINS: u32 = 32;
const PINS_MAX: u64 = (1 << 15) - 1;
const HEAT: u32 = 48;
const MOVABILITY: u32 = 56;
const POISON: u64 = 1 << 58;

/// A descriptor for each frame of a node.
#[derive(Clone, Copy)]
pub struct Descriptors<'m> {
    words: &'m [AtomicU64],
}

/// What is known of a frame.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Descriptor {
    /// A number of the caller's; 0 for none.
    pub owner: u32,
    /// How many hold it in place.
    pub pins: u16,
    /// How hot it is, by the caller's measure.
    pub heat: u8,
    /// Whether what lies there may move.
    pub movability: Movability,
    /// Whether its memory is bad.
    pub poisoned: bool,
}

/// Why nothing was noted of a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DescriptorError {
    /// No frame of this node.
    #[error("{pfn}: not of this node, which has {node}")]
    Foreign {
        /// Its number.
        pfn: Pfn,
        /// The frames of the node.
        node: FrameRange,
    },
    /// The node has no descriptors.
    #[error("{pfn}: the node has no descriptors")]
    NoDescriptors {
        /// Its number.
        pfn: Pfn,
    },
    /// Pinned as often as can be counted.
    #[error("{pfn}: pinned {pins} times; expected less")]
    TooMany {
        /// Its number.
        pfn: Pfn,
        /// How often.
        pins: u16,
    },
    /// Not pinned.
    #[error("{pfn}: unpinned, but nobody pins it")]
    NotPinned {
        /// Its number.
        pfn: Pfn,
    },
}

impl<'m> Descriptors<'m> {
    /// Descriptors in memory that is all zero, or has been in use for the same node.
    ///
    /// # Errors
    /// How many words it takes, when there are fewer: one a frame, from the first of the largest
    /// order's size on.
    pub fn new(layout: &Layout, words: &'m [AtomicU64]) -> Result<Self, DescriptorsError> {
        let needed = Self::words(layout);
        let words = words.get(..needed).ok_or(DescriptorsError { words: words.len(), needed })?;
        Ok(Self { words })
    }

    /// Words that the descriptors of a node take.
    #[must_use]
    pub const fn words(layout: &Layout) -> usize {
        (layout.pageblocks * crate::layout::FRAMES) as usize
    }

    pub(crate) const fn len(&self) -> usize {
        self.words.len()
    }

    fn word(&self, index: u64) -> &'m AtomicU64 {
        &self.words[index as usize]
    }

    /// Notes that a block is taken.
    #[inline]
    pub(crate) fn taken(&self, index: u64, movability: Movability) {
        self.word(index).store((movability as u64) << MOVABILITY, Release);
    }

    /// Notes of the upper half of a block what was noted of the block.
    pub(crate) fn copy(&self, from: u64, to: u64) {
        self.word(to).store(self.word(from).load(Acquire), Release);
    }

    pub(crate) fn get(&self, index: u64) -> Descriptor {
        let word = self.word(index).load(Acquire);
        Descriptor {
            owner: word as u32,
            pins: (word >> PINS & PINS_MAX) as u16,
            heat: (word >> HEAT) as u8,
            movability: Movability::from_bits(word >> MOVABILITY & 3),
            poisoned: word & POISON != 0,
        }
    }

    pub(crate) fn poison(&self, index: u64) {
        self.word(index).fetch_or(POISON, AcqRel);
    }

    fn update(&self, index: u64, change: impl FnMut(u64) -> Option<u64>) -> Result<u64, u64> {
        self.word(index).fetch_update(AcqRel, Acquire, change)
    }
}

/// Too little memory for the descriptors.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{words} words for descriptors; expected {needed}")]
pub struct DescriptorsError {
    /// Words that there are.
    pub words: usize,
    /// Words that it takes.
    pub needed: usize,
}

impl Frames<'_> {
    /// What is known of a frame, if it is of this node and the node has descriptors.
    #[must_use]
    pub fn descriptor(&self, pfn: Pfn) -> Option<Descriptor> {
        Some(self.descriptors?.get(self.index(pfn)?))
    }

    /// Notes the owner of the block that a frame is of.
    ///
    /// # Errors
    /// [`DescriptorError`] when there is no such frame, or the node has no descriptors.
    pub fn set_owner(&self, pfn: Pfn, owner: u32) -> Result<(), DescriptorError> {
        let keep = !u64::from(u32::MAX);
        self.describe(pfn, |word| Some(word & keep | u64::from(owner)))?;
        Ok(())
    }

    /// Notes how hot the block is that a frame is of.
    ///
    /// # Errors
    /// As [`Frames::set_owner`].
    pub fn set_heat(&self, pfn: Pfn, heat: u8) -> Result<(), DescriptorError> {
        let keep = !(0xff << HEAT);
        self.describe(pfn, |word| Some(word & keep | u64::from(heat) << HEAT))?;
        Ok(())
    }

    /// Holds the block in place that a frame is of. Returns how many do so now.
    ///
    /// # Errors
    /// As [`Frames::set_owner`]; or when too many pin it.
    pub fn pin(&self, pfn: Pfn) -> Result<u16, DescriptorError> {
        self.change_pins(pfn, |pins| (pins < PINS_MAX).then_some(pins + 1))?
            .ok_or(DescriptorError::TooMany { pfn, pins: PINS_MAX as u16 })
    }

    /// Ends one pin of the block that a frame is of. Returns how many are left.
    ///
    /// # Errors
    /// As [`Frames::set_owner`]; or when nobody pins it.
    pub fn unpin(&self, pfn: Pfn) -> Result<u16, DescriptorError> {
        self.change_pins(pfn, |pins| pins.checked_sub(1))?.ok_or(DescriptorError::NotPinned { pfn })
    }

    fn change_pins(
        &self,
        pfn: Pfn,
        change: impl Fn(u64) -> Option<u64>,
    ) -> Result<Option<u16>, DescriptorError> {
        let keep = !(PINS_MAX << PINS);
        let next =
            |word: u64| change(word >> PINS & PINS_MAX).map(|pins| word & keep | pins << PINS);
        let before = self.describe(pfn, next)?;
        let pins = before.and_then(|before| change(before >> PINS & PINS_MAX));
        Ok(pins.map(|pins| pins as u16))
    }

    /// Changes the descriptor of the block that a frame is of; what is known of a block stands in
    /// that of its first frame. Returns what it was, if it was changed.
    fn describe(
        &self,
        pfn: Pfn,
        change: impl FnMut(u64) -> Option<u64>,
    ) -> Result<Option<u64>, DescriptorError> {
        let index = self.index(pfn).ok_or(DescriptorError::Foreign { pfn, node: self.span() })?;
        let descriptors = self.descriptors.ok_or(DescriptorError::NoDescriptors { pfn })?;
        Ok(descriptors.update(self.first_of(index), change).ok())
    }

    /// The first frame of the block that a frame is of.
    fn first_of(&self, index: u64) -> u64 {
        if let Some(head) = self.head_of(index / FRAMES) {
            return head * FRAMES;
        }
        let start = index / FRAMES * FRAMES;
        (start..=index).rev().find(|&at| !self.bit(Bitmap::Tail, at)).unwrap_or(index)
    }
}

impl fmt::Debug for Descriptors<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "descriptors of {} frames", self.words.len())
    }
}
