//! The simulator as a whole, on small memory.

use std::{cell::Cell, collections::BTreeMap};

use super::{
    config::Contender,
    machine::{Change, Machine},
    trace::{Access, Record, Recorded},
    *,
};

const MACHINE: &str = r#"
    page = "4KiB"
    policies = ["static"]
    [machine]
    threads = 8
    migration-gbps = 4.0
    tiers = [
        { latency-ns = 90.0, bandwidth-gbps = 60.0, load-factor = 0.2, capacity-percent = 33 },
        { latency-ns = 220.0, bandwidth-gbps = 24.0, load-factor = 0.2, capacity-percent = 100 },
    ]
    [machine.costs]
    sample-ns = 100.0
    tick-ns = 20000.0
    move-ns = 1000.0
    copy-gbps = 8.0
    stall-ns = 2000.0
    [[workloads]]
    name = "w"
    pages = 10000
    visits = 1_000_000
    burst = 16
    parallelism = 4
    write-percent = 20
"#;

fn scenario(pattern: &str) -> Tiering {
    toml::from_str(&format!("{MACHINE}\n{pattern}\n")).unwrap()
}

fn row(what: &Tiering, contender: &str) -> TieringRow {
    let contender = Contender::try_from(contender.to_owned()).unwrap();
    let job = Job { contender, ..what.job(0) };
    run_job(&job, 1, &|_| ())
}

const PATTERNS: [&str; 8] = [
    "pattern = 'uniform'",
    "pattern.hot-set = { hot-pages = 10, hot-visits = 90 }",
    "pattern.hot-set = { hot-pages = 10, hot-visits = 90, phase = 300_000 }",
    "pattern.zipf = { theta = 0.99 }",
    "pattern.zipf = { theta = 0.8, phase = 300_000 }",
    "pattern = 'scan'",
    "pattern.scan-and-hot = { scan-visits = 30 }",
    "write-percent = 0\npattern.graph = \
     { traversal = 'bfs', edges = 'kronecker', scale = 12, degree = 8 }",
];

fn scenarios() -> impl Iterator<Item = (&'static str, Tiering)> {
    PATTERNS.into_iter().map(|pattern| {
        let text = match pattern.strip_prefix("write-percent = 0\n") {
            Some(pattern) => {
                format!("{}\n{pattern}", MACHINE.replace("write-percent = 20", ""))
            }
            None => format!("{MACHINE}\n{pattern}"),
        };
        (pattern, toml::from_str(&text).unwrap())
    })
}

#[test]
fn bounds_stand_in_their_order() {
    for (pattern, what) in scenarios() {
        what.check().unwrap();
        let names = ["far-only", "static", "static-oracle", "clairvoyant", "near-only"];
        let rates: Vec<u64> = names.map(|name| row(&what, name).per_second).to_vec();
        // A clairvoyant's phases differ from the whole only by chance where there are none.
        for pair in rates.windows(2) {
            assert!(pair[0] <= pair[1] + pair[1] / 100, "{pattern}: {rates:?}");
        }
        assert!(rates[4] > rates[0] * 2, "{pattern}: {rates:?}");
    }
}

#[test]
fn the_near_share_is_what_the_workload_says() {
    let near = |pattern, name| row(&scenario(pattern), name).near_ppm;
    // First touch knows nothing: a third of the pages, a third of the accesses.
    for pattern in [PATTERNS[0], PATTERNS[1], PATTERNS[5]] {
        let static_share = near(pattern, "static");
        assert!((320_000..340_000).contains(&static_share), "{pattern}: {static_share}");
    }
    // The hot tenth gets 90 % and its part of the rest; 23 % of the pages take 23 of the last 90.
    let oracle = near(PATTERNS[1], "static-oracle");
    assert!((930_000..945_000).contains(&oracle), "{oracle}");
    // Zipf of 0.99 over 10^4: the sum of the first 3300 terms by that of all is 0.887.
    let zipf: Vec<f64> = (1..=10_000).map(|rank| f64::from(rank).powf(-0.99)).collect();
    let share = zipf[..3300].iter().sum::<f64>() / zipf.iter().sum::<f64>() * 1e6;
    let oracle = near(PATTERNS[3], "static-oracle");
    assert!((oracle as f64 - share).abs() < 10_000.0, "{oracle} {share}");
    assert_eq!(near(PATTERNS[3], "near-only"), 1_000_000);
    assert_eq!(near(PATTERNS[3], "far-only"), 0);
}

