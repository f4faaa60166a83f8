//! Tenants of the random world, and whether they get what is theirs.

use super::*;
use memtide_engine::{
    TenantConfig, TenantStatus,
    mempolicy::{Extended, MemPolicy, Mode},
    tenant::{Access, Credentials, Emergency, Migration, OnDepletion, Quota, Who},
};

/// Which tenants a world has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Setup {
    /// One, without limits, that this happens to on depletion.
    One(OnDepletion),
    /// Five, one of a kind each.
    Several,
}

/// Users there are, one of whom belongs to no tenant.
const USERS: u32 = 6;

/// What a process asked for and was not answered yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Asked {
    pub(super) what: memtide_engine::Asked,
    at: Instant,
    /// Whether a policy says where to.
    guided: bool,
}

fn quota(min: u64, max: Option<u64>) -> Quota {
    Quota { min, max, ..Quota::default() }
}

fn tenant(name: &str, user: u32, on_depletion: OnDepletion) -> TenantConfig {
    let who = vec![Who::Uid(user)];
    TenantConfig { who, on_depletion, ..TenantConfig::everybody(name) }
}

pub(super) fn tenants(setup: Setup) -> Vec<TenantConfig> {
    let near = |quota| BTreeMap::from([(NodeKind::Near, quota)]);
    match setup {
        Setup::One(on_depletion) => {
            vec![TenantConfig { on_depletion, ..TenantConfig::everybody("all") }]
        }
        Setup::Several => vec![
            TenantConfig {
                quotas: BTreeMap::from([
                    (NodeKind::Near, quota(4, Some(12))),
                    (NodeKind::Far, quota(0, Some(20))),
                ]),
                ..tenant("waits", 0, OnDepletion::Wait(Duration::from_millis(40)))
            },
            TenantConfig {
                weight: 3,
                policy: MemPolicy {
                    mode: Mode::WeightedInterleave([NEAR, FAR].into_iter().collect()),
                    extended: Extended::Any,
                },
                ..tenant("reclaims", 1, OnDepletion::Reclaim(Duration::from_millis(90)))
            },
            TenantConfig {
                quotas: BTreeMap::from([
                    (NodeKind::Near, quota(0, Some(16))),
                    (NodeKind::Far, Quota { pinned_max: Some(0), ..Quota::default() }),
                ]),
                policy: MemPolicy {
                    mode: Mode::Bind([NEAR].into_iter().collect()),
                    extended: Extended::Any,
                },
                emergency: Emergency::On,
                ..tenant("falls back", 2, OnDepletion::FallBack)
            },
            TenantConfig {
                quotas: BTreeMap::from([
                    (NodeKind::Near, quota(8, None)),
                    (NodeKind::Far, Quota { access: Access::Denied, ..Quota::default() }),
                ]),
                ..tenant("fails", 3, OnDepletion::Fail)
            },
            TenantConfig {
                quotas: near(quota(3, Some(20))),
                migration: Migration::Never,
                emergency: Emergency::On,
                ..tenant("stays", 4, OnDepletion::Fail)
            },
        ],
    }
}

fn kind_of(node: NodeId) -> NodeKind {
    match node {
        NEAR => NodeKind::Near,
        DEVICE => NodeKind::Device,
        _ => NodeKind::Far,
    }
}

fn node_at(pageblock: Pageblock) -> NodeId {
    match pageblock.0 {
        0..32 => NEAR,
        32..96 => FAR,
        200..216 => DEVICE,
        _ => SPARE,
    }
}

fn pageblocks(size: ByteSize) -> u64 {
    size.0 / PAGEBLOCK_BYTES
}

impl World {
    /// Somebody; in a world of several tenants, possibly nobody's.
    pub(super) fn somebody(&self, n: u8) -> Credentials {
        let users = if self.setup == Setup::Several { USERS } else { 1 };
        Credentials { uid: u32::from(n) % users, ..Credentials::default() }
    }

    /// A policy, good or not.
    pub(super) fn policy(n: u8) -> Option<MemPolicy> {
        let nodes = [NEAR, FAR, DEVICE, SPARE, NodeId(99)];
        let chosen = nodes.into_iter().enumerate();
        let mask = chosen.filter(|(bit, _)| n >> 3 & 1 << bit != 0).map(|(_, node)| node);
        let mask = mask.collect();
        let one = nodes[usize::from(n >> 3) % nodes.len()];
        let extended = [Extended::Any, Extended::Any, Extended::Only, Extended::Never];
        let mode = match n % 8 {
            1 => Mode::Local,
            2 => Mode::Bind(mask),
            3 => Mode::Preferred(one),
            4 => Mode::PreferredMany(mask),
            5 => Mode::Interleave(mask),
            6 => Mode::WeightedInterleave(mask),
            _ => return None,
        };
        Some(MemPolicy { mode, extended: extended[usize::from(n >> 4) % 4] })
    }

