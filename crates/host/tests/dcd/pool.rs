//! A pool that has the device's capacity: what it is given, what it is asked for, and that nothing
//! leaves that it has.

use std::{cell::RefCell, mem::MaybeUninit, rc::Rc, time::Duration};

use memtide_host::{
    dcd::{AddError, Agent, Pool, PoolError, PoolState, pool::room},
    give_back::answer::{Holder, Reason},
    plan::Kernel as _,
};
use memtide_units::{ByteSize, HoldReason, NodeId, Random};
use rustix::fs::inotify;

use crate::{BLOCK, Device, MIB, World, block, blocks};

/// A pool's node, as a test has it.
#[derive(Debug)]
struct Node {
    online: u64,
    size: u64,
    /// What programs hold on to.
    held: u64,
    numa: Option<NodeId>,
    /// Whether the daemon is away, or goes when it is to have more.
    away: bool,
    leaves: bool,
    /// How long it takes to give back, and how often it was asked to.
    takes: Duration,
    asked: u32,
    /// The most that its NUMA node has for it, and how often it was to have more.
    most: u64,
    grown: u32,
    /// What it counts in.
    block: u64,
}

#[derive(Clone, Debug)]
struct Fake(Rc<RefCell<Node>>);

impl Fake {
    fn new() -> Self {
        Self(Rc::new(RefCell::new(Node {
            online: 0,
            size: 64 * BLOCK,
            held: 0,
            numa: Some(NodeId(1)),
            away: false,
            leaves: false,
            takes: Duration::ZERO,
            asked: 0,
            most: u64::MAX,
            grown: 0,
            block: 2 * MIB,
        })))
    }

    fn online(&self) -> u64 {
        self.0.borrow().online
    }

    fn reached(&self) -> Result<(), PoolError> {
        if self.0.borrow().away { Err("nobody is there".into()) } else { Ok(()) }
    }
}

impl Pool for Fake {
    fn state(&mut self) -> Result<PoolState, PoolError> {
        self.reached()?;
        let node = self.0.borrow();
        let (online, size) = (ByteSize(node.online), ByteSize(node.size));
        Ok(PoolState { numa: node.numa, online, size })
    }

    fn add(&mut self, bytes: ByteSize) -> Result<ByteSize, AddError> {
        let mut node = self.0.borrow_mut();
        node.grown += 1;
        node.away |= node.leaves;
        drop(node);
        self.reached().map_err(AddError::NoAnswer)?;
        let mut node = self.0.borrow_mut();
        if node.online + bytes.0 > node.most {
            return Err(AddError::Refused(format!("{bytes} are not there").into()));
        }
        assert!(bytes.0 > 0 && node.online + bytes.0 <= node.size, "{bytes} to {node:?}");
        let added = bytes.0.next_multiple_of(node.block);
        node.online += added;
        Ok(ByteSize(added))
    }

    fn give_back(&mut self, bytes: ByteSize, _: Duration) -> Result<Vec<Holder>, PoolError> {
        self.reached()?;
        let mut node = self.0.borrow_mut();
        std::thread::sleep(node.takes);
        node.asked += 1;
        let free = node.online.saturating_sub(node.held) / node.block * node.block;
        let goes = bytes.0.next_multiple_of(node.block).min(free);
        node.online -= goes;
        let holder = Holder {
            tenant: "everybody".to_owned(),
            image: 3,
            pid: 4711,
            name: "a-program".to_owned(),
            bytes: ByteSize(bytes.0.saturating_sub(goes)),
            reason: Reason::Hold(HoldReason::LongTermPin),
        };
        Ok(if goes < bytes.0 { vec![holder] } else { Vec::new() })
    }
}

/// Serves for this pool.
fn serve(world: &World, pool: &Fake) -> Agent<Device> {
    let mut kernel = world.kernel.clone();
    let mut setup = world.setup(&mut kernel).unwrap();
    setup.pool = Some(Box::new(pool.clone()));
    let device = Device { state: Rc::clone(&world.state), killing: Rc::clone(&world.killing) };
    Agent::start(device, setup, &mut kernel, &mut world.say()).unwrap()
}

fn room_of(blocks: u64) -> u64 {
    room(ByteSize(blocks * BLOCK)).0
}

fn accepted(world: &World) -> u64 {
    world.state.borrow().accepted.iter().map(|range| range.length).sum::<u64>() / BLOCK
}

/// The pool looks at most once a second, unless something came.
fn later(world: &World, agent: &mut Agent<Device>) {
    std::thread::sleep(Duration::from_millis(1100));
    world.step(agent);
}

