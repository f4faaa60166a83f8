//! The mmap and malloc families behave the same without the library, under it, and (with the
//! feature `stand-in`) on managed memory of every sort.
//!
//! The programs in `programs/` check themselves; each can be run by hand, with the name of one
//! test as its argument. They need a C and a C++ compiler; without one the tests skip, loudly.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

/// How a program is run.
#[derive(Clone, Copy, Debug)]
enum Under {
    /// Nothing: the programs are right about the kernel and libc.
    Bare,
    /// The library, which manages nothing.
    Passive,
    /// The library, with managed memory of this sort.
    #[cfg(feature = "stand-in")]
    StandIn(&'static str),
}

/// The directory that cargo puts the library and the tests into.
fn target() -> PathBuf {
    let test = env::current_exe().expect("a test has a path");
    test.parent().expect("tests lie in a directory").to_owned()
}

fn library() -> PathBuf {
    let library = target().join("libmemtide_preload.so");
    assert!(library.exists(), "{} is missing", library.display());
    library
}

fn preloaded(program: impl AsRef<std::ffi::OsStr>, under: Under) -> Command {
    let mut command = Command::new(program);
    for name in ["MEMTIDE_SOCKET", "MEMTIDE_REQUIRED", "MEMTIDE_STAND_IN"] {
        command.env_remove(name);
    }
    if !matches!(under, Under::Bare) {
        command.env("LD_PRELOAD", library());
    }
    #[cfg(feature = "stand-in")]
    if let Under::StandIn(how) = under {
        command.env("MEMTIDE_STAND_IN", how);
    }
    command
}

/// Compiles a program; `None`, said loudly, where there is no compiler.
fn compiled(source: &str) -> Option<PathBuf> {
    let (compiler, flags): (&str, &[&str]) = match source.ends_with(".cc") {
        true => ("c++", &["-std=c++17"]),
        false => ("cc", &["-std=gnu11", "-pthread"]),
    };
    let source_path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs").join(source);
    let name = format!("{source}-{}-{:?}", std::process::id(), std::thread::current().id());
    let program = target().join(name.replace(|c: char| !c.is_ascii_alphanumeric(), "_"));
    let mut command = Command::new(compiler);
    // A compiler that knows malloc and free leaves out what is written before a free, which is what
    // must not be found again.
    command.args(["-O1", "-g", "-fno-builtin", "-o"]).arg(&program);
    command.args(flags).arg(&source_path).arg("-ldl");
    match command.status() {
        Ok(status) => assert!(status.success(), "{command:?}"),
        Err(error) => {
            memtide_skip::skip(&format!("needs {compiler} for {source}: {error}"));
            return None;
        }
    }
    Some(program)
}

/// Runs all of a program's tests.
fn conforms(source: &str, under: Under) {
    conforms_but(source, under, None);
}

/// Runs all of a program's tests but the one called `except`.
fn conforms_but(source: &str, under: Under, except: Option<&str>) {
    passes(source, under, except.map(|name| format!("-{name}")));
}

/// Runs a program, with the argument that says which of its tests.
fn passes(source: &str, under: Under, which: Option<String>) {
    let Some(program) = compiled(source) else { return };
    let mut command = preloaded(&program, under);
    command.args(which);
    let output = command.output().expect("the program runs");
    std::fs::remove_file(&program).expect("the program can be removed");
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{source} {under:?}: {}\n{text}{errors}", output.status);
    assert!(text.lines().any(|line| line.starts_with("ok ")), "{text}");
    // The allocator has nothing to say to a program's user.
    assert!(!errors.contains("<jemalloc>"), "{source} {under:?}: {errors}");
}

/// Runs a program of the system, with the same output as without the library.
fn same_output(program: &str, arguments: &[&str], under: Under) {
    let run = |under| preloaded(program, under).args(arguments).output();
    match (run(Under::Bare), run(under)) {
        (Ok(bare), Ok(output)) => {
            assert_eq!(bare.status, output.status, "{program} {under:?}");
            assert_eq!(bare.stdout, output.stdout, "{program} {under:?}");
            assert_eq!(bare.stderr, output.stderr, "{program} {under:?}");
        }
        (Err(error), _) | (_, Err(error)) => {
            memtide_skip::skip(&format!("needs {program}: {error}"));
        }
    }
}

fn real_programs(under: Under) {
    let python = "import json, random\n\
        random.seed(1)\n\
        table = {str(i): [random.random() for _ in range(50)] for i in range(5000)}\n\
        text = json.dumps(table)\n\
        blob = bytearray(100 << 20)\n\
        blob[::4096] = b'x' * len(blob[::4096])\n\
        print(len(text), hash(tuple(sorted(map(int, table)))), sum(blob))";
    same_output("python3", &["-c", python], under);
    let sql = "create table t(x); with recursive n(i) as (select 1 union all select i + 1 from n \
        where i < 200000) insert into t select printf('%d-%d', i * 7919 % 100003, i) from n; \
        create index u on t(x); select count(*), min(x), max(x) from t;";
    same_output("sqlite3", &[":memory:", sql], under);
    let pipeline = "seq 300000 | sort -R --random-source=/bin/sh | sort -n | tail -n 1; \
        printf 'int main(void) { return 0; }' | cc -x c -O2 -S -o - - | wc -l; ls / | sort";
    same_output("sh", &["-c", pipeline], under);
}

#[test]
fn the_programs_are_right_about_the_kernel() {
    conforms("mapping.c", Under::Bare);
    conforms("allocation.c", Under::Bare);
    conforms("operators.cc", Under::Bare);
}

#[test]
fn the_plain_allocator_conforms() {
    conforms("mapping.c", Under::Passive);
    conforms("allocation.c", Under::Passive);
    conforms("operators.cc", Under::Passive);
}

#[test]
fn real_programs_run_on_the_plain_allocator() {
    real_programs(Under::Passive);
}

#[cfg(feature = "stand-in")]
mod stand_in {
    use super::{Under::StandIn, conforms, conforms_but, passes, preloaded, real_programs};

