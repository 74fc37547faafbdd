//! The [`Bus`] trait that services are written against. Every implementation passes one conformance
//! suite (`testing`).

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;

use crate::{
    error::BusError,
    message::Message,
    replay::Replay,
    topology::{Bucket, Queue, Stream},
};

/// A bus shared by the tasks of a service.
pub type SharedBus = Arc<dyn Bus>;

/// Durable messages, key-value buckets, requests and replies.
///
/// Delivery is at least once, so every receiver must be idempotent. Filters may contain `*` and `>`
/// as in NATS.
#[async_trait]
pub trait Bus: Send + Sync + fmt::Debug {
    /// Creates every missing stream, queue and bucket of the topology, and updates existing ones
    /// that differ from it. Idempotent. A client that does not manage the topology only checks that
    /// its queues exist.
    ///
    /// # Errors
    /// [`BusError::Unusable`] if an existing object differs in a way that cannot be changed;
    /// [`BusError::Missing`] if this client does not manage the topology and a queue does not
    /// exist; [`BusError::Unavailable`].
    async fn prepare(&self) -> Result<(), BusError>;

    /// Publishes a message to the stream that stores its subject; returns once the message is
    /// durable. The stream drops a message whose `id` it has stored within
    /// [`DUPLICATE_WINDOW`](crate::topology::DUPLICATE_WINDOW), and the call succeeds all the same.
    ///
    /// A client that may publish to the same stream and predicts the id can thereby suppress the
    /// message. Where that matters, use an unpredictable id or [`Bus::publish_once`].
    ///
    /// # Errors
    /// Returns the errors of [`Bus::publish_once`].
    async fn publish(&self, message: Message, id: &str) -> Result<(), BusError> {
        self.publish_once(message, id).await.map(drop)
    }

    /// As [`Bus::publish`], and tells whether this call stored the message.
    ///
    /// # Errors
    /// [`BusError::Unavailable`] if the message may or may not be stored; publishing it again under
    /// the same id is safe. [`BusError::Missing`] if the stream does not exist.
    /// [`BusError::Unusable`] if no stream stores the subject. [`BusError::TooLarge`].
    /// [`BusError::Full`] if the stream has reached one of its [limits](Stream::limits).
    async fn publish_once(&self, message: Message, id: &str) -> Result<PublishOutcome, BusError>;

    /// Publishes pairs of message and id in order, without waiting for one acknowledgement before
    /// sending the next; returns once all are durable.
    ///
    /// # Errors
    /// The first error of [`Bus::publish`] for any message. Other messages may be stored.
    async fn publish_all(&self, messages: Vec<(Message, String)>) -> Result<(), BusError>;

    /// Sends a message to all current subscribers. No stream stores it, and delivery is not
    /// guaranteed.
    ///
    /// # Errors
    /// [`BusError::Unavailable`] if the message could not be sent; [`BusError::TooLarge`].
    async fn broadcast(&self, message: Message) -> Result<(), BusError>;

    /// Subscribes to the messages that match `filter`. The stream yields every message sent after
    /// this call returns, stored ones included. Messages sent while the connection is lost are
    /// missed.
    ///
    /// # Errors
    /// [`BusError::Unavailable`].
    async fn subscribe(&self, filter: &str) -> Result<BoxStream<'static, Message>, BusError>;

    /// Opens a work queue for receiving.
    ///
    /// # Errors
    /// [`BusError::Missing`] until the topology has been prepared; [`BusError::Unavailable`].
    async fn open_queue(&self, queue: Queue) -> Result<Box<dyn QueueReceiver>, BusError>;

    /// Replays the messages of a stream that match any of `filters`: first the stored ones, then
    /// new ones as they arrive, all in order of their sequence; [`Replay::next_stored`] tells them
    /// apart. After a lost connection the replay resumes without a gap. It does not end by itself.
    /// The stream must not be a work queue, whose messages only its queues deliver.
    ///
    /// # Errors
    /// [`BusError::Missing`] until the topology has been prepared; [`BusError::Unavailable`].
    async fn replay(&self, stream: Stream, filters: Vec<String>) -> Result<Replay, BusError>;

