//! The bus over NATS JetStream. Streams, queues and buckets survive restarts of the server and lost
//! connections. An operation retries transient failures for ten seconds before it returns an error.
//!
//! # Why not async-nats' high-level JetStream API
//!
//! This module uses async-nats for the connection, for single publishes and reads, and for the
//! microservice. It builds API requests, pull consumers and key-value operations itself, because
//! the library's versions lack guarantees that services rely on:
//!
//! - **A denied request fails at once.** The server reports a permission violation on the
//!   connection and sends no reply. The library then waits for its timeout; here every request also
//!   waits for a violation of its subject.
//! - **Each role needs few permissions.** Every request goes to a subject that
//!   `deploy/nats/nats-server.conf` can grant. The library's handles of buckets and streams request
//!   `STREAM.INFO` first, which a worker may not read.
//! - **A dropped `fetch` loses no message.** The inbox of a receiver outlives its futures. A batch
//!   of the library takes the messages in transit with it, and they wait until their lease expires.
//! - **A receiver holds no more messages than it asked for.** The library's continuous streams
//!   prefetch, and the lease of a prefetched message runs while its receiver is busy.
//! - **Replays and watches have no gaps and no end.** A reader resumes behind the last message read
//!   after any failure, be it a lost connection, a removed consumer or a lost message.
//! - **A repeated compare-and-set does not fail because of itself.** The server compares revisions
//!   before message ids. The library's key-value store sends no ids, so after a lost
//!   acknowledgement a writer cannot tell its own write from that of another.
//! - **No message stops a reader.** async-nats drops its connection when it receives a message
//!   whose headers it cannot parse, and its task panics at some. Such a message would arrive again
//!   after each reconnect. Readers step over it, receivers of work queues delete it, and a key
//!   whose value is such a message counts as absent. Messages of others arrive over connections of
//!   their own.
//! - **Failures are classified.** [`BusError`] separates missing objects, outages and wrong
//!   configuration, and transient failures are retried under the same message id. Provisioning
//!   names the field that differs, and leaves fields that it does not own unchanged.
//!
//! # Modules
//!
//! Each uses only those before it: `options`, `attempt` (retries), `connection_events`,
//! `server_clock`, `connection`, `inbound_connection`, `convert`, `raw_message`, `durability`,
//! `publish`, `pull_requests`, `subjects`, `queue_purge`, `work_queue`, `stream_reader`, `buckets`,
//! `provisioning`, `core_messaging`.

mod attempt;
mod buckets;
mod connection;
mod connection_events;
mod convert;
mod core_messaging;
mod credentials;
mod durability;
mod inbound_connection;
mod options;
mod provisioning;
mod publish;
mod pull_requests;
mod queue_purge;
mod raw_message;
mod server_changes;
mod server_clock;
mod server_urls;
mod stream_reader;
mod subjects;
mod work_queue;

use std::{fmt, sync::Arc, time::Duration};

use async_nats::jetstream::stream::{Info, PurgeResponse};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::{BoxStream, StreamExt, unfold};
use serde_json::json;

use self::{
    attempt::retry_transient,
    connection::{EmptyRequest, NatsConnection},
    convert::decode_message,
    inbound_connection::InboundConnection,
    publish::{OutgoingMessage, publish_all},
    stream_reader::{ReadEvent, ReadMessage, StreamReader, StreamSelection},
    work_queue::{JetStreamReceiver, consumer_info},
};
pub use self::{
    credentials::{NatsCredentials, Secret},
    options::{JetStreamOptions, TlsOptions},
};
use crate::{
    bus::{
        BucketEntry, Bus, DeliveryProgress, PublishOutcome, QueueReceiver, ServiceCall, StreamSpace,
        SubjectPage,
    },
    error::BusError,
    message::{Message, StoredMessage},
    replay::{Replay, ReplayEvent},
    topology::{Bucket, Queue, Stream, check_expires, check_key},
};

/// A bus over connections to NATS of one user.
pub struct JetStreamBus {
    /// For requests, writes and settlements.
    connection: Arc<NatsConnection>,
    /// For messages of work queues.
    queue_connection: Arc<InboundConnection>,
    /// For messages of replays and watches.
    reader_connection: Arc<InboundConnection>,
    /// For requests to the microservice.
    service_connection: Arc<InboundConnection>,
    options: JetStreamOptions,
}

impl fmt::Debug for JetStreamBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JetStream")
            .field("options", &self.options)
            .field("connected", &self.connection.is_connected())
            .finish()
    }
}

