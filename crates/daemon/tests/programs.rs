//! Programs join, lease, fork, die and come back.

mod common;

use std::time::{Duration, Instant};

use common::{Life, Pool, Program, blocks};
use memtide_proto::{ControlReply, ControlRequest, FromProgram, ToProgram, program::Outcome};
use memtide_units::{ByteSize, Extent, HoldReason, OnlineZone, Pageblock};

#[test]
fn what_is_released_is_zero_for_the_next() {
    let pool = Pool::start(4, 4);
    let program = Program::join(pool.socket());
    let all = blocks(&program.lease(3));
    assert_eq!(all.len(), 3);
    for &block in &all {
        program.write(block, 7);
    }
    program.send(&FromProgram::Release { extents: Extent::from_blocks(all.clone()) });
    pool.wait_until("free", |status| status.nodes.iter().all(|node| node.leased.0 == 0));
    for &block in &all {
        assert_eq!(program.read(block), 0);
    }
}

#[test]
fn near_is_filled_before_far_and_full_is_an_empty_grant() {
    let pool = Pool::start(2, 2);
    let program = Program::join(pool.socket());
    assert_eq!(blocks(&program.lease(2)), [Pageblock(0), Pageblock(1)]);
    assert_eq!(blocks(&program.lease(5)), [Pageblock(2), Pageblock(3)]);
    assert_eq!(program.lease(1), []);
}

#[test]
fn promises_are_kept_or_not_given() {
    let pool = Pool::start(2, 2);
    let program = Program::join(pool.socket());
    let promise = |by| {
        program.send(&FromProgram::Commit { by });
        program.hear()
    };
    assert_eq!(promise(4), Some(ToProgram::Commit { granted: true }));
    assert_eq!(promise(1), Some(ToProgram::Commit { granted: false }));
    program.send(&FromProgram::Commit { by: -2 });
    assert_eq!(promise(1), Some(ToProgram::Commit { granted: true }));
}

/// A program that holds the whole pool and whose connection is gone.
fn full_and_disconnected(pool: &Pool) -> Program {
    let mut program = Program::join(pool.socket());
    program.send(&FromProgram::Commit { by: 4 });
    assert_eq!(program.hear(), Some(ToProgram::Commit { granted: true }));
    program.lease(4);
    let (other, _) = memtide_sys::socket::pair().unwrap();
    drop(std::mem::replace(&mut program.connection, other.into()));
    program
}

#[test]
fn who_asks_for_the_memory_of_the_dead_waits_for_it() {
    let pool = Pool::start(2, 2);
    let program = Program::join(pool.socket());
    let mut dead = full_and_disconnected(&pool);
    pool.wait_until("disconnected", |status| status.programs.iter().any(|p| !p.connected));
    program.send(&FromProgram::Commit { by: 3 });
    program.ask_for(3);
    program.send(&FromProgram::Commit { by: 1 });
    std::thread::sleep(Duration::from_millis(100));
    let early = program.connection.receive(&mut vec![0; memtide_proto::MAX_PACKET_BYTES]);
    assert!(matches!(early, Ok(None)), "answered before there was anything");
    dead.life.end();
    // What is promised may still be zeroed then; what is had may not.
    assert_eq!(program.hear(), Some(ToProgram::Commit { granted: true }));
    assert_eq!(program.hear(), Some(ToProgram::Commit { granted: true }));
    let Some(ToProgram::Grant { extents }) = program.hear() else { panic!("no grant") };
    assert!(!extents.is_empty());
}

#[test]
fn who_ends_in_the_same_moment_counts_as_ending() {
    for _ in 0..50 {
        let pool = Pool::start(2, 2);
        let program = Program::join(pool.socket());
        let mut dead = full_and_disconnected(&pool);
        dead.life.end();
        drop(dead);
        program.send(&FromProgram::Commit { by: 4 });
        assert_eq!(program.hear(), Some(ToProgram::Commit { granted: true }));
        assert!(!program.lease(4).is_empty());
    }
}

