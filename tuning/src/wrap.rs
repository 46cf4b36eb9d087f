//! Text in columns.

/// `text` in lines of at most `width` columns, cut at spaces; a word that is longer is cut where it must be. At least one line.
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let width = width.max(1);
    let mut lines = vec![String::new()];
    let mut taken = 0;
    for word in text.split_whitespace() {
        let mut rest: Vec<char> = word.chars().collect();
        if taken > 0 && taken + 1 + rest.len() > width {
            lines.push(String::new());
            taken = 0;
        }
        while rest.len() > width {
            let after = rest.split_off(width);
            push(&mut lines, taken, &rest);
            lines.push(String::new());
            (rest, taken) = (after, 0);
        }
        taken += push(&mut lines, taken, &rest);
    }
    lines
}

fn push(lines: &mut [String], taken: usize, word: &[char]) -> usize {
    let space = usize::from(taken > 0);
    if let Some(line) = lines.last_mut() {
        line.extend(std::iter::repeat_n(' ', space).chain(word.iter().copied()));
    }
    space + word.len()
}

/// A command in lines of at most `width` columns, which a shell takes as one: each but the last ends with a backslash.
pub fn wrap_command(command: &str, width: usize) -> Vec<String> {
    if columns(command) <= width {
        return vec![command.to_owned()];
    }
    let mut lines = wrap(command, width.saturating_sub(2));
    let last = lines.len() - 1;
    lines[..last].iter_mut().for_each(|line| line.push_str(" \\"));
    lines
}

/// `what` under a label: `why  The most that…`, wrapped beside it. `indent` goes before the label, which takes `label_width`.
pub fn labelled(indent: &str, label: &str, label_width: usize, what: &str, width: usize) -> String {
    let left = columns(indent) + label_width + 2;
    beside(indent, label, label_width, &wrap(what, width.saturating_sub(left)))
}

/// Lines beside a label, which stands before the first.
pub fn beside(indent: &str, label: &str, label_width: usize, lines: &[String]) -> String {
    let mut text = String::new();
    for (at, line) in lines.iter().enumerate() {
        let label = if at == 0 { label } else { "" };
        let line = format!("{indent}{}  {line}", pad(label, label_width));
        text += line.trim_end();
        text.push('\n');
    }
    text
}

/// With spaces up to `width` columns.
pub fn pad(text: &str, width: usize) -> String {
    let missing = width.saturating_sub(columns(text));
    format!("{text}{}", " ".repeat(missing))
}

/// Columns that a text takes. All that is written here is one column wide for each character.
pub fn columns(text: &str) -> usize {
    text.chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut_at_spaces_and_long_words_where_they_must() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("µs abcdefghij x", 4), ["µs", "abcd", "efgh", "ij x"]);
        assert_eq!(wrap("", 10), [""]);
        assert_eq!(wrap("ab", 0), ["a", "b"]);
    }

    #[test]
    fn a_cut_command_is_still_one_command() {
        assert_eq!(wrap_command("ethtool -G eth0 rx 4096", 40), ["ethtool -G eth0 rx 4096"]);
        assert_eq!(wrap_command("ethtool -G eth0 rx 4096", 14), ["ethtool -G \\", "eth0 rx 4096"]);
    }

    #[test]
    fn labels_stand_beside_what_they_name() {
        let text = labelled("  ", "why", 5, "one two three", 16);
        assert_eq!(text, "  why    one two\n         three\n");
    }
}
