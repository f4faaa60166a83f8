use memtide_testbed::*;
#[test]
fn probe() -> Result<(), Error> {
    let guest = Guest::boot(&machines::named(&std::env::var("M").unwrap()).unwrap())?;
    let out = guest.run(&std::fs::read_to_string("/tmp/probe.sh").unwrap());
    println!("{}", guest.console());
    println!("{:?}", guest.boot_time());
    let out = out?;
    println!("status {}\n{}\n{}", out.status, out.stdout, out.stderr);
    guest.powerdown()
}
