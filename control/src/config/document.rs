//! What is printed from the table of keys: the sample file and `docs/configuration.md`.

use std::fmt::Write as _;

use toml::de::DeTable;

use super::keys::{KEYS, Key};
use super::value::Value;

/// The default of `key` as a value.
///
/// # Panics
/// When the table holds a default that is not of the key's kind; a test reads every one.
pub(super) fn default_value(key: &Key) -> Value {
    let text = format!("v = {}", key.default);
    let parsed = DeTable::parse(&text).ok();
    let value = parsed.as_ref().and_then(|table| table.get_ref().get("v"));
    let value = value.map(|v| Value::from_toml(key.kind, v.get_ref()));
    match (key.path, value) {
        // rtcd's default depends on the machine; nothing here reads it.
        ("rtc.udp_sockets_count", _) => {
            Value::Int(100 * std::thread::available_parallelism().map_or(1, |n| n.get() as i64))
        }
        (_, Some(Ok(value))) => value,
        (path, _) => unreachable!("the default of {path} is of its kind"),
    }
}

/// A TOML file with every key, its text and its default.
pub fn sample() -> String {
    let mut out = String::from(
        "# Sluice's settings. Every key is shown with its default; what is left out keeps it.\n\
         # Order: defaults, this file, environment variables, flags of `sluice serve`.\n",
    );
    let mut table = "";
    for key in KEYS {
        let (parent, name) = key.path.rsplit_once('.').unwrap_or(("", key.path));
        if parent != table {
            table = parent;
            let _ = write!(out, "\n[{parent}]\n");
        }
        for line in wrapped(key.doc, 110) {
            let _ = writeln!(out, "# {line}");
        }
        let effect =
            if key.without_effect { " Accepted for rtcd's sake, without effect." } else { "" };
        let _ = writeln!(out, "# {}; {}.{effect}", key.env, key.kind.name());
        let _ = writeln!(out, "{name} = {}", key.default);
    }
    out
}

/// `docs/configuration.md`.
pub fn markdown() -> String {
    let mut out = String::from(INTRODUCTION);
    let mut table = "";
    for key in KEYS {
        let (parent, name) = key.path.rsplit_once('.').unwrap_or(("", key.path));
        if parent != table {
            table = parent;
            let _ = write!(
                out,
                "\n## `[{parent}]`\n\n| key | environment, flag | type | default \
                         | meaning |\n|---|---|---|---|---|\n"
            );
        }
        let flag = key.flag.map(|f| format!(", `--{f}`")).unwrap_or_default();
        let default = match key.path {
            "rtc.udp_sockets_count" => "100 × CPUs".to_owned(),
            _ => format!("`{}`", key.default),
        };
        let effect = if key.without_effect { " *No effect.*" } else { "" };
        let _ = writeln!(
            out,
            "| `{name}` | `{}`{flag} | {} | {default} | {}{effect} |",
            key.env,
            key.kind.name(),
            key.doc.replace('|', "\\|"),
        );
    }
    out
}

const INTRODUCTION: &str = "\
# Configuration

<!-- Printed by `sluice config --print-docs` from control/src/config/keys.rs;
     a test checks that it is current. -->

`sluice serve` needs no configuration. Settings come from, in this order, each over the one before:

1. the defaults below,
2. a TOML file: `--config FILE`, else `config/config.toml` in the working directory when it is there,
3. environment variables; one that is set but empty counts as set,
4. flags of `sluice serve`: those named below, and `--set KEY=VALUE` for every key.

`sluice config --print-default` prints a file with every key; `sluice config --check FILE` checks one. A value that cannot work is refused at start with the key,
where it was set, the value and what would be right; the exit status is 1. An unknown key in the file is named in the log and ignored.

The keys and variables of rtcd (`RTCD_*`) have rtcd's names, types, defaults and ranges, so that its file and its environment can be used as they are. Those marked
*No effect* are checked, named once in the log, and otherwise ignored. One default differs on purpose: `logger.enable_file` is false here, so that
starting without a configuration leaves no log file behind; under the name `rtcd` (a link in its place) it is true.
";

fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let last = lines.len() - 1;
        if lines[last].len() + word.len() + 1 > width && !lines[last].is_empty() {
            lines.push(word.to_owned());
        } else {
            if !lines[last].is_empty() {
                lines[last].push(' ');
            }
            lines[last].push_str(word);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::super::Settings;
    use super::*;

    #[test]
    fn the_sample_file_says_what_the_defaults_are() {
        let mut from_sample = Settings::defaults();
        from_sample.apply_file("sample", &sample()).expect("the sample is valid");
        assert!(from_sample.notices.is_empty(), "{:?}", from_sample.notices);
        let defaults = Settings::defaults();
        for key in KEYS.iter().filter(|k| k.path != "rtc.udp_sockets_count") {
            assert_eq!(from_sample.value(key.path), defaults.value(key.path), "{}", key.path);
        }
    }
}
