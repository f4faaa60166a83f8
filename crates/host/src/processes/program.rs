//! A process that is looked at: what /proc says of it, or why it may not be told.
//!
//! A number names a process only as long as it lives: together with the time of its start it names
//! one for ever ([`Program::is_there`]). Whatever is read may be gone a moment later; that is
//! no error but an end.
//!
//! Looking at the memory of another process needs the right to trace it: the same user, and a
//! process that may be dumped; or `CAP_SYS_PTRACE` (`PTRACE_MODE_READ`, ptrace(2)).

use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::PathBuf,
};

use memtide_sys::numa::NodeSet;
use memtide_units::ByteSize;

use super::{
    held::{Holders, IO_URING},
    mappings::{self, Mapping, SmapsError},
    nodes::{NodeListError, parse_list},
    numa_maps::{self, NumaMap, NumaMapsError},
    pagemap::Pagemap,
};
use crate::Root;

/// Files of a process are read up to this many bytes: a million mappings.
const MOST: u64 = 1 << 30;
/// Descriptors of a process are looked at up to this many.
const DESCRIPTORS_MOST: usize = 1 << 20;

/// Why a process cannot be looked at.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProgramError {
    /// There is none.
    #[error("there is no process {pid}")]
    NoSuchProcess {
        /// Its number.
        pid: u32,
    },
    /// It is not ours to look at.
    #[error(
        "process {pid} ({name}) of user {owner} may not be looked at: expected the same user and a \
         process that may be dumped, or CAP_SYS_PTRACE; run as root"
    )]
    NotPermitted {
        /// Its number.
        pid: u32,
        /// Its name.
        name: String,
        /// Who owns its files in /proc: root's are those of a process that may not be dumped.
        owner: u32,
    },
    /// It has none: a thread of the kernel, or a process that has ended and waits for its parent.
    #[error("process {pid} ({name}) has no memory of its own")]
    NoMemory {
        /// Its number.
        pid: u32,
        /// Its name.
        name: String,
    },
    /// The kernel has no such file.
    #[error(
        "{} is missing: expected a kernel with NUMA and CONFIG_PROC_PAGE_MONITOR",
        path.display()
    )]
    NoSuchFile {
        /// Which file.
        path: PathBuf,
    },
    /// A file could not be read.
    #[error("cannot read {}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is longer than any kernel makes it.
    #[error("{} is longer than {MOST} bytes", path.display())]
    TooLong {
        /// Which file.
        path: PathBuf,
    },
    /// Its `numa_maps` makes no sense.
    #[error("/proc/{pid}/numa_maps")]
    NumaMaps {
        /// Its number.
        pid: u32,
        /// What is wrong.
        source: NumaMapsError,
    },
    /// Its `smaps` makes no sense.
    #[error("/proc/{pid}/smaps")]
    Smaps {
        /// Its number.
        pid: u32,
        /// What is wrong.
        source: SmapsError,
    },
    /// Its list of nodes makes no sense.
    #[error("Mems_allowed_list of /proc/{pid}/status")]
    Allowed {
        /// Its number.
        pid: u32,
        /// What is wrong.
        source: NodeListError,
    },
}

/// A process, named for ever.
#[derive(Debug, Clone)]
pub struct Program {
    root: Root,
    pid: u32,
    name: String,
    started: u64,
}

/// What `/proc/PID/stat` says of a process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Stat {
    parent: u32,
    started: u64,
}

impl Program {
    /// The process that has this number now.
    ///
    /// # Errors
    /// [`ProgramError::NoSuchProcess`], [`ProgramError::Io`].
    pub fn find(root: &Root, pid: u32) -> Result<Self, ProgramError> {
        let program = Self { root: root.clone(), pid, name: String::new(), started: 0 };
        let gone = || ProgramError::NoSuchProcess { pid };
        let started = program.stat()?.ok_or_else(gone)?.started;
        // A program gives itself its name, which ends on somebody's terminal.
        let name = String::from_utf8_lossy(&program.read("comm")?.unwrap_or_default())
            .trim_end_matches('\n')
            .replace(char::is_control, "?");
        Ok(Self { name, started, ..program })
    }

