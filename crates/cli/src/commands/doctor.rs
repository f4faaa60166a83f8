//! `memtide doctor`: what this machine lacks, why it matters, and the command that grants it.

use std::process::ExitCode;

use memtide_client::paths;
use memtide_store::kernel::Kernel;
use memtide_sys::{Uffd, UffdError};
use memtide_units::ByteSize;
use rustix::{
    fs::{Access, access},
    process::{Resource, getrlimit},
};
use serde::Serialize;

use crate::{arguments::Doctor, failure::Failure, library, output};

/// How a check came out.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Verdict {
    /// As it should be.
    Ok,
    /// `memtide run` works without it; something else does not.
    Limited,
    /// `memtide run` does not work without it.
    Missing,
}

/// One thing that was looked at.
#[derive(Clone, Debug, Serialize)]
struct Finding {
    name: &'static str,
    verdict: Verdict,
    /// What is there.
    found: String,
    /// What it is needed for.
    why: &'static str,
    /// The command that grants it, where something is missing.
    grant: Option<String>,
}

#[derive(Serialize)]
struct Findings {
    works: bool,
    checks: Vec<Finding>,
}

pub fn doctor(options: Doctor) -> Result<ExitCode, Failure> {
    let checks = look();
    let works = checks.iter().all(|finding| finding.verdict != Verdict::Missing);
    if options.json {
        output::json(&Findings { works, checks })?;
    } else {
        output::text(&text(&checks, works))?;
    }
    Ok(if works { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn look() -> Vec<Finding> {
    let kernel = Kernel::this_machine();
    vec![
        kernel_version(),
        userfaultfd(),
        userfaultfd_device(),
        preload_library(),
        runtime_directory(),
        memory(&kernel),
        map_count(),
        locked_memory(),
        huge_pages(&kernel),
        transparent_huge_pages(&kernel),
        numa_nodes(&kernel),
    ]
}

fn text(checks: &[Finding], works: bool) -> String {
    let mut text = String::new();
    for finding in checks {
        let verdict = match finding.verdict {
            Verdict::Ok => "ok",
            Verdict::Limited => "limited",
            Verdict::Missing => "MISSING",
        };
        text += &format!("{verdict:<8} {}: {}\n", finding.name, finding.found);
        if finding.verdict != Verdict::Ok {
            text += &format!("         needed for: {}\n", finding.why);
            if let Some(grant) = &finding.grant {
                text += &format!("         to grant it: {grant}\n");
            }
        }
    }
    text += if works {
        "\n`memtide run` works here.\n"
    } else {
        "\n`memtide run` does not work here.\n"
    };
    text
}

fn kernel_version() -> Finding {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let mut numbers =
        release.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    Finding {
        name: "kernel",
        verdict: if version >= (5, 19) { Verdict::Ok } else { Verdict::Missing },
        found: release,
        why: "live moves need write protection of shared memory: Linux 5.19 or later",
        grant: Some("install Linux 5.19 or later".to_owned()),
    }
}

/// The user's name, for commands.
fn user() -> String {
    std::env::var("USER").unwrap_or_else(|_| rustix::process::getuid().as_raw().to_string())
}

/// What grants an ordinary user the right to live moves.
fn grant_userfaultfd() -> String {
    format!(
        "setfacl -m u:{}:rw /dev/userfaultfd, or sysctl -w vm.unprivileged_userfaultfd=1 (as root)",
        user()
    )
}

fn userfaultfd() -> Finding {
    let (verdict, found, grant) = match Uffd::open(None) {
        Ok(_) => (Verdict::Ok, "usable".to_owned(), None),
        Err(error) => {
            let grant = matches!(error, UffdError::NotPermitted).then(grant_userfaultfd);
            (Verdict::Missing, error.to_string(), grant)
        }
    };
    let why = "live moves: writers wait while their memory moves";
    Finding { name: "userfaultfd", verdict, found, why, grant }
}

/// What keeps a program of this user from running in a pool whose daemon does not help.
pub fn missing_userfaultfd() -> Option<String> {
    let finding = userfaultfd();
    (finding.verdict != Verdict::Ok).then(|| {
        let grant = finding.grant.map(|grant| format!("; to grant it: {grant}"));
        format!(
            "userfaultfd, without which nothing can be moved live, is not usable: {}{}\nsee \
             `memtide doctor`; nothing was started",
            finding.found,
            grant.unwrap_or_default()
        )
    })
}

fn userfaultfd_device() -> Finding {
    let path = "/dev/userfaultfd";
    let granted = access(path, Access::READ_OK | Access::WRITE_OK);
    Finding {
        name: "userfaultfd device",
        verdict: if granted.is_ok() { Verdict::Ok } else { Verdict::Limited },
        found: match granted {
            Ok(()) => format!("{path} is accessible"),
            Err(errno) => format!("{path}: {}", std::io::Error::from(errno)),
        },
        why: "a daemon hands it to programs of other users, which then need no right of their own",
        grant: Some(format!("setfacl -m u:{}:rw {path}, or run the daemon as root", user())),
    }
}

fn preload_library() -> Finding {
    let (verdict, found) = match library::find() {
        Ok(path) => (Verdict::Ok, path.display().to_string()),
        Err(problem) => (Verdict::Missing, problem),
    };
    let why = "it goes into programs and manages their memory there";
    let grant = Some("cargo build --release -p memtide-preload".to_owned());
    Finding { name: "preload library", verdict, found, why, grant }
}

fn runtime_directory() -> Finding {
    let directory = paths::runtime_directory();
    let (verdict, found) = match paths::prepare_directory_of(&paths::default_socket()) {
        Ok(()) => (Verdict::Ok, directory.display().to_string()),
        Err(error) => (Verdict::Missing, crate::failure::chain(&error)),
    };
    let why = "the sockets of daemons are there";
    let grant = Some(format!("install -d -m 700 -o {} {}", user(), directory.display()));
    Finding { name: "runtime directory", verdict, found, why, grant }
}

fn memory(kernel: &Kernel) -> Finding {
    const ENOUGH: u64 = 256 << 20;
    let available = kernel.memory_available().unwrap_or(0);
    Finding {
        name: "memory",
        verdict: if available >= ENOUGH { Verdict::Ok } else { Verdict::Limited },
        found: format!("{} available", ByteSize(available)),
        why: "nodes are made of it",
        grant: Some("end other programs, or give smaller --near and --far".to_owned()),
    }
}

fn map_count() -> Finding {
    const USUAL: u64 = 65_530;
    let path = "/proc/sys/vm/max_map_count";
    let count: u64 =
        std::fs::read_to_string(path).ok().and_then(|n| n.trim().parse().ok()).unwrap_or(0);
    // Scattered as badly as can be, every 2 MiB are a mapping of their own; half is the program's.
    let reach = ByteSize(count / 2 * (2 << 20));
    Finding {
        name: "vm.max_map_count",
        verdict: if count >= USUAL { Verdict::Ok } else { Verdict::Limited },
        found: format!("{count}: enough for programs of {reach}, however scattered"),
        why: "scattered memory takes a mapping for every 2 MiB",
        grant: Some("sysctl -w vm.max_map_count=1048576".to_owned()),
    }
}

fn locked_memory() -> Finding {
    const USUAL: u64 = 8 << 20;
    let limit = getrlimit(Resource::Memlock).current;
    Finding {
        name: "RLIMIT_MEMLOCK",
        verdict: if limit.is_none_or(|bytes| bytes >= USUAL) {
            Verdict::Ok
        } else {
            Verdict::Limited
        },
        found: limit.map_or("unlimited".to_owned(), |bytes| ByteSize(bytes).to_string()),
        why: "programs that lock memory; what they lock is not moved",
        grant: Some(format!("prlimit --pid $$ --memlock={USUAL}")),
    }
}

fn huge_pages(kernel: &Kernel) -> Finding {
    let available = kernel.huge_pages().map(|pages| pages.available());
    Finding {
        name: "huge pages",
        verdict: if matches!(available, Ok(1..)) { Verdict::Ok } else { Verdict::Limited },
        found: match available {
            Ok(pages) => format!("{pages} of 2 MiB available"),
            Err(_) => "this kernel has none of 2 MiB".to_owned(),
        },
        why: "nodes with store hugetlb, which move faster",
        grant: Some("sysctl -w vm.nr_hugepages=1024 (2 GiB)".to_owned()),
    }
}

fn transparent_huge_pages(kernel: &Kernel) -> Finding {
    let setting = kernel.shmem_huge().unwrap_or_else(|_| "absent".to_owned());
    let usable = !matches!(setting.as_str(), "never" | "deny" | "absent");
    Finding {
        name: "transparent huge pages of shared memory",
        verdict: if usable { Verdict::Ok } else { Verdict::Limited },
        found: setting,
        why: "nodes with store memfd-thp",
        grant: Some("echo advise > /sys/kernel/mm/transparent_hugepage/shmem_enabled".to_owned()),
    }
}

fn numa_nodes(kernel: &Kernel) -> Finding {
    let nodes = kernel.numa_memory().unwrap_or_default();
    let with_memory = nodes.iter().filter(|(_, memory)| memory.managed.0 > 0);
    let each = with_memory.map(|(node, memory)| format!("{node} has {} to give", memory.usable));
    let found = each.collect::<Vec<_>>().join(", ");
    // Where the kernel knows no memory policies, nothing can be bound to one of them.
    let usable = memtide_sys::numa::allowed_nodes().is_ok() && !found.is_empty();
    Finding {
        name: "NUMA nodes",
        verdict: if usable { Verdict::Ok } else { Verdict::Limited },
        found: if usable { found } else { "this kernel has no memory policies".to_owned() },
        why: "nodes of a pool with numa, and memtide run --near node0",
        grant: (!usable).then(|| "a kernel with CONFIG_NUMA".to_owned()),
    }
}
