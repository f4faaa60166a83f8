//! The text of a file that says the same as a [`Config`].

use std::{collections::BTreeMap, fmt::Write};

use memtide_engine::{
    Performance,
    mempolicy::Mode,
    nodes::NodeClass,
    tenant::{Access, Emergency, Migration, OnDepletion, Who},
};
use memtide_proto::program::{Backing, OnFull};
use memtide_units::{NodeKind, OnlineZone};

use super::{
    AccessorConfig, Config, NodeConfig, TenantConfig, Weights,
    accessors::by_name,
    dcd::{Accept, DcdConfig, SharedWith, Wants},
    nodes::CAPABILITIES,
    policy::{EXTENDED, words},
    tenants::Quota,
};

impl Config {
    /// The text of a file that says the same.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let on_full = match self.on_full {
            OnFull::Fail => "fail",
            OnFull::Fallback => "fallback",
        };
        let mut text = format!(
            "socket = {}\nmode = {:#o}\non_full = {on_full:?}\nblock = \"{}\"\n\
             deadline = \"{}ms\"\ngrant_userfaultfd = {}\n",
            quoted(&self.socket.to_string_lossy()),
            self.mode,
            self.block.0,
            self.deadline.as_millis(),
            self.grant_userfaultfd
        );
        if let Some(state) = &self.state {
            text += &format!("state = {}\n", quoted(&state.to_string_lossy()));
        }
        let name = |index: &usize| self.nodes[*index].name.as_str();
        if !self.placement.is_empty() {
            let order: Vec<&str> = self.placement.iter().map(name).collect();
            text += &format!("\n[placement]\norder = {order:?}\n");
        }
        if let Weights::Manual(weights) = &self.weights {
            text += "\n[weights]\n";
            for (node, weight) in weights {
                text += &format!("{} = {weight}\n", name(node));
            }
        }
        for node in &self.nodes {
            text += &self.node(node);
        }
        for accessor in &self.accessors {
            text += &self.accessor(accessor);
        }
        for tenant in &self.tenants {
            text += &self.tenant(tenant);
        }
        text
    }

    fn node(&self, node: &NodeConfig) -> String {
        let store = match node.backing {
            Backing::Memfd => "memfd",
            Backing::MemfdThp => "memfd-thp",
            Backing::Hugetlb => "hugetlb",
            Backing::Dcd => "dcd",
        };
        let size = if node.dcd.is_some() { "window" } else { "size" };
        let mut text = format!(
            "\n[[node]]\nname = {:?}\nkind = \"{}\"\n{size} = \"{}\"\nstore = {store:?}\n",
            node.name, node.kind, node.size.0
        );
        if let Some(dcd) = &node.dcd {
            text += &device(dcd);
        }
        if let Some(numa) = &node.numa {
            let _ = writeln!(text, "numa = {}", numa.node.0);
            if let Some(online) = numa.online {
                let _ = writeln!(text, "online = \"{}\"", online.0);
            }
        }
        match node.class {
            NodeClass::Public => {}
            NodeClass::Special => text += "class = \"special\"\n",
            NodeClass::Private(capabilities) => {
                let has = CAPABILITIES.iter().filter(|(_, one)| capabilities.has(*one));
                let names: Vec<&str> = has.map(|(name, _)| *name).collect();
                text += &format!("class = \"private\"\ncapabilities = {names:?}\n");
            }
        }
        if node.zone != OnlineZone::default() {
            let _ = writeln!(text, "zone = \"{}\"", node.zone);
        }
        for known in speeds(&node.performance) {
            let _ = writeln!(text, "{known}");
        }
        if !node.distances.is_empty() {
            let all = node.distances.iter();
            let all = all.map(|(to, distance)| format!("{} = {distance}", self.nodes[*to].name));
            text += &format!("distances = {{ {} }}\n", all.collect::<Vec<_>>().join(", "));
        }
        text
    }

    fn accessor(&self, accessor: &AccessorConfig) -> String {
        let mut text = format!("\n[[accessor]]\nname = {:?}\n", accessor.name);
        for (node, performance) in &accessor.nodes {
            let (node, known) = (&self.nodes[*node].name, speeds(performance).join(", "));
            let _ = writeln!(text, "nodes.{node} = {{ {known} }}");
        }
        text
    }

    fn tenant(&self, tenant: &TenantConfig) -> String {
        let mut text = format!("\n[[tenant]]\nname = {:?}\n", tenant.name);
        text += &who(&tenant.who);
        for (kind, of) in &tenant.quotas {
            text += &quota(*kind, of);
        }
        let _ = writeln!(text, "weight = {}", tenant.weight);
        let (policy, nodes) = words(&tenant.policy.mode);
        let _ = writeln!(text, "policy = {policy:?}");
        if !nodes.is_empty() {
            let names = nodes.iter().map(|node| self.nodes[usize::from(node.0)].name.as_str());
            let _ = writeln!(text, "nodes = {:?}", names.collect::<Vec<_>>());
        }
        if let Mode::AccessedBy(by) = &tenant.policy.mode {
            let all = by_name(by, &self.accessors).map(|(name, times)| format!("{name} = {times}"));
            let _ = writeln!(text, "accessors = {{ {} }}", all.collect::<Vec<_>>().join(", "));
        }
        for (word, extended) in EXTENDED {
            if extended == tenant.policy.extended {
                let _ = writeln!(text, "extended = {word:?}");
            }
        }
        let wait = |word, wait: std::time::Duration| {
            format!("on_depletion = {word:?}\nwait = \"{}ms\"\n", wait.as_millis())
        };
        text += &match tenant.on_depletion {
            None => String::new(),
            Some(OnDepletion::Fail) => "on_depletion = \"fail\"\n".to_owned(),
            Some(OnDepletion::FallBack) => "on_depletion = \"fall-back\"\n".to_owned(),
            Some(OnDepletion::Wait(limit)) => wait("wait", limit),
            Some(OnDepletion::Reclaim(limit)) => wait("reclaim", limit),
        };
        if tenant.emergency == Emergency::On {
            text += "emergency = \"on\"\n";
        }
        if tenant.migration == Migration::Never {
            text += "migration = \"never\"\n";
        }
        if tenant.trusted {
            text += "trusted = true\n";
        }
        text
    }
}

