//! Taking blocks online and offline.

use std::{collections::BTreeSet, time::Duration};

use memtide_engine::onlining::{AutoMovable, NumaAware, OnlinePolicy, OnlineZone};
use memtide_host::{
    BlockId,
    offline::{self, OfflineError},
    online::{self, BlockRefusal, How, OnlineError, OnlineWish, Which},
    plan::{Kernel, run},
};
use memtide_units::{ByteSize, NodeId};

use crate::model::{BLOCK, MIB, Model};

const LIMIT: Duration = Duration::from_secs(1);

fn ids(range: std::ops::RangeInclusive<u64>) -> BTreeSet<BlockId> {
    range.map(BlockId).collect()
}

/// With so many blocks of node 1, offline, in no group.
fn machine(blocks: u64) -> Model {
    let model = Model::new();
    for number in 0..blocks {
        model.add_block(64 + number, 1, "offline", "Normal Movable");
    }
    // Only what firmware's map names is there since boot.
    let mut params = vec![0; 0x2d0 + 20];
    params[0x1e8] = 1;
    params[0x2d0 + 8..0x2d0 + 16].copy_from_slice(&(2u64 << 30).to_le_bytes());
    params[0x2d0 + 16] = 1;
    let path = model.root().at("sys/kernel/boot_params/data");
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, params).unwrap();
    model
}

fn auto_movable(ratio: u32, numa_aware: NumaAware) -> How {
    How::Policy(OnlinePolicy::AutoMovable(AutoMovable { ratio, numa_aware }))
}

#[test]
fn all_of_a_node_go_movable_and_again_nothing_happens() {
    let mut model = machine(4);
    let wish = OnlineWish { which: Which::Node(NodeId(1)), how: How::Movable };
    let planned = online::plan(model.root(), &wish).unwrap();
    assert_eq!(planned.placed.len(), 4);
    run(&mut model, &planned.plan, &mut |_, _| ()).unwrap();
    assert_eq!(model.state(67), ("online".to_owned(), "Movable".to_owned()));
    let again = online::plan(model.root(), &wish).unwrap();
    assert!(again.plan.is_empty());
    assert_eq!(again.already.len(), 4);
}

#[test]
fn auto_movable_counts_what_is_present_since_boot() {
    // 2 GiB less 8 MiB, at 301 %: 47 blocks of 128 MiB fit, not 48 (48.16 without the holes).
    let model = machine(60);
    let wish =
        OnlineWish { which: Which::Node(NodeId(1)), how: auto_movable(301, NumaAware::Machine) };
    let planned = online::plan(model.root(), &wish).unwrap();
    let movable = |zone: &OnlineZone| *zone == OnlineZone::Movable;
    let zones: Vec<OnlineZone> = planned.placed.iter().map(|placed| placed.zone).collect();
    assert_eq!(zones.iter().filter(|zone| movable(zone)).count(), 47);
    assert!(zones[..47].iter().all(movable));
    // The node itself has nothing since boot.
    let wish = OnlineWish { how: auto_movable(301, NumaAware::MachineAndNode), ..wish };
    let planned = online::plan(model.root(), &wish).unwrap();
    assert!(planned.placed.iter().all(|placed| placed.zone == OnlineZone::Kernel));
}

#[test]
fn plugged_kernel_memory_earns_no_credit() {
    let model = machine(60);
    for number in 64..80 {
        model.add_block(number, 1, "online", "Normal");
    }
    let present = (2048 - 8) * MIB / 4096;
    let more = model.get("proc/zoneinfo")
        + &format!(
            "\nNode 1, zone   Normal\n  pages free     1\n        spanned  {0}\n        present  \
             {0}\n        managed  {0}\n        cma      0\n",
            16 * BLOCK / 4096
        );
    assert!(more.contains(&present.to_string()));
    model.set("proc/zoneinfo", &more);
    let wish =
        OnlineWish { which: Which::Node(NodeId(1)), how: auto_movable(301, NumaAware::Machine) };
    let planned = online::plan(model.root(), &wish).unwrap();
    let movable = planned.placed.iter().filter(|placed| placed.zone == OnlineZone::Movable);
    assert_eq!((planned.placed.len(), movable.count()), (44, 44));
    let wish = OnlineWish { how: auto_movable(100, NumaAware::Machine), ..wish };
    let planned = online::plan(model.root(), &wish).unwrap();
    let movable = planned.placed.iter().filter(|placed| placed.zone == OnlineZone::Movable);
    assert_eq!(movable.count(), 15);
}

