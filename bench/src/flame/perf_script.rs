//! What `perf script` writes: for each sample a line with the thread and the time, then its stack from the innermost function out, one
//! indented line each, then an empty line.
//!
//! Source: perf-script(1).

use super::tree::Tree;

/// Adds every sample, each with the weight of one.
pub fn parse(text: &str, tree: &mut Tree) -> Result<(), String> {
    let mut thread: Option<&str> = None;
    let mut stack: Vec<String> = Vec::new();
    // A line of no stack ends the one before; so does the end.
    for (number, line) in text.lines().chain([""]).enumerate() {
        if line.starts_with([' ', '\t']) && !line.trim().is_empty() && thread.is_some() {
            stack.extend(function(line.trim()));
            continue;
        }
        if let Some(thread) = thread.take() {
            tree.add(std::iter::once(thread).chain(stack.iter().rev().map(String::as_str)), 1)?;
            stack.clear();
        }
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        thread = Some(thread_of(line).ok_or_else(|| {
            let number = number + 1;
            format!("line {number} is neither a sample of perf script nor part of a stack")
        })?);
    }
    Ok(())
}

/// The thread's name, in front of its id, perhaps its CPU, and the time: `tokio rt 17/23 [001] 12.345678: …`. The name may hold anything.
fn thread_of(line: &str) -> Option<&str> {
    let is_time = |word: &str| {
        let seconds = word.strip_suffix(':').and_then(|word| word.split_once('.'));
        seconds.is_some_and(|(whole, part)| is_number(whole) && is_number(part))
    };
    let time = line.split_ascii_whitespace().find(|word| is_time(word))?;
    let before = line[..line.find(time)?].trim_end();
    let (rest, last) = before.rsplit_once(char::is_whitespace)?;
    let is_cpu = last.starts_with('[') && last.ends_with(']');
    let before = if is_cpu { rest.trim_end() } else { before };
    let (name, id) = before.rsplit_once(char::is_whitespace)?;
    id.split('/').all(is_number).then(|| name.trim())
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// The function of a line `7f12ab symbol+0x1c (/path/of/file)`. Without a symbol it is the file, and nothing where that is not known
/// either: such an address was taken from a register that a function without frame pointers used for something else.
fn function(line: &str) -> Option<String> {
    let (address, rest) = line.split_once(' ')?;
    let (symbol, file) = rest.rsplit_once(" (")?;
    let file = file.strip_suffix(')')?;
    let symbol = match symbol.rsplit_once("+0x") {
        Some((symbol, offset)) if offset.bytes().all(|b| b.is_ascii_hexdigit()) => symbol,
        _ => symbol,
    }
    .trim();
    let is_kernel = file.starts_with("[kernel")
        || file.starts_with("[guest.kernel")
        || is_module(file, address);
    Some(match (symbol, file) {
        ("[unknown]", "[unknown]") => return None,
        ("[unknown]", _) if is_kernel => "kernel_[k]".to_owned(),
        ("[unknown]", _) => format!("[{}]", file.rsplit('/').next().unwrap_or(file)),
        _ if is_kernel => format!("{symbol}_[k]"),
        _ => tidy(symbol),
    })
}

/// Whether a line is of a kernel module, which has a name in brackets as the vdso has; kernel addresses are those of the upper half.
fn is_module(file: &str, address: &str) -> bool {
    let is_upper = address.len() == 16 && address.starts_with('f');
    is_upper && (file.starts_with('[') || file.ends_with(".ko") || file.ends_with(".ko.xz"))
}

/// A name without what parts functions in folded stacks.
fn tidy(symbol: &str) -> String {
    symbol.replace(';', ":")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_of_every_form_are_read() {
        let text = "# a comment\n\
            shard-0  3323 11825.848074:   10101010 cpu-clock:ppp: \n\
            \tffffffff81234567 udp_sendmsg+0x1c ([kernel.kallsyms])\n\
            \tffffffffc0123456 veth_xmit+0x1 ([veth])\n\
            \t          167158 __strcmp_evex+0x38 (/usr/lib/libc.so.6)\n\
            \t           1af00 <a::B as c::D<(u8, [u8; 4])>>::e+0x12 (/opt/my programs/sluice)\n\
            \t           1af08 inlined_one (inlined)\n\
            \t            eecd [unknown] (/usr/bin/dash)\n\
            \t    55f18fe10bc0 [unknown] ([unknown])\n\
            \n\
            tokio rt w 17/23 [001]  1.000000:          1 cpu-clock: \n\
            \n\
            a:b 1.5: 9 9 2.000000: 1 cpu-clock: \n\
            \t    10 main+0x1 (/bin/x)\n";
        let mut tree = Tree::default();
        let error = parse(text, &mut tree).unwrap_err();
        assert!(error.contains("line 13"), "{error}");
        let text = text.replace("a:b 1.5: 9 9", "a:b 9");
        let mut tree = Tree::default();
        parse(&text, &mut tree).unwrap();
        assert_eq!(
            tree.folded(),
            "a:b;main 1\n\
             shard-0;[dash];inlined_one;<a::B as c::D<(u8, [u8: 4])>>::e;__strcmp_evex;veth_xmit_[k];udp_sendmsg_[k] 1\n\
             tokio rt w 1\n"
        );
    }

    #[test]
    fn other_text_is_refused_with_its_line() {
        let error = parse("good 1 1.0: 1 x:\n\t 1 f (g)\n\nwhat is this\n", &mut Tree::default());
        assert!(error.is_err_and(|error| error.contains("line 4")));
    }
}
