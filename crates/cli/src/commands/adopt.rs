//! `memtide adopt`: the memory of a running program, placed and moved.

use std::{collections::BTreeMap, process::ExitCode, time::Instant};

use memtide_host::{
    Root,
    processes::{Doing, Ended, Placed, Placing, PlacingError, Program, ProgramError, place},
};
use memtide_sys::numa::{NodeSet, WhichPages};
use memtide_units::{ByteSize, NodeId};
use serde::Serialize;

use crate::{
    arguments::Adopt,
    failure::{Failure, PARTLY_DONE, chain},
    output,
    progress::Progress,
};

pub fn adopt(options: Adopt) -> Result<ExitCode, Failure> {
    let tiers = [options.near, options.far, options.to].into_iter().flatten();
    let placing = Placing {
        tiers: tiers.collect::<Vec<NodeSet>>(),
        which: if options.shared { WhichPages::Shared } else { WhichPages::Own },
        deadline: options.deadline.and_then(|time| Instant::now().checked_add(time)),
        doing: if options.dry_run { Doing::Counting } else { Doing::Moving },
    };
    let program =
        Program::find(&Root::live(), options.pid).map_err(|error| failure(&error.into()))?;
    let mut progress = Progress::of_bytes("moving");
    let placed = place(&program, &placing, |done, of| progress.show(done, of));
    progress.end();
    let placed = placed.map_err(|error| failure(&error))?;
    let answer = Answer::of(&program, &placed, &placing);
    if options.json {
        output::json(&answer)?;
    } else {
        output::text(&sentences(&answer, &placed, placing.doing))?;
    }
    let whole = answer.remaining.0 == 0 && !matches!(placed.ended, Ended::NotPermitted);
    Ok(if whole { ExitCode::SUCCESS } else { ExitCode::from(PARTLY_DONE) })
}

/// What names no node, and no process, that there is, is a mistake of who asked.
fn failure(error: &PlacingError) -> Failure {
    let message = chain(error);
    match error {
        PlacingError::NoMemory { .. }
        | PlacingError::NotAllowed { .. }
        | PlacingError::Twice { .. }
        | PlacingError::NoNodes
        | PlacingError::Program(ProgramError::NoSuchProcess { .. }) => Failure::Usage(message),
        _ => Failure::Failed(message),
    }
}

/// The answer, as JSON has it.
#[derive(Debug, Serialize)]
struct Answer {
    pid: u32,
    name: String,
    requested: ByteSize,
    moved: ByteSize,
    remaining: ByteSize,
    shared: ByteSize,
    holders: Vec<Holding>,
    nodes: Vec<Node>,
    ended: &'static str,
    ask_again: bool,
    dry_run: bool,
}

#[derive(Debug, Serialize)]
struct Holding {
    pid: u32,
    name: String,
    bytes: ByteSize,
    reason: &'static str,
}

#[derive(Debug, Serialize)]
struct Node {
    node: String,
    before: ByteSize,
    after: ByteSize,
}

impl Answer {
    fn of(program: &Program, placed: &Placed, placing: &Placing) -> Self {
        let remaining = ByteSize(placed.stayed.values().map(|bytes| bytes.0).sum());
        let (pid, name) = (program.pid(), program.name().to_owned());
        let holding = |(reason, bytes): (&memtide_host::processes::Reason, &ByteSize)| Holding {
            pid,
            name: name.clone(),
            bytes: *bytes,
            reason: reason.code(),
        };
        Self {
            requested: ByteSize(placed.moved.0 + remaining.0),
            moved: placed.moved,
            remaining,
            shared: placed.shared,
            holders: placed.stayed.iter().map(holding).collect(),
            nodes: nodes(&placed.before, &placed.after),
            ended: match placed.ended {
                Ended::Whole => "whole",
                Ended::Deadline => "deadline",
                Ended::WithProgram => "with-program",
                Ended::NotPermitted => "not-permitted",
            },
            ask_again: placed.ended == Ended::Deadline,
            dry_run: placing.doing == Doing::Counting,
            pid,
            name,
        }
    }
}

