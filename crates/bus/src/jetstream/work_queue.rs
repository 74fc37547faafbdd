//! Receivers of work queues, over durable pull consumers.

use std::{collections::VecDeque, fmt, sync::Arc, time::Duration};

use async_nats::{
    Message, Subject,
    jetstream::{consumer::Info, stream::LastRawMessageErrorKind},
};
use async_trait::async_trait;
use bytes::Bytes;
use serde::Deserialize;
use tokio::time::timeout;

use super::{
    attempt::{AttemptFailure, RetryBudget, retry_transient},
    connection::{EmptyRequest, NatsConnection},
    convert::{DeliveryInfo, decode_message, from_nats},
    pull_requests::{PullEvent, PullMode, PullRequests},
};
use crate::{
    bus::{Delivery, DeliveryLease, QueueReceiver},
    error::BusError,
    message,
    topology::{Queue, Stream},
};

/// How long a receiver that has messages waits for more of the same batch.
const LINGER: Duration = Duration::from_millis(20);

/// A receiver of one queue.
pub(super) struct JetStreamReceiver {
    connection: Arc<NatsConnection>,
    queue: Queue,
    requests: PullRequests,
    /// Received and not handed out yet.
    buffer: VecDeque<Message>,
    budget: RetryBudget,
}

/// Reads the state of a queue's consumer.
pub(super) async fn consumer_info(connection: &NatsConnection, queue: Queue) -> Result<Info, AttemptFailure> {
    let subject = format!("CONSUMER.INFO.{}.{}", queue.stream().name(), queue.consumer());
    connection.request_api(&subject, &EmptyRequest {}).await
}

impl JetStreamReceiver {
    /// Opens a queue, which must exist.
    pub(super) async fn open(connection: &Arc<NatsConnection>, queue: Queue) -> Result<Self, BusError> {
        let (stream, consumer) = (queue.stream().name(), queue.consumer());
        retry_transient(consumer, || consumer_info(connection, queue)).await?;
        let requests = retry_transient(consumer, || PullRequests::open(connection, stream, consumer)).await?;
        Ok(Self {
            connection: connection.clone(),
            queue,
            requests,
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
            let event = match self.requests.try_next() {
                Some(event) => event,
                None if self.buffer.is_empty() => {
                    if self.requests.outstanding() == 0
                        && let Err(failure) = self.requests.request(max, PullMode::FirstReady).await
                    {
                        self.back_off(failure).await?;
                        continue;
                    }
                    self.requests.next().await
                }
                None if self.requests.outstanding() == 0 => return Ok(()),
                None => match timeout(LINGER, self.requests.next()).await {
                    Ok(event) => event,
                    Err(_) => return Ok(()),
                },
            };
            match event {
                PullEvent::Message(message) => {
                    self.budget.reset();
                    self.buffer.push_back(*message);
                }
                PullEvent::Exhausted | PullEvent::Interrupted => {}
                PullEvent::Denied(error) => return Err(error),
                PullEvent::Unreachable(reason) => self.back_off(AttemptFailure::Transient(reason)).await?,
            }
        }
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

    async fn load_shard(&self, sequence: u64) -> Result<Option<(message::Message, u64)>, AttemptFailure> {
        let stream = Stream::Shards.name();
        let subject = format!("$JS.API.STREAM.MSG.GET.{stream}");
        let load = async {
            let handle = self.connection.context.get_stream_no_info(stream).await;
            match handle.map_err(AttemptFailure::transient)?.get_raw_message(sequence).await {
                Ok(raw) => {
                    let message = decode_message(&raw.subject, Some(&raw.headers), raw.payload);
                    Ok(Some((message, raw.sequence)))
                }
                Err(error) if matches!(error.kind(), LastRawMessageErrorKind::NoMessageFound) => Ok(None),
                Err(error) => Err(AttemptFailure::transient(error)),
            }
        };
        self.connection.fail_if_denied(&subject, load).await
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
