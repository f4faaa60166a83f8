//! A switch that the guest can manage: what `memtide fm scan` finds behind QEMU's, and what a
//! manager is told of a device that has nothing for it.

use memtide_testbed::{Error, Guest, machines, ready};
use serde_json::Value;

use super::kit::{self, LONG};

const FUNCTION: &str = "0000:21:00.1";
/// As the command line of the machine has them.
const SWITCH_SERIAL: u64 = 4660;
const UPSTREAM_PORT: u64 = 33;

fn port(switch: &Value, number: u64) -> &Value {
    let ports = switch["ports"].as_array().expect("ports");
    let found = ports.iter().find(|port| port["port"] == number);
    found.unwrap_or_else(|| panic!("no port {number} in {switch}"))
}

#[test]
fn a_scan_finds_the_ports_and_devices_of_qemu_s_switch() -> Result<(), Error> {
    if !ready() {
        return Ok(());
    }
    let guest = kit::boot(machines::cxl_managed(), &[])?;
    let scanned = kit::json(&guest, "fm scan", 0);
    let switches = scanned.as_array().expect("switches");
    assert_eq!(switches.len(), 1, "{scanned}");
    let switch = &switches[0];
    assert_eq!(switch["function"], FUNCTION, "{scanned}");
    assert_eq!(switch["serial"], SWITCH_SERIAL, "{scanned}");
    assert_eq!(switch["problem"], Value::Null, "{scanned}");
    assert_eq!(switch["ports"].as_array().map(Vec::len), Some(3), "{scanned}");
    let up = port(switch, UPSTREAM_PORT);
    assert_eq!((&up["use"], &up["connected"]), (&"upstream".into(), &"host".into()), "{up}");
    assert_eq!(up["device"], Value::Null, "{up}");
    // Identify comes back through the tunnel: serial numbers are those of the command line.
    for (number, name) in [(0, "mem0"), (1, "mem1")] {
        let down = port(switch, number);
        assert_eq!(down["use"], "downstream", "{down}");
        let device = &down["device"];
        let serial = machines::cxl_managed().serial(name);
        assert_eq!(device["serial"].as_u64(), serial, "{down}");
        assert_eq!(device["vendor"], 0x8086, "{down}");
        assert!(down["link"]["width"].as_u64() > Some(0), "{down}");
    }
    let text = kit::ends(&guest, "fm scan", 0).stdout;
    if has_manager_s_commands(&guest)? {
        // QEMU 10.1 and later: the device with dynamic capacity is one to be managed.
        let device = &port(switch, 1)["device"];
        assert_eq!(device["address"], format!("cci:{FUNCTION},port=1"), "{device}");
    } else {
        let sentence = "the device behind port 1 has no dynamic capacity commands for a manager: \
                        it answers unsupported (0x3) to Get DCD Info (5600h)";
        assert!(text.contains(sentence), "{text}");
        assert_eq!(port(switch, 1)["device"]["address"], Value::Null, "{scanned}");
        a_manager_says_so(&guest)?;
    }
    kit::healthy(&guest)?;
    guest.powerdown()
}

/// Whether this QEMU's devices have 5600h behind a switch.
fn has_manager_s_commands(guest: &Guest) -> Result<bool, Error> {
    let version = guest.qmp().execute("query-version", serde_json::json!({}))?;
    let number = |part| version["qemu"][part].as_u64().unwrap_or(0);
    Ok((number("major"), number("minor")) >= (10, 1))
}

/// A manager of that device is refused 5600h, and says what that means.
fn a_manager_says_so(guest: &Guest) -> Result<(), Error> {
    let options = format!(
        "--device pool=cci:{FUNCTION},port=1 --host h1=0 --socket /tmp/fm.sock --store /tmp/fm.redb"
    );
    let manager = guest.start(&format!("exec memtide fm serve {options} 2>&1"))?;
    let sentence = "device pool: the device behind port 1 has no dynamic capacity commands";
    manager.wait_for_output(LONG, sentence)?;
    let listed = kit::json(guest, "fm list --socket /tmp/fm.sock", 0);
    assert_eq!(listed[0]["address"], format!("cci:{FUNCTION},port=1"), "{listed}");
    assert_eq!(listed[0]["state"], "down", "{listed}");
    // The manager and a scan share the mailbox.
    assert_eq!(kit::json(guest, "fm scan", 0)[0]["problem"], Value::Null);
    manager.signal("TERM")?;
    manager.wait(LONG)?;
    Ok(())
}
