//! From addresses to names.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use super::kernel::KernelNames;
use super::maps::Maps;

/// Characters of a name that are kept: those of some generic functions go on for thousands.
const NAME_CHARS_MAX: usize = 200;

/// One address of a stack.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Place {
    /// In the kernel.
    Kernel(u64),
    /// Where the program was.
    Inner(u64),
    /// Where the program goes on when a function returns: after the call.
    Outer(u64),
}

/// The places of a stack, from the innermost out. Of marks, only those of the kernel and the program stand for code that can be named.
///
/// Source: `enum perf_callchain_context` of linux/perf_event.h.
fn places(stack: &[u64]) -> impl Iterator<Item = Place> {
    const KERNEL: u64 = -128_i64 as u64;
    const USER: u64 = -512_i64 as u64;
    const FIRST_MARK: u64 = -4095_i64 as u64;
    let mut mark = 0;
    let mut is_first = false;
    stack.iter().filter_map(move |&address| match (address, mark) {
        (FIRST_MARK.., _) => {
            (mark, is_first) = (address, true);
            None
        }
        (_, KERNEL) => Some(Place::Kernel(address)),
        (_, USER) => Some(match std::mem::take(&mut is_first) {
            true => Place::Inner(address),
            false => Place::Outer(address),
        }),
        _ => None,
    })
}

/// Names of everything in this process and its kernel.
pub(super) struct Symbols {
    maps: Maps,
    kernel: KernelNames,
    /// Names of the program's places, inlined functions after those that they stand in, each after a semicolon.
    known: HashMap<Place, Option<Arc<str>>>,
}

impl Symbols {
    /// For these stacks.
    pub(super) fn of<'a>(stacks: impl Iterator<Item = &'a [u64]>) -> Self {
        let in_kernel = |place| match place {
            Place::Kernel(address) => Some(address),
            _ => None,
        };
        let mut addresses: Vec<u64> = stacks.flat_map(places).filter_map(in_kernel).collect();
        addresses.sort_unstable();
        addresses.dedup();
        let kernel = KernelNames::look_up(addresses);
        Self { maps: Maps::read_own(), kernel, known: HashMap::new() }
    }

    /// Appends the functions of a stack to `line`, from the outermost in, each after a semicolon. The stack ends where an address is none
    /// of code: it was taken from a register that a function without frame pointers used for something else.
    pub(super) fn append(&mut self, stack: &[u64], line: &mut String) {
        let mut names: Vec<Arc<str>> = Vec::new();
        for place in places(stack) {
            let name = match place {
                Place::Kernel(address) => {
                    Some(format!("{}_[k]", tidy(self.kernel.name_of(address))).into())
                }
                Place::Inner(_) | Place::Outer(_) => {
                    let maps = &self.maps;
                    self.known.entry(place).or_insert_with(|| name_of(place, maps)).clone()
                }
            };
            match name {
                // Without names one such line says as much as ten.
                Some(name) if is_unknown_kernel(&name) && names.last() == Some(&name) => {}
                Some(name) => names.push(name),
                None => break,
            }
        }
        for name in names.iter().rev() {
            line.push(';');
            line.push_str(name);
        }
    }
}

impl Drop for Symbols {
    fn drop(&mut self) {
        // It holds tables of every function that was named, some tens of megabytes.
        backtrace::clear_symbol_cache();
    }
}

fn is_unknown_kernel(name: &str) -> bool {
    name.strip_suffix("_[k]") == Some(super::kernel::UNKNOWN)
}

/// The functions at a place of the program; its file where they are not known, `None` where there is no code.
fn name_of(place: Place, maps: &Maps) -> Option<Arc<str>> {
    // `resolve` takes what stands on a stack, the address after a call, and looks at the byte before it.
    let after = match place {
        Place::Kernel(_) => return None,
        Place::Inner(address) => address.checked_add(1)?,
        Place::Outer(address) => address,
    };
    let owner = maps.owner_of(after.checked_sub(1)?)?;
    let mut names = Vec::new();
    backtrace::resolve(std::ptr::without_provenance_mut(after as usize), |symbol| {
        let Some(name) = symbol.name() else { return };
        names.push(tidy(&qualified(&format!("{name:#}"), symbol.filename())));
    });
    // Inlined functions come before those that they stand in.
    names.reverse();
    Some(match names.is_empty() {
        true => tidy(&format!("[{owner}]")).into(),
        false => names.join(";").into(),
    })
}

/// A name that says where the function stands. Line tables have bare names (`wait<Uring>`), which get the module that their file is
/// (`engine::io::uring::wait`) in place of types; whole paths stay as they are.
fn qualified(name: &str, file: Option<&Path>) -> String {
    let bare = name.split('<').next().unwrap_or(name);
    let file = file.filter(|file| file.extension().is_some_and(|extension| extension == "rs"));
    match file.and_then(module_of) {
        Some(module) if !bare.is_empty() && !bare.contains("::") => format!("{module}::{bare}"),
        _ => name.to_owned(),
    }
}

