//! The connections of plugins that are open, and the way from the service to them: bounded, and never waited for.
//!
//! A client (a Mattermost installation) has a connection for each of its plugin's nodes. What is said of a session goes to the
//! connection that it is mapped to, or, once that is gone, to another one of the same client.

mod connection_id;
mod counters;

pub use connection_id::ConnectionId;
pub use counters::HubCounters;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::message::{MESSAGE_BYTES_MAX, ToPlugin};

/// Bounds of a [`Hub`]. Its queues hold at most `connections_max` × `queue_bytes_max` bytes, 4 GiB with the defaults; to come near
/// that, that many clients with valid keys must have stopped to read within the ten seconds that a write may take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HubLimits {
    /// Connections of one client; more are refused. The nodes of a large installation are a dozen, and a node may come back before
    /// its old connection is known to be dead.
    pub connections_per_client_max: usize,
    /// Connections in all; more are refused.
    pub connections_max: usize,
    /// Messages that may wait for a connection. One that would have more is closed.
    pub queue_messages_max: usize,
    /// Bytes that may wait for a connection, what is being written included. One that would have more is closed.
    pub queue_bytes_max: usize,
}

impl Default for HubLimits {
    fn default() -> Self {
        Self {
            connections_per_client_max: 64,
            connections_max: 1024,
            queue_messages_max: 4096,
            queue_bytes_max: 4 << 20,
        }
    }
}

/// Where a message went.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Delivery {
    /// Into a connection's queue.
    Delivered {
        /// The connection.
        to: ConnectionId,
        /// Whether it is another one than was asked for: the session is better mapped to it from here on.
        rerouted: bool,
    },
    /// Nowhere: the client has no connection.
    NoConnection,
    /// Nowhere: it is longer than a message may be.
    TooLong,
}

/// Why there is no place for a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HubFull {
    /// The client has so many connections, and may have no more.
    OfClient(usize),
    /// There are so many connections, and may be no more.
    InAll(usize),
    /// The server shuts down.
    ShutDown,
}

impl fmt::Display for HubFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OfClient(max) => {
                write!(f, "this client has {max} WebSockets, and may have no more: close one first")
            }
            Self::InAll(max) => write!(
                f,
                "the server has {max} WebSockets, and takes no more: try again later or elsewhere"
            ),
            Self::ShutDown => f.write_str("the server shuts down"),
        }
    }
}

impl std::error::Error for HubFull {}

/// Why the hub ends a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    /// Its queue was full.
    TooSlow,
    /// The server shuts down.
    ShutDown,
}

/// A message that waits for its connection. Its bytes count until it is dropped.
#[derive(Debug)]
pub struct Queued {
    /// Its type.
    pub type_name: &'static str,
    /// What goes over the wire.
    pub bytes: Vec<u8>,
    #[allow(dead_code, reason = "held for its drop")]
    room: OwnedSemaphorePermit,
}

/// A connection's end of the hub. The connection is open as far as the hub is concerned until `place` is dropped.
#[derive(Debug)]
pub struct Attached {
    /// Which connection this is.
    pub id: ConnectionId,
    /// What to write, in order.
    pub queue: mpsc::Receiver<Queued>,
    /// Resolves when the connection is to end at once, whatever waits.
    pub ending: oneshot::Receiver<Ending>,
    /// Its place among the client's connections.
    pub place: Place,
}

/// A connection's place in the hub; it is free once this is dropped.
#[derive(Debug)]
pub struct Place {
    hub: Arc<Hub>,
    client: String,
    id: ConnectionId,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.hub.locked().remove(&self.client, &self.id);
    }
}

/// The open connections of all clients.
#[derive(Debug)]
pub struct Hub {
    limits: HubLimits,
    connections: Mutex<Connections>,
    counters: HubCounters,
}

#[derive(Debug, Default)]
struct Connections {
    /// A client's connections, the newest last. Clients without one are not in it.
    by_client: HashMap<String, Vec<Live>>,
    total: usize,
    is_shut_down: bool,
}

/// The hub's end of a connection.
#[derive(Debug)]
struct Live {
    id: ConnectionId,
    queue: mpsc::Sender<Queued>,
    room: Arc<Semaphore>,
    ending: oneshot::Sender<Ending>,
}