/// Each page is hot in one of four phases: what never changes has a third of them near.
#[test]
fn a_clairvoyant_follows_the_phases() {
    let what = scenario("pattern.hot-set = { hot-pages = 25, hot-visits = 100, phase = 250_000 }");
    let [fixed, follows] = ["static-oracle", "clairvoyant"].map(|name| row(&what, name));
    assert!(fixed.near_ppm < 400_000, "{}", fixed.near_ppm);
    assert!(follows.near_ppm > 990_000, "{}", follows.near_ppm);
}

/// Exhaustive search: a packer is far off when the near tier saturates (Colloid).
#[test]
fn the_oracle_leaves_hot_pages_far_when_near_saturates() {
    let mut what = scenario("pattern.hot-set = { hot-pages = 20, hot-visits = 95 }");
    let packed = row(&what, "static-oracle");
    assert!(packed.near_ppm > 950_000);
    what.workloads[0].parallelism = 40;
    let split = row(&what, "static-oracle");
    let near_only = row(&what, "near-only");
    assert!((500_000..850_000).contains(&split.near_ppm), "{}", split.near_ppm);
    assert!(split.per_second as f64 > near_only.per_second as f64 * 1.2);
    // No share does better: all of them tried, in the model itself.
    let job = what.job(0);
    let best = (0..=1000).map(|permille| {
        let mut demand = machine::Demand::of(&job);
        demand.share = [f64::from(permille) / 1e3, 1.0 - f64::from(permille) / 1e3, 0.0, 0.0];
        demand.writes = [0.2; machine::TIERS_MAX];
        job.machine.solve(&demand).per_ns
    });
    let best = best.fold(0.0, f64::max) * 1e9;
    let ratio = split.per_second as f64 / best;
    assert!((0.99..1.001).contains(&ratio), "{ratio}");
}

#[test]
fn one_seed_gives_one_row() {
    for (pattern, what) in scenarios() {
        for name in ["static", "clairvoyant"] {
            assert_eq!(row(&what, name), row(&what, name), "{pattern}, {name}");
        }
        let other = run_job(&what.job(0), 2, &|_| ());
        let differs = other != row(&what, "static");
        assert!(differs || pattern.contains("scan'"), "{pattern}: the seed says nothing");
    }
}

#[test]
fn all_contenders_get_the_same_work() {
    let mut seen = BTreeMap::new();
    for (pattern, what) in scenarios() {
        let mut streams = [1, 1, 2].map(|seed| workload::stream(&what.workloads[0], seed));
        let phases = [0, 0, 3];
        // In runs of any length.
        let mut visits = [[7, 1000, 93], [500, 500, 100], [1, 999, 100]].iter().enumerate().map(
            |(at, lengths)| {
                let mut all = vec![0; 1100];
                let mut rest = &mut all[..];
                for &length in lengths {
                    let (run, more) = rest.split_at_mut(length);
                    streams[at].fill(phases[at], run);
                    rest = more;
                }
                all
            },
        );
        let [one, same, other] = std::array::from_fn(|_| visits.next().unwrap());
        assert_eq!(one, same, "{pattern}");
        seen.insert(pattern, one != other);
    }
    assert!(seen.values().filter(|&&differs| differs).count() >= 7, "{seen:?}");
}

/// The far link drops to half its width: throughput falls there, and not before.
#[test]
fn a_link_that_drops_is_felt_at_its_time() {
    let mut what = scenario("pattern = 'uniform'");
    what.workloads[0].visits = 2_000_000;
    what.workloads[0].parallelism = 16;
    let before = row(&what, "far-only");
    let middle = before.time_ns / 2_000_000;
    let change = Change { at_ms: middle as u32, tier: 1, latency_ns: 250.0, bandwidth_gbps: 12.0 };
    what.machine.changes.push(change);
    what.check().unwrap();
    let after = row(&what, "far-only");
    let rate = |until_ms: std::ops::Range<u64>| {
        let inside = after.curve.iter().filter(|point| until_ms.contains(&(point[0] / 1000)));
        inside.map(|point| point[1]).max().unwrap()
    };
    assert!(rate(0..middle).abs_diff(before.per_second) < before.per_second / 100);
    let late = rate(middle + 5..u64::MAX) as f64 / before.per_second as f64;
    assert!((0.45..0.6).contains(&late), "{late}");
    // Who is near all the time feels nothing.
    what.machine.changes[0].at_ms = 0;
    let untouched = Tiering {
        machine: Machine { changes: Vec::new(), ..what.machine.clone() },
        ..what.clone()
    };
    assert_eq!(row(&what, "near-only"), row(&untouched, "near-only"));
}

