//! One WebSocket of a plugin, from the handshake to its end: a task that reads and acts, and one that writes, so that neither waits
//! for the other. The end of a connection ends no session.

use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::sync::mpsc::Receiver;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout, timeout_at};

use super::{Direction, PluginSockets, SocketEvents};
use crate::auth::Client;
use crate::rtcd::hub::{Attached, ConnectionId, Ending, Queued};
use crate::rtcd::message::{DecodeError, FromPlugin, ToPlugin};

/// How often the peer is asked for a pong.
const PING_EVERY: Duration = Duration::from_secs(10);

/// Longest time that is spent waiting for the peer without a pong: two pings.
const PONG_WITHIN: Duration = Duration::from_secs(20);

/// Time for one message to be written: beyond it the peer reads nothing.
const WRITE_WITHIN: Duration = Duration::from_secs(10);

/// Time for the reason of an end to be written.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);

/// A connection's refused messages are logged no more often than this.
const LOG_REFUSAL_EVERY: Duration = Duration::from_secs(10);

const TOO_LONG: CloseFrame = close_frame(1009, "a message is at most 1 MiB");
const GOING_AWAY: CloseFrame = close_frame(1001, "the server shuts down");

const fn close_frame(code: u16, reason: &'static str) -> CloseFrame {
    CloseFrame { code, reason: axum::extract::ws::Utf8Bytes::from_static(reason) }
}

/// Runs a connection until either side ends it.
pub(super) async fn run(
    sockets: &PluginSockets,
    client: Client,
    attached: Attached,
    socket: WebSocket,
) {
    let _open = Open::new(sockets, &client);
    let connection = attached.id.clone();
    let (sink, stream) = socket.split();
    let (stop, stopped) = oneshot::channel();
    let writer = Writer { sink, sockets: sockets.clone(), client: client.id.clone() };
    let mut writing = tokio::spawn(writer.run(attached, stopped));
    let mut reader = Reader {
        sockets,
        client: &client,
        connection: &connection,
        deadline: Instant::now() + PONG_WITHIN,
        refusals: Refusals::default(),
    };
    let end = reader.run(stream, &mut writing).await;
    // The writer may have ended before: then there is nobody to tell.
    let _ = stop.send(end);
    if !writing.is_finished() {
        let _ = writing.await;
    }
}

/// Tells of the opening, and of the close whatever leads to it.
struct Open<'a> {
    events: &'a dyn SocketEvents,
    client: &'a str,
}

impl<'a> Open<'a> {
    fn new(sockets: &'a PluginSockets, client: &'a Client) -> Self {
        let (events, client) = (sockets.events.as_ref(), client.id.as_str());
        events.ws_opened(client);
        Self { events, client }
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.events.ws_closed(self.client);
    }
}

struct Reader<'a> {
    sockets: &'a PluginSockets,
    client: &'a Client,
    connection: &'a ConnectionId,
    /// When the peer is taken for dead. Pongs alone move it, and time in which nothing was read: what the peer sent meanwhile, its
    /// pongs too, waits behind the message that is acted upon.
    deadline: Instant,
    refusals: Refusals,
}

impl Reader<'_> {
    /// Reads and acts until the connection ends; returns what is to be said at the end.
    async fn run(
        &mut self,
        mut stream: SplitStream<WebSocket>,
        writing: &mut JoinHandle<()>,
    ) -> Option<CloseFrame> {
        let counters = self.sockets.hub.counters();
        loop {
            let message = tokio::select! {
                biased;
                _ = &mut *writing => return None,
                message = timeout_at(self.deadline, stream.next()) => message,
            };
            match message {
                Ok(Some(Ok(Message::Binary(bytes)))) => {
                    let began = Instant::now();
                    self.receive(&bytes).await;
                    self.deadline += began.elapsed();
                }
                Ok(Some(Ok(Message::Pong(_)))) => self.deadline = Instant::now() + PONG_WITHIN,
                Ok(Some(Ok(Message::Text(_)))) => {
                    counters.text.inc();
                    tracing::debug!(client = self.client.id, connection = %self.connection, "a text message is ignored");
                }
                // The library answers both; after a close nothing more comes.
                Ok(Some(Ok(Message::Ping(_) | Message::Close(_)))) => {}
                Ok(Some(Err(error))) => {
                    tracing::debug!(client = self.client.id, connection = %self.connection, %error, "a WebSocket broke");
                    let is_too_long = error.to_string().to_ascii_lowercase().contains("too long");
                    return is_too_long.then(|| {
                        counters.too_long.inc();
                        TOO_LONG
                    });
                }
                Ok(None) => return None,
                Err(_) => {
                    counters.silent.inc();
                    tracing::debug!(client = self.client.id, connection = %self.connection, "no pong came");
                    return None;
                }
            }
        }
    }

    async fn receive(&mut self, bytes: &[u8]) {
        let decoded = FromPlugin::decode(bytes);
        let type_name = match &decoded {
            Ok(message) => message.type_name(),
            Err(error) => error.type_name().unwrap_or("unknown"),
        };
        self.sockets.events.ws_message(&self.client.id, type_name, Direction::In);
        match decoded {
            Ok(_) if self.client.is_admin => {
                self.sockets.hub.counters().of_admin.inc();
            }
            Ok(message) => {
                self.sockets.inbox.handle(self.client, self.connection, message).await;
            }
            Err(error) => {
                self.sockets.hub.counters().undecodable.inc();
                self.refusals.log(self.client, self.connection, &error);
            }
        }
    }
}

