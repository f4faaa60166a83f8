//! A redis server with known content, that answers all the while.

use std::path::PathBuf;

use memtide_testbed::{Background, Error, Guest, needs, places};

use super::kit::LONG;

/// Keys that are filled in, each with 1000 bytes that follow from its number.
pub const KEYS: u32 = 20_000;
/// Keys that one script goes through, so that the server answers others in between.
const BATCH: u32 = 2_000;

/// What a key must hold; the digest differs with every number.
const VALUE: &str = "local function value(i) return string.rep(redis.sha1hex('v' .. i), 25) end";

/// `redis-server` and `redis-cli` of this computer; `None`, said loudly, where they are missing.
pub fn programs() -> Option<Vec<PathBuf>> {
    let found: Option<Vec<PathBuf>> =
        ["redis-server", "redis-cli"].into_iter().map(places::which).collect();
    if found.is_none() {
        needs::skip("finds no redis-server and redis-cli: install the package redis-server");
    }
    found
}

/// The server in a guest, and a client that keeps it busy.
pub struct Redis<'g> {
    guest: &'g Guest,
    server: Background<'g>,
    client: Background<'g>,
}

impl<'g> Redis<'g> {
    /// Starts a server by this command (`memtide run … --`), fills it, and lets a client read and
    /// write it without a pause.
    pub fn start(guest: &'g Guest, by: &str) -> Result<Self, Error> {
        let options = "--save '' --daemonize no --dir /tmp --bind 127.0.0.1";
        let server = guest.start(&format!("exec {by} redis-server {options}"))?;
        guest.wait_until(LONG, "redis-cli ping | grep PONG")?;
        let fill = "for i = ARGV[1], ARGV[2] do redis.call('set', 'key:' .. i, value(i)) end";
        batches(guest, fill)?;
        // Checks and writes again some keys by chance. Prints what was wrong: 0.
        let busy = "local wrong = 0; for n = 1, 3 do
            local i = math.random(1, ARGV[1])
            if redis.call('get', 'key:' .. i) ~= value(i) then wrong = wrong + 1 end
            redis.call('set', 'key:' .. i, value(i)) end
            redis.call('incr', 'turns'); return wrong";
        let busy = format!("redis-cli -r 1000000 eval \"{VALUE} {busy}\" 0 {KEYS}");
        let client = guest.start(&format!("exec {busy}"))?;
        let redis = Self { guest, server, client };
        redis.serves()?;
        Ok(redis)
    }

    /// The process number of the server itself.
    pub fn pid(&self) -> Result<u32, Error> {
        Ok(self.guest.sh("pidof redis-server")?.parse().expect("a number"))
    }

    /// How often the client has had its answer.
    pub fn turns(&self) -> Result<u64, Error> {
        Ok(self.guest.sh("redis-cli get turns")?.parse().unwrap_or(0))
    }

    /// Waits until the client has had answers that it had not before.
    pub fn serves(&self) -> Result<(), Error> {
        let before = self.turns()?;
        let script = format!("[ $(redis-cli get turns) -gt {} ]", before + 2);
        self.guest.wait_until(LONG, &script).map(|_| ())
    }

    /// Every key is there and holds what it must, and the client has never seen anything else.
    pub fn is_right(&self) -> Result<(), Error> {
        let check = "local wrong = 0; for i = ARGV[1], ARGV[2] do
            if redis.call('get', 'key:' .. i) ~= value(i) then wrong = wrong + 1 end end
            return wrong";
        let wrong = batches(self.guest, check)?;
        assert_eq!(wrong.lines().count() as u32, KEYS / BATCH, "{wrong}");
        assert!(wrong.lines().all(|line| line == "0"), "{wrong}");
        let seen = self.client.stdout()?;
        let errors = self.client.stderr()?;
        assert!(self.client.is_running()? && seen.lines().all(|line| line == "0"), "{errors}");
        Ok(())
    }

    /// Ends both.
    pub fn end(self) -> Result<(), Error> {
        self.client.signal("KILL")?;
        self.guest.sh("redis-cli shutdown nosave || true")?;
        let output = self.server.wait(LONG)?;
        assert_eq!(output.status, 0, "{}{}", output.stdout, output.stderr);
        Ok(())
    }
}

/// Runs a script for all keys; what it returned, a line for each batch.
fn batches(guest: &Guest, script: &str) -> Result<String, Error> {
    let script = format!(
        "for first in $(seq 1 {BATCH} {KEYS}); do
            redis-cli eval \"{VALUE} {script}\" 0 $first $((first + {BATCH} - 1)) || exit 1
        done"
    );
    let output = guest.run_within(LONG, &script)?;
    assert_eq!((output.status, &*output.stderr), (0, ""), "{}", output.stdout);
    assert!(!output.stdout.contains("ERR"), "{}", output.stdout);
    Ok(output.stdout)
}
