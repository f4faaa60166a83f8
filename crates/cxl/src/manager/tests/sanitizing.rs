//! Whose data is in what is free, in a region that does not overwrite what is released.

mod momentary;

use alloc::{vec, vec::Vec};

use memtide_units::{DpaRange, Tag};

use super::{BLOCK, Bench, GIB, bench::Answers};
use crate::{
    ReturnCode,
    command::{
        HostId, More, Sanitize,
        dynamic_capacity::AddResponse,
        fabric_manager::{InitiateAdd, Selection},
    },
    device::Sharing,
    manager::*,
};

fn bench() -> Bench {
    Bench::with([Limits::default(); 3], Sharing::Exclusive, Sanitize::Never)
}

/// Somebody else than the manager gives a host the first block.
fn given_by_another(bench: &mut Bench, host: u16) {
    given_without_a_look(bench, host);
    bench.run();
}

fn given_without_a_look(bench: &mut Bench, host: u16) {
    let range = DpaRange::new(0, BLOCK);
    let extent = memtide_units::DcExtent { range, tag: Tag::NULL, sequence: 0 };
    let add = InitiateAdd {
        host: HostId(host),
        selection: Selection::Prescriptive,
        region: 0,
        length: 0,
        tag: Tag::NULL,
        extents: vec![extent],
    };
    bench.device.initiate_add(&add).expect("it is free");
    let answer = AddResponse { more: More::Last, accepted: vec![range] };
    bench.device.add_response(HostId(host), &answer).expect("it is offered");
}

/// What a host can get at most, of 2 GiB.
fn gets(bench: &mut Bench, host: u64) -> u64 {
    bench.ask(bench.add(host, 2 * GIB, Rest::Drop)).expect("it could be").accepted
}

#[test]
fn a_host_of_another_name_does_not_get_what_the_one_before_left() {
    let mut bench = bench();
    bench.ask(bench.add(0, BLOCK, Rest::Drop)).expect("there is room");
    bench.give(0, DpaRange::new(0, BLOCK));
    let name = bench.config.devices[0].hosts[0].name.clone();
    bench.config.devices[0].hosts[0].name = "other".parse().expect("a name");
    bench.restart();
    let withheld = |output: &Output| {
        matches!(output, Output::Note { notice: Notice::Withheld { bytes: BLOCK }, .. })
    };
    assert!(bench.out.iter().any(withheld));
    assert_eq!(gets(&mut bench, 1), 2 * GIB - BLOCK);
    bench.give(1, DpaRange::new(BLOCK, GIB - BLOCK));
    let to = Place { host: "other".parse().expect("a name"), device: None, region: Some(0) };
    let add = |to: Place| Request::Add {
        to,
        size: BLOCK,
        tag: Tag::NULL,
        policy: Policy::Free,
        rest: Rest::Drop,
        deadline: None,
    };
    assert_eq!(bench.ask(add(to.clone())).expect("it could be").accepted, 0);
    // The same host again gets what is its own.
    bench.config.devices[0].hosts[0].name = name.clone();
    bench.restart();
    assert_eq!(bench.ask(add(Place { host: name, ..to })).expect("it could be").accepted, BLOCK);
    assert_eq!(bench.held(0), [DpaRange::new(0, BLOCK)]);
}

#[test]
fn what_a_host_had_before_the_store_is_known_to_be_its() {
    let mut bench = bench();
    bench.ask(bench.add(0, BLOCK, Rest::Drop)).expect("there is room");
    bench.store.clear();
    bench.restart();
    bench.give(0, DpaRange::new(0, BLOCK));
    bench.restart();
    assert_eq!(gets(&mut bench, 1), 2 * GIB - BLOCK);
}

#[test]
fn what_a_host_that_is_not_set_up_had_goes_to_nobody() {
    let mut bench = bench();
    bench.config.devices[0].hosts.remove(2);
    bench.restart();
    given_by_another(&mut bench, 2);
    bench.give(2, DpaRange::new(0, BLOCK));
    bench.restart();
    assert_eq!(gets(&mut bench, 1), 2 * GIB - BLOCK);
}

/// Everything is asked back of a host, which gives it; the device overwrites it.
fn gives_all_back(bench: &mut Bench, host: u16) {
    let held = bench.held(host);
    let size = bench.held_bytes(host);
    let request = bench.release(host.into(), size, Forcing::Never, Rest::Drop);
    bench.ask(request).expect("it has that");
    held.into_iter().for_each(|range| bench.give(host, range));
    assert_eq!(bench.held(host), []);
}

