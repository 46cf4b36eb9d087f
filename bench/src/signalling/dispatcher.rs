//! The thread: takes wishes out of the inbox and gives each to the connection that carries it.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::http::{Connections, REQUESTS_MAX, Server};
use super::shared_socket::{self, SharedSocket};
use super::{Command, Key, Shared, own_socket, refusal};
use crate::conversation::{Heard, Request, Response, TargetApi, Wish};

/// What the thread owns.
struct Dispatcher {
    shared: Arc<Shared>,
    connections: Arc<Connections>,
    server: Server,
    /// What each client still asks for; there while it has a request under way or waiting.
    queues: HashMap<Key, VecDeque<Request>>,
    /// Whose turn is next.
    ready: VecDeque<Key>,
    requests: JoinSet<(Key, Result<Response, String>)>,
    /// The worker's WebSocket (rtcd's API).
    worker_socket: Option<SharedSocket>,
    own_sockets: HashMap<Key, mpsc::UnboundedSender<String>>,
}

/// Runs until everything is over. `started` hears once whether the server is there.
pub(super) fn run(
    api: TargetApi,
    server: Server,
    shared: &Arc<Shared>,
    started: &SyncSender<Result<(), String>>,
) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            // Nobody listens when the starter has gone.
            let _ = started.send(Err(format!("no runtime for signalling: {error}")));
            return;
        }
    };
    runtime.block_on(async {
        let worker_socket = match api {
            TargetApi::Rtcd => match shared_socket::open(&server, shared).await {
                Ok(socket) => Some(socket),
                Err(why) => {
                    let _ = started.send(Err(why));
                    return;
                }
            },
            TargetApi::Sluice | TargetApi::Whip => None,
        };
        let _ = started.send(Ok(()));
        let mut dispatcher = Dispatcher {
            shared: Arc::clone(shared),
            connections: Connections::new(server.clone()),
            server,
            queues: HashMap::new(),
            ready: VecDeque::new(),
            requests: JoinSet::new(),
            worker_socket,
            own_sockets: HashMap::new(),
        };
        dispatcher.serve().await;
        if let Some(socket) = dispatcher.worker_socket {
            socket.close().await;
        }
    });
}

impl Dispatcher {
    async fn serve(&mut self) {
        loop {
            let shared = Arc::clone(&self.shared);
            tokio::select! {
                () = shared.notify.notified() => {
                    if !self.take_commands().await {
                        return;
                    }
                }
                Some(done) = self.requests.join_next() => {
                    let (key, result) = done.expect("requests neither panic nor are they aborted");
                    self.end_request(key, result).await;
                }
            }
            self.begin_requests();
        }
    }

    /// Empties the inbox; false when everything is over.
    async fn take_commands(&mut self) -> bool {
        loop {
            let command = {
                let mut inbox = self.shared.inbox();
                if inbox.is_over {
                    return false;
                }
                inbox.commands.pop_front()
            };
            match command {
                Some(Command::Carry(key, wish)) => self.carry(key, wish).await,
                Some(Command::Remove(key)) => {
                    self.own_sockets.remove(&key);
                }
                None => return true,
            }
        }
    }

    async fn carry(&mut self, key: Key, wish: Wish) {
        match wish {
            Wish::Request(request) => match self.queues.get_mut(&key) {
                Some(queue) => queue.push_back(request),
                None => {
                    self.queues.insert(key, VecDeque::from([request]));
                    self.ready.push_back(key);
                }
            },
            Wish::Message(bytes) => {
                let socket = self.worker_socket.as_ref();
                if let Some(Err(unsent)) = socket.map(|socket| socket.messages.send((key, bytes))) {
                    let why = "the worker's WebSocket has ended".to_owned();
                    self.refuse(key, &Wish::Message(unsent.0.1), why).await;
                } else if socket.is_none() {
                    let why = "this API has no WebSocket for all clients".to_owned();
                    self.refuse(key, &Wish::Message(Vec::new()), why).await;
                }
            }
            Wish::OpenSocket(path) => {
                let (sender, texts) = mpsc::unbounded_channel();
                // One that the client had before ends, since nobody can write to it any more.
                self.own_sockets.insert(key, sender);
                let (server, shared) = (self.server.clone(), Arc::clone(&self.shared));
                tokio::spawn(own_socket::run(key, path, server, shared, texts));
                self.shared.carried();
            }
            Wish::Text(text) => {
                let sent = self.own_sockets.get(&key).map(|socket| socket.send(text));
                if !matches!(sent, Some(Ok(()))) {
                    let why = "the session's WebSocket has ended".to_owned();
                    self.refuse(key, &Wish::Text(String::new()), why).await;
                }
            }
            other => self.refuse(key, &other, String::new()).await,
        }
    }

    async fn refuse(&self, key: Key, wish: &Wish, why: String) {
        self.shared.carried();
        self.shared.hear(key, refusal(wish, why)).await;
    }

    fn begin_requests(&mut self) {
        while self.requests.len() < REQUESTS_MAX {
            let Some(key) = self.ready.pop_front() else { return };
            let next = self.queues.get_mut(&key).and_then(VecDeque::pop_front);
            let request = next.expect("a client whose turn it is has a request");
            let connections = Arc::clone(&self.connections);
            self.requests.spawn(async move { (key, connections.exchange(&request).await) });
        }
    }

    async fn end_request(&mut self, key: Key, result: Result<Response, String>) {
        if self.queues.get(&key).is_some_and(|queue| !queue.is_empty()) {
            self.ready.push_back(key);
        } else {
            self.queues.remove(&key);
        }
        self.shared.hear(key, Heard::Response(result)).await;
        self.shared.carried();
    }
}
