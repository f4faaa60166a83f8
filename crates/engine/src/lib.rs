//! The rulebook of memtide as a pure state machine.
//!
//! Requests, acknowledgements and the time go in ([`Input`]); decisions come out ([`Effect`]).
//! The engine does no I/O, knows no clock, starts no thread, and has no unsafe code. The same
//! inputs at the same times give the same effects.
//!
//! What goes in and out:
//! * [`config`]: what an engine is made from.
//! * [`input`]: what can happen.
//! * [`refusal`]: why an input is refused; then it changed nothing.
//! * [`effect`]: what is to be done, and snapshots for people.
//!
//! The state:
//! * [`engine`]: [`Engine`], and the way an input takes through it.
//! * `pool`: the nodes together.
//! * `pageblocks`: the pageblocks of one node, held in its page-frame allocator.
//! * `words`: the memory of that allocator's metadata.
//! * `process`: processes, images.
//! * [`tenant`]: who is charged, as it is configured.
//! * `lease`: one leased pageblock, and its life cycle.
//! * `request`: requests that take time, and their works.
//!
//! The rules, one idea each:
//! * `member`: processes come and go.
//! * [`nodes`]: sorts of nodes, and the order of fallback among them.
//! * [`mempolicy`]: which nodes a request may be placed on.
//! * `place`: where a lease goes.
//! * `quota`: what a tenant has of each kind of node, and how much more it may have.
//! * `parts`: where anything may lie on a node, and where only what can move may.
//! * `promise`: a program knows in advance that it will get what it is going to need.
//! * `sums`: what all processes are promised and have, summed up.
//! * `demand`: what tenants need of some nodes, and what that leaves to others.
//! * `wishes`: what processes wait for.
//! * `want`: how much more of a node would serve them.
//! * `queue`: who waits for memory, and who is next.
//! * `lending`: leases, releases, zeroing.
//! * `pins`: what keeps leases in place.
//! * `fork`: sharing after a fork, and its end.
//! * `moves`: orders to move pageblocks, and their answers.
//! * [`migrate_reason`]: why memory moved.
//! * `migration_target`: where what has to leave a node goes.
//! * `elsewhere`: whether there is room for what is to leave a block.
//! * `giveback`: capacity leaves a node, and comes back.
//! * `poison`, `lost`: memory that is broken, or gone; `loss`: what both do to processes.
//! * `device`, `evacuate`, `online`: devices, and all or these very blocks that go and come.
//! * `heat`, [`idle`], `rebalance`: who uses what, who does not, and what comes of it.
//! * `demotion`: where what is idle goes.
//! * `link`, `mbind`: a node's speed changes; a program's memory is to lie elsewhere.
//! * `moveto`: a process's memory goes to a node.
//! * `report`: who holds what could not leave, and why.
//! * `recovery`: an engine that takes over from an earlier one.
//! * [`onlining`]: which zone plugged memory goes to, as Linux decides it.
//! * `explain`: what was decided, why, and how to say it; [`decision`] has the words.
//! * `validate`: the books agree with each other.

#![forbid(unsafe_code)]
#![no_std]

extern crate alloc;

pub mod config;
pub mod decision;
mod demand;
mod demotion;
mod device;
pub mod dynamic_capacity;
pub mod effect;
mod elsewhere;
pub mod engine;
mod evacuate;
mod explain;
mod fork;
mod giveback;
mod heat;
pub mod idle;
pub mod input;
mod lease;
mod lending;
mod link;
mod loss;
mod lost;
mod mbind;
mod member;
pub mod mempolicy;
pub mod migrate_reason;
mod migration_target;
mod moves;
mod moveto;
pub mod nodes;
mod online;
pub mod onlining;
mod outbox;
mod pageblocks;
mod parts;
mod pins;
mod place;
mod poison;
mod pool;
mod process;
mod promise;
mod queue;
mod quota;
mod rebalance;
mod recovery;
pub mod refusal;
mod report;
mod request;
mod status;
mod sums;
pub mod tenant;
mod tenant_status;
pub mod tiering;
pub mod tiers;
mod validate;
mod want;
mod wishes;
mod words;

pub use config::{Awaited, Config, ConfigError, LayoutError, Limits, NodeConfig, Performance};
pub use decision::{Asked, Decision, Outcome, Rule, Scope};
pub use effect::{Effect, Holder, MemberStatus, NodeStatus, Report, ZoneStatus};
pub use engine::Engine;
pub use idle::IdleHolder;
pub use input::{Claims, Input, Lineage, MoveOutcome};
pub use migrate_reason::{MigrateReason, Migrated};
pub use refusal::{Ground, Refusal};
pub use tenant::TenantConfig;
pub use tenant_status::{KindStatus, TenantStatus};
pub use want::Want;
