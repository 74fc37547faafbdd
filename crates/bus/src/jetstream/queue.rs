//! Work queues: durable pull consumers.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use async_nats::{
    Message, Subject,
    jetstream::{consumer::Info, stream::LastRawMessageErrorKind},
};
use async_trait::async_trait;
use bytes::Bytes;
use serde::Deserialize;
use tokio::time::timeout;

use super::{
    convert::{Origin, received, to_message},
    link::{Failure, Link, Nothing, Trouble},
    requests::{Incoming, Requests, Until},
};
use crate::{
    bus::{Delivery, DeliveryLease, QueueReceiver},
    error::BusError,
    message,
    topology::{Queue, Stream},
};

/// How long the end of a request is waited for when messages have come.
const LINGER: Duration = Duration::from_millis(20);

/// An open queue.
pub(super) struct QueuePull {
    link: Arc<Link>,
    queue: Queue,
    requests: Requests,
    /// Came and was not handed out yet.
    waiting: VecDeque<Message>,
    trouble: Trouble,
}

/// State of a queue's consumer.
pub(super) async fn info(link: &Link, queue: Queue) -> Result<Info, Failure> {
    let subject = format!("CONSUMER.INFO.{}.{}", queue.stream().name(), queue.consumer());
    link.api(&subject, &Nothing {}).await
}

/// Opens a queue.
pub(super) async fn open(link: &Arc<Link>, queue: Queue) -> Result<QueuePull, BusError> {
    let (stream, consumer) = (queue.stream().name(), queue.consumer());
    link.persist(consumer, || info(link, queue)).await?;
    let requests = link.persist(consumer, || Requests::open(link, stream, consumer)).await?;
    let (link, waiting) = (link.clone(), VecDeque::new());
    Ok(QueuePull { link, queue, requests, waiting, trouble: Trouble::default() })
}

#[async_trait]
impl QueueReceiver for QueuePull {
    async fn fetch(&mut self, max: usize) -> Result<Vec<Delivery>, BusError> {
        let max = max.max(1);
        loop {
            self.gather(max).await?;
            let deliveries: Vec<Delivery> = if self.queue == Queue::DeadLetters {
                // The advisory stays in `waiting` until its shard has been fetched: this future may be dropped.
                let Some(advisory) = self.waiting.front().cloned() else { continue };
                let delivery = self.dead_letter(&advisory).await?;
                self.waiting.pop_front();
                delivery.into_iter().collect()
            } else {
                let count = self.waiting.len().min(max);
                let messages: Vec<Message> = self.waiting.drain(..count).collect();
                messages.into_iter().filter_map(|message| self.delivery(message)).collect()
            };
            if !deliveries.is_empty() {
                return Ok(deliveries);
            }
        }
    }
}

impl QueuePull {
    /// Waits until something is in `waiting`, and takes what comes with it.
    async fn gather(&mut self, max: usize) -> Result<(), BusError> {
        loop {
            if self.waiting.len() >= max {
                return Ok(());
            }
            let incoming = match self.requests.ready() {
                Some(incoming) => incoming,
                None if self.waiting.is_empty() => {
                    if self.requests.open_count() == 0
                        && let Err(failure) = self.requests.ask(max, Until::Some).await
                    {
                        self.bear(failure).await?;
                        continue;
                    }
                    self.requests.next().await
                }
                None if self.requests.open_count() == 0 => return Ok(()),
                None => match timeout(LINGER, self.requests.next()).await {
                    Ok(incoming) => incoming,
                    Err(_) => return Ok(()),
                },
            };
            match incoming {
                Incoming::Message(message) => {
                    self.trouble.over();
                    self.waiting.push_back(*message);
                }
                Incoming::Ended | Incoming::Lost => {}
                Incoming::Refused(error) => return Err(error),
                Incoming::Gone(reason) => self.bear(Failure::Passing(reason)).await?,
            }
        }
    }

