//! What memtide costs, measured against the limits of the machine in the same run.
//!
//! Machines drift, so every figure here is a ratio: each round measures the limit (a plain
//! non-temporal copy), a naive way (populate, copy, remap), and the live way under a program that
//! writes all the while, one after the other; the report gives the median of the rounds.
//!
//! * [`limits`]: the plain copy and the naive move. [`writer`]: the program that writes.
//! * [`live`]: a pool, the writer in it, its memory moved back and forth.
//! * [`give_back`]: capacity coming back. [`fabric`]: capacity that goes from host to host.
//! * [`overhead`]: a program with and without a pool.
//! * [`pool`]: a daemon of the benchmark's own.
//! * [`churn`]: a program that allocates and frees. [`frames`]: taking and giving frames.
//! * [`simulator`]: how fast the simulator of tiers is.
//! * [`histogram`]: how long single accesses took. [`report`]: medians, tables, JSON.

#![forbid(unsafe_code)]

pub mod churn;
pub mod fabric;
pub mod frames;
pub mod give_back;
pub mod histogram;
pub mod limits;
pub mod live;
pub mod overhead;
pub mod pool;
pub mod report;
pub mod simulator;
pub mod writer;

pub use fabric::{FabricOptions, FabricReport, bench_fabric};
pub use give_back::{GiveBackOptions, GiveBackReport, bench_give_back};
pub use live::{MoveOptions, bench_move};
pub use overhead::{OverheadOptions, OverheadReport, bench_overhead};
pub use report::MoveReport;
