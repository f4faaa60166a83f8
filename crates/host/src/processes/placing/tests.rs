//! The work over a model of the kernel, and over this process.

use std::time::Duration;

use memtide_sys::numa::{Moved, PageStatus, allowed_nodes};
use rustix::io::Errno;

use super::*;
use crate::processes::{
    held::Holders,
    mappings::{Mapping, Migratable},
    pagemap::{MappedBy, Present},
    pages::Mover,
};

const PAGE: u64 = 4096;

/// Pages on nodes with so much room each; some are held.
struct Model {
    on: Vec<NodeId>,
    held: Vec<usize>,
    /// Held, but no longer when they are tried again.
    let_go: Vec<usize>,
    room: BTreeMap<NodeId, usize>,
}

impl Mover for Model {
    fn where_are(&mut self, addresses: &[usize]) -> Result<Vec<PageStatus>, Errno> {
        Ok(addresses.iter().map(|&address| PageStatus::On(self.on[address / 4096])).collect())
    }

    fn move_pages(&mut self, addresses: &[usize], to: NodeId, _: WhichPages) -> Moved {
        let mut ended = Ok(());
        let mut left = 0;
        for &address in addresses {
            let page = address / 4096;
            let Some(room) = self.room.get_mut(&to) else {
                return Moved { pages: untold(addresses), ended: Err(Errno::NODEV), left: 0 };
            };
            if self.held.contains(&page) {
                left += 1;
            } else if *room == 0 {
                ended = Err(Errno::NOMEM);
            } else {
                *room -= 1;
                self.on[page] = to;
            }
        }
        Moved { pages: untold(addresses), ended, left }
    }
}

fn untold(addresses: &[usize]) -> Vec<PageStatus> {
    vec![PageStatus::Untold; addresses.len()]
}

fn nodes(list: &str) -> NodeSet {
    parse_list(list).unwrap()
}

fn placing(tiers: &[&str]) -> Placing {
    Placing {
        tiers: tiers.iter().map(|list| nodes(list)).collect(),
        which: WhichPages::Own,
        deadline: None,
        doing: Doing::Moving,
    }
}

/// Places pages that are on these nodes; `watermarks` is the room above them, in pages.
fn work(
    placing: &Placing,
    model: Model,
    watermarks: &[(u16, u64)],
    shared: &[usize],
) -> (Placed, Vec<u16>) {
    let present: Vec<Present> = (0..model.on.len())
        .map(|page| Present {
            address: page * 4096,
            mapped: if shared.contains(&page) { MappedBy::Several } else { MappedBy::One },
        })
        .collect();
    let rooms =
        watermarks.iter().map(|&(node, pages)| (NodeId(node), ByteSize(pages * PAGE))).collect();
    let mut holders = Holders::default();
    holders.add_io_uring("UserBufs:\t1\n    0: 0x2000/4096\n");
    let mut work = Work::new(placing, model, holders, rooms, BTreeMap::new());
    let mapping = Mapping {
        start: 0,
        end: present.len() as u64 * PAGE,
        name: String::new(),
        page_bytes: PAGE,
        resident: 1,
        huge: 0,
        locked: 0,
        migratable: Migratable::Yes,
    };
    work.chunk(&mapping, &present).unwrap();
    work.mover.held.retain(|page| !work.mover.let_go.contains(page));
    work.once_more().unwrap();
    (work.placed, work.mover.on.iter().map(|node| node.0).collect())
}

fn model(on: &[u16], held: &[usize], room: &[(u16, usize)]) -> Model {
    Model {
        on: on.iter().copied().map(NodeId).collect(),
        held: held.to_vec(),
        let_go: Vec::new(),
        room: room.iter().map(|&(node, pages)| (NodeId(node), pages)).collect(),
    }
}

#[test]
fn memory_goes_near_until_its_watermark_then_far() {
    let wish = placing(&["0", "1"]);
    // Node 2 is neither; near has room for three, and the kernel would let in more.
    let before = model(&[2, 2, 2, 2, 2, 1, 0], &[], &[(0, 100), (1, 100)]);
    let (placed, on) = work(&wish, before, &[(0, 3), (1, 50)], &[]);
    assert_eq!(on, [0, 0, 0, 1, 1, 1, 0]);
    assert_eq!(placed.moved, ByteSize(5 * PAGE));
    assert!(placed.stayed.is_empty());
}

#[test]
fn memory_comes_up_from_far_while_near_has_room() {
    let wish = placing(&["0", "1"]);
    let (placed, on) = work(&wish, model(&[1; 5], &[], &[(0, 100)]), &[(0, 2)], &[]);
    assert_eq!(on, [0, 0, 1, 1, 1]);
    assert_eq!((placed.moved, placed.stayed.len()), (ByteSize(2 * PAGE), 0));
}

