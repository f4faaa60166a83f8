//! Guests boot, do what they are told, and fail in ways that can be read.

use std::{
    fs,
    process::Command,
    time::{Duration, Instant},
};

use memtide_testbed::{Error, Guest, Initramfs, Kernel, Machine, gib, machines, needs, ready};

#[test]
fn a_guest_boots_and_runs_commands() -> Result<(), Error> {
    if !ready() {
        return Ok(());
    }
    let guest = Guest::boot(&machines::plain())?;
    needs::loud(&format!("booted within {:?}", guest.boot_time()));
    let output = guest.run("echo out; echo err >&2; exit 7")?;
    assert_eq!((output.status, &*output.stdout, &*output.stderr), (7, "out\n", "err\n"));
    assert_eq!(guest.sh("uname -r")?, Kernel::find()?.release());
    assert_eq!(guest.sh("id -u")?, "0");

    let error = guest.sh("ls /nothing").expect_err("there is no such file").to_string();
    assert!(error.contains("ls /nothing") && error.contains("No such file"), "{error}");

    // Any bytes, as script, input and output.
    let bytes: Vec<u8> = (0..=255).cycle().take(3 << 20).collect();
    guest.write("/tmp/it's", &bytes)?;
    assert!(guest.read("/tmp/it's")? == bytes, "3 MiB came back changed");
    assert_eq!(guest.input("md5sum", &bytes)?.stdout, guest.input("md5sum", &bytes)?.stdout);
    assert_eq!(guest.sh("printf '\\377\\n' | wc -c")?, "2");
    commands_have_limits(&guest)?;
    guest.powerdown()
}

/// And the guest outlives them.
fn commands_have_limits(guest: &Guest) -> Result<(), Error> {
    let start = Instant::now();
    let limit = Duration::from_secs(2);
    let error = guest.run_within(limit, "echo begun; sleep 1000 | cat").expect_err("it hangs");
    assert!(matches!(&error, Error::TimedOut { .. }), "{error}");
    assert!(start.elapsed() < Duration::from_secs(50), "{:?}", start.elapsed());
    assert_eq!(guest.run("pidof sleep")?.status, 1, "what it started was killed with it");
    assert_eq!(guest.sh("echo still here")?, "still here");

    let background = guest.start("echo started; sleep 3; echo late >&2; exit 5")?;
    background.wait_for_output(Duration::from_secs(30), "started")?;
    assert!(background.is_running()?);
    let output = background.wait(Duration::from_secs(60))?;
    assert_eq!((output.status, &*output.stderr), (5, "late\n"));

    let endless = guest.start("exec sleep 1000")?;
    assert_eq!(guest.sh(&format!("cat /proc/{}/comm", endless.pid()))?, "sleep");
    endless.signal("TERM")?;
    assert_eq!(endless.wait(Duration::from_secs(30))?.status, 128 + 15);
    let silent = guest.start("echo nothing of the sort")?;
    let error = silent.wait_for_output(Duration::from_secs(30), "something").expect_err("never");
    assert!(error.to_string().contains("nothing of the sort"), "{error}");
    Ok(())
}