    /// Its number.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The name that it has given itself, or that of its file.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it still lives: its number may be another's by now.
    #[must_use]
    pub fn is_there(&self) -> bool {
        matches!(self.stat(), Ok(Some(stat)) if stat.started == self.started)
    }

    /// Its pages on each node, by mapping; none when it has ended.
    ///
    /// # Errors
    /// [`ProgramError`].
    pub fn numa_maps(&self) -> Result<Vec<NumaMap>, ProgramError> {
        let text = self.read_or_missing("numa_maps")?;
        numa_maps::parse(&text).map_err(|source| ProgramError::NumaMaps { pid: self.pid, source })
    }

    /// Its mappings; at least one.
    ///
    /// # Errors
    /// [`ProgramError::NoMemory`] when there is none, and the others.
    pub fn mappings(&self) -> Result<Vec<Mapping>, ProgramError> {
        let text = self.read_or_missing("smaps")?;
        let mappings = mappings::parse(&text)
            .map_err(|source| ProgramError::Smaps { pid: self.pid, source })?;
        if mappings.is_empty() {
            return Err(ProgramError::NoMemory { pid: self.pid, name: self.name.clone() });
        }
        Ok(mappings)
    }

    /// Its page map.
    ///
    /// # Errors
    /// [`ProgramError`].
    pub fn pagemap(&self) -> Result<Pagemap, ProgramError> {
        match self.open("pagemap") {
            Ok(file) => Ok(Pagemap::of(file)),
            Err(error) if is_gone(&error) => Err(ProgramError::NoSuchProcess { pid: self.pid }),
            Err(error) => Err(self.failed(self.path("pagemap"), error)),
        }
    }

    /// The nodes that its cpuset lets it have memory of, where the kernel knows cpusets.
    ///
    /// # Errors
    /// [`ProgramError`].
    pub fn allowed_nodes(&self) -> Result<Option<NodeSet>, ProgramError> {
        let status = self.read("status")?.unwrap_or_default();
        let status = String::from_utf8_lossy(&status);
        let list = status.lines().find_map(|line| line.strip_prefix("Mems_allowed_list:"));
        list.map(|list| parse_list(list.trim()))
            .transpose()
            .map_err(|source| ProgramError::Allowed { pid: self.pid, source })
    }

    /// Bytes that are pinned for long by drivers and io_urings, as far as these tell (`VmPin`).
    ///
    /// # Errors
    /// [`ProgramError`].
    pub fn pinned(&self) -> Result<ByteSize, ProgramError> {
        let status = self.read("status")?.unwrap_or_default();
        let status = String::from_utf8_lossy(&status);
        let pinned = status.lines().find_map(|line| line.strip_prefix("VmPin:"));
        let kib = pinned.and_then(|size| size.trim().strip_suffix(" kB")?.parse().ok());
        Ok(ByteSize(kib.map_or(0, |kib: u64| kib.saturating_mul(1024))))
    }

    /// What it has open that may hold its pages. What cannot be read tells nothing.
    #[must_use]
    pub fn holders(&self) -> Holders {
        let mut holders = Holders::default();
        let descriptors = self.root.names(format!("proc/{}/fd", self.pid)).unwrap_or_default();
        for descriptor in descriptors.iter().take(DESCRIPTORS_MOST) {
            let link = format!("proc/{}/fd/{descriptor}", self.pid);
            let Ok(target) = self.root.target(link) else { continue };
            let target = target.to_string_lossy();
            if target == IO_URING {
                let info = self.read(&format!("fdinfo/{descriptor}")).ok().flatten();
                holders.add_io_uring(&String::from_utf8_lossy(&info.unwrap_or_default()));
            } else {
                holders.add_descriptor(&target);
            }
        }
        holders
    }

    fn stat(&self) -> Result<Option<Stat>, ProgramError> {
        Ok(self.read("stat")?.and_then(|text| stat(&text)))
    }

    fn open(&self, file: &str) -> io::Result<File> {
        self.root.open(format!("proc/{}/{file}", self.pid))
    }

