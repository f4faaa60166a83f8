//! `/proc/PID/smaps`: the mappings of a process, and what hinders their pages from moving.
//!
//! Each mapping has a header as in `/proc/PID/maps`, then lines `Key: N kB`, and the kernel's flags
//! in two letters each (`show_smap`, `show_smap_vma_flags` in fs/proc/task_mmu.c). Keys and flags
//! that this code does not know are skipped: kernels add some.

use super::numa_maps::shown;

/// Whether the kernel moves pages of a mapping at all (`vma_migratable` in mm/internal.h).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Migratable {
    /// It does.
    Yes,
    /// The memory of a device, mapped (`VM_IO`, `VM_PFNMAP`).
    No,
    /// The kernel's own, which it maps into every process (the vDSO): no memory of this one.
    Kernel,
}

/// One mapping.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mapping {
    /// Its first address.
    pub start: u64,
    /// One past its last address; above `start`.
    pub end: u64,
    /// Its file, or `[heap]`, `[stack]` and the like; empty for anonymous memory.
    pub name: String,
    /// Bytes of a page: 4 KiB, or the size of hugetlb pages.
    pub page_bytes: u64,
    /// Bytes that are in memory.
    pub resident: u64,
    /// Bytes of transparent huge pages, mapped as such.
    pub huge: u64,
    /// Bytes that are locked (mlock). They move like others: only swapping is barred.
    pub locked: u64,
    /// Whether its pages move at all.
    pub migratable: Migratable,
}

/// Why a text is no `smaps`.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SmapsError {
    /// A line belongs to no mapping.
    #[error("line {line} of smaps, {text:?}, comes before any mapping: expected START-END first")]
    NoMapping {
        /// Which line, from 1.
        line: usize,
        /// What stands there.
        text: String,
    },
    /// A mapping ends where it starts, or before.
    #[error(
        "line {line} of smaps has the range {start:#x}-{end:#x}: expected its end above its start"
    )]
    Range {
        /// Which line, from 1.
        line: usize,
        /// Its first address.
        start: u64,
        /// Its end.
        end: u64,
    },
    /// A size is none, or too large.
    #[error("line {line} of smaps has {text:?}: expected a number of kB below 2^54")]
    Size {
        /// Which line, from 1.
        line: usize,
        /// What stands there.
        text: String,
    },
    /// Pages of a size that no page has.
    #[error(
        "line {line} of smaps has pages of {bytes} bytes: expected a power of two from 4096 to 2^34"
    )]
    PageSize {
        /// Which line, from 1.
        line: usize,
        /// How large.
        bytes: u64,
    },
}

/// The mappings of an `smaps`, in its order.
///
/// # Errors
/// [`SmapsError`] for the first line that makes no sense.
pub fn parse(text: &[u8]) -> Result<Vec<Mapping>, SmapsError> {
    let text = String::from_utf8_lossy(text);
    let mut mappings: Vec<Mapping> = Vec::new();
    for (index, text) in text.lines().enumerate() {
        let line = index + 1;
        if let Some(mapping) = header(text, line)? {
            mappings.push(mapping);
            continue;
        }
        let Some(mapping) = mappings.last_mut() else {
            return Err(SmapsError::NoMapping { line, text: shown(text) });
        };
        take(mapping, text, line)?;
    }
    Ok(mappings)
}

/// No architecture has larger ones (16 GiB, on POWER).
const LARGEST_PAGE: u64 = 1 << 34;
/// Names of mappings whose pages are the kernel's own.
const KERNEL: [&str; 4] = ["[vdso]", "[vvar]", "[vvar_vclock]", "[vsyscall]"];

/// `START-END PERMS OFFSET DEVICE INODE     NAME`, or `None` for another line.
fn header(text: &str, line: usize) -> Result<Option<Mapping>, SmapsError> {
    let mut fields = text.splitn(6, ' ');
    let hexadecimal = |text| u64::from_str_radix(text, 16).ok();
    let range = fields.next().and_then(|range| range.split_once('-'));
    let range = range.and_then(|(start, end)| Some((hexadecimal(start)?, hexadecimal(end)?)));
    let Some((start, end)) = range else { return Ok(None) };
    if end <= start {
        return Err(SmapsError::Range { line, start, end });
    }
    let name = fields.nth(4).unwrap_or("").trim_start().to_owned();
    let migratable =
        if KERNEL.contains(&name.as_str()) { Migratable::Kernel } else { Migratable::Yes };
    let (resident, huge, locked) = (0, 0, 0);
    let mapping =
        Mapping { start, end, name, page_bytes: 4096, resident, huge, locked, migratable };
    Ok(Some(mapping))
}

