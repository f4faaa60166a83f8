//! Serving a device with dynamic capacity, against a device in memory and a kernel in a folder.
//! Both are strict, both outlive who serves: so that can be killed at each step of all that it
//! does.

mod device;
mod kernel;
mod killing;
mod pool;

use std::{cell::RefCell, rc::Rc, time::Duration};

use memtide_engine::dynamic_capacity::{DeviceConfig, Partition, Splitting};
use memtide_host::dcd::{
    AcceptPolicy, Agent, DcdError, Report, Setup, dax_region::DaxRegion, decoder::Span,
    memory::Memory,
};
use memtide_host::plan::Kernel as _;
use memtide_units::{DpaRange, PhysAddr, PhysRange, Random};

use self::{
    device::{Device, State},
    kernel::{BLOCK, BLOCKS, DPA, MIB, Model, WINDOW},
    killing::Killing,
};

/// A machine with a device.
struct World {
    _folder: tempfile::TempDir,
    state: Rc<RefCell<State>>,
    killing: Rc<Killing>,
    kernel: Model,
    policy: AcceptPolicy,
    deadline: Duration,
    said: RefCell<Vec<String>>,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (state, killing) = (Rc::<RefCell<State>>::default(), Rc::<Killing>::default());
        let kernel = Model::new(&folder, Rc::clone(&state), Rc::clone(&killing));
        let (policy, said) = (AcceptPolicy::All, RefCell::default());
        let deadline = Duration::from_secs(60);
        Self { _folder: folder, state, killing, kernel, policy, deadline, said }
    }

    fn setup(&self, kernel: &mut Model) -> Result<Setup, DcdError> {
        let range = PhysRange::from_size(PhysAddr(WINDOW), BLOCKS * BLOCK).unwrap();
        let region = DaxRegion { parent: "hmem.0".to_owned(), range };
        let memory = Memory::new(kernel.root(), region)?;
        memory.clear(kernel)?;
        let dpa = DpaRange::new(DPA, BLOCKS * BLOCK);
        let partition = Partition { range: dpa, length: dpa.length, block_bytes: 2 * MIB };
        let mut config = DeviceConfig::new(vec![partition]);
        (config.align, config.splitting) = (BLOCK, Splitting::Block);
        let spans = vec![Span { dpa, base: PhysAddr(WINDOW) }];
        let (name, policy) = ("0000:21:00.0".to_owned(), self.policy);
        let (deadline, pool) = (self.deadline, None);
        Ok(Setup { name, config, spans, memory, policy, deadline, pool })
    }

    fn say(&self) -> impl FnMut(Report) + '_ {
        |report| self.said.borrow_mut().push(report.to_string())
    }

    /// Serves from the start until nothing is left to do.
    fn serve(&self) -> Agent<Device> {
        let mut kernel = self.kernel.clone();
        let setup = self.setup(&mut kernel).unwrap();
        let device = Device { state: Rc::clone(&self.state), killing: Rc::clone(&self.killing) };
        let mut say = self.say();
        let mut agent = Agent::start(device, setup, &mut kernel, &mut say).unwrap();
        agent.step(&mut kernel, &mut say).unwrap();
        agent
    }

    fn step(&self, agent: &mut Agent<Device>) {
        agent.step(&mut self.kernel.clone(), &mut self.say()).unwrap();
    }

    /// The device and the kernel agree.
    #[track_caller]
    fn has(&self, blocks: &[u64]) {
        let expected: Vec<DpaRange> = blocks.iter().map(|&at| block(at)).collect();
        let said = self.said.borrow();
        assert_eq!(self.state.borrow().accepted, expected, "accepted; {said:#?}");
        assert_eq!(self.kernel.online(), expected, "online; {said:#?}");
        assert_eq!(self.kernel.known(), expected.len(), "nothing else is there; {said:#?}");
        assert!(self.state.borrow().pending.is_empty(), "all is answered; {said:#?}");
    }

    fn offer(&self, ranges: &[DpaRange]) {
        self.state.borrow_mut().offer(ranges);
    }

    fn ask_back(&self, ranges: &[DpaRange]) {
        self.state.borrow_mut().ask_back(ranges);
    }
}

fn block(at: u64) -> DpaRange {
    blocks(at, 1)
}

fn blocks(at: u64, count: u64) -> DpaRange {
    DpaRange::new(DPA + at * BLOCK, count * BLOCK)
}

