//! Programs that go on running in a guest while others come and go.

use std::{
    thread,
    time::{Duration, Instant},
};

use crate::{Error, Guest, Output};

/// A script that was started and not waited for. Dropping this leaves it running.
#[derive(Debug)]
pub struct Background<'a> {
    guest: &'a Guest,
    folder: String,
    pid: u32,
}

/// Everything of it in a folder of its own; `pid` and, at its end, `status` appear whole.
const START: &str = r#"
here=$(mktemp -d /run/background/XXXXXX)
cat >$here/script
setsid sh -c '
    sh $1/script </dev/null >$1/stdout 2>$1/stderr &
    echo $! >$1/pid.part && mv $1/pid.part $1/pid
    wait $!
    echo $? >$1/status.part && mv $1/status.part $1/status
' background $here >/dev/null 2>&1 &
until [ -e $here/pid ]; do sleep 0.01; done
echo $here $(cat $here/pid)
"#;

impl<'a> Background<'a> {
    pub(crate) fn start(guest: &'a Guest, script: &str) -> Result<Self, Error> {
        let output = guest.input(START, script.as_bytes())?.stdout;
        let parsed = output.trim().split_once(' ');
        let parsed = parsed.and_then(|(folder, pid)| Some((folder, pid.parse().ok()?)));
        let Some((folder, pid)) = parsed else {
            let expected = "a folder and a process number";
            return Err(Error::Answer { speaker: "the agent", answer: output, expected });
        };
        Ok(Self { guest, folder: folder.to_owned(), pid })
    }

    /// The process number of the script's shell, or of what it executed in its place.
    #[must_use]
    pub const fn pid(&self) -> u32 {
        self.pid
    }

    /// Whether it has not ended.
    ///
    /// # Errors
    /// As [`Guest::run`].
    pub fn is_running(&self) -> Result<bool, Error> {
        let output = self.guest.run(&format!("test -e {}/status", self.folder))?;
        Ok(output.status != 0)
    }

    /// What it printed so far.
    ///
    /// # Errors
    /// As [`Guest::read`].
    pub fn stdout(&self) -> Result<String, Error> {
        self.text("stdout")
    }

    /// What it said on standard error so far.
    ///
    /// # Errors
    /// As [`Guest::read`].
    pub fn stderr(&self) -> Result<String, Error> {
        self.text("stderr")
    }

    fn text(&self, name: &str) -> Result<String, Error> {
        let bytes = self.guest.read(&format!("{}/{name}", self.folder))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Sends it a signal, by a name such as `TERM`. That it has ended already is no error.
    ///
    /// # Errors
    /// As [`Guest::run`].
    pub fn signal(&self, name: &str) -> Result<(), Error> {
        self.guest.run(&format!("kill -{name} {}", self.pid)).map(|_| ())
    }

    /// Waits for its end; others can use the guest meanwhile.
    ///
    /// # Errors
    /// As [`Guest::run`], and if it does not end within the limit.
    pub fn wait(&self, limit: Duration) -> Result<Output, Error> {
        let script = format!("cat {}/status", self.folder);
        let status = self.guest.wait_until(limit, &script)?;
        let status = status.parse().map_err(|_| Error::Answer {
            speaker: "the agent",
            answer: status.clone(),
            expected: "an exit status",
        })?;
        Ok(Output { status, stdout: self.stdout()?, stderr: self.stderr()? })
    }

    /// Waits until it has printed this.
    ///
    /// # Errors
    /// As [`Guest::run`], and if it ends or the limit passes before; what it did say is shown.
    pub fn wait_for_output(&self, limit: Duration, text: &str) -> Result<(), Error> {
        let deadline = Instant::now() + limit;
        loop {
            // Asked first: what it printed before its end is there after it.
            let running = self.is_running()?;
            let (stdout, stderr) = (self.stdout()?, self.stderr()?);
            if stdout.contains(text) {
                return Ok(());
            }
            if !running || Instant::now() > deadline {
                let script = format!("waiting {limit:?} for {text:?} of process {}", self.pid);
                return Err(Error::Script { script, status: 1, stdout, stderr });
            }
            thread::sleep(Duration::from_millis(100));
        }
    }
}
