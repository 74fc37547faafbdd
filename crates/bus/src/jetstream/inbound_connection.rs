//! A connection of its own for messages that others publish. One of them may make async-nats drop
//! the connection ([`raw_message`](super::raw_message)); requests, writes and settlements then go on
//! over theirs.

use std::sync::Arc;

use super::{attempt::AttemptFailure, connection::NatsConnection, options::JetStreamOptions};
use crate::error::BusError;

/// A connection that is opened when it is first needed, and again if its task has ended.
pub(super) struct InboundConnection {
    /// The connection for requests.
    requests: Arc<NatsConnection>,
    options: JetStreamOptions,
    opened: parking_lot::Mutex<Option<Arc<NatsConnection>>>,
    /// Held while the connection is opened.
    opening: tokio::sync::Mutex<()>,
}

impl InboundConnection {
    /// Opens nothing yet.
    pub(super) fn new(requests: &Arc<NatsConnection>, options: &JetStreamOptions) -> Arc<Self> {
        let (requests, options) = (requests.clone(), options.clone());
        Arc::new(Self { requests, options, opened: Default::default(), opening: Default::default() })
    }

    fn opened(&self) -> Option<Arc<NatsConnection>> {
        self.opened.lock().clone()
    }

    /// Whether the connection is up, or was not needed yet. A shared one answers for itself.
    pub(super) fn is_connected(&self) -> bool {
        self.opened().is_none_or(|connection| connection.is_connected())
    }

    /// Whether the server has denied a subscription of this connection. A shared one answers for
    /// itself.
    pub(super) fn has_denied_subscription(&self) -> bool {
        self.opened().is_some_and(|connection| connection.has_denied_subscription())
    }

    /// Reconnects if the server has denied a subscription.
    pub(super) async fn reconnect_if_denied(&self) {
        if let Some(connection) = self.opened().filter(|connection| connection.has_denied_subscription()) {
            connection.reconnect().await;
        }
    }

    /// Returns the connection. A client that does not manage the topology receives only messages of
    /// services, and shares its connection for requests.
    pub(super) async fn get(&self) -> Result<Arc<NatsConnection>, AttemptFailure> {
        if !self.options.manage_topology {
            return Ok(self.requests.clone());
        }
        let _opening = self.opening.lock().await;
        if let Some(connection) = self.opened().filter(|connection| !connection.is_closed()) {
            return Ok(connection);
        }
        let connection = NatsConnection::connect(&self.options).await.map_err(|error| match error {
            BusError::Unavailable(reason) => AttemptFailure::Transient(reason),
            error => AttemptFailure::Permanent(error),
        })?;
        *self.opened.lock() = Some(connection.clone());
        Ok(connection)
    }
}
