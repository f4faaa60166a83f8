//! `[[node]] store = "dcd"`: a node of a device's dynamic capacity.
//!
//! ```toml
//! [[node]]
//! name = "dcd0"
//! kind = "far"
//! store = "dcd"
//! fabric = "unix:/run/memtide/fabric.sock"
//! host = 0
//! ```
//!
//! Such a node has no size: it has what the device gave and this host accepted. It has a *window*
//! of addresses for that, as large as the device at least; what is offered beyond it is refused.
//!
//! A host has one memory file of the device, not one for each program. Whoever may map that file
//! can read and write all of it, whatever the engine says. So only tenants that are marked
//! `trusted` may reach such a node, unless the node says `shared_with = "everybody"`; a file by
//! which another tenant could get there is refused.

use std::{fmt, str::FromStr};

use memtide_fabric::{Address, wire};
use memtide_proto::program::Backing;
use memtide_units::ByteSize;
use toml::Spanned;

use super::{
    MAX_POOL,
    nodes::NodeConfig,
    raw::{Located, RawNode, RawTenant, Text, number, size, word, wrong, wrong_at},
    reach::PoolRules,
    tenants::TenantConfig,
};

/// The window of a node that does not say.
const WINDOW: ByteSize = ByteSize(1 << 40);

/// Where a node's capacity comes from, and on what terms.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DcdConfig {
    /// The fabric's socket.
    pub fabric: Address,
    /// Which of the device's hosts this is.
    pub host: u16,
    /// How much of what is offered is accepted.
    pub accept: Accept,
    /// Who may map the device's memory.
    pub shared_with: SharedWith,
    /// Where to tell who holds what, and why.
    pub manager: Option<Address>,
    /// This host's name there.
    pub host_name: String,
    /// Whether the manager is told what programs lack.
    pub wants: Wants,
}

/// Whether more capacity is wanted of the manager when programs lack memory.
///
/// Nothing is, unless the node says so: what one host wants, others give up, and which programs may
/// have that done is for whoever runs the host to say, not for the programs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wants {
    /// No.
    Nothing,
    /// Yes; how much it comes to is for the manager to bound.
    Automatic,
    /// Yes, as long as no more than this is held.
    UpTo(ByteSize),
}

/// What of the capacity that is offered is accepted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Accept {
    /// All of it.
    All,
    /// Nothing.
    None,
    /// As long as no more than this is held, whole offers at a time.
    Limit(ByteSize),
}

/// Whose programs may map a device's memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SharedWith {
    /// Those of tenants that are marked `trusted`.
    Trusted,
    /// Everybody's.
    Everybody,
}

/// The fields that only such a node has.
const FIELDS: [&str; 8] =
    ["fabric", "host", "accept", "window", "shared_with", "manager", "host_name", "wants"];

impl RawNode {
    /// Where each of [`FIELDS`] is given, in their order.
    fn dcd_fields(&self) -> [Option<usize>; FIELDS.len()] {
        let at = |text: &Option<Text>| text.as_ref().map(|at| at.span().start);
        [
            at(&self.fabric),
            self.host.as_ref().map(|at| at.span().start),
            at(&self.accept),
            at(&self.window),
            at(&self.shared_with),
            at(&self.manager),
            at(&self.host_name),
            at(&self.wants),
        ]
    }
}

/// That a node of ordinary memory has none of these fields.
pub(super) fn check_none(raw: &RawNode, field: &impl Fn(&str) -> String) -> Result<(), Located> {
    let given = raw.dcd_fields().into_iter().zip(FIELDS).find_map(|(at, name)| Some((at?, name)));
    let Some((at, name)) = given else { return Ok(()) };
    let text = "says nothing here; expected it on a node of store \"dcd\" only";
    Err(wrong_at(at, &field(name), "", text))
}

/// A node's window: its size to the engine.
pub(super) fn window(raw: &RawNode, field: &impl Fn(&str) -> String) -> Result<ByteSize, Located> {
    if let Some(at) = &raw.size {
        let text = "is the device's to say; expected none for store \"dcd\", or \"window\", the \
                    most that can be used of it";
        return Err(wrong(at, &field("size"), at.get_ref(), text));
    }
    let Some(at) = &raw.window else { return Ok(WINDOW) };
    let bytes = size(at, &field("window"))?;
    if bytes > MAX_POOL {
        let text = format!("is too much; expected at most {MAX_POOL}");
        return Err(wrong(at, &field("window"), at.get_ref(), text));
    }
    Ok(bytes)
}

