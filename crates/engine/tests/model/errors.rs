//! Errors of memory, devices that come and go, drivers.

use super::*;

impl World {
    /// An extent of whole blocks of some node.
    fn blocks(&self, node: u8, block: u8, count: u8) -> Option<(NodeId, Extent)> {
        let node = choose(&NODES, node)?;
        let config = config(self.setup);
        let config = config.nodes.iter().find(|config| config.node == node).unwrap();
        let blocks = config.pageblocks / config.block_pageblocks;
        let first = u64::from(block) % blocks;
        let count = (u64::from(count) % 3 + 1).min(blocks - first);
        let start = Pageblock(config.first.0 + first * config.block_pageblocks);
        Some((node, Extent::new(start, (count * config.block_pageblocks) as u32)))
    }

    pub(super) fn poison(&mut self, which: u16) {
        self.intact = false;
        // Some of it only: a node that is all bad tests nothing.
        let pageblock = Pageblock(match which % 16 {
            0..6 => u64::from(which / 16) % 32,
            6..13 => 32 + u64::from(which / 16) % 64,
            13..15 => 200 + u64::from(which / 16) % 16,
            _ => 1000 + u64::from(which / 16) % 16,
        });
        if self.poisoned.len() < 20 || self.poisoned.contains(&pageblock) {
            self.poisoned.insert(pageblock);
            self.must(Input::Poison { pageblock });
        }
    }

    pub(super) fn lose(&mut self, node: u8, block: u8, count: u8) -> Option<()> {
        self.intact = false;
        let (node, extent) = self.blocks(node, block, count)?;
        self.away.extend(extent.iter());
        self.must(Input::Lost { extents: vec![extent] });
        let offline: u64 =
            self.engine.offline(node).iter().map(|extent| u64::from(extent.count)).sum();
        if node == DEVICE && offline == 16 {
            // Its driver is gone with it.
            self.asked = None;
        }
        Some(())
    }

    /// A process hears of what it lost, and lets go of it.
    pub(super) fn hear(&mut self, process: u8) -> Option<()> {
        let (p, member) = self.connected(process)?;
        let process = &mut self.processes[p];
        let lost = process.losses.pop_front()?;
        for pageblock in &lost {
            process.mapped.remove(pageblock);
            process.thaws.retain(|other| other != pageblock);
            let mut pairs = process.orders.iter().flat_map(|(_, pairs)| pairs);
            if pairs.any(|(_, to)| to == pageblock) {
                process.bad.insert(*pageblock);
            }
        }
        self.must(Input::LetGo { member, extents: Extent::from_blocks(lost) });
        Some(())
    }

    pub(super) fn online(&mut self, node: u8, block: u8, count: u8) -> Option<()> {
        self.intact = false;
        let (node, extent) = self.blocks(node, block, count)?;
        let offline = extent.iter().all(|pageblock| self.away.contains(&pageblock));
        let ends = self.evacuating.remove(&node);
        match self.say(Input::Online { extents: vec![extent] }) {
            Ok(()) => {
                assert!(offline || ends);
                return Some(());
            }
            Err(Refusal::NotLetGo { pageblock }) => self.check_spoken_of(pageblock),
            Err(Refusal::NotBlocks { expected: "offline", .. }) => assert!(!offline && !ends),
            Err(refusal) => panic!("{refusal}"),
        }
        if ends {
            self.evacuating.insert(node);
        }
        Some(())
    }

    pub(super) fn give_back_extents(
        &mut self,
        node: u8,
        block: u8,
        count: u8,
        deadline_ms: u16,
    ) -> Option<()> {
        let (_, extent) = self.blocks(node, block, count)?;
        let online = extent.iter().all(|pageblock| !self.away.contains(&pageblock));
        online.then_some(())?;
        self.intact = false;
        let request = RequestId(self.fresh());
        let deadline = Duration::from_millis(deadline_ms.into());
        let extents = vec![extent];
        self.request(request, Input::GiveBackExtents { request, extents, deadline });
        Some(())
    }

    pub(super) fn evacuate(&mut self, node: u8, deadline_ms: u16) -> Option<()> {
        self.intact = false;
        let node = choose(&NODES, node)?;
        let request = RequestId(self.fresh());
        let deadline = Duration::from_millis(deadline_ms.into());
        let before = self.engine.clone();
        self.request(request, Input::Evacuate { request, node, deadline });
        if self.engine != before {
            self.evacuating.insert(node);
        }
        Some(())
    }

