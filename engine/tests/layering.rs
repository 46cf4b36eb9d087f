//! The rules of the source tree that no compiler checks: who may use whom, and what a core may not touch.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The parts of the engine from the lowest to the highest: each uses only what stands before it.
const LAYERS: &[&str] = &[
    "ids",
    "prefetch",
    "slots",
    "clock",
    "route",
    "config",
    "drop_reason",
    "session_error",
    "command_error",
    "metrics",
    "wire",
    "egress",
    "ice",
    "dtls",
    "sctp",
    "srtp",
    "rtp",
    "bwe",
    "relay",
    "session",
    "call",
    "io",
    "shard",
    "testing",
];

/// Folders whose code is told the time and given bytes, and does nothing by itself.
const CORES: &[&str] = &[
    "wire", "buffer", "egress", "ice", "dtls", "sctp", "srtp", "rtp", "bwe", "relay", "session",
    "call",
];

/// Who uses something that stands after it: (file or folder, what it names, why).
const UPWARD: &[(&str, &str, &str)] = &[
    ("dtls/", "srtp", "what a handshake leaves is the keys of SRTP"),
    (
        "session/timers.rs",
        "call",
        "a subscriber's sender reports are dated by the clocks of tracks",
    ),
];

/// Files beyond [`LINES_MAX`] and why they are not split.
const LONG: &[(&str, &str)] = &[
    ("engine/src/io/tcp.rs", "a third of it is tests, the rest one connection's life"),
    ("engine/src/wire/stun.rs", "reader and writer of one format, and half of it tests"),
    ("engine/tests/io.rs", "one harness over both back-ends, and a short test for each behaviour"),
    ("engine/tests/it/world.rs", "one simulation, which every test of it reads as a whole"),
];

const LINES_MAX: usize = 800;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_path_buf()
}

/// All Rust files below `folder`, as path from the workspace and text.
fn sources(folder: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder of sources") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(root()).expect("below the root").to_string_lossy();
                let text = std::fs::read_to_string(&path).expect("a readable source");
                found.push((name.into_owned(), text));
            }
        }
    }
    assert!(!found.is_empty(), "{folder} has sources");
    found.sort();
    found
}

/// The engine's files as (path below `src`, code without comments and tests).
fn engine_code() -> Vec<(String, String)> {
    let all = sources("engine/src").into_iter().map(|(path, text)| {
        let path = path.strip_prefix("engine/src/").expect("below src").to_owned();
        (path, code_of(&text))
    });
    all.filter(|(path, _)| !path.ends_with("/tests.rs")).collect()
}

/// What is left of a source without line comments and without its tests, which stand at its end.
fn code_of(text: &str) -> String {
    let text = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap_or(text);
    let lines = text.lines().map(|line| line.split("//").next().unwrap_or(line));
    lines.collect::<Vec<_>>().join("\n")
}

/// The layer that a file belongs to: its folder, or itself.
fn layer_of(path: &str) -> &str {
    let first = path.split('/').next().unwrap_or(path);
    first.strip_suffix(".rs").unwrap_or(first)
}

/// Every `crate::name` in the code.
fn uses(code: &str) -> BTreeSet<&str> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let after = code.split("crate::").skip(1);
    after.map(|rest| rest.split(|c| !is_word(c)).next().unwrap_or("")).collect()
}

/// Whether `word` stands in the code by itself, not as a part of a longer name.
fn names(code: &str, word: &str) -> bool {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    code.match_indices(word).any(|(at, _)| {
        let before = code[..at].chars().next_back().is_some_and(is_word);
        let after = code[at + word.len()..].chars().next().is_some_and(is_word);
        !before && !after
    })
}

/// Whether the code has an unsafe block, function, implementation or attribute.
fn is_unsafe(code: &str) -> bool {
    ["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern", "[unsafe("]
        .iter()
        .any(|form| code.contains(form))
}

#[test]
fn a_layer_uses_only_what_stands_above_it() {
    let place = |layer: &str| LAYERS.iter().position(|known| *known == layer);
    let mut excused = BTreeSet::new();
    for (path, code) in engine_code().iter().filter(|(path, _)| path != "lib.rs") {
        let layer = layer_of(path);
        let own = place(layer).unwrap_or_else(|| panic!("{path}: give {layer} a place in LAYERS"));
        // Grouped imports would hide what is named; rustfmt leaves `use crate::{` as it is.
        assert!(!code.contains("crate::{"), "{path}: import from each layer by itself");
        for used in uses(code) {
            let other = place(used).unwrap_or_else(|| panic!("{path}: unknown layer {used}"));
            if other <= own {
                continue;
            }
            let excuse =
                UPWARD.iter().position(|(who, what, _)| path.starts_with(who) && *what == used);
            match excuse {
                Some(at) => excused.insert(at),
                None => panic!("{path} uses {used}, which stands below it"),
            };
        }
    }
    assert_eq!(excused.len(), UPWARD.len(), "an exception is no longer needed");
}

#[test]
fn every_layer_is_in_the_map() {
    let map = std::fs::read_to_string(root().join("engine/src/lib.rs")).expect("lib.rs");
    let (doc, code) = map.split_at(map.find("pub mod").expect("modules"));
    for layer in LAYERS {
        assert!(code.contains(&format!("pub mod {layer};")), "{layer} is no module");
        assert!(
            doc.contains(&format!("[`{layer}`]")) || *layer == "testing",
            "{layer} is not in the map"
        );
    }
    let order: Vec<_> = code.lines().filter_map(|line| line.strip_prefix("pub mod ")).collect();
    assert_eq!(order.len(), LAYERS.len(), "a module without a place in LAYERS");
}

