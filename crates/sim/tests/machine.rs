//! Whole machines: random ones, and the shipped scenarios with their answers.

use std::num::NonZeroUsize;

use memtide_sim::{
    Outcome, Results, Scenario,
    machine::{
        fuzz::fuzz,
        measure::{MachineRow, TenantRow},
    },
    page::page,
    plot::plots,
    run_on,
    sweep::{Setting, sweep},
};
use memtide_units::NodeKind;

const IDLE_HOLDER: &str = include_str!("../../../scenarios/idle-holder.toml");
const DEVICE_SIXTEEN: &str = include_str!("../../../scenarios/device-sixteen.toml");
const HALF_WIDTH: &str = include_str!("../../../scenarios/half-width.toml");
const FLEET: &str = include_str!("../../../scenarios/fleet-1tib.toml");
const GIB: u64 = 1 << 30;

fn threads(count: usize) -> NonZeroUsize {
    NonZeroUsize::new(count).unwrap()
}

fn outcome(text: &str, count: usize) -> Outcome {
    let scenario = Scenario::read(text).unwrap();
    let outcome = run_on(threads(count), &scenario, None, &mut |_, _| {});
    outcome.unwrap_or_else(|error| panic!("{error}"))
}

fn rows(text: &str) -> Vec<MachineRow> {
    let outcome = outcome(text, 2);
    outcome.table().iter().for_each(|row| println!("{}", row.join(" | ")));
    let Results::Machine(rows) = outcome.results else { panic!("not a machine") };
    rows
}

fn of<'r>(rows: &'r [MachineRow], case: &str, window: &str, tenant: &str) -> &'r TenantRow {
    let case = rows.iter().find(|row| row.case == case).unwrap();
    case.tenants.iter().find(|row| row.window == window && row.tenant == tenant).unwrap()
}

/// `MEMTIDE_SEEDS=FROM..TO` runs others. A fuzz that covers nothing would find nothing.
#[test]
fn random_machines_hold_what_must_hold_and_cover_the_rules() {
    let seeds = std::env::var("MEMTIDE_SEEDS").unwrap_or_else(|_| "0..1000".to_owned());
    let (from, to) = seeds.split_once("..").unwrap();
    let outcome = fuzz(from.parse().unwrap()..to.parse().unwrap(), threads(2), &mut |_, _| {});
    println!("{} steps, {:#?}", outcome.steps, outcome.seen);
    for failure in outcome.failures.iter().take(3) {
        println!("seed {}: {}", failure.seed, failure.violation);
    }
    let seeds: Vec<u64> = outcome.failures.iter().map(|failure| failure.seed).collect();
    assert!(seeds.is_empty(), "{} of {} fail: {seeds:?}", outcome.failed(), outcome.seeds);
    for what in [
        "in Lease",
        "in Release",
        "in Commit",
        "in ForkBegin",
        "in Thawed",
        "in Moved",
        "in Pin",
        "in Accessed",
        "in LinkChanged",
        "in Evacuate",
        "in GiveBackExtents",
        "in Online",
        "in Mbind",
        "in Left",
        "fault moved but unanswered",
        "in DeviceSaved",
        "in Poison",
        "in Lost",
        "out Poisoned",
        "out Lost",
        "out Offlined",
        "out Onlined",
        "rule NoAccess",
        "rule Maximum",
        "rule Guaranteed",
        "rule Full",
        "rule MovableOnly",
        "rule AccessedBy",
        "rule NoCapacity",
        "rule NoEmergency",
        "rule Evacuating",
        "rule Promises",
        "fault die",
        "fault held",
        "fault late",
        "fault mute",
        "fault link lost",
        "fault driver mute",
        "lease waited",
        "rule Queue",
        "promise given",
        "promise refused",
        "out SaveDevice",
        "out RestoreDevice",
        "balance moved",
        "check ping-pong",
        "check guarantee",
        "check reach of a grant",
        "check reach of a move",
    ] {
        assert!(outcome.seen.contains_key(what), "{what} is never seen");
    }
}