    /// A sampler saw a process access some of what it has, or had a moment ago.
    pub(super) fn access(&mut self, process: u8, which: u8, count: u8) -> Option<()> {
        let p = self.pick(process, |_| true)?;
        let mapped = self.processes[p].mapped.keys().copied();
        let all = mapped.skip(usize::from(which % 16)).take(usize::from(count % 24));
        let extents = Extent::from_blocks(all).into_iter().map(|extent| (extent, 3)).collect();
        let accessor = memtide_units::AccessorId(u16::from(which % 6));
        self.must(Input::Accessed { accessor, extents });
        Some(())
    }

    pub(super) fn mbind(
        &mut self,
        process: u8,
        which: u8,
        count: u8,
        to: u8,
        deadline_ms: u16,
    ) -> Option<()> {
        let (p, member) = self.connected(process)?;
        let mapped = self.processes[p].mapped.keys().copied();
        let all = mapped.skip(usize::from(which % 32)).take(usize::from(count % 16));
        let extents = Extent::from_blocks(all);
        let mask = [choose(&NODES, to)?].into_iter().collect();
        let mode = memtide_engine::mempolicy::Mode::Bind(mask);
        let policy = memtide_engine::mempolicy::MemPolicy { mode, ..Default::default() };
        let request = RequestId(self.fresh());
        let deadline = Duration::from_millis(deadline_ms.into());
        self.request(request, Input::Mbind { request, member, extents, policy, deadline });
        Some(())
    }

    pub(super) fn driver(&mut self) -> Option<()> {
        let input = match self.asked.take()? {
            Effect::SaveDevice { node } => Input::DeviceSaved { node },
            Effect::RestoreDevice { node } => Input::DeviceRestored { node },
            other => panic!("a driver is asked to {other:?}"),
        };
        self.must(input);
        Some(())
    }

    /// Why a pageblock may not come back: somebody may speak of what it was.
    pub(super) fn check_spoken_of(&self, pageblock: Pageblock) {
        let block = |other: &Pageblock| self.away.contains(other);
        let told = |process: &Process| {
            let orders = process.orders.iter().flat_map(|(_, pairs)| pairs);
            let mut ends = orders.flat_map(|&(from, to)| [from, to]);
            process.losses.iter().flatten().any(|&other| other == pageblock)
                || process.mapped.contains_key(&pageblock)
                || ends.any(|end| end == pageblock)
                // It lost what it was given while it could not be told.
                || !matches!(process.link, Link::Connected(_))
        };
        let zeroing = self.zeroing.iter().any(|&(_, other)| other == pageblock);
        assert!(block(&pageblock), "{pageblock} is not away");
        let some = self.processes.iter().any(told) || zeroing || self.engine.awaiting() > 0;
        assert!(some, "nobody can speak of {pageblock}");
    }

    /// What comes in is known to nobody.
    pub(super) fn check_unknown(&self, pageblock: Pageblock) {
        // What is bad is out of service still.
        if self.poisoned.contains(&pageblock) {
            return;
        }
        self.check_unmapped(pageblock);
        let zeroing = self.zeroing.iter().any(|&(_, other)| other == pageblock);
        let lost = |p: &Process| p.losses.iter().flatten().any(|&other| other == pageblock);
        let unheard = self.processes.iter().any(lost);
        assert!(!zeroing && !unheard, "{pageblock} comes back too early");
    }

    /// What somebody gets is good, and nothing is left in it.
    pub(super) fn check_good(&self, pageblock: Pageblock) {
        assert!(!self.poisoned.contains(&pageblock), "{pageblock} is bad and handed out");
        assert!(!self.away.contains(&pageblock), "{pageblock} is away and handed out");
        let before = self.dirty.get(&pageblock);
        assert_eq!(before, None, "{pageblock} still has content");
        let node = match pageblock.0 {
            0..32 => NEAR,
            32..96 => FAR,
            200..216 => DEVICE,
            _ => SPARE,
        };
        assert!(!self.evacuating.contains(&node), "{pageblock} is handed out of {node}");
        // One that saves in vain, for memory is back already, only copies.
        let restores = matches!(self.asked, Some(Effect::RestoreDevice { .. }));
        let driver = node == DEVICE && restores;
        assert!(!driver, "{pageblock} is handed out while its device is {:?}", self.asked);
    }
}
