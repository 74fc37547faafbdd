//! Pull requests to one consumer: an inbox that stays open, and requests for as many messages as
//! the receiver can use. Messages that have arrived stay in the inbox when a future is dropped, so
//! cancellation loses none.

use std::{sync::Arc, time::Duration};

use async_nats::{Message, Subscriber};
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use tokio::{sync::watch, time::timeout};

use super::{attempt::AttemptFailure, connection::NatsConnection, convert::DeliveryInfo};
use crate::error::BusError;

/// Time after which the server drops a pull request. Also ends requests of a receiver that is gone,
/// which a cluster of servers cannot always detect.
const REQUEST_EXPIRY: Duration = Duration::from_secs(10);
/// Interval of the server's heartbeats while a request is open.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(4);
/// Silence after which a request is abandoned: two heartbeats were missed.
const SILENCE_LIMIT: Duration = Duration::from_secs(9);
/// Upper bound on the bytes sent in response to one request, unless a single message may be larger
/// than half of it.
const MAX_RESPONSE_BYTES: usize = 16 << 20;

/// When the server completes a pull request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PullMode {
    /// At once, with the messages that are ready, possibly none.
    NoWait,
    /// With the messages that are ready, as soon as there is at least one.
    FirstReady,
    /// When the whole batch has been sent, or the request expires.
    FullBatch,
}

/// What a receiver finds in its inbox.
#[derive(Debug)]
pub(super) enum PullEvent {
    /// A message of the stream.
    Message(Box<Message>),
    /// The request ended: every message that was ready has been sent.
    Exhausted,
    /// The server did not accept the request: it asked for more messages than the server allows in
    /// one. The next request asks for fewer.
    BatchTooLarge,
    /// The connection was lost, and the request with it. More messages may be ready.
    Interrupted,
    /// The consumer cannot be reached; it may no longer exist. Holds the reason.
    Unreachable(String),
    /// The server denied the request.
    Denied(BusError),
}

/// The pull requests of one receiver, and the inbox for their responses.
pub(super) struct PullRequests {
    connection: Arc<NatsConnection>,
    request_subject: String,
    inbox: String,
    subscriber: Subscriber,
    connection_count: watch::Receiver<u64>,
    /// Number of the latest request; the first is 1.
    latest_request: u64,
    /// Requests up to this number are abandoned: their status messages are ignored.
    abandoned_up_to: u64,
    /// Messages requested and not received yet.
    outstanding: usize,
}