    fn path(&self, file: &str) -> PathBuf {
        self.root.at(format!("proc/{}/{file}", self.pid))
    }

    /// A file of a process that is there, empty once it has ended.
    fn read_or_missing(&self, file: &str) -> Result<Vec<u8>, ProgramError> {
        match self.read(file)? {
            Some(bytes) => Ok(bytes),
            None if self.is_there() => Err(ProgramError::NoSuchFile { path: self.path(file) }),
            None => Err(ProgramError::NoSuchProcess { pid: self.pid }),
        }
    }

    /// A file of it, or `None` if it has ended or there is no such file.
    fn read(&self, file: &str) -> Result<Option<Vec<u8>>, ProgramError> {
        let path = self.path(file);
        let mut bytes = Vec::new();
        let read = self.open(file).and_then(|file| file.take(MOST + 1).read_to_end(&mut bytes));
        match read {
            Ok(_) if bytes.len() as u64 > MOST => Err(ProgramError::TooLong { path }),
            Ok(_) => Ok(Some(bytes)),
            Err(error) if is_gone(&error) => Ok(None),
            Err(error) => Err(self.failed(path, error)),
        }
    }

    fn failed(&self, path: PathBuf, source: io::Error) -> ProgramError {
        let owner = std::fs::metadata(self.path("")).map_or(0, |folder| folder.uid());
        match source.kind() {
            io::ErrorKind::PermissionDenied => {
                ProgramError::NotPermitted { pid: self.pid, name: self.name.clone(), owner }
            }
            _ => ProgramError::Io { path, source },
        }
    }
}

/// The processes of a family: some, what they started, and what that started. Whoever lost its
/// parent belongs to it only if it was seen before: so give those back that were found last time.
#[must_use]
pub fn family(root: &Root, known: &BTreeSet<u32>) -> BTreeSet<u32> {
    let names = root.names("proc").unwrap_or_default();
    let pids = names.iter().filter_map(|name| name.parse::<u32>().ok());
    let parents: Vec<(u32, u32)> = pids
        .filter_map(|pid| {
            let text = root.bytes(format!("proc/{pid}/stat")).ok()??;
            Some((pid, stat(&text)?.parent))
        })
        .collect();
    let mut members: BTreeSet<u32> =
        parents.iter().map(|&(pid, _)| pid).filter(|pid| known.contains(pid)).collect();
    // Each round finds one generation; a captured tree may have circles, which end it as well.
    loop {
        let new =
            |&&(pid, parent): &&(u32, u32)| members.contains(&parent) && !members.contains(&pid);
        let children: Vec<u32> = parents.iter().filter(new).map(|&(pid, _)| pid).collect();
        if children.is_empty() {
            return members;
        }
        members.extend(children);
    }
}

/// Fields 4 and 22 of proc_pid_stat(5). The name in parentheses may itself hold parentheses and
/// blanks: count from the last one, behind which stands field 3. A zombie has given up its memory.
fn stat(text: &[u8]) -> Option<Stat> {
    let after = text.iter().rposition(|&byte| byte == b')')? + 1;
    let fields = std::str::from_utf8(&text[after..]).ok()?;
    let mut fields = fields.split_ascii_whitespace();
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    let started = fields.nth(17)?.parse().ok()?;
    (!matches!(state, "Z" | "X")).then_some(Stat { parent, started })
}

