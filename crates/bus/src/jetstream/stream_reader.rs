//! Ordered reading of a stream without gaps and without end, over an ephemeral consumer. After any
//! failure the reader creates a new consumer that starts behind the last message read.
//!
//! A message whose headers cannot be read interrupts the connection instead of arriving. So after
//! an interruption the reader loads the next message by itself, and steps over it if it is
//! unreadable. From then on it loads message by message for a while: a publisher of many such
//! messages slows its readers down and does not stop them.
//!
//! A server that has lost its latest messages, or all of them, assigns their sequences again. The
//! reader notices that the stream ends before the last message read, and goes on with the messages
//! that were stored after that one.

use std::sync::Arc;

use async_nats::{
    HeaderMap, Message,
    jetstream::{
        consumer::{AckPolicy, Config, DeliverPolicy, ReplayPolicy},
        stream::Info,
    },
};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;
use time::OffsetDateTime;
use tokio::time::{Duration, Instant, sleep};

use super::{
    attempt::{AttemptFailure, RetryBudget, retry_transient},
    connection::{EmptyRequest, NatsConnection},
    convert::DeliveryInfo,
    inbound_connection::InboundConnection,
    pull_requests::{PullEvent, PullMode, PullRequests},
    raw_message::{self, MessageQuery, RawMessage},
    server_clock::ServerTimestamp,
};
use crate::error::BusError;

/// Messages per pull request.
const BATCH_SIZE: usize = 512;
/// Time after which the server removes a consumer that receives no pull requests.
const INACTIVE_THRESHOLD: Duration = Duration::from_secs(30);
/// Period after an unreadable message in which a reader loads message by message.
const SINGLE_STEP_PERIOD: Duration = Duration::from_secs(60);
/// Interval between two attempts to load the next message in that period.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

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
    Message(ReadMessage),
    /// The next message, whose headers cannot be read.
    Unreadable {
        /// Its subject.
        subject: String,
        /// Its position in the stream.
        sequence: u64,
    },
    /// Every message that was stored when the reader was opened has been read or removed. Reported
    /// once.
    CaughtUp,
}

/// A message of the stream.
#[derive(Debug)]
pub(super) struct ReadMessage {
    pub(super) subject: String,
    pub(super) headers: Option<HeaderMap>,
    pub(super) payload: Bytes,
    /// Position in the stream.
    pub(super) sequence: u64,
    /// Time since it was stored, by the server's clock.
    pub(super) age: Duration,
}

/// Reads a selection of a stream from its first message on.
pub(super) struct StreamReader {
    /// For requests.
    connection: Arc<NatsConnection>,
    /// For messages.
    inbound: Arc<InboundConnection>,
    selection: StreamSelection,
    /// Sequence of the last message read; 0 before the first, and after the stream has lost it.
    last_sequence: u64,
    /// Time at which the last message read was stored, in nanoseconds since the Unix epoch.
    last_stored_at: u64,
    /// After the stream has lost messages: those stored up to this time have been read, whatever
    /// their sequence. `None` once a later one has been read.
    read_until: Option<u64>,
    /// Upper bound on the unread messages among those that were stored when the reader was opened;
    /// `None` once it has caught up with them.
    backlog: Option<u64>,
    /// `None` after a failure, until the next attempt.
    consumer: Option<EphemeralConsumer>,
    /// Whether the next message may be unreadable, because the consumer was interrupted.
    is_suspicious: bool,
    /// Time until which the reader loads message by message.
    single_steps_until: Option<Instant>,
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

/// The server's reply to the creation of a consumer.
#[derive(Deserialize)]
struct CreatedConsumer {
    /// Number of stored messages that it will deliver.
    num_pending: u64,
    /// When the server replied.
    ts: Option<ServerTimestamp>,
}

impl StreamReader {
    /// Creates the consumer; the stream must exist.
    pub(super) async fn open(
        connection: &Arc<NatsConnection>,
        inbound: &Arc<InboundConnection>,
        selection: StreamSelection,
    ) -> Result<Self, BusError> {
        let create = || EphemeralConsumer::create(connection, inbound, &selection, DeliverPolicy::All);
        let (consumer, backlog) = retry_transient(&selection.stream, create).await?;
        Ok(Self {
            connection: connection.clone(),
            inbound: inbound.clone(),
            selection,
            last_sequence: 0,
            last_stored_at: 0,
            read_until: None,
            backlog: Some(backlog),
            consumer: Some(consumer),
            is_suspicious: false,
            single_steps_until: None,
            budget: RetryBudget::default(),
        })
    }

