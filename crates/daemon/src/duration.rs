//! Durations as people write them: `30s`, `500ms`, `2m`, `1h`. A bare number is seconds.

use std::time::Duration;

/// What a duration looks like, for messages.
pub const EXPECTED: &str = "a duration such as 30s, 500ms or 2m";
/// The longest that makes sense to wait.
pub const MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// The duration that `text` names, up to [`MAX`].
///
/// # Errors
/// What was expected instead.
pub fn parse(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| format!("expected {EXPECTED}"))?;
    let unit_ms: u64 = match unit.trim() {
        "ms" => 1,
        "" | "s" => 1000,
        "m" | "min" => 60 * 1000,
        "h" => 60 * 60 * 1000,
        _ => return Err(format!("has an unknown unit; expected {EXPECTED}")),
    };
    let duration = Duration::from_millis(number.saturating_mul(unit_ms));
    if duration > MAX { Err("is too long; expected at most 24h".to_owned()) } else { Ok(duration) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        for (text, ms) in [("30s", 30_000), ("5", 5000), ("500ms", 500), ("2m", 120_000)] {
            assert_eq!(parse(text).unwrap(), Duration::from_millis(ms), "{text}");
        }
        for text in ["", "s", "-1s", "1.5s", "3 weeks", "25h", "99999999999999999999s"] {
            let error = parse(text).unwrap_err();
            assert!(error.contains("expected"), "{text}: {error}");
        }
    }
}
