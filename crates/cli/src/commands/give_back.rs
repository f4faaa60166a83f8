//! `memtide give-back`, and how reports are told.

use std::{path::Path, process::ExitCode, time::Duration};

use memtide_client::{ClientError, paths};
use memtide_host::{
    Root, Zone,
    give_back::{
        self, GiveBackWish,
        answer::{Answer, Reason},
        foresee::Foreseen,
        rank::{Candidate, Contents},
    },
    memory_blocks,
    plan::{Live, StepError},
    processes::Bound,
};
use memtide_proto::{ControlRequest, control::Report};
use memtide_units::{ByteSize, NodeId};
use serde::Serialize;

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

/// Where this machine's own files are.
const LIVE: &str = "/";

pub fn give_back(options: GiveBack) -> Result<ExitCode, Failure> {
    if let Some(node) = node_of_kernel(&options)? {
        return from_kernel(&options, node);
    }
    if options.change.dry_run || options.change.root != Path::new(LIVE) {
        return Err(Failure::Usage(
            "--dry-run and --root: expected a node of the kernel with them (--from NODE --kernel), \
             for a pool's daemon makes no plan beforehand"
                .to_owned(),
        ));
    }
    let socket = ask::socket(options.socket.socket)?;
    let wish = ControlRequest::GiveBack {
        bytes: options.size,
        from: options.from,
        deadline_ms: options.deadline.map(milliseconds),
    };
    let report = ask::report(&socket, wish, "giving back")?;
    tell(&report, "came back", options.change.json)
}