#[test]
fn a_size_takes_whole_blocks_from_the_bottom() {
    let model = machine(4);
    let plan = |bytes| {
        let which = Which::Size { bytes: ByteSize(bytes), node: Some(NodeId(1)) };
        online::plan(model.root(), &OnlineWish { which, how: How::Movable })
    };
    let blocks =
        |bytes| plan(bytes).unwrap().placed.iter().map(|placed| placed.block.0).collect::<Vec<_>>();
    assert_eq!(blocks(1), [64]);
    assert_eq!(blocks(BLOCK), [64]);
    assert_eq!(blocks(BLOCK + 1), [64, 65]);
    let error = plan(4 * BLOCK + 1).unwrap_err().to_string();
    assert_eq!(error, "size 512MiB is more than is offline on node1: expected at most 512MiB");
    assert!(matches!(plan(0).unwrap_err(), OnlineError::Nothing));
}

#[test]
fn blocks_that_do_not_fit_the_wish_are_named() {
    let model = machine(4);
    model.add_block(65, 1, "online", "Normal");
    model.add_block(66, 1, "going-offline", "Normal");
    model.add_block(67, 1, "offline", "Normal");
    let error = |which, how| {
        online::plan(model.root(), &OnlineWish { which, how }).unwrap_err().to_string()
    };
    let text = error(Which::Blocks(ids(65..=65)), How::Movable);
    assert!(text.contains("memory65 is online in zone Normal"), "{text}");
    let text = error(Which::Blocks(ids(66..=66)), How::Movable);
    assert!(text.contains("memory66 is going offline"), "{text}");
    let text = error(Which::Blocks(ids(67..=67)), How::Movable);
    assert!(text.contains("memory67 cannot go to the zone Movable: its valid_zones are Normal"));
    let text = error(Which::Blocks(ids(64..=99)), How::Movable);
    assert!(text.contains("there is no memory68"), "{text}");
    let text = error(Which::Node(NodeId(7)), How::Movable);
    assert!(text.contains("no memory block belongs to node7"), "{text}");
}

#[test]
fn a_block_that_stays_brings_the_others_back() {
    let mut model = machine(4);
    for (number, zone) in [(64, "Movable"), (65, "Normal"), (66, "Movable"), (67, "Movable")] {
        model.add_block(number, 1, "online", zone);
    }
    model.held.insert(64, 16);
    let before = model.snapshot();
    let which = offline::Which::Node(NodeId(1));
    let planned = offline::plan(model.root(), &which, LIMIT).unwrap();
    let leaving: Vec<u64> = planned.leaving.iter().map(|(block, _)| block.0).collect();
    assert_eq!(leaving, [67, 66, 65, 64]);
    let error = run(&mut model, &planned.plan, &mut |_, _| ()).unwrap_err();
    assert_eq!((error.number, error.of), (4, 4));
    assert!(error.undone.failed.is_empty(), "{error}");
    assert_eq!(model.snapshot(), before);
    let refusal = BlockRefusal::of(BlockId(64), None, &error.source);
    assert!(matches!(refusal, BlockRefusal::Unmovable { .. }));
    model.held.clear();
    run(&mut model, &planned.plan, &mut |_, _| ()).unwrap();
    let again = offline::plan(model.root(), &which, LIMIT).unwrap();
    assert!(again.plan.is_empty() && again.already.len() == 4);
    let error = offline::plan(model.root(), &offline::Which::Blocks(ids(99..=99)), LIMIT);
    assert!(matches!(error, Err(OfflineError::NoBlock { block: BlockId(99) })));
}

#[test]
fn what_cannot_be_taken_back_is_told() {
    let mut model = machine(2);
    let wish = OnlineWish { which: Which::Node(NodeId(1)), how: How::Movable };
    let planned = online::plan(model.root(), &wish).unwrap();
    model.fail = Some((2, 12));
    model.held.insert(64, 16);
    let error = run(&mut model, &planned.plan, &mut |_, _| ()).unwrap_err();
    assert_eq!(error.undone.failed.len(), 1);
    let text = error.undone.to_string();
    assert!(text.contains("could not all be taken back:\n  echo offline > /sys/devices"), "{text}");
}
