//! Giving back on a node of the kernel.

use std::time::Duration;

use memtide_host::{
    give_back::{
        GiveBackError, GiveBackWish,
        answer::{Reason, Stayed},
        give_back,
    },
    plan::Kernel,
};
use memtide_units::{ByteSize, NodeId};

use crate::model::{BLOCK, Model};

const EBUSY: i32 = 16;

fn machine() -> Model {
    let model = Model::new();
    for number in 64..68 {
        model.add_block(number, 1, "online", "Movable");
    }
    model
}

fn wish(bytes: u64) -> GiveBackWish {
    GiveBackWish { node: NodeId(1), bytes: ByteSize(bytes), deadline: Duration::from_millis(300) }
}

#[test]
fn all_of_it_comes() {
    let mut model = machine();
    let mut told = Vec::new();
    let mut progress = |done: ByteSize, of: ByteSize| told.push((done.0 / BLOCK, of.0 / BLOCK));
    let answer = give_back(&mut model, &wish(2 * BLOCK - 1), &mut progress).unwrap();
    assert_eq!((answer.returned, answer.remaining), (ByteSize(2 * BLOCK), ByteSize(0)));
    assert_eq!(told, [(1, 2), (2, 2)]);
    assert!(answer.holders.is_empty() && answer.blocks.is_empty() && !answer.ask_again);
    // From the top down, where all else is equal.
    assert_eq!([66, 67].map(|number| model.state(number).0), ["offline", "offline"]);
    assert_eq!(model.state(65).0, "online");
}

#[test]
fn a_busy_block_is_passed_over_and_named() {
    let mut model = machine();
    model.held.insert(67, EBUSY);
    let answer = give_back(&mut model, &wish(3 * BLOCK), &mut |_, _| ()).unwrap();
    assert_eq!(answer.remaining, ByteSize(0));
    let mut model = machine();
    model.held.insert(67, EBUSY);
    let answer = give_back(&mut model, &wish(4 * BLOCK), &mut |_, _| ()).unwrap();
    assert_eq!((answer.returned, answer.remaining), (ByteSize(3 * BLOCK), ByteSize(BLOCK)));
    assert!(answer.ask_again);
    let [holder] = answer.holders.as_slice() else { panic!("{answer:?}") };
    assert_eq!((holder.pid, holder.reason, holder.bytes), (0, Reason::Pinned, ByteSize(BLOCK)));
    assert_eq!(answer.blocks[0].block.0, 67);
    assert_eq!(model.state(67).0, "online");
}

#[test]
fn a_block_is_tried_again_until_it_is_let_go() {
    let mut model = machine();
    // Each first write fails once, then nothing is held any more.
    model.fail = Some((1, EBUSY));
    let answer = give_back(&mut model, &wish(4 * BLOCK), &mut |_, _| ()).unwrap();
    assert_eq!(answer.remaining, ByteSize(0));
    assert_eq!(model.writes, 5);
}

#[test]
fn memory_of_the_kernel_is_a_holder_with_that_reason() {
    let mut model = machine();
    model.add_block(67, 1, "online", "Normal");
    model.held.insert(67, EBUSY);
    let answer = give_back(&mut model, &wish(4 * BLOCK), &mut |_, _| ()).unwrap();
    assert_eq!(answer.holders[0].reason, Reason::KernelMemory);
    assert!(!answer.ask_again, "{answer:?}");
    let json = serde_json::to_value(&answer).unwrap();
    assert_eq!(json["remaining"], BLOCK);
    assert_eq!(json["holders"][0]["reason"], "kernel-memory");
    assert_eq!(json["holders"][0]["tenant"], "kernel");
    assert_eq!(json["blocks"][0]["block"], 67);
    assert_eq!(json["blocks"][0]["zone"], "Normal");
    assert!(json["blocks"][0]["kernel_says"].as_str().unwrap().contains("memory67"));
}

#[test]
fn nobody_holds_a_block_that_the_kernel_does_not_take_at_all() {
    const ENODEV: i32 = 19;
    const EINVAL: i32 = 22;
    let mut model = machine();
    model.add_block(66, 1, "online", "Normal");
    model.held = [(66, EINVAL), (67, ENODEV)].into();
    let answer = give_back(&mut model, &wish(4 * BLOCK), &mut |_, _| ()).unwrap();
    assert_eq!(answer.remaining, ByteSize(2 * BLOCK));
    assert!(answer.holders.is_empty() && !answer.ask_again, "{answer:?}");
    for (stayed, (number, says)) in answer.blocks.iter().zip([(66, "holes"), (67, "is gone")]) {
        assert_eq!((stayed.block.0, stayed.reason), (number, Reason::Refused));
        assert!(stayed.kernel_says.unwrap().to_string().contains(says), "{stayed:?}");
    }
}

