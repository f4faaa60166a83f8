//! What firmware handed over: ranges of addresses with a type, and `memmap=` that changes them.
//!
//! There are three places to learn it from. `/sys/firmware/memmap/N/{start,end,type}` has it as
//! it was at boot, and `BIOS-e820:` lines of the boot log as well, in other words; both are in
//! [`MapType`]. The kernel's command line may say otherwise: `memmap=4G!12G` turns a
//! range into persistent memory, whatever firmware said ([`memmap_options`]).
//!
//! Only x86 kernels have any of this. Words that nobody here knows are kept as they are.

use core::fmt;

use memtide_units::{PhysAddr, PhysRange};

/// What a range is, as firmware says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MapType<'a> {
    /// Ordinary memory.
    SystemRam,
    /// Not to be touched, for whatever reason.
    Reserved,
    /// Firmware tables; memory once they are read.
    AcpiTables,
    /// Firmware's own, to be kept over sleep.
    AcpiNonVolatile,
    /// Broken memory.
    Unusable,
    /// Persistent memory (type 7).
    Persistent,
    /// Persistent memory as before it had a type (type 12), or as `memmap=` makes it.
    PersistentLegacy,
    /// Memory meant for something special (`EFI_MEMORY_SP`): CXL memory often is.
    SoftReserved,
    /// Something else, in the kernel's words.
    Other(&'a str),
}

impl<'a> MapType<'a> {
    /// The type that `/sys/firmware/memmap` (`e820_type_to_string`) or the boot log
    /// (`e820_print_type`) calls `text`.
    #[must_use]
    pub fn named(text: &'a str) -> Self {
        match text {
            "System RAM" | "usable" | "kernel usable RAM" => Self::SystemRam,
            "Reserved" | "reserved" | "device reserved" => Self::Reserved,
            "ACPI Tables" | "ACPI data" => Self::AcpiTables,
            "ACPI Non-volatile Storage" | "ACPI NVS" => Self::AcpiNonVolatile,
            "Unusable memory" | "unusable" => Self::Unusable,
            "Persistent Memory" | "persistent (type 7)" => Self::Persistent,
            "Persistent Memory (legacy)" | "persistent (type 12)" => Self::PersistentLegacy,
            "Soft Reserved" | "soft reserved" => Self::SoftReserved,
            other => Self::Other(other),
        }
    }

    /// The type of this number in an e820 table, or `None` if it has no name.
    #[must_use]
    pub const fn numbered(number: u64) -> Option<Self> {
        Some(match number {
            1 => Self::SystemRam,
            2 => Self::Reserved,
            3 => Self::AcpiTables,
            4 => Self::AcpiNonVolatile,
            5 => Self::Unusable,
            7 => Self::Persistent,
            12 => Self::PersistentLegacy,
            0xefff_ffff => Self::SoftReserved,
            _ => return None,
        })
    }
}

impl fmt::Display for MapType<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SystemRam => "System RAM",
            Self::Reserved => "Reserved",
            Self::AcpiTables => "ACPI Tables",
            Self::AcpiNonVolatile => "ACPI Non-volatile Storage",
            Self::Unusable => "Unusable memory",
            Self::Persistent => "Persistent Memory",
            Self::PersistentLegacy => "Persistent Memory (legacy)",
            Self::SoftReserved => "Soft Reserved",
            Self::Other(text) => text,
        })
    }
}

/// A range that firmware handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MapEntry<'a> {
    /// Its addresses.
    pub range: PhysRange,
    /// What it is.
    pub kind: MapType<'a>,
}

/// Why something is no range of firmware's, or no `memmap=`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MapError<'a> {
    /// Not the number that is expected here.
    #[error("{field}: {text:?}: expected {expected}")]
    Number {
        /// Which.
        field: &'static str,
        /// What stands there.
        text: &'a str,
        /// What should.
        expected: &'static str,
    },
    /// A range that ends before it starts, or beyond 64 bits.
    #[error("range: {text:?}: expected one that ends at its start or above, below 2^64")]
    Range {
        /// What stands there.
        text: &'a str,
    },
    /// Something behind the end of what is expected.
    #[error("memmap={text}: {rest:?}: expected nothing more")]
    Rest {
        /// The option.
        text: &'a str,
        /// What is too much.
        rest: &'a str,
    },
}

