//! The trait that services are written against, and what can go wrong with it. Implementations pass one conformance suite.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;

use crate::{
    message::{Message, Stored},
    topology::{Bucket, Queue, Stream},
};

/// A bus that services share.
pub type SharedBus = Arc<dyn Bus>;

/// Durable messages, key-value buckets, request and reply. Delivery is at least once: every receiver is idempotent.
#[async_trait]
pub trait Bus: Send + Sync + fmt::Debug {
    /// Creates every stream, consumer and bucket of the topology, or checks that those there are as they should be.
    ///
    /// # Errors
    /// [`BusError::Unusable`] when the server is too old or its objects cannot be brought into line.
    async fn prepare(&self) -> Result<(), BusError>;

    /// Stores a message in the stream of its subject; done when it is durable. A second message of the same `id` within
    /// two minutes is dropped and counts as stored.
    ///
    /// # Errors
    /// [`BusError::Unavailable`]: it may or may not have been stored; publishing again under the same id is safe.
    async fn publish(&self, message: Message, id: &str) -> Result<(), BusError>;

    /// Stores messages in order, without waiting for one before the next is sent; done when all are durable.
    ///
    /// # Errors
    /// As [`Bus::publish`], for any of them.
    async fn publish_all(&self, messages: Vec<(Message, String)>) -> Result<(), BusError>;

    /// Sends a message to whoever listens at this moment. Nothing is stored.
    ///
    /// # Errors
    /// [`BusError::Unavailable`].
    async fn broadcast(&self, message: Message) -> Result<(), BusError>;

    /// The messages sent to a subject (`*` and `>` as in NATS) from now on.
    ///
    /// # Errors
    /// [`BusError::Unavailable`].
    async fn listen(&self, subject: &str) -> Result<BoxStream<'static, Message>, BusError>;

    /// Opens a work queue.
    ///
    /// # Errors
    /// [`BusError::Missing`] while nobody has prepared the topology; [`BusError::Unavailable`].
    async fn pull(&self, queue: Queue) -> Result<Box<dyn Pull>, BusError>;

    /// The messages of [`Stream::Results`] on any of `subjects`, from the first that is still stored, in order of their
    /// sequence, and then as they come. Gaps are filled after a lost connection; the stream does not end by itself.
    ///
    /// # Errors
    /// [`BusError::Missing`], [`BusError::Unavailable`].
    async fn replay(
        &self,
        subjects: Vec<String>,
        content: Content,
    ) -> Result<BoxStream<'static, Stored>, BusError>;

    /// Removes the messages on a subject (`*` and `>` as in NATS) from a stream, delivered or not.
    ///
    /// # Errors
    /// [`BusError::Unavailable`].
    async fn purge(&self, stream: Stream, subject: &str) -> Result<(), BusError>;

    /// The messages that a queue still holds, waiting or being worked on. It may lag behind by moments.
    ///
    /// # Errors
    /// [`BusError::Missing`], [`BusError::Unavailable`].
    async fn backlog(&self, queue: Queue) -> Result<u64, BusError>;

    /// The value under a key.
    ///
    /// # Errors
    /// [`BusError::Missing`] when there is no such bucket; [`BusError::Unavailable`].
    async fn get(&self, bucket: &Bucket, key: &str) -> Result<Option<Entry>, BusError>;

    /// Writes a key's value and answers its revision.
    ///
    /// # Errors
    /// As [`Bus::get`].
    async fn put(&self, bucket: &Bucket, key: &str, value: Bytes) -> Result<u64, BusError>;

    /// Writes a key's value if its revision is still `expected` (`None`: if it has none), and answers the new one;
    /// `None` if it is another by now.
    ///
    /// # Errors
    /// As [`Bus::get`].
    async fn compare_and_set(
        &self,
        bucket: &Bucket,
        key: &str,
        value: Bytes,
        expected: Option<u64>,
    ) -> Result<Option<u64>, BusError>;

    /// Removes a key.
    ///
    /// # Errors
    /// As [`Bus::get`].
    async fn delete(&self, bucket: &Bucket, key: &str) -> Result<(), BusError>;

    /// The keys of a bucket, in no order.
    ///
    /// # Errors
    /// As [`Bus::get`].
    async fn keys(&self, bucket: &Bucket) -> Result<Vec<String>, BusError>;

