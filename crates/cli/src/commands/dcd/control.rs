//! How a running `memtide dcd serve` is asked: a socket for each device, named after its address.
//! One line of JSON is a question, one the answer, then the connection ends.
//!
//! Who may ask is who may open the socket: its owner, who is root. A question that does not come
//! within a second is not waited for, so that nobody can keep the device from being served.

use std::{
    fs::{self, File, Permissions},
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::{
        fs::PermissionsExt,
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    time::Duration,
};

use memtide_client::paths;
use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::failure::Failure;

/// How long a question may take to come.
const QUESTION_LIMIT: Duration = Duration::from_secs(1);
/// How long an answer may take: a give-back may be under way.
const ANSWER_LIMIT: Duration = Duration::from_secs(600);
/// The longest question and answer.
const BYTES_MAX: u64 = 64 << 20;
const QUESTION_BYTES_MAX: u64 = 4096;
const PREFIX: &str = "dcd-";
const SUFFIX: &str = ".sock";

/// A question.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Question {
    /// What was accepted.
    Status,
    /// Which offers are accepted; from now on these, if it says so.
    AcceptPolicy {
        /// `all` or `none`.
        set: Option<Policy>,
    },
}

/// Which offers are accepted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Policy {
    /// All.
    All,
    /// None.
    None,
}

/// The serving end. Dropped, it takes its socket away.
pub struct Control {
    listener: UnixListener,
    path: PathBuf,
    /// Keeps a second server of the same device away.
    _lock: File,
}

impl Control {
    /// Begins to listen for questions about a device.
    pub fn bind(device: &str) -> Result<Self, Failure> {
        let path = path_of(device);
        paths::prepare_directory_of(&path)
            .map_err(|error| Failure::Failed(crate::failure::chain(&error)))?;
        let lock = lock(&path.with_extension("lock"))?.ok_or_else(|| {
            Failure::Failed(format!(
                "device {device} is served already: expected no other `memtide dcd serve` for it"
            ))
        })?;
        // Left by one that was killed: the lock says that nobody listens there.
        let _ = fs::remove_file(&path);
        let failed = |error| at(&path, &error);
        let listener = UnixListener::bind(&path).map_err(failed)?;
        fs::set_permissions(&path, Permissions::from_mode(0o600)).map_err(failed)?;
        listener.set_nonblocking(true)?;
        Ok(Self { listener, path, _lock: lock })
    }

    /// Answers those who have asked by now. Who breaks off has no answer; that is nobody's failure.
    pub fn answer(&self, mut to: impl FnMut(&Question) -> Value) {
        while let Ok((stream, _)) = self.listener.accept() {
            let _ = answer_one(&stream, &mut to);
        }
    }
}

fn at(path: &Path, error: &io::Error) -> Failure {
    Failure::Failed(format!("{}: {error}", path.display()))
}

/// Locks a file, which is made if there is none, for as long as it is open here; none if somebody
/// else has it locked. It is never removed: it could be another's by then.
pub fn lock(path: &Path) -> Result<Option<File>, Failure> {
    let file = File::create(path).map_err(|error| at(path, &error))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(Errno::WOULDBLOCK) => Ok(None),
        Err(errno) => Err(at(path, &errno.into())),
    }
}

fn answer_one(mut stream: &UnixStream, to: &mut impl FnMut(&Question) -> Value) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(QUESTION_LIMIT))?;
    stream.set_write_timeout(Some(QUESTION_LIMIT))?;
    let mut line = String::new();
    BufReader::new(stream.take(QUESTION_BYTES_MAX)).read_line(&mut line)?;
    let answer = match serde_json::from_str(&line) {
        Ok(question) => to(&question),
        Err(error) => serde_json::json!({ "error": format!("the question: {error}") }),
    };
    stream.write_all(format!("{answer}\n").as_bytes())
}

impl Drop for Control {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Asks whoever serves a device.
pub fn ask(device: &str, question: &Question) -> Result<Value, Failure> {
    let path = path_of(device);
    let failed = |error: &dyn std::fmt::Display| {
        Failure::Failed(format!(
            "nobody answers for device {device} at {}: {error}; expected `memtide dcd serve`",
            path.display()
        ))
    };
    let mut stream = UnixStream::connect(&path).map_err(|error| failed(&error))?;
    stream.set_read_timeout(Some(ANSWER_LIMIT))?;
    let line = serde_json::to_string(question).map_err(Failure::failed)?;
    stream.write_all(format!("{line}\n").as_bytes()).map_err(|error| failed(&error))?;
    let mut answer = String::new();
    stream.take(BYTES_MAX).read_to_string(&mut answer).map_err(|error| failed(&error))?;
    let answer: Value = serde_json::from_str(&answer).map_err(|error| failed(&error))?;
    match answer.get("error").and_then(Value::as_str) {
        Some(error) => Err(Failure::Failed(error.to_owned())),
        None => Ok(answer),
    }
}

/// The devices that somebody serves here.
pub fn served() -> Vec<String> {
    let entries = fs::read_dir(paths::runtime_directory()).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let device = |name: String| {
        let device = name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?.to_owned();
        UnixStream::connect(path_of(&device)).ok().map(|_| device)
    };
    let mut devices: Vec<String> = names.filter_map(device).collect();
    devices.sort();
    devices
}

/// The device of this address, or the only one that is served.
pub fn one(device: Option<&str>) -> Result<String, Failure> {
    if let Some(device) = device {
        return Ok(device.to_owned());
    }
    match &served()[..] {
        [device] => Ok(device.clone()),
        [] => Err(Failure::Failed(
            "no device with dynamic capacity is served here: expected `memtide dcd serve`"
                .to_owned(),
        )),
        several => Err(Failure::Usage(format!(
            "several devices are served: expected --device with one of {}",
            several.join(", ")
        ))),
    }
}

/// An address with a slash in it would be a path: it is no address, and so nowhere.
fn path_of(device: &str) -> PathBuf {
    let name: String = device.chars().map(|c| if c == '/' { '_' } else { c }).collect();
    paths::runtime_directory().join(format!("{PREFIX}{name}{SUFFIX}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_one_line() {
        let text = |question| serde_json::to_string(&question).unwrap();
        assert_eq!(text(Question::Status), r#"{"ask":"status"}"#);
        let set = Question::AcceptPolicy { set: Some(Policy::None) };
        assert_eq!(text(set.clone()), r#"{"ask":"accept-policy","set":"none"}"#);
        assert_eq!(serde_json::from_str::<Question>(&text(set.clone())).unwrap(), set);
        for wrong in
            ["", "{}", r#"{"ask":"everything"}"#, r#"{"ask":"accept-policy","set":"some"}"#]
        {
            assert!(serde_json::from_str::<Question>(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_address_is_no_path() {
        assert!(path_of("../../etc/passwd").ends_with("dcd-.._.._etc_passwd.sock"));
    }
}
