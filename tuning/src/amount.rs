//! Numbers as people read them.

/// Digits in groups of three: `16,777,216`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Bytes in the largest unit that they fill: `208 KiB`, `15.5 MiB`; without a decimal where it is zero.
pub fn bytes(bytes: u64) -> String {
    scaled(bytes, 1_024.0, &["bytes", "KiB", "MiB", "GiB", "TiB", "PiB"])
}

/// Bits each second likewise: `1.7 Gbit/s`.
pub fn bit_rate(bits: u64) -> String {
    scaled(bits, 1_000.0, &["bit/s", "kbit/s", "Mbit/s", "Gbit/s", "Tbit/s", "Pbit/s"])
}

fn scaled(number: u64, step: f64, units: &[&str]) -> String {
    let mut scaled = number as f64;
    let mut at = 0;
    while scaled >= step && at + 1 < units.len() {
        scaled /= step;
        at += 1;
    }
    let text = format!("{scaled:.1}");
    format!("{} {}", text.strip_suffix(".0").unwrap_or(&text), units[at])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_and_scaled() {
        let read = [0, 999, 1_000, 16_777_216].map(grouped);
        assert_eq!(read, ["0", "999", "1,000", "16,777,216"]);
        let read = [0, 1_023, 212_992, 16_777_216, 16_252_928, u64::MAX].map(bytes);
        assert_eq!(read, ["0 bytes", "1023 bytes", "208 KiB", "16 MiB", "15.5 MiB", "16384 PiB"]);
        assert_eq!(bit_rate(1_745_000_000), "1.7 Gbit/s");
    }
}
