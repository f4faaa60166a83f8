//! The attributes of one folder of sysfs.
//!
//! Readers ask a [`Folder`] for `size`, `mode`, `target_list`, and get what is there. What is
//! there and makes no sense becomes a note with the file's name, and the attribute counts as
//! absent. Texts come from a stranger when the tree was captured elsewhere, and end on a terminal:
//! only printable ASCII passes.

use std::path::Component;

use memtide_units::{ByteSize, NodeId, PhysAddr};

use crate::{Notes, ReadError, Root, node_list::IdList};

/// The longest text that an attribute may have, in bytes: a version, a name, a UUID.
const WORD_MAX: usize = 256;

/// Parts of a link's target that are looked at; the deepest of sysfs have about twenty.
const PARTS_MAX: usize = 64;

/// One folder, and where errors go.
pub(crate) struct Folder<'a> {
    pub(crate) root: &'a Root,
    path: String,
    pub(crate) notes: &'a mut Notes,
}

impl<'a> Folder<'a> {
    pub(crate) fn new(root: &'a Root, path: impl Into<String>, notes: &'a mut Notes) -> Self {
        Self { root, path: path.into(), notes }
    }

    /// The path of the attribute `name`.
    pub(crate) fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.path)
    }

    /// A number, decimal or with `0x`.
    pub(crate) fn number(&mut self, name: &str) -> Option<u64> {
        self.notes.keep(self.root.number(self.path(name)))
    }

    /// A size in bytes.
    pub(crate) fn size(&mut self, name: &str) -> Option<ByteSize> {
        self.number(name).map(ByteSize)
    }

    /// A physical address; all ones say that there is none (`resource_show` of regions and
    /// decoders).
    pub(crate) fn address(&mut self, name: &str) -> Option<PhysAddr> {
        self.number(name).filter(|&address| address != u64::MAX).map(PhysAddr)
    }

    /// A number that fits into 32 bits.
    pub(crate) fn small(&mut self, name: &str) -> Option<u32> {
        let number = self.number(name)?;
        self.checked(name, &number.to_string(), u32::try_from(number).ok(), "a number below 2^32")
    }

    /// A number that may be negative, which means none.
    pub(crate) fn unless_negative(&mut self, name: &str) -> Option<u32> {
        let text = self.word(name)?;
        let number = self.checked(name, &text, text.parse::<i64>().ok(), "a whole number")?;
        if number < 0 {
            return None;
        }
        self.checked(name, &text, u32::try_from(number).ok(), "a number below 2^32")
    }

    /// The node that a device is near; -1 means none.
    pub(crate) fn node(&mut self, name: &str) -> Option<NodeId> {
        let number = self.unless_negative(name)?;
        let node = u16::try_from(number).ok().map(NodeId);
        self.checked(name, &number.to_string(), node, "a node below 65536")
    }

    /// 0 or 1.
    pub(crate) fn flag(&mut self, name: &str) -> Option<bool> {
        let number = self.number(name)?;
        let flag = match number {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        };
        self.checked(name, &number.to_string(), flag, "0 or 1")
    }

    /// A list such as `0-3,8`; an empty one if it is empty.
    pub(crate) fn list(&mut self, name: &str) -> Option<IdList> {
        let text = self.notes.keep(self.root.text(self.path(name)))?;
        self.checked(name, &text, text.trim().parse().ok(), IdList::EXPECTED)
    }

    /// A text that is not empty.
    pub(crate) fn word(&mut self, name: &str) -> Option<String> {
        let text = self.notes.keep(self.root.text(self.path(name)))?;
        let text = text.trim();
        if text.is_empty() {
            return None;
        }
        let word = is_word(text).then(|| text.to_owned());
        self.checked(name, text, word, "a short text in printable ASCII")
    }

    /// The last part of what a link points to: a driver, a device.
    pub(crate) fn link(&self, name: &str) -> Option<String> {
        self.root.link(self.path(name)).filter(|target| is_word(target))
    }

    /// The value, or a note that `text` is none.
    pub(crate) fn checked<T>(
        &mut self,
        name: &str,
        text: &str,
        value: Option<T>,
        expected: &'static str,
    ) -> Option<T> {
        if value.is_none() {
            self.notes.add(self.root.unexpected(self.path(name), text, expected));
        }
        value
    }
}

/// Whether a text may be shown: printable ASCII, and not long.
pub(crate) fn is_word(text: &str) -> bool {
    !text.is_empty() && text.len() <= WORD_MAX && text.bytes().all(|b| (0x20..0x7f).contains(&b))
}

/// The folders that the link at `path` points through, the device itself last: in sysfs a device
/// lies in the folder of its parent. None if there is no link.
pub(crate) fn device_path(root: &Root, path: &str) -> Vec<String> {
    let Ok(target) = root.target(path) else { return Vec::new() };
    let parts = target.components().filter_map(|part| match part {
        Component::Normal(name) => name.to_str().filter(|name| is_word(name)),
        _ => None,
    });
    parts.take(PARTS_MAX).map(str::to_owned).collect()
}

/// The names in the folder `path` that are `prefix` and a number, with the number; in its order.
pub(crate) fn numbered(
    root: &Root,
    path: &str,
    prefix: &str,
) -> Result<Vec<(String, u32)>, ReadError> {
    let names = root.names(path)?.into_iter().filter_map(|name| {
        let number = number_after(&name, prefix)?;
        Some((name, number))
    });
    Ok(names.collect())
}

/// The number in a name such as `node12`, if `prefix` is `node`. `node012` is no name of the
/// kernel's.
pub(crate) fn number_after(name: &str, prefix: &str) -> Option<u32> {
    let digits = name.strip_prefix(prefix)?;
    let number: u32 = digits.parse().ok()?;
    (number.to_string() == digits).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_one_form() {
        assert_eq!(number_after("node12", "node"), Some(12));
        for name in ["node", "node012", "node+1", "node-1", "node1x", "n1", "node99999999999"] {
            assert_eq!(number_after(name, "node"), None, "{name}");
        }
    }

    #[test]
    fn terminals_are_safe_from_captured_texts() {
        assert!(is_word("BWFW VERSION 00"));
        assert!(!is_word("\x1b[2J") && !is_word("") && !is_word(&"x".repeat(257)));
    }
}
