//! Flame graphs: stacks and how often each was seen, as one picture.
//!
//! [`folded`] and [`perf_script`] read what profilers write, into a [`tree`] of functions and the functions that they called; [`svg`] draws
//! it. Nothing here measures.

mod folded;
mod perf_script;
mod svg;
mod tree;

use std::fs::{self, File};
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};

use clap::Args;

use tree::Tree;

/// The longest input, bytes: twice what the server's own profile may have.
const INPUT_BYTES_MAX: u64 = 64 << 20;

/// A flame graph of stacks
#[derive(Args)]
pub struct Arguments {
    /// What stands above the picture
    #[arg(long, default_value = "CPU profile")]
    title: String,
    /// Writes the stacks there too, folded: `thread;function;function COUNT`, one a line
    #[arg(long, value_name = "FILE")]
    folded: Option<PathBuf>,
    /// Folded stacks, or what `perf script` writes; - is the standard input
    #[arg(default_value = "-")]
    file: PathBuf,
}

/// Draws to the standard output.
pub fn run(arguments: &Arguments) -> Result<(), String> {
    let text = read(&arguments.file)?;
    let tree = parse(&text).map_err(|error| format!("{}: {error}", arguments.file.display()))?;
    if let Some(path) = &arguments.folded {
        fs::write(path, tree.folded()).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    let written = io::stdout().lock().write_all(svg::draw(&tree, &arguments.title).as_bytes());
    written.map_err(|error| format!("the picture was not written: {error}"))
}

fn read(path: &Path) -> Result<String, String> {
    let named = |error: io::Error| format!("{}: {error}", path.display());
    let source: Box<dyn Read> = match path.as_os_str() == "-" {
        true => Box::new(io::stdin().lock()),
        false => Box::new(File::open(path).map_err(named)?),
    };
    let mut bytes = Vec::new();
    source.take(INPUT_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(named)?;
    if bytes.len() as u64 > INPUT_BYTES_MAX {
        let mebibytes = INPUT_BYTES_MAX >> 20;
        return Err(format!("{}: longer than {mebibytes} MiB: record less", path.display()));
    }
    // Names of threads and functions may be anything.
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Reads either form. In that of `perf script` the lines of a stack are indented under a line of their own.
fn parse(text: &str) -> Result<Tree, String> {
    let is_indented = |line: &str| line.starts_with([' ', '\t']) && !line.trim().is_empty();
    let mut tree = Tree::default();
    match text.lines().any(is_indented) {
        true => perf_script::parse(text, &mut tree)?,
        false => folded::parse(text, &mut tree)?,
    }
    if tree.samples() == 0 {
        return Err("there are no samples in it".to_owned());
    }
    Ok(tree)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_the_same_stacks_give_the_same_tree() {
        let folded = "a b;main;work 2\na b;main 1\n";
        let perf = "a b 7 1.5: 1 cpu-clock:\n\t 1a work+0x1 (/bin/x)\n\t 1b main+0x2 (/bin/x)\n\n\
                    a b 7 1.6: 1 cpu-clock:\n\t 1c main+0x3 (/bin/x)\n\n\
                    a b 7 1.7: 1 cpu-clock:\n\t 1a work+0x1 (/bin/x)\n\t 1b main+0x2 (/bin/x)\n";
        let (folded, perf) = (parse(folded).unwrap(), parse(perf).unwrap());
        assert_eq!(folded.folded(), perf.folded());
        assert_eq!(folded.folded(), "a b;main 1\na b;main;work 2\n");
    }

    #[test]
    fn what_holds_no_samples_is_refused() {
        for text in ["", "\n\n", "# only a comment\n", "a;b 0\n"] {
            assert!(parse(text).is_err_and(|error| error.contains("no samples")), "{text:?}");
        }
    }
}
