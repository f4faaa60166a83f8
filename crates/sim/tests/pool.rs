//! What hosts that share a device have of what they need.

use std::num::NonZeroUsize;

use memtide_sim::{Results, Scenario, page::page, plot::plots, pool::PoolRow, run_on};

const SHIPPED: &str = include_str!("../../../scenarios/pool.toml");
const GIB: u64 = 1 << 30;

fn rows(text: &str, seed: Option<u64>, threads: usize) -> Vec<PoolRow> {
    let scenario = Scenario::read(text).unwrap();
    let threads = NonZeroUsize::new(threads).unwrap();
    let outcome = run_on(threads, &scenario, seed, &mut |_, _| {}).unwrap();
    let plots = plots(&outcome).unwrap();
    assert_eq!(plots.len(), scenario_cases(text), "who has what, for each case");
    assert!(page(&outcome, &plots).contains("comes close"), "the claim stands beside the answer");
    let Results::Pool(rows) = outcome.results else { panic!() };
    rows
}

fn scenario_cases(text: &str) -> usize {
    text.matches("[[pool.case]]").count()
}

/// A short while of it.
fn short() -> String {
    SHIPPED.replace("\"4h\"", "\"25min\"")
}

fn of<'a>(rows: &'a [PoolRow], case: &str, hosts: &str) -> &'a PoolRow {
    rows.iter().find(|row| row.case == case && row.hosts == hosts).unwrap()
}

#[test]
fn a_manager_comes_close_to_one_who_knows_everything() {
    let rows = rows(SHIPPED, None, 2);
    for case in ["calm", "lossy", "stormy"] {
        let all = of(&rows, case, "all");
        // The needs are those of the seed, whatever goes wrong.
        assert_eq!((all.fixed, all.oracle), (rows[4].fixed, rows[4].oracle), "{case}");
        assert!((670..700).contains(&all.fixed.had_permille), "{all:?}");
        assert!((975..995).contains(&all.oracle.had_permille), "{all:?}");
        // Over a quarter more than fixed parts, within 4 % of the oracle.
        assert!(all.pool.had_permille >= 950, "{all:?}");
        assert!(all.pool.had_permille + 40 >= all.oracle.had_permille, "{all:?}");
        assert!(all.pool.had_permille <= all.oracle.had_permille, "nobody has more: {all:?}");
        assert!((900..975).contains(&all.pool.satisfied_permille), "{all:?}");
        // Half of those that wait do so for less than half a minute.
        assert!((1_000..30_000).contains(&all.waits.half_ms), "{all:?}");
        assert!((5_000 * GIB..15_000 * GIB).contains(&all.moved_bytes), "{all:?}");
        // What is guaranteed and always needed is had nearly always.
        assert!(of(&rows, case, "database").pool.had_permille >= 985, "{case}");
        // A part of 73 GiB is nothing for who needs 320.
        assert!(of(&rows, case, "batch").fixed.had_permille < 300, "{case}");
        assert!(of(&rows, case, "batch").pool.had_permille > 930, "{case}");
        assert_eq!(all.curve.len(), 121);
    }
    let [calm, lossy, stormy] = ["calm", "lossy", "stormy"].map(|case| of(&rows, case, "all"));
    assert!(!calm.seen.contains_key("lines lost") && !calm.seen.contains_key("agents killed"));
    assert!(lossy.seen["lines lost"] > 500 && lossy.messages > calm.messages);
    assert!(stormy.seen["agents killed"] > 80 && stormy.seen["managers killed"] > 30);
    // What goes wrong costs time and not capacity.
    assert!(stormy.pool.had_permille + 15 >= calm.pool.had_permille, "{stormy:?}");
}

#[test]
fn one_seed_is_one_pool_byte_for_byte_on_any_number_of_threads() {
    let json = |seed, threads| serde_json::to_string(&rows(&short(), Some(seed), threads)).unwrap();
    let one = json(7, 1);
    assert_eq!(one, json(7, 3));
    assert_ne!(one, json(8, 2));
}

#[test]
fn more_than_a_maximum_is_never_had() {
    let text = short().replace("maximum = \"400GiB\"", "maximum = \"100GiB\"");
    for row in rows(&text, None, 2).iter().filter(|row| row.hosts == "batch") {
        // 100 of 320 GiB, more or less; the oracle knows no limits.
        assert!(row.pool.had_permille < 450, "{row:?}");
        assert!(row.oracle.had_permille > 900, "{row:?}");
        assert_eq!(row.waits.met, 0, "{row:?}");
    }
}