/// The process has ended: its folder is gone, or there is no such process any more.
fn is_gone(error: &io::Error) -> bool {
    const ESRCH: i32 = 3;
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(ESRCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(folder: &tempfile::TempDir, path: &str, text: &str) {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn stat_line(pid: u32, parent: u32) -> String {
        let zeros = "0 ".repeat(16);
        format!("{pid} (a (b) c) S {parent} 1 {zeros}4711 0 0\n")
    }

    #[test]
    fn the_line_of_a_process_is_read_behind_its_name() {
        let found = stat(stat_line(7, 3).as_bytes()).unwrap();
        assert_eq!(found, Stat { parent: 3, started: 4711 });
        for text in ["", ")", "7 (x) Z 3 1", "7 (x) S", "7 (x) S x 1 2"] {
            assert_eq!(stat(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn this_process_is_there_and_can_be_looked_at() {
        let me = Program::find(&Root::live(), std::process::id()).unwrap();
        assert!(me.is_there());
        assert!(me.mappings().unwrap().iter().any(|mapping| mapping.name == "[stack]"));
        assert!(!me.numa_maps().unwrap().is_empty());
        assert!(!me.allowed_nodes().unwrap().unwrap().is_empty());
        assert!(me.pagemap().is_ok());
        let later = Program { started: me.started + 1, ..me };
        assert!(!later.is_there());
    }

    #[test]
    fn a_pipe_of_this_process_may_hold_its_pages() {
        let (_reader, _writer) = io::pipe().unwrap();
        let me = Program::find(&Root::live(), std::process::id()).unwrap();
        assert_ne!(me.holders().of(0, 4096), super::super::held::Holder::Unknown);
    }

    #[test]
    fn who_is_not_there_is_said_not_to_be() {
        let error = Program::find(&Root::live(), u32::MAX).unwrap_err();
        assert_eq!(error.to_string(), "there is no process 4294967295");
        // Ended, and waiting for its parent.
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let gone = (0..2000).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(2));
            Program::find(&Root::live(), child.id()).is_err()
        });
        child.wait().unwrap();
        assert!(gone);
    }

    #[test]
    fn threads_of_the_kernel_have_no_memory() {
        // kthreadd is process 2, where one sees it at all.
        let Ok(program) = Program::find(&Root::live(), 2) else { return };
        if program.name() == "kthreadd" {
            let error = program.mappings().unwrap_err().to_string();
            assert_eq!(error, "process 2 (kthreadd) has no memory of its own");
        }
    }

    #[test]
    fn a_family_is_found_and_remembered() {
        let folder = tempfile::tempdir().unwrap();
        for (pid, parent) in [(1, 0), (10, 1), (11, 10), (12, 11), (20, 1), (30, 31), (31, 30)] {
            write(&folder, &format!("proc/{pid}/stat"), &stat_line(pid, parent));
        }
        let root = Root::new(folder.path());
        let of = |pids: &[u32]| family(&root, &pids.iter().copied().collect());
        assert_eq!(of(&[10]), BTreeSet::from([10, 11, 12]));
        // 20 lost its parent, but was seen before; 99 has ended.
        assert_eq!(of(&[11, 20, 99]), BTreeSet::from([11, 12, 20]));
        assert_eq!(of(&[30]), BTreeSet::from([30, 31]));
    }

    #[test]
    fn a_captured_process_is_read_like_a_live_one() {
        let folder = tempfile::tempdir().unwrap();
        write(&folder, "proc/7/stat", &stat_line(7, 1));
        write(&folder, "proc/7/comm", "redis-server\n");
        let status = "Name:\tx\nVmPin:\t    64 kB\nMems_allowed_list:\t0-1\n";
        write(&folder, "proc/7/status", status);
        write(&folder, "proc/7/numa_maps", "1000 default heap N1=3 kernelpagesize_kB=4\n");
        let program = Program::find(&Root::new(folder.path()), 7).unwrap();
        assert_eq!(program.name(), "redis-server");
        assert_eq!(program.allowed_nodes().unwrap().unwrap().to_string(), "0-1");
        assert_eq!(program.pinned().unwrap(), ByteSize(64 << 10));
        assert_eq!(program.numa_maps().unwrap().len(), 1);
        let error = program.mappings().unwrap_err();
        assert!(matches!(error, ProgramError::NoSuchFile { .. }), "{error}");
        write(&folder, "proc/7/comm", "\u{1b}[2Jx\ny\n");
        assert_eq!(Program::find(&Root::new(folder.path()), 7).unwrap().name(), "?[2Jx?y");
        write(&folder, "proc/7/status", "Mems_allowed_list:\tx\n");
        assert!(matches!(program.allowed_nodes(), Err(ProgramError::Allowed { .. })));
    }
}