pub(super) fn dcd(
    raw: &RawNode,
    at: usize,
    field: &impl Fn(&str) -> String,
) -> Result<DcdConfig, Located> {
    let missing = |name: &str, example: &str| {
        let text = format!("is missing; expected it for store \"dcd\", as {name} = {example}");
        wrong_at(at, &field(name), "", text)
    };
    let fabric = raw.fabric.as_ref();
    let fabric = fabric.ok_or_else(|| missing("fabric", "\"unix:/run/memtide/fabric.sock\""))?;
    let parsed = address(fabric, &field("fabric"))?;
    if !matches!(&parsed, Address::Unix(path) if path.is_absolute()) {
        let text = "cannot hand over memory; expected unix: and a path from /";
        return Err(wrong(fabric, &field("fabric"), fabric.get_ref(), text));
    }
    let host = raw.host.as_ref().ok_or_else(|| missing("host", "0"))?;
    let host: u16 = number(host, &field("host"), (0, i64::from(u16::MAX)), "")?;
    let shares = [("trusted", SharedWith::Trusted), ("everybody", SharedWith::Everybody)];
    let shared_with = raw.shared_with.as_ref();
    let manager = raw.manager.as_ref().map(|at| address(at, &field("manager"))).transpose()?;
    Ok(DcdConfig {
        fabric: parsed,
        host,
        accept: match &raw.accept {
            None => Accept::All,
            Some(at) => at.get_ref().parse().map_err(|expected| {
                let text = format!("is none of these; expected {expected}");
                wrong(at, &field("accept"), at.get_ref(), text)
            })?,
        },
        shared_with: word(shared_with, &field("shared_with"), SharedWith::Trusted, &shares)?,
        host_name: host_name(raw, host, manager.is_some(), field)?,
        wants: wants(raw, manager.is_some(), field)?,
        manager,
    })
}

fn address(at: &Text, field: &str) -> Result<Address, Located> {
    at.get_ref().parse().map_err(|_| {
        let text = "is no address; expected unix:PATH, or tcp:HOST:PORT for a manager";
        wrong(at, field, at.get_ref(), text)
    })
}

impl FromStr for Accept {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        match text {
            "all" => Ok(Self::All),
            "none" => Ok(Self::None),
            limit => {
                let limit = limit.parse().map(Self::Limit);
                limit.map_err(|_| "\"all\", \"none\", or a size such as \"64G\"")
            }
        }
    }
}

impl fmt::Display for Accept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::None => f.write_str("none"),
            Self::Limit(limit) => write!(f, "{limit}"),
        }
    }
}

impl FromStr for Wants {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        match text {
            "nothing" => Ok(Self::Nothing),
            "automatic" => Ok(Self::Automatic),
            most => {
                let most = most.parse().map(Self::UpTo);
                most.map_err(|_| "\"nothing\", \"automatic\", or a size such as \"64G\"")
            }
        }
    }
}

impl fmt::Display for Wants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("nothing"),
            Self::Automatic => f.write_str("automatic"),
            Self::UpTo(most) => write!(f, "{most}"),
        }
    }
}

fn wants(
    raw: &RawNode,
    has_manager: bool,
    field: &impl Fn(&str) -> String,
) -> Result<Wants, Located> {
    let Some(at) = &raw.wants else { return Ok(Wants::Nothing) };
    let wants = at.get_ref().parse().map_err(|expected| {
        let text = format!("is none of these; expected {expected}");
        wrong(at, &field("wants"), at.get_ref(), text)
    })?;
    if wants != Wants::Nothing && !has_manager {
        let text = "is told to nobody; expected \"manager\" beside it";
        return Err(wrong(at, &field("wants"), at.get_ref(), text));
    }
    Ok(wants)
}

fn host_name(
    raw: &RawNode,
    host: u16,
    has_manager: bool,
    field: &impl Fn(&str) -> String,
) -> Result<String, Located> {
    let Some(at) = &raw.host_name else { return Ok(format!("host{host}")) };
    let name = at.get_ref();
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.len() > wire::MAX_NAME_BYTES || !name.chars().all(plain) {
        let text = format!(
            "is no name; expected 1 to {} letters, digits, -, _ and .",
            wire::MAX_NAME_BYTES
        );
        return Err(wrong(at, &field("host_name"), name, text));
    }
    if !has_manager {
        let text = "is told to nobody; expected \"manager\" beside it";
        return Err(wrong(at, &field("host_name"), name, text));
    }
    Ok(name.clone())
}

/// That whoever can reach a device's memory is trusted with all of it.
pub(super) fn check_trust(
    raw: &[Spanned<RawTenant>],
    tenants: &[TenantConfig],
    pool: &PoolRules<'_>,
) -> Result<(), Located> {
    let Some(zonelists) = pool.zonelists() else { return Ok(()) };
    let everybody = [TenantConfig::everybody("everybody")];
    let all = if tenants.is_empty() { &everybody } else { tenants };
    for (index, tenant) in all.iter().enumerate().filter(|(_, tenant)| !tenant.trusted) {
        for node in pool.reach(tenant, &zonelists) {
            let node = &pool.nodes[node];
            if node.is_shared_with(tenant) {
                continue;
            }
            let at = raw.get(index).map_or(0, |raw| raw.get_ref().name.span().start);
            let text = format!(
                "can get memory of node {}, which is one file for all programs: each could read \
                 the others' there; expected trusted = true, {}.access = \"denied\", or \
                 shared_with = \"everybody\" of the node",
                node.name, node.kind
            );
            return Err(wrong_at(at, "tenant", &tenant.name, text));
        }
    }
    Ok(())
}

impl NodeConfig {
    /// A node of this device's capacity.
    #[must_use]
    pub fn of_device(name: &str, kind: memtide_units::NodeKind, dcd: DcdConfig) -> Self {
        Self { dcd: Some(dcd), ..Self::new(name, kind, WINDOW, Backing::Dcd) }
    }

    /// Whether programs of a tenant may map this node's memory.
    #[must_use]
    pub fn is_shared_with(&self, tenant: &TenantConfig) -> bool {
        let Some(dcd) = &self.dcd else { return true };
        dcd.shared_with == SharedWith::Everybody || tenant.trusted
    }
}
