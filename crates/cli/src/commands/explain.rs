//! `memtide explain`.

use std::process::ExitCode;

use memtide_proto::{
    Whom,
    control::{Asked, Decision, Outcome},
};

use crate::{arguments::Explain, ask, commands::tenants::humane, failure::Failure, output};

pub fn explain(options: Explain) -> Result<ExitCode, Failure> {
    let socket = ask::socket(options.socket.socket)?;
    let whom = match (options.pid, options.tenant) {
        (Some(pid), _) => Whom::Pid(pid),
        (None, Some(tenant)) => Whom::Tenant(tenant),
        (None, None) => Whom::Everybody,
    };
    let decisions = ask::explain(&socket, whom)?;
    if options.json {
        output::json(&decisions)?;
    } else if decisions.is_empty() {
        output::text("nothing has been decided yet\n")?;
    } else {
        output::text(&decisions.iter().map(sentences).collect::<String>())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// One decision: a line, and one for each rule that stood in the way.
fn sentences(decision: &Decision) -> String {
    let what = what(decision);
    let times = match decision.times {
        1 => String::new(),
        times => format!(", {times} times in a row"),
    };
    let mut text = format!(
        "{} ago: {} (pid {}, {}) {what}{times}: {}\n",
        humane(decision.ago_ms / 1000 * 1000),
        decision.program,
        decision.pid,
        match decision.tenant.as_str() {
            "" => "no tenant".to_owned(),
            tenant => format!("tenant {tenant}"),
        },
        outcome(decision)
    );
    for reason in &decision.because {
        text += &format!("  {}\n", reason.text);
    }
    text
}

/// What was asked for, or happened.
fn what(decision: &Decision) -> String {
    let bytes = decision.bytes;
    match decision.asked {
        Asked::Lease => format!("wanted {bytes}"),
        Asked::Promise => format!("asked to be promised {bytes}"),
        Asked::Join => "asked to be let in".to_owned(),
        Asked::Pin => format!("asked to pin {bytes}"),
        Asked::Fork => "forked a child".to_owned(),
        Asked::Move => {
            format!("had {bytes} moved from {}", decision.from.as_deref().unwrap_or("another node"))
        }
    }
}

fn outcome(decision: &Decision) -> String {
    let shares = decision.nodes.iter().map(|share| format!("{} on {}", share.bytes, share.node));
    let shares = shares.collect::<Vec<_>>().join(", ");
    // What becomes of a program that is refused: see ToProgram::Grant, Commit and Refused.
    let nothing = match decision.asked {
        Asked::Lease | Asked::Join => "ordinary memory instead",
        Asked::Promise => "ENOMEM",
        Asked::Pin | Asked::Fork | Asked::Move => "told so, and its connection closed",
    };
    match decision.outcome {
        Outcome::Placed => format!("got {shares}"),
        Outcome::Moved => shares,
        Outcome::FellBack => format!("fell back to {shares}"),
        Outcome::Emergency => format!("got in an emergency {shares}"),
        Outcome::Promised => "promised".to_owned(),
        Outcome::Waits if decision.wait_ms == 0 => "waited".to_owned(),
        Outcome::Waits => {
            format!("waits, {} more at most", humane(decision.wait_ms.div_ceil(1000) * 1000))
        }
        Outcome::Refused => format!("refused: {nothing}"),
        Outcome::TimedOut => format!("refused after it had waited: {nothing}"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use memtide_proto::control::{NodeBytes, Reason};
    use memtide_units::{ByteSize, ImageId};

    use super::*;

    fn decision() -> Decision {
        Decision {
            tenant: "batch".to_owned(),
            pid: 12,
            image: ImageId(3),
            program: "sort".to_owned(),
            ago_ms: 61_500,
            times: 1,
            asked: Asked::Lease,
            bytes: ByteSize(8 << 20),
            from: None,
            outcome: Outcome::FellBack,
            nodes: vec![NodeBytes { node: "far".to_owned(), bytes: ByteSize(8 << 20) }],
            wait_ms: 0,
            because: vec![Reason {
                rule: "maximum".to_owned(),
                node: Some("near".to_owned()),
                amounts: BTreeMap::from([("max".to_owned(), ByteSize(64 << 20))]),
                count: None,
                text: "near: the tenant has 64MiB and may have 64MiB".to_owned(),
            }],
        }
    }

    #[test]
    fn a_decision_is_told_with_its_rules() {
        assert_eq!(
            sentences(&decision()),
            "61s ago: sort (pid 12, tenant batch) wanted 8MiB: fell back to 8MiB on far\n  \
             near: the tenant has 64MiB and may have 64MiB\n"
        );
        let refused = Decision {
            asked: Asked::Promise,
            outcome: Outcome::Refused,
            times: 3,
            because: Vec::new(),
            ..decision()
        };
        assert_eq!(
            sentences(&refused),
            "61s ago: sort (pid 12, tenant batch) asked to be promised 8MiB, 3 times in a row: \
             refused: ENOMEM\n"
        );
        let waits = Decision { outcome: Outcome::Waits, wait_ms: 8_200, ..decision() };
        assert!(sentences(&waits).contains("waits, 9s more at most"), "{}", sentences(&waits));
    }

    fn because(rule: &str, text: &str) -> Vec<Reason> {
        let (rule, text) = (rule.to_owned(), text.to_owned());
        vec![Reason { rule, node: None, amounts: BTreeMap::new(), count: None, text }]
    }

    #[test]
    fn who_is_not_let_in_has_no_tenant() {
        let refused = Decision {
            tenant: String::new(),
            image: ImageId(0),
            asked: Asked::Join,
            bytes: ByteSize(0),
            outcome: Outcome::Refused,
            nodes: Vec::new(),
            because: because("no-tenant", "program is user 7; expected another"),
            ..decision()
        };
        assert_eq!(
            sentences(&refused),
            "61s ago: sort (pid 12, no tenant) asked to be let in: refused: ordinary memory \
             instead\n  program is user 7; expected another\n"
        );
    }

    #[test]
    fn what_was_moved_is_told_with_both_ends() {
        let moved = Decision {
            asked: Asked::Move,
            from: Some("near".to_owned()),
            times: 2,
            outcome: Outcome::Moved,
            because: because("give-back", "capacity of near is given back"),
            ..decision()
        };
        assert_eq!(
            sentences(&moved),
            "61s ago: sort (pid 12, tenant batch) had 8MiB moved from near, 2 times in a row: \
             8MiB on far\n  capacity of near is given back\n"
        );
    }

    #[test]
    fn the_json_is_what_is_documented() {
        assert_eq!(
            serde_json::to_string(&decision()).unwrap(),
            r#"{"tenant":"batch","pid":12,"image":3,"program":"sort","ago_ms":61500,"times":1,"#
                .to_owned()
                + r#""asked":"lease","bytes":8388608,"from":null,"outcome":"fell-back","#
                + r#""nodes":[{"node":"far","bytes":8388608}],"wait_ms":0,"#
                + r#""because":[{"rule":"maximum","node":"near","amounts":{"max":67108864},"count":null,"#
                + r#""text":"near: the tenant has 64MiB and may have 64MiB"}]}"#
        );
    }
}
