//! Values of the command line that clap has no parser for.

/// A time span of the command line, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nanos(pub u64);

pub(super) fn parse_share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        Ok(_) => Err("must be between 0 and 1".to_owned()),
        Err(_) => Err("not a number; must be between 0 and 1".to_owned()),
    }
}

pub(super) fn parse_slow(text: &str) -> Result<Nanos, String> {
    parse_decimal(text, 1_000_000)
}

pub(crate) fn parse_time(text: &str) -> Result<Nanos, String> {
    const UNITS: [(&str, u64); 5] =
        [("ns", 1), ("us", 1_000), ("ms", 1_000_000), ("s", 1_000_000_000), ("m", 60_000_000_000)];
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    match UNITS.iter().find(|(unit, _)| *unit == &text[digits.len()..]) {
        Some((_, nanos)) => parse_decimal(digits, *nanos),
        None => Err("needs a unit: ns, us, ms, s or m, like 30s".to_owned()),
    }
}

/// A decimal number of units as whole nanoseconds, exactly: no detour over floating point.
fn parse_decimal(text: &str, unit_ns: u64) -> Result<Nanos, String> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let is_number = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !is_number(whole) || !is_number(fraction) || text.ends_with('.') {
        return Err("not a number of 0 or more, like 250 or 0.5".to_owned());
    }
    let too_large = || "too large".to_owned();
    let mut nanos = whole.parse::<u64>().ok().and_then(|whole| whole.checked_mul(unit_ns));
    let mut scale = unit_ns;
    for digit in fraction.bytes().map(|byte| u64::from(byte - b'0')) {
        if digit != 0 && !scale.is_multiple_of(10) {
            return Err("finer than a nanosecond".to_owned());
        }
        scale /= 10;
        nanos = nanos.and_then(|nanos| nanos.checked_add(digit * scale));
    }
    nanos.map(Nanos).ok_or_else(too_large)
}