#[test]
fn a_trace_is_replayed() {
    let text = MACHINE.replace("pages = 10000\n", "").replace("write-percent = 20", "");
    let text = format!("{text}\npattern.trace = {{ file = 'a.trace' }}");
    let mut what: Tiering = toml::from_str(&text).unwrap();
    what.check().unwrap();
    assert_eq!(what.files().into_iter().collect::<Vec<_>>(), ["a.trace"]);
    let wanted = kind::Job { number: 0, seed: 1, told: &|_| () };
    let missing = Kind::run(&what, wanted).unwrap_err();
    assert_eq!(missing.to_string(), "trace \"a.trace\" was not supplied");
    // 100 pages, each 10 times in a row; then the last 33 of them 90 times.
    let pages = (0..100_u64).flat_map(|page| [page; 10]);
    let pages = pages.chain((0..90).flat_map(|_| 67..100));
    let record = |page| Ok(Record { page: page * 7, access: Access::Read, accessor: 0 });
    what.supply("a.trace", Recorded::collect(pages.map(record)).unwrap());
    let rows = Kind::run(&what, wanted).unwrap();
    assert_eq!(rows[0].pages, 100);
    // 330 of 3970 by first touch; 3300 at best.
    assert!(rows[0].near_ppm.abs_diff(330_000_000 / 3970) < 1000, "{}", rows[0].near_ppm);
    let best = row(&what, "static-oracle").near_ppm;
    assert!(best.abs_diff(3_300_000_000 / 3970) < 1000, "{best}");
}

#[test]
fn three_tiers_are_packed_in_order() {
    let mut what = scenario("pattern.zipf = { theta = 0.99 }");
    what.machine.tiers[0].capacity_percent = 10;
    what.machine.tiers[1].capacity_percent = 20;
    let last = machine::TierModel {
        latency_ns: 900.0,
        capacity_percent: 70,
        ..what.machine.tiers[1].clone()
    };
    what.machine.tiers.push(last);
    what.check().unwrap();
    let rates = ["far-only", "static", "static-oracle", "near-only"]
        .map(|name| row(&what, name).per_second);
    assert!(rates.is_sorted() && rates[1] * 2 < rates[2], "{rates:?}");
}

#[test]
fn progress_rises_to_the_end() {
    let last = Cell::new(0);
    let told = |permille| {
        assert!(permille >= last.get());
        last.set(permille);
    };
    let _ = run_job(&scenario("pattern = 'scan'").job(0), 1, &told);
    assert_eq!(last.get(), 1000);
}

#[test]
fn impossible_scenarios_are_refused() {
    let good = format!("{MACHINE}\npattern = 'uniform'");
    let graph = "pattern.graph = { traversal = 'bfs', edges = 'uniform', scale = 24, degree = 17 }";
    let written = format!("write-percent = 0\n{graph}");
    let uniform = "write-percent = 20\n\npattern = 'uniform'";
    for (from, to, reason) in [
        ("4KiB", "16KiB", "page 16KiB; expected 4KiB or 2MiB"),
        ("threads = 8", "threads = 0", "machine: threads 0; expected 1 to 65536"),
        ("threads = 8", "thread = 8", "unknown field `thread`"),
        ("\"static\"", "\"statik\"", "policy \"statik\"; expected the name of a policy"),
        ("= 100 }", "= 66 }", "tiers for 99 % of the pages; expected 100 or more"),
        ("latency-ns = 90.0", "latency-ns = 0.0", "tier 0: latency-ns 0; expected more than 0"),
        ("latency-ns = 90.0", "latency-ns = nan", "tier 0: latency-ns NaN; expected more than 0"),
        ("bandwidth-gbps = 24.0", "bandwidth-gbps = inf", "tier 1: bandwidth-gbps inf; expected"),
        ("copy-gbps = 8.0", "copy-gbps = -1.0", "costs: copy-gbps -1; expected more than 0"),
        ("sample-ns = 100.0", "sample-ns = -1.0", "costs: sample-ns -1; expected 0 to"),
        ("pages = 10000", "pages = 1", "workload \"w\": pages 1; expected 2 to 268435456"),
        ("visits = 1_000_000", "visits = 0", "workload \"w\": visits 0; expected 1 to"),
        ("burst = 16", "burst = 0", "workload \"w\": burst 0; expected 1 to 32768"),
        ("percent = 20", "percent = 101", "workload \"w\": write-percent 101; expected 0 to 100"),
        ("'uniform'", "'unifrom'", "unknown variant `unifrom`"),
        ("pattern = 'uniform'", "pattern.zipf = { theta = 1.0 }", "theta 1; expected 0.01 to"),
        (
            "pattern = 'uniform'",
            "pattern.zipf = { theta = 0.5, phase = 0 }",
            "phase 0; expected 32768",
        ),
        (
            "pattern = 'uniform'",
            "pattern.hot-set = { hot-pages = 0, hot-visits = 1 }",
            "hot-pages 0; expected 1 to 100",
        ),
        ("pattern = 'uniform'", "pattern.scan-and-hot = { scan-visits = 101 }", "scan-visits 101"),
        ("pattern = 'uniform'", graph, "write-percent 20; expected none"),
        (uniform, written.as_str(), "degree 17; expected 1 to 16"),
        ("visits = 1_000_000", "visits = 1_000_000_000_000", "expected 1 to 274877906944"),
        ("pattern = 'uniform'", "pattern.trace = { file = 'x' }", "pages 10000; expected none"),
    ] {
        let text = good.replacen(from, to, 1);
        let read = toml::from_str::<Tiering>(&text).map_err(|error| error.to_string());
        match read.and_then(|what| what.check()) {
            Ok(()) => assert!(reason.is_empty(), "{to}: accepted"),
            Err(error) => assert!(error.contains(reason), "{to}: {error}"),
        }
    }
    let late = Change { at_ms: 5, tier: 2, latency_ns: 1.0, bandwidth_gbps: 1.0 };
    for (changes, reason) in [
        (vec![late], "changes: tier 2; expected 0 to 1"),
        (vec![Change { tier: 1, ..late }, Change { tier: 0, at_ms: 4, ..late }], "rising at-ms"),
        (vec![Change { tier: 0, latency_ns: f64::NAN, ..late }], "latency-ns NaN"),
        (vec![late; 65], "65 entries; expected 64 at most"),
    ] {
        let mut what = scenario("pattern = 'uniform'");
        what.machine.changes = changes;
        let error = what.check().unwrap_err();
        assert!(error.contains(reason), "{error}");
    }
}

