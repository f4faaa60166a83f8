//! Requests, answers and lost connections in any order.

use std::time::{Duration, Instant};

use memtide_cxl::manager::Forcing;
use memtide_fabric::control::DeviceStateView;
use memtide_units::Random;

use crate::{
    agent::{Agent, Answer},
    bed::{BLOCK, Bed, LONG, add, give},
};

const NAMES: [&str; 2] = ["h0", "h1"];

/// An agent that has answered all before it says anything.
fn connect(bed: &Bed, host: usize) -> Agent {
    let mut agent = bed.agent(host);
    while agent.answer(Answer::Accept) {}
    agent.tell();
    agent
}

#[test]
fn at_random_nothing_has_two_owners_and_all_agree_in_the_end() {
    let seed = std::env::var("MEMTIDE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    for seed in seed..seed + 3 {
        eprintln!("seed {seed}");
        at_random(seed);
    }
}

fn at_random(seed: u64) {
    let mut random = Random::new(seed);
    let mut bed = Bed::start(2);
    bed.connected();
    let mut agents = [0, 1].map(|host| connect(&bed, host));
    for _ in 0..60 {
        let host = random.below(2) as usize;
        if agents[host].is_sent_away() {
            agents[host] = connect(&bed, host);
        }
        match random.below(9) {
            0..3 => {
                let request = add(NAMES[host], 1 + random.below(3), Duration::from_millis(50));
                // It may be more than there is.
                let _ = bed.client.ask(request);
            }
            3 => {
                let _ = bed.client.ask(give(NAMES[host], 1, Forcing::Never));
            }
            4 => agents[host] = connect(&bed, host),
            5 if random.below(3) == 0 => bed.qemus[host].disconnect(),
            6 => {
                agents[host].answer(Answer::Refuse);
                agents[host].tell();
            }
            7 => agents[host].give_back(random.below(2) * BLOCK),
            _ => {
                agents[host].answer(Answer::Accept);
                agents[host].tell();
            }
        }
        std::thread::sleep(Duration::from_millis(random.below(15)));
        let [one, other] = [0, 1].map(|host| bed.qemus[host].device().accepted.clone());
        let both = one.iter().find(|range| other.iter().any(|other| other.overlaps(**range)));
        assert_eq!(both, None, "seed {seed}");
    }
    all_agree_in_the_end(&mut bed, agents, seed);
}

fn all_agree_in_the_end(bed: &mut Bed, mut agents: [Agent; 2], seed: u64) {
    let until = Instant::now() + LONG;
    let mut anew = Instant::now() + Duration::from_secs(2);
    loop {
        // An answer is lost with its connection when another one takes its place before it was
        // read, and the offer was not yet one then. Who comes anew has answered all.
        let is_time = Instant::now() > anew;
        if is_time {
            anew = Instant::now() + Duration::from_secs(2);
        }
        for (host, agent) in agents.iter_mut().enumerate() {
            if agent.is_sent_away() || is_time {
                *agent = connect(bed, host);
            }
            while agent.answer(Answer::Accept) {}
            agent.give_back(0);
        }
        let view = bed.looks.devices().unwrap().remove(0);
        let of = |host: usize| {
            bed.qemus[host].device().accepted.iter().map(|range| range.length).sum::<u64>()
        };
        let agrees = (0..2).all(|n| view.hosts[n].held == of(n) && view.hosts[n].pending == 0);
        if view.state == DeviceStateView::Ready && agrees {
            return;
        }
        let devices = [0, 1].map(|host| format!("{:#?}", bed.qemus[host].device()));
        assert!(Instant::now() < until, "seed {seed}: {view:#?}\n{devices:#?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
