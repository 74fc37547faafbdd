//! A bus of tests on which what is used is written late: everybody has read it by then. Apart from that it is the one in it.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use forge_bus::{
    Bus, BusError, Call, Content, Entry, MemoryBus, Message, Pull, Stored,
    topology::{Bucket, Queue, Stream},
};
use futures_util::stream::BoxStream;
use tokio::time::sleep;

/// The bus.
#[derive(Debug)]
pub struct Slow(pub Arc<MemoryBus>);

#[async_trait]
impl Bus for Slow {
    async fn compare_and_set(
        &self,
        bucket: &Bucket,
        key: &str,
        value: Bytes,
        expected: Option<u64>,
    ) -> Result<Option<u64>, BusError> {
        if *bucket == Bucket::Quotas {
            sleep(Duration::from_millis(1)).await;
        }
        self.0.compare_and_set(bucket, key, value, expected).await
    }

    async fn prepare(&self) -> Result<(), BusError> {
        self.0.prepare().await
    }

    async fn publish(&self, message: Message, id: &str) -> Result<(), BusError> {
        self.0.publish(message, id).await
    }

    async fn publish_all(&self, messages: Vec<(Message, String)>) -> Result<(), BusError> {
        self.0.publish_all(messages).await
    }

    async fn broadcast(&self, message: Message) -> Result<(), BusError> {
        self.0.broadcast(message).await
    }

    async fn listen(&self, subject: &str) -> Result<BoxStream<'static, Message>, BusError> {
        self.0.listen(subject).await
    }

    async fn pull(&self, queue: Queue) -> Result<Box<dyn Pull>, BusError> {
        self.0.pull(queue).await
    }

    async fn replay(
        &self,
        subjects: Vec<String>,
        content: Content,
    ) -> Result<BoxStream<'static, Stored>, BusError> {
        self.0.replay(subjects, content).await
    }

    async fn purge(&self, stream: Stream, subject: &str) -> Result<(), BusError> {
        self.0.purge(stream, subject).await
    }

    async fn backlog(&self, queue: Queue) -> Result<u64, BusError> {
        self.0.backlog(queue).await
    }

    async fn get(&self, bucket: &Bucket, key: &str) -> Result<Option<Entry>, BusError> {
        self.0.get(bucket, key).await
    }

    async fn put(&self, bucket: &Bucket, key: &str, value: Bytes) -> Result<u64, BusError> {
        self.0.put(bucket, key, value).await
    }

    async fn delete(&self, bucket: &Bucket, key: &str) -> Result<(), BusError> {
        self.0.delete(bucket, key).await
    }

    async fn keys(&self, bucket: &Bucket) -> Result<Vec<String>, BusError> {
        self.0.keys(bucket).await
    }

    async fn watch(&self, bucket: &Bucket, filter: &str) -> Result<BoxStream<'static, Entry>, BusError> {
        self.0.watch(bucket, filter).await
    }

    async fn request(&self, message: Message, timeout: Duration) -> Result<Message, BusError> {
        self.0.request(message, timeout).await
    }

    async fn serve(&self) -> Result<BoxStream<'static, Call>, BusError> {
        self.0.serve().await
    }

    fn max_payload(&self) -> usize {
        self.0.max_payload()
    }

    fn is_connected(&self) -> bool {
        self.0.is_connected()
    }
}