/// What is known of a performance, as keys and values.
fn speeds(of: &Performance) -> Vec<String> {
    let latency = |key, ns: u32| (ns > 0).then(|| format!("{key} = {ns}"));
    let bandwidth = |key, mib: u32| (mib > 0).then(|| format!("{key} = \"{mib}M\""));
    let all = [
        latency("read_latency_ns", of.read_latency_ns),
        latency("write_latency_ns", of.write_latency_ns),
        bandwidth("read_bandwidth", of.read_bandwidth_mib),
        bandwidth("write_bandwidth", of.write_bandwidth_mib),
    ];
    all.into_iter().flatten().collect()
}

fn device(dcd: &DcdConfig) -> String {
    let accept = match dcd.accept {
        Accept::All => "all".to_owned(),
        Accept::None => "none".to_owned(),
        Accept::Limit(limit) => limit.0.to_string(),
    };
    let shared_with = match dcd.shared_with {
        SharedWith::Trusted => "trusted",
        SharedWith::Everybody => "everybody",
    };
    let fabric = quoted(&dcd.fabric.to_string());
    let mut text = format!(
        "fabric = {fabric}\nhost = {}\naccept = {accept:?}\nshared_with = {shared_with:?}\n",
        dcd.host
    );
    if let Some(manager) = &dcd.manager {
        let manager = quoted(&manager.to_string());
        let wants = match dcd.wants {
            Wants::UpTo(most) => most.0.to_string(),
            other => other.to_string(),
        };
        text +=
            &format!("manager = {manager}\nhost_name = {:?}\nwants = {wants:?}\n", dcd.host_name);
    }
    text
}

fn who(all: &[Who]) -> String {
    let mut keys: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for one in all {
        let (key, value) = match one {
            Who::Uid(uid) => ("uid", uid.to_string()),
            Who::Gid(gid) => ("gid", gid.to_string()),
            Who::Cgroup(path) => ("cgroup", quoted(path)),
            Who::Label(label) => ("label", quoted(label)),
        };
        keys.entry(key).or_default().push(value);
    }
    let line = |(key, values): (&str, Vec<String>)| format!("{key} = [{}]\n", values.join(", "));
    keys.into_iter().map(line).collect()
}

fn quota(kind: NodeKind, quota: &Quota) -> String {
    let mut parts = Vec::new();
    if quota.access == Access::Denied {
        parts.push("access = \"denied\"".to_owned());
    }
    if let Some(max) = quota.max {
        parts.push(format!("max = \"{}\"", max.0));
    }
    if quota.min.0 > 0 {
        parts.push(format!("min = \"{}\"", quota.min.0));
    }
    if let Some(pinned) = quota.pinned_max {
        parts.push(format!("pinned_max = \"{}\"", pinned.0));
    }
    format!("{kind} = {{ {} }}\n", parts.join(", "))
}

/// A text in quotation marks: the escapes of JSON are among those of TOML.
fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("a text is always JSON").replace('\u{7f}', "\\u007f")
}
