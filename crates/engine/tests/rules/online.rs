//! These very blocks come and go.

use std::time::Duration;

use memtide_engine::{Effect, Input, Refusal};
use memtide_units::{Extent, HoldReason, Pageblock};

use crate::bench::{Bench, FAR, NEAR, REQUEST, holders, report, run, size, unanswered};

fn give_back(extents: Vec<Extent>) -> Input {
    Input::GiveBackExtents { request: REQUEST, extents, deadline: Duration::from_secs(60) }
}

#[test]
fn exactly_the_blocks_that_are_named_leave_and_come_back() {
    let mut bench = Bench::new();
    let program = bench.join();
    bench.lease(program, 6);
    // The dearest block, although others are free.
    assert!(unanswered(&bench.say(give_back([run(0, 4), run(8, 4)].concat()))));
    assert_eq!(bench.engine.isolated(NEAR), run(0, 4));
    let answer = report(&bench.quiet());
    assert_eq!((answer.requested, answer.returned), (size(8), size(8)));
    assert_eq!(bench.engine.offline(NEAR), [run(0, 4), run(8, 4)].concat());
    let effects = bench.say(Input::Online { extents: run(8, 4) });
    assert_eq!(effects, [Effect::Onlined { node: NEAR, extents: run(8, 4) }]);
    assert_eq!(bench.engine.offline(NEAR), run(0, 4));
}

#[test]
fn no_other_block_leaves_in_place_of_one_that_is_held() {
    let mut bench = Bench::new();
    let program = bench.join();
    bench.lease(program, 5);
    bench.pin(program, run(1, 1));
    bench.say(give_back(run(0, 8)));
    let answer = report(&bench.quiet());
    assert_eq!((answer.returned, answer.remaining), (size(4), size(4)));
    let pid = u32::try_from(program.member.0).unwrap();
    assert_eq!(holders(&answer), [(pid, 1, HoldReason::MemoryLock)]);
    assert_eq!(bench.counts(NEAR).3, 4);
}

#[test]
fn what_leaves_by_another_way_is_done() {
    let mut bench = Bench::new();
    let program = bench.join();
    bench.lease(program, 4);
    bench.say(Input::GiveBackExtents {
        request: memtide_units::RequestId(1),
        extents: run(0, 4),
        deadline: Duration::from_secs(60),
    });
    // Both want the same block; the first empties it.
    assert!(unanswered(&bench.say(give_back(run(0, 4)))));
    assert_eq!(report(&bench.quiet()).returned, size(4));
}

#[test]
fn extents_that_make_no_sense_are_refused() {
    let mut bench = Bench::new();
    let refused = |bench: &mut Bench, extents: Vec<Extent>, expected| {
        let extent = *extents.last().unwrap();
        let refusal = Refusal::NotBlocks { extent, expected };
        assert_eq!(bench.refused(give_back(extents)), refusal);
    };
    refused(&mut bench, run(2, 4), "online");
    refused(&mut bench, run(12, 8), "online");
    refused(&mut bench, vec![Extent::new(Pageblock(48), 4)], "online");
    refused(&mut bench, [run(0, 4), run(16, 4)].concat(), "of the same node as the first");
    assert_eq!(bench.refused(give_back(Vec::new())), Refusal::NoPageblocks);
    let extent = run(0, 4)[0];
    let refusal = Refusal::NotBlocks { extent, expected: "offline" };
    assert_eq!(bench.refused(Input::Online { extents: run(0, 4) }), refusal);
    bench.say(Input::Lost { extents: run(16, 4) });
    refused(&mut bench, run(16, 4), "online");
    assert_eq!(bench.counts(FAR), (28, 0, 0, 4));
}