/// A block that host 0 has is asked back, and the connection is lost.
fn asked_back_before(reconnected: impl FnOnce(&mut Bench)) -> Bench {
    let mut bench = bench();
    bench.ask(bench.add(0, BLOCK, Rest::Drop)).expect("there is room");
    let request = bench.release(0, BLOCK, Forcing::Never, Rest::Stand);
    bench.ask(request).expect("it has that");
    bench.tell(Input::DeviceDown { device: bench.name() });
    reconnected(&mut bench);
    bench.tell(Input::DeviceUp { device: bench.name() });
    bench.run();
    bench
}

#[test]
fn what_a_device_was_told_before_it_was_reset_is_not_done() {
    let mut bench = asked_back_before(|bench| {
        // It has forgotten who has what, too: but not the data.
        bench.device = bench.another_device();
    });
    assert_eq!(bench.held_bytes(0), 0);
    assert_eq!(gets(&mut bench, 1), 2 * GIB - BLOCK);
}

#[test]
fn what_is_asked_back_is_asked_again_on_the_next_connection() {
    let mut bench = asked_back_before(|_| {});
    bench.give(0, DpaRange::new(0, BLOCK));
    assert_eq!(marks(&bench), Vec::<&Key>::new());
    assert_eq!(gets(&mut bench, 1), 2 * GIB);
}

fn marks(bench: &Bench) -> Vec<&Key> {
    bench.store.keys().filter(|key| matches!(key, Key::Unsanitized(..))).collect()
}

#[test]
fn what_a_host_had_before_it_was_set_up_is_anybodys_once_it_is_overwritten() {
    let mut bench = bench();
    let last = bench.config.devices[0].hosts.remove(2);
    bench.restart();
    given_by_another(&mut bench, 2);
    bench.config.devices[0].hosts.push(last);
    bench.restart();
    let former = Former { host: 2, name: Some(bench.host(2)) };
    assert_eq!(marks(&bench), [&Key::Unsanitized(bench.name(), former)]);
    // Released unasked, it is its own; asked for, it is anybody's.
    bench.give(2, DpaRange::new(0, BLOCK));
    bench.restart();
    assert_eq!(gets(&mut bench, 1), 2 * GIB - BLOCK);
    assert_eq!(gets(&mut bench, 2), BLOCK);
    gives_all_back(&mut bench, 2);
    assert_eq!(gets(&mut bench, 1), BLOCK);
    gives_all_back(&mut bench, 1);
    assert_eq!(marks(&bench), Vec::<&Key>::new());
}

/// A host is renamed and back, and has the same all the time.
#[test]
fn what_a_host_has_is_its_own_whatever_its_name() {
    let mut bench = bench();
    bench.ask(bench.add(0, BLOCK, Rest::Drop)).expect("there is room");
    for name in ["other", "h0"] {
        bench.config.devices[0].hosts[0].name = name.parse().expect("a name");
        bench.restart();
        let former = Former { host: 0, name: Some(name.parse().expect("a name")) };
        assert_eq!(marks(&bench), [&Key::Unsanitized(bench.name(), former)]);
    }
    gives_all_back(&mut bench, 0);
    assert_eq!(gets(&mut bench, 1), 2 * GIB);
}

#[test]
fn what_a_host_had_under_another_name_is_anybodys_once_it_is_overwritten() {
    let mut bench = bench();
    bench.ask(bench.add(0, 2 * BLOCK, Rest::Drop)).expect("there is room");
    // Half of it was left behind by whoever had the name before.
    bench.give(0, DpaRange::new(BLOCK, BLOCK));
    bench.config.devices[0].hosts[0].name = "other".parse().expect("a name");
    bench.restart();
    let from = Place { host: "other".parse().expect("a name"), device: None, region: None };
    let (what, forcing, rest) = (What::Size(BLOCK), Forcing::Never, Rest::Drop);
    let deadline = Some(core::time::Duration::from_secs(5));
    bench.ask(Request::Release { from, what, forcing, rest, deadline }).expect("it has that");
    bench.give(0, DpaRange::new(0, BLOCK));
    bench.restart();
    assert_eq!(marks(&bench).len(), 1);
    assert_eq!(gets(&mut bench, 1), 2 * GIB - BLOCK);
}

