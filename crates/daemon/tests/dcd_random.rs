//! Random days of a pool with a device: offers, requests, force, lost connections, restarts of the
//! daemon and of the fabric, under a program that checks every byte it wrote.

mod common;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use common::{LONG, Pool, Program, blocks, fabric::TestFabric};
use memtide_cxl::command::fabric_manager::Force;
use memtide_daemon::{NodeConfig, config::Accept};
use memtide_proto::{FromProgram, MAX_PACKET_BYTES, ToProgram, decode, program::Outcome};
use memtide_units::{ByteSize, Extent, NodeKind, Pageblock, Random};

const NEAR: u64 = 6;
const DEVICE: u64 = 24;

/// What a pager would do, as far as the daemon can see; and what it knows to be in its memory.
struct Diligent {
    program: Program,
    holds: BTreeMap<Pageblock, u8>,
    next: u8,
    lost: usize,
}

impl Diligent {
    fn new(pool: &Pool) -> Self {
        Self { program: Program::join(pool.socket()), holds: BTreeMap::new(), next: 1, lost: 0 }
    }

    fn write(&mut self, block: Pageblock) {
        self.next = self.next % 250 + 1;
        self.program.write(block, self.next);
        self.holds.insert(block, self.next);
    }

    /// Takes what has come until nothing has for a moment, or an answer to a lease.
    fn listen(&mut self, until_grant: bool) {
        let start = Instant::now();
        let mut quiet = Instant::now();
        let mut buffer = vec![0; MAX_PACKET_BYTES];
        while start.elapsed() < LONG {
            match self.program.connection.receive(&mut buffer) {
                Ok(Some((bytes, files))) => {
                    quiet = Instant::now();
                    let message: ToProgram = decode(&buffer[..bytes]).unwrap();
                    let granted = matches!(message, ToProgram::Grant { .. });
                    self.heard(message, files);
                    if granted && until_grant {
                        return;
                    }
                }
                Ok(None) if until_grant || quiet.elapsed() < Duration::from_millis(3) => {
                    std::thread::sleep(Duration::from_micros(200));
                }
                Ok(None) => return,
                Err(error) => panic!("the daemon closed the connection: {error:?}"),
            }
        }
        panic!("no answer to a lease");
    }

    fn heard(&mut self, message: ToProgram, mut files: Vec<std::os::fd::OwnedFd>) {
        match message {
            ToProgram::Grant { extents } => {
                for block in blocks(&extents) {
                    assert_eq!(self.program.read(block), 0, "{block} is somebody's");
                    self.write(block);
                }
            }
            ToProgram::Move { id, pairs } => {
                let outcomes = pairs.iter().map(|&(from, to)| self.moved(from, to)).collect();
                self.program.send(&FromProgram::Moved { id, outcomes });
            }
            ToProgram::Lost { extents } => {
                for block in blocks(&extents) {
                    self.holds.remove(&block);
                    self.lost += 1;
                }
                self.program.send(&FromProgram::LetGo { extents });
            }
            ToProgram::File { node } => {
                self.program.files[usize::from(node)] = files.pop().unwrap();
            }
            ToProgram::Thaw { .. } | ToProgram::Commit { .. } | ToProgram::ForkReady => {}
            other => panic!("{other:?}"),
        }
    }

    fn moved(&mut self, from: Pageblock, to: Pageblock) -> Outcome {
        if self.holds.remove(&from).is_none() {
            return Outcome::Gone;
        }
        // What the device takes while it is being copied cannot be told from what was there.
        let byte = self.program.read(from);
        self.program.write(to, byte);
        self.holds.insert(to, byte);
        Outcome::Moved
    }

    fn verify(&self) {
        for (&block, &byte) in &self.holds {
            assert_eq!(self.program.read(block), byte, "{block}");
        }
    }

    fn release(&mut self, block: Pageblock) {
        self.holds.remove(&block);
        self.program.send(&FromProgram::Release { extents: vec![Extent::new(block, 1)] });
    }

