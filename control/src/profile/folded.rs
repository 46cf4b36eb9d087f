//! Stacks as text, one a line: what flame graphs are made of.

use std::collections::HashMap;
use std::fmt::Write as _;

use super::stacks::Stacks;
use super::symbols::{Symbols, tidy};

/// Bytes of the text. What does not fit are the stacks seen least.
const TEXT_BYTES_MAX: usize = 32 << 20;

/// Gives the stacks names. Stacks that differ in addresses only become one line. Stops when it is not wanted any longer; else returns the
/// text, the most frequent stack first, and the samples in it.
pub(super) fn write(stacks: &Stacks, is_wanted: impl Fn() -> bool) -> Option<(String, u64)> {
    write_within(stacks, TEXT_BYTES_MAX, is_wanted)
}

fn write_within(
    stacks: &Stacks,
    bytes_max: usize,
    is_wanted: impl Fn() -> bool,
) -> Option<(String, u64)> {
    let stacks = stacks.by_count();
    let mut symbols = Symbols::of(stacks.iter().map(|(_, stack, _)| *stack));
    let mut counts: HashMap<String, u64> = HashMap::new();
    let mut bytes = 0;
    for (thread, stack, count) in stacks {
        if !is_wanted() {
            return None;
        }
        let mut line = tidy(thread);
        symbols.append(stack, &mut line);
        if let Some(known) = counts.get_mut(&line) {
            *known += count;
            continue;
        }
        // A blank, up to 20 digits, the end of the line.
        let line_bytes = line.len() + 22;
        if bytes + line_bytes <= bytes_max {
            bytes += line_bytes;
            counts.insert(line, count);
        }
    }
    let mut lines: Vec<_> = counts.into_iter().collect();
    lines.sort_unstable_by(|a, b| (b.1, &a.0).cmp(&(a.1, &b.0)));
    let mut text = String::with_capacity(bytes);
    let mut samples = 0;
    for (line, count) in lines {
        samples += count;
        let _ = writeln!(text, "{line} {count}");
    }
    Some((text, samples))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KERNEL: u64 = -128_i64 as u64;

    /// Addresses that no kernel has code at: they have no names.
    fn stacks() -> Stacks {
        let mut stacks = Stacks::default();
        for (thread, address, count) in [("a", 1, 2), ("a", 2, 3), ("b;\n", 1, 7), ("c", 1, 1)] {
            (0..count).for_each(|_| stacks.add(thread, &[KERNEL, address]));
        }
        stacks
    }

    #[test]
    fn stacks_of_equal_names_are_one_line_and_the_most_frequent_comes_first() {
        let text = "b: ;kernel_[k] 7\na;kernel_[k] 5\nc;kernel_[k] 1\n".to_owned();
        assert_eq!(write(&stacks(), || true), Some((text, 13)));
    }

    #[test]
    fn beyond_the_bound_the_rarest_are_left_out() {
        let (text, samples) = write_within(&stacks(), 70, || true).unwrap();
        assert_eq!((text.as_str(), samples), ("b: ;kernel_[k] 7\na;kernel_[k] 5\n", 12));
    }

    #[test]
    fn nobody_wants_it_and_it_ends() {
        assert_eq!(write(&stacks(), || false), None);
    }
}
