//! A fabric under test: a device, hosts and a manager, each with its own idea of what is going on,
//! links that lose and repeat, and crashes of everybody at every step.
//!
//! All of it is one thread and one seed: the device is the model of [`memtide_cxl::device`], the
//! hosts run the rules of [`memtide_engine::dynamic_capacity`], and the world decides by chance who
//! does the next step, what is lost, and who falls over ([`world`]). After every step the truth,
//! which only the device and the medium know, is judged ([`judge`]); at the end faults stop, and
//! everything has to come to rest.
//!
//! `FABRIC_SEED=n cargo test -p memtide-cxl --test fabric one_seed -- --nocapture` replays a seed
//! and prints what happened; `FABRIC_SEEDS=n` has that many tried.

mod agent;
mod judge;
mod link;
mod operator;
mod world;

use world::{Kind, Seen, World};

/// Runs a seed; a panic says which one it was.
fn run(seed: u64, kind: Kind) -> Seen {
    let outcome = std::panic::catch_unwind(|| World::new(seed, kind).run());
    outcome.unwrap_or_else(|panic| {
        eprintln!(
            "seed {seed} of {kind:?} failed: FABRIC_SEED={seed} FABRIC_KIND={kind:?} \
             cargo test -p memtide-cxl --test fabric one_seed -- --nocapture"
        );
        std::panic::resume_unwind(panic)
    })
}

/// Runs so many, of which each of these things is to happen in one of so many: what is never tried
/// is never found.
fn run_all(kind: Kind, default: u64, expected: &[&'static str], one_in: u64) {
    let (seeds, mut all) = (seeds(default), Seen::new());
    for (what, count) in (0..seeds).flat_map(|seed| run(seed, kind)) {
        *all.entry(what).or_default() += count;
    }
    for what in expected {
        let count = all.get(what).copied().unwrap_or(0);
        assert!(count >= seeds / one_in, "{what} in {seeds} seeds: {all:?}");
    }
}

/// What happens whatever goes wrong.
const ALWAYS: [&str; 5] = [
    "offers withdrawn",
    "hosts replaced",
    "strangers set up",
    "starts with something withheld",
    "hosts with something of their own",
];

fn seeds(default: u64) -> u64 {
    std::env::var("FABRIC_SEEDS").map_or(default, |text| text.parse().expect("a number"))
}

#[test]
fn nothing_is_lost_or_doubled_without_faults() {
    run_all(Kind::Calm, 300, &ALWAYS, 40);
}

#[test]
fn nothing_is_lost_or_doubled_when_messages_are_lost() {
    run_all(Kind::Lossy, 500, &ALWAYS, 40);
}

#[test]
fn nothing_is_lost_or_doubled_when_everybody_crashes() {
    run_all(Kind::Stormy, 1000, &ALWAYS, 40);
}

#[test]
fn one_seed() {
    let Ok(seed) = std::env::var("FABRIC_SEED") else { return };
    let kind = match std::env::var("FABRIC_KIND").as_deref() {
        Ok("Calm") => Kind::Calm,
        Ok("Lossy") => Kind::Lossy,
        _ => Kind::Stormy,
    };
    let mut world = World::new(seed.parse().expect("a number"), kind);
    world.tells = world::Tells::All;
    println!("{:?}", world.run());
}
