//! A manager, guests' QEMUs that are played, and guests' agents that are.

mod agent;
mod bed;
#[path = "../common/managed.rs"]
mod managed;
mod qemu;
mod random;
#[path = "../common/requests.rs"]
mod requests;

use std::time::{Duration, Instant};

use agent::{Agent, Answer};
use bed::{BLOCK, Bed, LONG, add, give};
use memtide_cxl::manager::{Ending, Forcing, Request, Rest, State};
use memtide_fabric::control::{DeviceStateView, DeviceView};
use memtide_units::DpaRange;
use qemu::{BASE, Manners, SIZE};
use requests::{place, release};

const MIB: u64 = 1 << 20;

#[test]
fn capacity_goes_to_one_guest_and_on_to_the_other() {
    let mut bed = Bed::start(2);
    bed.connected();
    let mut first = bed.agent(0);
    let mut second = bed.agent(1);
    first.tell();
    second.tell();
    let view = bed.ready();
    assert_eq!((view.capacity, view.free, view.regions.len()), (SIZE, SIZE, 2));
    assert_eq!((view.regions[0].base, view.regions[1].base), (BASE, BASE + SIZE / 2));

    let id = bed.client.ask(add("h0", 3, LONG)).unwrap();
    first.accepts();
    let report = bed.client.report(id).unwrap();
    assert_eq!((report.state, report.accepted), (State::Ended(Ending::Done), 3 * BLOCK));
    bed.holds(&[3, 0]);
    assert_eq!(bed.qemus[0].device().told[0]["arguments"]["region"], 0);

    // What can comes; the rest is said with its holder's name, and follows.
    let id = bed
        .client
        .ask(Request::Move {
            from: place("h0"),
            to: "h1".parse().unwrap(),
            size: 3 * BLOCK,
            rest: Rest::Stand,
            deadline: Some(LONG),
        })
        .unwrap();
    first.wait("it is asked", |device| !device.asked.is_empty());
    first.give_back(BLOCK);
    second.accepts();
    bed.holds(&[1, 2]);
    let report = bed.client.report(id).unwrap();
    assert_eq!(report.held, BLOCK, "{report:?}");
    assert_eq!(report.holders[0].program.as_deref(), Some("holder"), "{report:?}");
    first.wait("it is asked again", |device| !device.asked.is_empty());
    first.give_back(0);
    second.accepts();
    bed.holds(&[0, 3]);
    assert_eq!(bed.qemus[0].device().accepted, []);
}

#[test]
fn without_an_agent_nothing_is_known_and_that_is_said() {
    let mut bed = Bed::start(2);
    let problem = |host: u16| {
        let text = format!("no agent of host {host} has said yet what it has accepted");
        move |view: &DeviceView| view.problem.as_ref().is_some_and(|why| why.contains(&text))
    };
    let view = bed.wait(problem(0));
    assert_eq!(view.state, DeviceStateView::Reading);
    // Connected is not enough: it has to say what it has.
    let mut first = bed.agent(0);
    bed.wait(problem(0));
    first.tell();
    bed.wait(problem(1));
    let mut second = bed.agent(1);
    second.tell();
    bed.ready();

    // Gone, it leaves an offer that stays one, until the deadline.
    drop(first);
    let report = bed.unanswered(0, 1);
    assert_eq!((report.accepted, report.pending), (0, BLOCK), "{report:?}");
    bed.wait(|view| view.hosts[0].pending == BLOCK);
    // The next agent has answered it before it says what it has.
    let mut first = bed.agent(0);
    assert!(first.answer(Answer::Refuse));
    first.answered.clear();
    first.tell();
    let view = bed.wait(|view| view.hosts[0].pending == 0);
    assert_eq!(view.free, SIZE);
}

