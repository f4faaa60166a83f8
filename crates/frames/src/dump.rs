//! A node at a glance: sums, zones, and a map with one character a pageblock.
//!
//! For people: it is what a bug report shows. Lines that repeat are told once, so a large node
//! that is mostly free, or mostly full, takes a few lines.

use core::fmt;

use crate::{
    dedication::Dedication,
    entry::State,
    frames::{Bitmap, Frames},
    layout::FRAMES,
    primitive::Ordering::*,
    request::Movability,
    stats::{Statistics, ZoneStatistics},
    watermark::Pressure,
};

/// Pageblocks in a line of the map: 128 MiB.
const LINE: u64 = 64;

/// A node, to be displayed; see [`Frames::dump`].
#[derive(Clone, Copy)]
pub struct Dump<'f> {
    frames: &'f Frames<'f>,
}

impl Frames<'_> {
    /// What the node looks like: looks at every pageblock when it is displayed.
    ///
    /// ```
    /// # use memtide_frames::*;
    /// let geometry = Geometry { first: Pfn(0), frames: 1 << 16, block_frames: 1 << 13, cores: 1 };
    /// let words = Layout::new(geometry)?.words() + Layout::WORDS_SPARE;
    /// let memory: Vec<AtomicU64> = (0..words).map(|_| AtomicU64::new(0)).collect();
    /// let frames = Frames::new(geometry, &memory)?;
    /// frames.add(FrameRange::new(Pfn(0), 1 << 15), Zone::Normal)?;
    /// let mut core = frames.core(0)?;
    /// let page = core.take(Request::new(Order::FRAME, Movability::Movable))?;
    /// let huge = core.take(Request::new(Order::new(11).unwrap(), Movability::Unmovable))?;
    /// frames.isolate(FrameRange::new(Pfn(0x3000), 1 << 10))?;
    /// assert_eq!(frames.dump().to_string(), "\
    /// pfn 0x0+0x10000: 256MiB in blocks of 32MiB, 1 core
    ///   128MiB present: 119.8MiB free, 124KiB cached, 8MiB in use, 0 retired
    /// NORMAL          128MiB present, 119.8MiB free, largest free block 64MiB
    ///   pageblocks: 57 free, 0 in part, 0 full, 4 huge, 1 with cores, 0 reserved, 2 isolated
    /// pfn 0x0     o...Uuuu................ii......................................
    /// pfn 0x8000  ----------------------------------------------------------------
    /// . free  o a core's  U block, unmovable (u: goes on)  i isolated  - absent
    /// ");
    /// # drop((page, huge));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn dump(&self) -> Dump<'_> {
        Dump { frames: self }
    }

    /// The character of a pageblock.
    fn glyph(&self, pb: u64) -> u8 {
        let entry = self.entry(pb);
        let marked = self.is_isolated(pb);
        let retired =
            || self.words_of(Bitmap::Retired, pb).iter().any(|word| word.load(Acquire) != 0);
        match entry.state() {
            State::Absent => b'-',
            State::Head => LETTERS[entry.movability() as usize],
            State::Tail => {
                let first = self.head_of(pb).unwrap_or(pb);
                LETTERS[self.entry(first).movability() as usize].to_ascii_lowercase()
            }
            _ if marked => b'i',
            State::Reserved => b'=',
            State::Free => b'.',
            _ if retired() => b'x',
            State::Owned => b'o',
            _ => match FRAMES - self.free_in(pb) {
                0 => b'.',
                FRAMES => b'#',
                taken => b'0' + taken.div_ceil(FRAMES / 8) as u8,
            },
        }
    }

    /// A line of the map, and how many pageblocks it has.
    fn map_line(&self, first: u64) -> ([u8; LINE as usize], usize) {
        let end = (first + LINE).min(self.layout.pageblocks);
        let mut line = [b' '; LINE as usize];
        for (glyph, pb) in line.iter_mut().zip(first..end) {
            *glyph = self.glyph(pb);
        }
        (line, (end - first) as usize)
    }
}

/// What a block of order 9 or more is shown as, by movability.
const LETTERS: [u8; Movability::ALL.len()] = *b"URM";

/// What the characters mean. Only those that occur are told.
const LEGEND: [(&[u8], &str); 10] = [
    (b".", ". free"),
    (b"12345678", "1-8 eighths in use"),
    (b"#", "# full"),
    (b"o", "o a core's"),
    (b"Uu", "U block, unmovable (u: goes on)"),
    (b"Rr", "R block, reclaimable (r: goes on)"),
    (b"Mm", "M block, movable (m: goes on)"),
    (b"=", "= reserved"),
    (b"i", "i isolated"),
    (b"x", "x with retired frames or holes"),
];

