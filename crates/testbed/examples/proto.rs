use memtide_testbed::*;
use std::io::{BufRead, BufReader};
use std::time::Duration;
fn main() -> Result<(), Error> {
    let fifo = std::env::args().nth(1).expect("fifo");
    let cmdline = std::env::var("KARG").unwrap_or_default();
    let mut machine = machines::cxl_dynamic();
    let mods: Vec<String> = std::env::var("MODS")
        .unwrap_or("device_dax kmem dax_hmem cxl_acpi".into())
        .split(' ')
        .map(str::to_owned)
        .collect();
    machine = machine.modules(mods.iter().map(String::as_str));
    for a in cmdline.split_whitespace() {
        machine = machine.kernel_argument(a);
    }
    let mut ram = Initramfs::new();
    if let Ok(p) = std::env::var("PROGRAMS") {
        for p in p.split(' ') {
            let n = p.rsplit('/').next().unwrap();
            ram = ram.program(p, &format!("/bin/{n}"));
        }
    }
    let guest = Guest::boot_with(&machine, &ram)?;
    println!("BOOTED {:?}", guest.boot_time());
    loop {
        let f = std::fs::File::open(&fifo).unwrap();
        let text = std::io::read_to_string(BufReader::new(f)).unwrap();
        if text.trim() == "quit" {
            break;
        }
        if let Some(rest) = text.strip_prefix("QMP ") {
            let (c, a) = rest.split_once(' ').unwrap();
            println!("{:?}", guest.qmp().execute(c, serde_json::from_str(a).unwrap()));
        } else if text.starts_with("CONSOLE") {
            println!("{}", guest.console());
        } else {
            match guest.run_within(Duration::from_secs(120), &text) {
                Ok(o) => println!("{}{}[{}]", o.stdout, o.stderr, o.status),
                Err(e) => println!("ERR {e}"),
            }
        }
        println!("--END--");
    }
    let _ = std::io::stdin().lock().lines();
    guest.powerdown()
}
