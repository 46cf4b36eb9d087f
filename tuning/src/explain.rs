//! Finds what is known of a setting by its key.

use crate::rules::SUBJECTS;
use crate::setting::Setting;
use crate::wrap::labelled;

/// Near keys that an error names.
const NEAR_MAX: usize = 6;
/// Letters that may differ in a near key.
const DISTANCE_MAX: usize = 3;

/// Every setting, in the order of a check.
pub fn settings() -> Vec<&'static Setting> {
    SUBJECTS.iter().flat_map(|subject| subject.settings).copied().collect()
}

/// The settings that `key` names: one, or all below a prefix (`nic`).
///
/// # Errors
/// There is none; the sentence names those that come near.
pub fn find(key: &str) -> Result<Vec<&'static Setting>, String> {
    let key = key.trim().trim_end_matches(['.', '*']).replace('/', ".").to_lowercase();
    let is_below = |of: &str| {
        of.strip_prefix(&*key).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    let all = settings();
    let found: Vec<_> = all.iter().copied().filter(|setting| is_below(setting.key)).collect();
    if !found.is_empty() {
        return Ok(found);
    }
    let mut near: Vec<(usize, &str)> = all
        .iter()
        .filter_map(|setting| Some((nearness(&key, setting.key)?, setting.key)))
        .collect();
    near.sort_unstable();
    let near: Vec<_> = near.iter().take(NEAR_MAX).map(|(_, key)| *key).collect();
    if near.is_empty() {
        let mut groups: Vec<_> = all.iter().filter_map(|s| s.key.split('.').next()).collect();
        groups.sort_unstable();
        groups.dedup();
        return Err(format!(
            "\"{key}\" is not a setting that is looked at. A key, or the beginning of one, is needed: {}.",
            groups.join(", ")
        ));
    }
    Err(format!("\"{key}\" is not a setting that is looked at. Near it: {}.", near.join(", ")))
}

/// What is known of `settings` as text, no line longer than `width` columns.
pub fn render(settings: &[&Setting], width: usize) -> String {
    let mut text = String::new();
    for setting in settings {
        if !text.is_empty() {
            text.push('\n');
        }
        text += setting.key;
        text.push('\n');
        for (label, what) in
            [("why", setting.why), ("if left", setting.effect), ("source", setting.source)]
        {
            text += &labelled("  ", label, 7, what, width);
        }
    }
    text
}

/// How near `key` comes to a setting's key, less is nearer; `None` when it does not. The last word of a key counts as much as the whole.
fn nearness(key: &str, of: &str) -> Option<usize> {
    let last = of.rsplit('.').next().unwrap_or(of);
    if key.len() >= 3 && of.contains(key) {
        return Some(0);
    }
    if key.len() > 64 {
        return None;
    }
    let key_last = key.rsplit('.').next().unwrap_or(key);
    if key_last.len() >= 4 && (last.contains(key_last) || key_last.contains(last)) {
        return Some(1);
    }
    let distance = distance(key, of).min(distance(key_last, last) + usize::from(key != key_last));
    // Of a short word, fewer letters may differ.
    (distance <= DISTANCE_MAX.min(key_last.len() / 2)).then_some(1 + distance)
}

/// Letters to insert, leave out or replace to make one text of the other.
fn distance(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in other.bytes().enumerate() {
            let replaced = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(key: &str) -> Vec<&'static str> {
        find(key).unwrap().iter().map(|setting| setting.key).collect()
    }

    #[test]
    fn a_key_finds_its_setting_and_a_prefix_all_below_it() {
        assert_eq!(keys("net.core.rmem_max"), ["net.core.rmem_max"]);
        assert_eq!(keys("net/core/rmem_max"), ["net.core.rmem_max"]);
        assert_eq!(keys(" CPU.governor "), ["cpu.governor"]);
        assert!(keys("nic").contains(&"nic.rx_ring") && keys("nic").contains(&"nic.rps"));
        assert_eq!(keys("nic.*"), keys("nic"));
        assert!(keys("net.core").iter().all(|key| key.starts_with("net.core.")));
    }

    #[test]
    fn an_unknown_key_is_answered_with_near_ones() {
        for (key, near) in [
            ("rmem_max", "net.core.rmem_max"),
            ("net.core.rmem_mx", "net.core.rmem_max"),
            ("net.ipv4.rmem_max", "net.core.rmem_max"),
            ("governer", "cpu.governor"),
            ("nic.ring", "nic.rx_ring"),
            ("LimitNOFILE", ""),
            ("kernel.version", ""),
            ("", ""),
            ("quux", "kernel, net, nic, process"),
        ] {
            let refusal = find(key).unwrap_err();
            assert!(refusal.contains(near), "{key}: {refusal}");
        }
        assert!(find(&"x".repeat(1_000_000)).is_err());
    }

    #[test]
    fn explanations_keep_to_the_width() {
        for width in [40, 80, 160] {
            let text = render(&settings(), width);
            assert!(text.lines().all(|line| line.chars().count() <= width), "{text}");
            assert!(text.contains("net.core.rmem_max\n  why      The most that"), "{text}");
        }
    }
}
