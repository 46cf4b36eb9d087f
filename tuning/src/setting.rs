//! What is known of each setting, whatever its value: the table behind `explain` and the columns of a check.

use serde::Serialize;

/// A setting of the host that matters to a server that forwards media.
#[derive(PartialEq, Eq, Debug, Serialize)]
pub struct Setting {
    /// Dotted name: that of sysctl(8) where it is one; else `nic.rx_ring`, `cpu.governor`, `process.open_files`…
    pub key: &'static str,
    /// What it does to a media server, one or two sentences.
    pub why: &'static str,
    /// Where that is written: kernel documentation, man page, RFC, a measurement of ours.
    pub source: &'static str,
    /// What happens when it is left as it is, one short sentence.
    pub effect: &'static str,
}
