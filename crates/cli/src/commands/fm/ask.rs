//! Requests, and what is told of their reports.

use std::process::ExitCode;

use memtide_cxl::manager::{
    DeviceName, Ending, Forcing, HostName, Limits, NameError, Place, Policy, Report, Request, Rest,
    State, What,
};
use memtide_units::{ByteSize, Tag};

use super::{connect, failure};
use crate::{
    arguments::{FmAdd, FmCancel, FmLimits, FmMove, FmPolicy, FmRelease, FmRest, FmSocket, FmTag},
    failure::{Failure, PARTLY_DONE},
    output,
};

pub fn add(options: FmAdd) -> Result<ExitCode, Failure> {
    let policy = match (options.shared, options.at, options.policy) {
        (true, ..) => Policy::Shared,
        (false, at, _) if !at.is_empty() => Policy::Prescriptive(at),
        (false, _, FmPolicy::Free) => Policy::Free,
        (false, _, FmPolicy::Contiguous) => Policy::Contiguous,
    };
    let request = Request::Add {
        to: place(&options.host, options.device.as_deref(), options.region)?,
        size: options.size.map_or(0, |size| size.0),
        tag: options.tag.unwrap_or(Tag::NULL),
        policy,
        rest: rest(options.rest),
        deadline: options.answer.deadline,
    };
    ask(request, &options.answer.socket)
}

pub fn release(options: FmRelease) -> Result<ExitCode, Failure> {
    let what = match (options.size, options.tag, options.at) {
        (Some(size), ..) => What::Size(size.0),
        (None, Some(tag), _) => What::Tag(tag),
        (None, None, at) => What::Extents(at),
    };
    let forcing = match (options.forced, options.answer.deadline) {
        (false, _) => Forcing::Never,
        (true, Some(_)) => Forcing::AtDeadline,
        (true, None) => Forcing::AtOnce,
    };
    let request = Request::Release {
        from: place(&options.host, options.device.as_deref(), None)?,
        what,
        forcing,
        rest: rest(options.rest),
        deadline: options.answer.deadline,
    };
    ask(request, &options.answer.socket)
}

pub fn move_capacity(options: FmMove) -> Result<ExitCode, Failure> {
    let request = Request::Move {
        from: place(&options.from, options.device.as_deref(), None)?,
        to: host(&options.to)?,
        size: options.size.0,
        rest: rest(options.rest),
        deadline: options.answer.deadline,
    };
    ask(request, &options.answer.socket)
}

pub fn limits(options: FmLimits) -> Result<ExitCode, Failure> {
    let usual = Limits::default();
    let limits = Limits {
        minimum: options.minimum.map_or(usual.minimum, |size| size.0),
        maximum: options.maximum.map_or(usual.maximum, |size| size.0),
        weight: options.weight.unwrap_or(usual.weight),
    };
    let of = place(&options.host, options.device.as_deref(), None)?;
    ask(Request::SetLimits { of, limits }, &options.socket)
}

pub fn keep(options: FmTag) -> Result<ExitCode, Failure> {
    let (device, tag) = (device(&options.device)?, options.tag);
    ask(Request::AddReference { device, tag }, &options.socket)
}

pub fn forget(options: FmTag) -> Result<ExitCode, Failure> {
    let (device, tag) = (device(&options.device)?, options.tag);
    ask(Request::RemoveReference { device, tag }, &options.socket)
}

pub fn cancel(options: FmCancel) -> Result<ExitCode, Failure> {
    ask(Request::Cancel { request: options.request }, &options.socket)
}

fn place(name: &str, of: Option<&str>, region: Option<u8>) -> Result<Place, Failure> {
    Ok(Place { host: host(name)?, device: of.map(device).transpose()?, region })
}

fn host(name: &str) -> Result<HostName, Failure> {
    name.parse().map_err(|error: NameError| Failure::Usage(format!("host: {error}")))
}

fn device(name: &str) -> Result<DeviceName, Failure> {
    name.parse().map_err(|error: NameError| Failure::Usage(format!("device: {error}")))
}

const fn rest(rest: FmRest) -> Rest {
    match rest {
        FmRest::Stand => Rest::Stand,
        FmRest::Drop => Rest::Drop,
    }
}

fn ask(request: Request, options: &FmSocket) -> Result<ExitCode, Failure> {
    let mut client = connect(options)?;
    let id = client.ask(request.clone()).map_err(failure)?;
    let report = client.report(id).map_err(failure)?;
    if options.json {
        output::json(&report)?;
    } else {
        output::text(&sentences(&request, &report))?;
    }
    Ok(match report.state {
        State::Ended(Ending::Done) => ExitCode::SUCCESS,
        State::Ended(Ending::Refused(_)) => ExitCode::FAILURE,
        State::Ended(_) | State::Open => ExitCode::from(PARTLY_DONE),
    })
}

