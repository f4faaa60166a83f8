//! What `valgrind --tool=lackey --trace-mem=yes` writes.
//!
//! A line is an instruction (`I  04015d40,3`), a load (` L 1ffefff3f8,8`), a store (` S …`) or
//! both at once (` M …`): an address in hexadecimal digits, and a size in decimal ones. Valgrind
//! puts lines of its own between them, which begin with `==` or `--` and a process's number. All
//! of it goes to the standard error output, or to `--log-file`.

use core::num::NonZeroU32;
use std::io::{BufRead, Read};

use super::{Access, TraceError};

/// Bytes of a line at most.
const LINE_MAX: u64 = 256;
/// The most bytes that one access touches: the state that XSAVE writes, and some.
pub const BYTES_MAX: u32 = 1 << 14;

/// An access of a program.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Touch {
    /// Where.
    pub address: u64,
    /// How many bytes from there.
    pub bytes: NonZeroU32,
    /// What was done.
    pub access: Access,
}

/// Whether reading instructions counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Instructions {
    /// They are reads.
    Count,
    /// They are left out: text pages are few, and hot.
    Skip,
}

/// What is wrong with a line.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Wrong {
    /// It is too long.
    #[error("more than {LINE_MAX} bytes")]
    Long,
    /// It begins with nothing that lackey or valgrind write.
    #[error("begins otherwise; expected \"I  \", \" L \", \" S \", \" M \", \"==\" or \"--\"")]
    Kind,
    /// There is no comma.
    #[error("no comma; expected an address, a comma and a size")]
    Comma,
    /// The address is none.
    #[error("an address that is none; expected 1 to 16 hexadecimal digits")]
    Address,
    /// The size is none.
    #[error("a size that is none; expected 1 to {BYTES_MAX}")]
    Size,
    /// It ends beyond the addresses.
    #[error("reaches beyond the last address")]
    Beyond,
}

/// Reads what lackey writes, access by access. After a mistake it gives nothing more.
#[derive(Debug)]
pub struct Reader<R> {
    from: R,
    instructions: Instructions,
    line: u64,
    offset: u64,
    text: Vec<u8>,
    over: bool,
}

impl<R: BufRead> Reader<R> {
    /// Reads from its first line on.
    pub const fn new(from: R, instructions: Instructions) -> Self {
        Self { from, instructions, line: 0, offset: 0, text: Vec::new(), over: false }
    }

    fn touch(&mut self) -> Result<Option<Touch>, TraceError> {
        loop {
            self.text.clear();
            let mut limited = (&mut self.from).take(LINE_MAX + 1);
            let read = limited.read_until(b'\n', &mut self.text);
            let read = read.map_err(|error| TraceError::Io { offset: self.offset, error })?;
            if read == 0 {
                return Ok(None);
            }
            self.offset += read as u64;
            self.line += 1;
            let line = self.line;
            let touch = parse(&self.text, self.instructions);
            if let Some(touch) = touch.map_err(|problem| TraceError::Line { line, problem })? {
                return Ok(Some(touch));
            }
        }
    }
}

impl<R: BufRead> Iterator for Reader<R> {
    type Item = Result<Touch, TraceError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.over {
            return None;
        }
        let touch = self.touch();
        self.over = !matches!(touch, Ok(Some(_)));
        touch.transpose()
    }
}

/// The access of a line; none if it is not to be told.
fn parse(line: &[u8], instructions: Instructions) -> Result<Option<Touch>, Wrong> {
    if line.len() as u64 > LINE_MAX {
        return Err(Wrong::Long);
    }
    let line = line.trim_ascii_end();
    if line.is_empty() || line.starts_with(b"==") || line.starts_with(b"--") {
        return Ok(None);
    }
    let (kind, rest) = line.split_at_checked(3).ok_or(Wrong::Kind)?;
    let access = match kind {
        b"I  " | b" L " => Access::Read,
        b" S " | b" M " => Access::Write,
        _ => return Err(Wrong::Kind),
    };
    let comma = rest.iter().position(|&byte| byte == b',').ok_or(Wrong::Comma)?;
    let address = number(&rest[..comma], 16).ok_or(Wrong::Address)?;
    let bytes = number(&rest[comma + 1..], 10).and_then(|bytes| u32::try_from(bytes).ok());
    let bytes = bytes.filter(|&bytes| bytes <= BYTES_MAX).and_then(NonZeroU32::new);
    let bytes = bytes.ok_or(Wrong::Size)?;
    address.checked_add(u64::from(bytes.get() - 1)).ok_or(Wrong::Beyond)?;
    let skip = kind == b"I  " && instructions == Instructions::Skip;
    Ok((!skip).then_some(Touch { address, bytes, access }))
}

