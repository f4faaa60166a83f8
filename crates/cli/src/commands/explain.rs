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
    let verb = match decision.asked {
        Asked::Lease => "wanted",
        Asked::Promise => "asked to be promised",
    };
    let times = match decision.times {
        1 => String::new(),
        times => format!(", {times} times in a row"),
    };
    let mut text = format!(
        "{} ago: {} (pid {}, tenant {}) {verb} {}{times}: {}\n",
        humane(decision.ago_ms / 1000 * 1000),
        decision.program,
        decision.pid,
        decision.tenant,
        decision.bytes,
        outcome(decision)
    );
    for reason in &decision.because {
        text += &format!("  {}\n", reason.text);
    }
    text
}

fn outcome(decision: &Decision) -> String {
    let shares = decision.nodes.iter().map(|share| format!("{} on {}", share.bytes, share.node));
    let shares = shares.collect::<Vec<_>>().join(", ");
    // What a program makes of it that has no memory: see ToProgram::Grant and ToProgram::Commit.
    let nothing = match decision.asked {
        Asked::Lease => "ordinary memory instead",
        Asked::Promise => "ENOMEM",
    };
    match decision.outcome {
        Outcome::Placed => format!("got {shares}"),
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

    #[test]
    fn the_json_is_what_is_documented() {
        assert_eq!(
            serde_json::to_string(&decision()).unwrap(),
            r#"{"tenant":"batch","pid":12,"image":3,"program":"sort","ago_ms":61500,"times":1,"#
                .to_owned()
                + r#""asked":"lease","bytes":8388608,"outcome":"fell-back","#
                + r#""nodes":[{"node":"far","bytes":8388608}],"wait_ms":0,"#
                + r#""because":[{"rule":"maximum","node":"near","amounts":{"max":67108864},"count":null,"#
                + r#""text":"near: the tenant has 64MiB and may have 64MiB"}]}"#
        );
    }
}
