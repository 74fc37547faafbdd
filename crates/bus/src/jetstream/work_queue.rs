//! Receivers of work queues, over durable pull consumers.
//!
//! A message whose headers cannot be read interrupts the connection whenever it is delivered. After
//! an interruption the receiver therefore searches the queue for such messages and deletes them.

use std::{collections::VecDeque, fmt, sync::Arc, time::Duration};

use async_nats::{Message, Subject, jetstream::consumer::Info};
use async_trait::async_trait;
use bytes::Bytes;
use serde::Deserialize;
use tokio::time::{Instant, timeout};

use super::{
    attempt::{AttemptFailure, RetryBudget, retry_transient},
    connection::{EmptyRequest, NatsConnection},
    convert::{DeliveryInfo, decode_message, from_nats},
    inbound_connection::InboundConnection,
    pull_requests::{PullEvent, PullMode, PullRequests},
    raw_message::{self, MessageQuery},
};
use crate::{
    bus::{Delivery, DeliveryLease, QueueReceiver},
    error::BusError,
    message,
    topology::{Queue, Stream},
};

/// How long a receiver that has messages waits for more of the same batch.
const LINGER: Duration = Duration::from_millis(20);
/// Readable messages behind the last one delivered at which a search for unreadable ones ends.
const SEARCH_AHEAD: usize = 16;
/// Period after an unreadable message in which a receiver searches before each request.
const SEARCH_PERIOD: Duration = Duration::from_secs(60);

/// A receiver of one queue.
pub(super) struct JetStreamReceiver {
    /// For requests and settlements.
    connection: Arc<NatsConnection>,
    /// For messages.
    inbound: Arc<InboundConnection>,
    queue: Queue,
    /// `None` after its connection has ended, until the next request.
    requests: Option<PullRequests>,
    search: UnreadableSearch,
    /// Received and not handed out yet.
    buffer: VecDeque<Message>,
    budget: RetryBudget,
}

/// The search of a queue for unreadable messages.
#[derive(Default)]
struct UnreadableSearch {
    /// Whether one may have been delivered, because a request was interrupted.
    is_suspicious: bool,
    /// Time until which each request is preceded by a search.
    repeated_until: Option<Instant>,
    /// Sequence up to which the stream has been searched.
    searched_to: u64,
}

/// Reads the state of a queue's consumer.
pub(super) async fn consumer_info(connection: &NatsConnection, queue: Queue) -> Result<Info, AttemptFailure> {
    let subject = format!("CONSUMER.INFO.{}.{}", queue.stream().name(), queue.consumer());
    connection.request_api(&subject, &EmptyRequest {}).await
}

/// Opens an inbox for the messages of a queue.
async fn open_requests(inbound: &InboundConnection, queue: Queue) -> Result<PullRequests, AttemptFailure> {
    PullRequests::open(&inbound.get().await?, queue.stream().name(), queue.consumer()).await
}

impl JetStreamReceiver {
    /// Opens a queue, which must exist.
    pub(super) async fn open(
        connection: &Arc<NatsConnection>,
        inbound: &Arc<InboundConnection>,
        queue: Queue,
    ) -> Result<Self, BusError> {
        retry_transient(queue.consumer(), || consumer_info(connection, queue)).await?;
        let requests = retry_transient(queue.consumer(), || open_requests(inbound, queue)).await?;
        Ok(Self {
            connection: connection.clone(),
            inbound: inbound.clone(),
            queue,
            requests: Some(requests),
            search: UnreadableSearch::default(),
            buffer: VecDeque::new(),
            budget: RetryBudget::default(),
        })
    }

    /// Waits until `buffer` holds a message, then adds what arrives with it, up to `max`.
    async fn fill_buffer(&mut self, max: usize) -> Result<(), BusError> {
        loop {
            if self.buffer.len() >= max {
                return Ok(());
            }
            let arrived = self.requests.as_mut().and_then(PullRequests::try_next);
            let outstanding = self.requests.as_ref().map_or(0, PullRequests::outstanding);
            let event = match (arrived, &mut self.requests) {
                (Some(event), _) => event,
                (None, Some(requests)) if outstanding > 0 => {
                    if self.buffer.is_empty() {
                        requests.next().await
                    } else {
                        match timeout(LINGER, requests.next()).await {
                            Ok(event) => event,
                            Err(_) => return Ok(()),
                        }
                    }
                }
                _ if !self.buffer.is_empty() => return Ok(()),
                _ => {
                    if let Err(failure) = self.request(max).await {
                        self.back_off(failure).await?;
                    }
                    continue;
                }
            };
            match event {
                PullEvent::Message(message) => {
                    self.budget.reset();
                    self.buffer.push_back(*message);
                }
                PullEvent::Exhausted | PullEvent::BatchTooLarge => {}
                PullEvent::Interrupted => self.search.is_suspicious = true,
                PullEvent::Denied(error) => return Err(error),
                PullEvent::Unreachable(reason) => self.back_off(AttemptFailure::Transient(reason)).await?,
            }
        }
    }

