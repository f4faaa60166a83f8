//! The host's side of the agent: a loop of shell commands in the guest (`init.sh`), behind a
//! virtio-serial port.
//!
//! A request is a line `ID BYTES SCRIPT-BYTES SECONDS`, then so many bytes: a shell script, and
//! after it the script's standard input. The answer is a line `ID STATUS STDOUT-BYTES STDERR-BYTES`
//! and those bytes. One request is under way at a time; the guest kills a script, and all that it
//! started in the foreground, when its seconds are over. Everything is counted, nothing quoted, so
//! scripts, input and output may be any bytes.

use std::time::{Duration, Instant};

use crate::{
    Error,
    channel::{Broken, Channel},
    watch::Watched,
};

/// The name of the port.
pub(crate) const PORT: &str = "memtide.agent";
/// How much later than a script's limit its answer may be: the guest may be busy.
const GRACE: Duration = Duration::from_secs(60);
/// The most that a script may print.
const ANSWER_BYTES_MAX: u64 = 1 << 30;
/// What a shell says of a process that was killed: 128 + SIGKILL.
const KILLED: i32 = 137;

/// What a script left.
pub(crate) struct Answer {
    pub(crate) status: i32,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
}

pub(crate) struct Agent {
    channel: Channel,
    next: u64,
}

impl Agent {
    pub(crate) fn new(channel: Channel) -> Self {
        Self { channel, next: 0 }
    }

    /// Waits for the agent's first line; returns the modules that the kernel refused.
    pub(crate) fn greeting(&mut self, deadline: Instant) -> Result<Result<String, Error>, Broken> {
        let line = self.channel.line(deadline)?;
        let expected = "ready, and the modules that were refused";
        Ok(match line.strip_prefix("ready") {
            Some(refused) => Ok(refused.trim().to_owned()),
            None => Err(Error::Answer { speaker: "the agent", answer: line, expected }),
        })
    }

    /// Has a script run.
    pub(crate) fn request(
        &mut self,
        watched: &Watched,
        script: &str,
        input: &[u8],
        limit: Duration,
    ) -> Result<Answer, Error> {
        let start = Instant::now();
        let seconds = limit.as_secs_f64().ceil().max(1.0);
        let whole = Duration::from_secs_f64(seconds);
        let doing = format!("running {script:?}");
        let id = self.next;
        self.next += 1;
        let total = script.len() + input.len();
        let mut request = format!("{id} {total} {} {seconds}\n", script.len()).into_bytes();
        request.extend_from_slice(script.as_bytes());
        request.extend_from_slice(input);
        let deadline = start + whole + GRACE;
        let broken = |broken| watched.broken(broken, &doing, limit);
        self.channel.send(&request, deadline).map_err(broken)?;
        loop {
            let line = self.channel.line(deadline).map_err(broken)?;
            let [answered, status, stdout, stderr] = numbers(&line)?;
            if stdout.max(stderr) > ANSWER_BYTES_MAX {
                let expected = "at most 1 GiB of output";
                return Err(Error::Answer { speaker: "the agent", answer: line, expected });
            }
            let stdout = self.channel.bytes(stdout as usize, deadline).map_err(broken)?;
            let stderr = self.channel.bytes(stderr as usize, deadline).map_err(broken)?;
            // Another number: the late answer to a request that was given up.
            if answered != id {
                continue;
            }
            let status = status as i32;
            // After a busy moment the guest's clock catches up: its seconds are shorter then.
            if status == KILLED && start.elapsed() >= whole / 2 {
                return Err(watched.late(&doing, whole));
            }
            return Ok(Answer { status, stdout, stderr });
        }
    }
}

fn numbers(line: &str) -> Result<[u64; 4], Error> {
    let numbers: Option<Vec<u64>> = line.split(' ').map(|word| word.parse().ok()).collect();
    numbers.and_then(|numbers| numbers.try_into().ok()).ok_or_else(|| Error::Answer {
        speaker: "the agent",
        answer: line.to_owned(),
        expected: "a number, a status and two sizes",
    })
}

/// A word for a shell, whatever is in it.
pub(crate) fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_four_numbers() {
        assert_eq!(numbers("7 0 12 3").expect("an answer"), [7, 0, 12, 3]);
        for line in ["", "7 0 12", "7 0 12 3 4", "a b c d", "7 -1 0 0"] {
            assert!(numbers(line).is_err(), "{line:?}");
        }
    }

    #[test]
    fn a_shell_reads_a_quoted_word_as_it_was() {
        for word in ["plain", "it's", "$(x) `y` \"z\" \\", "'", ""] {
            let script = format!("printf %s {}", quoted(word));
            let output = std::process::Command::new("sh").args(["-c", &script]).output();
            assert_eq!(output.expect("a shell").stdout, word.as_bytes());
        }
    }
}
