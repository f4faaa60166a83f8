//! `/proc/iomem`: the kernel's own map of physical addresses, as text.
//!
//! ```text
//! 100000000-1ffffffff : CXL Window 0
//!   100000000-13fffffff : region0
//!     100000000-13fffffff : dax0.0
//! ```
//!
//! Two blanks for each level; the kernel indents no deeper than eight levels (`r_show` in
//! kernel/resource.c), so what stands at the eighth may be inside the line above it. Who has no
//! `CAP_SYS_ADMIN` gets every address as zero: names without a map, which
//! [`visibility`] tells from a map.
//!
//! Here are lines and what they say; what contains what is checked, as the kernel's tree
//! cannot be otherwise. The text may still come from somebody else's machine, or from nobody's.

use memtide_units::{PhysAddr, PhysRange};

/// The deepest level that is indented.
pub const DEPTH_MAX: usize = 8;

/// Why a text is no `/proc/iomem`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IomemError {
    /// A line that is not "start-end : name".
    #[error("line {line}: expected \"start-end : name\" with hexadecimal addresses")]
    Line {
        /// Which, from 1.
        line: usize,
    },
    /// A range that ends before it starts.
    #[error("line {line}: the range ends at {last}: expected {start} or above")]
    Backwards {
        /// Which, from 1.
        line: usize,
        /// Where it starts.
        start: PhysAddr,
        /// Where it ends.
        last: PhysAddr,
    },
    /// A line indented by other than two blanks a level, or by more than one level at once.
    #[error("line {line}: indented by {blanks}: expected an even number up to {expected}")]
    Indent {
        /// Which, from 1.
        line: usize,
        /// By how many blanks.
        blanks: usize,
        /// How many there can be at most.
        expected: usize,
    },
    /// A range that is not in the one above it.
    #[error("line {line}: {range} is outside of {parent}, in which it is listed")]
    Outside {
        /// Which, from 1.
        line: usize,
        /// Its range.
        range: PhysRange,
        /// The range a level up.
        parent: PhysRange,
    },
}

/// Whether a map has addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Visibility {
    /// It has.
    Addresses,
    /// All are zero: read by somebody without `CAP_SYS_ADMIN`.
    Hidden,
}

/// A line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line<'a> {
    /// Which, from 1.
    pub number: usize,
    /// How many ranges it is in, 0 to [`DEPTH_MAX`]; at the latter perhaps more.
    pub depth: usize,
    /// Its addresses.
    pub range: PhysRange,
    /// What is there, such as `System RAM`.
    pub name: &'a str,
}

/// The lines of `text`, in their order, each in the range that it is listed under. Empty lines
/// are passed over. After an error it goes on with the next line, under the ranges
/// that were right.
pub fn lines(text: &str) -> Lines<'_> {
    Lines { text, number: 0, depth: 0, parents: [None; DEPTH_MAX + 1] }
}

/// Whether `text` has addresses. A text without any line has.
///
/// A zero range can be true of one line (the first byte of memory), never of two on one level.
#[must_use]
pub fn visibility(text: &str) -> Visibility {
    let mut count = 0_usize;
    let zero = PhysRange::new(PhysAddr(0), PhysAddr(0));
    for line in lines(text) {
        match line {
            Ok(line) if Some(line.range) == zero => count += 1,
            _ => return Visibility::Addresses,
        }
    }
    if count > 1 { Visibility::Hidden } else { Visibility::Addresses }
}

/// Iterator over the lines of a text: [`lines`].
#[derive(Debug, Clone)]
pub struct Lines<'a> {
    text: &'a str,
    number: usize,
    depth: usize,
    parents: [Option<PhysRange>; DEPTH_MAX + 1],
}

impl<'a> Lines<'a> {
    fn read(&mut self, text: &'a str) -> Result<Line<'a>, IomemError> {
        let line = self.number;
        let rest = text.trim_start_matches(' ');
        let blanks = text.len() - rest.len();
        let deepest = match self.parents[0] {
            None => 0,
            Some(_) => (self.depth + 1).min(DEPTH_MAX),
        };
        if !blanks.is_multiple_of(2) || blanks / 2 > deepest {
            return Err(IomemError::Indent { line, blanks, expected: 2 * deepest });
        }
        let (start, last, name) = split(rest).ok_or(IomemError::Line { line })?;
        let range = PhysRange::new(start, last);
        let range = range.ok_or(IomemError::Backwards { line, start, last })?;
        let depth = blanks / 2;
        let parent = depth.checked_sub(1).and_then(|above| self.parents[above]);
        if let Some(parent) = parent.filter(|parent| !parent.contains(range)) {
            return Err(IomemError::Outside { line, range, parent });
        }
        self.depth = depth;
        self.parents[depth] = Some(range);
        Ok(Line { number: line, depth, range, name })
    }
}

impl<'a> Iterator for Lines<'a> {
    type Item = Result<Line<'a>, IomemError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.text.is_empty() {
            let (line, rest) = self.text.split_once('\n').unwrap_or((self.text, ""));
            self.text = rest;
            self.number += 1;
            if !line.trim().is_empty() {
                return Some(self.read(line));
            }
        }
        None
    }
}

