//! What is counted of plugins' connections, beside rtcd's own metrics.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;

/// Each way in which a connection or a message can come to nothing, and detours.
#[derive(Clone, Debug, Default)]
pub struct HubCounters {
    /// Connections that were refused for want of a place.
    pub refused: Counter,
    /// Connections that were closed because their queue was full.
    pub overflowed: Counter,
    /// Connections that were closed because a write took too long.
    pub stalled: Counter,
    /// Connections that were closed because no pong came.
    pub silent: Counter,
    /// Connections that were closed because a message was too long.
    pub too_long: Counter,
    /// Messages to a plugin that went to another connection than the one that was asked for.
    pub rerouted: Counter,
    /// Messages to a plugin that no connection took.
    pub undelivered: Counter,
    /// Messages of plugins that were not understood.
    pub undecodable: Counter,
    /// Text messages of plugins, which mean nothing here.
    pub text: Counter,
    /// Messages of the administrator, who has no calls.
    pub of_admin: Counter,
}

impl HubCounters {
    /// Adds all of them to what is shown.
    pub fn register(&self, registry: &mut Registry) {
        for (name, help, counter) in [
            (
                "plugin_connections_refused",
                "Connections refused for want of a place",
                &self.refused,
            ),
            (
                "plugin_connections_overflowed",
                "Connections closed because too much waited for them",
                &self.overflowed,
            ),
            (
                "plugin_connections_stalled",
                "Connections closed because a write took too long",
                &self.stalled,
            ),
            ("plugin_connections_silent", "Connections closed because no pong came", &self.silent),
            (
                "plugin_connections_too_long",
                "Connections closed because a message was too long",
                &self.too_long,
            ),
            (
                "plugin_messages_rerouted",
                "Messages that went to another connection of the same client",
                &self.rerouted,
            ),
            ("plugin_messages_undelivered", "Messages that no connection took", &self.undelivered),
            (
                "plugin_messages_undecodable",
                "Messages of plugins that were not understood",
                &self.undecodable,
            ),
            ("plugin_messages_text", "Text messages of plugins, ignored", &self.text),
            ("plugin_messages_of_admin", "Messages of the administrator, ignored", &self.of_admin),
        ] {
            registry.register(name, help, counter.clone());
        }
    }
}
