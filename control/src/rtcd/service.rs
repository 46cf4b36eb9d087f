//! Where plugins' messages find their calls.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::directory::{Directory, LookupError, SessionConfig};
use super::hub::{ConnectionId, Hub};
use super::message::{FromPlugin, Join, ToPlugin};
use super::metrics::RtcdMetrics;
use super::registry::Registry;
use super::socket::Inbox;
use super::task::{self, Message, Route};
use crate::auth::Client;
use crate::service::Service;

/// The calls of all plugins. Cheap to clone.
#[derive(Clone)]
pub struct Rtcd {
    shared: Arc<Shared>,
}

/// What calls share.
pub struct Shared {
    pub(super) service: Arc<Service>,
    pub(super) hub: Arc<Hub>,
    pub(super) metrics: RtcdMetrics,
    registry: Mutex<Registry<Route>>,
}

impl Shared {
    fn registry(&self) -> MutexGuard<'_, Registry<Route>> {
        // Nothing in it can panic half-way through a change.
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A session has ended: it is forgotten and its plugin told. Whether it was the last of its call.
    pub(super) fn close(&self, config: &SessionConfig, connection: &ConnectionId) -> bool {
        let was_last = self.registry().leave(&config.group, &config.session);
        let message = ToPlugin::Close { session: config.session.clone() };
        self.hub.send(&config.group, connection, &message);
        was_last
    }

    /// A call has failed: its sessions are forgotten, and the plugin told.
    pub(super) fn bury(&self, route: &Route) {
        let lost = self.registry().bury(|other| other.same_channel(route));
        for SessionConfig { group, session, .. } in lost {
            self.metrics.session_closed(&group);
            // Which connection it had went with the call: any of the client's does.
            self.hub.send(&group, &ConnectionId::random(), &ToPlugin::Close { session });
        }
    }
}

impl Rtcd {
    /// Takes what calls need.
    pub fn new(service: Arc<Service>, hub: Arc<Hub>, metrics: RtcdMetrics) -> Self {
        let registry = Mutex::default();
        Self { shared: Arc::new(Shared { service, hub, metrics, registry }) }
    }

    /// The plugins' connections.
    pub fn hub(&self) -> &Arc<Hub> {
        &self.shared.hub
    }

    /// What is counted.
    pub fn metrics(&self) -> &RtcdMetrics {
        &self.shared.metrics
    }

    /// Takes a message of a client; returns when its call has room for it. A client's message reaches its own sessions only.
    async fn take(&self, client: &Client, connection: &ConnectionId, message: FromPlugin) {
        let (session, message) = match message {
            FromPlugin::Join(join) => return self.join(client, connection, join).await,
            FromPlugin::Leave { session } => (session.clone(), Message::Leave(session)),
            FromPlugin::Reconnect { session } => {
                (session.clone(), Message::Reconnect(session, connection.clone()))
            }
            FromPlugin::Rtc(rtc) => (rtc.session.clone(), Message::Rtc(rtc)),
        };
        let route = self.shared.registry().route(&client.id, &session);
        let Some(route) = route else {
            tracing::debug!(
                client = client.id,
                session,
                "a message for a session that is not there"
            );
            return;
        };
        // An error means that the call ended meanwhile.
        let _ = route.send(message).await;
    }

    async fn join(&self, client: &Client, connection: &ConnectionId, join: Join) {
        let Join { call, user, session, props } = join;
        let refuse = |why: &str| tracing::warn!(client = client.id, call, session, "join: {why}");
        if call.is_empty() || user.is_empty() || session.is_empty() {
            return refuse("callID, userID and sessionID must not be empty");
        }
        if self.shared.service.is_draining() {
            refuse("the server is draining");
            let message = ToPlugin::Close { session };
            self.shared.hub.send(&client.id, connection, &message);
            return;
        }
        let config = SessionConfig {
            group: client.id.clone(),
            call: call.clone(),
            user,
            session: session.clone(),
            props,
        };
        let start = || task::start(&self.shared);
        let mut route = self.shared.registry().join(config.clone(), start);
        if route.is_none() {
            // Who changes from one call to another leaves and joins in one breath: the leaving has not been done yet.
            self.settle(client, &config.session).await;
            route = self.shared.registry().join(config.clone(), start);
        }
        let Some(route) = route else { return refuse("the client has a session of this id") };
        // The call lives as long as the registry has this session.
        let _ = route.send(Message::Join(config, connection.clone())).await;
    }

    /// Waits until all has been done that a session's call was sent before.
    async fn settle(&self, client: &Client, session: &str) {
        let route = self.shared.registry().route(&client.id, session);
        let Some(route) = route else { return };
        let (done, settled) = oneshot::channel();
        if route.send(Message::Settle(done)).await.is_ok() {
            // An error means that the call has ended, and all its sessions with it.
            let _ = settled.await;
        }
    }

    /// Ends all calls; returns when their sessions have been told goodbye.
    pub async fn end(&self) {
        let routes = self.shared.registry().routes();
        let mut ends = Vec::new();
        for route in routes {
            let (done, ended) = oneshot::channel();
            if route.send(Message::End(done)).await.is_ok() {
                ends.push(ended);
            }
        }
        for ended in ends {
            let _ = ended.await;
        }
    }
}

impl Inbox for Rtcd {
    fn handle<'a>(
        &'a self,
        client: &'a Client,
        connection: &'a ConnectionId,
        message: FromPlugin,
    ) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        Box::pin(self.take(client, connection, message))
    }
}

impl Directory for Rtcd {
    fn sessions(&self, group: &str, call: &str) -> Result<Vec<SessionConfig>, LookupError> {
        self.shared.registry().sessions(group, call)
    }

    fn session(
        &self,
        group: &str,
        call: &str,
        session: &str,
    ) -> Result<SessionConfig, LookupError> {
        self.shared.registry().session(group, call, session)
    }
}