impl Hub {
    /// Without any connection.
    pub fn new(limits: HubLimits) -> Arc<Self> {
        let (connections, counters) = (Mutex::default(), HubCounters::default());
        Arc::new(Self { limits, connections, counters })
    }

    /// What is counted, by the hub and by the connections themselves.
    pub fn counters(&self) -> &HubCounters {
        &self.counters
    }

    /// Takes a connection of `client` in. The client may be the administrator, whose id is empty.
    ///
    /// # Errors
    /// Every [`HubFull`].
    pub fn attach(self: &Arc<Self>, client: &str) -> Result<Attached, HubFull> {
        let id = ConnectionId::random();
        let (queue, queued) = mpsc::channel(self.limits.queue_messages_max);
        let room = Arc::new(Semaphore::new(self.limits.queue_bytes_max));
        let (ending, ended) = oneshot::channel();
        let live = Live { id: id.clone(), queue, room, ending };
        self.locked().add(client, live, &self.limits).inspect_err(|_| {
            self.counters.refused.inc();
        })?;
        let place = Place { hub: Arc::clone(self), client: client.to_owned(), id: id.clone() };
        Ok(Attached { id, queue: queued, ending: ended, place })
    }

    /// Queues a message for `connection`, or for the client's newest other one if that is gone. A connection whose queue is full is
    /// closed: its client reads too slowly to be of use, and the others must not wait for it. What was in its queue is lost.
    pub fn send(&self, client: &str, connection: &ConnectionId, message: &ToPlugin) -> Delivery {
        let bytes = message.encode();
        let delivery = if bytes.len() > MESSAGE_BYTES_MAX.min(self.limits.queue_bytes_max) {
            Delivery::TooLong
        } else {
            self.deliver(client, connection, message.type_name(), bytes)
        };
        match &delivery {
            Delivery::Delivered { rerouted: false, .. } => {}
            Delivery::Delivered { rerouted: true, .. } => {
                self.counters.rerouted.inc();
            }
            Delivery::NoConnection | Delivery::TooLong => {
                self.counters.undelivered.inc();
            }
        }
        delivery
    }

    /// Whether less than half is taken of the queue that [`Hub::send`] would use. Who has much to say waits for that, so that what
    /// cannot wait still finds room. True when there is no connection: that is nothing to wait for.
    pub fn has_room(&self, client: &str, connection: &ConnectionId) -> bool {
        let HubLimits { queue_messages_max, queue_bytes_max, .. } = self.limits;
        self.locked().find(client, connection).is_none_or(|live| {
            live.queue.capacity() > queue_messages_max / 2
                && live.room.available_permits() > queue_bytes_max / 2
        })
    }

    fn deliver(
        &self,
        client: &str,
        wanted: &ConnectionId,
        type_name: &'static str,
        mut bytes: Vec<u8>,
    ) -> Delivery {
        let mut connections = self.locked();
        while let Some(live) = connections.find(client, wanted) {
            let to = live.id.clone();
            let (refused, is_full) = match live.queue(type_name, bytes) {
                Ok(()) => {
                    let rerouted = to != *wanted;
                    return Delivery::Delivered { to, rerouted };
                }
                Err(refused) => refused,
            };
            bytes = refused;
            // A queue that is closed and not full is that of a connection on its way out.
            if let Some(live) = connections.remove(client, &to)
                && is_full
            {
                self.counters.overflowed.inc();
                // An error means that it has ended by itself.
                let _ = live.ending.send(Ending::TooSlow);
            }
        }
        Delivery::NoConnection
    }

    /// How many connections a client has.
    pub fn connections_of(&self, client: &str) -> usize {
        self.locked().by_client.get(client).map_or(0, Vec::len)
    }

    /// Ends all connections and refuses those that come later.
    pub fn shut_down(&self) {
        let mut connections = self.locked();
        connections.is_shut_down = true;
        connections.total = 0;
        for live in connections.by_client.drain().flat_map(|(_, all)| all) {
            let _ = live.ending.send(Ending::ShutDown);
        }
    }