    /// Waits a while; if that has been in vain, asks the server whether the queue is there at all.
    async fn bear(&mut self, failure: Failure) -> Result<(), BusError> {
        let reason = match failure {
            Failure::Passing(reason) => reason,
            Failure::Lasting(error) => return Err(error),
        };
        match self.trouble.bear(self.queue.consumer(), reason).await {
            Err(error) if self.link.is_connected() => match info(&self.link, self.queue).await {
                Err(Failure::Lasting(missing)) => Err(missing),
                _ => Err(error),
            },
            borne => borne,
        }
    }

    fn delivery(&self, message: Message) -> Option<Delivery> {
        let reply = message.reply.clone()?;
        let origin = Origin::read(&reply)?;
        Some(self.delivered(received(message), reply, origin.attempt, origin.sequence))
    }

    fn delivered(&self, message: message::Message, reply: Subject, attempt: u64, sequence: u64) -> Delivery {
        let lease = Lease { link: self.link.clone(), reply };
        Delivery { message, sequence, attempt, lease: Arc::new(lease) }
    }

    /// The shard that an advisory is about; `None` if it is gone.
    async fn dead_letter(&self, advisory: &Message) -> Result<Option<Delivery>, BusError> {
        let Some(reply) = advisory.reply.clone() else { return Ok(None) };
        let Some(origin) = Origin::read(&reply) else { return Ok(None) };
        let lost = match serde_json::from_slice::<Advisory>(&advisory.payload) {
            Ok(Advisory { stream_seq }) => {
                self.link.persist("a dead letter", || self.shard(stream_seq)).await?
            }
            Err(error) => {
                tracing::warn!(%error, "an advisory that cannot be read is dropped");
                None
            }
        };
        let Some((message, sequence)) = lost else {
            Lease { link: self.link.clone(), reply }.ack().await;
            return Ok(None);
        };
        Ok(Some(self.delivered(message, reply, origin.attempt, sequence)))
    }

    async fn shard(&self, sequence: u64) -> Result<Option<(message::Message, u64)>, Failure> {
        let stream = Stream::Shards.name();
        let subject = format!("$JS.API.STREAM.MSG.GET.{stream}");
        let get = async {
            let handle = self.link.context.get_stream_no_info(stream).await;
            let handle = handle.map_err(|error| Failure::Passing(error.to_string()))?;
            match handle.get_raw_message(sequence).await {
                Ok(found) => {
                    let message = to_message(&found.subject, Some(&found.headers), found.payload);
                    Ok(Some((message, found.sequence)))
                }
                Err(error) if matches!(error.kind(), LastRawMessageErrorKind::NoMessageFound) => Ok(None),
                Err(error) => Err(Failure::Passing(error.to_string())),
            }
        };
        self.link.guard(&subject, get).await
    }
}

/// The server's notice that a message was delivered too often.
#[derive(Deserialize)]
struct Advisory {
    stream_seq: u64,
}

/// A message that is being worked on.
struct Lease {
    link: Arc<Link>,
    reply: Subject,
}

impl std::fmt::Debug for Lease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Lease").field(&self.reply).finish()
    }
}

impl Lease {
    async fn tell(&self, what: impl Into<Bytes>) {
        if let Err(error) = self.link.client.publish(self.reply.clone(), what.into()).await {
            tracing::debug!(%error, "a settlement is lost: the message comes again");
        }
    }
}

#[async_trait]
impl DeliveryLease for Lease {
    async fn ack(&self) {
        self.tell(&b"+ACK"[..]).await;
    }

    async fn retry(&self, delay: Duration) {
        if delay.is_zero() {
            self.tell(&b"-NAK"[..]).await;
        } else {
            self.tell(format!(r#"-NAK {{"delay":{}}}"#, delay.as_nanos())).await;
        }
    }

    async fn renew(&self) {
        self.tell(&b"+WPI"[..]).await;
    }
}
