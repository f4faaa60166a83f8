//! Powers that are the same on every machine: the standard library's are the platform's.

use core::f64::consts::LN_2;

/// `base^exponent` for a positive base, to about 1e-14 of it.
pub fn power(base: f64, exponent: f64) -> f64 {
    exponential(exponent * logarithm(base))
}

/// The natural logarithm of a positive normal number.
fn logarithm(x: f64) -> f64 {
    const MANTISSA: u64 = (1 << 52) - 1;
    let bits = x.to_bits();
    let exponent = (bits >> 52) as i64 - 1023;
    // Between 1 and 2; ln m = 2 artanh((m − 1) ∕ (m + 1)), whose argument is at most a third.
    let mantissa = f64::from_bits(bits & MANTISSA | 1023 << 52);
    let z = (mantissa - 1.0) / (mantissa + 1.0);
    let square = z * z;
    let series = (0..18).rev().fold(0.0, |sum, n| sum * square + 1.0 / f64::from(2 * n + 1));
    exponent as f64 * LN_2 + 2.0 * z * series
}

/// e^x, for results that are normal numbers.
fn exponential(x: f64) -> f64 {
    let twos = (x / LN_2 + 0.5).floor();
    let rest = x - twos * LN_2;
    // The rest is at most ln 2 ∕ 2: Taylor's series, from its end.
    let series = (1..20).rev().fold(1.0, |sum, n| 1.0 + sum * rest / f64::from(n));
    series * f64::from_bits(((twos as i64 + 1023) as u64) << 52)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn powers_are_those_of_the_standard_library() {
        for base in [1e-9, 0.3, 1.0, 1.5, 2.0, 12_345.0, 268_435_456.0] {
            for exponent in [-1.0, -0.99, -0.5, 0.0, 0.01, 0.5, 1.0, 1.99] {
                let (ours, theirs) = (power(base, exponent), f64::powf(base, exponent));
                assert!((ours / theirs - 1.0).abs() < 1e-13, "{base}^{exponent}: {ours} {theirs}");
            }
        }
        // 100 = 1 ∕ 0.01: what the inverse of a zipf of 0.99 needs.
        assert!((power(1.1, 100.0) / 1.1_f64.powi(100) - 1.0).abs() < 1e-12);
    }
}