fn nodes(before: &BTreeMap<NodeId, ByteSize>, after: &BTreeMap<NodeId, ByteSize>) -> Vec<Node> {
    let mut all: Vec<NodeId> = before.keys().chain(after.keys()).copied().collect();
    all.sort_unstable();
    all.dedup();
    let of = |sizes: &BTreeMap<NodeId, ByteSize>, node| sizes.get(&node).copied();
    all.into_iter()
        .map(|node| Node {
            node: node.to_string(),
            before: of(before, node).unwrap_or_default(),
            after: of(after, node).unwrap_or_default(),
        })
        .collect()
}

fn sentences(answer: &Answer, placed: &Placed, doing: Doing) -> String {
    let verb = match doing {
        Doing::Moving => "moved",
        Doing::Counting => "would move",
    };
    let mut text = format!("{} (pid {}): {} {verb}", answer.name, answer.pid, answer.moved);
    if answer.remaining.0 > 0 {
        text += &format!("; {} remain:\n", answer.remaining);
        for (reason, bytes) in &placed.stayed {
            text += &format!("  {bytes}: {reason}\n");
        }
    } else {
        text += "\n";
    }
    if answer.shared.0 > 0 {
        text += &format!(
            "{} elsewhere are shared with other programs and stay (--shared moves them)\n",
            answer.shared
        );
    }
    text += match placed.ended {
        Ended::WithProgram => "The program has ended.\n",
        Ended::NotPermitted => "The program has become one that may not be looked at.\n",
        Ended::Deadline => "Ask again to go on.\n",
        Ended::Whole => "",
    };
    let row = |cells: [String; 3]| cells.to_vec();
    let mut rows = vec![row(["NODE", "BEFORE", "NOW"].map(str::to_owned))];
    for node in &answer.nodes {
        rows.push(row([node.node.clone(), node.before.to_string(), node.after.to_string()]));
    }
    text + &output::table(&rows)
}

#[cfg(test)]
mod tests {
    use memtide_host::processes::{Holder, Reason};

    use super::*;

    fn placed() -> Placed {
        let (node0, node1) = (NodeId(0), NodeId(1));
        Placed {
            moved: ByteSize(512 << 20),
            stayed: BTreeMap::from([(Reason::Held(Holder::IoUring), ByteSize(8 << 20))]),
            shared: ByteSize(2 << 20),
            before: BTreeMap::from([(node0, ByteSize(522 << 20))]),
            after: BTreeMap::from([(node0, ByteSize(10 << 20)), (node1, ByteSize(512 << 20))]),
            ended: Ended::Whole,
        }
    }

    fn answer() -> Answer {
        let program = Program::find(&Root::live(), std::process::id()).unwrap();
        let tiers = Vec::new();
        let (which, deadline, doing) = (WhichPages::Own, None, Doing::Moving);
        let placing = Placing { tiers, which, deadline, doing };
        Answer { pid: 12, name: "redis".to_owned(), ..Answer::of(&program, &placed(), &placing) }
    }

    #[test]
    fn an_answer_is_told_in_sentences() {
        assert_eq!(
            sentences(&answer(), &placed(), Doing::Moving),
            "redis (pid 12): 512MiB moved; 8MiB remain:\n  \
             8MiB: registered with an io_uring, which holds it\n\
             2MiB elsewhere are shared with other programs and stay (--shared moves them)\n\
             NODE   BEFORE     NOW\n\
             node0  522MiB   10MiB\n\
             node1      0B  512MiB\n"
        );
    }

    #[test]
    fn the_json_adds_up() {
        let json = serde_json::to_value(answer()).unwrap();
        let number = |key: &str| json[key].as_u64().unwrap();
        assert_eq!(number("requested"), number("moved") + number("remaining"));
        assert_eq!(json["holders"][0]["reason"], "io-uring");
        assert_eq!(json["nodes"][1]["after"], 512 << 20);
        assert_eq!((&json["ask_again"], &json["dry_run"]), (&false.into(), &false.into()));
    }
}
