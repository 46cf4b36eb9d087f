//! Names of kernel functions.

use std::fs::File;
use std::io::{BufRead, BufReader};

/// What stands for a kernel function whose name is not to be had.
pub(super) const UNKNOWN: &str = "kernel";

/// Names for kernel addresses that are known beforehand.
#[derive(Debug, Default)]
pub(super) struct KernelNames {
    /// Each once, rising.
    addresses: Vec<u64>,
    /// The function that begins at or before the address of the same place, and where.
    names: Vec<Option<(u64, String)>>,
}

impl KernelNames {
    /// Looks the addresses up in the running kernel. Where it hides where its functions are (`kernel.kptr_restrict`), none has a name.
    pub(super) fn look_up(addresses: Vec<u64>) -> Self {
        if addresses.is_empty() {
            return Self::default();
        }
        match File::open("/proc/kallsyms") {
            Ok(file) => Self::from_symbols(addresses, BufReader::new(file)),
            Err(_) => Self::default(),
        }
    }

    /// The list is long and not in the order of addresses, so it is read once and nothing is kept but what is asked for: a function is
    /// noted at the first address that it may hold, and passed on afterwards to all up to the next function.
    ///
    /// Lines are an address, the kind of symbol and the name: proc(5), `/proc/kallsyms`; nm(1) for the kinds.
    fn from_symbols(mut addresses: Vec<u64>, symbols: impl BufRead) -> Self {
        addresses.sort_unstable();
        addresses.dedup();
        let mut names: Vec<Option<(u64, String)>> = vec![None; addresses.len()];
        for line in symbols.lines().map_while(Result::ok) {
            let mut fields = line.split_ascii_whitespace();
            let (Some(start), Some(kind), Some(name)) =
                (fields.next(), fields.next(), fields.next())
            else {
                continue;
            };
            let Ok(start) = u64::from_str_radix(start, 16) else { continue };
            if start == 0 || !matches!(kind, "t" | "T" | "w" | "W") {
                continue;
            }
            let first = addresses.partition_point(|address| *address < start);
            let Some(best) = names.get_mut(first) else { continue };
            if best.as_ref().is_none_or(|(other, _)| *other < start) {
                *best = Some((start, name.to_owned()));
            }
        }
        for i in 1..names.len() {
            if names[i].is_none() {
                names[i] = names[i - 1].clone();
            }
        }
        Self { addresses, names }
    }

    /// The function that holds an address.
    pub(super) fn name_of(&self, address: u64) -> &str {
        let found =
            self.addresses.binary_search(&address).ok().and_then(|i| self.names[i].as_ref());
        found.map_or(UNKNOWN, |(_, name)| name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SYMBOLS: &str = "0000000000000000 A fixed_percpu_data\n\
        ffff000000002000 T second\n\
        ffff000000001000 T first\n\
        ffff000000001800 d not_code\n\
        ffff000000003000 t of_a_module\t[module]\n\
        broken line\n";

    #[test]
    fn an_address_belongs_to_the_last_function_that_begins_before_it() {
        let addresses =
            [0x0fff, 0x1000, 0x1fff, 0x2010, 0x2020, 0x3001].map(|low| 0xffff << 48 | low);
        let names = KernelNames::from_symbols(addresses.to_vec(), SYMBOLS.as_bytes());
        let found = addresses.map(|address| names.name_of(address));
        assert_eq!(found, ["kernel", "first", "first", "second", "second", "of_a_module"]);
        assert_eq!(names.name_of(1), "kernel", "nobody asked for it beforehand");
    }

    #[test]
    fn a_kernel_that_hides_its_addresses_has_no_names() {
        let hidden = "0000000000000000 T first\n0000000000000000 T second\n";
        let names = KernelNames::from_symbols(vec![0xffff << 48], hidden.as_bytes());
        assert_eq!(names.name_of(0xffff << 48), "kernel");
    }
}