    /// Requests up to `max` messages.
    async fn request(&mut self, max: usize) -> Result<(), AttemptFailure> {
        if self.search.is_suspicious || self.search.repeated_until.is_some_and(|until| Instant::now() < until)
        {
            self.delete_unreadable().await?;
        }
        let requests = match self.requests.take().filter(|requests| !requests.is_closed()) {
            Some(requests) => requests,
            None => open_requests(&self.inbound, self.queue).await?,
        };
        self.requests.insert(requests).request(max, PullMode::FirstReady).await
    }

    /// Deletes the unreadable messages among those that were delivered and not acknowledged, and
    /// among the next ones.
    async fn delete_unreadable(&mut self) -> Result<(), AttemptFailure> {
        if !self.connection.can_load_messages() {
            self.search.is_suspicious = false;
            return Ok(());
        }
        let info = match consumer_info(&self.connection, self.queue).await {
            // A server that has just restarted may not have loaded it yet.
            Err(AttemptFailure::Permanent(error @ BusError::Missing(_))) => {
                return Err(AttemptFailure::transient(error));
            }
            info => info?,
        };
        let (stream, filter) = (self.queue.stream().name(), self.queue.filter());
        let filter = filter.as_deref().unwrap_or(">");
        let (delivered_to, mut readable_ahead) = (info.delivered.stream_sequence, 0);
        self.search.searched_to = self.search.searched_to.max(info.ack_floor.stream_sequence);
        while readable_ahead < SEARCH_AHEAD {
            let query = MessageQuery::Next { sequence: self.search.searched_to + 1, filter };
            let Some(message) = raw_message::load(&self.connection, stream, query).await? else { break };
            if message.headers.is_none() {
                self.connection.report_unreadable(stream, message.sequence, &message.subject);
                raw_message::remove(&self.connection, stream, message.sequence).await?;
                self.search.repeated_until = Some(Instant::now() + SEARCH_PERIOD);
            } else if message.sequence > delivered_to {
                readable_ahead += 1;
            }
            self.search.searched_to = message.sequence;
        }
        self.search.is_suspicious = false;
        Ok(())
    }

    /// Waits before the next attempt. Once the retry budget is spent, checks whether the queue
    /// exists, to return the more precise error.
    async fn back_off(&mut self, failure: AttemptFailure) -> Result<(), BusError> {
        let reason = match failure {
            AttemptFailure::Transient(reason) => reason,
            AttemptFailure::Permanent(error) => return Err(error),
        };
        match self.budget.back_off(self.queue.consumer(), reason).await {
            Err(error) if self.connection.is_connected() => {
                match consumer_info(&self.connection, self.queue).await {
                    Err(AttemptFailure::Permanent(missing)) => Err(missing),
                    _ => Err(error),
                }
            }
            result => result,
        }
    }

    fn delivery(&self, message: Message) -> Option<Delivery> {
        let reply = message.reply.clone()?;
        let info = DeliveryInfo::parse(&reply)?;
        Some(self.lease(from_nats(message), reply, info.attempt, info.stream_sequence))
    }

    fn lease(&self, message: message::Message, reply: Subject, attempt: u64, sequence: u64) -> Delivery {
        let lease = JetStreamLease { connection: self.connection.clone(), reply };
        Delivery { message, sequence, attempt, lease: Arc::new(lease) }
    }

