//! `memtide fm`.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Subcommand, ValueEnum};
use memtide_fabric::{
    Address,
    manager::config::{DeviceArgument, HostArgument},
};
use memtide_units::{ByteSize, DpaRange, RequestId, Tag};

/// Manage capacity that hosts share: who has what, who is to get what, who gives back
#[derive(Debug, Args)]
pub struct Fm {
    #[command(subcommand)]
    pub what: FmWhat,
}

#[derive(Debug, Subcommand)]
pub enum FmWhat {
    Serve(FmServe),
    Scan(FmScan),
    List(FmList),
    Show(FmShow),
    Watch(FmWatch),
    Add(FmAdd),
    Release(FmRelease),
    Move(FmMove),
    Limits(FmLimits),
    Keep(FmTag),
    Forget(FmTag),
    Cancel(FmCancel),
}

/// Which manager.
#[derive(Debug, Args)]
pub struct FmSocket {
    /// The manager's socket [default: $MEMTIDE_FM_SOCKET, else memtide/fm.sock in $XDG_RUNTIME_DIR
    /// (as root without one: in /run)]
    #[arg(long, value_name = "PATH", value_hint = clap::ValueHint::FilePath)]
    pub socket: Option<PathBuf>,
    /// Print JSON; sizes are bytes
    #[arg(long)]
    pub json: bool,
}

/// Which manager is asked, and how long it may take.
#[derive(Debug, Args)]
pub struct FmAnswer {
    /// How long to try: 500ms, 30s, 2m; while something is still offered or taken, the answer may
    /// take as long as the manager's patience more [default: that patience, 10s unless configured]
    #[arg(long, value_name = "TIME", value_parser = memtide_daemon::duration::parse)]
    pub deadline: Option<Duration>,
    #[command(flatten)]
    pub socket: FmSocket,
}

/// Serve a fabric manager until told to end (SIGTERM)
///
/// What was asked for and promised is kept on disk before anything is done; a manager that is
/// started again goes on with it. Hosts keep what they have meanwhile.
#[derive(Debug, Args)]
pub struct FmServe {
    /// Devices, hosts, limits: a file
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub config: Option<PathBuf>,
    /// Without a file: a device and where it is, as pool0=unix:/run/memtide/pool0.sock;
    /// behind a port of a switch, pool0=cci:0000:0d:00.1,port=3 (memtide fm scan);
    /// in guests of QEMU, pool0=qmp:/run/vm1.qmp,mem0+/run/vm2.qmp,mem0
    #[arg(long, value_name = "NAME=ADDRESS", conflicts_with = "config")]
    pub device: Vec<DeviceArgument>,
    /// Without a file: a host and its number on a device, or on all of them
    #[arg(long, value_name = "[DEVICE/]NAME=NUMBER", conflicts_with = "config")]
    pub host: Vec<HostArgument>,
    /// Without a file: where hosts' agents connect, as unix:PATH or tcp:HOST:PORT
    #[arg(long, value_name = "ADDRESS", conflicts_with = "config")]
    pub agents: Vec<Address>,
    /// Where memtide fm connects, if the file does not say: for this user alone
    #[arg(long, value_name = "PATH", value_hint = clap::ValueHint::FilePath)]
    pub socket: Option<PathBuf>,
    /// What is kept, if the file does not say [default: fm.redb beside the socket]
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub store: Option<PathBuf>,
}

/// Find switches that this machine can manage, and the devices behind their ports
///
/// Speaks to the switches themselves, whether or not a manager is running: needs root, and a switch
/// whose management function no driver of the kernel's has. The addresses it prints are those for
/// memtide fm serve --device. Nothing is changed but that such a function is enabled.
#[derive(Debug, Args)]
pub struct FmScan {
    /// Print JSON; sizes are bytes
    #[arg(long)]
    pub json: bool,
}

/// Say what devices there are, and which host has how much of them
#[derive(Debug, Args)]
pub struct FmList {
    /// Requests instead: what was asked for, and what has become of it
    #[arg(long)]
    pub requests: bool,
    #[command(flatten)]
    pub socket: FmSocket,
}

/// Show a device, a host or a request with all that is known of it
#[derive(Debug, Args)]
pub struct FmShow {
    /// The name of a device or host, or the number of a request
    #[arg(value_name = "DEVICE|HOST|REQUEST")]
    pub what: String,
    #[command(flatten)]
    pub socket: FmSocket,
}

/// Say who has how much, and again whenever that changes
#[derive(Debug, Args)]
pub struct FmWatch {
    /// End after this time [default: never]
    #[arg(long = "for", value_name = "TIME", value_parser = memtide_daemon::duration::parse)]
    pub lasts: Option<Duration>,
    #[command(flatten)]
    pub socket: FmSocket,
}

/// Offer capacity to a host
#[derive(Debug, Args)]
pub struct FmAdd {
    /// How much; not with --at and --shared, which say it themselves
    #[arg(value_name = "SIZE", required_unless_present_any = ["at", "shared"])]
    pub size: Option<ByteSize>,
    /// To which host
    #[arg(long)]
    pub host: String,
    /// Of which device [default: the host's, if it has a part in just one]
    #[arg(long)]
    pub device: Option<String>,
    /// In which region [default: the first with room]
    #[arg(long, value_name = "N")]
    pub region: Option<u8>,
    /// Under which name: a UUID. What has one is offered in one go or not at all
    #[arg(long, value_name = "UUID")]
    pub tag: Option<Tag>,
    /// Where it is to be
    #[arg(long, value_enum, default_value = "free")]
    pub policy: FmPolicy,
    /// Exactly here: START+LENGTH, as 0x10000000+256M; may be given several times
    #[arg(long, value_name = "START+LENGTH", value_parser = range,
          conflicts_with_all = ["size", "policy"])]
    pub at: Vec<DpaRange>,
    /// What another host has under --tag; the device has to have a region that hosts can share
    #[arg(long, requires = "tag", conflicts_with_all = ["size", "policy", "at"])]
    pub shared: bool,
    /// What becomes of what cannot be had now
    #[arg(long, value_enum, default_value = "drop")]
    pub rest: FmRest,
    #[command(flatten)]
    pub answer: FmAnswer,
}