/// Keeps a flood of refused messages out of the log.
#[derive(Default)]
struct Refusals {
    quiet_until: Option<Instant>,
    not_logged: u64,
}

impl Refusals {
    fn log(&mut self, client: &Client, connection: &ConnectionId, error: &DecodeError) {
        let now = Instant::now();
        if self.quiet_until.is_some_and(|until| now < until) {
            self.not_logged += 1;
            return;
        }
        let since_last = std::mem::take(&mut self.not_logged);
        tracing::warn!(client = client.id, %connection, %error, since_last, "a message was refused");
        self.quiet_until = Some(now + LOG_REFUSAL_EVERY);
    }
}

struct Writer {
    sink: SplitSink<WebSocket, Message>,
    sockets: PluginSockets,
    client: String,
}

impl Writer {
    /// Writes the greeting, what is queued, and pings, until the connection is to end; then gives its place in the hub back.
    async fn run(mut self, attached: Attached, stopped: oneshot::Receiver<Option<CloseFrame>>) {
        let Attached { id, mut queue, ending, place: _place } = attached;
        let ended = async {
            tokio::select! {
                biased;
                // One that reads too slowly would not read the reason either.
                ending = ending => ending.ok().filter(|e| *e == Ending::ShutDown).map(|_| GOING_AWAY),
                frame = stopped => frame.ok().flatten(),
            }
        };
        tokio::pin!(ended);
        let mut pings = interval_at(Instant::now() + PING_EVERY, PING_EVERY);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let hello = ToPlugin::Hello { client: self.client.clone(), connection: id.to_string() };
        let mut message = Message::Binary(hello.encode().into());
        // What is being written keeps its room in the queue.
        let mut queued = None;
        loop {
            tokio::select! {
                biased;
                frame = &mut ended => return self.close(frame, &mut queue).await,
                written = timeout(WRITE_WITHIN, self.sink.send(message)) => match written {
                    Ok(Ok(())) => {}
                    Ok(Err(_)) => return,
                    Err(_) => {
                        self.sockets.hub.counters().stalled.inc();
                        return;
                    }
                },
            }
            self.count_written(queued.take());
            message = tokio::select! {
                biased;
                frame = &mut ended => return self.close(frame, &mut queue).await,
                _ = pings.tick() => Message::Ping(axum::body::Bytes::new()),
                next = queue.recv() => match next {
                    Some(next) => {
                        let next = queued.insert(next);
                        Message::Binary(std::mem::take(&mut next.bytes).into())
                    }
                    None => return,
                },
            };
        }
    }

    /// Signalling alone is counted, as rtcd does.
    fn count_written(&self, written: Option<Queued>) {
        if let Some(written) = written
            && matches!(written.type_name, "rtc" | "vad")
        {
            self.sockets.events.ws_message(&self.client, written.type_name, Direction::Out);
        }
    }

    /// Says why, if there is something to say; a peer that does not read is not waited for. Before the server goes away it says
    /// what waits: which sessions it ended, most likely.
    async fn close(&mut self, frame: Option<CloseFrame>, queue: &mut Receiver<Queued>) {
        let Some(frame) = frame else { return };
        let last_words = async {
            while frame.code == GOING_AWAY.code
                && let Ok(next) = queue.try_recv()
            {
                self.sink.send(Message::Binary(next.bytes.into())).await?;
            }
            self.sink.send(Message::Close(Some(frame))).await
        };
        // Whoever does not hear it learns of the end by the connection's.
        let _ = timeout(CLOSE_WITHIN, last_words).await;
    }
}
