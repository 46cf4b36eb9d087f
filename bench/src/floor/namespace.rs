//! Network namespaces without a name: the kernel removes them, with their devices, once nothing of them is held any more.
//!
//! So nothing is left behind however the program ends, nothing can be in the way of somebody else's addresses, and the firewall of the
//! machine has no part in the figures.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::process::Command;

use nix::sched::{CloneFlags, setns, unshare};

/// One namespace.
pub struct Namespace {
    handle: File,
}

impl Namespace {
    /// Makes an empty one.
    ///
    /// # Errors
    /// Not allowed, mostly: it needs CAP_SYS_ADMIN.
    pub fn make() -> Result<Self, String> {
        on_a_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET)
                .map_err(|e| format!("making a network namespace, which needs root: {e}"))?;
            let path = "/proc/thread-self/ns/net";
            let handle = File::open(path).map_err(|e| format!("{path}: {e}"))?;
            Ok(Self { handle })
        })
    }

    /// Does something on a thread within. Sockets that it makes belong there for good, programs that it starts run there.
    ///
    /// # Errors
    /// Those of `act`, or the namespace cannot be entered.
    pub fn enter<T: Send>(
        &self,
        act: impl FnOnce() -> Result<T, String> + Send,
    ) -> Result<T, String> {
        on_a_thread(|| {
            setns(&self.handle, CloneFlags::CLONE_NEWNET)
                .map_err(|e| format!("entering a network namespace: {e}"))?;
            act()
        })
    }

    /// Runs `ip` with these words within.
    ///
    /// # Errors
    /// It is not installed, or what it said.
    pub fn ip(&self, words: &str) -> Result<(), String> {
        self.enter(|| {
            let output = Command::new("ip").args(words.split_whitespace()).output();
            let output = output.map_err(|e| format!("`ip`, of iproute2, does not start: {e}"))?;
            if output.status.success() {
                return Ok(());
            }
            let said = String::from_utf8_lossy(&output.stderr);
            Err(format!("ip {words}: {}", said.lines().next().unwrap_or("failed").trim()))
        })
    }

    /// A path by which other programs can name it, while this one runs.
    pub fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.handle.as_raw_fd())
    }

    /// Packets that a device counts, both ways: `ifb` counts as received what it drops.
    ///
    /// # Errors
    /// There is no such device.
    pub fn packets(&self, device: &str) -> Result<u64, String> {
        let path = "/proc/thread-self/net/dev";
        let table =
            self.enter(|| std::fs::read_to_string(path).map_err(|e| format!("{path}: {e}")))?;
        parse_packets(&table, device).ok_or_else(|| format!("{path} does not count {device}"))
    }
}

/// A thread of its own keeps the caller in its namespace.
fn on_a_thread<T: Send>(act: impl FnOnce() -> Result<T, String> + Send) -> Result<T, String> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().spawn_scoped(scope, act);
        let thread = thread.map_err(|e| format!("starting a thread: {e}"))?;
        thread.join().map_err(|_| "a thread that sets up the network ended early".to_owned())?
    })
}

fn parse_packets(table: &str, device: &str) -> Option<u64> {
    let mut lines = table.lines().filter_map(|line| line.split_once(':'));
    let (_, counters) = lines.find(|(name, _)| name.trim() == device)?;
    let mut counters = counters.split_whitespace().map(|word| word.parse::<u64>());
    let received = counters.nth(1)?.ok()?;
    let sent = counters.nth(7)?.ok()?;
    Some(received + sent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_of_a_device_are_counted_both_ways() {
        let table = "Inter-|   Receive |  Transmit\n face |bytes packets errs\n\
            slsink: 70 3 0 1 0 0 0 0 90 4 0 0 0 0 0 0\n  lo: 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1\n";
        assert_eq!(parse_packets(table, "slsink"), Some(7));
        assert_eq!(parse_packets(table, "lo"), Some(2));
        assert_eq!(parse_packets(table, "eth0"), None);
        assert_eq!(parse_packets("slsink: 70 3", "slsink"), None);
    }
}