#[test]
fn extents_become_memory_and_leave_again() {
    let world = World::new();
    let mut agent = world.serve();
    world.has(&[]);
    world.offer(&[blocks(0, 2)]);
    world.offer(&[block(5), DpaRange::new(DPA + 3 * BLOCK, 2 * MIB), block(7)]);
    world.step(&mut agent);
    world.has(&[0, 1, 5, 7]);
    let said = world.said.borrow().join("\n");
    assert!(said.contains("refused DPA 0x58000000+0x200000"), "{said}");
    world.ask_back(&[block(1), block(7)]);
    world.step(&mut agent);
    world.has(&[0, 5]);
    world.ask_back(&[blocks(0, 1), block(5)]);
    world.step(&mut agent);
    world.has(&[]);
}

#[test]
fn what_is_held_stays_and_the_rest_goes() {
    let mut world = World::new();
    world.deadline = Duration::from_secs(2);
    let mut agent = world.serve();
    world.offer(&[blocks(0, 4)]);
    world.step(&mut agent);
    world.kernel.held.borrow_mut().insert(WINDOW / BLOCK + 2);
    world.ask_back(&[blocks(0, 4)]);
    world.step(&mut agent);
    world.has(&[2]);
    let asked: u64 = agent.groups().iter().map(|group| group.asked).sum();
    assert_eq!(asked, BLOCK);
    world.kernel.held.borrow_mut().clear();
    // By itself, after a second.
    std::thread::sleep(Duration::from_millis(1100));
    world.step(&mut agent);
    world.has(&[]);
}

#[test]
fn a_block_that_the_kernel_does_not_let_go_of_keeps_no_other_and_goes_later() {
    // Four blocks are taken offline; each is then unbound, made empty and deleted.
    for refused in [4, 5, 8, 15] {
        let world = World::new();
        let mut agent = world.serve();
        world.offer(&[blocks(0, 4)]);
        world.step(&mut agent);
        world.ask_back(&[blocks(0, 4)]);
        world.kernel.refuse.set(Some(refused));
        world.step(&mut agent);
        assert_eq!(world.kernel.refuse.get(), None, "write {refused} is one of those");
        let left = world.state.borrow().accepted.clone();
        assert_eq!(left.len(), 1, "write {refused}: {:#?}", world.said.borrow());
        assert!(world.kernel.online().is_empty());
        world.step(&mut agent);
        assert_eq!(world.state.borrow().accepted, left, "not before it is time");
        std::thread::sleep(Duration::from_millis(1100));
        world.step(&mut agent);
        world.has(&[]);
    }
}

#[test]
fn what_is_taken_by_force_is_said_and_nothing_else_touched() {
    let world = World::new();
    let mut agent = world.serve();
    world.offer(&[blocks(0, 2), block(4)]);
    world.step(&mut agent);
    let before = world.kernel.online();
    world.state.borrow_mut().take(block(1));
    world.step(&mut agent);
    let said = world.said.borrow().join("\n");
    let sentence = "LOST DPA 0x48000000+0x8000000: the device took it by force; memory blocks \
                    35 have nothing behind them";
    assert!(said.contains(sentence), "{said}");
    assert_eq!(world.kernel.online(), before, "the kernel's side is as it was");
    let held: Vec<DpaRange> = agent.groups().iter().flat_map(|it| it.extents.clone()).collect();
    assert_eq!(held, [block(0), block(4)]);
}

#[test]
fn memory_without_an_extent_is_taken_away_unless_it_is_in_use() {
    let world = World::new();
    let mut agent = world.serve();
    world.offer(&[block(0), block(3), block(6)]);
    world.step(&mut agent);
    drop(agent);
    // While nobody serves, two are taken by force; one of them an operator had taken offline.
    let offline = format!("sys/devices/system/memory/memory{}/state", WINDOW / BLOCK + 3);
    world.kernel.clone().write(&offline, "offline", Duration::ZERO).unwrap();
    world.state.borrow_mut().take(block(3));
    world.state.borrow_mut().take(block(6));
    world.serve();
    assert_eq!(world.kernel.online(), [block(0), block(6)]);
    assert_eq!(world.kernel.known(), 2, "the one that nobody used is gone");
    let said = world.said.borrow().join("\n");
    assert!(
        said.contains("0x128000000-0x12fffffff had no extent behind it, and is gone"),
        "{said}"
    );
    assert!(said.contains("it is online: expected it offline"), "{said}");
}

