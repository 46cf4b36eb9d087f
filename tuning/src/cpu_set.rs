//! Sets of CPUs in the two forms that the kernel writes them: lists (`0-3,8`) and masks (`ff,00000101`).

use std::collections::BTreeSet;
use std::fmt;

use serde::{Serialize, Serializer};

/// Numbers of CPUs, in order.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CpuSet(pub BTreeSet<u32>);

/// More than any kernel is built for; a list that names more is no list.
const CPUS_MAX: u32 = 8_192;

impl CpuSet {
    /// Reads a list such as `0-3,8`; the empty text is the empty set. `None` when it is no list.
    pub fn from_list(list: &str) -> Option<Self> {
        let mut cpus = BTreeSet::new();
        for range in list.trim().split(',').filter(|range| !range.is_empty()) {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
            if first > last || last >= CPUS_MAX {
                return None;
            }
            cpus.extend(first..=last);
        }
        Some(Self(cpus))
    }

    /// Reads a mask of 32-bit groups in hexadecimal, the highest first, such as `ff,00000101`. `None` when it is no mask.
    pub fn from_mask(mask: &str) -> Option<Self> {
        let mut cpus = BTreeSet::new();
        for (group, digits) in (0..).zip(mask.trim().rsplit(',')) {
            if digits.is_empty() || digits.len() > 8 || group >= CPUS_MAX / 32 {
                return None;
            }
            let bits = u32::from_str_radix(digits, 16).ok()?;
            cpus.extend((0..32).filter(|bit| bits >> bit & 1 == 1).map(|bit| group * 32 + bit));
        }
        Some(Self(cpus))
    }

    /// The set as a mask, as the kernel takes it.
    pub fn to_mask(&self) -> String {
        let groups = self.0.last().map_or(1, |last| last / 32 + 1);
        let bits = |group: u32| {
            let within = self.0.range(group * 32..(group + 1) * 32);
            within.fold(0_u32, |bits, cpu| bits | 1 << (cpu % 32))
        };
        let highest = format!("{:x}", bits(groups - 1));
        let rest = (0..groups - 1).rev().map(|group| format!(",{:08x}", bits(group)));
        std::iter::once(highest).chain(rest).collect()
    }

    /// Whether no CPU is in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many CPUs are in it.
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

impl FromIterator<u32> for CpuSet {
    fn from_iter<I: IntoIterator<Item = u32>>(cpus: I) -> Self {
        Self(cpus.into_iter().collect())
    }
}

/// As a list.
impl Serialize for CpuSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// As a list, the kernel's shorter form.
impl fmt::Display for CpuSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut cpus = self.0.iter().copied().peekable();
        let mut separator = "";
        while let Some(first) = cpus.next() {
            let mut last = first;
            while let Some(next) = cpus.next_if(|&next| next == last + 1) {
                last = next;
            }
            match last - first {
                0 => write!(f, "{separator}{first}")?,
                1 => write!(f, "{separator}{first},{last}")?,
                _ => write!(f, "{separator}{first}-{last}")?,
            }
            separator = ",";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_and_written() {
        for list in ["", "0", "0-3,8,10,11", "5", "0-127"] {
            assert_eq!(CpuSet::from_list(list).unwrap().to_string(), list);
        }
        assert_eq!(CpuSet::from_list("0-3,8,10-11").unwrap().len(), 7);
        for bad in ["a", "3-1", "0-", "0-4294967295", "-1"] {
            assert_eq!(CpuSet::from_list(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn masks_are_read_and_written() {
        for (mask, list) in
            [("0", ""), ("3", "0,1"), ("ff,00000101", "0,8,32-39"), ("80000000", "31")]
        {
            let set = CpuSet::from_mask(mask).unwrap();
            assert_eq!((set.to_string(), set.to_mask()), (list.to_owned(), mask.to_owned()));
        }
        assert_eq!(CpuSet::from_mask("00000000,00000003").unwrap().to_mask(), "3");
        for bad in ["", "x", "1,", "123456789"] {
            assert_eq!(CpuSet::from_mask(bad), None, "{bad:?}");
        }
    }
}