#[test]
fn refusals_come_in_order_and_alone() {
    let (mut bed, mut agent) = Bed::of_one();
    let id = bed.client.ask(add("h0", 1, Duration::from_secs(5))).unwrap();
    agent.wait("an offer", |device| !device.pending.is_empty());
    // Told of something else, it is still an offer.
    agent.tell();
    bed.wait(|view| view.hosts[0].pending == BLOCK);
    agent.answer(Answer::Refuse);
    agent.tell();
    let report = bed.client.report(id).unwrap();
    assert_eq!((report.accepted, report.refused), (0, BLOCK), "{report:?}");
    bed.holds(&[0]);

    // What is said to be accepted and cannot be is not believed, and is said.
    for range in [
        DpaRange::new(BASE, MIB),
        DpaRange::new(0, BLOCK),
        DpaRange::new(BASE + SIZE - BLOCK, 2 * BLOCK),
        DpaRange::new(u64::MAX - BLOCK + 1, BLOCK),
        DpaRange::new(BASE, 0),
    ] {
        bed.qemus[0].device().accepted = vec![range];
        agent.tell();
        let says = format!("{range} is said to be accepted; expected whole blocks");
        bed.wait(|view| view.problem.as_ref().is_some_and(|why| why.contains(&says)));
        bed.holds(&[0]);
    }
}

#[test]
fn what_qemu_refuses_has_not_happened() {
    let (mut bed, mut agent) = Bed::of_one();
    // Somebody has offered this by hand.
    let half = [BASE, BASE + SIZE / 2].map(|start| DpaRange::new(start, SIZE / 2));
    bed.qemus[0].device().pending.push_back(half.to_vec());
    let report = bed.done(add("h0", 8, Duration::from_secs(2)));
    assert_eq!((report.accepted, report.missing), (0, 8 * BLOCK), "{report:?}");
    let says = "QEMU refused cxl-add-dynamic-capacity: cannot add DPA again while still pending";
    let view = bed.wait(|view| view.problem.as_deref() == Some(says));
    assert_eq!(view.hosts[0].pending, 0);
    // If it is accepted, that is seen.
    agent.answer(Answer::Accept);
    agent.tell();
    bed.holds(&[8]);
    bed.wait(|view| view.problem.is_none());

    let report = bed.done(give("h0", 1, Forcing::AtOnce));
    assert_eq!(report.returned, 0, "{report:?}");
    let says = "Forced removal not supported yet";
    bed.wait(|view| view.problem.as_ref().is_some_and(|why| why.contains(says)));
    bed.holds(&[8]);
}