#[test]
fn what_the_policy_refuses_is_answered_once() {
    let mut world = World::new();
    world.policy = AcceptPolicy::None;
    let mut agent = world.serve();
    world.offer(&[block(0)]);
    world.offer(&[block(1), block(2)]);
    world.step(&mut agent);
    world.has(&[]);
    agent.set_policy(AcceptPolicy::All);
    world.offer(&[block(1)]);
    world.step(&mut agent);
    world.has(&[1]);
}

#[test]
fn offers_that_were_lost_do_not_keep_later_ones_away() {
    let world = World::new();
    let mut agent = world.serve();
    // The first eight are in the log; two more are pending, and nobody knows of them.
    for at in [0, 1, 2, 3, 4, 5, 6, 7, 0, 1] {
        world.state.borrow_mut().offer(&[block(at)]);
    }
    world.state.borrow_mut().pending.truncate(8);
    world.state.borrow_mut().pending.extend([vec![block(0)], vec![block(1)]]);
    world.step(&mut agent);
    assert_eq!(world.state.borrow().accepted.len(), 8);
    world.ask_back(&[block(3)]);
    world.step(&mut agent);
    world.offer(&[block(3)]);
    world.step(&mut agent);
    world.has(&[0, 1, 2, 3, 4, 5, 6, 7]);
    let said = world.said.borrow().join("\n");
    assert!(said.contains("overflowed: 2 records were lost"), "{said}");
    assert_eq!(said.matches("whose records were lost, was refused").count(), 2, "{said}");
}

#[test]
fn a_device_that_takes_no_answer_is_not_asked_again_and_again() {
    let world = World::new();
    let mut agent = world.serve();
    world.offer(&[block(0)]);
    world.state.borrow_mut().refuse_answers = usize::MAX;
    world.step(&mut agent);
    // The answer, and one attempt to refuse an older offer: this agent is the first here.
    assert_eq!(world.state.borrow().answers, 2, "{:#?}", world.said.borrow());
    assert!(world.kernel.online().is_empty());
}

#[test]
fn an_offer_is_never_refused_for_another_where_all_records_are_known() {
    let world = World::new();
    let mut agent = world.serve();
    world.offer(&[block(0)]);
    world.step(&mut agent);
    world.offer(&[block(1)]);
    world.state.borrow_mut().refuse_answers = 1;
    world.step(&mut agent);
    assert_eq!(world.state.borrow().answers, 2, "{:#?}", world.said.borrow());
    assert_eq!(world.state.borrow().pending, [vec![block(1)]], "nobody has refused it");
}

#[test]
fn a_chain_that_no_answer_has_room_for_is_refused_whole() {
    let world = World::new();
    let mut agent = world.serve();
    // Five is what an answer has room for.
    world.offer(&[block(0), block(1), block(2), block(3), block(4), block(5)]);
    world.step(&mut agent);
    world.has(&[]);
    let said = world.said.borrow().join("\n");
    assert!(said.contains("more than 5 extents in a chain that has not ended"), "{said}");
    world.offer(&[block(0), block(1), block(2), block(3), block(4)]);
    world.step(&mut agent);
    world.has(&[0, 1, 2, 3, 4]);
}

/// Kills at each step of serving this, and serves again; what comes of it is the same.
#[track_caller]
fn killed_at_each_step(before: &[&[DpaRange]], event: impl Fn(&World), expected: &[u64]) {
    for steps in 0.. {
        let world = World::new();
        let mut agent = world.serve();
        for offer in before {
            world.offer(offer);
        }
        world.step(&mut agent);
        drop(agent);
        event(&world);
        let finished = world.killing.after(steps, || {
            world.serve();
        });
        world.kernel.check();
        world.serve();
        world.has(expected);
        // And it goes on.
        world.ask_back(&[blocks(0, BLOCKS)]);
        for &at in expected {
            world.ask_back(&[block(at)]);
        }
        world.serve();
        world.has(&[]);
        if finished.is_some() {
            assert!(steps > 10, "only {steps} steps: nothing was done");
            return;
        }
    }
}

#[test]
fn killed_at_each_step_of_accepting() {
    let offer = [block(1), block(4)];
    killed_at_each_step(&[], |world| world.offer(&offer), &[1, 4]);
    killed_at_each_step(&[&[block(0)]], |world| world.offer(&offer), &[0, 1, 4]);
}