impl<'a> MapEntry<'a> {
    /// The entry whose files `start`, `end` and `type` in `/sys/firmware/memmap` hold these texts;
    /// blanks and newlines around them do not matter. The end is in the range.
    ///
    /// # Errors
    /// [`MapError::Number`] if an address is not hexadecimal with `0x`; [`MapError::Range`] if
    /// the end is below the start.
    pub fn from_sysfs(start: &'a str, end: &'a str, kind: &'a str) -> Result<Self, MapError<'a>> {
        let start = prefixed("start", start.trim())?;
        let last = prefixed("end", end.trim())?;
        let range = PhysRange::new(start, last).ok_or(MapError::Range { text: end.trim() })?;
        Ok(Self { range, kind: MapType::named(kind.trim()) })
    }
}

/// The ranges of the `BIOS-e820:` lines in a boot log. Other lines are passed over, and of newer
/// kernels the lines that speak of gaps and the sizes that stand before the type.
pub fn boot_log(text: &str) -> impl Iterator<Item = Result<MapEntry<'_>, MapError<'_>>> {
    text.lines().filter_map(|line| {
        let (_, rest) = line.split_once("BIOS-e820: [mem ")?;
        Some(boot_line(rest))
    })
}

fn boot_line(rest: &str) -> Result<MapEntry<'_>, MapError<'_>> {
    let Some((range, kind)) = rest.split_once(']') else {
        return Err(MapError::Range { text: rest });
    };
    let (start, last) = range.split_once('-').ok_or(MapError::Range { text: range })?;
    let start = prefixed("start", start)?;
    let last = prefixed("end", last)?;
    let range = PhysRange::new(start, last).ok_or(MapError::Range { text: range })?;
    Ok(MapEntry { range, kind: MapType::named(without_size(kind.trim())) })
}

/// `usable` of `  1.9 GB usable`.
fn without_size(text: &str) -> &str {
    let after = text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    if after.len() == text.len() {
        return text;
    }
    let (unit, kind) = after.trim_start().split_once(' ').unwrap_or((after, ""));
    match unit {
        "B" | "KB" | "MB" | "GB" | "TB" | "PB" => kind.trim_start(),
        _ => text,
    }
}

fn prefixed<'a>(field: &'static str, text: &'a str) -> Result<PhysAddr, MapError<'a>> {
    let digits = text.strip_prefix("0x").filter(|digits| !digits.starts_with('+'));
    let number = digits.and_then(|digits| u64::from_str_radix(digits, 16).ok());
    let expected = "a hexadecimal number of 64 bits with 0x";
    number.map(PhysAddr).ok_or(MapError::Number { field, text, expected })
}

/// What a `memmap=` on the kernel's command line does (`parse_memmap_one`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum MemmapOption<'a> {
    /// `exactmap`: forget what firmware said; only what follows counts.
    Exact,
    /// `16G`: no memory from this address on.
    Limit(PhysAddr),
    /// `4G@8G` and its kin: the range is of this type, whatever firmware said.
    Set(MapEntry<'a>),
    /// `4G%8G-1+2`: what is of one type in the range becomes another; without the first whatever
    /// is there does, without the second it goes.
    Change {
        /// The range.
        range: PhysRange,
        /// The number of the e820 type that it changes; `None` for any.
        from: Option<u64>,
        /// The number of the e820 type that it becomes; `None` for none.
        to: Option<u64>,
    },
}

/// The `memmap=` options of a kernel command line, in their order. Sizes and addresses may be
/// decimal, octal with 0 or hexadecimal with 0x, with K, M, G, T, P or E behind.
pub fn memmap_options(
    command_line: &str,
) -> impl Iterator<Item = Result<MemmapOption<'_>, MapError<'_>>> {
    let options = command_line
        .split_ascii_whitespace()
        .map(|word| word.trim_matches('"'))
        .filter_map(|word| word.strip_prefix("memmap="));
    options.flat_map(|list| list.split(',')).map(memmap_option)
}

fn memmap_option(text: &str) -> Result<MemmapOption<'_>, MapError<'_>> {
    if text == "exactmap" {
        return Ok(MemmapOption::Exact);
    }
    let (size, rest) = memparse("size", text)?;
    let Some(sign) = rest.chars().next() else {
        return Ok(MemmapOption::Limit(PhysAddr(size)));
    };
    let too_much = |rest| MapError::Rest { text, rest };
    let kind = match sign {
        '@' => Some(MapType::SystemRam),
        '#' => Some(MapType::AcpiTables),
        '$' => Some(MapType::Reserved),
        '!' => Some(MapType::PersistentLegacy),
        '%' => None,
        _ => return Err(too_much(rest)),
    };
    // The sign is one byte long.
    let (start, rest) = memparse("start", &rest[1..])?;
    let range = PhysRange::from_size(PhysAddr(start), size).ok_or(MapError::Range { text })?;
    let Some(kind) = kind else { return change(range, rest).map_err(&too_much) };
    match rest {
        "" => Ok(MemmapOption::Set(MapEntry { range, kind })),
        rest => Err(too_much(rest)),
    }
}

/// `-from`, `+to`, both in this order, or neither; what cannot be read otherwise.
fn change(range: PhysRange, rest: &str) -> Result<MemmapOption<'_>, &str> {
    let mut left = rest;
    let mut take = |sign| -> Result<Option<u64>, &str> {
        let Some(number) = left.strip_prefix(sign) else { return Ok(None) };
        let (number, after) = number_of(number).ok_or(left)?;
        left = after;
        Ok(Some(number))
    };
    let (from, to) = (take('-')?, take('+')?);
    if left.is_empty() { Ok(MemmapOption::Change { range, from, to }) } else { Err(left) }
}

