//! Who a program is: what the kernel says of it, and what it says of itself.
//!
//! User and group are those with which it connected (SO_PEERCRED, unix(7)): its effective ones at
//! that moment. Its control group is that of the process (cgroups(7)), as the daemon sees it; only
//! the hierarchy of version 2 counts. All three are the kernel's word. The label is the program's
//! own, and proves nothing.

use std::fs;

use memtide_engine::tenant::{Credentials, Who};
use memtide_proto::{Refused, label};
use memtide_sys::socket::Peer;

use crate::{config::TenantConfig, program::refused};

/// Why it is not known who a program is: what it hears.
#[derive(Debug)]
pub(crate) enum NotKnown {
    /// What it calls itself is no label.
    Label(Refused),
    /// A tenant is for a control group, and its own cannot be read.
    ControlGroup(Refused),
}

/// Who is at the other end and calls itself `label`.
/// `tenants` are those that it may belong to: where one is for a control group, a program whose own
/// cannot be read is refused. It would be taken for somebody else's otherwise.
pub(crate) fn of(
    peer: Peer,
    label: String,
    tenants: &[TenantConfig],
) -> Result<Credentials, NotKnown> {
    if !label.is_empty() && !label::is_label(&label) {
        return Err(NotKnown::Label(refused(label::VARIABLE, label, label::EXPECTED)));
    }
    let Peer { pid, uid, gid } = peer;
    let needed = tenants.iter().flat_map(|tenant| &tenant.who);
    let needed = { needed }.any(|who| matches!(who, Who::Cgroup(_)));
    let cgroup = match fs::read_to_string(format!("/proc/{pid}/cgroup")) {
        Ok(text) => unified(&text).unwrap_or_default(),
        Err(_) if !needed => String::new(),
        Err(error) => {
            let value = format!("{error} (process {pid})");
            let why = refused("control group", value, "one that the daemon can read");
            return Err(NotKnown::ControlGroup(why));
        }
    };
    Ok(Credentials { uid, gid, cgroup, label })
}

/// The path in the hierarchy of version 2, from lines `hierarchy:controllers:path`.
fn unified(text: &str) -> Option<String> {
    text.lines().find_map(|line| line.strip_prefix("0::")).map(str::to_owned)
}

/// What a program hears that no tenant is for.
pub(crate) fn no_tenant(who: &Credentials) -> Refused {
    let mut text = format!("user {}, group {}", who.uid, who.gid);
    for (what, value) in [("control group", &who.cgroup), ("label", &who.label)] {
        if !value.is_empty() {
            text += &format!(", {what} {value}");
        }
    }
    refused("program", text, "one that a [[tenant]] of the pool is for")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_unified_hierarchy_counts() {
        let hybrid = "12:memory:/old\n1:name=systemd:/user.slice\n0::/user.slice/a b:c\n";
        assert_eq!(unified(hybrid).as_deref(), Some("/user.slice/a b:c"));
        assert_eq!(unified("12:memory:/old\n"), None);
        assert_eq!(unified(""), None);
    }

    #[test]
    fn this_process_is_who_it_is() {
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let peer = Peer { pid: std::process::id(), uid, gid };
        let who = of(peer, "web".to_owned(), &[]).unwrap();
        assert_eq!((who.uid, who.gid, who.label.as_str()), (uid, gid, "web"));
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        assert!(who.cgroup.is_empty() || own.contains(&format!("0::{}", who.cgroup)));
        let Err(NotKnown::Label(error)) = of(peer, "a b".to_owned(), &[]) else { panic!() };
        assert!(
            error.to_string().contains("MEMTIDE_LABEL is \"a b\"; expected 1 to 64"),
            "{error}"
        );
    }

    #[test]
    fn an_unknown_control_group_is_nobodys_where_one_counts() {
        // No process has this number (PID_MAX_LIMIT is 2^22).
        let peer = Peer { pid: u32::MAX, uid: 1, gid: 1 };
        let mut tenant = TenantConfig::everybody("db");
        assert_eq!(of(peer, String::new(), &[tenant.clone()]).unwrap().cgroup, "");
        tenant.who = vec![Who::Uid(1), Who::Cgroup("/db".to_owned())];
        let of_unknown = of(peer, String::new(), &[tenant]);
        assert!(matches!(of_unknown, Err(NotKnown::ControlGroup(_))), "{of_unknown:?}");
    }
}
