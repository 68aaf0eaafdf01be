//! Durations as texts: `"5s"`, `"100ms"`, `"2m"`, `"1h"`, `"0.5s"`.

/// What to write, for errors.
pub(crate) const EXAMPLES: &str =
    "a text of a number and a unit, such as \"5s\", \"100ms\", \"2m\", \"1h\" or \"0.5s\"";

/// The milliseconds that `text` means, or what is wrong with it.
pub(crate) fn parse_ms(text: &str) -> Result<u64, String> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    if number.is_empty() {
        return Err("it does not begin with a number".into());
    }
    let unit_ms: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "" => return Err("it has no unit: ms, s, m or h".into()),
        _ => return Err(format!("`{unit}` is none of the units ms, s, m and h")),
    };
    let (whole, fraction) = match number.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (number, None),
    };
    let is_digits = |digits: &str| !digits.is_empty() && !digits.contains('.');
    if !is_digits(whole) || !fraction.is_none_or(is_digits) {
        return Err(format!("`{number}` is not a number"));
    }

    let too_long = || "it is too long".to_string();
    let whole_ms = whole.parse::<u64>().ok().and_then(|n| n.checked_mul(unit_ms));
    let fraction_ms = fraction_of(fraction.unwrap_or("0"), unit_ms)
        .ok_or("it is not a whole number of milliseconds")?;
    let ms = whole_ms.and_then(|ms| ms.checked_add(fraction_ms)).ok_or_else(too_long)?;
    if ms == 0 { Err("it is no time at all: the shortest is \"1ms\"".into()) } else { Ok(ms) }
}

/// `0.digits` of `unit_ms`, if that is a whole number.
fn fraction_of(digits: &str, unit_ms: u64) -> Option<u64> {
    let digits = digits.trim_end_matches('0');
    if digits.is_empty() {
        return Some(0);
    }
    // The longest unit has 3,600,000 = 2^7 * 3^2 * 5^5 milliseconds, so that the eighth digit
    // always leaves a rest; the product stays far below the limit.
    let parts = 10u64.checked_pow(u32::try_from(digits.len()).ok().filter(|&n| n <= 9)?)?;
    let scaled = digits.parse::<u64>().ok()?.checked_mul(unit_ms)?;
    (scaled % parts == 0).then_some(scaled / parts)
}

#[cfg(test)]
mod tests {
    use super::parse_ms;

    #[test]
    fn units_and_fractions() {
        for (text, ms) in [
            ("1ms", 1),
            ("100ms", 100),
            ("5s", 5_000),
            ("05s", 5_000),
            ("0.5s", 500),
            ("0.001s", 1),
            ("2.50s", 2_500),
            ("1.000ms", 1),
            ("2m", 120_000),
            ("0.25m", 15_000),
            ("1h", 3_600_000),
            ("1.5h", 5_400_000),
            ("0.0000250h", 90),
            ("18446744073709551615ms", u64::MAX),
        ] {
            assert_eq!(parse_ms(text), Ok(ms), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_says_why() {
        for (text, why) in [
            ("", "it does not begin with a number"),
            ("s", "it does not begin with a number"),
            ("-5s", "it does not begin with a number"),
            (" 5s", "it does not begin with a number"),
            ("5", "it has no unit: ms, s, m or h"),
            ("5 s", "` s` is none of the units ms, s, m and h"),
            ("5S", "`S` is none of the units ms, s, m and h"),
            ("5us", "`us` is none of the units ms, s, m and h"),
            ("1h30m", "`h30m` is none of the units ms, s, m and h"),
            ("5µs", "`µs` is none of the units ms, s, m and h"),
            (".5s", "`.5` is not a number"),
            ("5.s", "`5.` is not a number"),
            (".s", "`.` is not a number"),
            ("1.2.3s", "`1.2.3` is not a number"),
            ("0.5ms", "it is not a whole number of milliseconds"),
            ("0.0001s", "it is not a whole number of milliseconds"),
            ("0.12345678901234567890123456789s", "it is not a whole number of milliseconds"),
            ("0s", "it is no time at all: the shortest is \"1ms\""),
            ("0.0h", "it is no time at all: the shortest is \"1ms\""),
            ("18446744073709551616ms", "it is too long"),
            ("18446744073709551615.5s", "it is too long"),
            ("99999999999999999999999h", "it is too long"),
        ] {
            assert_eq!(parse_ms(text), Err(why.to_string()), "{text}");
        }
    }
}