impl fmt::Display for Dump<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.sums(f)?;
        let Statistics { zones } = self.frames.statistics();
        zones.iter().filter(|zone| zone.pageblocks > 0).try_for_each(|zone| Self::zone(zone, f))?;
        let seen = self.map(f)?;
        Self::legend(seen, f)
    }
}

impl Dump<'_> {
    fn sums(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (counts, geometry) = (self.frames.counts(), self.frames.layout.geometry);
        let (size, block) = (Size(counts.span), Size(geometry.block_frames));
        let cores = geometry.cores;
        let s = if cores == 1 { "" } else { "s" };
        writeln!(f, "{}: {size} in blocks of {block}, {cores} core{s}", self.frames.span())?;
        let [present, free, cached, used, retired] =
            [counts.present, counts.free, counts.cached, counts.used, counts.retired].map(Size);
        write!(f, "  {present} present: {free} free, {cached} cached, {used} in use, ")?;
        writeln!(f, "{retired} retired")
    }

    fn zone(sum: &ZoneStatistics, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (present, free) = (Size(sum.present), Size(sum.free));
        let name = sum.zone;
        write!(f, "{name}")?;
        // A formatted zone ignores the width; the longest name is PREFER_MOVABLE.
        let length = Length::of(&name);
        write!(f, "{:1$}{present} present, {free} free", "", 16 - length.min(15))?;
        if let Some(order) = sum.blocks.iter().rposition(|&count| count > 0) {
            write!(f, ", largest free block {}", Size(1 << order))?;
        }
        match sum.dedication {
            Dedication::None => {}
            Dedication::Movable => write!(f, ", dedicated to what can move")?,
            Dedication::Unmovable => write!(f, ", dedicated to what cannot move")?,
        }
        match sum.pressure {
            Pressure::None => {}
            Pressure::BelowHigh => write!(f, ", below high")?,
            Pressure::BelowLow => write!(f, ", below low")?,
            Pressure::BelowMin => write!(f, ", below min")?,
        }
        let (listed, huge) = (sum.listed.iter().flatten().sum::<u64>(), sum.huge / FRAMES);
        write!(f, "\n  pageblocks: {} free, {listed} in part, ", sum.free_pageblocks)?;
        write!(f, "{} full, {huge} huge, {} with cores, ", sum.full, sum.owned)?;
        writeln!(f, "{} reserved, {} isolated", sum.reserved, sum.isolated)
    }

    /// Writes the map. Returns which of [`LEGEND`] occurred, and in the bit above whether
    /// something was absent.
    fn map(&self, f: &mut fmt::Formatter<'_>) -> Result<u32, fmt::Error> {
        let frames = self.frames;
        let last = frames.pfn(frames.layout.pageblocks * FRAMES - 1);
        let width = Length::of(&last);
        let first = frames.index(frames.span().start).expect("the first is of the node");
        let mut seen = 0;
        let mut before = None;
        let mut repeated = 0;
        let lines = first / FRAMES / LINE..frames.layout.pageblocks.div_ceil(LINE);
        for n in lines {
            let (line, length) = frames.map_line(n * LINE);
            for glyph in &line[..length] {
                let place = LEGEND.iter().position(|(glyphs, _)| glyphs.contains(glyph));
                seen |= 1 << place.unwrap_or(LEGEND.len());
            }
            if before == Some((line, length)) {
                repeated += 1;
                continue;
            }
            Self::same(repeated, f)?;
            (before, repeated) = (Some((line, length)), 0);
            let pfn = frames.pfn(n * LINE * FRAMES);
            write!(f, "{pfn}{:1$}", "", width + 2 - Length::of(&pfn).min(width))?;
            line[..length].iter().try_for_each(|&glyph| write!(f, "{}", char::from(glyph)))?;
            writeln!(f)?;
        }
        Self::same(repeated, f)?;
        Ok(seen)
    }

    fn same(lines: u64, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match lines {
            0 => Ok(()),
            1 => writeln!(f, "... 1 line the same"),
            _ => writeln!(f, "... {lines} lines the same"),
        }
    }

    fn legend(seen: u32, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = LEGEND.iter().map(|&(_, text)| text).chain(["- absent"]).enumerate();
        let told = all.filter(|&(n, _)| seen >> n & 1 != 0).map(|(_, text)| text);
        for (n, text) in told.enumerate() {
            write!(f, "{}{text}", if n == 0 { "" } else { "  " })?;
        }
        writeln!(f)
    }
}

