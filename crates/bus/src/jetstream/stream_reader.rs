//! Ordered reading of a stream without gaps and without end, over an ephemeral consumer. After any
//! failure the reader creates a new consumer that starts behind the last message read.

use std::sync::Arc;

use async_nats::{
    Message,
    jetstream::consumer::{AckPolicy, Config, DeliverPolicy, Info, ReplayPolicy},
};
use serde_json::json;
use tokio::time::Duration;

use super::{
    attempt::{AttemptFailure, RetryBudget, retry_transient},
    connection::NatsConnection,
    convert::DeliveryInfo,
    pull_requests::{PullEvent, PullMode, PullRequests},
};
use crate::error::BusError;

/// Messages per pull request.
const BATCH_SIZE: usize = 512;
/// Time after which the server removes a consumer that receives no pull requests.
const INACTIVE_THRESHOLD: Duration = Duration::from_secs(30);

/// The part of a stream to read.
#[derive(Debug, Clone)]
pub(super) struct StreamSelection {
    /// Name of the stream.
    pub(super) stream: String,
    pub(super) filters: Vec<String>,
    pub(super) headers_only: bool,
}

/// What a reader finds next.
#[derive(Debug)]
pub(super) enum ReadEvent {
    /// The next message.
    Message(Box<Message>, DeliveryInfo),
    /// Every message that was stored when the reader was opened has been read or removed. Reported
    /// once.
    CaughtUp,
}

/// Reads a selection of a stream from its first message on.
pub(super) struct StreamReader {
    connection: Arc<NatsConnection>,
    selection: StreamSelection,
    /// Sequence of the last message read; 0 before the first.
    last_sequence: u64,
    /// Upper bound on the unread messages among those that were stored when the reader was opened;
    /// `None` once it has caught up with them.
    backlog: Option<u64>,
    /// `None` after a failure, until the next attempt.
    consumer: Option<EphemeralConsumer>,
    budget: RetryBudget,
}

/// A consumer that this reader created on the server.
struct EphemeralConsumer {
    connection: Arc<NatsConnection>,
    stream: String,
    name: String,
    requests: PullRequests,
    /// Messages received. A gap to the server's count means that some were lost.
    received: u64,
}

impl StreamReader {
    /// Creates the consumer; the stream must exist.
    pub(super) async fn open(
        connection: &Arc<NatsConnection>,
        selection: StreamSelection,
    ) -> Result<Self, BusError> {
        let create = || EphemeralConsumer::create(connection, &selection, 0);
        let (consumer, backlog) = retry_transient(&selection.stream, create).await?;
        Ok(Self {
            connection: connection.clone(),
            selection,
            last_sequence: 0,
            backlog: Some(backlog),
            consumer: Some(consumer),
            budget: RetryBudget::default(),
        })
    }

    /// Waits for the next event, through failures of any duration.
    pub(super) async fn next(&mut self) -> ReadEvent {
        loop {
            if self.backlog == Some(0) {
                self.backlog = None;
                return ReadEvent::CaughtUp;
            }
            let reason = match self.advance().await {
                Ok(Some((message, info))) => {
                    self.budget.reset();
                    return ReadEvent::Message(Box::new(message), info);
                }
                Ok(None) => continue,
                Err(AttemptFailure::Transient(reason)) => reason,
                Err(AttemptFailure::Permanent(error)) => error.to_string(),
            };
            self.consumer = None;
            let stream = &self.selection.stream;
            tracing::debug!(stream, reason, "reading the stream was interrupted; creating a new consumer");
            if let Err(error) = self.budget.back_off(stream, reason).await {
                tracing::warn!(%error, "reading the stream failed; retrying");
            }
        }
    }

    /// Reads the messages that are stored now, then ends.
    pub(super) async fn read_to_end(mut self) -> Result<Vec<(Message, DeliveryInfo)>, AttemptFailure> {
        let mut messages = Vec::new();
        loop {
            let consumer = self.consumer()?;
            if consumer.requests.outstanding() == 0 {
                consumer.requests.request(BATCH_SIZE, PullMode::NoWait).await?;
            }
            match consumer.requests.next().await {
                PullEvent::Message(message) => messages.extend(self.accept(*message)?),
                PullEvent::Exhausted => return Ok(messages),
                PullEvent::Interrupted => return Err(AttemptFailure::transient("the connection was lost")),
                PullEvent::Unreachable(reason) => return Err(AttemptFailure::Transient(reason)),
                PullEvent::Denied(error) => return Err(AttemptFailure::Permanent(error)),
            }
        }
    }

    fn consumer(&mut self) -> Result<&mut EphemeralConsumer, AttemptFailure> {
        self.consumer.as_mut().ok_or_else(|| AttemptFailure::transient("the consumer does not exist"))
    }