#[test]
fn what_was_not_offered_in_the_end_or_declined_is_anybodys() {
    fn full(command: &Command) -> Option<ReturnCode> {
        matches!(command, Command::InitiateAdd(_)).then_some(ReturnCode::RESOURCES_EXHAUSTED)
    }
    fn taken(command: &Command) -> Option<ReturnCode> {
        matches!(command, Command::InitiateAdd(_)).then_some(ReturnCode::INVALID_EXTENT_LIST)
    }
    fn busy(command: &Command) -> Option<ReturnCode> {
        matches!(command, Command::InitiateAdd(_)).then_some(ReturnCode::BUSY)
    }
    for refuses in [full, taken, busy, |_: &Command| None] {
        let mut bench = bench();
        bench.answers[0] = Answers::Nothing;
        // What was its own before stays its own.
        bench.ask(bench.add(2, BLOCK, Rest::Drop)).expect("there is room");
        bench.give(2, DpaRange::new(0, BLOCK));
        bench.refuses = refuses;
        let report = bench.ask(bench.add(0, GIB, Rest::Drop)).expect("it could be");
        bench.wait(100);
        assert_eq!(bench.report(report.id).accepted, 0);
        assert_eq!(marks(&bench).len(), 1, "{:?}", marks(&bench));
        bench.refuses = |_| None;
        assert_eq!(gets(&mut bench, 1), 2 * GIB - BLOCK);
    }
}

#[test]
fn a_host_that_declines_what_was_its_own_keeps_it_to_itself() {
    let mut bench = bench();
    bench.ask(bench.add(0, BLOCK, Rest::Drop)).expect("there is room");
    bench.give(0, DpaRange::new(0, BLOCK));
    bench.answers[0] = Answers::Nothing;
    bench.ask(bench.add(0, GIB, Rest::Drop)).expect("it could be");
    assert_eq!(gets(&mut bench, 1), 2 * GIB - BLOCK);
}

/// Of 8 blocks, one that only host 2 may get, and 4 that are guaranteed to a host.
fn guaranteed(minimum_of: usize) -> Bench {
    let mut limits = [Limits::default(); 3];
    limits[minimum_of].minimum = GIB;
    let mut bench = Bench::with(limits, Sharing::Exclusive, Sanitize::Never);
    bench.ask(named(OWN)).expect("it is free");
    bench.give(2, OWN);
    bench
}

/// Where that one is: not where a host is given first.
const OWN: DpaRange = DpaRange::new(3 * BLOCK, BLOCK);

/// Just this for host 2.
fn named(range: DpaRange) -> Request {
    let (policy, rest) = (Policy::Prescriptive(vec![range]), Rest::Drop);
    let to = Place { host: "h2".parse().expect("a name"), device: None, region: None };
    Request::Add { to, size: 0, tag: Tag::NULL, policy, rest, deadline: None }
}

#[test]
fn what_only_others_may_get_is_no_guarantee() {
    let mut bench = guaranteed(0);
    assert_eq!(gets(&mut bench, 1), 3 * BLOCK, "of the 7 that they both may get");
    assert_eq!(gets(&mut bench, 2), BLOCK, "nobody else may have that one");
    assert_eq!(bench.held(2), [OWN]);
    assert_eq!(gets(&mut bench, 0), GIB);
}

#[test]
fn what_is_a_hosts_own_is_part_of_what_it_is_guaranteed() {
    let mut bench = guaranteed(2);
    assert_eq!(gets(&mut bench, 1), 4 * BLOCK, "7, less the 3 that are not its own");
    assert_eq!(gets(&mut bench, 2), GIB);
}

/// The host's own block is as good as any, but only that one is of no use to who has a guarantee.
#[test]
fn a_host_gets_its_own_when_the_rest_is_guaranteed() {
    let mut bench = guaranteed(0);
    let in_second = |bench: &Bench, host: u64, size: u64| {
        let mut request = bench.add(host, size, Rest::Drop);
        let Request::Add { to, .. } = &mut request else { panic!("an addition") };
        to.region = Some(1);
        request
    };
    let request = in_second(&bench, 1, 3 * BLOCK);
    assert_eq!(bench.ask(request).expect("there is room").accepted, 3 * BLOCK);
    // 3 blocks of the first region and one of the second are left for who is guaranteed 4.
    let request = in_second(&bench, 2, BLOCK);
    assert_eq!(bench.ask(request).expect("it could be").accepted, 0);
    let other = named(DpaRange::new(0, BLOCK));
    assert_eq!(bench.ask(other).expect("it is free").accepted, 0);
    let mut all = bench.add(2, BLOCK, Rest::Drop);
    let Request::Add { policy, .. } = &mut all else { panic!("an addition") };
    *policy = Policy::Contiguous;
    assert_eq!(bench.ask(all).expect("it could be").accepted, BLOCK);
    assert_eq!(bench.held(2), [OWN]);
    assert_eq!(gets(&mut bench, 0), GIB);
}