    /// Loads the shard of a dead letter. Acknowledges the advisory and returns `None` if the shard
    /// is gone.
    async fn resolve_dead_letter(&self, advisory: &Message) -> Result<Option<Delivery>, BusError> {
        let Some(reply) = advisory.reply.clone() else { return Ok(None) };
        let Some(info) = DeliveryInfo::parse(&reply) else { return Ok(None) };
        let shard = match serde_json::from_slice::<MaxDeliveriesAdvisory>(&advisory.payload) {
            Ok(MaxDeliveriesAdvisory { stream_seq }) => {
                retry_transient("loading the shard of a dead letter", || self.load_shard(stream_seq)).await?
            }
            Err(error) => {
                tracing::warn!(%error, "parsing a max-deliveries advisory failed; dropping it");
                None
            }
        };
        let Some((message, sequence)) = shard else {
            JetStreamLease { connection: self.connection.clone(), reply }.ack().await;
            return Ok(None);
        };
        Ok(Some(self.lease(message, reply, info.attempt, sequence)))
    }

    /// Loads the shard at a position; `None` if it is gone or unreadable.
    async fn load_shard(&self, sequence: u64) -> Result<Option<(message::Message, u64)>, AttemptFailure> {
        let stream = Stream::Shards.name();
        let shard = raw_message::load(&self.connection, stream, MessageQuery::Sequence { sequence }).await?;
        let Some(shard) = shard else { return Ok(None) };
        if shard.headers.is_none() {
            self.connection.report_unreadable(stream, sequence, &shard.subject);
            return Ok(None);
        }
        Ok(Some((decode_message(&shard.subject, shard.headers.as_ref(), shard.payload), sequence)))
    }
}

#[async_trait]
impl QueueReceiver for JetStreamReceiver {
    async fn fetch(&mut self, max: usize) -> Result<Vec<Delivery>, BusError> {
        let max = max.max(1);
        loop {
            self.fill_buffer(max).await?;
            let deliveries: Vec<Delivery> = if self.queue == Queue::DeadLetters {
                // The advisory stays in the buffer until its shard is loaded, since this future may
                // be dropped meanwhile.
                let Some(advisory) = self.buffer.front().cloned() else { continue };
                let delivery = self.resolve_dead_letter(&advisory).await?;
                self.buffer.pop_front();
                delivery.into_iter().collect()
            } else {
                let count = self.buffer.len().min(max);
                let messages: Vec<Message> = self.buffer.drain(..count).collect();
                messages.into_iter().filter_map(|message| self.delivery(message)).collect()
            };
            if !deliveries.is_empty() {
                return Ok(deliveries);
            }
        }
    }

    fn take_arrived(&mut self) -> Vec<Delivery> {
        // The lease of a dead letter is that of its advisory, whose shard has to be loaded first.
        if self.queue == Queue::DeadLetters {
            return Vec::new();
        }
        while let Some(event) = self.requests.as_mut().and_then(PullRequests::try_next) {
            match event {
                PullEvent::Message(message) => self.buffer.push_back(*message),
                PullEvent::Exhausted | PullEvent::BatchTooLarge => {}
                // The next request finds out what is wrong.
                PullEvent::Interrupted | PullEvent::Unreachable(_) | PullEvent::Denied(_) => {
                    self.search.is_suspicious = true;
                }
            }
        }
        let messages: Vec<Message> = self.buffer.drain(..).collect();
        messages.into_iter().filter_map(|message| self.delivery(message)).collect()
    }
}

/// The server's advisory that a message exceeded its deliveries.
#[derive(Deserialize)]
struct MaxDeliveriesAdvisory {
    /// Position of the message in its stream.
    stream_seq: u64,
}

/// The lease of a delivered message; settlements go to its reply subject.
struct JetStreamLease {
    connection: Arc<NatsConnection>,
    reply: Subject,
}

impl fmt::Debug for JetStreamLease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("JetStreamLease").field(&self.reply).finish()
    }
}

impl JetStreamLease {
    async fn send(&self, settlement: impl Into<Bytes>) {
        if let Err(error) = self.connection.client.publish(self.reply.clone(), settlement.into()).await {
            tracing::debug!(%error, "sending a settlement failed; the server will deliver the message again");
        }
    }
}

#[async_trait]
impl DeliveryLease for JetStreamLease {
    async fn ack(&self) {
        self.send(&b"+ACK"[..]).await;
    }

    async fn retry(&self, delay: Duration) {
        if delay.is_zero() {
            self.send(&b"-NAK"[..]).await;
        } else {
            self.send(format!(r#"-NAK {{"delay":{}}}"#, delay.as_nanos())).await;
        }
    }

    async fn renew(&self) {
        self.send(&b"+WPI"[..]).await;
    }
}