    /// Waits for one event of the consumer, creating the consumer first if necessary; `None` if it
    /// was no new message.
    async fn advance(&mut self) -> Result<Option<(Message, DeliveryInfo)>, AttemptFailure> {
        if self.consumer.is_none() {
            let create = EphemeralConsumer::create(&self.connection, &self.selection, self.last_sequence);
            self.consumer = Some(create.await?.0);
        }
        // The server ends a request without waiting if nothing is left to send. This also happens
        // if the backlog is purged while it is read.
        let mode = if self.backlog.is_some() { PullMode::NoWait } else { PullMode::FullBatch };
        let requests = &mut self.consumer()?.requests;
        let event = match requests.try_next() {
            Some(event) => event,
            None => {
                if requests.outstanding() == 0 {
                    requests.request(BATCH_SIZE, mode).await?;
                }
                requests.next().await
            }
        };
        match event {
            PullEvent::Message(message) => {
                // Requests the next batch while half of this one is still on its way.
                if mode == PullMode::FullBatch && requests.outstanding() == BATCH_SIZE / 2 {
                    requests.request(BATCH_SIZE, PullMode::FullBatch).await?;
                }
                self.accept(*message)
            }
            PullEvent::Exhausted => {
                self.backlog = self.backlog.map(|_| 0);
                Ok(None)
            }
            // Messages in transit are lost with the connection, and this consumer does not send
            // them again.
            PullEvent::Interrupted => Err(AttemptFailure::transient("the connection was lost")),
            PullEvent::Unreachable(reason) => Err(AttemptFailure::Transient(reason)),
            PullEvent::Denied(error) => Err(AttemptFailure::Permanent(error)),
        }
    }

    /// Accepts a message if it directly follows the previous delivery; `None` if it was read
    /// before.
    fn accept(&mut self, message: Message) -> Result<Option<(Message, DeliveryInfo)>, AttemptFailure> {
        let Some(info) = message.reply.as_ref().and_then(|reply| DeliveryInfo::parse(reply)) else {
            return Ok(None);
        };
        let consumer = self.consumer()?;
        consumer.received += 1;
        if info.consumer_sequence != consumer.received {
            return Err(AttemptFailure::transient("messages were lost in transit"));
        }
        if info.stream_sequence <= self.last_sequence {
            return Ok(None);
        }
        self.last_sequence = info.stream_sequence;
        self.backlog = self.backlog.map(|unread| unread.saturating_sub(1));
        Ok(Some((message, info)))
    }
}

impl EphemeralConsumer {
    /// Creates a consumer that starts behind the message `after`; 0 means at the first message.
    /// Also returns the number of stored messages behind it.
    async fn create(
        connection: &Arc<NatsConnection>,
        selection: &StreamSelection,
        after: u64,
    ) -> Result<(Self, u64), AttemptFailure> {
        let stream = &selection.stream;
        let name = connection.client.new_inbox().rsplit('.').next().unwrap_or("forge").to_owned();
        let requests = PullRequests::open(connection, stream, &name).await?;
        let mut config = Config {
            name: Some(name.clone()),
            deliver_policy: match after {
                0 => DeliverPolicy::All,
                _ => DeliverPolicy::ByStartSequence { start_sequence: after + 1 },
            },
            ack_policy: AckPolicy::None,
            replay_policy: ReplayPolicy::Instant,
            max_deliver: 1,
            headers_only: selection.headers_only,
            inactive_threshold: INACTIVE_THRESHOLD,
            num_replicas: 1,
            memory_storage: true,
            ..Config::default()
        };
        let mut subject = format!("CONSUMER.CREATE.{stream}.{name}");
        // A single filter is part of the request's subject, so that permissions can restrict a user
        // to it.
        match selection.filters.as_slice() {
            [filter] => {
                config.filter_subject = filter.clone();
                subject = format!("{subject}.{filter}");
            }
            filters => config.filter_subjects = filters.to_vec(),
        }
        let body = json!({ "stream_name": stream, "config": config, "action": "create" });
        let info: Info = connection.request_api(&subject, &body).await?;
        let consumer =
            Self { connection: connection.clone(), stream: stream.clone(), name, requests, received: 0 };
        Ok((consumer, info.num_pending))
    }
}

impl Drop for EphemeralConsumer {
    /// Deletes the consumer, best effort: the server removes it after [`INACTIVE_THRESHOLD`]
    /// otherwise.
    fn drop(&mut self) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        if !self.connection.is_connected() {
            return;
        }
        let client = self.connection.client.clone();
        let subject = format!("$JS.API.CONSUMER.DELETE.{}.{}", self.stream, self.name);
        runtime.spawn(async move { client.publish(subject, "".into()).await });
    }
}