#[test]
fn killed_at_each_step_of_accepting_in_part() {
    let small = DpaRange::new(DPA + 6 * BLOCK, 2 * MIB);
    killed_at_each_step(&[], |world| world.offer(&[block(1), small, block(4)]), &[1, 4]);
}

#[test]
fn killed_at_each_step_of_giving_back() {
    let before: &[&[DpaRange]] = &[&[blocks(0, 2)], &[block(4)]];
    killed_at_each_step(before, |world| world.ask_back(&[block(1), block(4)]), &[0]);
    let all = |world: &World| world.ask_back(&[blocks(0, 2), block(4)]);
    killed_at_each_step(before, all, &[]);
}

#[test]
fn killed_at_each_step_of_both() {
    let before: &[&[DpaRange]] = &[&[blocks(0, 2)]];
    let both = |world: &World| {
        world.ask_back(&[block(0)]);
        world.offer(&[block(5)]);
        world.ask_back(&[block(1)]);
    };
    killed_at_each_step(before, both, &[5]);
}

#[test]
fn a_kernel_that_refuses_any_one_write_loses_nothing() {
    for refused in 0.. {
        let world = World::new();
        let mut agent = world.serve();
        world.kernel.refuse.set(Some(refused));
        world.offer(&[blocks(0, 2), block(4)]);
        world.step(&mut agent);
        world.ask_back(&[block(1), block(4)]);
        world.step(&mut agent);
        world.kernel.check();
        let was_refused = world.kernel.refuse.take().is_none();
        drop(agent);
        // The next one makes memory of what is accepted, whatever is.
        world.serve();
        let accepted = world.state.borrow().accepted.clone();
        assert!(accepted.contains(&block(0)), "write {refused}: {:#?}", world.said.borrow());
        assert_eq!(world.kernel.online(), accepted, "write {refused}: {:#?}", world.said.borrow());
        if !was_refused {
            assert!(refused > 10, "only {refused} writes");
            assert_eq!(accepted, [block(0)]);
            return;
        }
    }
}

#[test]
fn memory_online_in_the_whole_region_is_not_touched() {
    let world = World::new();
    world.kernel.put_online(WINDOW / BLOCK + 3);
    let error = world.setup(&mut world.kernel.clone()).unwrap_err();
    let sentence =
        "dax0.0, which the kernel put over all of the dax region, has memory online (37)";
    assert!(error.to_string().starts_with(sentence), "{error}");
    assert_eq!(world.kernel.known() as u64, BLOCKS, "all is as it was");
}

/// A fabric manager that offers what nobody has, and asks back what was accepted, to one who is
/// killed again and again.
#[test]
fn killed_at_any_time_nothing_is_lost_and_nothing_too_much() {
    for seed in 0..24 {
        let mut random = Random::new(seed);
        let world = World::new();
        let mut wanted: Vec<u64> = Vec::new();
        for _ in 0..8 {
            let free: Vec<u64> = (0..BLOCKS).filter(|at| !wanted.contains(at)).collect();
            let some = |random: &mut Random, of: Vec<u64>| -> Vec<u64> {
                of.into_iter().filter(|_| random.below(3) == 0).take(3).collect()
            };
            let ranges = |some: &[u64]| some.iter().map(|&at| block(at)).collect::<Vec<_>>();
            if random.below(2) == 0 {
                let offered = some(&mut random, free);
                if !offered.is_empty() {
                    world.offer(&ranges(&offered));
                    wanted.extend(offered);
                }
            } else {
                let asked = some(&mut random, wanted.clone());
                world.ask_back(&ranges(&asked));
                wanted.retain(|at| !asked.contains(at));
            }
            while random.below(2) == 0 {
                let steps = usize::try_from(random.below(60)).unwrap();
                world.killing.after(steps, || {
                    world.serve();
                });
                world.kernel.check();
            }
            world.serve();
            wanted.sort_unstable();
            world.has(&wanted);
        }
        println!("seed {seed}: {wanted:?}");
    }
}

/// The answer to an offer that was taken back would be taken for one to the next.
#[test]
fn killed_at_each_step_of_getting_again_what_was_taken_back_by_force() {
    let again = |world: &World| {
        world.offer(&[block(1)]);
        world.state.borrow_mut().withdraw();
        world.offer(&[block(1)]);
    };
    killed_at_each_step(&[&[block(0)]], again, &[0, 1]);
}
