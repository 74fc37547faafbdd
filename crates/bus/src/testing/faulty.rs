//! A decorator that delays or fails operations of a bus, so that tests can force races and outages.

use std::{fmt, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use tokio::time::sleep;

use crate::{
    bus::{
        BucketEntry, Bus, DeliveryProgress, PublishOutcome, QueueReceiver, ServiceCall, SharedBus,
        StreamSpace, SubjectPage,
    },
    error::BusError,
    message::Message,
    replay::Replay,
    topology::{Bucket, Queue, Stream},
};

/// An operation of [`Bus`] that is about to run, with the arguments that tell it apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "variants and fields are named after the methods and parameters of the trait"
)]
pub enum BusOperation<'a> {
    Prepare,
    Publish { subject: &'a str },
    PublishAll { count: usize },
    Broadcast { subject: &'a str },
    Subscribe { filter: &'a str },
    OpenQueue { queue: Queue },
    Replay { stream: Stream, filters: &'a [String] },
    Purge { stream: Stream },
    Remove { stream: Stream, sequence: u64 },
    StreamSubjects { stream: Stream },
    Backlog { queue: Queue },
    DeliveryProgress { queue: Queue },
    Get { bucket: &'a Bucket, key: &'a str },
    Put { bucket: &'a Bucket, key: &'a str },
    CompareAndSet { bucket: &'a Bucket, key: &'a str },
    UsedPercent { bucket: &'a Bucket },
    StreamSpace { stream: Stream },
    Delete { bucket: &'a Bucket, key: &'a str },
    Keys { bucket: &'a Bucket },
    Watch { bucket: &'a Bucket },
    Request { subject: &'a str },
    Serve,
}

/// What [`FaultyBus`] does to one operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BusFault {
    /// Runs the operation unchanged.
    None,
    /// Waits before running the operation. Other operations proceed meanwhile.
    Delay(Duration),
    /// Returns this error without running the operation.
    Error(BusError),
}

/// A bus that asks `inject` for a fault before each operation and otherwise behaves like the bus
/// that it wraps.
///
/// ```
/// use std::time::Duration;
///
/// use forge_bus::testing::{BusFault, BusOperation, FaultyBus};
/// use forge_bus::topology::{Bucket, TopologySettings};
/// use forge_bus::{Bus, MemoryBus};
///
/// let inner = MemoryBus::new(TopologySettings::default());
/// let bus = FaultyBus::new(inner, |operation| match operation {
///     BusOperation::CompareAndSet { bucket: Bucket::Quotas, .. } => {
///         BusFault::Delay(Duration::from_millis(1))
///     }
///     _ => BusFault::None,
/// });
/// assert!(bus.is_connected());
/// ```
pub struct FaultyBus<F> {
    inner: SharedBus,
    inject: F,
}

impl<F: Fn(BusOperation<'_>) -> BusFault> FaultyBus<F> {
    /// Wraps `inner`.
    pub fn new(inner: SharedBus, inject: F) -> Self {
        Self { inner, inject }
    }

    async fn disturb(&self, operation: BusOperation<'_>) -> Result<(), BusError> {
        let fault = (self.inject)(operation);
        match fault {
            BusFault::None => Ok(()),
            BusFault::Delay(delay) => {
                sleep(delay).await;
                Ok(())
            }
            BusFault::Error(error) => Err(error),
        }
    }
}

impl<F> fmt::Debug for FaultyBus<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultyBus").field("inner", &self.inner).finish_non_exhaustive()
    }
}

#[async_trait]
impl<F: Fn(BusOperation<'_>) -> BusFault + Send + Sync> Bus for FaultyBus<F> {
    async fn prepare(&self) -> Result<(), BusError> {
        self.disturb(BusOperation::Prepare).await?;
        self.inner.prepare().await
    }

    async fn publish_once(&self, message: Message, id: &str) -> Result<PublishOutcome, BusError> {
        self.disturb(BusOperation::Publish { subject: &message.subject }).await?;
        self.inner.publish_once(message, id).await
    }

    async fn publish_all(&self, messages: Vec<(Message, String)>) -> Result<(), BusError> {
        self.disturb(BusOperation::PublishAll { count: messages.len() }).await?;
        self.inner.publish_all(messages).await
    }

    async fn broadcast(&self, message: Message) -> Result<(), BusError> {
        self.disturb(BusOperation::Broadcast { subject: &message.subject }).await?;
        self.inner.broadcast(message).await
    }

    async fn subscribe(&self, filter: &str) -> Result<BoxStream<'static, Message>, BusError> {
        self.disturb(BusOperation::Subscribe { filter }).await?;
        self.inner.subscribe(filter).await
    }

    async fn open_queue(&self, queue: Queue) -> Result<Box<dyn QueueReceiver>, BusError> {
        self.disturb(BusOperation::OpenQueue { queue }).await?;
        self.inner.open_queue(queue).await
    }

    async fn replay(&self, stream: Stream, filters: Vec<String>) -> Result<Replay, BusError> {
        self.disturb(BusOperation::Replay { stream, filters: &filters }).await?;
        self.inner.replay(stream, filters).await
    }

    async fn purge(&self, stream: Stream, filter: &str) -> Result<(), BusError> {
        self.disturb(BusOperation::Purge { stream }).await?;
        self.inner.purge(stream, filter).await
    }

    async fn remove(&self, stream: Stream, sequence: u64) -> Result<(), BusError> {
        self.disturb(BusOperation::Remove { stream, sequence }).await?;
        self.inner.remove(stream, sequence).await
    }

    async fn stream_subjects(
        &self,
        stream: Stream,
        filter: &str,
        offset: usize,
    ) -> Result<SubjectPage, BusError> {
        self.disturb(BusOperation::StreamSubjects { stream }).await?;
        self.inner.stream_subjects(stream, filter, offset).await
    }

    async fn backlog(&self, queue: Queue) -> Result<u64, BusError> {
        self.disturb(BusOperation::Backlog { queue }).await?;
        self.inner.backlog(queue).await
    }

    async fn delivery_progress(&self, queue: Queue) -> Result<DeliveryProgress, BusError> {
        self.disturb(BusOperation::DeliveryProgress { queue }).await?;
        self.inner.delivery_progress(queue).await
    }

    async fn get(&self, bucket: &Bucket, key: &str) -> Result<Option<BucketEntry>, BusError> {
        self.disturb(BusOperation::Get { bucket, key }).await?;
        self.inner.get(bucket, key).await
    }

    async fn put(&self, bucket: &Bucket, key: &str, value: Bytes) -> Result<u64, BusError> {
        self.disturb(BusOperation::Put { bucket, key }).await?;
        self.inner.put(bucket, key, value).await
    }

    async fn compare_and_set(
        &self,
        bucket: &Bucket,
        key: &str,
        value: Bytes,
        expected: Option<u64>,
    ) -> Result<Option<u64>, BusError> {
        self.disturb(BusOperation::CompareAndSet { bucket, key }).await?;
        self.inner.compare_and_set(bucket, key, value, expected).await
    }

    async fn compare_and_set_expiring(
        &self,
        bucket: &Bucket,
        key: &str,
        value: Bytes,
        expected: Option<u64>,
        lifetime: Duration,
    ) -> Result<Option<u64>, BusError> {
        self.disturb(BusOperation::CompareAndSet { bucket, key }).await?;
        self.inner.compare_and_set_expiring(bucket, key, value, expected, lifetime).await
    }

    async fn used_percent(&self, bucket: &Bucket) -> Result<u64, BusError> {
        self.disturb(BusOperation::UsedPercent { bucket }).await?;
        self.inner.used_percent(bucket).await
    }

    async fn stream_space(&self, stream: Stream) -> Result<StreamSpace, BusError> {
        self.disturb(BusOperation::StreamSpace { stream }).await?;
        self.inner.stream_space(stream).await
    }

    async fn delete(&self, bucket: &Bucket, key: &str) -> Result<(), BusError> {
        self.disturb(BusOperation::Delete { bucket, key }).await?;
        self.inner.delete(bucket, key).await
    }

    async fn keys(&self, bucket: &Bucket) -> Result<Vec<String>, BusError> {
        self.disturb(BusOperation::Keys { bucket }).await?;
        self.inner.keys(bucket).await
    }

    async fn watch(
        &self,
        bucket: &Bucket,
        filter: &str,
    ) -> Result<BoxStream<'static, BucketEntry>, BusError> {
        self.disturb(BusOperation::Watch { bucket }).await?;
        self.inner.watch(bucket, filter).await
    }

    async fn request(&self, message: Message, timeout: Duration) -> Result<Message, BusError> {
        self.disturb(BusOperation::Request { subject: &message.subject }).await?;
        self.inner.request(message, timeout).await
    }

    async fn serve(&self) -> Result<BoxStream<'static, ServiceCall>, BusError> {
        self.disturb(BusOperation::Serve).await?;
        self.inner.serve().await
    }

    fn max_payload(&self) -> usize {
        self.inner.max_payload()
    }

    fn unreadable_messages(&self) -> u64 {
        self.inner.unreadable_messages()
    }

    async fn leave_server(&self) {
        self.inner.leave_server().await;
    }

    fn storage_refusal(&self) -> Option<String> {
        self.inner.storage_refusal()
    }

    fn has_denied_subscription(&self) -> bool {
        self.inner.has_denied_subscription()
    }

    async fn reconnect(&self) {
        self.inner.reconnect().await;
    }

    fn is_connected(&self) -> bool {
        self.inner.is_connected()
    }
}