fn take(mapping: &mut Mapping, text: &str, line: usize) -> Result<(), SmapsError> {
    let Some((key, value)) = text.split_once(':') else { return Ok(()) };
    let wrong = || SmapsError::Size { line, text: shown(text) };
    let bytes = || {
        let number = value.trim().strip_suffix(" kB").and_then(|kib| kib.trim().parse().ok());
        number.and_then(|kib: u64| kib.checked_mul(1024)).ok_or_else(wrong)
    };
    match key {
        // Pages of hugetlb are not in Rss.
        "Rss" | "Private_Hugetlb" | "Shared_Hugetlb" => {
            mapping.resident = mapping.resident.checked_add(bytes()?).ok_or_else(wrong)?;
        }
        "Locked" => mapping.locked = bytes()?,
        "AnonHugePages" | "ShmemPmdMapped" | "FilePmdMapped" => {
            mapping.huge = mapping.huge.checked_add(bytes()?).ok_or_else(wrong)?;
        }
        "KernelPageSize" => {
            let bytes = bytes()?;
            if !(4096..=LARGEST_PAGE).contains(&bytes) || !bytes.is_power_of_two() {
                return Err(SmapsError::PageSize { line, bytes });
            }
            mapping.page_bytes = bytes;
        }
        "VmFlags" if mapping.migratable == Migratable::Yes && is_device(value) => {
            mapping.migratable = Migratable::No;
        }
        _ => {}
    }
    Ok(())
}

/// `VM_IO` or `VM_PFNMAP`.
fn is_device(flags: &str) -> bool {
    flags.split_ascii_whitespace().any(|flag| matches!(flag, "io" | "pf"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::processes::spoil::spoilt;

    const REAL: &str = "\
55eb57b19000-55eb57b3a000 rw-p 00000000 00:00 0                          [heap]
Size:                132 kB
KernelPageSize:        4 kB
Rss:                  16 kB
AnonHugePages:         0 kB
Locked:                8 kB
THPeligible:           0
VmFlags: rd wr mr mw me ac sd
7f0000000000-7f0000400000 rw-s 00000000 00:0f 12                         /anon_hugepage (deleted)
Size:               4096 kB
KernelPageSize:     2048 kB
Rss:                   0 kB
ShmemPmdMapped:     2048 kB
Shared_Hugetlb:     2048 kB
Private_Hugetlb:    2048 kB
VmFlags: rd wr sh mr mw me ms ht
7f0000500000-7f0000501000 rw-s fe000000 00:05 7                          /dev/mem
VmFlags: rd wr sh mr mw me ms io pf dd
7ffd30bde000-7ffd30be0000 r-xp 00000000 00:00 0                          [vdso]
VmFlags: rd ex mr mw me de
";

    #[test]
    fn lines_of_the_kernel_are_understood() {
        let mappings = parse(REAL.as_bytes()).unwrap();
        let names: Vec<&str> = mappings.iter().map(|mapping| mapping.name.as_str()).collect();
        assert_eq!(names, ["[heap]", "/anon_hugepage (deleted)", "/dev/mem", "[vdso]"]);
        let heap = &mappings[0];
        assert_eq!((heap.start, heap.end), (0x55eb_57b1_9000, 0x55eb_57b3_a000));
        assert_eq!((heap.resident, heap.locked, heap.page_bytes), (16 << 10, 8 << 10, 4096));
        assert_eq!((mappings[1].page_bytes, mappings[1].huge), (2 << 20, 2 << 20));
        assert_eq!(mappings[1].resident, 4 << 20);
        let migratable: Vec<_> = mappings.iter().map(|mapping| mapping.migratable).collect();
        use Migratable::{Kernel, No, Yes};
        assert_eq!(migratable, [Yes, Yes, No, Kernel]);
    }

    #[test]
    fn this_process_has_mappings() {
        let mappings = parse(&std::fs::read("/proc/self/smaps").unwrap()).unwrap();
        assert!(mappings.iter().any(|mapping| mapping.name == "[stack]" && mapping.resident > 0));
        assert!(mappings.windows(2).all(|pair| pair[0].end <= pair[1].start));
    }

    #[test]
    fn lines_that_make_no_sense_are_named() {
        for (text, error) in [
            (
                "Rss: 4 kB",
                "line 1 of smaps, \"Rss: 4 kB\", comes before any mapping: expected START-END first",
            ),
            (
                "2000-1000 r",
                "line 1 of smaps has the range 0x2000-0x1000: expected its end above its start",
            ),
            (
                "1-2 r\nRss: x kB",
                "line 2 of smaps has \"Rss: x kB\": expected a number of kB below 2^54",
            ),
            (
                "1-2 r\nRss: 18014398509481984 kB",
                "line 2 of smaps has \"Rss: 18014398509481984 kB\": expected a number of kB below 2^54",
            ),
            (
                "1-2 r\nKernelPageSize: 5 kB",
                "line 2 of smaps has pages of 5120 bytes: expected a power of two from 4096 to 2^34",
            ),
        ] {
            assert_eq!(parse(text.as_bytes()).unwrap_err().to_string(), error);
        }
    }

    #[test]
    fn spoilt_texts_are_refused_or_understood_never_worse() {
        for seed in 0..2000 {
            if let Ok(mappings) = parse(&spoilt(REAL, seed)) {
                assert!(mappings.iter().all(|mapping| mapping.start < mapping.end), "{seed}");
            }
        }
    }
}