/// The node, if it is the kernel's that is meant: by --kernel; or by its name, where no pool is
/// named and none is there.
fn node_of_kernel(options: &GiveBack) -> Result<Option<NodeId>, Failure> {
    let Some(from) = &options.from else { return Ok(None) };
    if options.kernel || options.change.root != Path::new(LIVE) {
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
    let machine = change::machine(&options.change)?;
    let deadline = options.deadline.unwrap_or(KERNEL_DEADLINE);
    let wish = GiveBackWish { node, bytes: options.size, deadline };
    if options.change.dry_run {
        return foresee(options, machine.root(), &wish);
    }
    let mut kernel = Live::new(machine.root()).map_err(Failure::failed)?;
    let mut progress = Progress::of_bytes("giving back");
    let mut advance = |done: ByteSize, of: ByteSize| progress.show(done.0, of.0);
    let answer = give_back::give_back(&mut kernel, &wish, &mut advance);
    progress.end();
    let answer = answer.map_err(|error| change::no_plan(&error))?;
    show(&answer, of_kernel(&answer), options.change.json)
}

/// What would be tried, in JSON.
#[derive(Serialize)]
struct ToldForeseen {
    requested: ByteSize,
    /// What leaves if all goes well.
    leaving: Vec<ToldBlock>,
    /// What is tried where one of those stays.
    next: Vec<ToldBlock>,
    /// What is not tried.
    hopeless: Vec<ToldBlock>,
    /// For whom the last block stays.
    bound: Vec<ToldBound>,
}

#[derive(Serialize)]
struct ToldBlock {
    block: u64,
    zone: Option<&'static str>,
    contents: Option<Contents>,
}

#[derive(Serialize)]
struct ToldBound {
    tenant: String,
    pid: u32,
    name: String,
    bytes: ByteSize,
}

impl ToldBlock {
    fn of(candidate: &Candidate) -> Self {
        let Candidate { block, contents, .. } = candidate;
        Self { block: block.id.0, zone: block.zone().map(Zone::name), contents: *contents }
    }
}

fn foresee(options: &GiveBack, root: &Root, wish: &GiveBackWish) -> Result<ExitCode, Failure> {
    let foreseen = Foreseen::read(root, wish).map_err(|error| change::no_plan(&error))?;
    let blocks = |candidates: &[Candidate]| candidates.iter().map(ToldBlock::of).collect();
    let bound = foreseen
        .bound
        .iter()
        .cloned()
        .map(|Bound { pid, name, tenant, bytes }| ToldBound { tenant, pid, name, bytes });
    let told = ToldForeseen {
        requested: foreseen.bytes(foreseen.wanted),
        leaving: blocks(foreseen.leaving()),
        next: blocks(foreseen.next()),
        hopeless: blocks(&foreseen.hopeless),
        bound: bound.collect(),
    };
    let told = (&told, &*foreseen_text(&foreseen));
    let never = |error: &StepError| error.to_string();
    change::carry_out(root, &options.change, &foreseen.plan(), told, never)?;
    Ok(ExitCode::SUCCESS)
}

fn foreseen_text(foreseen: &Foreseen) -> String {
    let list =
        |candidates: &[Candidate]| memory_blocks::list(candidates.iter().map(|it| it.block.id));
    let bytes = |candidates: &[Candidate]| foreseen.bytes(candidates.len() as u64);
    let (leaving, next, hopeless) = (foreseen.leaving(), foreseen.next(), &foreseen.hopeless[..]);
    let requested = foreseen.bytes(foreseen.wanted);
    let mut text = format!("{} of {requested} would be tried", bytes(leaving));
    if !leaving.is_empty() {
        text += &format!(": blocks {}", list(leaving));
    }
    text += "\n";
    let moved: Option<u64> =
        leaving.iter().map(|it| it.contents.map(|contents| contents.to_move().0)).sum();
    text += &match moved {
        Some(moved) => format!("{} in them would be moved to other nodes\n", ByteSize(moved)),
        None => "what is in them only root sees\n".to_owned(),
    };
    if !next.is_empty() {
        text += &format!("if some of them stay, {} more: blocks {}\n", bytes(next), list(next));
    }
    if !hopeless.is_empty() {
        let (size, list) = (bytes(hopeless), list(hopeless));
        text += &format!("not tried, with the kernel's own data in them, {size}: blocks {list}\n");
    }
    if !foreseen.bound.is_empty() {
        let names = Bound::names(&foreseen.bound);
        text += &format!("the last block stays for what is bound to the node: {names}\n");
    }
    text
}

/// What a pool's report and a node's answer have alike, in words.
struct Told {
    requested: ByteSize,
    returned: ByteSize,
    remaining: ByteSize,
    /// What was done with it: `came back`.
    verb: &'static str,
    /// A line for each holder.
    holders: Vec<String>,
    /// A line for each thing besides.
    others: Vec<String>,
    /// Why asking again may bring more, if it may.
    again: Option<&'static str>,
    /// What has to happen first, if it may not.
    first: &'static str,
}

impl Told {
    fn sentences(&self) -> String {
        let Self { requested, returned, remaining, verb, .. } = self;
        if remaining.0 == 0 {
            return format!("{returned} {verb}\n");
        }
        let colon = if self.holders.is_empty() { "" } else { ":" };
        let mut text = format!("{returned} of {requested} {verb}; {remaining} remain{colon}\n");
        for line in self.holders.iter().chain(&self.others) {
            text += &format!("  {line}\n");
        }
        text + match self.again {
            Some(again) => again,
            None if self.holders.is_empty() => "There is no more to take.",
            None => self.first,
        } + "\n"
    }
}

/// Prints a report; the exit code says whether it is whole.
fn show(report: &impl Serialize, told: Told, json: bool) -> Result<ExitCode, Failure> {
    if json {
        output::json(report)?;
    } else {
        output::text(&told.sentences())?;
    }
    Ok(if told.remaining.0 == 0 { ExitCode::SUCCESS } else { ExitCode::from(PARTLY_DONE) })
}

fn of_kernel(answer: &Answer) -> Told {
    let holders = answer.holders.iter().map(|holder| {
        let who = match (holder.pid, holder.tenant.as_str()) {
            (0, _) => holder.name.clone(),
            (pid, "" | "/") => format!("{} (pid {pid})", holder.name),
            (pid, group) => format!("{} (pid {pid}, control group {group})", holder.name),
        };
        format!("{who} holds {}: {}", holder.bytes, holder.reason)
    });
    let blocks = answer.blocks.iter().map(|stayed| {
        let zone = stayed.zone.map_or("of several zones", Zone::name);
        let line = format!("{} ({zone}) stays: {}", stayed.block, stayed.reason);
        match (stayed.reason, stayed.kernel_says) {
            (Reason::Refused, Some(says)) => format!("{line}: {says}"),
            _ => line,
        }
    });
    let again = "Ask again: something was still moving, or held for a moment.";
    Told {
        requested: answer.requested,
        returned: answer.returned,
        remaining: answer.remaining,
        verb: "came back",
        holders: holders.collect(),
        others: blocks.collect(),
        again: answer.ask_again.then_some(again),
        first: "Asking again brings more only once holders have let go.",
    }
}

pub fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Prints a pool's report; the exit code says whether it is whole.
pub fn tell(report: &Report, verb: &'static str, json: bool) -> Result<ExitCode, Failure> {
    show(report, of_pool(report, verb), json)
}

fn of_pool(report: &Report, verb: &'static str) -> Told {
    let holders = report.holders.iter().map(|holder| {
        format!(
            "{} (pid {}, tenant {}) holds {}: {}",
            holder.name, holder.pid, holder.tenant, holder.bytes, holder.reason
        )
    });
    let again = "Ask again: something was still moving, or did not answer in time.";
    Told {
        requested: report.requested,
        returned: report.returned,
        remaining: report.remaining,
        verb,
        holders: holders.collect(),
        others: Vec::new(),
        again: report.ask_again.then_some(again),
        first: "Asking again brings more only once a program has let go or another node has room.",
    }
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
            of_pool(&report(), "came back").sentences(),
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