    /// Waits for the next event, through failures of any duration.
    pub(super) async fn next(&mut self) -> ReadEvent {
        loop {
            match self.next_within_budget().await {
                Ok(event) => return event,
                Err(error) => tracing::warn!(%error, "reading the stream failed; retrying"),
            }
        }
    }

    /// Waits for the next event; fails once the retry budget is spent, after which it may be called
    /// again.
    pub(super) async fn next_within_budget(&mut self) -> Result<ReadEvent, BusError> {
        loop {
            if self.backlog == Some(0) {
                self.backlog = None;
                return Ok(ReadEvent::CaughtUp);
            }
            let step =
                if self.must_single_step() { self.load_next().await } else { self.receive_next().await };
            let reason = match step {
                Ok(Some(event)) => {
                    self.budget.reset();
                    return Ok(event);
                }
                Ok(None) => continue,
                Err(AttemptFailure::Transient(reason)) => reason,
                Err(AttemptFailure::Permanent(error)) => error.to_string(),
            };
            self.consumer = None;
            self.is_suspicious = true;
            let stream = &self.selection.stream;
            tracing::debug!(stream, reason, "reading the stream was interrupted; creating a new consumer");
            self.budget.back_off(stream, reason).await?;
        }
    }

    fn must_single_step(&self) -> bool {
        self.connection.can_load_messages()
            && (self.is_suspicious || self.single_steps_until.is_some_and(|until| Instant::now() < until))
    }

    /// Loads the next message by itself; `None` if there is none at present.
    async fn load_next(&mut self) -> Result<Option<ReadEvent>, AttemptFailure> {
        self.consumer = None;
        let next = self.find_next().await?;
        self.is_suspicious = false;
        let Some(message) = next else {
            if self.backlog.is_some() {
                self.backlog = Some(0);
            } else if self.must_single_step() {
                sleep(POLL_INTERVAL).await;
            }
            return Ok(None);
        };
        let RawMessage { subject, sequence, stored_at, headers, payload } = message;
        if self.is_read(stored_at) {
            self.last_sequence = sequence;
            return Ok(None);
        }
        self.advance_to(sequence, stored_at);
        if headers.is_none() {
            self.connection.report_unreadable(&self.selection.stream, sequence, &subject);
            self.single_steps_until = Some(Instant::now() + SINGLE_STEP_PERIOD);
            return Ok(Some(ReadEvent::Unreadable { subject, sequence }));
        }
        let payload = if self.selection.headers_only { Bytes::new() } else { payload };
        let age = self.connection.server_clock().time_since(stored_at);
        Ok(Some(ReadEvent::Message(ReadMessage { subject, headers, payload, sequence, age })))
    }

    /// Finds the first message behind the last one read that matches any filter.
    async fn find_next(&self) -> Result<Option<RawMessage>, AttemptFailure> {
        let filters = &self.selection.filters;
        let mut first = self.find_first_of(filters).await?;
        // Between two requests, a message may have been stored that matches an earlier filter and
        // precedes the one found. A second pass sees it.
        if first.is_some() && filters.len() > 1 {
            first = self.find_first_of(filters).await?;
        }
        Ok(first)
    }

    async fn find_first_of(&self, filters: &[String]) -> Result<Option<RawMessage>, AttemptFailure> {
        let mut first: Option<RawMessage> = None;
        for filter in filters {
            let query = MessageQuery::Next { sequence: self.last_sequence + 1, filter };
            let found = raw_message::load(&self.connection, &self.selection.stream, query).await?;
            first = first.into_iter().chain(found).min_by_key(|message| message.sequence);
        }
        Ok(first)
    }

    /// Whether a message was read before the stream lost later ones.
    fn is_read(&self, stored_at: u64) -> bool {
        self.read_until.is_some_and(|until| stored_at <= until)
    }

    fn advance_to(&mut self, sequence: u64, stored_at: u64) {
        (self.last_sequence, self.last_stored_at, self.read_until) = (sequence, stored_at, None);
        self.backlog = self.backlog.map(|unread| unread.saturating_sub(1));
    }

    fn consumer(&mut self) -> Result<&mut EphemeralConsumer, AttemptFailure> {
        self.consumer.as_mut().ok_or_else(|| AttemptFailure::transient("the consumer does not exist"))
    }

