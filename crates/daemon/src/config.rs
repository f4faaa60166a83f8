//! `memtide.toml`: what a pool is made of, and who may have how much of it.
//!
//! ```toml
//! socket = "/run/memtide/memtide.sock"
//! on_full = "fail"            # or "fallback": go on with ordinary memory
//!
//! [[node]]
//! name = "near"
//! kind = "near"
//! size = "4G"
//!
//! [[node]]
//! name = "far"
//! kind = "far"
//! size = "16G"
//! store = "memfd"             # or "memfd-thp", "hugetlb"
//!
//! [[tenant]]
//! name = "batch"
//! uid = ["backup", 1007]
//! near = { access = "denied" }
//! far = { max = "8G" }
//! on_depletion = "wait"
//! wait = "2m"
//! ```
//!
//! A text becomes a [`Config`] only when all of it makes sense; an error names the line, the
//! field, its value and what was expected.
//!
//! * `raw`: the keys of the file, nothing judged yet.
//! * [`dcd`]: nodes of a device's dynamic capacity.
//! * [`numa`]: nodes on NUMA nodes of the kernel's.
//! * `nodes`, `tenants`, `policy`, `who`: what one table says, checked.
//! * [`accessors`]: who reads and writes memory, and how soon.
//! * `reach`: which nodes a tenant can get anything of.
//! * `write`: a file that says the same. `rulebook`: what the engine is told of it.

pub mod accessors;
pub mod dcd;
mod nodes;
pub mod numa;
mod policy;
mod raw;
mod reach;
mod rulebook;
mod tenants;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_of_accessors;
#[cfg(test)]
mod tests_of_devices;
mod who;
mod write;

use std::{
    fmt, io,
    path::{Path, PathBuf},
    time::Duration,
};

use memtide_proto::program::OnFull;
use memtide_units::{ByteSize, PAGEBLOCK_BYTES};
use toml::Spanned;

use crate::duration;
use raw::{Located, RawConfig, Text, word, wrong};
use reach::PoolRules;

pub use accessors::AccessorConfig;
pub use dcd::{Accept, DcdConfig, SharedWith, Wants};
pub use nodes::{NodeConfig, Weights};
pub use numa::NumaConfig;
pub(crate) use policy::in_words as policy_in_words;
pub use tenants::{MAX_TENANTS, Quota, TenantConfig};

/// Most nodes in a pool.
pub const MAX_NODES: usize = 16;
/// Longest name of a node, a tenant or an accessor, in bytes.
pub const MAX_NAME: usize = 32;
/// Largest pool.
pub const MAX_POOL: ByteSize = ByteSize(64 << 40);

/// A pool, checked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// Where the daemon listens.
    pub socket: PathBuf,
    /// Permissions of the socket.
    pub mode: u32,
    /// Where the daemon keeps what a later one must know; nothing is kept when absent.
    pub state: Option<PathBuf>,
    /// What programs do when the pool is full, where their tenant does not say.
    pub on_full: OnFull,
    /// The unit in which capacity leaves and comes.
    pub block: ByteSize,
    /// How long a give-back or move tries when the request does not say.
    pub deadline: Duration,
    /// Whether programs are handed an open `/dev/userfaultfd`, if the daemon may open it.
    pub grant_userfaultfd: bool,
    /// The nodes, in the order of the file.
    pub nodes: Vec<NodeConfig>,
    /// The order in which nodes are filled, as indices into `nodes`. Empty: near before far.
    pub placement: Vec<usize>,
    /// Who sets the weights of the weighted interleave.
    pub weights: Weights,
    /// Who may have what, the first that fits a program first. Empty: everybody, everything.
    pub tenants: Vec<TenantConfig>,
    /// Who reads and writes memory, in the order of the file.
    pub accessors: Vec<AccessorConfig>,
}

/// What is wrong with a configuration.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    /// Which field; empty when the text is not even TOML.
    pub field: String,
    /// Its value, as text.
    pub value: String,
    /// What is wrong with it and what was expected.
    pub problem: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.field.as_str(), self.value.as_str()) {
            ("", _) => f.write_str(&self.problem),
            (field, "") => write!(f, "{field} {}", self.problem),
            (field, value) => write!(f, "{field} {value:?} {}", self.problem),
        }
    }
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Its text makes no sense.
    #[error("{}:{line}: {problem}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Where, from 1.
        line: usize,
        /// What.
        problem: Problem,
    },
    /// A value from elsewhere makes no sense.
    #[error("{0}")]
    Value(Problem),
}

impl Config {
    /// A pool of these nodes at this socket; all else as usual.
    ///
    /// # Errors
    /// [`ConfigError::Value`] for a size or name that makes no sense.
    pub fn new(socket: PathBuf, nodes: Vec<NodeConfig>) -> Result<Self, ConfigError> {
        let config = Self {
            state: Some(state_beside(&socket)),
            socket,
            mode: 0o600,
            on_full: OnFull::Fail,
            block: ByteSize(PAGEBLOCK_BYTES),
            deadline: Duration::from_secs(30),
            grant_userfaultfd: true,
            nodes,
            placement: Vec::new(),
            weights: Weights::Automatic,
            tenants: Vec::new(),
            accessors: Vec::new(),
        };
        config.check().map_err(ConfigError::Value)?;
        Ok(config)
    }

