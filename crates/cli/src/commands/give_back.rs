//! `memtide give-back`, and how reports are told.

use std::{process::ExitCode, time::Duration};

use memtide_client::{ClientError, paths};
use memtide_host::{
    Root, Zone,
    give_back::{
        self, GiveBackWish,
        answer::{Answer, Reason},
    },
    plan::Live,
};
use memtide_proto::{ControlRequest, control::Report};
use memtide_units::{ByteSize, NodeId};

use super::change;
use crate::{
    arguments::{self, GiveBack},
    ask,
    failure::{Failure, PARTLY_DONE},
    output,
    progress::Progress,
};

/// How long to try on a node of the kernel, unless the command line says.
const KERNEL_DEADLINE: Duration = Duration::from_secs(30);

pub fn give_back(options: GiveBack) -> Result<ExitCode, Failure> {
    if let Some(node) = node_of_kernel(&options)? {
        return from_kernel(&options, node);
    }
    let socket = ask::socket(options.socket.socket)?;
    let wish = ControlRequest::GiveBack {
        bytes: options.size,
        from: options.from,
        deadline_ms: options.deadline.map(milliseconds),
    };
    let report = ask::report(&socket, wish, "giving back")?;
    tell(&report, "came back", options.json)
}

/// The node, if it is the kernel's that is meant: by --kernel; or by its name, where no pool is
/// named and none is there.
fn node_of_kernel(options: &GiveBack) -> Result<Option<NodeId>, Failure> {
    let Some(from) = &options.from else { return Ok(None) };
    if options.kernel {
        let node = arguments::node(from);
        return node
            .map(Some)
            .map_err(|expected| Failure::Usage(format!("--from {from}: {expected}")));
    }
    let is_named = from.starts_with("node") && options.socket.socket.is_none();
    let Some(node) = arguments::node(from).ok().filter(|_| is_named) else { return Ok(None) };
    match paths::find_socket(None) {
        Err(ClientError::NoDaemon { .. }) => Ok(Some(node)),
        // A daemon, or several, or one that was named and does not answer: it will say so itself.
        Ok(_) | Err(_) => Ok(None),
    }
}

fn from_kernel(options: &GiveBack, node: NodeId) -> Result<ExitCode, Failure> {
    let mut kernel = Live::new(&Root::live()).map_err(Failure::failed)?;
    let deadline = options.deadline.unwrap_or(KERNEL_DEADLINE);
    let wish = GiveBackWish { node, bytes: options.size, deadline };
    let mut progress = Progress::of_bytes("giving back");
    let mut show = |done: ByteSize, of: ByteSize| progress.show(done.0, of.0);
    let answer = give_back::give_back(&mut kernel, &wish, &mut show);
    progress.end();
    let answer = answer.map_err(|error| change::no_plan(&error))?;
    if options.json {
        output::json(&answer)?;
    } else {
        output::text(&kernel_sentences(&answer))?;
    }
    let is_whole = answer.remaining.0 == 0;
    Ok(if is_whole { ExitCode::SUCCESS } else { ExitCode::from(PARTLY_DONE) })
}

fn kernel_sentences(answer: &Answer) -> String {
    if answer.remaining.0 == 0 {
        return format!("{} came back\n", answer.returned);
    }
    let mut text = format!(
        "{} of {} came back; {} remain{}\n",
        answer.returned,
        answer.requested,
        answer.remaining,
        if answer.holders.is_empty() { "" } else { ":" }
    );
    for holder in &answer.holders {
        let who = match (holder.pid, holder.tenant.as_str()) {
            (0, _) => holder.name.clone(),
            (pid, "" | "/") => format!("{} (pid {pid})", holder.name),
            (pid, group) => format!("{} (pid {pid}, control group {group})", holder.name),
        };
        text += &format!("  {who} holds {}: {}\n", holder.bytes, holder.reason);
    }
    for stayed in &answer.blocks {
        let zone = stayed.zone.map_or("of several zones", Zone::name);
        text += &format!("  {} ({zone}) stays: {}", stayed.block, stayed.reason);
        if let (Reason::Refused, Some(says)) = (stayed.reason, stayed.kernel_says) {
            text += &format!(": {says}");
        }
        text += "\n";
    }
    text += match (answer.ask_again, answer.holders.is_empty()) {
        (true, _) => "Ask again: something was still moving, or held for a moment.\n",
        (false, true) => "There is no more to take.\n",
        (false, false) => "Asking again brings more only once holders have let go.\n",
    };
    text
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
    use memtide_units::{HoldReason, ImageId};

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
