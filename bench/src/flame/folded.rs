//! Folded stacks: `outermost;…;innermost COUNT`, one a line.

use super::tree::Tree;

/// Adds every stack. Empty lines and those that begin with `#` are passed over.
pub fn parse(text: &str, tree: &mut Tree) -> Result<(), String> {
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let stack = line.rsplit_once(' ').and_then(|(s, count)| Some((s, count.parse().ok()?)));
        let Some((stack, count)) = stack else {
            let number = number + 1;
            return Err(format!(
                "line {number} is no folded stack: it should end with a blank and a number of samples"
            ));
        };
        tree.add(stack.split(';').map(str::trim), count)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_may_hold_blanks_and_the_count_is_the_last_word() {
        let mut tree = Tree::default();
        parse("# made by hand\n\na b;<T as U>::f 12\r\n", &mut tree).unwrap();
        assert_eq!(tree.folded(), "a b;<T as U>::f 12\n");
    }

    #[test]
    fn a_line_without_a_count_is_named() {
        for bad in ["a;b", "a;b x", "a;b -1", "a;b 1.5", "a;b 99999999999999999999"] {
            let error = parse(&format!("a 1\n{bad}\n"), &mut Tree::default()).unwrap_err();
            assert!(error.contains("line 2") && error.contains("number of samples"), "{error}");
        }
    }
}
