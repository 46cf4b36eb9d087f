//! Which parts of the address space hold code, and of which file.

/// A stretch of executable memory.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Mapping {
    start: u64,
    end: u64,
    /// The last part of the file's path, or what the kernel calls it; may be empty.
    name: String,
}

/// All executable memory of a process.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Maps(Vec<Mapping>);

impl Maps {
    /// Of this process; of none when `/proc` is not there.
    pub(super) fn read_own() -> Self {
        Self::parse(&std::fs::read_to_string("/proc/self/maps").unwrap_or_default())
    }

    /// Source: proc_pid_maps(5). Lines are in the order of addresses.
    fn parse(text: &str) -> Self {
        let mapping = |line: &str| {
            let mut fields = line.split_ascii_whitespace();
            let (start, end) = fields.next()?.split_once('-')?;
            let is_code = fields.next()?.contains('x');
            let path = fields.nth(3).unwrap_or("");
            is_code.then_some(Mapping {
                start: u64::from_str_radix(start, 16).ok()?,
                end: u64::from_str_radix(end, 16).ok()?,
                name: path.rsplit('/').next().unwrap_or("").to_owned(),
            })
        };
        Self(text.lines().filter_map(mapping).collect())
    }

    /// Whose code stands at an address; `None` where there is none.
    pub(super) fn owner_of(&self, address: u64) -> Option<&str> {
        let after = self.0.partition_point(|mapping| mapping.start <= address);
        let mapping = self.0.get(after.checked_sub(1)?)?;
        (address < mapping.end).then_some(mapping.name.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_has_an_owner_and_data_has_none() {
        let maps = Maps::parse(
            "1000-2000 r--p 00000000 fe:00 10  /usr/bin/sluice\n\
             2000-3000 r-xp 00001000 fe:00 10  /usr/bin/sluice\n\
             3000-4000 rw-p 00002000 fe:00 10  /usr/bin/sluice\n\
             5000-6000 r-xp 00000000 00:00 0 \n\
             7000-8000 r-xp 00000000 00:00 0   [vdso]\nnonsense\n",
        );
        let owners = [0xfff, 0x1fff, 0x2000, 0x2fff, 0x3000, 0x5000, 0x7fff, 0x8000]
            .map(|address| maps.owner_of(address));
        let sluice = Some("sluice");
        assert_eq!(owners, [None, None, sluice, sluice, None, Some(""), Some("[vdso]"), None]);
    }

    #[test]
    fn this_program_has_code() {
        let here = code_has_an_owner_and_data_has_none as fn() as usize as u64;
        assert!(Maps::read_own().owner_of(here).is_some_and(|name| !name.is_empty()));
    }
}