#[test]
fn nobody_waits_long_for_memory_that_does_not_come() {
    let pool = Pool::start(2, 2);
    let program = Program::join(pool.socket());
    let _alive = full_and_disconnected(&pool);
    pool.wait_until("disconnected", |status| status.programs.iter().any(|p| !p.connected));
    let start = Instant::now();
    program.send(&FromProgram::Commit { by: 1 });
    program.ask_for(1);
    assert_eq!(program.hear(), Some(ToProgram::Commit { granted: false }));
    assert_eq!(program.hear(), Some(ToProgram::Grant { extents: vec![] }));
    let waited = start.elapsed();
    assert!(waited > Duration::from_millis(900) && waited < Duration::from_secs(5), "{waited:?}");
    // A fork does not wait for anything: it is answered before what was asked earlier.
    program.ask_for(1);
    let child = Life::new();
    program.announce(&child);
    assert_eq!(program.hear(), Some(ToProgram::ForkReady));
    assert_eq!(program.hear(), Some(ToProgram::Grant { extents: vec![] }));
}

#[test]
fn the_memory_of_the_dead_returns_but_not_before_they_are_dead() {
    let pool = Pool::start(4, 4);
    let mut program = Program::join(pool.socket());
    program.lease(4);
    // Only the connection goes: the process might live on with its memory.
    let (other, _) = memtide_sys::socket::pair().unwrap();
    drop(std::mem::replace(&mut program.connection, other.into()));
    pool.wait_until("disconnected", |status| status.programs.iter().all(|p| !p.connected));
    std::thread::sleep(std::time::Duration::from_millis(50));
    assert_eq!(pool.leased(), 4);
    program.life.end();
    pool.wait_until("all free", |status| {
        status.programs.is_empty() && status.nodes.iter().all(|node| node.leased.0 == 0)
    });
}

#[test]
fn two_images_never_share_a_file() {
    let pool = Pool::start(4, 4);
    let (one, two) = (Program::join(pool.socket()), Program::join(pool.socket()));
    assert_ne!(one.image, two.image);
    let block = blocks(&one.lease(1))[0];
    one.write(block, 9);
    assert_eq!(two.read(block), 0);
}

#[test]
fn what_a_child_shares_is_thawed_when_the_child_is_gone() {
    let pool = Pool::start(4, 4);
    let program = Program::join(pool.socket());
    let leased = program.lease(2);
    let mut child = program.fork();
    let report = pool.give_back(4, "near");
    assert_eq!(report.returned, ByteSize::from_pageblocks(2), "{report:?}");
    assert_eq!(report.holders[0].reason, HoldReason::SharedWithChild);
    child.end();
    let Some(ToProgram::Thaw { extents }) = program.hear() else { panic!("no thaw") };
    assert_eq!(blocks(&extents), blocks(&leased));
    program.send(&FromProgram::Thawed { extents });
    pool.wait_until("nothing pinned", |status| status.programs[0].pinned.is_empty());
}

#[test]
fn a_child_that_outlives_its_parent_takes_the_memory_over() {
    let pool = Pool::start(4, 4);
    let mut parent = Program::join(pool.socket());
    let leased = blocks(&parent.lease(2));
    parent.write(leased[0], 5);
    let life = parent.fork();
    let child = Program::join_as_child(pool.socket(), life);
    assert_eq!(child.image, parent.image);
    parent.life.end();
    drop(parent);
    pool.wait_until("one program", |status| status.programs.len() == 1);
    assert_eq!(child.read(leased[0]), 5);
    let Some(ToProgram::Thaw { extents }) = child.hear() else { panic!("no thaw") };
    child.send(&FromProgram::Thawed { extents });
    assert_eq!(pool.leased(), 2);
    drop(child);
    pool.wait_until("all free", |status| status.programs.is_empty());
    pool.wait_until("all free", |status| status.nodes.iter().all(|node| node.leased.0 == 0));
}