    fn come_back(&mut self, pool: &Pool) {
        let all = Extent::from_blocks(self.holds.keys().copied());
        let welcome = self.program.come_back(pool.socket(), &all);
        assert!(matches!(welcome, Some(ToProgram::Welcome { .. })), "{welcome:?}");
    }
}

struct Day {
    random: Random,
    fabric: TestFabric,
    pool: Pool,
    program: Diligent,
}

impl Day {
    fn new(seed: u64) -> Self {
        let fabric = TestFabric::start();
        let near = ByteSize::from_pageblocks(NEAR);
        let near = NodeConfig::new("near", NodeKind::Near, near, memfd());
        let pool = Pool::with_nodes(vec![near, fabric.node(0, Accept::All)], Vec::new());
        let program = Diligent::new(&pool);
        Self { random: Random::new(seed), fabric, pool, program }
    }

    fn step(&mut self) {
        let (first, count) = (self.random.below(DEVICE), 1 + self.random.below(6));
        match self.random.below(40) {
            0..12 => self.fabric.try_add(0, first, count),
            12..18 => self.fabric.try_release(0, first, count, Force::Ask),
            18..20 => self.fabric.try_release(0, first, 1, Force::Take),
            20..28 => {
                self.program.program.ask_for(1 + self.random.below(3) as u32);
                self.program.listen(true);
            }
            28..34 => {
                let mut held = self.program.holds.keys().copied();
                let at = self.random.below(self.program.holds.len().max(1) as u64) as usize;
                if let Some(block) = held.nth(at) {
                    drop(held);
                    self.program.release(block);
                }
            }
            34..36 => drop(self.fabric.cut_off(0)),
            36..38 => drop(self.pool.give_back(1 + count, "dcd0")),
            38 => {
                self.pool.stop_daemon();
                self.pool.start_daemon();
                self.program.come_back(&self.pool);
            }
            _ => {
                self.fabric.end();
                self.fabric.begin();
            }
        }
        self.program.listen(false);
    }

    /// Until the program has heard of all that was taken: all that it holds the device knows of.
    fn hear_of_losses(&mut self) {
        let start = Instant::now();
        loop {
            self.program.listen(false);
            let listed = self.fabric.listed(0);
            let there = |block: &Pageblock| {
                block.0 < NEAR
                    || listed.iter().any(|range| {
                        let at = (block.0 - NEAR) * memtide_units::PAGEBLOCK_BYTES;
                        (range.start..range.start + range.length).contains(&at)
                    })
            };
            if self.program.holds.keys().all(there) {
                return;
            }
            assert!(start.elapsed() < LONG, "the program never hears that it has lost something");
        }
    }

    /// Everything comes back in the end.
    fn end(mut self, seed: u64) {
        for block in self.program.holds.keys().copied().collect::<Vec<_>>() {
            self.program.release(block);
        }
        self.program.listen(false);
        let start = Instant::now();
        while self.fabric.held(0) > 0 {
            self.fabric.release_all(0);
            self.program.listen(false);
            let held = self.fabric.held(0);
            assert!(start.elapsed() < LONG, "seed {seed}: {held} stay: {:#?}", self.pool.status());
        }
        // What programs need comes before what a device asks for: nothing is left over here.
        let status = self.pool.status();
        assert_eq!(status.nodes[0].leased, ByteSize(0), "seed {seed}: {status:#?}");
    }
}

fn memfd() -> memtide_proto::program::Backing {
    memtide_proto::program::Backing::Memfd
}

#[test]
fn nothing_is_lost_but_what_was_taken_and_nothing_is_seen_of_others() {
    let (mut moved, mut lost) = (0, 0);
    for seed in 0..6 {
        eprintln!("seed {seed}");
        let mut day = Day::new(seed);
        for _ in 0..120 {
            day.step();
            day.hear_of_losses();
            day.program.verify();
        }
        moved += day.pool.status().moved_bytes.0;
        lost += day.program.lost;
        day.end(seed);
    }
    assert!(moved > 0 && lost > 0, "{moved} moved, {lost} lost: these days prove little");
}