#[test]
fn a_pool_gets_what_comes_and_is_asked_before_anything_leaves() {
    let (world, pool) = (World::new(), Fake::new());
    let mut agent = serve(&world, &pool);
    assert_eq!(pool.online(), 0);
    world.offer(&[blocks(0, 4)]);
    world.step(&mut agent);
    assert_eq!(pool.online(), room_of(4), "{:#?}", world.said.borrow());
    // Nobody holds anything: all of it goes.
    world.ask_back(&[blocks(1, 2)]);
    world.step(&mut agent);
    assert_eq!((accepted(&world), pool.online()), (2, room_of(2)), "{:#?}", world.said.borrow());
    world.has(&[0, 3]);
    world.ask_back(&[block(0), block(3)]);
    world.step(&mut agent);
    world.has(&[]);
    assert_eq!(pool.online(), 0);
}

#[test]
fn what_the_pool_holds_keeps_blocks_and_is_told_and_the_rest_follows() {
    let (world, pool) = (World::new(), Fake::new());
    let mut agent = serve(&world, &pool);
    world.offer(&[blocks(0, 4)]);
    world.step(&mut agent);
    pool.0.borrow_mut().held = BLOCK + 2 * MIB;
    world.ask_back(&[blocks(0, 4)]);
    world.step(&mut agent);
    // One block and a little more take two.
    assert_eq!(accepted(&world), 2, "{:#?}", world.said.borrow());
    assert_eq!(pool.online(), BLOCK + 2 * MIB, "what came back stays out of it");
    let said = world.said.borrow().join("\n");
    let held = format!("a-program (pid 4711) holds {}", ByteSize(BLOCK + 2 * MIB));
    assert!(said.contains(&held), "{said}");
    let told = format!("asked for {} back: {} can go", ByteSize(4 * BLOCK), ByteSize(2 * BLOCK));
    assert!(said.contains(&told), "{said}");
    pool.0.borrow_mut().held = 0;
    later(&world, &mut agent);
    world.has(&[]);
    assert_eq!(pool.online(), 0);
}

#[test]
fn without_its_pool_nothing_leaves() {
    let (world, pool) = (World::new(), Fake::new());
    let mut agent = serve(&world, &pool);
    world.offer(&[blocks(0, 2)]);
    world.step(&mut agent);
    pool.0.borrow_mut().away = true;
    world.ask_back(&[block(0)]);
    world.step(&mut agent);
    world.has(&[0, 1]);
    let trouble = "trouble: the pool: nobody is there; nothing leaves without it";
    assert!(world.said.borrow().iter().any(|said| said == trouble), "{:#?}", world.said.borrow());
    pool.0.borrow_mut().away = false;
    later(&world, &mut agent);
    world.has(&[1]);
    assert_eq!(pool.online(), room_of(1));
}

#[test]
fn what_does_not_work_is_said_once_however_often_it_is_tried() {
    let (world, pool) = (World::new(), Fake::new());
    let mut agent = serve(&world, &pool);
    world.offer(&[blocks(0, 2)]);
    world.step(&mut agent);
    pool.0.borrow_mut().away = true;
    world.ask_back(&[block(0)]);
    world.step(&mut agent);
    // The rules ask again after one second, and after two more; the sums are looked at, too.
    for _ in 0..3 {
        later(&world, &mut agent);
    }
    let count = |what: &str| world.said.borrow().iter().filter(|said| *said == what).count();
    let said = [
        count("trouble: the pool: nobody is there"),
        count("trouble: the pool: nobody is there; nothing leaves without it"),
    ];
    assert_eq!(said, [1, 1], "{:#?}", world.said.borrow());
}

#[test]
fn of_a_pool_on_another_numa_node_nothing_is_taken() {
    for numa in [None, Some(NodeId(0))] {
        let (world, pool) = (World::new(), Fake::new());
        (pool.0.borrow_mut().numa, pool.0.borrow_mut().online) = (numa, 4 * BLOCK);
        let mut agent = serve(&world, &pool);
        later(&world, &mut agent);
        assert_eq!(pool.online(), 4 * BLOCK, "{:#?}", world.said.borrow());
        world.offer(&[blocks(0, 2)]);
        world.step(&mut agent);
        // Nobody knows what of the device programs were promised: it stays.
        world.ask_back(&[block(0)]);
        world.step(&mut agent);
        world.has(&[0, 1]);
        assert_eq!((pool.online(), pool.0.borrow().asked), (4 * BLOCK, 0));
        let said = world.said.borrow().join("\n");
        assert!(said.contains("the NUMA node of the device; nothing leaves without it"), "{said}");
    }
}

