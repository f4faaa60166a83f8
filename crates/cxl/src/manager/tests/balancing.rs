use super::{BLOCK, Bench, GIB, bench::Answers};
use crate::{command::Sanitize, device::Sharing, manager::*};

fn wants(bench: &mut Bench, host: u64, bytes: u64) {
    bench.tell(Input::HostUp { host: bench.host(host) });
    bench.tell(Input::HostWants { host: bench.host(host), bytes });
    bench.run();
}

fn uses(bench: &mut Bench, host: u64, used: u64) {
    let (host, device) = (bench.host(host), bench.name());
    bench.tell(Input::HostUses { host, device, used });
    bench.run();
}

fn moves(bench: &Bench) -> usize {
    let requests = bench.manager.requests();
    requests.filter(|(_, request, _)| matches!(request, Request::Move { .. })).count()
}

#[test]
fn a_host_that_wants_gets_of_what_is_free() {
    let mut bench = Bench::new();
    wants(&mut bench, 1, GIB);
    assert_eq!(bench.held_bytes(1), GIB);
    assert_eq!(moves(&bench), 0);
    bench.wait(60);
    assert_eq!(bench.held_bytes(1), GIB, "once");
}

#[test]
fn by_weight_when_there_is_not_enough() {
    let mut limits = [Limits::default(); 3];
    limits[1].weight = 3;
    let mut bench = Bench::with(limits, Sharing::Exclusive, Sanitize::OnRelease);
    bench.tell(Input::DeviceDown { device: bench.name() });
    wants(&mut bench, 0, 2 * GIB);
    wants(&mut bench, 1, 2 * GIB);
    bench.tell(Input::DeviceUp { device: bench.name() });
    bench.run();
    let (light, heavy) = (bench.held_bytes(0), bench.held_bytes(1));
    assert_eq!(light + heavy, 2 * GIB);
    assert!(heavy >= 2 * light && light >= BLOCK, "{light} and {heavy}, by weights 1 and 3");
}

#[test]
fn those_give_that_do_not_use_and_no_more_than_that() {
    let mut limits = [Limits::default(); 3];
    limits[2].minimum = GIB;
    let mut bench = Bench::with(limits, Sharing::Exclusive, Sanitize::OnRelease);
    bench.ask(bench.add(0, GIB, Rest::Drop)).expect("there is room");
    bench.ask(bench.add(2, GIB, Rest::Drop)).expect("there is room");
    uses(&mut bench, 0, BLOCK);
    uses(&mut bench, 2, 0);
    wants(&mut bench, 1, 2 * GIB);
    let asked: alloc::vec::Vec<u64> = bench
        .manager
        .requests()
        .filter(|(_, request, _)| matches!(request, Request::Move { .. }))
        .map(|(.., report)| report.asked)
        .collect();
    // A block in use, and one so that it does not want at once; h2 is guaranteed all it has.
    assert_eq!(asked, [2 * BLOCK]);
    bench.give(0, memtide_units::DpaRange::new(2 * BLOCK, 2 * BLOCK));
    assert_eq!(bench.held_bytes(1), 2 * BLOCK);
}

/// Two hosts that both want more than there is: whatever goes to one is used there.
#[test]
fn nothing_goes_to_and_fro() {
    let mut bench = Bench::new();
    bench.ask(bench.add(0, GIB, Rest::Drop)).expect("there is room");
    bench.ask(bench.add(1, GIB, Rest::Drop)).expect("there is room");
    for _ in 0..50 {
        for host in 0..2 {
            let held = bench.held_bytes(host as u16);
            uses(&mut bench, host, held);
            wants(&mut bench, host, BLOCK);
        }
        bench.wait(7);
    }
    assert_eq!(moves(&bench), 0);
    assert_eq!((bench.held_bytes(0), bench.held_bytes(1)), (GIB, GIB));
}

#[test]
fn who_got_is_not_asked_at_once() {
    let mut bench = Bench::new();
    bench.ask(bench.add(0, GIB, Rest::Drop)).expect("there is room");
    wants(&mut bench, 1, GIB);
    assert_eq!(bench.held_bytes(1), GIB);
    // It has not said yet that it uses it.
    uses(&mut bench, 1, 0);
    wants(&mut bench, 2, GIB);
    assert_eq!(moves(&bench), 0);
    bench.wait(11);
    assert!(moves(&bench) > 0, "later it is");
}

#[test]
fn a_host_that_says_nothing_is_not_asked() {
    let mut bench = Bench::new();
    bench.ask(bench.add(0, 2 * GIB, Rest::Drop)).expect("there is room");
    wants(&mut bench, 1, GIB);
    bench.wait(100);
    assert_eq!(moves(&bench), 0);
}

#[test]
fn what_is_refused_is_not_offered_again_at_once() {
    let mut bench = Bench::new();
    bench.answers[1] = Answers::Nothing;
    wants(&mut bench, 1, GIB);
    let offers = |bench: &Bench| {
        let adds = bench.out.iter().filter(|output| {
            matches!(output, Output::Command { command: Command::InitiateAdd(_), .. })
        });
        adds.count()
    };
    assert_eq!(offers(&bench), 1);
    bench.wait(9);
    assert_eq!(offers(&bench), 1, "it did not want it");
    bench.wait(2);
    assert_eq!(offers(&bench), 2, "it may want it by now");
    bench.answers[1] = Answers::All;
    bench.wait(11);
    assert_eq!(bench.held_bytes(1), GIB);
}
