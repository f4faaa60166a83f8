//! `memtide give-back`, and how reports are told.

use std::{process::ExitCode, time::Duration};

use memtide_proto::{ControlRequest, control::Report};

use crate::{
    arguments::GiveBack,
    ask,
    failure::{Failure, PARTLY_DONE},
    output,
};

pub fn give_back(options: GiveBack) -> Result<ExitCode, Failure> {
    let socket = ask::socket(options.socket.socket)?;
    let wish = ControlRequest::GiveBack {
        bytes: options.size,
        from: options.from,
        deadline_ms: options.deadline.map(milliseconds),
    };
    let report = ask::report(&socket, wish, "giving back")?;
    tell(&report, "came back", options.json)
}

pub fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Prints a report; the exit code says whether it is whole.
pub fn tell(report: &Report, verb: &str, json: bool) -> Result<ExitCode, Failure> {
    if json {
        output::json(report)?;
    } else {
        output::text(&sentences(report, verb))?;
    }
    Ok(if report.remaining.0 == 0 { ExitCode::SUCCESS } else { ExitCode::from(PARTLY_DONE) })
}

fn sentences(report: &Report, verb: &str) -> String {
    if report.remaining.0 == 0 {
        return format!("{} {verb}\n", report.returned);
    }
    let mut text = format!(
        "{} of {} {verb}; {} remain{}\n",
        report.returned,
        report.requested,
        report.remaining,
        if report.holders.is_empty() { "" } else { ":" }
    );
    for holder in &report.holders {
        text += &format!(
            "  {} (pid {}, tenant {}) holds {}: {}\n",
            holder.name, holder.pid, holder.tenant, holder.bytes, holder.reason
        );
    }
    text += if report.ask_again {
        "Ask again: something was still moving, or did not answer in time.\n"
    } else if report.holders.is_empty() {
        "There is no more to take.\n"
    } else {
        "Asking again brings more only once a program has let go or another node has room.\n"
    };
    text
}

#[cfg(test)]
mod tests {
    use memtide_proto::control::Holder;
    use memtide_units::{ByteSize, HoldReason, ImageId};

    use super::*;

    fn report() -> Report {
        Report {
            requested: ByteSize(100 << 30),
            returned: ByteSize(97 << 30),
            remaining: ByteSize(3 << 30),
            holders: vec![Holder {
                tenant: "cache".to_owned(),
                image: ImageId(4),
                pid: 12,
                name: "redis-server".to_owned(),
                bytes: ByteSize(3 << 30),
                reason: HoldReason::MemoryLock,
            }],
            ask_again: false,
        }
    }

    #[test]
    fn a_report_is_told_in_sentences() {
        assert_eq!(
            sentences(&report(), "came back"),
            "97GiB of 100GiB came back; 3GiB remain:\n  \
             redis-server (pid 12, tenant cache) holds 3GiB: locked in memory (mlock)\n\
             Asking again brings more only once a program has let go or another node has room.\n"
        );
    }

    #[test]
    fn the_json_is_what_is_documented() {
        assert_eq!(
            serde_json::to_string(&report()).unwrap(),
            r#"{"requested":107374182400,"returned":104152956928,"remaining":3221225472,"#
                .to_owned()
                + r#""holders":[{"tenant":"cache","image":4,"pid":12,"name":"redis-server","bytes":3221225472,"#
                + r#""reason":"memory-lock"}],"ask_again":false}"#
        );
    }
}