impl JetStreamBus {
    /// Connects, without retrying. Once connected, the client reconnects by itself without end.
    ///
    /// # Errors
    /// [`BusError::Unavailable`] if no server answers; [`BusError::Unusable`] if the server is too
    /// old, has JetStream disabled, or rejects the credentials or certificates.
    pub async fn connect(options: JetStreamOptions) -> Result<Arc<Self>, BusError> {
        let connection = NatsConnection::open(&options).await?;
        let queue_connection = InboundConnection::new(&connection, &options);
        let reader_connection = InboundConnection::new(&connection, &options);
        let service_connection = InboundConnection::new(&connection, &options);
        Ok(Arc::new(Self { connection, queue_connection, reader_connection, service_connection, options }))
    }

    fn inbound_connections(&self) -> [&InboundConnection; 3] {
        [&self.queue_connection, &self.reader_connection, &self.service_connection]
    }

    /// Whether every server syncs a message to disk before acknowledging it (`sync_interval:
    /// always`); `None` if the account does not import the servers' report
    /// (`deploy/nats/nats-server.conf`). Collects reports for one second.
    pub async fn syncs_always(&self) -> Option<bool> {
        durability::syncs_always(&self.connection).await
    }
}

#[async_trait]
impl Bus for JetStreamBus {
    async fn prepare(&self) -> Result<(), BusError> {
        provisioning::prepare(&self.connection, &self.options).await
    }

    async fn publish_once(&self, message: Message, id: &str) -> Result<PublishOutcome, BusError> {
        let outgoing = OutgoingMessage::new(&self.connection, message, id)?;
        let published = outgoing.publish(&self.connection).await?;
        // An attempt whose acknowledgement was lost may have stored the message.
        let is_foreign = published.ack.duplicate && published.attempts == 1;
        Ok(if is_foreign { PublishOutcome::Duplicate } else { PublishOutcome::Stored })
    }

    async fn publish_all(&self, messages: Vec<(Message, String)>) -> Result<(), BusError> {
        let messages =
            messages.into_iter().map(|(message, id)| OutgoingMessage::new(&self.connection, message, &id));
        let messages = messages.collect::<Result<Vec<_>, _>>()?;
        publish_all(&self.connection, &messages).await
    }

    async fn broadcast(&self, message: Message) -> Result<(), BusError> {
        core_messaging::broadcast(&self.connection, message).await
    }