    /// A process asks; what becomes of it is seen when it is answered.
    pub(super) fn ask(&mut self, member: MemberId, what: memtide_engine::Asked, input: Input) {
        let at = self.now;
        let process = self.by_member(member);
        let own = matches!(input, Input::Lease { policy: Some(_), .. });
        let guided = own || process.guided;
        process.asked.push_back(Asked { what, at, guided });
        if let Err(refusal) = self.say(input) {
            assert!(matches!(refusal, Refusal::Policy(_)), "{refusal}");
            self.by_member(member).asked.pop_back();
        }
    }

    /// An answer came: it is to the oldest question of its kind of this process.
    pub(super) fn answered(&mut self, member: MemberId, is_promise: bool) -> Asked {
        let asked = &mut self.by_member(member).asked;
        let of_kind =
            |one: &Asked| matches!(one.what, memtide_engine::Asked::Promise(_)) == is_promise;
        let first = asked.iter().position(of_kind).expect("an answer to a question");
        asked.remove(first).expect("just found")
    }

    /// Nobody waits for longer than it has to.
    pub(super) fn check_waits(&self) {
        if self.engine.awaiting() > 0 {
            return;
        }
        for process in &self.processes {
            let (Some(first), Link::Connected(member)) = (process.asked.front(), process.link)
            else {
                continue;
            };
            let wait = match self.engine.on_depletion_of(member).unwrap() {
                OnDepletion::Wait(most) | OnDepletion::Reclaim(most) => most,
                _ => Duration::ZERO,
            };
            let start = first.at.max(self.recovered);
            assert!(self.now < start.after(wait.max(PATIENCE)), "{member} waits too long");
        }
    }

    pub(super) fn never_moves(&self, member: MemberId) -> bool {
        let tenant = self.engine.tenant_of_member(member).expect("told to who joined");
        self.setup == Setup::Several && tenants(self.setup)[usize::from(tenant.0)].name == "stays"
    }

    /// What never moves is not given what only what can move may lie in.
    pub(super) fn check_zones(&mut self, member: MemberId, given: &[Pageblock]) {
        if !self.never_moves(member) || given.is_empty() {
            return;
        }
        self.mark("never moves");
        let zones = NODES.into_iter().flat_map(|node| self.engine.zones(node));
        let promised = zones.filter(|(_, zone)| zone.is_movable_only());
        let promised: BTreeSet<_> = promised.flat_map(|(extent, _)| extent.iter()).collect();
        let bad = given.iter().find(|at| promised.contains(at));
        assert_eq!(bad, None, "{member} never moves");
    }

    /// Quotas, before and after an input.
    pub(super) fn check_quotas(&self, before: &[TenantStatus], effects: &[Effect], returns: bool) {
        let after = self.engine.tenant_status();
        // What is in use is charged to somebody.
        for kind in NodeKind::ALL {
            let nodes = self.engine.node_status();
            let in_use = nodes.iter().filter(|node| kind_of(node.node) == kind);
            let in_use: u64 = in_use.map(|node| node.leased.0).sum();
            let charged: u64 = after.iter().map(|tenant| tenant.kinds[kind as usize].used.0).sum();
            assert_eq!(in_use, charged, "{kind}");
        }
        for (before, after) in before.iter().zip(&after) {
            for (before, now) in before.kinds.iter().zip(&after.kinds) {
                // More than before, and more than it may have: only while it moves within a kind.
                let most = now.max.map_or(now.used, |max| max.max(before.used));
                let beyond = pageblocks(now.used).saturating_sub(pageblocks(most));
                if beyond > 0 && !returns {
                    let moved = self.moves_within(after.tenant, now.kind, effects);
                    assert!(beyond <= moved, "{} has too much {} memory", after.name, now.kind);
                }
                let grown = pageblocks(now.used).saturating_sub(pageblocks(before.used));
                if now.access == Access::Denied && !returns {
                    assert_eq!(grown, 0, "{} may not use {} memory", after.name, now.kind);
                }
            }
        }
    }

    /// Pairs ordered of a tenant that stay within a kind.
    fn moves_within(
        &self,
        tenant: memtide_units::TenantId,
        kind: NodeKind,
        effects: &[Effect],
    ) -> u64 {
        let pairs = effects.iter().filter_map(|effect| match effect {
            Effect::Move { member, pairs, .. }
                if self.engine.tenant_of_member(*member) == Some(tenant) =>
            {
                Some(pairs)
            }
            _ => None,
        });
        let stays = |&&(from, to): &&(Pageblock, Pageblock)| {
            kind_of(node_at(from)) == kind && kind_of(node_at(to)) == kind
        };
        pairs.flatten().filter(stays).count() as u64
    }

    /// Whoever got less than it asked for has what is guaranteed to it, as long as nothing but
    /// leases changed what is free.
    pub(super) fn check_guarantee(&self, member: MemberId, asked: Asked, missing: u64) {
        let tenant = self.engine.tenant_of_member(member).unwrap();
        let status = &self.engine.tenant_status()[usize::from(tenant.0)];
        let near = status.kinds[NodeKind::Near as usize];
        let is_sure = matches!(&*status.name, "fails" | "stays");
        let counts = self.setup == Setup::Several && is_sure && !asked.guided;
        if self.intact && missing > 0 && counts {
            assert!(near.used >= near.min, "{} lacks what is guaranteed to it", status.name);
        }
    }
}