    /// Removes the messages that match `filter` from a stream, delivered or not. Those of a work
    /// queue are removed one by one, which takes time in proportion to their number.
    ///
    /// # Errors
    /// [`BusError::Missing`], [`BusError::Unavailable`].
    async fn purge(&self, stream: Stream, filter: &str) -> Result<(), BusError>;

    /// Removes one message from a stream. Succeeds if the stream does not hold it any more.
    ///
    /// # Errors
    /// [`BusError::Missing`], [`BusError::Unavailable`].
    async fn remove(&self, stream: Stream, sequence: u64) -> Result<(), BusError>;

    /// Counts the stored messages of each subject that matches `filter`: one page of at most
    /// [`MAX_SUBJECTS_PER_PAGE`] subjects, sorted, from the one at position `offset`.
    ///
    /// # Errors
    /// [`BusError::Missing`], [`BusError::Unavailable`].
    async fn stream_subjects(
        &self,
        stream: Stream,
        filter: &str,
        offset: usize,
    ) -> Result<SubjectPage, BusError>;

    /// Returns the number of messages of a queue, both waiting and in-flight. May lag behind by
    /// moments. May count messages that were purged: until the queue is read to the end of its
    /// stream, or, if they had been delivered, until their lease ends.
    ///
    /// # Errors
    /// [`BusError::Missing`], [`BusError::Unavailable`].
    async fn backlog(&self, queue: Queue) -> Result<u64, BusError>;

    /// Returns how far the deliveries of a queue have progressed. May lag behind by moments.
    ///
    /// # Errors
    /// [`BusError::Missing`], [`BusError::Unavailable`].
    async fn delivery_progress(&self, queue: Queue) -> Result<DeliveryProgress, BusError>;

    /// Reads the entry of a key; `None` if the key has no value.
    ///
    /// # Errors
    /// [`BusError::Missing`] if the bucket does not exist. [`BusError::Unusable`] if the key is not
    /// valid ([`check_key`](crate::topology::check_key)). [`BusError::Unavailable`].
    async fn get(&self, bucket: &Bucket, key: &str) -> Result<Option<BucketEntry>, BusError>;

    /// Writes a key's value and returns its revision.
    ///
    /// # Errors
    /// Returns the errors of [`Bus::get`], [`BusError::TooLarge`], or [`BusError::Full`].
    async fn put(&self, bucket: &Bucket, key: &str, value: Bytes) -> Result<u64, BusError>;

    /// Writes a key's value if its revision is still `expected` (`None`: if the key has no value).
    /// Returns the new revision, or `None` if the current revision differs. `expected` is the
    /// revision of a value: with that of a removal, the outcome is unspecified.
    ///
    /// # Errors
    /// Returns the errors of [`Bus::get`], [`BusError::TooLarge`], or [`BusError::Full`].
    async fn compare_and_set(
        &self,
        bucket: &Bucket,
        key: &str,
        value: Bytes,
        expected: Option<u64>,
    ) -> Result<Option<u64>, BusError>;

    /// As [`Bus::compare_and_set`], with a value that expires after `lifetime`, at least a second,
    /// unless it is replaced before. Only values of job records expire. Watches do not report it.
    ///
    /// # Errors
    /// As [`Bus::compare_and_set`], and [`BusError::Unusable`] for another bucket.
    async fn compare_and_set_expiring(
        &self,
        bucket: &Bucket,
        key: &str,
        value: Bytes,
        expected: Option<u64>,
        lifetime: Duration,
    ) -> Result<Option<u64>, BusError>;

    /// Returns how much of a bucket's space is in use, in percent.
    ///
    /// # Errors
    /// [`BusError::Missing`], [`BusError::Unavailable`].
    async fn used_percent(&self, bucket: &Bucket) -> Result<u64, BusError>;

    /// Returns how much of a stream is in use.
    ///
    /// # Errors
    /// [`BusError::Missing`], [`BusError::Unavailable`].
    async fn stream_space(&self, stream: Stream) -> Result<StreamSpace, BusError>;