    async fn subscribe(&self, filter: &str) -> Result<BoxStream<'static, Message>, BusError> {
        core_messaging::subscribe(&self.connection, filter, self.options.manage_topology).await
    }

    async fn open_queue(&self, queue: Queue) -> Result<Box<dyn QueueReceiver>, BusError> {
        Ok(Box::new(JetStreamReceiver::open(&self.connection, &self.queue_connection, queue).await?))
    }

    async fn replay(&self, stream: Stream, filters: Vec<String>) -> Result<Replay, BusError> {
        let selection = StreamSelection { stream: stream.name().to_owned(), filters, headers_only: false };
        let reader = StreamReader::open(&self.connection, &self.reader_connection, selection).await?;
        let connection = Arc::clone(&self.connection);
        let events = unfold((reader, connection), move |(mut reader, connection)| async move {
            let event = loop {
                match reader.next().await {
                    ReadEvent::Message(ReadMessage { subject, headers, payload, sequence, .. }) => {
                        let message = decode_message(&subject, headers.as_ref(), payload);
                        break ReplayEvent::Message(StoredMessage { sequence, message });
                    }
                    // Workers write this stream: the message would fill it until the job ends.
                    ReadEvent::Unreadable { sequence, .. } if stream == Stream::Results => {
                        if let Err(error) = raw_message::remove(&connection, stream.name(), sequence).await {
                            tracing::debug!(
                                ?error,
                                sequence,
                                "removing an unreadable result failed; it stays"
                            );
                        }
                    }
                    ReadEvent::Unreadable { .. } => {}
                    ReadEvent::CaughtUp => break ReplayEvent::CaughtUp,
                }
            };
            Some((event, (reader, connection)))
        });
        Ok(Replay::new(events.boxed()))
    }

    async fn purge(&self, stream: Stream, filter: &str) -> Result<(), BusError> {
        if stream.is_work_queue() {
            return queue_purge::purge(&self.connection, stream.name(), filter).await;
        }
        let request = format!("STREAM.PURGE.{}", stream.name());
        let body = json!({ "filter": filter });
        let purge = || self.connection.request_api::<PurgeResponse>(&request, &body);
        retry_transient(stream.name(), purge).await.map(drop)
    }

    async fn remove(&self, stream: Stream, sequence: u64) -> Result<(), BusError> {
        let remove = || raw_message::remove(&self.connection, stream.name(), sequence);
        retry_transient(stream.name(), remove).await
    }

    async fn stream_subjects(
        &self,
        stream: Stream,
        filter: &str,
        offset: usize,
    ) -> Result<SubjectPage, BusError> {
        subjects::subject_page(&self.connection, stream.name(), filter, offset).await
    }

    async fn backlog(&self, queue: Queue) -> Result<u64, BusError> {
        let info = retry_transient(queue.consumer(), || consumer_info(&self.connection, queue)).await?;
        Ok(info.num_pending + info.num_ack_pending as u64)
    }

    async fn delivery_progress(&self, queue: Queue) -> Result<DeliveryProgress, BusError> {
        let stream = format!("STREAM.INFO.{}", queue.stream().name());
        let stream_info = || self.connection.request_api::<Info>(&stream, &EmptyRequest {});
        let stored_to = retry_transient(queue.stream().name(), stream_info).await?.state.last_sequence;
        let info = retry_transient(queue.consumer(), || consumer_info(&self.connection, queue)).await?;
        let delivered_to = if info.num_pending == 0 { stored_to } else { info.delivered.stream_sequence };
        Ok(DeliveryProgress { stored_to, delivered_to })
    }

    async fn get(&self, bucket: &Bucket, key: &str) -> Result<Option<BucketEntry>, BusError> {
        check_key(key)?;
        buckets::get(&self.connection, bucket, key).await
    }

    async fn put(&self, bucket: &Bucket, key: &str, value: Bytes) -> Result<u64, BusError> {
        check_key(key)?;
        buckets::put(&self.connection, bucket, key, value).await
    }

    async fn compare_and_set(
        &self,
        bucket: &Bucket,
        key: &str,
        value: Bytes,
        expected: Option<u64>,
    ) -> Result<Option<u64>, BusError> {
        check_key(key)?;
        buckets::compare_and_set(&self.connection, bucket, key, value, expected, None).await
    }

    async fn compare_and_set_expiring(
        &self,
        bucket: &Bucket,
        key: &str,
        value: Bytes,
        expected: Option<u64>,
        lifetime: Duration,
    ) -> Result<Option<u64>, BusError> {
        check_key(key)?;
        check_expires(bucket)?;
        buckets::compare_and_set(&self.connection, bucket, key, value, expected, Some(lifetime)).await
    }

    async fn used_percent(&self, bucket: &Bucket) -> Result<u64, BusError> {
        buckets::used_percent(&self.connection, bucket).await
    }

    async fn stream_space(&self, stream: Stream) -> Result<StreamSpace, BusError> {
        let request = format!("STREAM.INFO.{}", stream.name());
        let request_info = || self.connection.request_api(&request, &EmptyRequest {});
        let info: Info = retry_transient(stream.name(), request_info).await?;
        // The server states -1 for no limit.
        let limit = |limit: i64| u64::try_from(limit).ok().filter(|limit| *limit > 0);
        let (max_bytes, max_messages) = (limit(info.config.max_bytes), limit(info.config.max_messages));
        let (bytes, messages) = (info.state.bytes, info.state.messages);
        Ok(StreamSpace { bytes, max_bytes, messages, max_messages })
    }

    async fn delete(&self, bucket: &Bucket, key: &str) -> Result<(), BusError> {
        check_key(key)?;
        buckets::delete(&self.connection, bucket, key).await
    }

    async fn keys(&self, bucket: &Bucket) -> Result<Vec<String>, BusError> {
        buckets::keys(&self.connection, &self.reader_connection, bucket).await
    }

    async fn watch(
        &self,
        bucket: &Bucket,
        filter: &str,
    ) -> Result<BoxStream<'static, BucketEntry>, BusError> {
        buckets::watch(&self.connection, &self.reader_connection, bucket, filter).await
    }

    async fn request(&self, message: Message, timeout: Duration) -> Result<Message, BusError> {
        core_messaging::request(&self.connection, message, timeout).await
    }

    async fn serve(&self) -> Result<BoxStream<'static, ServiceCall>, BusError> {
        core_messaging::serve(self.service_connection.clone()).await
    }

    fn max_payload(&self) -> usize {
        self.connection.max_payload().min(self.options.topology.max_message_bytes)
    }

    fn unreadable_messages(&self) -> u64 {
        self.connection.unreadable_messages()
    }

    async fn leave_server(&self) {
        self.connection.leave_server().await;
    }

    fn storage_refusal(&self) -> Option<String> {
        self.connection.storage_refusal()
    }

    fn has_denied_subscription(&self) -> bool {
        self.connection.has_denied_subscription()
            || self.inbound_connections().iter().any(|inbound| inbound.has_denied_subscription())
    }

    async fn reconnect(&self) {
        if self.connection.has_denied_subscription() {
            self.connection.reconnect().await;
        }
        for inbound in self.inbound_connections() {
            inbound.reconnect_if_denied().await;
        }
    }

    fn is_connected(&self) -> bool {
        self.connection.is_connected()
            && self.inbound_connections().iter().all(|inbound| inbound.is_connected())
    }
}
