//! `memtide.toml`: what a pool is made of.
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
//! ```
//!
//! A text becomes a [`Config`] only when all of it makes sense; an error names the line, the
//! field, its value and what was expected.

use std::{
    collections::BTreeSet,
    fmt, io,
    path::{Path, PathBuf},
    time::Duration,
};

use memtide_proto::program::{Backing, OnFull};
use memtide_units::{ByteSize, NodeKind, PAGEBLOCK_BYTES};
use serde::Deserialize;
use toml::Spanned;

use crate::duration;

/// Most nodes in a pool.
pub const MAX_NODES: usize = 16;
/// Longest name of a node, in bytes.
pub const MAX_NODE_NAME: usize = 32;
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
    /// What programs do when the pool is full.
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
}

/// One node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeConfig {
    /// Its name.
    pub name: String,
    /// Near or far.
    pub kind: NodeKind,
    /// How large; a whole number of blocks.
    pub size: ByteSize,
    /// What it is made of.
    pub backing: Backing,
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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawConfig {
    socket: Option<Spanned<PathBuf>>,
    mode: Option<Spanned<i64>>,
    state: Option<Spanned<PathBuf>>,
    on_full: Option<Spanned<String>>,
    block: Option<Spanned<String>>,
    deadline: Option<Spanned<String>>,
    grant_userfaultfd: Option<bool>,
    placement: Option<RawPlacement>,
    #[serde(default, alias = "nodes")]
    node: Vec<Spanned<RawNode>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPlacement {
    order: Vec<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawNode {
    name: Spanned<String>,
    kind: Spanned<String>,
    size: Spanned<String>,
    store: Option<Spanned<String>>,
}

/// A problem and where it is.
type Located = (usize, Problem);

fn wrong<T>(at: &Spanned<T>, field: &str, value: &str, problem: impl Into<String>) -> Located {
    let problem =
        Problem { field: field.to_owned(), value: value.to_owned(), problem: problem.into() };
    (at.span().start, problem)
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
        let block = parse_block(raw.block.as_ref())?;
        let nodes = parse_nodes(&raw.node, block)?;
        let placement = parse_placement(raw.placement.as_ref(), &nodes)?;
        let socket = match &raw.socket {
            Some(path) => absolute(path, "socket")?,
            None => socket.to_owned(),
        };
        let state = match &raw.state {
            Some(path) => absolute(path, "state")?,
            None => state_beside(&socket),
        };
        let config = Self {
            socket,
            mode: parse_mode(raw.mode.as_ref())?,
            state: Some(state),
            on_full: parse_on_full(raw.on_full.as_ref())?,
            block,
            deadline: parse_deadline(raw.deadline.as_ref())?,
            grant_userfaultfd: raw.grant_userfaultfd.unwrap_or(true),
            nodes,
            placement,
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

    /// The text of a file that says the same.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let on_full = match self.on_full {
            OnFull::Fail => "fail",
            OnFull::Fallback => "fallback",
        };
        let mut text = format!(
            "socket = {:?}\nmode = {:#o}\non_full = {on_full:?}\nblock = \"{}\"\n\
             deadline = \"{}ms\"\ngrant_userfaultfd = {}\n",
            self.socket,
            self.mode,
            self.block.0,
            self.deadline.as_millis(),
            self.grant_userfaultfd
        );
        if let Some(state) = &self.state {
            text += &format!("state = {state:?}\n");
        }
        if !self.placement.is_empty() {
            let order: Vec<&str> =
                self.placement.iter().map(|index| self.nodes[*index].name.as_str()).collect();
            text += &format!("\n[placement]\norder = {order:?}\n");
        }
        for node in &self.nodes {
            let store = match node.backing {
                Backing::Memfd => "memfd",
                Backing::MemfdThp => "memfd-thp",
                Backing::Hugetlb => "hugetlb",
            };
            text += &format!(
                "\n[[node]]\nname = {:?}\nkind = \"{}\"\nsize = \"{}\"\nstore = {store:?}\n",
                node.name, node.kind, node.size.0
            );
        }
        text
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

fn parse_mode(mode: Option<&Spanned<i64>>) -> Result<u32, Located> {
    let Some(mode) = mode else { return Ok(0o600) };
    u32::try_from(*mode.get_ref()).ok().filter(|bits| *bits <= 0o777).ok_or_else(|| {
        let text = "is no permission; expected an octal number such as 0o600 or 0o660";
        wrong(mode, "mode", &mode.get_ref().to_string(), text)
    })
}

fn parse_on_full(value: Option<&Spanned<String>>) -> Result<OnFull, Located> {
    match value.map(|value| (value, value.get_ref().as_str())) {
        None | Some((_, "fail")) => Ok(OnFull::Fail),
        Some((_, "fallback")) => Ok(OnFull::Fallback),
        Some((at, other)) => {
            Err(wrong(at, "on_full", other, "is unknown; expected \"fail\" or \"fallback\""))
        }
    }
}

fn parse_deadline(value: Option<&Spanned<String>>) -> Result<Duration, Located> {
    match value {
        None => Ok(Duration::from_secs(30)),
        Some(at) => duration::parse(at.get_ref())
            .map_err(|problem| wrong(at, "deadline", at.get_ref(), problem)),
    }
}

fn parse_size(at: &Spanned<String>, field: &str) -> Result<ByteSize, Located> {
    at.get_ref().parse::<ByteSize>().map_err(|e| wrong(at, field, at.get_ref(), e.to_string()))
}

fn parse_block(value: Option<&Spanned<String>>) -> Result<ByteSize, Located> {
    let Some(at) = value else { return Ok(ByteSize(PAGEBLOCK_BYTES)) };
    let size = parse_size(at, "block")?;
    if size.0 < PAGEBLOCK_BYTES || !size.0.is_power_of_two() {
        let text = "is not a block; expected 2M or 2M times a power of two";
        return Err(wrong(at, "block", at.get_ref(), text));
    }
    Ok(size)
}

fn parse_nodes(raw: &[Spanned<RawNode>], block: ByteSize) -> Result<Vec<NodeConfig>, Located> {
    let mut names = BTreeSet::new();
    raw.iter().map(|node| parse_node(node.get_ref(), block, &mut names)).collect()
}

fn parse_node(
    raw: &RawNode,
    block: ByteSize,
    names: &mut BTreeSet<String>,
) -> Result<NodeConfig, Located> {
    let name = raw.name.get_ref();
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if name.is_empty() || name.len() > MAX_NODE_NAME || !name.chars().all(plain) {
        let text = format!("is no name; expected 1 to {MAX_NODE_NAME} letters, digits, - and _");
        return Err(wrong(&raw.name, "node name", name, text));
    }
    if !names.insert(name.clone()) {
        return Err(wrong(&raw.name, "node name", name, "is there twice; expected unique names"));
    }
    let field = |field: &str| format!("{field} of node {name}");
    let kind = match raw.kind.get_ref().as_str() {
        "near" => NodeKind::Near,
        "far" => NodeKind::Far,
        other => {
            let text = "is unknown; expected \"near\" or \"far\"";
            return Err(wrong(&raw.kind, &field("kind"), other, text));
        }
    };
    let size = parse_size(&raw.size, &field("size"))?;
    check_size(size, block)
        .map_err(|text| wrong(&raw.size, &field("size"), raw.size.get_ref(), text))?;
    let backing = match &raw.store {
        None => Backing::Memfd,
        Some(at) => parse_backing(at.get_ref())
            .map_err(|text| wrong(at, &field("store"), at.get_ref(), text))?,
    };
    Ok(NodeConfig { name: name.clone(), kind, size, backing })
}

/// What a store is called.
///
/// # Errors
/// What was expected instead.
pub fn parse_backing(text: &str) -> Result<Backing, String> {
    match text {
        "memfd" => Ok(Backing::Memfd),
        "memfd-thp" => Ok(Backing::MemfdThp),
        "hugetlb" => Ok(Backing::Hugetlb),
        _ => Err("is unknown; expected memfd, memfd-thp or hugetlb".to_owned()),
    }
}

fn parse_placement(
    raw: Option<&RawPlacement>,
    nodes: &[NodeConfig],
) -> Result<Vec<usize>, Located> {
    let mut order = Vec::new();
    for at in raw.iter().flat_map(|placement| &placement.order) {
        let name = at.get_ref();
        let names: Vec<&str> = nodes.iter().map(|node| node.name.as_str()).collect();
        match nodes.iter().position(|node| node.name == *name) {
            Some(index) if !order.contains(&index) => order.push(index),
            Some(_) => {
                let text = "is there twice; expected each node once";
                return Err(wrong(at, "placement.order", name, text));
            }
            None => {
                let text = format!("is no node; expected one of {}", names.join(", "));
                return Err(wrong(at, "placement.order", name, text));
            }
        }
    }
    Ok(order)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
socket = "/run/x/y.sock"
on_full = "fallback"
block = "4M"
mode = 0o660
deadline = "5s"

[placement]
order = ["far", "near"]

[[node]]
name = "near"
kind = "near"
size = "4G"

[[node]]
name = "far"
kind = "far"
size = "8gib"
store = "hugetlb"
"#;

    fn parse(text: &str) -> Result<Config, (usize, String)> {
        Config::parse(text, Path::new("/default.sock")).map_err(|(offset, problem)| {
            (text[..offset].matches('\n').count() + 1, problem.to_string())
        })
    }

    #[test]
    fn a_whole_file_is_read() {
        let config = parse(GOOD).unwrap();
        assert_eq!(config.socket, Path::new("/run/x/y.sock"));
        assert_eq!(config.state.as_deref(), Some(Path::new("/run/x/y.sock.state")));
        assert_eq!(config.mode, 0o660);
        assert_eq!(config.on_full, OnFull::Fallback);
        assert_eq!(config.block, ByteSize(4 << 20));
        assert_eq!(config.deadline, Duration::from_secs(5));
        assert_eq!(config.placement, [1, 0]);
        assert_eq!(config.nodes[1].size, ByteSize(8 << 30));
        assert_eq!(config.nodes[1].backing, Backing::Hugetlb);
        assert!(config.grant_userfaultfd);
    }

    #[test]
    fn every_mistake_is_named_with_its_line_and_what_was_expected() {
        let replace = |from: &str, to: &str| parse(&GOOD.replace(from, to)).unwrap_err();
        for (from, to, line, text) in [
            ("\"4G\"", "\"4Q\"", 14, "size of node near \"4Q\" has an unknown unit; expected"),
            ("\"4G\"", "\"3M\"", 14, "size of node near \"3M\" is not a whole number of blocks"),
            ("\"4G\"", "\"0\"", 14, "expected a multiple of 4MiB"),
            ("\"4G\"", "4", 14, "invalid type: integer `4`, expected a string"),
            ("kind = \"near\"", "kind = \"nah\"", 13, "expected \"near\" or \"far\""),
            ("name = \"far\"", "name = \"near\"", 17, "node name \"near\" is there twice"),
            ("name = \"far\"", "name = \"f r\"", 17, "node name \"f r\" is no name"),
            ("\"hugetlb\"", "\"disk\"", 20, "expected memfd, memfd-thp or hugetlb"),
            ("\"fallback\"", "\"panic\"", 3, "on_full \"panic\" is unknown"),
            ("\"4M\"", "\"3M\"", 4, "block \"3M\" is not a block"),
            ("0o660", "0o6660", 5, "mode \"3504\" is no permission"),
            ("\"5s\"", "\"5 weeks\"", 6, "deadline \"5 weeks\" has an unknown unit"),
            ("\"/run", "\"run", 2, "socket \"run/x/y.sock\" is not absolute"),
            ("[\"far\"", "[\"fat\"", 9, "\"fat\" is no node; expected one of near, far"),
            ("[\"far\"", "[\"near\"", 9, "\"near\" is there twice"),
            ("block", "blok", 4, "unknown field `blok`"),
            ("kind", "kin", 13, "unknown field `kin`"),
        ] {
            let (at, message) = replace(from, to);
            assert!(message.contains(text), "{to}: {message}");
            assert_eq!(at, line, "{to}: {message}");
        }
    }

    #[test]
    fn what_is_written_reads_the_same() {
        let config = parse(GOOD).unwrap();
        assert_eq!(parse(&config.to_toml()).unwrap(), config);
    }

    #[test]
    fn a_pool_has_nodes_and_a_limit() {
        let (_, message) = parse("").unwrap_err();
        assert!(message.contains("expected 1 to 16 [[node]] tables"), "{message}");
        let (_, message) = parse(&GOOD.replace("\"4G\"", "\"1P\"")).unwrap_err();
        assert!(message.contains("at most 64TiB"), "{message}");
    }
}