/// Ask a host for capacity back
///
/// The answer says what came back, what the host still holds, and who there holds it and why.
/// Nobody gets another host's data: what comes back is overwritten first, where it is the same
/// memory.
#[derive(Debug, Args)]
pub struct FmRelease {
    /// How much; not with --tag and --at, which say it themselves
    #[arg(value_name = "SIZE", required_unless_present_any = ["tag", "at"])]
    pub size: Option<ByteSize>,
    /// From which host
    #[arg(long)]
    pub host: String,
    /// Of which device [default: the host's, if it has a part in just one]
    #[arg(long)]
    pub device: Option<String>,
    /// All that it has under this name
    #[arg(long, value_name = "UUID", conflicts_with_all = ["size", "at"])]
    pub tag: Option<Tag>,
    /// Exactly this: START+LENGTH; may be given several times
    #[arg(long, value_name = "START+LENGTH", value_parser = range, conflicts_with = "size")]
    pub at: Vec<DpaRange>,
    /// Take it: at the deadline what has not come by then, without one all of it at once. Programs
    /// that use it lose it
    #[arg(long)]
    pub forced: bool,
    /// What becomes of what does not come now: asked for again until it comes, or left
    #[arg(long, value_enum, default_value = "stand")]
    pub rest: FmRest,
    #[command(flatten)]
    pub answer: FmAnswer,
}

/// Ask one host for capacity, and offer what comes to another
#[derive(Debug, Args)]
pub struct FmMove {
    /// How much
    #[arg(value_name = "SIZE")]
    pub size: ByteSize,
    /// From which host
    #[arg(long, value_name = "HOST")]
    pub from: String,
    /// To which host, on the same device
    #[arg(long, value_name = "HOST")]
    pub to: String,
    /// Of which device [default: the host's, if it has a part in just one]
    #[arg(long)]
    pub device: Option<String>,
    /// What becomes of what does not come now: asked for again until it comes, or left
    #[arg(long, value_enum, default_value = "stand")]
    pub rest: FmRest,
    #[command(flatten)]
    pub answer: FmAnswer,
}

/// Change what a host may have
///
/// What is not given is as it is at other hosts: nothing for sure, no maximum, weight 1. Nothing is
/// asked back by this. It lasts until it is changed again, also over a restart.
#[derive(Debug, Args)]
pub struct FmLimits {
    /// Which host
    #[arg(long)]
    pub host: String,
    /// On which device [default: the host's, if it has a part in just one]
    #[arg(long)]
    pub device: Option<String>,
    /// What it can always get, and what is never asked back from it
    #[arg(long, value_name = "SIZE")]
    pub minimum: Option<ByteSize>,
    /// What it never has more of
    #[arg(long, value_name = "SIZE")]
    pub maximum: Option<ByteSize>,
    /// Its share beside others' when several want more than there is: 1 to 1000
    #[arg(long, value_name = "N")]
    pub weight: Option<u32>,
    #[command(flatten)]
    pub socket: FmSocket,
}

/// Keep, or no longer keep, what is under a tag when its last host releases it
///
/// The device has to have a region that hosts can share.
#[derive(Debug, Args)]
pub struct FmTag {
    /// Which
    #[arg(value_name = "UUID")]
    pub tag: Tag,
    /// On which device
    #[arg(long)]
    pub device: String,
    #[command(flatten)]
    pub socket: FmSocket,
}

/// End a request that is not done
///
/// What it offered and is not answered is withdrawn, when the manager's patience is over.
#[derive(Debug, Args)]
pub struct FmCancel {
    /// The request's number
    #[arg(value_name = "REQUEST", value_parser = request_id)]
    pub request: RequestId,
    #[command(flatten)]
    pub socket: FmSocket,
}

/// Where added capacity is to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum FmPolicy {
    /// Anywhere
    Free,
    /// In one piece
    Contiguous,
}

/// What becomes of what cannot be had now.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum FmRest {
    /// It is asked for again, with growing pauses, until it is had or cancelled
    Stand,
    /// The answer says how much it is, and that is all
    Drop,
}

fn range(text: &str) -> Result<DpaRange, String> {
    let expected = || "expected START+LENGTH, as 0x10000000+256M".to_owned();
    let (start, length) = text.split_once('+').ok_or_else(expected)?;
    let start = match start.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).map_err(|_| expected())?,
        None => start.parse::<ByteSize>().map_err(|_| expected())?.0,
    };
    let length = length.parse::<ByteSize>().map_err(|_| expected())?.0;
    Ok(DpaRange::new(start, length))
}

fn request_id(text: &str) -> Result<RequestId, String> {
    text.parse().map(RequestId).map_err(|_| "expected the number of a request".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_start_and_length() {
        assert_eq!(range("0x10000000+256M"), Ok(DpaRange::new(0x1000_0000, 256 << 20)));
        assert_eq!(range("1G+2M"), Ok(DpaRange::new(1 << 30, 2 << 20)));
        for text in ["", "0x", "5", "0xg+1", "0x0+", "+1M"] {
            assert!(range(text).is_err(), "{text}");
        }
    }
}