#[test]
fn the_last_tier_takes_what_the_kernel_lets_in() {
    let wish = placing(&["1,3"]);
    let before = model(&[0; 6], &[], &[(1, 2), (3, 1)]);
    let (placed, on) = work(&wish, before, &[], &[]);
    assert_eq!(on, [1, 1, 3, 0, 0, 0]);
    assert_eq!(placed.moved, ByteSize(3 * PAGE));
    assert_eq!(placed.stayed, BTreeMap::from([(Reason::NoRoom, ByteSize(3 * PAGE))]));
}

#[test]
fn held_pages_are_told_by_holder_and_shared_ones_left_alone() {
    let wish = placing(&["1"]);
    let before = model(&[0; 6], &[2, 4], &[(1, 100)]);
    let (placed, on) = work(&wish, before, &[], &[5]);
    assert_eq!(on, [1, 1, 0, 1, 0, 0]);
    assert_eq!(placed.shared, ByteSize(PAGE));
    assert_eq!(
        placed.stayed,
        BTreeMap::from([
            (Reason::Held(Holder::IoUring), ByteSize(PAGE)),
            (Reason::Held(Holder::Unknown), ByteSize(PAGE)),
        ])
    );
    let both = Placing { which: WhichPages::Shared, ..placing(&["1"]) };
    let (placed, on) = work(&both, model(&[0; 6], &[], &[(1, 100)]), &[], &[5]);
    assert_eq!((on, placed.shared), (vec![1; 6], ByteSize(0)));
}

#[test]
fn what_is_held_for_a_moment_moves_at_the_second_attempt() {
    let before = Model { let_go: vec![1, 2], ..model(&[0; 4], &[1, 2, 3], &[(1, 100)]) };
    let (placed, on) = work(&placing(&["1"]), before, &[], &[]);
    assert_eq!(on, [1, 1, 1, 0]);
    assert_eq!(placed.moved, ByteSize(3 * PAGE));
    assert_eq!(placed.stayed, BTreeMap::from([(Reason::Held(Holder::Unknown), ByteSize(PAGE))]));
}

#[test]
fn a_node_that_went_away_is_told() {
    let (placed, on) = work(&placing(&["1"]), model(&[0; 3], &[], &[]), &[], &[]);
    assert_eq!(on, [0; 3]);
    assert_eq!(placed.stayed, BTreeMap::from([(Reason::NodeGone, ByteSize(3 * PAGE))]));
}

#[test]
fn counting_moves_nothing_and_counts_against_the_room() {
    let wish = Placing { doing: Doing::Counting, ..placing(&["0", "1"]) };
    let before = model(&[2; 5], &[], &[(0, 100), (1, 100)]);
    let (placed, on) = work(&wish, before, &[(0, 1), (1, 2)], &[]);
    assert_eq!(on, [2; 5]);
    assert_eq!(placed.moved, ByteSize(3 * PAGE));
    assert_eq!(placed.stayed, BTreeMap::from([(Reason::NoRoom, ByteSize(2 * PAGE))]));
}

#[test]
fn after_the_deadline_the_rest_is_counted() {
    let late = Instant::now() - Duration::from_millis(1);
    let wish = Placing { deadline: Some(late), ..placing(&["0", "1"]) };
    let (placed, on) = work(&wish, model(&[2, 2, 1], &[], &[(0, 9)]), &[(0, 9)], &[]);
    assert_eq!(on, [2, 2, 1]);
    assert_eq!(placed.ended, Ended::Deadline);
    // What is far is no worse than it was.
    assert_eq!(placed.stayed, BTreeMap::from([(Reason::Deadline, ByteSize(2 * PAGE))]));
}

fn here() -> NodeSet {
    NodeSet::only(allowed_nodes().unwrap().iter().next().unwrap()).unwrap()
}

#[test]
fn a_program_that_is_where_it_should_be_stays_there() {
    let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
    let program = Program::find(&Root::live(), child.id()).unwrap();
    let having = nodes_with_memory(&Root::live()).unwrap();
    let wish = Placing { tiers: vec![having], ..placing(&[]) };
    let placed = place(&program, &wish, |done, of| assert!(done <= of)).unwrap();
    assert_eq!((placed.moved, placed.ended), (ByteSize(0), Ended::Whole));
    assert!(placed.stayed.is_empty() && placed.shared.0 == 0, "{placed:?}");
    assert!(placed.after.values().any(|bytes| bytes.0 > 0), "{placed:?}");
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(place(&program, &wish, |_, _| {}).is_err());
}

#[test]
fn what_cannot_be_is_refused_before_anything_is_done() {
    let program = Program::find(&Root::live(), std::process::id()).unwrap();
    let refused = |tiers: Vec<NodeSet>| {
        let wish = Placing { tiers, ..placing(&[]) };
        place(&program, &wish, |_, _| panic!("it began")).unwrap_err()
    };
    assert!(matches!(refused(vec![]), PlacingError::NoNodes));
    assert!(matches!(refused(vec![here(), NodeSet::EMPTY]), PlacingError::NoNodes));
    assert!(matches!(refused(vec![here(), here()]), PlacingError::Twice { .. }));
    let error = refused(vec![here(), nodes("1023")]);
    assert!(matches!(error, PlacingError::NoMemory { node: NodeId(1023), .. }), "{error}");
}