/// The module that a file is, under the name of its crate's folder without the version; `None` for files outside of `src`.
fn module_of(file: &Path) -> Option<String> {
    let parts: Vec<&str> = file.iter().map(|part| part.to_str().unwrap_or("")).collect();
    let src = parts.iter().rposition(|part| *part == "src").filter(|src| *src > 0)?;
    let folder = parts[src - 1];
    let is_version = |rest: &str| rest.starts_with(|c: char| c.is_ascii_digit());
    let end = folder.match_indices('-').find(|(at, _)| is_version(&folder[at + 1..]));
    let mut module = folder[..end.map_or(folder.len(), |(at, _)| at)].replace('-', "_");
    for part in &parts[src + 1..] {
        let part = part.strip_suffix(".rs").unwrap_or(part);
        if !matches!(part, "mod" | "lib" | "main") {
            module.push_str("::");
            module.push_str(part);
        }
    }
    Some(module)
}

/// A name as one field of a line.
pub(super) fn tidy(name: &str) -> String {
    let allowed = |c: char| match c {
        ';' => ':',
        c if c.is_control() => ' ',
        c => c,
    };
    let mut tidy: String = name.chars().take(NAME_CHARS_MAX).map(allowed).collect();
    if name.chars().nth(NAME_CHARS_MAX).is_some() {
        tidy.push('…');
    }
    tidy
}

#[cfg(test)]
mod tests {
    use super::*;

    const KERNEL: u64 = -128_i64 as u64;
    const USER: u64 = -512_i64 as u64;
    const GUEST: u64 = -2048_i64 as u64;

    #[test]
    fn marks_tell_the_kernel_from_the_program() {
        let found: Vec<_> = places(&[KERNEL, 1, 2, USER, 3, 4, GUEST, 5]).collect();
        let expected = [Place::Kernel(1), Place::Kernel(2), Place::Inner(3), Place::Outer(4)];
        assert_eq!(found, expected);
        assert_eq!(places(&[1, 2]).count(), 0, "without a mark nobody knows whose they are");
    }

    #[inline(never)]
    fn a_function_of_ours() -> u64 {
        std::hint::black_box(1)
    }

    #[test]
    fn functions_are_named_from_the_outermost_in_and_garbage_ends_the_stack() {
        assert_eq!(a_function_of_ours(), 1);
        let inner = a_function_of_ours as fn() -> u64 as usize as u64;
        let outer = tidy as fn(&str) -> String as usize as u64 + 1;
        let stack = [USER, inner, outer, 7, inner];
        let mut symbols = Symbols::of(std::iter::once(&stack[..]));
        let mut line = "thread".to_owned();
        symbols.append(&stack, &mut line);
        let names: Vec<_> = line.split(';').collect();
        assert!(names[1].ends_with("::symbols::tidy"), "{line}");
        assert!(names.last().is_some_and(|n| n.ends_with("::a_function_of_ours")), "{line}");
        assert_eq!(line.matches("a_function_of_ours").count(), 1, "{line}");
    }

    #[test]
    fn kernel_functions_are_marked_and_unknown_ones_are_one() {
        let stack = [KERNEL, 1, 2, 3];
        let mut symbols = Symbols {
            maps: Maps::default(),
            kernel: KernelNames::default(),
            known: HashMap::new(),
        };
        let mut line = String::new();
        symbols.append(&stack, &mut line);
        assert_eq!(line, ";kernel_[k]");
    }

    #[test]
    fn bare_names_get_the_module_that_their_file_is() {
        let cases = [
            ("wait<Uring>", "/x/sluice/engine/src/io/uring.rs", "engine::io::uring::wait"),
            ("{closure#1}<u8>", "/x/io-uring-0.7.15/src/lib.rs", "io_uring::{closure#1}"),
            ("drop<T>", "/rustc/0a1b/library/core/src/mem/mod.rs", "core::mem::drop"),
            ("std::io::read<T>", "/rustc/0a1b/library/std/src/io/mod.rs", "std::io::read<T>"),
            ("<A as B>::f", "/x/a/src/b.rs", "<A as B>::f"),
            ("aes_seal", "/x/aws-lc-sys-0.1.0/src/e_aes.c", "aes_seal"),
            ("main", "src/main.rs", "main"),
        ];
        for (name, file, expected) in cases {
            assert_eq!(qualified(name, Some(Path::new(file))), expected);
        }
        assert_eq!(qualified("wait<Uring>", None), "wait<Uring>");
    }

    #[test]
    fn a_name_cannot_break_the_line() {
        assert_eq!(tidy("<[u8; 4] as A>::f\n"), "<[u8: 4] as A>::f ");
        assert_eq!(tidy(&"x".repeat(1_000)).chars().count(), NAME_CHARS_MAX + 1);
    }
}