#[test]
fn a_device_without_a_numa_node_has_no_pool() {
    let (world, pool) = (World::new(), Fake::new());
    pool.0.borrow_mut().online = 4 * BLOCK;
    drop(serve(&world, &Fake::new()));
    let attribute = world.kernel.root().at("sys/bus/dax/devices/dax0.0/target_node");
    std::fs::remove_file(attribute).unwrap();
    let mut agent = serve(&world, &pool);
    later(&world, &mut agent);
    assert_eq!((pool.online(), pool.0.borrow().asked), (4 * BLOCK, 0));
    let said = world.said.borrow().join("\n");
    let trouble = "the pool: the device has no NUMA node: expected a target_node";
    assert_eq!(said.matches(trouble).count(), 1, "{said}");
}

#[test]
fn a_pool_gets_what_others_have_left_of_its_numa_node() {
    let (world, pool) = (World::new(), Fake::new());
    let mut agent = serve(&world, &pool);
    for most in [2 * MIB, 126 * MIB, 404 * MIB, room_of(4) - 2 * MIB] {
        (pool.0.borrow_mut().most, pool.0.borrow_mut().grown) = (most, 0);
        world.offer(&[blocks(0, 4)]);
        world.step(&mut agent);
        assert_eq!(pool.online(), most, "{:#?}", world.said.borrow());
        assert!(pool.0.borrow().grown <= 10, "{:?}", pool.0);
        // What they leave later comes, too.
        pool.0.borrow_mut().most = u64::MAX;
        later(&world, &mut agent);
        assert_eq!(pool.online(), room_of(4), "{:#?}", world.said.borrow());
        world.ask_back(&[blocks(0, 4)]);
        world.step(&mut agent);
        world.has(&[]);
    }
}

#[test]
fn a_pool_of_larger_blocks_is_said_once_and_left_more_and_more_alone() {
    let (world, pool) = (World::new(), Fake::new());
    pool.0.borrow_mut().block = BLOCK;
    let mut agent = serve(&world, &pool);
    world.offer(&[blocks(0, 4)]);
    world.step(&mut agent);
    let trouble = |asked: u64, added: u64| {
        let (asked, added) = (ByteSize(asked), ByteSize(added));
        format!(
            "trouble: the pool: it added {added} where {asked} were to be added; expected block = \
             \"2M\" of it"
        )
    };
    assert_eq!(world.said.borrow().last(), Some(&trouble(room_of(4), 4 * BLOCK)));
    assert_eq!(pool.online(), 4 * BLOCK);
    // What is too much comes back, is added, and too much again.
    later(&world, &mut agent);
    assert_eq!((pool.online(), pool.0.borrow().grown), (3 * BLOCK, 1));
    later(&world, &mut agent);
    assert_eq!((pool.online(), pool.0.borrow().grown), (3 * BLOCK, 1), "two seconds");
    later(&world, &mut agent);
    assert_eq!((pool.online(), pool.0.borrow().grown), (4 * BLOCK, 2));
    assert_eq!(world.said.borrow().last(), Some(&trouble(room_of(4) - 3 * BLOCK, BLOCK)));
    let said = world.said.borrow().join("\n");
    assert_eq!(said.matches("expected block").count(), 2, "{said}");
}

#[test]
fn a_pool_that_takes_nothing_says_why_and_one_that_is_away_is_asked_no_further() {
    let (world, pool) = (World::new(), Fake::new());
    pool.0.borrow_mut().most = 0;
    let mut agent = serve(&world, &pool);
    world.offer(&[block(0)]);
    world.step(&mut agent);
    assert_eq!(pool.online(), 0);
    let trouble = format!("trouble: the pool: {} are not there", ByteSize(2 * MIB));
    assert_eq!(world.said.borrow().last(), Some(&trouble));
    let mut node = pool.0.borrow_mut();
    (node.most, node.grown, node.leaves) = (u64::MAX, 0, true);
    drop(node);
    later(&world, &mut agent);
    assert_eq!((pool.online(), pool.0.borrow().grown), (0, 1));
    assert_eq!(world.said.borrow().last().unwrap(), "trouble: the pool: nobody is there");
}

#[test]
fn a_give_back_that_takes_long_is_not_followed_by_the_next_at_once() {
    let (world, pool) = (World::new(), Fake::new());
    let mut agent = serve(&world, &pool);
    world.offer(&[blocks(0, 4)]);
    world.step(&mut agent);
    {
        let mut node = pool.0.borrow_mut();
        (node.online, node.held, node.takes) = (6 * BLOCK, 6 * BLOCK, Duration::from_millis(1200));
    }
    later(&world, &mut agent);
    assert_eq!(pool.0.borrow().asked, 1);
    world.step(&mut agent);
    assert_eq!(pool.0.borrow().asked, 1, "others have their turn");
    // What comes is looked at at once.
    world.offer(&[block(5)]);
    world.step(&mut agent);
    assert_eq!(pool.0.borrow().asked, 2);
}