/// Khandual: what one holds idle goes to the other, who had to fall back; once.
#[test]
fn an_idle_holder_makes_way_and_nothing_ping_pongs() {
    let rows = rows(IDLE_HOLDER);
    let second = |case, window| of(&rows, case, window, "second");
    for case in ["memtide", "never idle"] {
        assert_eq!(second(case, "before").bytes["system"], 3 * GIB);
    }
    assert_eq!(second("memtide", "after").bytes["device"], 3 * GIB);
    assert_eq!(second("never idle", "after").bytes["device"], 0);
    let speeds = |case| ["before", "after"].map(|window| second(case, window).bytes_per_second);
    let [before, after] = speeds("memtide");
    assert!(after >= 2 * before, "{before} {after}");
    let [before, after] = speeds("never idle");
    assert_eq!(before, after);
    // The first keeps what nobody needs, and every page goes once.
    assert_eq!(of(&rows, "memtide", "after", "first").bytes["device"], GIB);
    for tenant in ["first", "second"] {
        let moved = of(&rows, "memtide", "all", tenant).moved_bytes.values().sum::<u64>();
        assert_eq!(moved, 3 * GIB, "{tenant}");
    }
    let curves = &rows.iter().find(|row| row.case == "memtide").unwrap().curves;
    let curve = curves.iter().find(|curve| curve.tenant == "second").unwrap();
    // A round moves what a process may have in flight, so 3 GiB each way take a while.
    let at = |bytes: u64| {
        let mut samples = curve.at_ms.iter().zip(&curve.bytes["device"]);
        samples.find(|&(_, &has)| has >= bytes).map(|(&at, _)| at).expect("it gets so much")
    };
    assert!((25_000..27_000).contains(&at(1)), "{}", at(1));
    assert!((45_000..56_000).contains(&at(3 * GIB)), "{}", at(3 * GIB));
    // It is named: all that it held, when it had been idle for long enough, and what it kept.
    let idle = |case, window, tenant| &of(&rows, case, window, tenant).idle;
    let found = idle("memtide", "all", "first").iter().find(|row| row.kind == NodeKind::Device);
    let found = found.expect("the idle holder is found");
    assert_eq!((found.program.as_str(), found.bytes), ("first", 4 * GIB));
    assert!((25_000..27_000).contains(&found.at_ms), "{found}");
    assert!((5000..7000).contains(&found.idle_ms), "{found}");
    let kept = idle("memtide", "after", "first").iter().find(|row| row.kind == NodeKind::Device);
    assert!(kept.is_some_and(|row| (GIB..4 * GIB).contains(&row.bytes)), "{kept:?}");
    assert!(idle("memtide", "before", "first").is_empty(), "it works until 20 s");
    assert!(idle("memtide", "all", "second").is_empty(), "it works all the time");
    assert!(idle("never idle", "all", "first").is_empty());
}

/// McKenney's 1b and 6c.
#[test]
fn a_device_of_16_gib_neither_caps_nor_attracts() {
    let rows = rows(DEVICE_SIXTEEN);
    let application = |case, window| of(&rows, case, window, "application");
    for row in &rows {
        let small = application(&row.case, "small");
        assert_eq!((small.bytes["system"], small.bytes["device"]), (20 * GIB, 0), "{}", row.case);
        let large = application(&row.case, "large");
        let all = large.bytes.values().sum::<u64>() + large.ordinary_bytes;
        assert_eq!((all, large.short_bytes), (40 * GIB, 0), "{}: it is not capped", row.case);
    }
    let device = |case, window| application(case, window).bytes["device"];
    assert_eq!(device("emergency off", "large"), 0);
    assert_eq!(application("emergency off", "large").ordinary_bytes, 8 * GIB);
    assert_eq!(device("emergency on", "large"), 8 * GIB);
    assert_eq!(device("emergency on", "large again"), 8 * GIB);
    // Evacuated with room elsewhere: all of it leaves, and nothing comes, whatever the emergency.
    assert_eq!(device("evacuated", "large again"), 0);
    let answer = |case| &rows.iter().find(|row| row.case == case).unwrap().answers[0];
    let whole = answer("evacuated");
    assert_eq!((whole.returned_bytes, whole.remaining_bytes), (16 * GIB, 0));
    // Without: what is in use stays, and it is said who holds it and why.
    let part = answer("evacuated in use");
    assert_eq!((part.returned_bytes, part.remaining_bytes), (8 * GIB, 8 * GIB));
    let holder = ("application".to_owned(), "no-room".to_owned(), 8 * GIB);
    assert_eq!(part.holders, [holder]);
    assert_eq!(device("evacuated in use", "large again"), 0);
}

