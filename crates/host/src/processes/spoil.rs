//! Texts of the kernel, spoilt by chance.

use memtide_units::Random;

/// The text with some bytes changed, lost or cut off; the same for the same seed.
pub fn spoilt(text: &str, seed: u64) -> Vec<u8> {
    let mut random = Random::new(seed);
    let mut bytes = text.as_bytes().to_vec();
    for _ in 0..=random.below(8) {
        if bytes.is_empty() {
            break;
        }
        let at = random.below(bytes.len() as u64) as usize;
        match random.below(8) {
            0 => bytes.truncate(at),
            1..4 => bytes[at] = random.below(256) as u8,
            _ => drop(bytes.remove(at)),
        }
    }
    bytes
}