    fn locked(&self) -> MutexGuard<'_, Connections> {
        // Nothing in here is left half done by a panic: each change is one insertion or removal.
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connections {
    fn add(&mut self, client: &str, live: Live, limits: &HubLimits) -> Result<(), HubFull> {
        if self.is_shut_down {
            return Err(HubFull::ShutDown);
        }
        if self.total >= limits.connections_max {
            return Err(HubFull::InAll(limits.connections_max));
        }
        let max = limits.connections_per_client_max;
        if self.by_client.get(client).is_some_and(|all| all.len() >= max) {
            return Err(HubFull::OfClient(max));
        }
        self.by_client.entry(client.to_owned()).or_default().push(live);
        self.total += 1;
        Ok(())
    }

    /// The wanted connection, or the newest.
    fn find(&self, client: &str, wanted: &ConnectionId) -> Option<&Live> {
        let all = self.by_client.get(client)?;
        all.iter().find(|live| live.id == *wanted).or(all.last())
    }

    fn remove(&mut self, client: &str, id: &ConnectionId) -> Option<Live> {
        let all = self.by_client.get_mut(client)?;
        let at = all.iter().position(|live| live.id == *id)?;
        let live = all.remove(at);
        if all.is_empty() {
            self.by_client.remove(client);
        }
        self.total -= 1;
        Some(live)
    }
}

impl Live {
    /// Queues a message, or gives it back and says whether the queue is full.
    fn queue(&self, type_name: &'static str, bytes: Vec<u8>) -> Result<(), (Vec<u8>, bool)> {
        // Never more than a message's limit, which fits.
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let Ok(room) = Arc::clone(&self.room).try_acquire_many_owned(length) else {
            return Err((bytes, true));
        };
        self.queue.try_send(Queued { type_name, bytes, room }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(queued) => (queued.bytes, true),
            mpsc::error::TrySendError::Closed(queued) => (queued.bytes, false),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: HubLimits = HubLimits {
        connections_per_client_max: 3,
        connections_max: 4,
        queue_messages_max: 5,
        queue_bytes_max: 1000,
    };

    fn close(session: &str) -> ToPlugin {
        ToPlugin::Close { session: session.to_owned() }
    }

    fn to(attached: &Attached, rerouted: bool) -> Delivery {
        Delivery::Delivered { to: attached.id.clone(), rerouted }
    }

    fn received(attached: &mut Attached) -> Vec<Vec<u8>> {
        std::iter::from_fn(|| attached.queue.try_recv().ok()).map(|queued| queued.bytes).collect()
    }

    #[test]
    fn a_message_goes_to_the_connection_that_is_asked_for() {
        let hub = Hub::new(LIMITS);
        let mut first = hub.attach("a").expect("a place");
        let mut second = hub.attach("a").expect("a place");
        assert_eq!(hub.send("a", &first.id, &close("1")), to(&first, false));
        assert_eq!(hub.send("a", &second.id, &close("2")), to(&second, false));
        assert_eq!(received(&mut first), [close("1").encode()]);
        assert_eq!(received(&mut second), [close("2").encode()]);
    }

    #[test]
    fn the_newest_connection_of_the_same_client_takes_over() {
        let hub = Hub::new(LIMITS);
        let _stranger = hub.attach("b").expect("a place");
        let [gone, second, third] = [0; 3].map(|_| hub.attach("a").expect("a place"));
        let asked = gone.id.clone();
        drop(gone);
        assert_eq!(hub.send("a", &asked, &close("1")), to(&third, true));
        drop(third);
        assert_eq!(hub.send("a", &asked, &close("1")), to(&second, true));
        drop(second);
        assert_eq!(hub.send("a", &asked, &close("1")), Delivery::NoConnection);
        assert_eq!(hub.counters.rerouted.get(), 2);
        assert_eq!(hub.counters.undelivered.get(), 1);
    }

    #[test]
    fn a_connection_that_has_too_much_to_read_is_closed_and_another_takes_over() {
        let hub = Hub::new(LIMITS);
        let mut slow = hub.attach("a").expect("a place");
        for _ in 0..LIMITS.queue_messages_max {
            assert_eq!(hub.send("a", &slow.id, &close("1")), to(&slow, false));
        }
        let mut other = hub.attach("a").expect("a place");
        assert_eq!(hub.send("a", &slow.id, &close("2")), to(&other, true));
        assert_eq!(slow.ending.try_recv(), Ok(Ending::TooSlow));
        assert_eq!(hub.counters.overflowed.get(), 1);
        assert_eq!(received(&mut other), [close("2").encode()]);
        assert_eq!(hub.connections_of("a"), 1);
        // Its end takes nobody else's place away.
        drop(slow);
        assert_eq!(hub.connections_of("a"), 1);
    }

    #[test]
    fn bytes_are_bounded_as_messages_are_and_count_until_they_are_written() {
        let hub = Hub::new(LIMITS);
        let mut only = hub.attach("a").expect("a place");
        let long = close(&"x".repeat(400));
        assert_eq!(hub.send("a", &only.id, &long), to(&only, false));
        assert_eq!(hub.send("a", &only.id, &long), to(&only, false));
        let being_written = only.queue.try_recv().expect("the first");
        drop(being_written);
        assert_eq!(hub.send("a", &only.id, &long), to(&only, false));
        let being_written = only.queue.try_recv().expect("the second");
        assert_eq!(hub.send("a", &only.id, &long), Delivery::NoConnection);
        assert_eq!(only.ending.try_recv(), Ok(Ending::TooSlow));
        drop(being_written);
    }

    #[test]
    fn half_a_queue_is_for_what_cannot_wait() {
        let hub = Hub::new(LIMITS);
        let mut only = hub.attach("a").expect("a place");
        assert!(hub.has_room("a", &only.id));
        assert!(hub.has_room("b", &only.id), "nobody is there who reads slowly");
        for _ in 0..3 {
            hub.send("a", &only.id, &close("1"));
        }
        assert!(!hub.has_room("a", &only.id));
        drop(received(&mut only));
        assert!(hub.has_room("a", &only.id));
        hub.send("a", &only.id, &close(&"x".repeat(500)));
        assert!(!hub.has_room("a", &only.id));
    }

    #[test]
    fn a_message_that_no_queue_could_hold_closes_none() {
        let hub = Hub::new(LIMITS);
        let mut only = hub.attach("a").expect("a place");
        assert_eq!(hub.send("a", &only.id, &close(&"x".repeat(1000))), Delivery::TooLong);
        assert!(only.ending.try_recv().is_err());
        assert_eq!(hub.send("a", &only.id, &close("1")), to(&only, false));
    }

    #[test]
    fn a_connection_on_its_way_out_is_passed_over_and_not_counted_as_slow() {
        let hub = Hub::new(LIMITS);
        let other = hub.attach("a").expect("a place");
        let mut leaving = hub.attach("a").expect("a place");
        leaving.queue.close();
        assert_eq!(hub.send("a", &leaving.id, &close("1")), to(&other, true));
        assert_eq!(hub.counters.overflowed.get(), 0);
    }

    #[test]
    fn places_are_bounded_and_come_back() {
        let hub = Hub::new(LIMITS);
        let mut of_a: Vec<_> = (0..3).map(|_| hub.attach("a").expect("a place")).collect();
        assert_eq!(hub.attach("a").expect_err("no place"), HubFull::OfClient(3));
        let _of_b = hub.attach("b").expect("a place");
        assert_eq!(hub.attach("c").expect_err("no place"), HubFull::InAll(4));
        assert_eq!(hub.counters.refused.get(), 2);
        of_a.pop();
        let _of_c = hub.attach("c").expect("a place");
    }

    #[test]
    fn a_shutdown_ends_all_and_takes_no_more() {
        let hub = Hub::new(LIMITS);
        let mut attached = hub.attach("a").expect("a place");
        hub.shut_down();
        assert_eq!(attached.ending.try_recv(), Ok(Ending::ShutDown));
        assert_eq!(hub.attach("a").expect_err("no place"), HubFull::ShutDown);
        assert_eq!(hub.send("a", &attached.id, &close("1")), Delivery::NoConnection);
        drop(attached);
    }
}