/// Target: automatic weights reach 0.98 of the best ratio of a sweep.
#[test]
fn weights_follow_a_link_at_half_width() {
    let rows = rows(HALF_WIDTH);
    let speed = |case: &str, window| of(&rows, case, window, "stream").bytes_per_second as f64;
    for window in ["full width", "half width"] {
        let best = rows.iter().map(|row| speed(&row.case, window)).fold(0.0, f64::max);
        let ratio = speed("automatic", window) / best;
        println!("{window}: {ratio:.4} of the best");
        assert!(ratio >= 0.98, "{window}: {ratio}");
    }
    // Weights by hand, right before, lose to the near memory alone after.
    let by_hand = speed("10:3", "half width");
    assert!(by_hand < 0.6 * speed("automatic", "half width"));
    assert!(by_hand < speed("near only", "half width"));
}

/// Half a million pageblocks, 4000 programs. The bound is ten times what it takes alone.
#[test]
fn a_tebibyte_takes_seconds() {
    let begun = std::time::Instant::now();
    let rows = rows(FLEET);
    println!("{:?}, {} steps, {:?}", begun.elapsed(), rows[0].steps, rows[0].answers);
    assert!(rows[0].steps > 20_000 && rows[0].seen["in Join"] == 4000);
    let answer = &rows[0].answers[0];
    assert_eq!((answer.returned_bytes, answer.remaining_bytes), (336 * GIB, 0));
    // Less is free in whole blocks: the rest is moved together, which takes its time.
    assert!((20..2000).contains(&answer.took_ms), "{} ms", answer.took_ms);
    let all = rows[0].tenants.iter().filter(|row| row.window == "all");
    let moved: u64 = all.flat_map(|row| row.moved_bytes.values()).sum();
    assert!((10 * GIB..64 * GIB).contains(&moved), "{} GiB", moved / GIB);
    assert!(begun.elapsed().as_secs() < 300);
}

/// `"emergency off"` and `"emergency-off"` are the same as names of files.
#[test]
fn cases_of_like_names_have_plots_of_their_own() {
    let text = DEVICE_SIXTEEN.replace("name = \"emergency on\"", "name = \"emergency-off\"");
    let outcome = outcome(&text, 2);
    let mut names: Vec<String> = plots(&outcome).unwrap().into_iter().map(|p| p.name).collect();
    let all = names.len();
    assert!(names.contains(&"emergency-off-speed-2".to_owned()), "{names:?}");
    names.sort();
    names.dedup();
    assert_eq!(names.len(), all);
}

#[test]
fn one_seed_is_one_outcome_on_any_number_of_threads() {
    let all = |count| {
        let outcome = outcome(DEVICE_SIXTEEN, count);
        let page = page(&outcome, &plots(&outcome).unwrap());
        (serde_json::to_string(&outcome).unwrap(), page)
    };
    assert_eq!(all(1), all(2));
    let fuzzed = |count| fuzz(0..40, threads(count), &mut |_, _| {});
    assert_eq!(fuzzed(1), fuzzed(3));
}

