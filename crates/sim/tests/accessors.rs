//! Memory is placed by who accesses it, unless a policy names nodes.

use memtide_sim::{Results, Scenario, machine::measure::MachineRow, run};

/// A host, and a card with memory of its own behind a link; far memory that the card does not
/// reach. One program for each, and one of the card's with what POLICY says.
const CARD: &str = r#"
title = "Buffers of a host and a card"
claim = "A buffer lies near who works on it, whoever asked for it."
seed = 1

[machine]
duration = "10s"

[[machine.processor]]
name = "cpu"
[[machine.processor]]
name = "gpu0"

[[machine.node]]
name = "system"
kind = "near"
size = "1GiB"
latency-ns = 100
bandwidth-mib = 40000
[[machine.node]]
name = "far"
kind = "far"
size = "1GiB"
latency-ns = 200
bandwidth-mib = 20000
[[machine.node]]
name = "card"
kind = "device"
class = "special"
size = "512MiB"
latency-ns = 60
bandwidth-mib = 200000

[[machine.link]]
from = "cpu"
to = "system"
latency-ns = 0
bandwidth-mib = 40000
[[machine.link]]
from = "gpu0"
to = "system"
latency-ns = 700
bandwidth-mib = 10000
[[machine.link]]
from = "cpu"
to = "far"
latency-ns = 70
bandwidth-mib = 20000
[[machine.link]]
name = "bus"
from = "cpu"
to = "card"
latency-ns = 700
bandwidth-mib = 10000
[[machine.link]]
from = "gpu0"
to = "card"
latency-ns = 40
bandwidth-mib = 200000

[[machine.tenant]]
name = "host"
policy = { mode = "accessed-by", accessors = { cpu = 1 } }
[[machine.tenant]]
name = "card"
policy = { mode = "accessed-by", accessors = { gpu0 = 9, cpu = 1 } }
[[machine.tenant]]
name = "other"
POLICY

[[machine.program]]
name = "host"
tenant = "host"
phase = [{ lasts = "60s", working-set = "256MiB", wants-mib = 1000 }]
[[machine.program]]
name = "card"
tenant = "card"
processor = "gpu0"
phase = [{ lasts = "60s", working-set = "768MiB", wants-mib = 1000 }]
[[machine.program]]
name = "other"
tenant = "other"
processor = "gpu0"
start = "1s"
phase = [{ lasts = "60s", working-set = "64MiB", wants-mib = 1000 }]
"#;

const MIB: u64 = 1 << 20;

fn rows(policy: &str) -> MachineRow {
    let text = CARD.replace("POLICY", policy);
    let scenario = Scenario::read(&text).unwrap_or_else(|error| panic!("{error}"));
    let outcome = run(&scenario, None, &mut |_, _| {}).unwrap_or_else(|error| panic!("{error}"));
    let Results::Machine(mut rows) = outcome.results else { panic!("not a machine") };
    rows.remove(0)
}

/// MiB of a tenant on the system's memory, the far one, and the card's.
fn has(row: &MachineRow, tenant: &str) -> [u64; 3] {
    let of = row.tenants.iter().find(|row| row.tenant == tenant).unwrap();
    ["system", "far", "card"].map(|node| of.bytes[node] / MIB)
}

#[test]
fn a_devices_buffer_lands_in_its_memory_and_a_processors_near_it() {
    let row = rows("");
    assert_eq!(has(&row, "host"), [256, 0, 0]);
    // What does not fit overflows to what both reach.
    assert_eq!(has(&row, "card"), [256, 0, 512]);
    // Nothing is said of who accesses it: near the processors, as ever.
    assert_eq!(has(&row, "other"), [64, 0, 0]);
}

#[test]
fn with_a_policy_that_names_nodes_it_does_not() {
    let bind = "policy = { mode = \"bind\", nodes = [\"far\"] }";
    assert_eq!(has(&rows(bind), "other"), [0, 64, 0]);
    let preferred = "policy = { mode = \"preferred\", nodes = [\"system\"] }";
    assert_eq!(has(&rows(preferred), "other"), [64, 0, 0]);
}

#[test]
fn what_makes_no_sense_is_refused_with_its_line() {
    let wrong = |policy: &str, problem: &str| {
        let text = CARD.replace("POLICY", policy);
        let error = Scenario::read(&text).unwrap_err();
        assert!(error.to_string().contains(problem), "{error}");
    };
    wrong("policy = { mode = \"accessed-by\" }", "a policy with 0 accessors; expected");
    wrong("policy = { mode = \"local\", accessors = { cpu = 1 } }", "a policy with 1 accessors");
    wrong("policy = { mode = \"accessed-by\", accessors = { gpu = 1 } }", "no processor \"gpu\"");
    wrong("policy = { mode = \"accessed-by\", accessors = { cpu = 0 } }", "nonzero");
    let both = "policy = { mode = \"accessed-by\", nodes = [\"far\"], accessors = { cpu = 1 } }";
    wrong(both, "no nodes with \"accessed-by\"");
    // A program's own policy, for two who share no node.
    let own = "policy = { mode = \"accessed-by\", accessors = { cpu = 1, nic = 1 } }\nstart";
    let text = CARD.replace("POLICY", "").replace("start", own);
    let text = format!("{text}\n[[machine.processor]]\nname = \"nic\"\n");
    let error = Scenario::read(&text).unwrap_err().to_string();
    assert!(error.contains("program \"other\": the policy is for memory that 2"), "{error}");
}
