//! What a request is answered: how much, who holds the rest, and why.
//!
//! The report is made from the books as they stand when the request ends, so it names what holds
//! memory *now*, not what did on the way. A block with anything in it that stays is charged to
//! just that: the rest of it could have been moved. A block with nothing of the kind is charged
//! as a whole: there was no room for it, or no time.

use alloc::{collections::BTreeMap, string::String, vec::Vec};

use memtide_units::{ByteSize, HoldReason, ImageId, RequestId, TokenId};

use crate::{
    effect::{Holder, Report},
    engine::Engine,
    lease::Standing,
    pool::BlockId,
    request::{Aim, Ending, Request},
};

/// Pageblocks by who holds them and why.
#[derive(Default)]
struct Charges(BTreeMap<(ImageId, u32, HoldReason), (String, u64)>);

impl Charges {
    fn add(&mut self, image: ImageId, pid: u32, name: &str, reason: HoldReason) {
        let entry = self.0.entry((image, pid, reason)).or_insert_with(|| (String::from(name), 0));
        entry.1 += 1;
    }

    /// A device's driver, under the name of its node: no image, no process.
    fn add_driver(&mut self, node: &str, count: u64) {
        let key = (ImageId(0), 0, HoldReason::DeviceState);
        self.0.insert(key, (String::from(node), count));
    }

    /// Largest first; equal ones by image, process and reason.
    fn into_holders(self) -> Vec<Holder> {
        let holder = |((image, pid, reason), (name, count))| {
            let bytes = ByteSize::from_pageblocks(count);
            Holder { image, pid, name, bytes, reason }
        };
        let mut holders: Vec<_> = self.0.into_iter().map(holder).collect();
        holders.sort_by_key(|holder| core::cmp::Reverse(holder.bytes));
        holders
    }
}

impl Engine {
    pub(crate) fn report(&self, id: RequestId, ending: Ending) -> Report {
        let request = &self.requests[&id];
        let mut charges = Charges::default();
        if ending != Ending::Whole {
            match &request.aim {
                Aim::GiveBack { blocks, .. } if self.awaits_device(blocks).is_some() => {
                    let left = request.wanted - request.done;
                    let device = self.awaits_device(blocks).expect("just seen");
                    charges.add_driver(&self.pool.nodes()[device].name, left);
                }
                Aim::GiveBack { nodes, tried, blocks, .. } => {
                    let wanted =
                        |block: &BlockId| blocks.left().is_none_or(|left| left.contains(block));
                    let short = request.done + request.emptying < request.wanted;
                    for block in self.pool.online_blocks(nodes).into_iter().filter(wanted) {
                        let ours = self.emptying.get(&block);
                        let ours = ours.is_some_and(|work| request.works.contains(work));
                        if short || ours || tried.contains(&block) {
                            self.charge_block(request, block, ours, &mut charges);
                        }
                    }
                }
                Aim::MoveTo { .. } => self.charge_process(request, &mut charges),
            }
        }
        let holders = charges.into_holders();
        let passing = |holder: &Holder| {
            use HoldReason::{DeviceState, DirectRead, MoveFailed, Moving, NotResponding};
            matches!(holder.reason, Moving | NotResponding | DirectRead | MoveFailed | DeviceState)
        };
        let requested = ByteSize::from_pageblocks(request.wanted);
        let returned = ByteSize::from_pageblocks(request.done);
        Report {
            requested,
            returned,
            remaining: ByteSize(requested.0 - returned.0),
            ask_again: ending == Ending::CutOff || holders.iter().any(passing),
            holders,
        }
    }

    fn charge_block(&self, request: &Request, block: BlockId, ours: bool, charges: &mut Charges) {
        let mut stays = false;
        let mut movable = Vec::new();
        for (pageblock, lease) in self.leased_in(self.pool.span(block)) {
            let owner = lease.owner.token;
            let (token, reason) = match self.standing(lease) {
                Standing::Held(token, reason) => (token, reason),
                Standing::Leaving | Standing::Unsettled => (owner, HoldReason::Moving),
                Standing::Movable => match request.failed.get(&pageblock) {
                    Some(&reason) => (owner, reason),
                    None => {
                        movable.push(owner);
                        continue;
                    }
                },
            };
            stays = true;
            self.charge(token, reason, charges);
        }
        for (_, residue) in self.zeroing.range(self.pool.span(block)) {
            let record = &self.images[&residue.image];
            charges.add(residue.image, record.pid, &record.name, HoldReason::Moving);
        }
        if ours || !stays {
            let reason = self.reason_of_movable(ours);
            for token in movable {
                self.charge(token, reason, charges);
            }
        }
    }

    fn charge_process(&self, request: &Request, charges: &mut Charges) {
        let Aim::MoveTo { token, .. } = request.aim else {
            unreachable!("only a move is about a process")
        };
        for (pageblock, lease) in self.still_elsewhere(&request.aim) {
            let started = request.works.iter().any(|work| {
                let todo = self.works[work].todo.get(&token);
                todo.is_some_and(|todo| todo.contains(&pageblock))
            });
            let (token, reason) = match self.standing(lease) {
                Standing::Held(token, reason) => (token, reason),
                Standing::Leaving | Standing::Unsettled => (token, HoldReason::Moving),
                Standing::Movable => {
                    let failed = request.failed.get(&pageblock).copied();
                    (token, failed.unwrap_or_else(|| self.reason_of_movable(started)))
                }
            };
            self.charge(token, reason, charges);
        }
    }

    /// Why something is still there that could have been moved.
    const fn reason_of_movable(&self, started: bool) -> HoldReason {
        if started || self.recovery.is_some() { HoldReason::Moving } else { HoldReason::NoRoom }
    }

    fn charge(&self, token: TokenId, reason: HoldReason, charges: &mut Charges) {
        let process = self.process(token);
        charges.add(process.image, process.pid, &process.name, reason);
    }
}