#[test]
fn a_device_does_not_choose_where_it_does_not_overwrite() {
    let mut bench = bench();
    bench.config.devices[0].chooser = Chooser::Device;
    bench.restart();
    let add = |bench: &Bench, host, last, region| {
        let mut tag = [0; 16];
        tag[15] = last;
        Request::Add {
            to: Place { region, ..bench.place(host) },
            size: BLOCK,
            tag: Tag(tag),
            policy: Policy::Free,
            rest: Rest::Drop,
            deadline: None,
        }
    };
    let selections = |bench: &Bench| {
        let selection = |output: &Output| match output {
            Output::Command { command: Command::InitiateAdd(add), .. } => Some(add.selection),
            _ => None,
        };
        bench.out.iter().filter_map(selection).next_back()
    };
    bench.ask(add(&bench, 0, 1, None)).expect("there is room");
    assert_eq!(selections(&bench), Some(Selection::Prescriptive));
    let left = bench.held(0)[0];
    bench.give(0, left);
    bench.ask(add(&bench, 1, 2, Some(0))).expect("there is room");
    assert_eq!(selections(&bench), Some(Selection::Prescriptive));
    assert!(!bench.held(1).contains(&left), "that has the data of another");
    bench.ask(add(&bench, 1, 3, Some(1))).expect("there is room");
    assert_eq!(selections(&bench), Some(Selection::Free));
}

/// An offer of the first block to host 1 that was lost on its way; its request has this id.
fn lost_offer(bench: &mut Bench) -> memtide_units::RequestId {
    let extents = vec![DpaRange::new(0, BLOCK)];
    let (policy, rest) = (Policy::Prescriptive(extents), Rest::Stand);
    let request =
        Request::Add { to: bench.place(1), size: 0, tag: Tag::NULL, policy, rest, deadline: None };
    let id = memtide_units::RequestId(500);
    let out = bench.manager.request(bench.now, id, request).expect("it is free");
    bench.take_all(out);
    id
}

#[test]
fn an_offer_is_not_made_once_more_of_what_another_had_meanwhile() {
    let mut bench = bench();
    let id = lost_offer(&mut bench);
    let former = Former { host: 2, name: Some(bench.host(2)) };
    let key = Key::Unsanitized(bench.name(), former);
    bench.store.insert(key, Value::Extents(vec![DpaRange::new(0, BLOCK)]));
    bench.restart();
    assert_eq!(bench.report(id).state, State::Ended(Ending::NoLongerFits));
    assert_eq!(bench.held_bytes(1), 0);
}

/// Its time was over while the manager was away: there is no other try, and the answer comes.
#[test]
fn a_late_request_is_answered_when_another_had_what_it_offered() {
    let mut bench = bench();
    let id = memtide_units::RequestId(500);
    let request = bench.add(1, BLOCK, Rest::Drop);
    let out = bench.manager.request(bench.now, id, request).expect("there is room");
    bench.take_all(out);
    let former = Former { host: 2, name: Some(bench.host(2)) };
    let key = Key::Unsanitized(bench.name(), former);
    bench.store.insert(key, Value::Extents(vec![DpaRange::new(0, GIB)]));
    bench.now = bench.now.after(core::time::Duration::from_secs(15));
    bench.restart();
    let report = bench.report(id);
    assert_eq!((report.state, report.pending), (State::Ended(Ending::NoLongerFits), 0));
    assert_eq!((report.missing, bench.answers_to(id)), (BLOCK, vec![report.clone()]));
}

#[test]
fn a_move_does_not_wait_for_what_is_never_clean() {
    let mut bench = bench();
    bench.answers[0] = Answers::All;
    bench.ask(bench.add(0, BLOCK, Rest::Drop)).expect("there is room");
    let (from, to) = (bench.place(0), bench.host(1));
    let request = Request::Move { from, to, size: BLOCK, rest: Rest::Stand, deadline: None };
    let id = memtide_units::RequestId(500);
    let out = bench.manager.request(bench.now, id, request).expect("it could be");
    bench.take_all(out);
    // It is returned, but nobody knows that it was overwritten.
    bench.step(super::bench::Fate::Lost);
    bench.give(0, bench.held(0)[0]);
    bench.wait(60);
    let report = bench.report(id);
    assert_eq!((report.state, report.refused), (State::Ended(Ending::Partly), BLOCK));
    assert_eq!(bench.held_bytes(1), 0);
}
