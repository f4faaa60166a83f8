//! Scenarios as texts: the shipped ones are read, mistakes are named, one seed is one outcome.

use std::num::NonZeroUsize;

use memtide_sim::{Outcome, Results, Scenario, page::page, plot::plots, run, run_on};

const ONLINING: &str = include_str!("../../../scenarios/onlining-1tib.toml");
const COMES_BACK: &str = include_str!("../../../scenarios/comes-back.toml");

/// The shipped scenario on a small machine, for a short time.
fn small() -> String {
    let text = COMES_BACK.replace("\"4GiB\"", "\"256MiB\"").replace("\"20GiB\"", "\"1GiB\"");
    let text = text.replace(", \"1GiB\"]", "]").replace("[1, 5, 10, 25]", "[10, 40]");
    text.replace("\"1:1\", \"1:2\", \"1:3\", \"1:4\", ", "")
}

fn outcome(text: &str, seed: Option<u64>) -> Outcome {
    run(&Scenario::read(text).unwrap(), seed, &mut |_, _| {}).unwrap()
}

#[test]
fn a_tebibyte_on_4_gib_is_exact() {
    let Results::Onlining(rows) = outcome(ONLINING, None).results else { panic!() };
    let gib: Vec<[f64; 2]> = rows
        .iter()
        .map(|row| [row.movable_bytes, row.kernel_bytes].map(|b| b as f64 / f64::from(1 << 30)))
        .collect();
    assert_eq!(
        gib,
        [[771.625, 252.375], [771.0, 253.0], [771.0, 253.0], [12.0, 1012.0], [0.0, 1024.0]]
    );
    assert!(rows[0].pattern.starts_with("96M 1K 3M 1K 3M 1K 3M"), "{}", rows[0].pattern);
    assert_eq!(rows[3].pattern, "3M 253K");
}

#[test]
fn one_seed_is_one_outcome_byte_for_byte() {
    let text = small();
    let json = |seed| serde_json::to_string(&outcome(&text, seed)).unwrap();
    let one = json(Some(7));
    assert_eq!(one, json(Some(7)));
    assert_ne!(one, json(Some(8)));
    assert_eq!(json(None), json(Some(1)));
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let scenario = Scenario::read(&small()).unwrap();
    let json = |threads| {
        let outcome = run_on(NonZeroUsize::new(threads).unwrap(), &scenario, None, &mut |_, _| {});
        serde_json::to_string(&outcome.unwrap()).unwrap()
    };
    assert_eq!(json(1), json(2));
    assert_eq!(json(1), json(7));
}

#[test]
fn every_frame_asked_back_left_or_stayed() {
    let Results::ComesBack(rows) = outcome(&small(), None).results else { panic!() };
    assert_eq!(rows.len(), 4 * 2 * 2);
    for row in &rows {
        let sum = row.returned_bytes + row.blocked_bytes + row.no_room_bytes;
        assert_eq!(sum, 1 << 30, "{row:?}");
        assert!(row.unmovable_plugged_bytes <= row.blocked_bytes, "{row:?}");
    }
    // Movable memory is never blocked, but refuses; normal memory never refuses before it is full.
    let of = |name: &'static str| rows.iter().filter(move |row| row.policy.name() == name);
    assert!(of("all MOVABLE").all(|row| row.blocked_bytes == 0));
    assert!(of("all MOVABLE").any(|row| row.unmovable_refused > 0));
    assert!(of("all NORMAL").all(|row| row.unmovable_refused == 0));
    assert!(of("all NORMAL").any(|row| row.blocked_bytes > 0));
}

#[test]
fn a_page_needs_nothing_else() {
    for text in [ONLINING.to_owned(), small()] {
        let outcome = outcome(&text, None);
        let plots = plots(&outcome).unwrap();
        assert!(!plots.is_empty() && plots.iter().all(|plot| plot.svg.trim().ends_with("</svg>")));
        let page = page(&outcome, &plots);
        assert_eq!(page.matches("<svg").count(), plots.len());
        assert!(!page.contains("src=") && !page.contains("href="));
        assert!(page.contains("Hildenbrand"));
    }
}

#[test]
fn every_mistake_is_named_with_its_line() {
    let line = |text: &str, of: &str| text.lines().position(|at| at.contains(of)).unwrap() + 1;
    for (text, from, to, at, problem) in [
        (ONLINING, "ratio = 301", "ration = 301", "ration = 301", "ration"),
        (ONLINING, "\"4GiB\"\nplugged", "\"4Gib0\"\nplugged", "early =", "unknown unit"),
        (ONLINING, "\"1TiB\"", "\"2000PiB\"", "[onlining]", "1PiB at most"),
        (ONLINING, "\"1TiB\"", "\"1000MiB\"", "[onlining]", "whole units of 128MiB"),
        (ONLINING, "\"dimm\"", "\"dim\"", "\"dim\"", "dim"),
        (COMES_BACK, "plugged = \"20GiB\"", "plugged = \"0\"", "[comes-back]", "more than 0"),
        (COMES_BACK, "\"2MiB\"", "\"1MiB\"", "[comes-back]", "2MiB or more"),
        (COMES_BACK, "[1, 5, 10, 25]", "[101]", "[comes-back]", "100 at most"),
        (COMES_BACK, "[1, 5, 10, 25]", "[]", "[comes-back]", "1 to 64"),
        (COMES_BACK, "order = 9", "order = 10", "order = 10", "0 to 9"),
        (COMES_BACK, "peak-percent = 90", "peak-percent = 100", "[comes-back]", "99 at most"),
        (COMES_BACK, "period = 20", "period = 0", "period = 0", "nonzero"),
    ] {
        assert!(text.contains(from), "{from}");
        let text = text.replacen(from, to, 1);
        let error = Scenario::read(&text).unwrap_err();
        assert!(error.problem.contains(problem), "{to}: {error}");
        assert_eq!(error.line, line(&text, at), "{to}: {error}");
    }
    let none = "title = \"\"\nclaim = \"\"\nseed = 1\n";
    assert!(Scenario::read(none).unwrap_err().problem.contains("one of"));
}
