//! `memtide tenants`.

use std::{process::ExitCode, time::Duration};

use memtide_proto::control::{KindStatus, OnDepletion, TenantStatus};
use memtide_units::{ByteSize, NodeKind};

use crate::{arguments::Tenants, ask, failure::Failure, output};

pub fn tenants(options: Tenants) -> Result<ExitCode, Failure> {
    let socket = ask::socket(options.socket.socket)?;
    let tenants = ask::tenants(&socket)?;
    if options.json {
        output::json(&tenants)?;
    } else {
        output::text(&text(&tenants))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn text(tenants: &[TenantStatus]) -> String {
    let heading = [
        "TENANT",
        "FOR",
        "POLICY",
        "WEIGHT",
        "WHEN FULL",
        "PROCESSES",
        "PROMISED",
        "WAITING",
        "FELL BACK",
    ];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    rows.extend(tenants.iter().map(row));
    let heading = ["TENANT", "KIND", "USED", "GUARANTEED", "AT MOST", "PINNED", "PINNED AT MOST"];
    let mut kinds = vec![heading.map(str::to_owned).to_vec()];
    for tenant in tenants {
        let shown = tenant.kinds.iter().filter(|kind| kind.kind != NodeKind::Device || says(kind));
        kinds.extend(shown.map(|kind| kind_row(tenant, kind)));
    }
    format!("{}\n{}", output::table(&rows), output::table(&kinds))
}

fn row(tenant: &TenantStatus) -> Vec<String> {
    let who = if tenant.who.is_empty() { "everybody".to_owned() } else { tenant.who.join(", ") };
    let wait = humane(tenant.wait_ms);
    let when_full = match tenant.on_depletion {
        OnDepletion::Fail => "ENOMEM".to_owned(),
        OnDepletion::FallBack => "falls back".to_owned(),
        OnDepletion::Wait => format!("waits {wait}"),
        OnDepletion::Reclaim => format!("reclaims, waits {wait}"),
    };
    let waiting = match tenant.waiting.requests {
        0 => "0".to_owned(),
        requests => format!("{requests} for {}", tenant.waiting.bytes),
    };
    vec![
        tenant.name.clone(),
        who,
        tenant.policy.clone(),
        tenant.weight.to_string(),
        when_full,
        tenant.processes.to_string(),
        tenant.promised.to_string(),
        waiting,
        tenant.fell_back.to_string(),
    ]
}

/// Whether there is anything to say of a kind that most pools do not have.
fn says(kind: &KindStatus) -> bool {
    let limits = kind.max.is_some() || kind.pinned_max.is_some() || kind.min.0 > 0;
    kind.used.0 > 0 || limits || !kind.allowed
}

fn kind_row(tenant: &TenantStatus, kind: &KindStatus) -> Vec<String> {
    let limit = |limit: Option<ByteSize>| match (kind.allowed, limit) {
        (false, _) => "denied".to_owned(),
        (true, None) => "-".to_owned(),
        (true, Some(limit)) => limit.to_string(),
    };
    vec![
        tenant.name.clone(),
        kind.kind.to_string(),
        kind.used.to_string(),
        kind.min.to_string(),
        limit(kind.max),
        kind.pinned.to_string(),
        limit(kind.pinned_max),
    ]
}

/// A duration in the largest unit that loses nothing.
pub fn humane(ms: u64) -> String {
    let duration = Duration::from_millis(ms);
    match duration.as_secs() {
        _ if !ms.is_multiple_of(1000) => format!("{ms}ms"),
        seconds if seconds > 0 && seconds.is_multiple_of(60) => format!("{}m", seconds / 60),
        seconds => format!("{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use memtide_proto::control::Waiting;

    use super::*;

    fn tenant(name: &str) -> TenantStatus {
        let kind = |kind, used, max| KindStatus {
            kind,
            allowed: true,
            used: ByteSize(used),
            max,
            min: ByteSize(0),
            pinned: ByteSize(0),
            pinned_max: None,
        };
        TenantStatus {
            name: name.to_owned(),
            who: vec!["uid 0".to_owned(), "label web".to_owned()],
            weight: 2,
            policy: "bind far".to_owned(),
            on_depletion: OnDepletion::Wait,
            wait_ms: 120_000,
            processes: 3,
            kinds: vec![
                kind(NodeKind::Near, 2 << 20, None),
                kind(NodeKind::Far, 0, Some(ByteSize(64 << 20))),
                kind(NodeKind::Device, 0, None),
            ],
            promised: ByteSize(8 << 20),
            waiting: Waiting { requests: 1, bytes: ByteSize(4 << 20) },
            fell_back: ByteSize(0),
        }
    }

    #[test]
    fn tenants_are_told_in_two_tables() {
        let text = text(&[tenant("web")]);
        let wanted = "\
TENANT  FOR               POLICY    WEIGHT  WHEN FULL  PROCESSES  PROMISED     WAITING  FELL BACK
web     uid 0, label web  bind far       2  waits 2m           3      8MiB  1 for 4MiB         0B

TENANT  KIND  USED  GUARANTEED  AT MOST  PINNED  PINNED AT MOST
web     near  2MiB          0B  -            0B  -
web     far     0B          0B  64MiB        0B  -
";
        assert_eq!(text, wanted, "{text}");
    }

    #[test]
    fn durations_are_written_as_people_do() {
        for (ms, text) in [(0, "0s"), (1500, "1500ms"), (10_000, "10s"), (120_000, "2m")] {
            assert_eq!(humane(ms), text);
        }
    }
}