#[test]
fn programs_of_this_computer_run_in_it_and_a_panic_shows_the_console() -> Result<(), Error> {
    if !ready() {
        return Ok(());
    }
    let sort = memtide_testbed::places::which("sort").expect("coreutils are everywhere");
    let initramfs = Initramfs::new()
        .program(sort, "/usr/local/bin/the-sort")
        .file("/etc/numbers", "3\n1\n2\n", 0o600)
        .module("button");
    let guest = Guest::boot_with(&machines::plain(), &initramfs)?;
    assert_eq!(guest.sh("the-sort --version | head -n 1 | cut -c 1-4")?, "sort");
    assert_eq!(guest.sh("the-sort -n /etc/numbers | tr '\\n' ' '")?.trim(), "1 2 3");
    assert_eq!(guest.sh("stat -c %a /etc/numbers")?, "600");
    assert_eq!(guest.run("test -d /sys/module/button")?.status, 1, "it is there, not loaded");
    guest.load_modules(&["button"])?;
    guest.sh("test -d /sys/module/button")?;

    let error = guest.run("echo c >/proc/sysrq-trigger").expect_err("the kernel panics");
    assert!(matches!(&error, Error::Ended { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("sysrq triggered crash"), "{text}");
    // And so does every later command.
    let later = guest.run("true").expect_err("it is gone");
    assert!(matches!(later, Error::Ended { .. }), "{later}");
    Ok(())
}

#[test]
fn a_machine_that_does_not_boot_shows_why() -> Result<(), Error> {
    if !ready() {
        return Ok(());
    }
    let no_init = machines::plain().kernel_argument("rdinit=/nothing").kernel_argument("root=none");
    let error = Guest::boot(&no_init).expect_err("there is no such program").to_string();
    assert!(error.contains("booting") && error.contains("panic"), "{error}");
    let unknown = machines::plain().modules(["vfat_of_old"]);
    let error = Guest::boot(&unknown).expect_err("there is no such module");
    assert!(error.to_string().contains("vfat_of_old"), "{error}");
    Ok(())
}

#[test]
fn two_guests_at_once() -> Result<(), Error> {
    if !ready() {
        return Ok(());
    }
    let machine = |number: u64| Machine::new("twin", gib(number)).kernel_argument("testbed.twin");
    let memory_kib = |guest: &Guest| -> Result<u64, Error> {
        Ok(guest.sh("awk '/MemTotal/ {print $2}' /proc/meminfo")?.parse().expect("a number"))
    };
    std::thread::scope(|scope| {
        let one = scope.spawn(|| Guest::boot(&machine(1)));
        let two = Guest::boot(&machine(2))?;
        let one = one.join().expect("booting does not panic")?;
        one.write("/tmp/name", "one")?;
        two.write("/tmp/name", "two")?;
        assert_eq!(
            (one.sh("cat /tmp/name")?, two.sh("cat /tmp/name")?),
            ("one".into(), "two".into())
        );
        assert!(memory_kib(&one)? < 1 << 20 && memory_kib(&two)? > 1 << 20);
        drop(one);
        assert_eq!(two.sh("echo alone")?, "alone");
        two.powerdown()
    })
}

/// The processes whose command lines name this folder.
fn processes(folder: &str) -> usize {
    let all = fs::read_dir("/proc").expect("procfs").flatten();
    all.filter(|entry| {
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(folder)
    })
    .count()
}

const VICTIM: &str = "MEMTIDE_TESTBED_VICTIM";

/// Killed with a signal that no program can catch, a test leaves neither QEMU nor files. This test
/// starts itself once more as the one to be killed.
#[test]
fn nothing_survives_a_test_that_is_killed() -> Result<(), Error> {
    if !ready() {
        return Ok(());
    }
    if std::env::var_os(VICTIM).is_some() {
        let guest = Guest::boot(&machines::plain())?;
        guest.run("sleep 1000")?;
    }
    let this = std::env::current_exe().expect("the path of this test");
    let mut victim = Command::new(this)
        .args(["--exact", std::thread::current().name().expect("tests' threads have names")])
        .env(VICTIM, "1")
        .spawn()
        .expect("the same test");
    let folder = std::env::temp_dir().join(format!("memtide-vm-{}-0", victim.id()));
    let name = folder.to_string_lossy().into_owned();
    let until = |what: &str, is_so: &dyn Fn() -> bool| {
        let deadline = Instant::now() + Duration::from_secs(120);
        while !is_so() {
            assert!(Instant::now() < deadline, "{what}: not within two minutes");
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    until("QEMU writes a console", &|| folder.join("console").exists());
    assert!(processes(&name) >= 2, "a shell and QEMU");
    victim.kill().expect("it runs");
    victim.wait().expect("it was killed");
    until("nobody is left", &|| processes(&name) == 0 && !folder.exists());
    Ok(())
}
