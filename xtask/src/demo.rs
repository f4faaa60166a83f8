//! `cargo xtask demo`: the main job, with a program that every machine has.
//!
//! GNU sort works on a file that needs more memory than the near node has. While it runs, half of
//! the near node is taken back, and returned. What sort writes must be what it writes without
//! memtide.

use std::{
    fs,
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use crate::{
    Options,
    shell::{self, Failure, describe, start_failure},
    sorting::{LINES, Running, sort, write_lines},
};

/// Runs the demonstration.
pub fn demo(_: &Options) -> Result<(), Failure> {
    let memtide = shell::build_release()?.join("memtide");
    let directory = std::env::temp_dir().join(format!("memtide-demo-{}", std::process::id()));
    shell::create_directory(&directory)?;
    let outcome = show(&memtide, &directory);
    let _ = fs::remove_dir_all(&directory);
    outcome
}

fn show(memtide: &Path, directory: &Path) -> Result<(), Failure> {
    let (lines, socket) = (directory.join("lines"), directory.join("memtide.sock"));
    println!("# {LINES} random lines to sort");
    write_lines(&lines)?;

    let plain = directory.join("plain");
    let started = Instant::now();
    shell::run(&mut sort(Command::new("sort"), &lines, &plain))?;
    println!("# without memtide: {:.1} s\n", started.elapsed().as_secs_f64());

    let mut managed = Command::new(memtide);
    managed.args(["run", "--near", "256M", "--far", "768M", "--socket"]).arg(&socket);
    managed.args(["--", "sort"]);
    let sorted = directory.join("sorted");
    let mut managed = sort(managed, &lines, &sorted);
    println!("$ {} &", describe(&managed));
    let started = Instant::now();
    let child = managed.spawn().map_err(|source| start_failure(&managed, source))?;
    let mut sort = Running(child);

    let operate = |words: &[&str]| {
        let mut command = Command::new(memtide);
        command.args(words).arg("--socket").arg(&socket);
        println!("\n$ {}", describe(&command));
        // A partial give-back ends with 3, which is an answer, not a failure.
        command.status().map(drop).map_err(|source| start_failure(&command, source))
    };
    let end = Instant::now() + Duration::from_secs(20);
    while !socket.exists() && Instant::now() < end {
        thread::sleep(Duration::from_millis(10));
    }
    thread::sleep(Duration::from_millis(1200));
    operate(&["status"])?;
    operate(&["give-back", "128M", "--from", "near"])?;
    operate(&["status"])?;
    operate(&["add", "128M", "--to", "near"])?;
    sort.finish()?;
    println!("\n# under memtide: {:.1} s", started.elapsed().as_secs_f64());

    if shell::read(&plain)? != shell::read(&sorted)? {
        return Err(Failure::wrong("sort wrote something else under memtide"));
    }
    println!("# both wrote the same {} bytes", fs::metadata(&sorted).map_or(0, |m| m.len()));
    Ok(())
}