    #[test]
    fn ordinary_memory_conforms() {
        conforms("mapping.c", StandIn("anonymous"));
        conforms("allocation.c", StandIn("anonymous"));
        conforms("operators.cc", StandIn("anonymous"));
    }

    #[test]
    fn shared_files_conform() {
        conforms("mapping.c", StandIn("shared"));
        conforms("operators.cc", StandIn("shared"));
    }

    #[test]
    fn huge_pages_conform() {
        // What lies in one huge page with memory that is in use stays accessible.
        conforms_but("mapping.c", StandIn("huge"), Some("parts_can_be_unmapped"));
        conforms("operators.cc", StandIn("huge"));
    }

    #[test]
    fn frozen_files_conform() {
        // Freeing overwrites; a pager never has so many blocks frozen that are not touched.
        conforms_but("mapping.c", StandIn("frozen"), Some("reservations_become_memory"));
        conforms("allocation.c", StandIn("frozen"));
        conforms("operators.cc", StandIn("frozen"));
    }

    #[test]
    fn real_programs_run_on_managed_memory() {
        real_programs(StandIn("anonymous"));
        real_programs(StandIn("frozen"));
    }

    #[test]
    fn threads_begin_and_end_while_memory_is_refused() {
        let all = "threads_begin_and_end_while_all_is_refused";
        let some = "threads_begin_and_end_while_some_is_refused";
        conforms_but("refusals.c", StandIn("anonymous:128"), Some(some));
        for how in ["anonymous:96:100:1", "anonymous:96:600:2", "shared:96:900:3"] {
            conforms_but("refusals.c", StandIn(how), Some(all));
        }
    }

    #[test]
    fn the_allocator_conforms_after_a_loss() {
        conforms("allocation.c", StandIn("after-loss"));
        conforms("operators.cc", StandIn("after-loss"));
        conforms("after_loss.c", StandIn("after-loss:128"));
    }

    /// What is lost is a device's, and that is shared: a file, in which what is freed is erased.
    #[test]
    fn the_allocator_conforms_after_a_loss_of_shared_files() {
        conforms("operators.cc", StandIn("after-loss-shared"));
        conforms("after_loss.c", StandIn("after-loss-shared:128"));
        // Not all: some fork, and without a pager a file does not keep parent and child apart.
        for test in ["calloc_is_zero_after_reuse", "realloc_keeps_content", "alignment_is_kept"] {
            passes("allocation.c", StandIn("after-loss-shared"), Some(test.to_owned()));
        }
    }

    #[test]
    fn what_is_not_promised_is_refused_and_can_be_had_again() {
        let python = "blobs = []\n\
            try:\n\
            \x20   while len(blobs) < 100: blobs.append(bytearray(8 << 20))\n\
            except MemoryError: pass\n\
            count = len(blobs)\n\
            blobs = None\n\
            again = [bytearray(8 << 20) for _ in range(count)]\n\
            print(count)";
        let output =
            match preloaded("python3", StandIn("anonymous:128")).args(["-c", python]).output() {
                Ok(output) => output,
                Err(error) => {
                    memtide_skip::skip(&format!("needs python3: {error}"));
                    return;
                }
            };
        let text = String::from_utf8_lossy(&output.stdout);
        let count: usize = text.trim().parse().unwrap_or_else(|_| panic!("{output:?}"));
        // A blob and its end take 10 MiB, the next size that jemalloc has. It grows its heap by
        // ever more, up to 48 MiB, and what is left over at the end is less than two of them.
        assert!((22..=25).contains(&count), "{count} blobs of 8 MiB in 256 MiB");
    }
}
