//! The table of resolved destinations behind [`PathId`].

use super::address::RawAddress;
use crate::route::{PathId, Route, Transport};

/// Where a path leads.
#[derive(Clone, Copy)]
pub(super) enum Target {
    /// A UDP peer.
    Udp(UdpTarget),
    /// A TCP connection of this shard.
    Tcp(u64),
    /// A route on an address that we do not have.
    Nowhere,
}

/// A UDP peer as a send needs it.
#[derive(Clone, Copy)]
pub(super) struct UdpTarget {
    /// Index of our socket.
    pub(super) local: u16,
    /// The peer.
    pub(super) address: RawAddress,
    /// Bytes of the address.
    pub(super) address_len: libc::socklen_t,
    /// Whether runs may be sent with UDP_SEGMENT; off for good once the kernel refused it here.
    pub(super) offload: bool,
}

/// Destinations by slot. A slot is given out again only after the flush that follows its closing.
#[derive(Default)]
pub(super) struct PathTable {
    entries: Vec<Entry>,
    free: Vec<u32>,
    closing: Vec<u32>,
}

struct Entry {
    generation: u32,
    state: State,
    target: Target,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Free,
    Open,
    /// Closed by its owner; what was written this turn is still sent.
    Closing,
}

impl PathTable {
    /// Opens a route. `sockets` is the number of our UDP sockets.
    pub(super) fn open(&mut self, route: Route, sockets: usize) -> PathId {
        let target = match route.transport {
            Transport::Udp if usize::from(route.local) < sockets => {
                let (address, address_len) = RawAddress::new(route.remote);
                Target::Udp(UdpTarget { local: route.local, address, address_len, offload: true })
            }
            Transport::Udp => Target::Nowhere,
            Transport::Tcp(number) => Target::Tcp(number),
        };
        let slot = self.free.pop().unwrap_or_else(|| {
            self.entries.push(Entry { generation: 0, state: State::Free, target });
            self.entries.len() as u32 - 1
        });
        let entry = &mut self.entries[slot as usize];
        entry.generation = entry.generation.wrapping_add(1);
        entry.state = State::Open;
        entry.target = target;
        PathId { slot, generation: entry.generation }
    }

    /// Where a path leads, until it is retired.
    pub(super) fn target(&self, path: PathId) -> Option<&Target> {
        let entry = self.entries.get(path.slot as usize)?;
        let live = entry.generation == path.generation && entry.state != State::Free;
        live.then_some(&entry.target)
    }

    /// Sends to this path go without UDP_SEGMENT from here on.
    pub(super) fn disable_offload(&mut self, path: PathId) {
        let Some(entry) = self.entries.get_mut(path.slot as usize) else { return };
        if let (true, Target::Udp(target)) =
            (entry.generation == path.generation, &mut entry.target)
        {
            target.offload = false;
        }
    }

    /// Closes a path; closing it twice, or one that never was, does nothing. Returns where it led when it was open.
    pub(super) fn close(&mut self, path: PathId) -> Option<Target> {
        let entry = self.entries.get_mut(path.slot as usize)?;
        if entry.generation != path.generation || entry.state != State::Open {
            return None;
        }
        entry.state = State::Closing;
        self.closing.push(path.slot);
        Some(entry.target)
    }

    /// Frees the slots of closed paths, after a flush.
    pub(super) fn retire_closed(&mut self) {
        for slot in self.closing.drain(..) {
            self.entries[slot as usize].state = State::Free;
            self.free.push(slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(port: u16) -> Route {
        let remote = ([192, 0, 2, 1], port).into();
        Route { transport: Transport::Udp, local: 0, remote }
    }

    #[test]
    fn opening_twice_gives_two_handles() {
        let mut paths = PathTable::default();
        let (a, b) = (paths.open(route(1), 1), paths.open(route(1), 1));
        assert_ne!(a, b);
        paths.close(a);
        paths.retire_closed();
        assert!(paths.target(a).is_none() && paths.target(b).is_some());
    }

    #[test]
    fn a_slot_is_reused_after_the_flush_and_old_handles_miss() {
        let mut paths = PathTable::default();
        let a = paths.open(route(1), 1);
        assert!(paths.close(a).is_some());
        assert!(paths.close(a).is_none(), "closed already");
        let b = paths.open(route(2), 1);
        assert_ne!(a.slot, b.slot, "what was written to a must not mix with b");
        assert!(paths.target(a).is_some(), "still sent by the next flush");
        paths.retire_closed();
        let c = paths.open(route(3), 1);
        assert_eq!(c.slot, a.slot);
        assert!(paths.target(a).is_none() && paths.target(c).is_some());
    }

    #[test]
    fn a_route_on_no_address_of_ours_leads_nowhere() {
        let mut paths = PathTable::default();
        let path = paths.open(route(1), 0);
        assert!(matches!(paths.target(path), Some(Target::Nowhere)));
    }
}