fn split(line: &str) -> Option<(PhysAddr, PhysAddr, &str)> {
    let (range, name) = line.split_once(" : ")?;
    let (start, last) = range.split_once('-')?;
    Some((hexadecimal(start)?, hexadecimal(last)?, name.trim_end()))
}

/// Up to 16 hexadecimal digits, and nothing else: no sign, no prefix.
fn hexadecimal(digits: &str) -> Option<PhysAddr> {
    let plain = !digits.starts_with('+');
    plain.then(|| u64::from_str_radix(digits, 16).ok().map(PhysAddr)).flatten()
}

#[cfg(test)]
mod tests {
    use alloc::{format, string::String, vec::Vec};

    use super::*;

    const MAP: &str = "\
00000000-00000fff : Reserved
00001000-0009fbff : System RAM
100000000-1ffffffff : CXL Window 0
  100000000-13fffffff : region0
    100000000-13fffffff : dax0.0
      100000000-13fffffff : System RAM (kmem)
  140000000-17fffffff : region1
";

    fn range(start: u64, last: u64) -> PhysRange {
        PhysRange::new(PhysAddr(start), PhysAddr(last)).unwrap()
    }

    #[test]
    fn a_map_is_read_line_by_line() {
        let read: Vec<_> = lines(MAP).map(Result::unwrap).collect();
        let brief: Vec<_> = read.iter().map(|line| (line.number, line.depth, line.name)).collect();
        assert_eq!(
            brief,
            [
                (1, 0, "Reserved"),
                (2, 0, "System RAM"),
                (3, 0, "CXL Window 0"),
                (4, 1, "region0"),
                (5, 2, "dax0.0"),
                (6, 3, "System RAM (kmem)"),
                (7, 1, "region1"),
            ]
        );
        assert_eq!(read[2].range, range(0x1_0000_0000, 0x1_ffff_ffff));
        assert_eq!(visibility(MAP), Visibility::Addresses);
    }

    #[test]
    fn the_map_without_addresses_says_so() {
        let hidden: String = MAP
            .lines()
            .map(|line| {
                let name = line.split_once(" : ").unwrap().1;
                let blanks = line.len() - line.trim_start().len();
                format!("{:blanks$}00000000-00000000 : {name}\n", "")
            })
            .collect();
        assert!(lines(&hidden).all(|line| line.unwrap().range == range(0, 0)));
        assert_eq!(visibility(&hidden), Visibility::Hidden);
        assert_eq!(visibility(""), Visibility::Addresses);
        assert_eq!(visibility("00000000-00000000 : Reserved\n"), Visibility::Addresses);
    }

    #[test]
    fn what_the_kernel_never_writes_is_refused() {
        let first = |text| lines(text).find_map(Result::err).unwrap();
        assert_eq!(first("0-f : a\nhello\n"), IomemError::Line { line: 2 });
        assert_eq!(first("0-g : a"), IomemError::Line { line: 1 });
        assert_eq!(first("+0-f : a"), IomemError::Line { line: 1 });
        assert_eq!(first("0-10000000000000000 : a"), IomemError::Line { line: 1 });
        let (start, last) = (PhysAddr(0xf), PhysAddr(0));
        assert_eq!(first("f-0 : a"), IomemError::Backwards { line: 1, start, last });
        let indent = |line, blanks, expected| IomemError::Indent { line, blanks, expected };
        assert_eq!(first("  0-f : a"), indent(1, 2, 0));
        assert_eq!(first("0-f : a\n\n 0-f : a"), indent(3, 1, 2));
        assert_eq!(first("0-f : a\n    0-f : a"), indent(2, 4, 2));
        let outside = IomemError::Outside { line: 2, range: range(8, 16), parent: range(0, 15) };
        assert_eq!(first("0-f : a\n  8-10 : b\n"), outside);
    }

    #[test]
    fn an_error_costs_only_its_line() {
        let text = "0-f : a\n  8-10 : b\n  8-f : c\n";
        let read: Vec<_> = lines(text).filter_map(Result::ok).map(|line| line.name).collect();
        assert_eq!(read, ["a", "c"]);
    }

    #[test]
    fn nothing_is_indented_deeper_than_eight_levels() {
        let mut text: String =
            (0..9).map(|depth| format!("{:1$}0-{2:x} : r\n", "", 2 * depth, 99 - depth)).collect();
        let deeper = format!("{:16}0-5 : inside the line above\n", "");
        text.push_str(&deeper);
        assert_eq!(lines(&text).map(|line| line.unwrap().depth).max(), Some(8));
        text.push_str(&format!("{:18}0-4 : too deep\n", ""));
        let error = lines(&text).find_map(Result::err);
        assert_eq!(error, Some(IomemError::Indent { line: 11, blanks: 18, expected: 16 }));
    }
}
