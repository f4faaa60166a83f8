//! Whether the size of the node matters: the same few operations on nodes from 1 GiB to 64 TiB.
//!
//! Each node is added as a whole, block by block. Then, once with all of it free and once with all
//! but the last blocks taken, one core takes and gives the same number of frames. In a search that
//! looked through the node the larger ones would be slower; in one that does not, what is left is
//! the metadata that no cache holds any more.

use std::{fs, hint::black_box, mem, time::Instant};

use memtide_frames::{Core, Frame, FrameRange, Frames, Movability, Order, Pfn, Request, Zone};
use memtide_units::{PAGE_BYTES, Random};
use serde::Serialize;

use super::{
    FramesError,
    hands::{Caches, core},
    node::{BLOCK_FRAMES, Node},
    threads::pin,
};

/// The sizes, in frames.
pub const SIZES: [u64; 5] = [1 << 18, 1 << 22, 1 << 26, 1 << 30, 1 << 34];

/// Frames that are taken and given back by each operation.
const CALLS: usize = 1 << 16;

/// Different places that are named.
const PLACES: usize = 1 << 12;

/// What was found on one node. Nanoseconds a call where nothing else is said.
#[derive(Clone, Debug, Serialize)]
pub struct ScaleRow {
    /// Frames of the node.
    pub frames: u64,
    /// To add a block of 128 MiB.
    pub add_block_ns: f64,
    /// To add all, in milliseconds.
    pub add_ms: f64,
    /// To take all in blocks of 1 GiB (of a node of one: in two halves), each.
    pub take_gigabyte_ns: f64,
    /// To take the last of them again, by its name.
    pub take_gigabyte_at_ns: f64,
    /// Bytes of metadata a frame, mapped but not all of it in memory.
    pub metadata_bytes_per_frame: f64,
    /// Bytes of memory a frame that the metadata takes once all is added and free.
    pub resident_bytes_per_frame: f64,
    /// With all of it free.
    pub free: ScaleFigures,
    /// With all but the last gigabyte taken, in the largest blocks; a node of one gigabyte keeps
    /// half.
    pub nearly_full: ScaleFigures,
}

/// The same calls on nodes of all sizes.
#[derive(Clone, Copy, Default, Debug, Serialize)]
pub struct ScaleFigures {
    /// Take a frame and give it back, again and again, with a cache.
    pub repeat_ns: f64,
    /// The same without a cache.
    pub repeat_uncached_ns: f64,
    /// The same with pageblocks.
    pub repeat_pageblock_ns: f64,
    /// Take 2^16 frames, with a cache.
    pub bulk_take_ns: f64,
    /// Give them back.
    pub bulk_give_ns: f64,
    /// Take a frame that is named, of 2^12 ones all over what is free, and give it back.
    pub take_at_ns: f64,
    /// Isolate a block of 128 MiB, and end that.
    pub isolate_block_ns: f64,
}

/// Measures on all sizes up to `largest` frames.
///
/// # Errors
/// [`FramesError`]: there is no memory for the metadata, or the allocator refused what it should
/// not.
pub fn bench_scale(
    largest: u64,
    mut progress: impl FnMut(u32, u32),
) -> Result<Vec<ScaleRow>, FramesError> {
    pin(0)?;
    let sizes: Vec<u64> = SIZES.into_iter().filter(|&size| size <= largest.max(SIZES[0])).collect();
    let of = sizes.len() as u32;
    // Code and heap that the first node would be charged with.
    one_size(SIZES[0])?;
    let mut rows = Vec::new();
    for (done, size) in (0..).zip(sizes) {
        progress(done, of);
        rows.push(one_size(size)?);
    }
    progress(of, of);
    Ok(rows)
}

fn one_size(size: u64) -> Result<ScaleRow, FramesError> {
    let node = Node::absent(size, 1)?;
    let frames = &node.frames()?;
    let before = resident_bytes();
    let start = Instant::now();
    for first in (0..size).step_by(BLOCK_FRAMES as usize) {
        frames.add(FrameRange::new(Pfn(first), BLOCK_FRAMES), Zone::Movable)?;
    }
    let add_ns = start.elapsed().as_secs_f64() * 1e9;
    let resident = resident_bytes().saturating_sub(before);

    let free = figures(frames, 0, size)?;
    let filled = fill(frames, size)?;
    let nearly_full =
        figures(frames, filled.rest.start.0, filled.rest.start.0 + filled.rest.frames)?;
    Ok(ScaleRow {
        frames: size,
        add_block_ns: add_ns / (size / BLOCK_FRAMES) as f64,
        add_ms: add_ns / 1e6,
        take_gigabyte_ns: filled.take_ns,
        take_gigabyte_at_ns: filled.take_at_ns,
        metadata_bytes_per_frame: node.metadata_bytes() as f64 / size as f64,
        resident_bytes_per_frame: resident as f64 / size as f64,
        free,
        nearly_full,
    })
}

/// A node of which all but one block is taken.
struct Filled {
    rest: FrameRange,
    take_ns: f64,
    take_at_ns: f64,
}