#[test]
fn blocks_that_there_was_no_time_for_are_for_the_next_time() {
    let mut model = machine();
    let now = GiveBackWish { deadline: Duration::ZERO, ..wish(2 * BLOCK) };
    let answer = give_back(&mut model, &now, &mut |_, _| ()).unwrap();
    assert_eq!((answer.returned, model.writes), (ByteSize(0), 0));
    assert!(answer.ask_again && answer.holders.is_empty());
    assert_eq!(answer.blocks.len(), 4);
    let untried =
        |stayed: &Stayed| stayed.reason == Reason::NotInTime && stayed.kernel_says.is_none();
    assert!(answer.blocks.iter().all(untried), "{answer:?}");
}

#[test]
fn blocks_with_the_kernels_data_are_not_tried() {
    let mut model = machine();
    for number in 64..68 {
        model.add_block(number, 1, "online", "Normal");
    }
    // One slab page in block 64; the file is sparse, what is not written has no flags at all.
    let words = usize::try_from(68 * BLOCK / 4096).unwrap();
    let mut flags = vec![0u8; words * 8];
    for word in flags.as_chunks_mut::<8>().0 {
        *word = (1u64 << 10).to_ne_bytes();
    }
    let at = usize::try_from(64 * BLOCK / 4096).unwrap() * 8;
    flags[at..at + 8].copy_from_slice(&(1u64 << 7).to_ne_bytes());
    std::fs::write(model.root().at("proc/kpageflags"), flags).unwrap();
    let answer = give_back(&mut model, &wish(4 * BLOCK), &mut |_, _| ()).unwrap();
    assert_eq!(answer.returned, ByteSize(3 * BLOCK));
    assert!(model.log.iter().all(|write| !write.contains("memory64/")), "{:?}", model.log);
    assert_eq!(answer.holders[0].bytes, ByteSize(4096));
    assert_eq!(answer.blocks[0].contents.unwrap().slab, ByteSize(4096));
}

#[test]
fn what_makes_no_sense_is_refused() {
    let mut model = machine();
    let error = give_back(&mut model, &wish(0), &mut |_, _| ()).unwrap_err();
    assert!(matches!(error, GiveBackError::Nothing));
    let other = GiveBackWish { node: NodeId(5), ..wish(1) };
    let error = give_back(&mut model, &other, &mut |_, _| ()).unwrap_err().to_string();
    assert!(error.contains("expected one of node0, node1"), "{error}");
    model.fail = Some((1, 13));
    let error = give_back(&mut model, &wish(1), &mut |_, _| ()).unwrap_err();
    assert!(matches!(error, GiveBackError::NotPermitted { moved: ByteSize(0) }));
    assert_eq!(model.state(67).0, "online");
}

#[test]
fn the_last_block_stays_for_a_program_that_is_bound_to_the_node() {
    let mut model = machine();
    model.set("proc/12/stat", "12 (hog) S 1 12 12 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 777 0 0");
    model.set("proc/12/comm", "hog");
    model.set("proc/12/cgroup", "0::/batch");
    model.set("proc/12/numa_maps", "7f0000000000 bind:1 anon=3 dirty=3 N1=3 kernelpagesize_kB=4");
    let answer = give_back(&mut model, &wish(4 * BLOCK), &mut |_, _| ()).unwrap();
    assert_eq!((answer.returned, answer.remaining), (ByteSize(3 * BLOCK), ByteSize(BLOCK)));
    let [holder] = answer.holders.as_slice() else { panic!("{answer:?}") };
    assert_eq!((holder.pid, holder.reason), (12, Reason::BoundToNode));
    assert_eq!((holder.tenant.as_str(), holder.bytes), ("/batch", ByteSize(3 * 4096)));
    assert!(!answer.ask_again);
    // Where something else keeps more than that from leaving, it is not for the program.
    for number in 64..68 {
        model.add_block(number, 1, "online", "Movable");
    }
    model.held = [64, 65].map(|number| (number, EBUSY)).into();
    let answer = give_back(&mut model, &wish(4 * BLOCK), &mut |_, _| ()).unwrap();
    assert!(answer.holders.iter().all(|holder| holder.pid == 0), "{answer:?}");
    // It may have less, as long as it has some.
    let answer = give_back(&mut machine(), &wish(3 * BLOCK), &mut |_, _| ()).unwrap();
    assert_eq!(answer.remaining, ByteSize(0));
}
