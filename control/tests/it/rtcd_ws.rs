//! rtcd's WebSocket from outside: the handshake, messages both ways, slow and hostile plugins.

mod deadlines;
mod handshake;
mod hostile;
mod messages;
mod support;
