//! A connection of its own for messages that others publish. One of them may make async-nats drop
//! the connection ([`raw_message`](super::raw_message)); requests, writes and settlements then go on
//! over theirs.

use std::sync::Arc;

use tokio::sync::Mutex;

use super::{attempt::AttemptFailure, connection::NatsConnection, options::JetStreamOptions};
use crate::error::BusError;

/// A connection that is opened when it is first needed, and again if its task has ended.
pub(super) struct InboundConnection {
    /// The connection for requests.
    requests: Arc<NatsConnection>,
    options: JetStreamOptions,
    current: Mutex<Option<Arc<NatsConnection>>>,
}

impl InboundConnection {
    /// Opens nothing yet.
    pub(super) fn new(requests: &Arc<NatsConnection>, options: &JetStreamOptions) -> Arc<Self> {
        Arc::new(Self { requests: requests.clone(), options: options.clone(), current: Mutex::default() })
    }

    /// Whether the server has denied a subscription of this connection. A shared one answers for
    /// itself.
    pub(super) fn has_denied_subscription(&self) -> bool {
        let current = self.current.try_lock();
        current.is_ok_and(|current| current.as_ref().is_some_and(|c| c.has_denied_subscription()))
    }

    /// Reconnects if the server has denied a subscription.
    pub(super) async fn reconnect_if_denied(&self) {
        let current = self.current.lock().await.clone();
        if let Some(connection) = current.filter(|connection| connection.has_denied_subscription()) {
            connection.reconnect().await;
        }
    }

    /// Returns the connection. A client that does not manage the topology receives only messages of
    /// services, and shares its connection for requests.
    pub(super) async fn get(&self) -> Result<Arc<NatsConnection>, AttemptFailure> {
        if !self.options.manage_topology {
            return Ok(self.requests.clone());
        }
        let mut current = self.current.lock().await;
        if let Some(connection) = current.as_ref().filter(|connection| !connection.is_closed()) {
            return Ok(connection.clone());
        }
        let opened = NatsConnection::connect(&self.options).await.map_err(|error| match error {
            BusError::Unavailable(reason) => AttemptFailure::Transient(reason),
            error => AttemptFailure::Permanent(error),
        })?;
        Ok(current.insert(opened).clone())
    }
}
