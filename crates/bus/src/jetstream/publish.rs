//! Publishing to streams. Every message carries an id, so that it can be sent again whenever its
//! acknowledgement is lost.

use std::{collections::VecDeque, future::IntoFuture};

use async_nats::{
    HeaderMap,
    header::NATS_MESSAGE_ID,
    jetstream::{
        self,
        context::{PublishAckFuture, PublishError, PublishErrorKind},
        message::PublishMessage,
        publish::PublishAck,
        stream::Info,
    },
};
use bytes::Bytes;

use super::{
    attempt::{AttemptFailure, RetryBudget, retry_transient},
    connection::{EmptyRequest, NatsConnection},
    convert::{check_size, encode_headers},
};
use crate::{
    error::BusError,
    message::Message,
    topology::{Stream, TopologySettings},
};

/// Unacknowledged messages of one publisher.
const MAX_IN_FLIGHT: usize = 512;

/// A message in the form in which it is sent, as often as necessary.
pub(super) struct OutgoingMessage {
    /// Name of the stream that stores the subject.
    pub(super) stream: String,
    /// Largest message of the stream, in bytes.
    pub(super) max_bytes: usize,
    pub(super) subject: String,
    /// Headers, the message id among them.
    pub(super) headers: HeaderMap,
    pub(super) payload: Bytes,
}

/// The acknowledgement of a message.
pub(super) struct AcknowledgedMessage {
    pub(super) ack: PublishAck,
    /// How often the message was sent.
    pub(super) attempts: u32,
}

impl OutgoingMessage {
    /// Encodes a message for the stream of its subject, and checks its size.
    pub(super) fn new(connection: &NatsConnection, message: Message, id: &str) -> Result<Self, BusError> {
        let stream = Stream::for_subject(&message.subject)
            .ok_or_else(|| BusError::Unusable(format!("no stream stores the subject {}", message.subject)))?;
        let mut headers = encode_headers(&message.headers)?;
        headers.insert(NATS_MESSAGE_ID, id);
        let outgoing = Self {
            stream: stream.name().to_owned(),
            max_bytes: stream.limits(&TopologySettings::default()).max_message_bytes,
            subject: message.subject,
            headers,
            payload: message.payload,
        };
        outgoing.check_size(connection)?;
        Ok(outgoing)
    }

    /// Checks the size against the limits of the server and the stream.
    pub(super) fn check_size(&self, connection: &NatsConnection) -> Result<(), BusError> {
        check_size(&self.headers, &self.payload, connection.max_payload().min(self.max_bytes))
    }

    /// Publishes the message, and sends it again under the same id until it is acknowledged.
    pub(super) async fn publish(&self, connection: &NatsConnection) -> Result<AcknowledgedMessage, BusError> {
        let mut attempts = 0;
        let ack = retry_transient(&self.subject, || {
            attempts += 1;
            async {
                let ack = self.send(connection).await?;
                self.await_ack(connection, ack).await
            }
        })
        .await?;
        Ok(AcknowledgedMessage { ack, attempts })
    }

    async fn send(&self, connection: &NatsConnection) -> Result<PublishAckFuture, AttemptFailure> {
        let message = PublishMessage::build().headers(self.headers.clone()).payload(self.payload.clone());
        match connection.context.send_publish(self.subject.clone(), message).await {
            Ok(ack) => Ok(ack),
            Err(error) => Err(self.classify(connection, &error).await),
        }
    }

    /// Waits for an acknowledgement; fails at once if the connection is lost, since it will not
    /// arrive then.
    async fn await_ack(
        &self,
        connection: &NatsConnection,
        ack: PublishAckFuture,
    ) -> Result<PublishAck, AttemptFailure> {
        let mut connection_count = connection.connection_count();
        let acknowledged = async {
            tokio::select! {
                biased;
                ack = ack.into_future() => match ack {
                    Ok(ack) => Ok(ack),
                    Err(error) => Err(self.classify(connection, &error).await),
                },
                _ = connection_count.changed() => Err(AttemptFailure::transient("the connection was lost")),
            }
        };
        connection.fail_if_denied(&self.subject, acknowledged).await
    }

    async fn classify(&self, connection: &NatsConnection, error: &PublishError) -> AttemptFailure {
        match error.kind() {
            PublishErrorKind::WrongLastSequence | PublishErrorKind::WrongLastMessageId => {
                AttemptFailure::Permanent(BusError::Refused { status: 409, reason: error.to_string() })
            }
            // The subject has no responder: the stream does not exist, or the server is still
            // loading it.
            PublishErrorKind::StreamNotFound => {
                let request = format!("STREAM.INFO.{}", self.stream);
                match connection.request_api::<Info>(&request, &EmptyRequest {}).await {
                    Err(AttemptFailure::Permanent(BusError::Missing(object))) => {
                        AttemptFailure::Permanent(BusError::Missing(object))
                    }
                    _ => AttemptFailure::transient(error),
                }
            }
            PublishErrorKind::Other => {
                let source = std::error::Error::source(error);
                match source.and_then(|source| source.downcast_ref::<jetstream::Error>()) {
                    Some(source) => {
                        let failure = AttemptFailure::from_api(&self.stream, source);
                        if let AttemptFailure::Permanent(BusError::Full(reason)) = &failure {
                            connection.report_refusal(reason);
                        }
                        failure
                    }
                    None => AttemptFailure::transient(error),
                }
            }
            // A server whose disk is full acknowledges nothing, and sends no error either.
            PublishErrorKind::TimedOut if connection.is_connected() => {
                connection.report_refusal(&format!(
                    "the server does not acknowledge messages of stream {}: its log tells why",
                    self.stream
                ));
                AttemptFailure::transient(error)
            }
            _ => AttemptFailure::transient(error),
        }
    }
}

/// Publishes messages in order. After a failure it sends the failed message and all later ones
/// again, which keeps the order.
pub(super) async fn publish_all(
    connection: &NatsConnection,
    messages: &[OutgoingMessage],
) -> Result<(), BusError> {
    let mut budget = RetryBudget::default();
    let mut stored = 0;
    while stored < messages.len() {
        let (newly_stored, result) = publish_until_failure(connection, &messages[stored..]).await;
        stored += newly_stored;
        match result {
            Ok(()) => {}
            Err(AttemptFailure::Permanent(error)) => return Err(error),
            Err(AttemptFailure::Transient(reason)) => {
                if newly_stored > 0 {
                    budget.reset();
                }
                budget.back_off(&messages[stored].subject, reason).await?;
            }
        }
    }
    Ok(())
}

/// Publishes messages with up to [`MAX_IN_FLIGHT`] unacknowledged ones. Returns how many are
/// stored, and the failure that ended it, if any.
async fn publish_until_failure(
    connection: &NatsConnection,
    messages: &[OutgoingMessage],
) -> (usize, Result<(), AttemptFailure>) {
    let mut acks: VecDeque<PublishAckFuture> = VecDeque::new();
    let mut stored = 0;
    loop {
        while acks.len() < MAX_IN_FLIGHT
            && let Some(message) = messages.get(stored + acks.len())
        {
            match message.send(connection).await {
                Ok(ack) => acks.push_back(ack),
                Err(failure) => return (stored, Err(failure)),
            }
        }
        let Some(ack) = acks.pop_front() else { return (stored, Ok(())) };
        if let Err(failure) = messages[stored].await_ack(connection, ack).await {
            return (stored, Err(failure));
        }
        stored += 1;
    }
}