/// Some of the shipped scenario, with a sixteenth of the visits, each of which stands for
/// sixteen times as many accesses: the same virtual time.
#[test]
fn the_shipped_scenario_is_within_bounds() {
    let text = include_str!("../../../../scenarios/tiering.toml");
    let scenario = crate::Scenario::read(text).unwrap();
    let kind::What::Tiering(mut what) = scenario.what else { panic!("not of this kind") };
    // Those about which something is claimed.
    what.workloads.retain(|workload| {
        ["hot set", "zipf", "scan", "contended hot set"].contains(&workload.name.as_str())
    });
    for workload in &mut what.workloads {
        workload.visits /= 16;
        workload.burst *= 16;
    }
    let jobs = (0..Kind::jobs(&what)).map(|number| what.job(number));
    let rows: Vec<TieringRow> = jobs.map(|job| run_job(&job, 1, &|_| ())).collect();
    for rows in rows.chunk_by(|a, b| a.workload == b.workload) {
        let rate = |name: &str| {
            let row = rows.iter().find(|row| row.policy == name).unwrap();
            row.per_second as f64
        };
        let workload = &rows[0].workload;
        assert!(rate("static") <= rate("static-oracle") * 1.001, "{workload}");
        assert!(rate("far-only") < rate("static"), "{workload}");
        for row in rows.iter().filter(|row| !row.policy.ends_with("-only")) {
            let to_clairvoyant = row.per_second as f64 / rate("clairvoyant");
            assert!(to_clairvoyant < 1.02, "{workload}, {}: {to_clairvoyant}", row.policy);
            let to_static = row.per_second as f64 / rate("static");
            assert!(to_static > 0.8, "{workload}, {}: {to_static}", row.policy);
        }
        // Where there is something to win, one that packs by frequency wins it.
        if workload.contains("hot set") || workload == "zipf" {
            assert!(rate("memtis") > rate("static") * 1.2, "{workload}");
        }
    }
    let rate = |workload: &str, policy: &str| {
        let is = |row: &&TieringRow| row.workload == workload && row.policy == policy;
        rows.iter().find(is).unwrap().per_second as f64
    };
    // The claim: packers are off where the near tier saturates, by far more than elsewhere.
    let off = |workload: &str| rate(workload, "static-oracle") / rate(workload, "memtis");
    assert!(off("contended hot set") > off("hot set") * 1.1);
    assert!(rate("contended hot set", "near-only") < rate("contended hot set", "static-oracle"));
    assert_eq!(table(&rows).len(), rows.len() + 1);
    assert_eq!(plot::plots(&rows).unwrap().len(), what.workloads.len());
}

/// What the stopwatch runs does what it says.
#[test]
fn the_probe_visits_as_often_as_asked() {
    let memory = probe::Paged { pages: 1 << 16, page_bytes: 4096 };
    let job = probe::job(Pattern::Uniform, memory, 300_000, Contender::NearOnly);
    let row = run_job(&job, 1, &|_| ());
    assert_eq!((row.accesses, row.near_ppm, row.pages), (300_000, 1_000_000, 1 << 16));
}