impl PullRequests {
    /// Subscribes to a new inbox. Sends no request.
    pub(super) async fn open(
        connection: &Arc<NatsConnection>,
        stream: &str,
        consumer: &str,
    ) -> Result<Self, AttemptFailure> {
        let inbox = connection.client.new_inbox();
        let subscriber = connection
            .client
            .subscribe(format!("{inbox}.*"))
            .await
            .map_err(|error| AttemptFailure::Transient(format!("subscribing to an inbox: {error}")))?;
        Ok(Self {
            connection: connection.clone(),
            request_subject: format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}"),
            inbox,
            subscriber,
            connection_count: connection.connection_count(),
            latest_request: 0,
            abandoned_up_to: 0,
            outstanding: 0,
        })
    }

    /// Whether the task of the connection has ended: nothing arrives any more.
    pub(super) fn is_closed(&self) -> bool {
        self.connection.is_closed()
    }

    /// Messages requested and not received yet.
    pub(super) fn outstanding(&self) -> usize {
        self.outstanding
    }

    /// Requests up to `batch` messages, or as many as the server allows in one request.
    pub(super) async fn request(&mut self, batch: usize, mode: PullMode) -> Result<(), AttemptFailure> {
        let batch = batch.min(self.connection.max_request_batch());
        let (no_wait, expires) = match mode {
            PullMode::NoWait => (true, Duration::ZERO),
            PullMode::FirstReady => (true, REQUEST_EXPIRY),
            PullMode::FullBatch => (false, REQUEST_EXPIRY),
        };
        let heartbeat = if expires.is_zero() { Duration::ZERO } else { HEARTBEAT_INTERVAL };
        let max_bytes = MAX_RESPONSE_BYTES.max(2 * self.connection.max_payload());
        let body = format!(
            r#"{{"batch":{batch},"max_bytes":{max_bytes},"no_wait":{no_wait},"expires":{},"idle_heartbeat":{}}}"#,
            expires.as_nanos(),
            heartbeat.as_nanos(),
        );
        if self.outstanding == 0 {
            self.connection_count.mark_unchanged();
        }
        let reply = format!("{}.{}", self.inbox, self.latest_request + 1);
        self.connection
            .client
            .publish_with_reply(self.request_subject.clone(), reply, Bytes::from(body))
            .await
            .map_err(|error| {
                // Publishing waits through outages: it fails if the connection's task has ended.
                self.connection.mark_closed();
                AttemptFailure::transient(error)
            })?;
        self.latest_request += 1;
        self.outstanding += batch;
        Ok(())
    }

    /// Returns the next event that has already arrived.
    pub(super) fn try_next(&mut self) -> Option<PullEvent> {
        while let Some(message) = self.subscriber.next().now_or_never() {
            if let Some(event) = self.classify(message) {
                return Some(event);
            }
        }
        None
    }

    /// Waits for the next event. A request must be open.
    pub(super) async fn next(&mut self) -> PullEvent {
        loop {
            let message = tokio::select! {
                biased;
                message = timeout(SILENCE_LIMIT, self.subscriber.next()) => message,
                _ = self.connection_count.changed() => {
                    self.abandon();
                    return PullEvent::Interrupted;
                }
                error = self.connection.permission_violation(&self.request_subject) => {
                    self.abandon();
                    return PullEvent::Denied(error);
                }
            };
            let Ok(message) = message else {
                self.abandon();
                return if self.connection.is_connected() {
                    PullEvent::Interrupted
                } else {
                    PullEvent::Unreachable("the NATS server cannot be reached".to_owned())
                };
            };
            if let Some(event) = self.classify(message) {
                return event;
            }
        }
    }

    /// Expects no more responses to the requests sent so far. Messages that arrive all the same are
    /// still delivered.
    fn abandon(&mut self) {
        self.abandoned_up_to = self.latest_request;
        self.outstanding = 0;
    }

    /// Turns what arrived in the inbox into an event; `None` if the receiver need not know of it.
    fn classify(&mut self, message: Option<Message>) -> Option<PullEvent> {
        let Some(message) = message else {
            self.connection.mark_closed();
            self.abandon();
            return Some(PullEvent::Interrupted);
        };
        // Only a delivery has a subject for its acknowledgement. A stored message may contain a
        // status line too.
        let status = match message.status {
            Some(status) if message.reply.as_deref().and_then(DeliveryInfo::parse).is_none() => status,
            _ => {
                self.outstanding = self.outstanding.saturating_sub(1);
                return Some(PullEvent::Message(Box::new(message)));
            }
        };
        let request = message.subject.rsplit('.').next().and_then(|number| number.parse::<u64>().ok());
        let is_heartbeat = status.as_u16() == 100;
        if is_heartbeat || request.is_none_or(|request| request <= self.abandoned_up_to) {
            return None;
        }
        let text = message.description.as_deref().unwrap_or_default();
        let unsent = message.headers.as_ref().and_then(|headers| headers.get("Nats-Pending-Messages"));
        let unsent = unsent.and_then(|unsent| unsent.as_str().parse::<usize>().ok());
        if let Some(limit) = max_request_batch(text) {
            self.connection.lower_max_request_batch(limit);
            self.abandon();
            return Some(PullEvent::BatchTooLarge);
        }
        match status.as_u16() {
            // The whole batch has been sent: its messages have already been counted.
            409 if text.contains("Batch Completed") && unsent.unwrap_or(0) == 0 => None,
            404 | 408 | 409 if !text.contains("Consumer Deleted") && !text.contains("Exceeded") => {
                self.outstanding = self.outstanding.saturating_sub(unsent.unwrap_or(self.outstanding));
                Some(PullEvent::Exhausted)
            }
            status => {
                self.abandon();
                Some(PullEvent::Unreachable(format!("the server replied {status} {text}")))
            }
        }
    }
}

/// The limit that the text of a status message states: `Exceeded MaxRequestBatch of 10`.
fn max_request_batch(text: &str) -> Option<usize> {
    let limit = text.strip_prefix("Exceeded MaxRequestBatch of ")?;
    limit.trim().parse().ok().filter(|&limit| limit > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_servers_limit_of_a_batch_is_read() {
        assert_eq!(max_request_batch("Exceeded MaxRequestBatch of 10"), Some(10));
        for other in ["Exceeded MaxWaiting", "Exceeded MaxRequestBatch of 0", "Batch Completed", ""] {
            assert_eq!(max_request_batch(other), None, "{other}");
        }
    }
}