    /// What the file says; `socket` is used when it names none.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn read(path: &Path, socket: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        Self::parse(&text, socket).map_err(|(offset, problem)| ConfigError::File {
            path: path.to_owned(),
            line: text[..offset.min(text.len())].matches('\n').count() + 1,
            problem,
        })
    }

    fn parse(text: &str, socket: &Path) -> Result<Self, Located> {
        let raw: RawConfig = toml::from_str(text).map_err(|error| {
            let problem = error.message().to_owned();
            let offset = error.span().map_or(0, |span| span.start);
            (offset, Problem { field: String::new(), value: String::new(), problem })
        })?;
        let block = nodes::block(raw.block.as_ref())?;
        let nodes = nodes::nodes(&raw.node, block)?;
        let socket = match &raw.socket {
            Some(path) => absolute(path, "socket")?,
            None => socket.to_owned(),
        };
        let state = match &raw.state {
            Some(path) => absolute(path, "state")?,
            None => state_beside(&socket),
        };
        let on_full = [("fail", OnFull::Fail), ("fallback", OnFull::Fallback)];
        let on_full = word(raw.on_full.as_ref(), "on_full", OnFull::Fail, &on_full)?;
        let placement = nodes::placement(raw.placement.as_ref(), &nodes)?;
        let accessors = accessors::accessors(&raw.accessor, &nodes)?;
        let rules = PoolRules::new(&nodes, &accessors, &placement, on_full);
        let tenants = tenants::tenants(&raw.tenant, &rules)?;
        dcd::check_trust(&raw.tenant, &tenants, &rules)?;
        let config = Self {
            socket,
            mode: parse_mode(raw.mode.as_ref())?,
            state: Some(state),
            on_full,
            block,
            deadline: parse_deadline(raw.deadline.as_ref())?,
            grant_userfaultfd: raw.grant_userfaultfd.unwrap_or(true),
            placement,
            weights: nodes::weights(raw.weights.as_ref(), &nodes)?,
            tenants,
            accessors,
            nodes,
        };
        config.check().map_err(|problem| (0, problem))?;
        Ok(config)
    }

    /// What concerns the whole, and nodes that did not come from a file.
    fn check(&self) -> Result<(), Problem> {
        let problem = |field: &str, value: String, problem: String| {
            Err(Problem { field: field.to_owned(), value, problem })
        };
        if self.nodes.is_empty() || self.nodes.len() > MAX_NODES {
            let text = format!("expected 1 to {MAX_NODES} [[node]] tables");
            return problem("node", self.nodes.len().to_string(), text);
        }
        for node in &self.nodes {
            if let Err(text) = check_size(node.size, self.block) {
                return problem(
                    &format!("size of node {}", node.name),
                    node.size.to_string(),
                    text,
                );
            }
        }
        let total: u128 = self.nodes.iter().map(|node| u128::from(node.size.0)).sum();
        if total > u128::from(MAX_POOL.0) {
            let text = format!("is too much; expected at most {MAX_POOL} in all nodes together");
            return problem("size", format!("{total} bytes"), text);
        }
        Ok(())
    }

    /// The position of a node of this name.
    #[must_use]
    pub fn node_named(&self, name: &str) -> Option<usize> {
        self.nodes.iter().position(|node| node.name == name)
    }
}

/// Where the state is kept unless the configuration says otherwise.
fn state_beside(socket: &Path) -> PathBuf {
    let mut name = socket.as_os_str().to_owned();
    name.push(".state");
    PathBuf::from(name)
}

fn absolute(path: &Spanned<PathBuf>, field: &str) -> Result<PathBuf, Located> {
    let value = path.get_ref();
    if value.is_absolute() {
        Ok(value.clone())
    } else {
        Err(wrong(path, field, &value.to_string_lossy(), "is not absolute; expected a path from /"))
    }
}

fn check_size(size: ByteSize, block: ByteSize) -> Result<(), String> {
    if size.0 == 0 || !size.0.is_multiple_of(block.0) {
        return Err(format!("is not a whole number of blocks; expected a multiple of {block}"));
    }
    Ok(())
}

fn parse_mode(mode: Option<&raw::Number>) -> Result<u32, Located> {
    let Some(mode) = mode else { return Ok(0o600) };
    u32::try_from(*mode.get_ref()).ok().filter(|bits| *bits <= 0o777).ok_or_else(|| {
        let text = "is no permission; expected an octal number such as 0o600 or 0o660";
        wrong(mode, "mode", &mode.get_ref().to_string(), text)
    })
}

fn parse_deadline(value: Option<&Text>) -> Result<Duration, Located> {
    match value {
        None => Ok(Duration::from_secs(30)),
        Some(at) => duration::parse(at.get_ref())
            .map_err(|problem| wrong(at, "deadline", at.get_ref(), problem)),
    }
}
