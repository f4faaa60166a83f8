//! All of a node leaves, the state of its device first.

use std::time::Duration;

use memtide_engine::{
    Config, Effect, Input, NodeConfig, Refusal,
    nodes::{Capabilities, Capability, NodeClass},
};
use memtide_units::{HoldReason, NodeId, NodeKind, Pageblock, RequestId};

use crate::bench::{
    Bench, FAR, NEAR, Program, REQUEST, config, holders, report, run, size, unanswered,
};
use crate::tenants::bind;

const DEVICE: NodeId = NodeId(2);

/// A third node, of a device: pageblocks 48 to 63.
fn with_device() -> Config {
    let mut config = config();
    let device = NodeConfig::new(DEVICE, "device", NodeKind::Device, Pageblock(48), 16);
    config.nodes.push(NodeConfig { block_pageblocks: 4, ..device });
    config.placement = vec![DEVICE, NEAR, FAR];
    config
}

fn evacuate(node: NodeId) -> Input {
    Input::Evacuate { request: REQUEST, node, deadline: Duration::from_secs(60) }
}

/// A program with memory on the device, which is being evacuated.
fn evacuating() -> (Bench, Program) {
    let mut bench = Bench::with(with_device());
    let program = bench.join();
    assert_eq!(bench.lease(program, 6), run(48, 6));
    let effects = bench.say(evacuate(DEVICE));
    assert_eq!(effects, [Effect::SaveDevice { node: DEVICE }]);
    (bench, program)
}

#[test]
fn a_node_under_load_is_emptied_and_nothing_is_placed_there() {
    let mut bench = Bench::new();
    let program = bench.join();
    bench.lease(program, 12);
    assert!(unanswered(&bench.say(evacuate(NEAR))));
    assert_eq!(bench.lease(program, 2), run(28, 2));
    let answer = report(&bench.quiet());
    assert_eq!((answer.requested, answer.returned), (size(16), size(16)));
    assert_eq!(bench.counts(NEAR), (0, 0, 0, 16));
    bench.say(Input::Add { bytes: size(4), to: NEAR, zone: None });
    assert_eq!(bench.lease(program, 2), run(0, 2));
}

#[test]
fn the_driver_saves_before_anything_moves_and_restores_before_anything_comes() {
    let (mut bench, program) = evacuating();
    assert!(bench.orders.is_empty());
    assert_eq!(bench.lease(program, 1), run(0, 1), "not on the device any more");
    bench.say(Input::DeviceSaved { node: DEVICE });
    assert_eq!(report(&bench.quiet()).returned, size(16));
    let effects = bench.say(Input::Online { extents: run(48, 8) });
    let onlined = Effect::Onlined { node: DEVICE, extents: run(48, 8) };
    assert_eq!(effects, [onlined, Effect::RestoreDevice { node: DEVICE }]);
    assert!(bench.lease(program, 1)[0].start.0 < 48);
    bench.say(Input::DeviceRestored { node: DEVICE });
    assert_eq!(bench.lease(program, 1), run(48, 1));
}

#[test]
fn a_driver_that_does_not_answer_in_time_holds_all() {
    let (mut bench, _) = evacuating();
    let effects = bench.pass(60);
    let answer = report(&effects);
    assert_eq!(holders(&answer), [(0, 16, HoldReason::DeviceState)]);
    assert_eq!(answer.holders[0].name, "device");
    assert!(answer.ask_again && bench.orders.is_empty());
    // Late, but it does; and then it goes on when it is asked again.
    bench.say(Input::DeviceSaved { node: DEVICE });
    bench.say(evacuate(DEVICE));
    assert_eq!(report(&bench.quiet()).returned, size(16));
}

#[test]
fn two_evacuations_ask_the_driver_once() {
    let (mut bench, _) = evacuating();
    let request = RequestId(1);
    let again = Input::Evacuate { request, node: DEVICE, deadline: Duration::from_secs(60) };
    assert_eq!(bench.say(again), []);
    bench.say(Input::DeviceSaved { node: DEVICE });
    let effects = bench.quiet();
    let whole = |effect: &&Effect| matches!(effect, Effect::Answer { report, .. } if report.remaining.0 == 0);
    assert_eq!(effects.iter().filter(whole).count(), 2);
}

#[test]
fn a_device_that_is_lost_is_evacuated() {
    let (mut bench, program) = evacuating();
    let effects = bench.say(Input::Lost { extents: run(48, 16) });
    assert_eq!(report(&effects).returned, size(16));
    let refusal = Refusal::NotAsked { node: DEVICE, what: "save" };
    assert_eq!(bench.refused(Input::DeviceSaved { node: DEVICE }), refusal);
    bench.say(Input::LetGo { member: program.member, extents: run(48, 6) });
    let effects = bench.say(Input::Online { extents: run(48, 4) });
    assert_eq!(effects, [Effect::Onlined { node: DEVICE, extents: run(48, 4) }]);
    assert_eq!(bench.lease(program, 1), run(48, 1));
}

#[test]
fn an_evacuation_that_moved_nothing_is_ended_by_naming_what_is_online() {
    let mut bench = Bench::new();
    let program = bench.join();
    bench.lease(program, 16);
    bench.pin(program, run(0, 16));
    let answer = report(&bench.say(evacuate(NEAR)));
    assert_eq!((answer.returned, answer.holders.len()), (size(0), 1));
    bench.release(program, run(0, 1));
    bench.quiet();
    assert_eq!(bench.lease(program, 1)[0].start, Pageblock(16));
    assert_eq!(bench.say(Input::Online { extents: run(0, 4) }), []);
    assert_eq!(bench.lease(program, 1), run(0, 1));
}

