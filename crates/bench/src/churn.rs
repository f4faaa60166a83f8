//! Allocating and freeing, and little else.

/// A generation of objects.
const OBJECTS: usize = 200_000;

/// Allocates and frees `rounds` generations of objects of mixed sizes, each freed in another
/// order than it was allocated in; returns a checksum of what was in them.
#[must_use]
pub fn run(rounds: u64) -> u64 {
    let mut random = 0x2545_f491_4f6c_dd1du64;
    let mut next = move || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    let mut kept: Vec<Vec<u8>> = Vec::new();
    kept.resize_with(OBJECTS, Vec::new);
    let mut sum = 0u64;
    for round in 0..rounds {
        for _ in 0..OBJECTS {
            let slot = (next() % OBJECTS as u64) as usize;
            // Mostly small, now and then up to 64 KiB.
            let size = match next() % 64 {
                0 => 4096 + next() % 61_440,
                1..8 => 256 + next() % 2048,
                _ => 16 + next() % 240,
            };
            let object = vec![(round & 0xff) as u8; size as usize];
            let old = std::mem::replace(&mut kept[slot], object);
            sum = sum.wrapping_add(old.first().copied().map_or(0, u64::from) + old.len() as u64);
        }
    }
    sum
}
