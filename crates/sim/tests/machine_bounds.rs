//! What a machine of a file may not ask for: told when it is read, with field, value and bound.

use memtide_sim::Scenario;

const HALF_WIDTH: &str = include_str!("../../../scenarios/half-width.toml");

/// A machine of 1 GiB; some text of it is another.
fn machine(changes: &[(&str, &str)]) -> Result<Scenario, String> {
    let mut text = r#"
title = "Small"
claim = "None"
seed = 1
[machine]
duration = "60s"
sample-every = "1s"
heat-every = "1s"
[[machine.processor]]
name = "cpu"
[[machine.node]]
name = "near"
kind = "near"
size = "1GiB"
latency-ns = 100
bandwidth-mib = 1000
[[machine.tenant]]
name = "tenant"
on-depletion = "fall-back"
[[machine.program]]
name = "program"
tenant = "tenant"
count = 2
retry = "1s"
fork = { every = "10s", lives = "1s" }
phase = [{ lasts = "10s", working-set = "256MiB", wants-mib = 100 }]
[[machine.event]]
at = "1s"
do = "give-back"
size = "64MiB"
"#
    .to_owned();
    for (from, to) in changes {
        assert!(text.contains(from), "{from}");
        text = text.replacen(from, to, 1);
    }
    Scenario::read(&text).map_err(|error| error.to_string())
}

#[track_caller]
fn refused(changes: &[(&str, &str)], problems: &[&str]) {
    let error = machine(changes).unwrap_err();
    for problem in problems {
        assert!(error.contains(problem), "{error}: not {problem}");
    }
}

#[test]
fn a_small_machine_is_good() {
    machine(&[]).unwrap();
    // 16 times the memory that there is, and no more.
    machine(&[("256MiB", "8GiB")]).unwrap();
}

#[test]
fn working_sets_are_bounded_by_the_machine() {
    let wanted = ["program \"program\": working-set x count", "8194; expected 8192 at most"];
    refused(&[("256MiB", "8194MiB")], &wanted);
    refused(&[("256MiB", "1PiB")], &["working-set x count", "8192 at most"]);
    // Each of them may, all of them may not.
    let large = [("\"1GiB\"", "\"4TiB\""), ("256MiB", "17TiB"), ("sample-every = \"1s\"", "")];
    refused(&large, &["of all programs", "17825792; expected 16777216 at most"]);
}

#[test]
fn nothing_repeats_within_a_millisecond() {
    for (from, to, name) in [
        ("fork = { every = \"10s\"", "fork = { every = \"1ns\"", "\"program\": fork.every 1 ns"),
        ("retry = \"1s\"", "retry = \"1ns\"", "\"program\": retry 1 ns"),
        ("heat-every = \"1s\"", "heat-every = \"1ns\"", "heat-every 1 ns"),
        ("lasts = \"10s\"", "lasts = \"999us\"", "\"program\": phase.lasts 999000 ns"),
        ("sample-every = \"1s\"", "sample-every = \"900us\"", "sample-every 900000 ns"),
    ] {
        refused(&[(from, to)], &[name, "expected 1000000 ns"]);
    }
}

#[test]
fn forks_steps_and_figures_are_bounded() {
    let long = [("\"60s\"", "\"24h\""), ("lasts = \"10s\"", "lasts = \"24h\"")];
    let with = |more: &[(&'static str, &'static str)]| [&long, more].concat();
    refused(
        &with(&[("every = \"10s\", lives", "every = \"100ms\", lives")]),
        &["forks", "1728000; expected 131072 at most"],
    );
    let fork = "every = \"10s\", lives";
    refused(
        &with(&[("256MiB", "8GiB"), (fork, "every = \"2s\", lives")]),
        &["forks x working-set"],
    );
    refused(
        &with(&[("retry = \"1s\"", "retry = \"1ms\"")]),
        &["steps", "expected 16777216 at most"],
    );
    let phases = "[{ lasts = \"1ms\", working-set = \"2MiB\" }, { lasts = \"1ms\", working-set = \
                  \"256MiB\" }]\nrepeats = 4294967295";
    let old = "[{ lasts = \"10s\", working-set = \"256MiB\", wants-mib = 100 }]";
    refused(&[("\"60s\"", "\"24h\""), (old, phases)], &["steps of all programs"]);
    refused(&with(&[("\"1GiB\"", "\"8TiB\"")]), &["pageblocks looked at", "at most"]);
    let tenants: String =
        (0..100).map(|n| format!("[[machine.tenant]]\nname = \"t{n}\"\n")).collect();
    let tenants = format!("{tenants}[[machine.tenant]]");
    refused(
        &with(&[("[[machine.tenant]]", Box::leak(tenants.into_boxed_str()))]),
        &["figures: samples x tenants", "26179200; expected 16777216 at most"],
    );
}

#[test]
fn what_the_engine_refuses_is_told_when_a_file_is_read() {
    let weights = "[machine]\nweights = { near = 3 }\n";
    refused(&[("[machine]\n", weights)], &["the engine refuses this configuration: ", "line"]);
    let by_hand = "weighting = \"manual\", ";
    assert!(HALF_WIDTH.contains(by_hand));
    let error = Scenario::read(&HALF_WIDTH.replacen(by_hand, "", 1)).unwrap_err();
    assert!(error.problem.contains("the engine refuses"), "{error}");
}

#[test]
fn no_event_comes_after_the_end() {
    let late = ["event 0: at 60000000000 ns", "the duration, 60000000000 ns"];
    refused(&[("at = \"1s\"", "at = \"60s\"")], &late);
    machine(&[("at = \"1s\"", "at = \"59s\"")]).unwrap();
}

#[test]
fn keys_that_an_event_has_no_use_for_are_refused() {
    for (what, key, known) in [
        ("do = \"give-back\"", "percent = 3", "size, node, deadline"),
        ("do = \"add\"\nnode = \"near\"", "deadline = \"1s\"", "size, node"),
        ("do = \"remove\"\nnode = \"near\"", "", "node"),
    ] {
        let change = ("do = \"give-back\"", &*format!("{what}\n{key}"));
        let name = if key.is_empty() { "size" } else { key.split(' ').next().unwrap() };
        let problem = format!("{name:?} of an event that does ");
        refused(&[change], &[&problem, &format!("expected only {known}")]);
    }
}

#[test]
fn memory_is_added_into_no_zone_that_its_node_cannot_have() {
    let give_back = "do = \"give-back\"";
    let add = |zone: &str| format!("do = \"add\"\nnode = \"near\"\nzone = \"{zone}\"");
    machine(&[(give_back, &add("movable"))]).unwrap();
    refused(&[(give_back, &add("exmem"))], &["zone \"exmem\" on node \"near\", which is in"]);
    refused(&[(give_back, &add("normal"))], &["normal"]);
    refused(&[(give_back, "do = \"give-back\"\nzone = \"movable\"")], &["\"zone\" of an event"]);
}