/// To look for pages to fetch back is to read all of /proc.
#[test]
fn where_nothing_may_leave_nobody_is_looked_for() {
    let (world, pool) = (World::new(), Fake::new());
    let mut agent = serve(&world, &pool);
    world.offer(&[blocks(0, 2)]);
    world.step(&mut agent);
    let proc = world.kernel.root().at("proc");
    std::fs::create_dir(&proc).unwrap();
    let watch = inotify::init(inotify::CreateFlags::NONBLOCK).unwrap();
    inotify::add_watch(&watch, &proc, inotify::WatchFlags::OPEN).unwrap();
    let was_opened = || {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        inotify::Reader::new(&watch, &mut buffer).next().is_ok()
    };
    pool.0.borrow_mut().away = true;
    world.ask_back(&[block(0)]);
    world.step(&mut agent);
    world.has(&[0, 1]);
    assert!(!was_opened());
    pool.0.borrow_mut().away = false;
    later(&world, &mut agent);
    world.has(&[1]);
    assert!(was_opened());
}

#[test]
fn a_pool_on_another_numa_node_gets_nothing_and_that_is_said_once() {
    let (world, pool) = (World::new(), Fake::new());
    pool.0.borrow_mut().numa = Some(NodeId(0));
    let mut agent = serve(&world, &pool);
    world.offer(&[block(0)]);
    world.step(&mut agent);
    later(&world, &mut agent);
    assert_eq!(pool.online(), 0);
    let said = world.said.borrow().join("\n");
    let trouble = "its node has numa = 0; expected numa = 1, the NUMA node of the device";
    assert_eq!(said.matches(trouble).count(), 1, "{said}");
}

#[test]
fn a_pool_gets_no_more_than_it_may_have_and_loses_what_force_took() {
    let (world, pool) = (World::new(), Fake::new());
    pool.0.borrow_mut().size = 3 * BLOCK;
    let mut agent = serve(&world, &pool);
    world.offer(&[blocks(0, 4)]);
    world.step(&mut agent);
    assert_eq!(pool.online(), 3 * BLOCK);
    // A daemon that begins anew has nothing, one that comes back too much: both end at the sum.
    pool.0.borrow_mut().online = 0;
    later(&world, &mut agent);
    assert_eq!(pool.online(), 3 * BLOCK);
    pool.0.borrow_mut().size = 9 * BLOCK;
    pool.0.borrow_mut().online = 6 * BLOCK;
    later(&world, &mut agent);
    assert_eq!(pool.online(), room_of(4), "the kernel keeps its part");
}

/// Agents come and go, programs hold more and less: what is online always has room for the pool's.
#[test]
fn whatever_happens_the_pool_has_no_more_than_is_online() {
    let (mut world, pool) = (World::new(), Fake::new());
    world.deadline = Duration::from_secs(1);
    let mut random = Random::new(11);
    let mut agent = serve(&world, &pool);
    // What force left too little for: as long as programs hold it, the pool has it.
    let mut too_much = 0;
    for turn in 0..400 {
        match random.below(5) {
            0 => {
                let new = block(random.below(8));
                let is_held = world.state.borrow().accepted.iter().any(|it| it.overlaps(new));
                if !is_held {
                    world.offer(&[new]);
                }
            }
            1 => {
                let accepted = world.state.borrow().accepted.clone();
                if !accepted.is_empty() {
                    world.ask_back(&[accepted[random.below(accepted.len() as u64) as usize]]);
                }
            }
            2 => {
                let most = pool.online() / MIB;
                pool.0.borrow_mut().held = random.below(most + 1) * MIB;
            }
            3 => {
                let accepted = world.state.borrow().accepted.clone();
                if random.below(4) == 0 && !accepted.is_empty() {
                    let at = random.below(accepted.len() as u64) as usize;
                    world.kernel.lose(accepted[at]);
                    // The pool counts in pieces of this.
                    too_much = too_much.max(pool.0.borrow().held.next_multiple_of(2 * MIB));
                }
            }
            _ => {
                drop(agent);
                agent = serve(&world, &pool);
            }
        }
        world.step(&mut agent);
        let (online, state) = (world.kernel.online(), world.state.borrow());
        let usable = online.iter().filter(|block| state.accepted.contains(block)).count() as u64;
        if pool.online() <= room_of(usable) {
            too_much = 0;
        }
        let most = room_of(usable).max(too_much);
        assert!(pool.online() <= most, "turn {turn}: {:#?}", world.said.borrow());
    }
}
