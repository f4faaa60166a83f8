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
    row(&CARD.replace("POLICY", policy))
}

fn row(text: &str) -> MachineRow {
    let scenario = Scenario::read(text).unwrap_or_else(|error| panic!("{error}"));
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

/// Two public nodes, each nearer to one of two processors. An access to the first costs them 100
/// and 700 ns, to the second 250 and 200 ns; placement begins with the first.
const SHARED: &str = r#"
title = "A buffer of two processors"
claim = "It lies where the sum of their times is the least."
seed = 1

[machine]
duration = "60s"
heat-every = "1s"
window = [{ name = "settled", from = "50s", to = "60s" }]

[[machine.processor]]
name = "cpu"
[[machine.processor]]
name = "gpu0"

[[machine.node]]
name = "first"
kind = "near"
size = "1GiB"
latency-ns = 100
bandwidth-mib = 40000
[[machine.node]]
name = "second"
kind = "near"
size = "1GiB"
latency-ns = 100
bandwidth-mib = 40000

[[machine.link]]
from = "gpu0"
to = "first"
latency-ns = 600
bandwidth-mib = 40000
[[machine.link]]
from = "cpu"
to = "first"
latency-ns = 0
bandwidth-mib = 40000
[[machine.link]]
from = "cpu"
to = "second"
latency-ns = 150
bandwidth-mib = 40000
[[machine.link]]
from = "gpu0"
to = "second"
latency-ns = 100
bandwidth-mib = 40000

[[machine.tenant]]
name = "both"

[[machine.program]]
name = "both"
tenant = "both"
PROCESSORS
phase = [{ lasts = "120s", working-set = "64MiB", wants-mib = 1000LINES }]
"#;

/// MiB of the buffer on each node, and MiB a second that its users read.
fn shared(processors: &str, lines: &str) -> ([u64; 2], f64) {
    let row = row(&SHARED.replace("PROCESSORS", processors).replace("LINES", lines));
    let tenant = &row.tenants[0];
    let bytes = ["first", "second"].map(|node| tenant.bytes[node] / MIB);
    (bytes, tenant.bytes_per_second as f64 / MIB as f64)
}

#[test]
fn what_several_access_moves_to_where_the_sum_of_their_times_is_least() {
    let placed = |processors: &str| shared(processors, "").0;
    // (3 · 100 + 700) against (3 · 250 + 200), and one more of the first: 1000 and 950, then 1100
    // and 1200.
    assert_eq!(placed("processors = { cpu = 3, gpu0 = 1 }"), [0, 64]);
    assert_eq!(placed("processors = { cpu = 4, gpu0 = 1 }"), [64, 0]);
    assert_eq!(placed("processors = { cpu = 1, gpu0 = 9 }"), [0, 64]);
    // Of one alone nothing is moved that its policy put there.
    assert_eq!(placed("processors = { gpu0 = 1 }"), [64, 0]);
    assert_eq!(placed("processor = \"gpu0\""), [64, 0]);
}

/// One line in flight: 64 B in the mean of their latencies, over each path its part.
#[test]
fn each_processor_reads_its_part_over_its_own_path() {
    let mib = |ns: f64| 64.0 / ns * 1e9 / MIB as f64;
    for (processors, ns) in [
        ("processor = \"cpu\"", 100.0),
        ("processor = \"gpu0\"", 700.0),
        ("processors = { cpu = 4, gpu0 = 1 }", 220.0),
        ("processor = \"gpu0\"\nprocessors = { cpu = 1 }", 100.0),
        ("processors = { cpu = 3, gpu0 = 1 }", 237.5),
    ] {
        let (_, rate) = shared(processors, ", lines = 1");
        let wanted = mib(ns);
        // Load makes an access a little slower.
        assert!((wanted * 0.98..=wanted).contains(&rate), "{processors}: {rate}, not {wanted}");
    }
}

/// What one of them does not reach the other reads for him: no part of it is for nothing.
#[test]
fn who_reaches_a_node_reads_for_who_does_not() {
    let link = "[[machine.link]]\nfrom = \"gpu0\"\nto = \"first\"\nlatency-ns = 600\n\
                bandwidth-mib = 40000\n";
    let text = SHARED.replace(link, "").replace("heat-every = \"1s\"\n", "");
    assert!(text.len() + link.len() < SHARED.len());
    let text = text.replace("PROCESSORS", "processors = { cpu = 1, gpu0 = 1 }");
    let row = row(&text.replace("LINES", ", lines = 1"));
    assert_eq!(row.tenants[0].bytes["first"], 64 * MIB);
    let rate = row.tenants[0].bytes_per_second as f64;
    let wanted = 64.0 / 100.0 * 1e9;
    assert!((wanted * 0.98..=wanted).contains(&rate), "{rate}, not {wanted}");
}

#[test]
fn processors_that_make_no_sense_are_refused() {
    let wrong = |processors: &str, problem: &str| {
        let text = SHARED.replace("PROCESSORS", processors).replace("LINES", "");
        let error = Scenario::read(&text).unwrap_err();
        assert!(error.to_string().contains(problem), "{error}");
    };
    wrong("processors = {}", "processors of nobody; expected one or more");
    wrong("processors = { gpu1 = 1 }", "no processor \"gpu1\"");
    wrong("processors = { cpu = 0 }", "nonzero");
    wrong("processors = { cpu = 1, cpu = 2 }", "duplicate key");
}