/// A number with K, M, G, T, P or E behind, and the text after it (lib/cmdline.c, `memparse`).
fn memparse<'a>(field: &'static str, text: &'a str) -> Result<(u64, &'a str), MapError<'a>> {
    let expected = "a number of bytes below 2^64, as in 4G";
    let wrong = MapError::Number { field, text, expected };
    let (number, rest) = number_of(text).ok_or(wrong)?;
    let unit = rest.chars().next().map(|unit| unit.to_ascii_uppercase());
    let power = unit.and_then(|unit| "KMGTPE".find(unit));
    let Some(power) = power else { return Ok((number, rest)) };
    let scale = 1_u64 << (10 * (power + 1));
    let bytes = number.checked_mul(scale).ok_or(wrong)?;
    // All units are one byte long.
    Ok((bytes, &rest[1..]))
}

/// A number with the base that its prefix says, and the text after it (`simple_strtoull`).
fn number_of(text: &str) -> Option<(u64, &str)> {
    let hexadecimal = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
    let (digits, base) = match hexadecimal {
        Some(digits) if digits.starts_with(|c: char| c.is_ascii_hexdigit()) => (digits, 16),
        _ if text.starts_with('0') => (text, 8),
        _ => (text, 10),
    };
    let end = digits.find(|c: char| !c.is_digit(base)).unwrap_or(digits.len());
    let (number, rest) = digits.split_at(end);
    u64::from_str_radix(number, base).ok().map(|number| (number, rest))
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    fn range(start: u64, bytes: u64) -> PhysRange {
        PhysRange::from_size(PhysAddr(start), bytes).unwrap()
    }

    const GIB: u64 = 1 << 30;

    #[test]
    fn entries_of_sysfs() {
        let read = MapEntry::from_sysfs("0x100000000\n", "0x1ffffffff\n", "Soft Reserved\n");
        let entry = MapEntry { range: range(4 * GIB, 4 * GIB), kind: MapType::SoftReserved };
        assert_eq!(read, Ok(entry));
        let expected = "a hexadecimal number of 64 bits with 0x";
        for text in ["", "100", "0x", "0x+1", "0x10000000000000000", "0xg"] {
            let error = MapError::Number { field: "end", text, expected };
            assert_eq!(MapEntry::from_sysfs("0x0", text, "Reserved"), Err(error));
        }
        let error = MapError::Range { text: "0xfff" };
        assert_eq!(MapEntry::from_sysfs("0x1000", "0xfff", "Reserved"), Err(error));
    }

    #[test]
    fn every_type_has_its_names() {
        for (number, sysfs, log) in [
            (1, "System RAM", "usable"),
            (2, "Reserved", "reserved"),
            (3, "ACPI Tables", "ACPI data"),
            (4, "ACPI Non-volatile Storage", "ACPI NVS"),
            (5, "Unusable memory", "unusable"),
            (7, "Persistent Memory", "persistent (type 7)"),
            (12, "Persistent Memory (legacy)", "persistent (type 12)"),
            (0xefff_ffff, "Soft Reserved", "soft reserved"),
        ] {
            let kind = MapType::numbered(number).unwrap();
            assert_eq!((MapType::named(sysfs), MapType::named(log)), (kind, kind));
            assert_eq!(alloc::format!("{kind}"), sysfs);
        }
        assert_eq!(MapType::named("type 20"), MapType::Other("type 20"));
        assert_eq!(MapType::numbered(20), None);
    }

    #[test]
    fn lines_of_a_boot_log() {
        let log = "\
[    0.000000] BIOS-provided physical RAM map:
[    0.000000] BIOS-e820: [mem 0x0000000000000000-0x000000000009fbff] usable
[    0.000000] BIOS-e820: [mem 0x000000000009fc00-0x000000000009ffff]    1   KB device reserved
[    0.000000] BIOS-e820: [gap 0x00000000000a0000-0x00000000000effff]  320   KB ...
[    0.000000] BIOS-e820: [mem 0x0000000000100000-0x000000007ffdbfff]    1.9 GB kernel usable RAM
[    0.000000] BIOS-e820: [mem 0x0000000100000000-0x00000001ffffffff] soft reserved
[    0.000000] NX (Execute Disable) protection: active
";
        let read: Vec<_> = boot_log(log).map(Result::unwrap).collect();
        let entry =
            |start, last: u64, kind| MapEntry { range: range(start, last - start + 1), kind };
        assert_eq!(
            read,
            [
                entry(0, 0x9_fbff, MapType::SystemRam),
                entry(0x9_fc00, 0x9_ffff, MapType::Reserved),
                entry(0x10_0000, 0x7ffd_bfff, MapType::SystemRam),
                entry(4 * GIB, 8 * GIB - 1, MapType::SoftReserved),
            ]
        );
        for cut in
            ["BIOS-e820: [mem 0x0", "BIOS-e820: [mem 0x0]", "BIOS-e820: [mem 0x1-0x0] usable"]
        {
            assert!(matches!(boot_log(cut).next(), Some(Err(MapError::Range { .. }))), "{cut}");
        }
    }

    #[test]
    fn memmap_of_a_command_line() {
        let line = "quiet memmap=exactmap memmap=640K@0,2047M@0x100000 \"memmap=4G!12g\" \
                    memmap=0x10000#0x7fff0000 memmap=64K$0x18690000 memmap=16G \
                    memmap=4G%8G-1+0xefffffff memmap=1M%1M memmap=1M%1M+2 mem=4G";
        let set =
            |start, bytes, kind| MemmapOption::Set(MapEntry { range: range(start, bytes), kind });
        let change =
            |start, bytes, from, to| MemmapOption::Change { range: range(start, bytes), from, to };
        let read: Vec<_> = memmap_options(line).map(Result::unwrap).collect();
        assert_eq!(
            read,
            [
                MemmapOption::Exact,
                set(0, 640 << 10, MapType::SystemRam),
                set(1 << 20, 2047 << 20, MapType::SystemRam),
                set(12 * GIB, 4 * GIB, MapType::PersistentLegacy),
                set(0x7fff_0000, 0x1_0000, MapType::AcpiTables),
                set(0x1869_0000, 64 << 10, MapType::Reserved),
                MemmapOption::Limit(PhysAddr(16 * GIB)),
                change(8 * GIB, 4 * GIB, Some(1), Some(0xefff_ffff)),
                change(1 << 20, 1 << 20, None, None),
                change(1 << 20, 1 << 20, None, Some(2)),
            ]
        );
    }

    #[test]
    fn memmap_that_means_nothing_is_refused() {
        let refused = |text| memmap_options(text).next().unwrap().unwrap_err();
        for text in ["memmap=", "memmap=G", "memmap=16E", "memmap=4G@", "memmap=4G@x"] {
            assert!(matches!(refused(text), MapError::Number { .. }), "{text}");
        }
        for text in ["memmap=0@4G", "memmap=4G@0xffffffffffffffff"] {
            assert!(matches!(refused(text), MapError::Range { .. }), "{text}");
        }
        for (text, rest) in [
            ("memmap=4G@8Gx", "x"),
            ("memmap=4GB@8G", "B@8G"),
            ("memmap=4Gä8G", "ä8G"),
            ("memmap=1M%1M+2-1", "-1"),
            ("memmap=1M%1M-", "-"),
        ] {
            assert!(matches!(refused(text), MapError::Rest { rest: r, .. } if r == rest), "{text}");
        }
    }

    #[test]
    fn units_are_those_of_memparse() {
        for (power, unit) in "KMGTPE".chars().enumerate() {
            for unit in [unit, unit.to_ascii_lowercase()] {
                let text = alloc::format!("memmap=3{unit}");
                let limit = PhysAddr(3 << (10 * (power + 1)));
                assert_eq!(memmap_options(&text).next(), Some(Ok(MemmapOption::Limit(limit))));
            }
        }
    }

    #[test]
    fn numbers_are_those_of_simple_strtoull() {
        assert_eq!(number_of("0x1fg"), Some((0x1f, "g")));
        assert_eq!(number_of("017"), Some((15, "")));
        assert_eq!(number_of("018"), Some((1, "8")));
        assert_eq!(number_of("0x"), Some((0, "x")));
        assert_eq!(number_of("0"), Some((0, "")));
        assert_eq!(number_of("18446744073709551615"), Some((u64::MAX, "")));
        assert_eq!(number_of("18446744073709551616"), None);
        assert_eq!(number_of("-1"), None);
    }
}