#[test]
fn an_orphan_is_told_to_thaw_when_it_joins() {
    let pool = Pool::start(4, 4);
    let mut parent = Program::join(pool.socket());
    let leased = parent.lease(2);
    let life = parent.fork();
    parent.life.end();
    drop(parent);
    pool.wait_until("no parent", |status| status.programs.is_empty());
    let child = Program::join_as_child(pool.socket(), life);
    let Some(ToProgram::Thaw { extents }) = child.hear() else { panic!("no thaw") };
    assert_eq!(blocks(&extents), blocks(&leased));
    child.send(&FromProgram::Thawed { extents });
    pool.wait_until("nothing pinned", |status| status.programs[0].pinned.is_empty());
}

#[test]
fn a_parent_whose_child_is_gone_before_it_was_announced_thaws() {
    let pool = Pool::start(4, 4);
    let program = Program::join(pool.socket());
    let leased = program.lease(2);
    let mut child = Life::new();
    child.end();
    program.announce(&child);
    assert_eq!(program.hear(), Some(ToProgram::ForkReady));
    let Some(ToProgram::Thaw { extents }) = program.hear() else { panic!("no thaw") };
    assert_eq!(blocks(&extents), blocks(&leased));
    program.send(&FromProgram::Thawed { extents });
    pool.wait_until("nothing pinned", |status| status.programs[0].pinned.is_empty());
}

#[test]
fn a_give_back_moves_what_is_in_the_way() {
    let pool = Pool::start(4, 4);
    let program = Program::join(pool.socket());
    let leased = blocks(&program.lease(4));
    program.write(leased[0], 3);
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| pool.give_back(4, "near"));
        let mut moved = 0;
        while moved < 4 {
            let Some(ToProgram::Move { id, pairs }) = program.hear() else { panic!("no order") };
            for &(from, to) in &pairs {
                program.write(to, program.read(from));
            }
            moved += pairs.len();
            let outcomes = vec![Outcome::Moved; pairs.len()];
            program.send(&FromProgram::Moved { id, outcomes });
        }
        let report = asked.join().unwrap();
        assert_eq!(report.returned, ByteSize::from_pageblocks(4), "{report:?}");
        assert!(report.holders.is_empty());
    });
    assert_eq!(program.read(leased[0]), 0, "what was left behind is zeroed");
    assert_eq!(pool.status().moved_bytes, ByteSize::from_pageblocks(4));
    let bytes = ByteSize::from_pageblocks(4);
    let back = |zone| ControlRequest::Add { bytes, to: "near".to_owned(), zone };
    let ControlReply::Refused(why) = pool.control(back(Some(OnlineZone::Exmem))) else {
        panic!("a zone that the node cannot have");
    };
    assert_eq!((&*why.field, &*why.value), ("zone", "exmem"));
    assert!(why.expected.ends_with("kernel, movable, prefer-movable"), "{}", why.expected);
    assert_eq!(pool.control(back(Some(OnlineZone::Movable))), ControlReply::Done { bytes });
    let zones = &pool.status().nodes[0].zones;
    let zones: Vec<_> = zones.iter().map(|part| (part.zone, part.online)).collect();
    assert_eq!(zones, [(OnlineZone::Movable, bytes)]);
}

#[test]
fn who_does_not_answer_is_a_holder() {
    let pool = Pool::start(4, 4);
    let program = Program::join(pool.socket());
    program.lease(2);
    let report = pool.give_back(4, "near");
    assert_eq!(report.returned, ByteSize::from_pageblocks(2));
    assert_eq!(report.holders[0].pid, std::process::id());
    assert!(report.ask_again, "{report:?}");
}

