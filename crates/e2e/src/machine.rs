//! One test at a time, what a test needs, skipping loudly, seeds and lengths.

use std::{
    env,
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

pub use memtide_skip::{loud, skip};

/// The machine, lent to one test: the tests measure and fill memory, and would disturb each other
/// across threads and processes alike.
#[derive(Debug)]
pub struct Machine {
    _lock: File,
    directory: PathBuf,
    seed: u64,
}

/// Waits until no other test has the machine; makes a directory for this one.
///
/// # Panics
/// If the temporary directory cannot be written.
#[must_use]
pub fn machine() -> Machine {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let base = env::temp_dir();
    let lock = File::create(base.join("memtide-e2e.lock")).expect("creating the lock file");
    lock.lock().expect("waiting for the machine");
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let directory = base.join(format!("memtide-e2e-{}-{number}", std::process::id()));
    fs::create_dir_all(&directory).expect("creating a directory for the test");
    let seed =
        env::var("MEMTIDE_E2E_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(|| {
            SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |d| d.as_nanos() as u64 >> 10)
        });
    loud(&format!("seed: MEMTIDE_E2E_SEED={seed}"));
    Machine { _lock: lock, directory, seed }
}

impl Machine {
    /// A directory that goes away with the test.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The seed of this run; printed, and set by `MEMTIDE_E2E_SEED`.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.seed
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            loud(&format!("left for inspection: {}", self.directory.display()));
        } else {
            let _ = fs::remove_dir_all(&self.directory);
        }
    }
}

/// How long the middle part of a test lasts: `short` unless `MEMTIDE_E2E_SECONDS` says otherwise.
#[must_use]
pub fn seconds(short: u64) -> Duration {
    let asked = env::var("MEMTIDE_E2E_SECONDS").ok().and_then(|s| s.parse().ok());
    Duration::from_secs(asked.unwrap_or(short))
}

/// How many checksummed operations: `MEMTIDE_E2E_OPS`, if set.
#[must_use]
pub fn ops() -> Option<u64> {
    env::var("MEMTIDE_E2E_OPS").ok().and_then(|s| s.parse().ok())
}

/// Whether all these programs are installed. If not, says so where nobody can miss it, and panics
/// where nothing may be skipped.
///
/// Each entry is a command and the Debian package that has it.
///
/// # Panics
/// If something is missing and `MEMTIDE_NO_SKIP=1`.
#[must_use]
pub fn needs(programs: &[(&str, &str)]) -> bool {
    let missing: Vec<_> = programs.iter().filter(|(command, _)| which(command).is_none()).collect();
    let Some((command, package)) = missing.first() else { return true };
    skip(&format!("needs {command} (apt-get install {package})"))
}

/// Whether the test runs as root; skips loudly otherwise.
///
/// # Panics
/// Like [`needs`].
#[must_use]
pub fn needs_root() -> bool {
    rustix::process::geteuid().is_root() || skip("needs root")
}

/// The path of a command.
#[must_use]
pub fn which(command: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|directory| directory.join(command))
        .find(|candidate| candidate.is_file())
}

/// 2 MiB pages in the kernel's pool, for as long as this lives.
#[derive(Debug)]
pub struct HugePages {
    before: u64,
}

const HUGE_PAGES: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages";

fn huge_pages() -> u64 {
    fs::read_to_string(HUGE_PAGES).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

impl HugePages {
    /// Has at least so many; skips loudly where the kernel does not find them.
    ///
    /// # Panics
    /// Like [`needs`].
    #[must_use]
    pub fn reserve(count: u64) -> Option<Self> {
        let before = huge_pages();
        let _ = fs::write(HUGE_PAGES, (before + count).to_string());
        let reserved = Self { before };
        if huge_pages() < before + count {
            skip(&format!("needs {count} huge pages (echo {count} > {HUGE_PAGES})"));
            return None;
        }
        Some(reserved)
    }
}

impl Drop for HugePages {
    fn drop(&mut self) {
        let _ = fs::write(HUGE_PAGES, self.before.to_string());
    }
}

/// Transparent huge pages for shared memory that asks for them, for as long as this lives.
#[derive(Debug)]
pub struct SharedHugePages {
    before: String,
}

const SHARED_HUGE_PAGES: &str = "/sys/kernel/mm/transparent_hugepage/shmem_enabled";

impl SharedHugePages {
    /// Has them allowed; skips loudly where the kernel does not have them.
    ///
    /// # Panics
    /// Like [`needs`].
    #[must_use]
    pub fn allow() -> Option<Self> {
        let text = fs::read_to_string(SHARED_HUGE_PAGES).unwrap_or_default();
        let chosen = text.split('[').nth(1).and_then(|rest| rest.split(']').next());
        let Some(before) = chosen.map(str::to_owned) else {
            skip("needs transparent huge pages for shared memory (CONFIG_TRANSPARENT_HUGEPAGE)");
            return None;
        };
        let _ = fs::write(SHARED_HUGE_PAGES, "advise");
        Some(Self { before })
    }
}

impl Drop for SharedHugePages {
    fn drop(&mut self) {
        let _ = fs::write(SHARED_HUGE_PAGES, &self.before);
    }
}

/// Runs a tool to its end and returns its standard output.
///
/// # Panics
/// If it cannot be started or fails.
#[must_use]
pub fn output_of(command: &mut Command) -> String {
    let out = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(
        out.status.success(),
        "{command:?} ended with {}: {}",
        out.status,
        String::from_utf8_lossy(&out.stderr)
    );
    String::from_utf8_lossy(&out.stdout).into_owned()
}

/// Numbers that follow from a seed (splitmix64).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The sequence of this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`, which is not zero.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next_u64() % end
    }
}