/// Takes all of a node in the largest blocks, for ever, but the last.
fn fill(frames: &Frames<'_>, size: u64) -> Result<Filled, FramesError> {
    let order = Order::new(Order::MAX.get().min((size / 2).ilog2() as u8)).unwrap_or(Order::MAX);
    let request = Request::new(order, Movability::Movable);
    let count = (size / order.frames()) as usize;
    let mut taken = Vec::with_capacity(count);
    let start = Instant::now();
    for _ in 0..count {
        taken.push(frames.take(request)?);
    }
    let take_ns = start.elapsed().as_secs_f64() * 1e9 / count as f64;
    taken.sort_by_key(Frame::pfn);
    let last = Pfn(size - order.frames());
    drop(taken.pop());
    let take_at_ns = best(1, || {
        frames.give(frames.take_at(last, order, Movability::Movable)?)?;
        Ok(())
    })?;
    // Not given back: the node ends soon.
    taken.into_iter().for_each(mem::forget);
    Ok(Filled { rest: FrameRange::new(last, order.frames()), take_ns, take_at_ns })
}

/// Measures, with everything free from frame `start` to `end`.
fn figures<'f>(frames: &'f Frames<'f>, start: u64, end: u64) -> Result<ScaleFigures, FramesError> {
    let mut cached = core(frames, 0, Caches::On);
    let repeat_ns = repeat(&mut cached, Order::FRAME)?;
    let (bulk_take_ns, bulk_give_ns) = bulk(&mut cached)?;
    let repeat_pageblock_ns = repeat(&mut cached, Order::PAGEBLOCK)?;
    drop(cached);
    let repeat_uncached_ns = repeat(&mut core(frames, 0, Caches::Off), Order::FRAME)?;
    Ok(ScaleFigures {
        repeat_ns,
        repeat_uncached_ns,
        repeat_pageblock_ns,
        bulk_take_ns,
        bulk_give_ns,
        take_at_ns: named(frames, start, end)?,
        isolate_block_ns: isolate(frames, end - BLOCK_FRAMES)?,
    })
}

/// The time of a call, the best of five rounds, the first of which also warms up.
fn best(
    calls: usize,
    mut round: impl FnMut() -> Result<(), FramesError>,
) -> Result<f64, FramesError> {
    let mut best = f64::INFINITY;
    for _ in 0..5 {
        let start = Instant::now();
        round()?;
        best = best.min(start.elapsed().as_secs_f64() * 1e9 / calls as f64);
    }
    Ok(best)
}

fn repeat(core: &mut Core<'_>, order: Order) -> Result<f64, FramesError> {
    let request = Request::new(order, Movability::Movable);
    best(CALLS, || {
        for _ in 0..CALLS {
            let frame = core.take(request)?;
            core.give(black_box(frame))?;
        }
        Ok(())
    })
}

fn bulk<'f>(core: &mut Core<'f>) -> Result<(f64, f64), FramesError> {
    let request = Request::new(Order::FRAME, Movability::Movable);
    let mut held: Vec<Frame<'f>> = Vec::with_capacity(CALLS);
    let (mut take, mut give) = (f64::INFINITY, f64::INFINITY);
    for _ in 0..5 {
        let start = Instant::now();
        for _ in 0..CALLS {
            held.push(core.take(request)?);
        }
        take = take.min(start.elapsed().as_secs_f64() * 1e9 / CALLS as f64);
        let start = Instant::now();
        while let Some(frame) = held.pop() {
            core.give(frame)?;
        }
        give = give.min(start.elapsed().as_secs_f64() * 1e9 / CALLS as f64);
    }
    Ok((take, give))
}

fn named<'f>(frames: &'f Frames<'f>, start: u64, end: u64) -> Result<f64, FramesError> {
    let mut random = Random::new(3);
    let mut place = || Pfn(start + random.below(end - start));
    let places: Vec<Pfn> = (0..PLACES).map(|_| place()).collect();
    best(PLACES, || {
        for &pfn in &places {
            frames.give(frames.take_at(pfn, Order::FRAME, Movability::Movable)?)?;
        }
        Ok(())
    })
}

fn isolate(frames: &Frames<'_>, first: u64) -> Result<f64, FramesError> {
    let range = FrameRange::new(Pfn(first), BLOCK_FRAMES);
    const ROUNDS: usize = 64;
    best(ROUNDS, || {
        for _ in 0..ROUNDS {
            frames.isolate(range)?;
            frames.unisolate(range)?;
        }
        Ok(())
    })
}

/// Memory of this process, in bytes; 0 where /proc does not tell.
fn resident_bytes() -> u64 {
    // Exact, unlike statm, which is counted in batches by each processor.
    let rollup = fs::read_to_string("/proc/self/smaps_rollup").unwrap_or_default();
    let line = rollup.lines().find_map(|line| line.strip_prefix("Rss:"));
    let kib = line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok());
    let statm = || {
        let text = fs::read_to_string("/proc/self/statm").ok()?;
        text.split(' ').nth(1)?.parse::<u64>().ok()
    };
    kib.map_or_else(|| statm().unwrap_or(0) * PAGE_BYTES, |kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_node_is_always_measured() {
        let rows = bench_scale(0, |_, _| {}).unwrap();
        assert_eq!(rows.len(), 1);
        let row = &rows[0];
        assert_eq!(row.frames, SIZES[0]);
        assert!(row.metadata_bytes_per_frame < 0.65, "{row:?}");
        for figures in [row.free, row.nearly_full] {
            assert!(figures.repeat_ns > 0.0 && figures.isolate_block_ns > 0.0, "{row:?}");
        }
    }
}