#[test]
fn a_qemu_that_misbehaves_is_left_and_tried_again() {
    let (mut bed, mut agent) = Bed::of_one();
    for manners in
        [Manners::Garbage, Manners::OtherId, Manners::Endless, Manners::Silent, Manners::Events]
    {
        bed.ready();
        bed.qemus[0].device().manners = manners;
        let id = bed.client.ask(add("h0", 1, Duration::from_secs(1))).unwrap();
        bed.wait(|view| view.state == DeviceStateView::Down);
        bed.qemus[0].device().manners = Manners::Good;
        bed.qemus[0].disconnect();
        let report = bed.client.report(id).unwrap();
        assert_eq!(report.accepted, 0, "{report:?}");
        // Whether it was offered the agent knows, which is sent away to look.
        bed.wait(|view| view.state == DeviceStateView::Reading && view.problem.is_some());
        assert!(agent.is_sent_away());
        agent = bed.agent(0);
        agent.tell();
        // The manager does not know whether its offer was made, and makes it again.
        let until = Instant::now() + LONG;
        loop {
            while agent.answer(Answer::Refuse) {}
            agent.tell();
            let view = bed.ready();
            if view.hosts[0].pending == 0 && view.free == SIZE {
                break;
            }
            assert!(Instant::now() < until, "{view:#?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    bed.qemus[0].disconnect();
    bed.wait(|view| view.state == DeviceStateView::Reading);
    let notices = bed.managed.notices.lock().unwrap().join("\n");
    for says in ["QMP line \"what?\"; expected an object", "a QMP line of more than 1048576 bytes"]
    {
        assert!(notices.contains(says), "{notices}");
    }
}

#[test]
fn devices_that_are_none_are_told_why() {
    let mut bed = Bed::with_serials(&[7, 8]);
    let says = "mem0: sn is 0x8; expected 0x7, as with the first guest";
    bed.wait(|view| view.problem.as_deref() == Some(says));
    bed.qemus[0].device().serial = u64::MAX;
    let says = "/machine/peripheral/mem0: sn is \"none\"; expected a serial number: sn=1, …";
    bed.wait(|view| view.problem.as_deref() == Some(says));
    (bed.qemus[0].device().serial, bed.qemus[1].device().serial) = (7, 7);
    bed.wait(|view| view.state == DeviceStateView::Reading);
}

#[test]
fn the_next_manager_learns_all_of_it_from_agents() {
    let mut bed = Bed::start(2);
    bed.connected();
    let mut agents = [bed.agent(0), bed.agent(1)];
    agents.iter_mut().for_each(Agent::tell);
    bed.ready();
    for (host, agent) in ["h0", "h1"].into_iter().zip(&mut agents) {
        let id = bed.client.ask(add(host, 2, LONG)).unwrap();
        agent.accepts();
        assert_eq!(bed.client.report(id).unwrap().accepted, 2 * BLOCK);
    }
    // This one is answered while no manager is there.
    bed.unanswered(0, 1);
    bed.restart();
    bed.connected();
    let mut first = bed.agent(0);
    assert!(first.answer(Answer::Accept));
    first.tell();
    let mut second = bed.agent(1);
    second.tell();
    bed.holds(&[3, 2]);
    assert_eq!(bed.ready().free, 3 * BLOCK);
}

/// So many extents of 2 MiB that lie apart.
fn apart(count: u64) -> Vec<DpaRange> {
    (0..count).map(|at| DpaRange::new(BASE + at * 4 * MIB, 2 * MIB)).collect()
}

#[test]
fn what_a_guest_keeps_does_not_stand_before_what_it_gives() {
    let (mut bed, mut agent) = Bed::of_one();
    let all = apart(20);
    bed.qemus[0].device().accepted = all.clone();
    agent.tell();
    bed.wait(|view| view.hosts[0].held == 40 * MIB);
    // The log holds 8 records. These programs give nothing, and the others are asked all the same.
    let id = bed
        .client
        .ask(release("h0", 40 * MIB, Forcing::Never, Rest::Stand, Duration::from_secs(3)))
        .unwrap();
    let mut pinned = Vec::new();
    let until = Instant::now() + LONG;
    while bed.qemus[0].device().accepted.len() > 8 {
        let mut device = bed.qemus[0].device();
        if pinned.is_empty() {
            pinned = device.asked.iter().copied().collect();
        }
        let gives = |range: &DpaRange| !pinned.contains(range);
        let given: Vec<DpaRange> = device.asked.drain(..).filter(gives).collect();
        device.accepted.retain(|range| !given.contains(range));
        drop(device);
        agent.tell();
        assert!(Instant::now() < until, "{:#?}", bed.qemus[0].device());
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(pinned.len(), 8);
    let report = bed.client.report(id).unwrap();
    assert_eq!((report.returned, report.held), (24 * MIB, 16 * MIB), "{report:?}");
}

#[test]
fn an_offer_waits_until_its_guest_has_taken_out_what_it_is_asked_for() {
    let (mut bed, mut agent) = Bed::of_one();
    bed.qemus[0].device().accepted = apart(20);
    agent.tell();
    bed.wait(|view| view.hosts[0].held == 40 * MIB);
    let back = release("h0", 40 * MIB, Forcing::Never, Rest::Stand, Duration::from_millis(100));
    bed.client.ask(back).unwrap();
    agent.wait("it is asked", |device| device.records() == 8);
    // A give-back takes its time, in which the guest looks at nothing else.
    let id = bed.client.ask(add("h0", 1, LONG)).unwrap();
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(bed.qemus[0].device().pending.len(), 0);
    // Then the offer is the next thing that there is room for.
    let until = Instant::now() + LONG;
    while bed.qemus[0].device().pending.is_empty() {
        bed.qemus[0].device().asked.clear();
        agent.tell();
        assert!(Instant::now() < until, "{:#?}", bed.qemus[0].device());
        std::thread::sleep(Duration::from_millis(1));
    }
    agent.answer(Answer::Accept);
    agent.tell();
    assert_eq!(bed.client.report(id).unwrap().accepted, BLOCK);
}