/// A report for people.
pub fn sentences(request: &Request, report: &Report) -> String {
    let Report { id, asked, returned, held, accepted, refused, pending, missing, .. } = report;
    let of = |bytes: &u64| ByteSize(*bytes);
    let mut text = match request {
        Request::Add { to, .. } => {
            format!("{} of {} are with {} now", of(accepted), of(asked), to.host)
        }
        Request::Release { .. } => format!("{} of {} came back", of(returned), of(asked)),
        Request::Move { from, to, .. } => format!(
            "{} of {} came back from {}; {} of it are with {to} now",
            of(returned),
            of(asked),
            from.host,
            of(accepted)
        ),
        Request::Cancel { request } => format!("request {} has ended", request.0),
        Request::SetLimits { of, .. } => format!("the limits of {} are set", of.host),
        Request::AddReference { tag, .. } => format!("{tag} is kept"),
        Request::RemoveReference { tag, .. } => format!("{tag} is no longer kept"),
    };
    for (bytes, what) in [
        (held, "still held"),
        (pending, "offered and not answered"),
        (refused, "refused by the host"),
        (missing, "not to be had"),
    ] {
        if *bytes > 0 {
            text += &format!("; {} {what}", of(bytes));
        }
    }
    text += "\n";
    for holder in &report.holders {
        let program = holder.program.as_deref().unwrap_or("a program");
        let pid = holder.pid.map(|pid| format!("pid {pid}"));
        let tenant = holder.tenant.as_ref().map(|tenant| format!("tenant {tenant}"));
        let who: Vec<_> = pid.into_iter().chain(tenant).collect();
        let who = if who.is_empty() { String::new() } else { format!(" ({})", who.join(", ")) };
        text += &format!("  {program}{who} holds {}: {}\n", of(&holder.bytes), holder.reason);
    }
    if *held > 0 && report.holders.is_empty() {
        text += "  The host has not said who holds it.\n";
    }
    match report.state {
        State::Open => {
            let id = id.0;
            text += &format!(
                "The rest is asked for again as it comes free: request {id} (memtide fm show {id}; \
                 memtide fm cancel {id})\n"
            );
        }
        State::Ended(Ending::Cancelled) => text += "It was cancelled.\n",
        State::Ended(Ending::Refused(code)) => {
            let code = memtide_cxl::ReturnCode(code);
            text += &format!("The device refused: {code}\n");
        }
        State::Ended(Ending::NoLongerFits) => {
            text += "What was offered is not there any more: the device has become another, or \
                     another host has some of it.\n";
        }
        State::Ended(Ending::Done | Ending::Partly) => {}
    }
    text
}

#[cfg(test)]
mod tests {
    use memtide_cxl::manager::Holder;
    use memtide_units::{HoldReason, RequestId};

    use super::*;

    fn report() -> Report {
        Report {
            id: RequestId(7),
            state: State::Open,
            asked: 100 << 30,
            returned: 97 << 30,
            held: 3 << 30,
            holders: vec![Holder {
                tenant: Some("cache".to_owned()),
                program: Some("redis-server".to_owned()),
                pid: Some(12),
                bytes: 3 << 30,
                reason: HoldReason::MemoryLock,
            }],
            accepted: 0,
            refused: 0,
            pending: 0,
            missing: 0,
        }
    }

    fn request() -> Request {
        Request::Release {
            from: place("h1", None, None).unwrap(),
            what: What::Size(100 << 30),
            forcing: Forcing::Never,
            rest: Rest::Stand,
            deadline: None,
        }
    }

    #[test]
    fn a_report_says_what_came_who_holds_the_rest_and_why() {
        assert_eq!(
            sentences(&request(), &report()),
            "97GiB of 100GiB came back; 3GiB still held\n  \
             redis-server (pid 12, tenant cache) holds 3GiB: locked in memory (mlock)\n\
             The rest is asked for again as it comes free: request 7 (memtide fm show 7; memtide \
             fm cancel 7)\n"
        );
        let silent = Report { holders: Vec::new(), ..report() };
        assert!(sentences(&request(), &silent).contains("has not said who"));
    }

    #[test]
    fn the_json_is_what_is_documented() {
        assert_eq!(
            serde_json::to_string(&report()).unwrap(),
            r#"{"id":7,"state":"Open","asked":107374182400,"returned":104152956928,"#.to_owned()
                + r#""held":3221225472,"holders":[{"tenant":"cache","program":"redis-server","#
                + r#""pid":12,"bytes":3221225472,"reason":"memory-lock"}],"accepted":0,"#
                + r#""refused":0,"pending":0,"missing":0}"#
        );
    }

    /// As the JSON has it, and the reference, where a code's number is `CODE`.
    fn documented(ending: Ending) -> &'static str {
        match ending {
            Ending::Done => r#""Done""#,
            Ending::Partly => r#""Partly""#,
            Ending::Cancelled => r#""Cancelled""#,
            Ending::Refused(_) => r#"{"Refused":CODE}"#,
            Ending::NoLongerFits => r#""NoLongerFits""#,
        }
    }

    #[test]
    fn the_json_of_each_end_is_what_is_documented() {
        let reference = include_str!("../../../../../docs/cli.md");
        let section = reference.split("\n## ").find(|s| s.starts_with("memtide fm release"));
        let states = section.and_then(|section| section.split(r#""state":"#).nth(1)).unwrap();
        let states = states.split(r#","asked""#).next().unwrap();
        for ending in [
            Ending::Done,
            Ending::Partly,
            Ending::Cancelled,
            Ending::Refused(5),
            Ending::NoLongerFits,
        ] {
            let name = documented(ending);
            assert!(states.contains(name), "{name} is not in {states}");
            let json = serde_json::to_string(&State::Ended(ending)).unwrap();
            assert_eq!(json, format!(r#"{{"Ended":{}}}"#, name.replace("CODE", "5")));
        }
    }
}