#[test]
fn cores_touch_no_socket_thread_or_clock() {
    let forbidden = [
        "UdpSocket",
        "TcpStream",
        "TcpListener",
        "socket2",
        "io_uring",
        "libc",
        "tokio",
        "thread",
        "Mutex",
        "SystemTime",
        "Instant::now",
        "clock::now",
        "clock::wall_clock",
        "std::fs",
        "std::env",
        "println",
    ];
    let mut seen = 0;
    for (path, code) in engine_code() {
        if !CORES.contains(&layer_of(&path)) {
            continue;
        }
        seen += 1;
        for word in forbidden {
            assert!(!names(&code, word), "{path} names {word}, and it is part of a core");
        }
    }
    assert!(seen > 30, "only {seen} files of cores were found");
}

#[test]
fn only_io_and_the_prefetch_may_be_unsafe() {
    for (path, code) in engine_code() {
        let may = ["io", "prefetch"].contains(&layer_of(&path));
        assert!(may || !is_unsafe(&code), "engine/src/{path} is unsafe");
        assert!(may || !names(&code, "unsafe_code"), "engine/src/{path} allows unsafe code");
    }
    for folder in ["control/src", "tuning/src"] {
        for (path, text) in sources(folder) {
            assert!(!is_unsafe(&code_of(&text)), "{path} is unsafe");
        }
    }
}

/// The names of a manifest's dependencies, of all kinds, without those on the package itself.
fn dependencies(member: &str) -> BTreeSet<String> {
    let manifest = root().join(member).join("Cargo.toml");
    let manifest = std::fs::read_to_string(manifest).expect("a manifest");
    let mut inside = false;
    let mut found = BTreeSet::new();
    for line in manifest.lines() {
        if let Some(section) = line.strip_prefix('[') {
            inside = section.contains("dependencies");
            assert!(!section.contains("dependencies."), "{member}: one line per dependency");
        } else if inside {
            let name: String = line.chars().take_while(|c| !"=. \t".contains(*c)).collect();
            found.insert(name);
        }
    }
    found.remove("");
    found.remove(&format!("sluice-{member}"));
    found
}

#[test]
fn arrows_between_members_never_turn_round() {
    let ours = |member: &str| -> Vec<String> {
        dependencies(member).into_iter().filter(|name| name.starts_with("sluice-")).collect()
    };
    assert_eq!(ours("tuning"), [""; 0]);
    assert_eq!(ours("engine"), [""; 0]);
    let control = ours("control");
    assert!(control.contains(&"sluice-engine".to_owned()));
    assert!(!control.contains(&"sluice-bench".to_owned()));
    assert!(!ours("bench").contains(&"sluice-control".to_owned()));
    let others = ["sluice_control", "sluice_bench", "axum"];
    // What was there before tuning lies in a file, and a check is read by programs; packets are neither.
    let and_text = ["sluice_control", "sluice_bench", "axum", "serde", "serde_json"];
    for (folder, banned) in [("engine/src", &and_text[..]), ("tuning/src", &others[..])] {
        for (path, text) in sources(folder) {
            for other in banned {
                assert!(!names(&code_of(&text), other), "{path} names {other}");
            }
        }
    }
}

#[test]
fn nothing_comes_from_a_repository() {
    let lock = std::fs::read_to_string(root().join("Cargo.lock")).expect("a lock file");
    assert!(!lock.contains("git+"), "Cargo.lock has a git dependency");
    for member in [".", "engine", "control", "tuning", "bench"] {
        let manifest = root().join(member).join("Cargo.toml");
        let manifest = std::fs::read_to_string(manifest).expect("a manifest");
        let git = manifest.lines().find(|line| line.contains("git =") || line.contains("git="));
        assert_eq!(git, None, "{member}/Cargo.toml");
    }
}

#[test]
fn long_files_have_a_reason() {
    let mut long = BTreeSet::new();
    for member in ["engine", "control", "tuning", "bench"] {
        for (path, text) in sources(member) {
            let lines = text.lines().count();
            if lines > LINES_MAX {
                let listed = LONG.iter().any(|(known, _)| *known == path);
                assert!(listed, "{path} has {lines} lines: split it, or say in LONG why not");
                long.insert(path);
            }
        }
    }
    for (path, _) in LONG {
        assert!(long.contains(*path), "{path} is no longer long: take it off the list");
    }
}

#[test]
fn the_helpers_here_see_what_they_look_for() {
    let source = "use crate::io::X; // crate::shard\nfn f() { unsafe { g() } }\n#[cfg(test)]\nmod tests {\nlibc";
    let code = code_of(source);
    assert_eq!(uses(&code), BTreeSet::from(["io"]));
    assert!(is_unsafe(&code) && !is_unsafe("style 'unsafe-inline'"));
    assert!(!names(&code, "libc") && names("a::libc::b", "libc") && !names("libc_x", "libc"));
    assert_eq!((layer_of("io/tcp.rs"), layer_of("ids.rs")), ("io", "ids"));
}
