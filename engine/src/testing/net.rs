//! A shard's network without a kernel: queues that a simulation fills and empties.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::time::Duration;

use crate::egress::Egress;
use crate::io::{Network, Stream, Window};
use crate::route::{PathId, Route};

/// What one shard sees of a simulated network.
#[derive(Default)]
pub struct SimNetwork {
    /// Datagrams that have arrived, put there by the simulation.
    pub arrived: VecDeque<(Route, Vec<u8>)>,
    /// Datagrams that the shard sent, taken by the simulation.
    pub sent: VecDeque<(Route, Vec<u8>)>,
    handing_out: Vec<u8>,
    paths: HashMap<u32, (u32, Route)>,
    free: Vec<u32>,
    next_slot: u32,
    generation: u32,
}

impl SimNetwork {
    /// Handles that are open, for leak checks.
    pub fn open_paths(&self) -> usize {
        self.paths.len()
    }
}

impl Network for SimNetwork {
    fn receive(&mut self, budget: usize) -> usize {
        self.arrived.len().min(budget)
    }

    fn next_datagram(&mut self) -> Option<(Route, &mut [u8])> {
        let (route, datagram) = self.arrived.pop_front()?;
        self.handing_out = datagram;
        Some((route, &mut self.handing_out))
    }

    fn open_path(&mut self, route: Route) -> PathId {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.next_slot += 1;
            self.next_slot - 1
        });
        self.generation += 1;
        self.paths.insert(slot, (self.generation, route));
        PathId { slot, generation: self.generation }
    }

    fn close_path(&mut self, path: PathId) {
        let open = self.paths.remove(&path.slot);
        assert_eq!(open.map(|(generation, _)| generation), Some(path.generation), "closed twice");
        self.free.push(path.slot);
    }

    fn flush(&mut self, egress: &mut Egress) {
        for &path in egress.paths() {
            for datagram in egress.datagrams(path) {
                let Some(&(generation, route)) = self.paths.get(&path.slot) else { continue };
                if generation == path.generation {
                    self.sent.push_back((route, datagram.to_vec()));
                }
            }
        }
        egress.clear();
    }

    fn wait(&mut self, _timeout: Option<Duration>, _window: Window) {}

    fn release_stream(&mut self, _route: Route) -> Option<Stream> {
        None
    }

    fn adopt_stream(&mut self, _stream: Stream) -> io::Result<Route> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
