//! Whom the kernel says a program is counts, over the protocol: its user, group and control group.

mod common;

use std::fs;

use common::{Pool, Program, next_packet};
use memtide_daemon::config::TenantConfig;
use memtide_engine::tenant::Who;
use memtide_proto::{ToProgram, decode};

fn tenant(name: &str, who: Who) -> TenantConfig {
    TenantConfig { who: vec![who], ..TenantConfig::everybody(name) }
}

fn joined(tenants: Vec<TenantConfig>) -> String {
    let pool = Pool::with_tenants(2, 2, tenants);
    let _program = Program::join(pool.socket());
    pool.status().programs[0].tenant.clone()
}

#[test]
fn a_group_is_the_effective_one() {
    let gid = rustix::process::getegid().as_raw();
    let all = vec![
        tenant("other", Who::Gid(gid ^ 1)),
        tenant("own", Who::Gid(gid)),
        TenantConfig::everybody("rest"),
    ];
    assert_eq!(joined(all), "own");
}

/// The path of this process in the hierarchy of version 2.
fn own_cgroup() -> Option<String> {
    let text = fs::read_to_string("/proc/self/cgroup").ok()?;
    text.lines().find_map(|line| line.strip_prefix("0::")).map(str::to_owned)
}

#[test]
fn a_control_group_is_that_of_the_process_or_one_above_it() {
    let Some(own) = own_cgroup() else {
        memtide_skip::skip("needs control groups of version 2");
        return;
    };
    let below = format!("{}/memtide-nobody", own.trim_end_matches('/'));
    let of = |path: &str| Who::Cgroup(path.to_owned());
    let rest = TenantConfig::everybody("rest");
    let all = vec![tenant("below", of(&below)), tenant("own", of(&own)), rest.clone()];
    assert_eq!(joined(all), "own");
    let all = vec![tenant("below", of(&below)), tenant("root", of("/")), rest.clone()];
    assert_eq!(joined(all), "root", "{own} is below it");
    let all = vec![tenant("beside", of("/memtide-nobody")), rest];
    assert_eq!(joined(all), "rest");
}

#[test]
fn who_is_refused_hears_as_whom() {
    let pool = Pool::with_tenants(2, 2, vec![tenant("nobody", Who::Cgroup("/none".to_owned()))]);
    let (connection, _life) = Program::say_hello(pool.socket(), "");
    let (packet, _) = next_packet(&connection).expect("an answer");
    let Ok(ToProgram::Refused(why)) = decode(&packet) else { panic!("let in") };
    let gid = rustix::process::getegid().as_raw();
    assert!(why.to_string().contains(&format!("group {gid}")), "{why}");
    if let Some(own) = own_cgroup() {
        assert!(why.to_string().contains(&format!("control group {own}")), "{why}");
    }
}
