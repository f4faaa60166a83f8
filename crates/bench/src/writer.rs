//! The program whose memory is moved: it writes all the while and times every access.
//!
//! It obeys lines on its standard input: `mark` ends a phase and prints what happened in it as one
//! line of JSON; the end of input ends the program. At the end it checks that no addition was
//! lost.

use std::{
    io::{BufRead, Write},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Instant,
};

use serde::{Deserialize, Serialize};

use crate::histogram::Histogram;

/// What happened in a phase.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Phase {
    /// Accesses.
    pub accesses: u64,
    /// How long the phase was.
    pub seconds: f64,
    /// How long single accesses took.
    pub histogram: Histogram,
    /// Additions that are missing from memory; anything but 0 is a lost write.
    pub lost: u64,
}

/// Writes to `bytes` of memory until the input ends.
///
/// `pause_ns` is what the program does between two accesses, in nanoseconds of computing: 0
/// hammers the memory.
///
/// # Errors
/// Output that cannot be written.
pub fn run(bytes: usize, pause_ns: u64) -> std::io::Result<()> {
    let words: Vec<AtomicU64> = (0..bytes / 8).map(|_| AtomicU64::new(0)).collect();
    // Every page is there before the first phase.
    for word in words.iter().step_by(512) {
        word.fetch_add(0, Ordering::Relaxed);
    }
    let mark = AtomicBool::new(false);
    let end = AtomicBool::new(false);
    println!("ready {}", std::process::id());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for line in std::io::stdin().lock().lines() {
                if line.is_ok_and(|line| line == "mark") {
                    mark.store(true, Ordering::Relaxed);
                }
            }
            end.store(true, Ordering::Relaxed);
        });
        write_until(&words, pause_ns, &mark, &end)
    })
}

fn write_until(
    words: &[AtomicU64],
    pause_ns: u64,
    mark: &AtomicBool,
    end: &AtomicBool,
) -> std::io::Result<()> {
    let mut random = 0x9e37_79b9_7f4a_7c15u64;
    let mut added = 0u64;
    let mut histogram = Histogram::default();
    let mut start = Instant::now();
    let mut before = start;
    loop {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let word = &words[(random % words.len() as u64) as usize];
        before = Instant::now().max(before);
        word.fetch_add(1, Ordering::Relaxed);
        let after = Instant::now();
        added += 1;
        histogram.add(u64::try_from((after - before).as_nanos()).unwrap_or(u64::MAX));
        if pause_ns > 0 {
            while after.elapsed().as_nanos() < u128::from(pause_ns) {
                std::hint::spin_loop();
            }
        }
        if mark.load(Ordering::Relaxed) {
            mark.store(false, Ordering::Relaxed);
            let seconds = start.elapsed().as_secs_f64();
            let accesses = histogram.count();
            let there: u64 = words.iter().map(|word| word.load(Ordering::Relaxed)).sum();
            let histogram = std::mem::take(&mut histogram);
            let phase = Phase { accesses, seconds, histogram, lost: added - there };
            let mut out = std::io::stdout().lock();
            serde_json::to_writer(&mut out, &phase)?;
            writeln!(out)?;
            out.flush()?;
            start = Instant::now();
        }
        if end.load(Ordering::Relaxed) {
            return Ok(());
        }
    }
}