    /// Deletes a key. Deleting a key without a value succeeds.
    ///
    /// # Errors
    /// Returns the errors of [`Bus::get`].
    async fn delete(&self, bucket: &Bucket, key: &str) -> Result<(), BusError>;

    /// Returns the keys of a bucket, in no particular order. A client that does not manage the
    /// topology also gets keys whose value was removed, because it may not create the consumer that
    /// tells them apart.
    ///
    /// # Errors
    /// [`BusError::Missing`], [`BusError::Unavailable`].
    async fn keys(&self, bucket: &Bucket) -> Result<Vec<String>, BusError>;

    /// Watches the keys that match `filter`: yields their current entries first, then every change.
    /// Several quick changes of one key may be reported as one. Resumes after a lost connection;
    /// the stream does not end by itself.
    ///
    /// # Errors
    /// [`BusError::Missing`], [`BusError::Unavailable`].
    async fn watch(&self, bucket: &Bucket, filter: &str)
    -> Result<BoxStream<'static, BucketEntry>, BusError>;

    /// Sends a request and waits for its reply, at most `timeout`.
    ///
    /// # Errors
    /// [`BusError::NoResponse`] if no endpoint serves the subject or the timeout expires;
    /// [`BusError::Refused`] if the reply is an error; [`BusError::TooLarge`];
    /// [`BusError::Unavailable`].
    async fn request(&self, message: Message, timeout: Duration) -> Result<Message, BusError>;

    /// Serves the [endpoints](crate::topology::SERVICE_ENDPOINTS) of the microservice. Each
    /// request goes to one of the processes that serve them. Dropping the stream stops serving.
    ///
    /// # Errors
    /// [`BusError::Unavailable`].
    async fn serve(&self) -> Result<BoxStream<'static, ServiceCall>, BusError>;

    /// Returns the largest accepted payload of a message, in bytes.
    fn max_payload(&self) -> usize;

    /// Returns the number of stored messages that this process has stepped over because their
    /// headers cannot be read.
    fn unreadable_messages(&self) -> u64 {
        0
    }

    /// Returns why the server did not store a message within the last seconds: its disk is full, or
    /// a stream has reached its limits. `None` if it refused none.
    fn storage_refusal(&self) -> Option<String> {
        None
    }

    /// Whether the server has denied a subscription of this connection because of a limit. The
    /// subscription is missing until the next connection.
    fn has_denied_subscription(&self) -> bool {
        false
    }

    /// Reconnects where the server has denied a subscription, to have all of them.
    async fn reconnect(&self) {}

    /// Connects to another server of the cluster, because this one accepts requests and does not
    /// serve them. Does nothing where there is no other.
    async fn leave_server(&self) {}

    /// Whether all connections of the bus are up. They reach a restarted server one by one.
    fn is_connected(&self) -> bool;
}

/// The receiving end of a work queue.
#[async_trait]
pub trait QueueReceiver: Send {
    /// Waits until a message is ready and returns it with all others that are ready too, at most
    /// `max` (at least 1).
    ///
    /// The future may be dropped while it waits: no message is lost, though the server may
    /// redeliver one after its lease.
    ///
    /// # Errors
    /// [`BusError::Missing`], [`BusError::Unavailable`]. The receiver remains usable after an
    /// error.
    async fn fetch(&mut self, max: usize) -> Result<Vec<Delivery>, BusError>;

    /// Returns the messages that have arrived without waiting: those of a [`Self::fetch`] that was
    /// dropped, or that arrived after it had returned. Their leases have begun, so a receiver that
    /// does not fetch for a while must take them.
    fn take_arrived(&mut self) -> Vec<Delivery>;
}

/// One hand-out of a message of a work queue. The server delivers the message again when the lease
/// expires, unless the receiver settles the delivery or renews the lease before.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The message as it was published.
    pub message: Message,
    /// Position of the message in its stream.
    pub sequence: u64,
    /// Number of deliveries of the message so far, including this one.
    pub attempt: u64,
    /// Settles the delivery.
    pub lease: Arc<dyn DeliveryLease>,
}

