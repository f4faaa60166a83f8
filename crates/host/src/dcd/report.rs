//! What a served device is told about: one line each, for people or as JSON.

use std::fmt;

use memtide_engine::dynamic_capacity::{GroupId, Tag};
use memtide_units::{ByteSize, DpaRange};
use serde::{Serialize, Serializer};

use super::decoder::Span;
use crate::give_back::answer::Answer;

/// Something that happened.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Report {
    /// A decoder is at work.
    Decoding {
        /// Which of the device, and where.
        #[serde(serialize_with = "shown")]
        span: Span,
        /// Whether it was before.
        adopted: bool,
    },
    /// Capacity can be used.
    Online {
        /// Its name here.
        #[serde(serialize_with = "shown")]
        group: GroupId,
        /// Which allocation.
        #[serde(serialize_with = "shown")]
        tag: Tag,
        /// How much.
        bytes: ByteSize,
        /// On which node of the kernel's.
        node: Option<u16>,
    },
    /// An offer, or a part of one, was refused; or something else that the device said.
    Refused {
        /// What.
        #[serde(serialize_with = "shown")]
        range: DpaRange,
        /// Why.
        why: String,
    },
    /// Something is asked back; this is what came of it.
    AskedBack {
        /// How much was asked of.
        asked: ByteSize,
        /// How much nobody uses any more.
        free: ByteSize,
        /// What a node of the kernel's answers; none where nothing was in use.
        answer: Option<Answer>,
    },
    /// Capacity was given back.
    Released {
        /// What.
        #[serde(serialize_with = "all_shown")]
        ranges: Vec<DpaRange>,
        /// How much.
        bytes: ByteSize,
    },
    /// Capacity was taken by force.
    Lost {
        /// What.
        #[serde(serialize_with = "all_shown")]
        ranges: Vec<DpaRange>,
        /// Programs on its node.
        programs: Vec<String>,
        /// Blocks that the kernel still counts.
        blocks: String,
    },
    /// A pool has another part of what is online than before.
    Pooled {
        /// How much.
        bytes: ByteSize,
        /// Of so much.
        online: ByteSize,
    },
    /// Event records were lost in the device.
    Overflow {
        /// How many.
        count: u16,
    },
    /// Something went wrong, and the rest goes on.
    Trouble {
        /// What.
        what: String,
    },
    /// Something else worth a line.
    Note {
        /// What.
        what: String,
    },
}

fn shown<T: fmt::Display, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

fn all_shown<T: fmt::Display, S: Serializer>(
    values: &[T],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(values.iter().map(ToString::to_string))
}

/// `tag 5be13bce-…`, or that there is none.
struct Named(Tag);

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_null() { f.write_str("untagged") } else { write!(f, "tag {}", self.0) }
    }
}

fn listed(ranges: &[DpaRange]) -> String {
    ranges.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Decoding { span, adopted: false } => write!(f, "decoding {span}"),
            Self::Decoding { span, adopted: true } => write!(f, "decoding {span}, as before"),
            Self::Online { group, tag, bytes, node } => {
                write!(f, "{group}: {bytes} online ({})", Named(*tag))?;
                node.map_or(Ok(()), |node| write!(f, ", node{node}"))
            }
            Self::Refused { range, why } => write!(f, "refused {range}: {why}"),
            Self::AskedBack { asked, free, answer } => {
                write!(f, "asked for {asked} back: {free} can go")?;
                answer.as_ref().map_or(Ok(()), |answer| holders(f, answer))
            }
            Self::Released { ranges, bytes } => write!(f, "gave {bytes} back: {}", listed(ranges)),
            Self::Lost { ranges, programs, blocks } => write!(
                f,
                "LOST {}: the device took it by force; memory blocks {blocks} have nothing behind \
                 them; programs on their node: {}. End those, and restart the machine",
                listed(ranges),
                if programs.is_empty() { "none".to_owned() } else { programs.join(", ") }
            ),
            Self::Pooled { bytes, online } => {
                write!(f, "the pool has {bytes} of the {online} that are online")
            }
            Self::Overflow { count } => {
                write!(f, "the device's event log overflowed: {count} records were lost")
            }
            Self::Trouble { what } => write!(f, "trouble: {what}"),
            Self::Note { what } => f.write_str(what),
        }
    }
}

fn holders(f: &mut fmt::Formatter<'_>, answer: &Answer) -> fmt::Result {
    for holder in &answer.holders {
        let (name, pid, bytes) = (&holder.name, holder.pid, holder.bytes);
        write!(f, "; {name} (pid {pid}) holds {bytes}: {}", holder.reason)?;
    }
    Ok(())
}