#[test]
fn every_mistake_is_named_with_its_line() {
    let wrong = |text: &str, from: &str, to: &str, problem: &str| {
        assert!(text.contains(from), "{from}");
        let at = text[..text.find(from).unwrap()].matches('\n').count() + 1;
        let error = Scenario::read(&text.replacen(from, to, 1)).unwrap_err();
        assert!(error.problem.contains(problem), "{to}: {error}");
        // A table is told by its first line.
        assert!(error.line <= at && at - error.line <= 5, "{to}: {error}; it is in line {at}");
    };
    wrong(HALF_WIDTH, "kind = \"far\"", "kind = \"farr\"", "farr");
    wrong(HALF_WIDTH, "duration =", "durations =", "durations");
    wrong(HALF_WIDTH, "to = \"far\"", "to = \"fare\"", "no processor, switch or node \"fare\"");
    wrong(HALF_WIDTH, "link = \"lanes\"", "link = \"lane\"", "no link \"lane\"");
    wrong(HALF_WIDTH, "\"far\"] }", "\"fur\"] }", "no node \"fur\"");
    wrong(HALF_WIDTH, "percent = 50", "percent = 101", "1 to 100");
    wrong(HALF_WIDTH, "near = 10,", "near = 0,", "1 to 255");
    wrong(DEVICE_SIXTEEN, "from = \"port\"", "from = \"device\"", "from a node");
    wrong(DEVICE_SIXTEEN, "to = \"port\"", "to = \"cpu\"", "to a processor");
    wrong(DEVICE_SIXTEEN, "tenant.application.em", "tenant.app.em", "no entry \"app\"");
    wrong(DEVICE_SIXTEEN, "\"fall-back\"", "\"wait\"", "\"wait\"");
    let link = "[[machine.link]]\nlatency-ns = 1\nbandwidth-mib = 1\n";
    let circle = format!(
        "[[machine.switch]]\nname = \"b\"\n{link}from = \"port\"\nto = \"b\"\n{link}from = \
         \"b\"\nto = \"port\"\n[[machine.switch]]"
    );
    let error = Scenario::read(&DEVICE_SIXTEEN.replacen("[[machine.switch]]", &circle, 1));
    assert!(error.unwrap_err().problem.contains("circle"));
}

#[test]
fn a_sweep_runs_every_combination_in_order() {
    let setting = |path: &str, values: &[&str]| Setting {
        path: path.to_owned(),
        values: values.iter().map(|&value| value.to_owned()).collect(),
    };
    let settings = [
        setting("machine.program.application.phase.0.wants-mib", &["1000", "2000"]),
        setting("machine.node.system.size", &["32GiB", "24GiB"]),
    ];
    let run = |count| {
        let swept = sweep(DEVICE_SIXTEEN, &settings, None, threads(count), &mut |_, _| {});
        swept.unwrap()
    };
    let one = run(1);
    assert_eq!(one, run(3));
    let set = one.runs.iter().flat_map(|run| run.set.iter().map(|(_, value)| value.as_str()));
    let set: Vec<&str> = set.collect();
    assert_eq!(set, ["1000", "32GiB", "1000", "24GiB", "2000", "32GiB", "2000", "24GiB"]);
    assert_eq!(one.table().len(), 1 + 4 * 4 * 3);
    assert!(!one.plots().unwrap().is_empty());
    let refused = |path: &str, value: &str| {
        let settings = [setting(path, &[value])];
        let error = sweep(DEVICE_SIXTEEN, &settings, None, threads(1), &mut |_, _| {});
        let error = error.unwrap_err();
        assert!(error.is_usage());
        error.to_string()
    };
    assert!(refused("machine.nothing.at", "1").contains("nothing"));
    assert!(refused("machine.durations", "1").contains("durations"));
    assert!(refused("machine.duration", "1 parsec").contains("expected a time"));
}