impl fmt::Debug for Dump<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// So many frames, in the largest unit of which it is one or more, rounded down to a tenth. (The
/// text of `memtide_units::ByteSize` is the same, but allocates.)
struct Size(u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u64, &str); 4] =
            [(1 << 28, "TiB"), (1 << 18, "GiB"), (1 << 8, "MiB"), (0, "KiB")];
        let &(unit, name) = UNITS.iter().find(|(unit, _)| self.0 >= *unit).expect("0 is the last");
        if self.0 == 0 {
            return f.write_str("0");
        }
        if unit == 0 {
            return write!(f, "{}{name}", self.0 * 4);
        }
        match self.0 % unit * 10 / unit {
            0 => write!(f, "{}{name}", self.0 / unit),
            tenths => write!(f, "{}.{tenths}{name}", self.0 / unit),
        }
    }
}

/// Counts what is written.
struct Length(usize);

impl Length {
    fn of(what: &impl fmt::Display) -> usize {
        let mut length = Self(0);
        // Counting cannot fail.
        let _ = fmt::Write::write_fmt(&mut length, format_args!("{what}"));
        length.0
    }
}

impl fmt::Write for Length {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0 += text.len();
        Ok(())
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::{
        string::{String, ToString},
        vec::Vec,
    };

    use memtide_units::{FrameRange, Order, Pfn};

    use super::*;
    use crate::{
        layout::{Geometry, Layout},
        primitive::AtomicU64,
        request::Request,
        validate::tests::{Caller, mixed_zones, words},
        zone::Zone,
    };

    #[test]
    fn sizes() {
        let text = |frames| Size(frames).to_string();
        assert_eq!([text(0), text(1), text(255)], ["0", "4KiB", "1020KiB"]);
        assert_eq!([text(256), text(384), text(3 << 18)], ["1MiB", "1.5MiB", "3GiB"]);
        assert_eq!([text((5 << 28) + (1 << 27)), text((1 << 18) - 1)], ["5.5TiB", "1023.9MiB"]);
    }

    #[test]
    fn lines_that_repeat_are_told_once() {
        let first = Pfn((1 << 18) + (1 << 17));
        let geometry = Geometry { first, frames: 1 << 19, block_frames: 1 << 15, cores: 2 };
        let count = Layout::new(geometry).unwrap().words() + Layout::WORDS_SPARE;
        let memory: Vec<AtomicU64> = (0..count).map(|_| AtomicU64::new(0)).collect();
        let frames = Frames::new(geometry, &memory).unwrap();
        frames.add(FrameRange::new(first, 1 << 19), Zone::Movable).unwrap();
        let huge = frames.take(Request::new(Order::MAX, Movability::Movable)).unwrap();
        frames.retire(first).unwrap();
        let text = frames.dump().to_string();
        let map: Vec<&str> =
            text.lines().filter(|l| l.starts_with("pfn") || l.starts_with("..")).collect();
        let line = |glyph: &str, rest: &str| String::from(glyph) + &rest.repeat(63);
        assert_eq!(map[1], String::from("pfn 0x60000  ") + &line("x", "."));
        assert_eq!(map[2], String::from("pfn 0x68000  ") + &line(".", "."));
        assert_eq!(
            map[3..5],
            ["... 2 lines the same", &(String::from("pfn 0x80000  ") + &line("M", "m"))]
        );
        assert_eq!(map[6], "... 6 lines the same");
        assert!(
            text.ends_with(
                ". free  M block, movable (m: goes on)  x with retired frames or holes\n"
            )
        );
        drop(huge);
    }

    #[test]
    fn every_node_can_be_shown() {
        for seed in 1..10 {
            let (geometry, words) = words(20);
            let frames = Frames::new(geometry, &words).unwrap();
            mixed_zones(&frames);
            let mut caller = Caller::new(&frames, seed);
            for _ in 0..20 {
                (0..10).for_each(|_| caller.step());
                let text = frames.dump().to_string();
                assert!(text.lines().all(|line| line.len() <= 120), "{text}");
                assert!(text.contains("pfn 0x0    "), "{text}");
            }
            caller.finish();
        }
    }
}