/// Right to work on a delivered message for the lease time. Settlements are best effort: if one is
/// lost, the server delivers the message again.
#[async_trait]
pub trait DeliveryLease: Send + Sync + fmt::Debug {
    /// Acknowledges the message, which removes it from the queue. Call it once the effects of the
    /// message are durable.
    async fn ack(&self);
    /// Returns the message to the queue, to be delivered again after `delay`.
    async fn retry(&self, delay: Duration);
    /// Restarts the lease time.
    async fn renew(&self);
}

/// What became of a published message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PublishOutcome {
    /// The stream has stored it, possibly at an earlier attempt of the same call.
    Stored,
    /// The stream holds, or held, another message with its id: an earlier call published it, or
    /// someone else chose the same id.
    Duplicate,
}

/// How far the deliveries of a queue have progressed, as sequences of its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeliveryProgress {
    /// The last message that was stored, in any queue of the stream.
    pub stored_to: u64,
    /// Every message of the queue up to this one has been delivered at least once.
    pub delivered_to: u64,
}

/// How much of a stream is in use. A limit of `None` is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StreamSpace {
    /// Disk space of the stored messages.
    pub bytes: u64,
    /// Most disk space.
    pub max_bytes: Option<u64>,
    /// Number of stored messages.
    pub messages: u64,
    /// Most messages.
    pub max_messages: Option<u64>,
}

impl StreamSpace {
    /// Share of a stream in percent from which it counts as full.
    pub const FULL_PERCENT: u64 = 95;

    /// The part of the space, or of the number of messages, that is in use, in percent.
    pub fn used_percent(&self) -> u64 {
        let share =
            |used: u64, limit: Option<u64>| limit.map_or(0, |limit| used.saturating_mul(100) / limit.max(1));
        share(self.bytes, self.max_bytes).max(share(self.messages, self.max_messages))
    }

    /// Whether the stream counts as full: a large message may not fit.
    pub fn is_full(&self) -> bool {
        self.used_percent() >= Self::FULL_PERCENT
    }

    /// Whether the stream is not full with another message of this size. An empty one takes any
    /// message, because no space could be waited for.
    pub fn has_room_for(&self, bytes: u64) -> bool {
        let after = Self { bytes: self.bytes.saturating_add(bytes), messages: self.messages + 1, ..*self };
        self.messages == 0 || !after.is_full()
    }

    /// Disk space that is left. The number of messages may leave less.
    pub fn free_bytes(&self) -> u64 {
        self.max_bytes.map_or(u64::MAX, |limit| limit.saturating_sub(self.bytes))
    }
}

/// Subjects in a [`SubjectPage`], at most.
pub const MAX_SUBJECTS_PER_PAGE: usize = 100_000;

/// Part of the subjects of a stream that match a filter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SubjectPage {
    /// Subjects with the number of their stored messages.
    pub counts: BTreeMap<String, u64>,
    /// Number of all subjects that match the filter. If it exceeds the offset and the length of the
    /// page, another page follows.
    pub total: usize,
}

/// The value of a key, or its removal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketEntry {
    /// The key.
    pub key: String,
    /// The value; `None` if the key was deleted.
    pub value: Option<Bytes>,
    /// Number of the change, increasing with every change in the bucket.
    pub revision: u64,
    /// Time since the change, by the server's clock.
    pub age: Duration,
}

/// A request to an endpoint of the microservice.
#[derive(Debug)]
pub struct ServiceCall {
    /// The request; its subject identifies the endpoint.
    pub message: Message,
    /// Sends the reply. Dropping it leaves the caller to its timeout.
    pub responder: Box<dyn CallResponder>,
}

/// Replies to a request, once.
#[async_trait]
pub trait CallResponder: Send + fmt::Debug {
    /// Sends the reply.
    async fn reply(self: Box<Self>, payload: Bytes);
    /// Sends an error: a status code with HTTP semantics and a sentence without line breaks.
    async fn reply_error(self: Box<Self>, status: u16, reason: String);
}