    /// Waits for one event of the consumer, creating the consumer first if necessary; `None` if it
    /// was no new message.
    async fn receive_next(&mut self) -> Result<Option<ReadEvent>, AttemptFailure> {
        if self.consumer.is_none() {
            self.create_consumer().await?;
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
            PullEvent::BatchTooLarge => Ok(None),
            // Messages in transit are lost with the connection, and this consumer does not send
            // them again.
            PullEvent::Interrupted => Err(AttemptFailure::transient("the connection was lost")),
            PullEvent::Unreachable(reason) => Err(AttemptFailure::Transient(reason)),
            PullEvent::Denied(error) => Err(AttemptFailure::Permanent(error)),
        }
    }

    /// Creates a consumer behind the last message read.
    async fn create_consumer(&mut self) -> Result<(), AttemptFailure> {
        if self.last_sequence > 0 {
            self.notice_loss().await?;
        }
        let start = match (self.last_sequence, self.read_until) {
            (0, None) => DeliverPolicy::All,
            (0, Some(until)) => DeliverPolicy::ByStartTime { start_time: time_after(until) },
            (last, _) => DeliverPolicy::ByStartSequence { start_sequence: last + 1 },
        };
        let (consumer, _) =
            EphemeralConsumer::create(&self.connection, &self.inbound, &self.selection, start).await?;
        self.consumer = Some(consumer);
        Ok(())
    }

    /// Goes on by time if the stream has lost the last message read: a consumer that starts behind
    /// it would wait until the stream has that many messages again.
    async fn notice_loss(&mut self) -> Result<(), AttemptFailure> {
        let (stream, last_read) = (&self.selection.stream, self.last_sequence);
        let subject = format!("STREAM.INFO.{stream}");
        let info: Info = self.connection.request_api(&subject, &EmptyRequest {}).await?;
        let last_stored = info.state.last_sequence;
        if last_stored < last_read {
            tracing::warn!(
                stream,
                last_read,
                last_stored,
                "the server has lost messages of the stream; reading those stored since"
            );
            (self.last_sequence, self.read_until) = (0, Some(self.last_stored_at));
        }
        Ok(())
    }

    /// Accepts a message if it directly follows the previous delivery; `None` if it was read
    /// before.
    fn accept(&mut self, message: Message) -> Result<Option<ReadEvent>, AttemptFailure> {
        let Some(info) = message.reply.as_ref().and_then(|reply| DeliveryInfo::parse(reply)) else {
            return Ok(None);
        };
        let consumer = self.consumer()?;
        consumer.received += 1;
        if info.consumer_sequence != consumer.received {
            return Err(AttemptFailure::transient("messages were lost in transit"));
        }
        if info.stream_sequence <= self.last_sequence || self.is_read(info.stored_at) {
            return Ok(None);
        }
        self.advance_to(info.stream_sequence, info.stored_at);
        Ok(Some(ReadEvent::Message(ReadMessage {
            subject: message.subject.into_string(),
            headers: message.headers,
            payload: message.payload,
            sequence: info.stream_sequence,
            age: self.connection.server_clock().time_since(info.stored_at),
        })))
    }
}

/// The moment after a time in nanoseconds since the Unix epoch.
fn time_after(nanoseconds: u64) -> OffsetDateTime {
    let time = OffsetDateTime::from_unix_timestamp_nanos(i128::from(nanoseconds) + 1);
    time.unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

impl EphemeralConsumer {
    /// Creates a consumer that starts where `start` says. Also returns the number of stored
    /// messages that it will deliver.
    async fn create(
        connection: &Arc<NatsConnection>,
        inbound: &InboundConnection,
        selection: &StreamSelection,
        start: DeliverPolicy,
    ) -> Result<(Self, u64), AttemptFailure> {
        let stream = &selection.stream;
        let name = connection.client.new_inbox().rsplit('.').next().unwrap_or("forge").to_owned();
        let requests = PullRequests::open(&inbound.get().await?, stream, &name).await?;
        let mut config = Config {
            name: Some(name.clone()),
            deliver_policy: start,
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
        let created: CreatedConsumer = connection.request_api(&subject, &body).await?;
        connection.server_clock().record(created.ts);
        let consumer =
            Self { connection: connection.clone(), stream: stream.clone(), name, requests, received: 0 };
        Ok((consumer, created.num_pending))
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