#[test]
fn every_mistake_is_named_with_its_line() {
    let line = |text: &str, of: &str| text.lines().position(|at| at.contains(of)).unwrap() + 1;
    for (from, to, at, problem) in [
        ("capacity = \"1TiB\"", "capacity = \"0\"", "[pool]", "more than 0"),
        ("capacity = \"1TiB\"", "capacity = \"8TiB\"", "[pool]", "4TiB at most"),
        ("block = \"1GiB\"", "block = \"3GiB\"", "[pool]", "power of two"),
        ("block = \"1GiB\"", "block = \"1MiB\"", "[pool]", "2MiB or more"),
        ("\"1TiB\"\nblock", "\"1536MiB\"\nblock", "[pool]", "whole blocks of 1GiB"),
        ("say-every = \"5s\"", "say-every = \"0s\"", "[pool]", "a part of the duration"),
        ("say-every = \"5s\"", "say-every = \"1us\"", "[pool]", "65536 of it at most"),
        ("say-every = \"5s\"", "say-every = \"10ms\"", "[pool]", "65536 of it at most"),
        ("say-every = \"5s\"", "say-every = \"3min\"", "[pool]", "120000000000 ns at most"),
        ("say-every = \"5s\"", "say = \"5s\"", "say = \"5s\"", "say"),
        ("copied-a-second = \"16GiB\"", "copied-a-second = \"0\"", "[pool]", "more than 0"),
        ("copied-a-second = \"16GiB\"", "copied-a-second = \"1GiB\"", "[pool]", "at least"),
        ("minimum = \"96GiB\"", "minimum = \"600GiB\"", "[pool]", "the capacity, 1TiB, at most"),
        ("weight = 2", "weight = 0", "[pool]", "expected 1 to 1000"),
        ("weight = 2", "weight = 1001", "[pool]", "expected 1 to 1000"),
        ("count = 4", "count = 64", "[pool]", "64 at most"),
        ("count = 4", "count = 0", "[pool]", "1 to 64"),
        ("vary-percent = 60", "vary-percent = 101", "[pool]", "100 at most"),
        ("ahead = \"10min\"", "ahead = \"241min\"", "[pool]", "the duration, 14400000000000 ns"),
        ("lasts = \"7min\"", "lasts = \"1ms\"", "[pool]", "a part of the duration"),
        ("needs = \"10GiB\"", "needs = \"5TiB\"", "[pool]", "4TiB at most"),
        ("lost-permille = 20", "lost-permille = 501", "[pool]", "500 at most"),
        ("late-by = \"500ms\"", "late-by = \"3min\"", "[pool]", "120000000000 ns at most"),
        ("late-by = \"500ms\"", "", "[pool]", "late-permille and late-by"),
        ("away = \"20s\"", "", "[pool]", "away"),
        ("agent-dies-every = \"2min\"", "agent-dies-every = \"1ms\"", "[pool]", "1s or more"),
        ("name = \"calm\"", "nam = \"calm\"", "nam = \"calm\"", "nam"),
    ] {
        assert!(SHIPPED.contains(from), "{from}");
        let text = SHIPPED.replacen(from, to, 1);
        let error = Scenario::read(&text).unwrap_err();
        assert!(error.problem.contains(problem), "{to}: {error}");
        assert_eq!(error.line, line(&text, at), "{to}: {error}");
    }
}

#[test]
fn pauses_of_the_manager_are_neither_too_short_nor_too_long_for_all_to_come_to_rest() {
    let with = |duration: &str, key: &str, time: &str| {
        let timing = format!("timing = {{ {key} = \"{time}\" }}\nsay-every");
        let text = SHIPPED.replacen("say-every", &timing, 1);
        let text = text.replacen("\"4h\"", duration, 1);
        Scenario::read(&text).map_err(|error| error.problem)
    };
    for key in ["patience", "retry-first", "retry-most", "settle"] {
        with("\"4h\"", key, "2min").unwrap();
        for time in ["121s", "24h", "1ms"] {
            let problem = with("\"4h\"", key, time).unwrap_err();
            assert!(problem.contains(key), "{key} {time}: {problem}");
        }
    }
}

/// A minute: short, but it takes twenty more until all is at rest.
const MINUTE: &str = r#"
title = "A minute"
claim = "What comes to rest comes close."
seed = 1
[pool]
capacity = "16GiB"
block = "1GiB"
duration = "1min"
say-every = "2min"
copied-a-second = "140MiB"
operator-every = "1s"
timing = { patience = "2min", retry-first = "2min", retry-most = "2min", settle = "2min" }
[[pool.host]]
name = "some"
count = 4
ahead = "5s"
vary-percent = 20
phase = [{ lasts = "10s", needs = "1GiB" }, { lasts = "7s", needs = "8GiB" }]
[[pool.case]]
name = "bad"
lost-permille = 100
repeated-permille = 100
late-permille = 500
late-by = "2min"
agent-dies-every = "5s"
manager-dies-every = "7s"
away = "24h"
"#;

#[test]
fn a_short_while_is_not_made_of_any_number_of_steps() {
    let wrong = |from: &str, to: &str| {
        assert!(MINUTE.contains(from), "{from}");
        Scenario::read(&MINUTE.replacen(from, to, 1)).unwrap_err().problem
    };
    Scenario::read(MINUTE).unwrap();
    // Each copy would go through the phases of a day before the minute begins.
    assert!(wrong("ahead = \"5s\"", "ahead = \"24h\"").contains("ahead 86400000000000 ns"));
    // A part of the minute, but the parties go on for twenty more.
    assert!(wrong("say-every = \"2min\"", "say-every = \"2ms\"").contains("say-every 2000000"));
    let problem = wrong("retry-first = \"2min\"", "retry-first = \"2ms\"");
    assert!(problem.contains("retry-first 2000000 ns"), "{problem}");
}

#[test]
fn the_longest_pauses_that_a_file_may_ask_for_end_in_time() {
    for seed in 0..20 {
        rows(MINUTE, Some(seed), 2);
    }
}
