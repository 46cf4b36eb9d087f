//! Arguments as operators of rtcd write them: without a subcommand, and with one dash.

use std::ffi::{OsStr, OsString};
use std::path::Path;

/// Whether the command is called `rtcd`, as a link in its place is.
pub fn is_rtcd(arguments: &[OsString]) -> bool {
    let name = arguments.first().and_then(|path| Path::new(path).file_name());
    name == Some(OsStr::new("rtcd"))
}

/// Puts `serve` in where no subcommand stands, and a second dash before `-config`, as Go's flags may
/// be written with one.
pub fn completed(mut arguments: Vec<OsString>) -> Vec<OsString> {
    for argument in arguments.iter_mut().skip(1) {
        let text = argument.to_string_lossy();
        if text == "-config" || text.starts_with("-config=") {
            let mut dashed = OsString::from("-");
            dashed.push(&*argument);
            *argument = dashed;
        }
    }
    let first = arguments.get(1).map(|argument| argument.to_string_lossy());
    let of_sluice = first.is_some_and(|argument| {
        !argument.starts_with('-') || ["-h", "--help", "-V", "--version"].contains(&&*argument)
    });
    if !of_sluice && !arguments.is_empty() {
        arguments.insert(1, "serve".into());
    }
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(text: &str) -> Vec<OsString> {
        text.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn the_command_of_rtcd_becomes_ours() {
        for (given, meant) in [
            ("sluice", "sluice serve"),
            ("sluice --shards 2", "sluice serve --shards 2"),
            ("sluice serve -config a", "sluice serve --config a"),
            ("/opt/rtcd/bin/rtcd -config a.toml", "/opt/rtcd/bin/rtcd serve --config a.toml"),
            ("rtcd -config=a.toml", "rtcd serve --config=a.toml"),
            ("rtcd --config a.toml", "rtcd serve --config a.toml"),
            ("sluice config --check a", "sluice config --check a"),
            ("sluice --help", "sluice --help"),
            ("sluice -V", "sluice -V"),
            ("sluice sevre", "sluice sevre"),
        ] {
            assert_eq!(completed(arguments(given)), arguments(meant), "{given}");
        }
    }

    #[test]
    fn a_link_called_rtcd_is_known_by_its_name() {
        assert!(is_rtcd(&arguments("/opt/rtcd/bin/rtcd -config x")));
        assert!(is_rtcd(&arguments("rtcd")));
        assert!(!is_rtcd(&arguments("/opt/rtcd/bin/sluice")));
        assert!(!is_rtcd(&[]));
    }
}
