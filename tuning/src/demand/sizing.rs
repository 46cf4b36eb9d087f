//! Values with the sentence that they came from.

use super::Sized;
use crate::amount::grouped;

/// The power of two from `packets` up, or `least`, which is what the sentence says of it.
pub(super) fn at_least(least: u64, packets: u128, how: &str, what: &str) -> Sized {
    let value = if packets <= u128::from(least) { least } else { power_of_two(packets) };
    let how = format!("{how} is {}; at least {}, {what}", group(packets), grouped(least));
    most(PACKETS_MAX, "the most that is advised", sized(value.into(), how))
}

/// What is needed, or `bound`, which is what the sentence says of it: a load beyond any host asks for no absurd settings.
pub(super) fn most(bound: u64, what: &str, needed: Sized) -> Sized {
    if needed.value <= bound {
        return needed;
    }
    sized(bound.into(), format!("{what}; the load needs {}", needed.formula))
}

/// With the formula that begins with it.
pub(super) fn sized(value: u128, how: String) -> Sized {
    let value = narrow(value);
    Sized { value, formula: format!("{value} = {how}") }
}

/// From `number` up.
pub(super) fn power_of_two(number: u128) -> u64 {
    narrow(number).checked_next_power_of_two().unwrap_or(u64::MAX)
}

/// As it is, or the most that there is room for.
pub(super) fn narrow(number: u128) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

/// Digits in groups of three.
pub(super) fn group(number: u128) -> String {
    grouped(narrow(number))
}

/// Descriptors of a ring, packets in a backlog.
const PACKETS_MAX: u64 = 65_536;
