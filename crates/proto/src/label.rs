//! Labels: what a program is started as, for tenants that are for a label.
//!
//! A label is what the program says of itself, not a proof: whoever may start programs on a pool
//! may choose it. Users, groups and control groups are what the kernel says.

/// The variable that carries it into a program.
pub const VARIABLE: &str = "MEMTIDE_LABEL";
/// Longest label, in bytes.
pub const MAX: usize = 64;
/// What a label looks like, for messages.
pub const EXPECTED: &str = "1 to 64 letters, digits, dots, - and _";

/// Whether a text is a label.
#[must_use]
pub fn is_label(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    (1..=MAX).contains(&text.len()) && text.chars().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_plain_words() {
        for good in ["web", "batch-7", "a.b_c", &"x".repeat(MAX)] {
            assert!(is_label(good), "{good}");
        }
        for bad in ["", "a b", "a/b", "ä", "a\n", &"x".repeat(MAX + 1)] {
            assert!(!is_label(bad), "{bad:?}");
        }
    }
}
