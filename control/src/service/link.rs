//! The way from the service to one session's WebSocket: bounded, and never waited for.

use tokio::sync::{mpsc, oneshot};

use super::views::Event;

/// Messages that may wait for a client that reads slowly; beyond them its connection is closed.
pub const QUEUE_MESSAGES: usize = 1024;

/// Why the server closes a WebSocket. Source: RFC 6455 §7.4 for the first, §7.4.2 for the rest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CloseCode {
    /// The server shuts down.
    GoingAway,
    /// The session ended.
    SessionEnded,
    /// A newer connection took the session over.
    Replaced,
    /// The client read too slowly.
    TooSlow,
}

impl CloseCode {
    /// The number on the wire and the text beside it.
    pub fn on_wire(self) -> (u16, &'static str) {
        match self {
            Self::GoingAway => (1001, "the server shuts down"),
            Self::SessionEnded => (4000, "the session ended"),
            Self::Replaced => (4001, "replaced by a newer connection"),
            Self::TooSlow => (4002, "too slow"),
        }
    }
}

/// What the WebSocket's task is to write.
#[derive(Debug)]
pub enum Outgoing {
    /// A JSON message.
    Text(String),
    /// The end, once everything before it is written.
    Close(CloseCode),
}

/// The service's end.
#[derive(Debug)]
pub struct Link {
    queue: mpsc::Sender<Outgoing>,
    abort: oneshot::Sender<CloseCode>,
    /// Distinguishes this connection from earlier and later ones of the same session.
    pub connection: u64,
}

/// The WebSocket task's end.
#[derive(Debug)]
pub struct LinkEnd {
    /// What to write, in order.
    pub queue: mpsc::Receiver<Outgoing>,
    /// The end at once, whatever waits.
    pub abort: Abort,
    /// Which connection this is.
    pub connection: u64,
}

/// Says that a connection is to end at once.
#[derive(Debug)]
pub struct Abort(Option<oneshot::Receiver<CloseCode>>);

impl Abort {
    /// Resolves when the connection is to end at once; never, when the service let go of the link in
    /// order. May be dropped and called again.
    pub async fn wait(&mut self) -> CloseCode {
        if let Some(receiver) = &mut self.0
            && let Ok(code) = receiver.await
        {
            return code;
        }
        self.0 = None;
        std::future::pending().await
    }
}

impl Link {
    /// Makes both ends.
    pub fn new(connection: u64) -> (Self, LinkEnd) {
        let (queue, messages) = mpsc::channel(QUEUE_MESSAGES);
        let (abort, aborted) = oneshot::channel();
        (
            Self { queue, abort, connection },
            LinkEnd { queue: messages, abort: Abort(Some(aborted)), connection },
        )
    }

    /// Queues a message; false when the queue is full or the connection is gone.
    #[must_use]
    pub fn send(&self, event: &Event) -> bool {
        let text = serde_json::to_string(event).unwrap_or_default();
        self.queue.try_send(Outgoing::Text(text)).is_ok()
    }

    /// Ends the connection after what is queued.
    pub fn close(self, code: CloseCode) {
        if self.queue.try_send(Outgoing::Close(code)).is_err() {
            self.abort(code);
        }
    }

    /// Ends the connection at once.
    pub fn abort(self, code: CloseCode) {
        // An error means that the task has ended already.
        let _ = self.abort.send(code);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_full_queue_refuses_and_close_still_gets_through() {
        let (link, mut end) = Link::new(1);
        let event = Event::Closed { reason: String::new() };
        for _ in 0..QUEUE_MESSAGES {
            assert!(link.send(&event));
        }
        assert!(!link.send(&event));
        link.close(CloseCode::TooSlow);
        assert_eq!(end.abort.wait().await, CloseCode::TooSlow);
    }
}