/// A number of nothing but digits, 16 of them at most.
fn number(digits: &[u8], radix: u32) -> Option<u64> {
    if digits.is_empty() || digits.len() > 16 {
        return None;
    }
    digits.iter().try_fold(0, |sum, &digit| {
        let digit = char::from(digit).to_digit(radix)?;
        Some(sum * u64::from(radix) + u64::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use memtide_units::Random;

    use super::*;
    use crate::tiering::trace::{Recorded, cache::Cache};

    const TEXT: &str = "==12== Lackey, an example Valgrind tool\n\
        I  04015d40,3\n L 1ffefff3f8,8\n S 1ffefff3f0,16\n M 0421c7cc,4\n==12== \n";

    fn touch(address: u64, bytes: u32, access: Access) -> Touch {
        Touch { address, bytes: NonZeroU32::new(bytes).unwrap(), access }
    }

    #[test]
    fn lines_are_read_as_lackey_writes_them() {
        let read = |instructions| -> Vec<Touch> {
            Reader::new(TEXT.as_bytes(), instructions).map(Result::unwrap).collect()
        };
        let data = [
            touch(0x1f_feff_f3f8, 8, Access::Read),
            touch(0x1f_feff_f3f0, 16, Access::Write),
            touch(0x0421_c7cc, 4, Access::Write),
        ];
        assert_eq!(read(Instructions::Skip), data);
        assert_eq!(read(Instructions::Count)[0], touch(0x0401_5d40, 3, Access::Read));
        assert_eq!(read(Instructions::Count)[1..], data);
    }

    #[test]
    fn mistakes_are_named_with_their_line() {
        let long = format!(" L {}\n", "0".repeat(300));
        for (line, wrong) in [
            (" X 1,8", Wrong::Kind),
            ("L 1,8", Wrong::Kind),
            (" L", Wrong::Kind),
            (" L 18", Wrong::Comma),
            (" L ,8", Wrong::Address),
            (" L +1,8", Wrong::Address),
            (" L 10000000000000000,8", Wrong::Address),
            (" L 1,", Wrong::Size),
            (" L 1,0", Wrong::Size),
            (" L 1,16385", Wrong::Size),
            (" L 1,8,9", Wrong::Size),
            (" L ffffffffffffffff,2", Wrong::Beyond),
            (long.as_str(), Wrong::Long),
        ] {
            let text = format!("{TEXT}{line}\n L 1,8\n");
            let mut reader = Reader::new(text.as_bytes(), Instructions::Skip);
            match reader.find_map(Result::err) {
                Some(TraceError::Line { line: 7, problem }) => assert_eq!(problem, wrong, "{line}"),
                other => panic!("{line}: {other:?}"),
            }
            assert!(reader.next().is_none());
        }
    }

    #[test]
    fn hostile_text_does_no_harm() {
        let mut random = Random::new(5);
        for _ in 0..20_000 {
            let mut bytes = TEXT.as_bytes().to_vec();
            for _ in 0..=random.below(4) {
                let at = random.below(bytes.len() as u64) as usize;
                bytes[at] = b" LSMI=-,0f9\n\xff"[random.below(13) as usize];
            }
            let reader = Reader::new(&bytes[..], Instructions::Count);
            assert!(reader.take_while(Result::is_ok).count() <= 6);
        }
    }

    #[test]
    fn an_access_over_a_border_touches_both_pages() {
        let text = " S 1ffc,8\n L 3000,1\n L 3008,8\n";
        let touches = Reader::new(text.as_bytes(), Instructions::Skip);
        let records: Vec<_> = Cache::usual().misses(touches, 12).map(Result::unwrap).collect();
        let pages: Vec<_> = records.iter().map(|record| (record.page, record.access)).collect();
        // The last is served by the cache.
        assert_eq!(pages, [(1, Access::Write), (2, Access::Write), (3, Access::Read)]);
    }

    /// The real tool on a real program.
    #[test]
    fn what_the_real_tool_writes_is_read() {
        let command = Command::new("valgrind")
            .args(["--tool=lackey", "--trace-mem=yes", "--basic-counts=no", "/bin/true"])
            .output();
        let output = match command {
            Ok(output) if output.status.success() => output,
            Ok(output) => panic!("valgrind: {}", String::from_utf8_lossy(&output.stderr)),
            Err(error) => {
                memtide_skip::skip(&format!("needs valgrind: {error}"));
                return;
            }
        };
        let reader = Reader::new(&output.stderr[..], Instructions::Count);
        let touches: Vec<Touch> = reader.map(Result::unwrap).collect();
        assert!(touches.len() > 10_000, "{} accesses", touches.len());
        assert!(touches.iter().any(|touch| touch.access == Access::Write));
        let recorded = Recorded::read(&output.stderr[..], 12).unwrap();
        // The dynamic linker alone touches dozens of pages; the cache leaves few lines of each.
        assert!((20..2000).contains(&recorded.pages()), "{} pages", recorded.pages());
        let lines = recorded.visits().len();
        assert!(lines >= recorded.pages() as usize && lines * 5 < touches.len(), "{lines}");
    }
}