#[test]
fn a_new_daemon_gives_out_nothing_before_the_old_programs_have_spoken() {
    let mut pool = Pool::start(4, 4);
    let mut program = Program::join(pool.socket());
    let leased = program.lease(2);
    let block = blocks(&leased)[0];
    program.write(block, 5);
    // Something that the old daemon had no time to zero.
    let stale = Pageblock(5);
    program.write(stale, 6);
    pool.give_back(1, "far");
    pool.stop_daemon();

    pool.start_daemon();
    assert_eq!(pool.status().awaited, 1);
    let other = Program::join(pool.socket());
    assert_ne!((other.member, other.image), (program.member, program.image));
    other.ask_for(4);
    std::thread::sleep(std::time::Duration::from_millis(100));
    assert_eq!(pool.leased(), 0);

    let welcome = program.come_back(pool.socket(), &leased);
    assert!(matches!(welcome, Some(ToProgram::Welcome { .. })), "{welcome:?}");
    let Some(ToProgram::Grant { extents }) = other.hear() else { panic!("no grant") };
    assert!(blocks(&extents).iter().all(|block| !blocks(&leased).contains(block)));
    assert_eq!(program.read(block), 5);
    assert_eq!(program.read(stale), 0);
    let status = pool.status();
    assert_eq!((status.awaited, status.programs.len()), (0, 2));
    assert_eq!(status.nodes[1].offline, ByteSize::from_pageblocks(1), "it stays away");
}

#[test]
fn a_program_that_lost_its_connection_comes_back_to_the_same_daemon() {
    let pool = Pool::start(4, 4);
    let mut program = Program::join(pool.socket());
    let leased = program.lease(2);
    let welcome = program.come_back(pool.socket(), &leased);
    // The old connection may still be open when the new one asks.
    let welcome = match welcome {
        Some(ToProgram::Refused(_)) => program.come_back(pool.socket(), &leased),
        other => other,
    };
    assert!(matches!(welcome, Some(ToProgram::Welcome { .. })), "{welcome:?}");
    assert_eq!(pool.leased(), 2);
}

#[test]
fn a_parent_of_more_children_than_fit_beside_a_packet_comes_back() {
    let mut pool = Pool::start(4, 4);
    let mut parent = Program::join(pool.socket());
    let leased = parent.lease(2);
    let mut children: Vec<Life> = (0..200).map(|_| parent.fork()).collect();
    pool.stop_daemon();
    pool.start_daemon();
    let welcome = parent.come_back_with(pool.socket(), &[], &leased, &children);
    assert!(matches!(welcome, Some(ToProgram::Welcome { .. })), "{welcome:?}");
    assert_eq!(pool.leased(), 2);
    // Every one of them is known, the last one included.
    let last = children.pop().unwrap();
    drop(children);
    let last = Program::join_as_child(pool.socket(), last);
    assert_eq!(last.image, parent.image);
    drop(last);
    let Some(ToProgram::Thaw { extents }) = parent.hear() else { panic!("no thaw") };
    assert_eq!(blocks(&extents), blocks(&leased));
}

#[test]
fn names_are_not_used_again() {
    let mut pool = Pool::start(2, 2);
    let first = Program::join(pool.socket());
    let (member, image) = (first.member, first.image);
    pool.give_back(1, "far");
    drop(first);
    pool.wait_until("nobody", |status| status.programs.is_empty());
    pool.stop_daemon();
    pool.start_daemon();
    let second = Program::join(pool.socket());
    assert!(second.member > member && second.image > image);
}

#[test]
fn a_summary_tells_what_happened() {
    let mut pool = Pool::start(4, 4);
    let program = Program::join(pool.socket());
    program.lease(3);
    pool.give_back(2, "far");
    let summary = pool.stop_daemon();
    assert_eq!(summary.joined, 1);
    assert_eq!(summary.nodes[0].leased_peak, ByteSize::from_pageblocks(3));
    assert_eq!(summary.returned, ByteSize::from_pageblocks(2));
    assert_eq!(summary.remaining, [std::process::id()]);
}