#[test]
fn a_move_to_a_node_that_is_evacuated_has_no_room() {
    let mut bench = Bench::new();
    let program = bench.join();
    bench.lease(program, 4);
    bench.say(evacuate(FAR));
    bench.quiet();
    bench.say(Input::Online { extents: run(16, 4) });
    bench.say(evacuate(FAR));
    let (request, member, to) = (RequestId(3), program.member, FAR);
    let deadline = Duration::from_secs(60);
    let effects = bench.say(Input::MoveTo { request, member, to, bytes: None, deadline });
    let Some(Effect::Answer { report, .. }) = effects.last() else { panic!("{effects:?}") };
    assert_eq!((report.returned, report.remaining), (size(0), size(4)));
}

/// No migration: zero moves, and a holder with that reason in every report.
#[test]
fn what_must_not_move_is_moved_by_nothing() {
    for reason in [HoldReason::NoMigration, HoldReason::LongTermPin] {
        let mut bench = Bench::new();
        let program = bench.join();
        bench.lease(program, 16);
        let (member, deadline) = (program.member, Duration::from_secs(60));
        bench.say(Input::Pin { member, extents: run(0, 16), reason });
        let pid = u32::try_from(member.0).unwrap();
        let request = REQUEST;
        let mask = [FAR].into_iter().collect();
        let mode = memtide_engine::mempolicy::Mode::Bind(mask);
        let policy = memtide_engine::mempolicy::MemPolicy { mode, ..Default::default() };
        for input in [
            Input::GiveBack { request, bytes: size(16), from: Some(NEAR), deadline },
            Input::GiveBackExtents { request, extents: run(0, 16), deadline },
            Input::MoveTo { request, member, to: FAR, bytes: None, deadline },
            Input::Mbind { request, member, extents: run(0, 16), policy, deadline },
            Input::Evacuate { request, node: NEAR, deadline },
        ] {
            let text = format!("{input:?}");
            let answer = report(&bench.say(input));
            assert_eq!(holders(&answer), [(pid, 16, reason)], "{text}");
            assert_eq!(answer.returned, size(0), "{text}");
        }
        assert!(bench.orders.is_empty());
        assert_eq!(bench.engine.moved_pageblocks(), 0);
    }
}

/// A fork in the middle of an evacuation: the child is gone the next moment.
#[test]
fn what_is_shared_with_a_child_for_a_moment_does_not_end_an_evacuation() {
    let mut bench = Bench::new();
    let program = bench.join();
    bench.lease(program, 6);
    assert!(unanswered(&bench.say(evacuate(NEAR))));
    let (member, token) = (program.member, memtide_units::TokenId(9999));
    assert!(unanswered(&bench.say(Input::ForkBegin { member, token })));
    assert!(unanswered(&bench.say(Input::TokenGone { token })));
    assert_eq!(report(&bench.quiet()).returned, size(16));
    assert_eq!(bench.counts(NEAR), (0, 0, 0, 16));
}

#[test]
fn a_child_that_stays_is_waited_for_until_the_deadline() {
    let mut bench = Bench::new();
    let program = bench.join();
    bench.lease(program, 6);
    bench.fork(program);
    assert!(unanswered(&bench.say(evacuate(NEAR))));
    let answer = report(&bench.pass(60));
    let pid = u32::try_from(program.member.0).unwrap();
    assert_eq!(holders(&answer), [(pid, 6, HoldReason::SharedWithChild)]);
    assert!(answer.ask_again);
}

/// A driver that never answers: the operator uses the node again, and asks again later.
#[test]
fn a_driver_that_never_answers_does_not_keep_its_node_closed() {
    let (mut bench, program) = evacuating();
    assert!(report(&bench.pass(60)).ask_again);
    bench.release(program, run(48, 6));
    bench.quiet();
    assert!(bench.lease(program, 1)[0].start.0 < 48, "closed");
    assert_eq!(bench.say(Input::Online { extents: run(48, 16) }), []);
    assert_eq!(bench.lease(program, 2), run(48, 2));
    // It is asked no second time: its late answer is the answer to this evacuation.
    assert_eq!(bench.say(evacuate(DEVICE)), []);
    bench.say(Input::DeviceSaved { node: DEVICE });
    assert_eq!(report(&bench.quiet()).returned, size(16));
}

/// Nodes outside the placement are room, too, for whose policy names them.
#[test]
fn what_is_bound_to_private_nodes_moves_between_them_when_the_placement_is_full() {
    let mut config = config();
    let class = NodeClass::Private(Capabilities::NONE.with(Capability::UserNuma));
    for (id, first) in [(2, 48), (3, 64)] {
        let node = NodeConfig::new(NodeId(id), "own", NodeKind::Device, Pageblock(first), 8);
        config.nodes.push(NodeConfig { class, ..node });
    }
    let mut bench = Bench::with(config);
    let (program, other) = (bench.join(), bench.join());
    let (member, both) = (program.member, bind(&[NodeId(2), NodeId(3)]));
    bench.say(Input::SetPolicy { member, policy: Some(both) });
    assert_eq!(bench.lease(program, 4), run(48, 4));
    bench.lease(other, 48);
    bench.say(evacuate(NodeId(2)));
    bench.say(Input::DeviceSaved { node: NodeId(2) });
    assert_eq!(report(&bench.quiet()).returned, size(8));
    assert_eq!(bench.counts(NodeId(3)).1, 4);
}
