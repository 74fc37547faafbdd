//! The bus over NATS JetStream. Streams, queues and buckets outlive the server's restarts and lost connections; trouble
//! that may pass by itself is borne for ten seconds before it is an error.
//!
//! Reading order: [`options`] → `link` (the connection) → `prepare` → `publish` → `requests` (pulling) → `queue`, `tail` →
//! `buckets` → `service`; `durability` stands by itself.

mod buckets;
mod convert;
mod durability;
mod link;
pub mod options;
mod prepare;
mod publish;
mod queue;
mod requests;
mod service;
mod tail;

use std::{fmt, sync::Arc, time::Duration};

use async_nats::jetstream::stream::PurgeResponse;
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::{BoxStream, StreamExt, unfold};
use serde_json::json;

pub use self::options::{JetStreamOptions, NatsCredentials, TlsOptions};
use self::{
    convert::received,
    link::Link,
    publish::{Parcel, store_all},
    tail::{Source, Tail},
};
use crate::{
    bus::{BucketEntry, Bus, QueueReceiver, ReplayContent, ServiceCall},
    error::BusError,
    message::{Message, StoredMessage},
    topology::{Bucket, Queue, Stream, check_key},
};

/// A connection to NATS.
pub struct JetStreamBus {
    link: Arc<Link>,
    options: JetStreamOptions,
}

impl fmt::Debug for JetStreamBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JetStream")
            .field("options", &self.options)
            .field("connected", &self.link.is_connected())
            .finish()
    }
}

impl JetStreamBus {
    /// Connects. Nothing is repeated here; once there has been a connection, it is made anew without end.
    ///
    /// # Errors
    /// [`BusError::Unavailable`] when no server answers; [`BusError::Unusable`] when it is too old, has JetStream
    /// disabled, or does not take the credentials.
    pub async fn connect(options: JetStreamOptions) -> Result<Arc<Self>, BusError> {
        let link = Link::open(&options).await?;
        Ok(Arc::new(Self { link, options }))
    }

    /// Whether every server has on disk what it acknowledges (`sync_interval: always`); `None` where the account does not
    /// import what tells (`deploy/nats/nats-server.conf`). Takes a second, in which servers answer.
    pub async fn syncs_always(&self) -> Option<bool> {
        durability::syncs_always(&self.link).await
    }
}

#[async_trait]
impl Bus for JetStreamBus {
    async fn prepare(&self) -> Result<(), BusError> {
        prepare::prepare(&self.link, &self.options).await
    }

    async fn publish(&self, message: Message, id: &str) -> Result<(), BusError> {
        Parcel::new(&self.link, message, id)?.store(&self.link).await.map(drop)
    }

    async fn publish_all(&self, messages: Vec<(Message, String)>) -> Result<(), BusError> {
        let parcels = messages.into_iter().map(|(message, id)| Parcel::new(&self.link, message, &id));
        let parcels = parcels.collect::<Result<Vec<_>, _>>()?;
        store_all(&self.link, &parcels).await
    }

    async fn broadcast(&self, message: Message) -> Result<(), BusError> {
        service::broadcast(&self.link, message).await
    }

    async fn subscribe(&self, subject: &str) -> Result<BoxStream<'static, Message>, BusError> {
        service::subscribe(&self.link, subject, self.options.manage_topology).await
    }

    async fn open_queue(&self, queue: Queue) -> Result<Box<dyn QueueReceiver>, BusError> {
        Ok(Box::new(queue::open(&self.link, queue).await?))
    }

    async fn replay(
        &self,
        subjects: Vec<String>,
        content: ReplayContent,
    ) -> Result<BoxStream<'static, StoredMessage>, BusError> {
        let headers_only = content == ReplayContent::Headers;
        let source = Source { stream: Stream::Results.name().to_owned(), filters: subjects, headers_only };
        let tail = Tail::open(&self.link, source).await?;
        let stored = unfold(tail, |mut tail| async {
            let (message, origin) = tail.next().await;
            Some((StoredMessage { sequence: origin.sequence, message: received(message) }, tail))
        });
        Ok(stored.boxed())
    }

    async fn purge(&self, stream: Stream, subject: &str) -> Result<(), BusError> {
        let request = format!("STREAM.PURGE.{}", stream.name());
        let body = json!({ "filter": subject });
        let purge = || self.link.api::<PurgeResponse>(&request, &body);
        self.link.persist(stream.name(), purge).await.map(drop)
    }

    async fn backlog(&self, queue: Queue) -> Result<u64, BusError> {
        let info = self.link.persist(queue.consumer(), || queue::info(&self.link, queue)).await?;
        Ok(info.num_pending + info.num_ack_pending as u64)
    }

    async fn get(&self, bucket: &Bucket, key: &str) -> Result<Option<BucketEntry>, BusError> {
        check_key(key)?;
        buckets::get(&self.link, bucket, key).await
    }

    async fn put(&self, bucket: &Bucket, key: &str, value: Bytes) -> Result<u64, BusError> {
        check_key(key)?;
        buckets::put(&self.link, bucket, key, value).await
    }

    async fn compare_and_set(
        &self,
        bucket: &Bucket,
        key: &str,
        value: Bytes,
        expected: Option<u64>,
    ) -> Result<Option<u64>, BusError> {
        check_key(key)?;
        buckets::compare_and_set(&self.link, bucket, key, value, expected).await
    }

    async fn delete(&self, bucket: &Bucket, key: &str) -> Result<(), BusError> {
        check_key(key)?;
        buckets::delete(&self.link, bucket, key).await
    }

    async fn keys(&self, bucket: &Bucket) -> Result<Vec<String>, BusError> {
        buckets::keys(&self.link, bucket).await
    }

    async fn watch(
        &self,
        bucket: &Bucket,
        filter: &str,
    ) -> Result<BoxStream<'static, BucketEntry>, BusError> {
        buckets::watch(&self.link, bucket, filter).await
    }

    async fn request(&self, message: Message, timeout: Duration) -> Result<Message, BusError> {
        service::request(&self.link, message, timeout).await
    }

    async fn serve(&self) -> Result<BoxStream<'static, ServiceCall>, BusError> {
        service::serve(&self.link, self.options.manage_topology).await
    }

    fn max_payload(&self) -> usize {
        self.link.client.server_info().max_payload
    }

    fn is_connected(&self) -> bool {
        self.link.is_connected()
    }
}