    /// The entries of the keys that match `filter` (`*` and `>` as in NATS): those there are first, then every change.
    /// Survives a lost connection; does not end by itself.
    ///
    /// # Errors
    /// As [`Bus::get`].
    async fn watch(&self, bucket: &Bucket, filter: &str) -> Result<BoxStream<'static, Entry>, BusError>;

    /// Sends a request and waits for its answer.
    ///
    /// # Errors
    /// [`BusError::NoAnswer`] when nobody serves it or the time is up; [`BusError::Refused`] when the answer is an error.
    async fn request(&self, message: Message, timeout: Duration) -> Result<Message, BusError>;

    /// Serves the endpoints of the micro service `forge`; requests go to one of its instances.
    ///
    /// # Errors
    /// [`BusError::Unavailable`].
    async fn serve(&self) -> Result<BoxStream<'static, Call>, BusError>;

    /// The largest payload of a message, in bytes.
    fn max_payload(&self) -> usize;

    /// Whether the bus can be reached at this moment.
    fn is_connected(&self) -> bool;
}

/// An open work queue.
#[async_trait]
pub trait Pull: Send {
    /// Waits for a message and answers it with those that are ready with it, at most `max` (at least 1). May be
    /// dropped while it waits; no message is lost by that, though one may come again after the lease time.
    ///
    /// # Errors
    /// [`BusError::Missing`], [`BusError::Unavailable`]: try again.
    async fn fetch(&mut self, max: usize) -> Result<Vec<Delivery>, BusError>;
}

/// A message of a work queue. It is delivered again after the lease time, unless it is settled or its lease renewed.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The message.
    pub message: Message,
    /// Its number in the stream.
    pub sequence: u64,
    /// How many times it has been delivered, this time included.
    pub attempt: u64,
    /// How it is settled.
    pub settle: Arc<dyn Settle>,
}

/// How a delivery is settled. A settlement that is lost on its way only means that the message is delivered again.
#[async_trait]
pub trait Settle: Send + Sync + fmt::Debug {
    /// Done: the message is removed. Called when its consequences are durable.
    async fn ack(&self);
    /// To be delivered again, after `delay`.
    async fn retry(&self, delay: Duration);
    /// Renews the lease.
    async fn progress(&self);
}

/// What a replay holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// Messages as they are.
    Full,
    /// Messages without payload.
    Headers,
}

/// A key's value, or its removal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// The value; `None` if the key has been removed.
    pub value: Option<Bytes>,
    /// Number of this change; grows with every change of the bucket.
    pub revision: u64,
    /// Time since the change, by the clocks of server and client; zero if they disagree.
    pub age: Duration,
}

/// A request to answer.
#[derive(Debug)]
pub struct Call {
    /// The request; its subject tells the endpoint.
    pub message: Message,
    /// Where the answer goes.
    pub respond: Box<dyn Respond>,
}

/// Answers a request, once.
#[async_trait]
pub trait Respond: Send + fmt::Debug {
    /// Sends the answer.
    async fn answer(self: Box<Self>, payload: Bytes);
    /// Sends an error: a number as in HTTP, and a sentence without line breaks.
    async fn refuse(self: Box<Self>, status: u16, reason: String);
}

/// Why the bus did not do as asked, by what the caller can do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BusError {
    /// Cannot be used as it is: an operator has to change something.
    #[error("{0}")]
    Unusable(String),
    /// No such stream, consumer or bucket: nobody has prepared the topology yet.
    #[error("{0} does not exist yet: a planner creates it at its start")]
    Missing(String),
    /// The server cannot be reached or did not answer as it should: try again.
    #[error("{0}")]
    Unavailable(String),
    /// The message or value is too large.
    #[error("{size} bytes are more than the server takes, {limit}: raise max_payload")]
    TooLarge {
        /// Bytes of the payload.
        size: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// Nobody answered a request.
    #[error("nobody answered: {0}")]
    NoAnswer(String),
    /// A request was answered with an error.
    #[error("{reason}")]
    Refused {
        /// A number as in HTTP.
        status: u16,
        /// A sentence.
        reason: String,
    },
}
