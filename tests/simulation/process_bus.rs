//! The bus as one process sees it: [`MemoryBus`](forge_bus::MemoryBus) behind a network that
//! delays, loses and repeats what passes.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use forge_bus::{
    BucketEntry, Bus, BusError, Delivery, DeliveryLease, DeliveryProgress, Message, PublishOutcome,
    QueueReceiver, Replay, ServiceCall, SharedBus, SubjectPage,
    topology::{Bucket, Queue, Stream},
};
use futures_util::{
    FutureExt,
    stream::{BoxStream, StreamExt},
};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::process::Process;

/// Upper bound of the age of a stale read; services expect less than the grace period of records.
const MAX_STALENESS: Duration = Duration::from_secs(5);

/// Values of one key, each with the time since when it had that value.
type KeyHistory = Vec<(Instant, Option<BucketEntry>)>;

/// The values that bucket entries had, by bucket and key, for stale reads.
#[derive(Default)]
pub struct EntryHistory(Mutex<BTreeMap<(String, String), KeyHistory>>);

impl EntryHistory {
    /// Records the value of a key as of now.
    fn record(&self, bucket: &Bucket, key: &str, entry: Option<BucketEntry>) {
        let mut history = self.0.lock();
        let values = history.entry((bucket.name().to_owned(), key.to_owned())).or_default();
        let now = Instant::now();
        values.retain(|(at, _)| now.duration_since(*at) <= 2 * MAX_STALENESS);
        values.push((now, entry));
    }

    /// The value that a key had `age` ago; `None` if it is not recorded.
    fn read(&self, bucket: &Bucket, key: &str, age: Duration) -> Option<Option<BucketEntry>> {
        let at = Instant::now().checked_sub(age)?;
        let history = self.0.lock();
        let values = history.get(&(bucket.name().to_owned(), key.to_owned()))?;
        values.iter().rev().find(|(recorded, _)| *recorded <= at).map(|(_, entry)| entry.clone())
    }
}

/// The bus of one process.
#[derive(Clone)]
pub struct ProcessBus {
    pub process: Arc<Process>,
    pub inner: SharedBus,
    pub history: Arc<EntryHistory>,
    /// Ids of all published messages.
    pub ids: Arc<Mutex<BTreeSet<String>>>,
}

impl fmt::Debug for ProcessBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ProcessBus({})", self.process.name)
    }
}

/// Describes messages in the trace: a change of any byte changes it.
fn describe(message: &Message) -> String {
    let digest = forge_contract::digest::Digest::hash_parts(&[&message.payload]);
    format!("{} ({} bytes, {})", message.subject, message.payload.len(), &digest.to_hex()[..8])
}

impl ProcessBus {
    /// Performs an operation across the network.
    async fn call<T>(
        &self,
        operation: String,
        run: impl Future<Output = Result<T, BusError>>,
    ) -> Result<T, BusError> {
        let process = &self.process;
        let faults = &process.world.options.faults;
        process.request(&operation, faults.unavailable).await?;
        process.reach_bus(&operation)?;
        let result = run.await;
        let outcome = if result.is_ok() { "ok" } else { "error" };
        process.world.record(&process.name, format_args!("{operation}: {outcome}"));
        process.answer(&operation, faults.lost_answer).await?;
        result
    }

    /// A request that stores something: there may be no space for it.
    async fn store<T>(
        &self,
        operation: String,
        run: impl Future<Output = Result<T, BusError>>,
    ) -> Result<T, BusError> {
        let world = &self.process.world;
        if world.happens(world.options.faults.full) {
            let full = async { Err(BusError::Full("the simulated limit is reached".to_owned())) };
            return self.call(operation, full).await;
        }
        self.call(operation, run).await
    }

    /// The id under which a message is published. If the bus has forgotten an earlier message of
    /// this id, it is another one.
    fn effective_id(&self, id: String) -> String {
        let world = &self.process.world;
        let is_known = !self.ids.lock().insert(id.clone());
        match is_known && world.happens(world.options.faults.forgotten_id) {
            true => format!("{id}.{}", world.draw(|rng| rng.u64(..))),
            false => id,
        }
    }

    /// Notes a key's value before it is changed for the first time, and after every change.
    async fn change<T>(
        &self,
        bucket: &Bucket,
        key: &str,
        change: impl Future<Output = Result<T, BusError>>,
    ) -> Result<T, BusError> {
        if self.process.world.options.faults.stale_read == 0.0 {
            return change.await;
        }
        self.history.record(bucket, key, self.inner.get(bucket, key).await?);
        let result = change.await;
        self.history.record(bucket, key, self.inner.get(bucket, key).await?);
        result
    }

    /// A stream whose items stop while the process is frozen, and for good when it dies.
    fn receive<T: Send + 'static>(&self, items: BoxStream<'static, T>) -> BoxStream<'static, T> {
        let process = Arc::clone(&self.process);
        let receive = move |item| {
            let process = Arc::clone(&process);
            async move {
                process.arrive().await;
                item
            }
        };
        items.then(receive).boxed()
    }
}

#[async_trait]
impl Bus for ProcessBus {
    async fn prepare(&self) -> Result<(), BusError> {
        self.call("prepare".to_owned(), self.inner.prepare()).await
    }

    async fn publish_once(&self, message: Message, id: &str) -> Result<PublishOutcome, BusError> {
        let operation = format!("publish {}", describe(&message));
        let id = self.effective_id(id.to_owned());
        self.store(operation, self.inner.publish_once(message, &id)).await
    }

    async fn publish_all(&self, messages: Vec<(Message, String)>) -> Result<(), BusError> {
        let described: Vec<_> = messages.iter().map(|(message, _)| describe(message)).collect();
        let operation = format!("publish {}", described.join(", "));
        let messages: Vec<_> =
            messages.into_iter().map(|(message, id)| (message, self.effective_id(id))).collect();
        // The server may store some of the messages only.
        let world = &self.process.world;
        if world.happens(world.options.faults.unavailable) && !messages.is_empty() {
            let stored = world.draw(|rng| rng.usize(0..messages.len()));
            let stored = messages.into_iter().take(stored).collect();
            self.call(format!("{operation} in part"), self.inner.publish_all(stored)).await?;
            return Err(BusError::Unavailable("the simulated connection was cut".to_owned()));
        }
        self.store(operation, self.inner.publish_all(messages)).await
    }

    async fn broadcast(&self, message: Message) -> Result<(), BusError> {
        self.call(format!("broadcast {}", describe(&message)), self.inner.broadcast(message)).await
    }

    async fn subscribe(&self, filter: &str) -> Result<BoxStream<'static, Message>, BusError> {
        let items = self.call(format!("subscribe {filter}"), self.inner.subscribe(filter)).await?;
        let world = Arc::clone(&self.process.world);
        let arrives = move |_: &Message| {
            let is_lost = world.happens(world.options.faults.lost_broadcast);
            async move { !is_lost }
        };
        Ok(self.receive(items.filter(arrives).boxed()))
    }

    async fn open_queue(&self, queue: Queue) -> Result<Box<dyn QueueReceiver>, BusError> {
        let inner = self.call(format!("open {}", queue.label()), self.inner.open_queue(queue)).await?;
        Ok(Box::new(ProcessReceiver { bus: self.clone(), inner, queue }))
    }

    async fn replay(&self, stream: Stream, filters: Vec<String>) -> Result<Replay, BusError> {
        let replay = self.call(format!("replay {filters:?}"), self.inner.replay(stream, filters)).await?;
        let process = Arc::clone(&self.process);
        Ok(replay.paced(move || {
            let process = Arc::clone(&process);
            async move { process.arrive().await }.boxed()
        }))
    }

    async fn purge(&self, stream: Stream, filter: &str) -> Result<(), BusError> {
        self.call(format!("purge {filter}"), self.inner.purge(stream, filter)).await
    }

    async fn remove(&self, stream: Stream, sequence: u64) -> Result<(), BusError> {
        self.call(format!("remove {sequence} of {}", stream.name()), self.inner.remove(stream, sequence))
            .await
    }

    async fn stream_subjects(
        &self,
        stream: Stream,
        filter: &str,
        offset: usize,
    ) -> Result<SubjectPage, BusError> {
        let operation = format!("list the subjects of {}", stream.name());
        self.call(operation, self.inner.stream_subjects(stream, filter, offset)).await
    }

    async fn backlog(&self, queue: Queue) -> Result<u64, BusError> {
        self.call(format!("count {}", queue.label()), self.inner.backlog(queue)).await
    }

    async fn delivery_progress(&self, queue: Queue) -> Result<DeliveryProgress, BusError> {
        self.call(format!("progress of {}", queue.label()), self.inner.delivery_progress(queue)).await
    }

    async fn get(&self, bucket: &Bucket, key: &str) -> Result<Option<BucketEntry>, BusError> {
        let world = &self.process.world;
        let read = async {
            if world.happens(world.options.faults.stale_read)
                && let Some(entry) = self.history.read(bucket, key, world.up_to(MAX_STALENESS))
            {
                let revision = entry.as_ref().map(|entry| entry.revision);
                world.record(&self.process.name, format_args!("reads {key} as of revision {revision:?}"));
                return Ok(entry);
            }
            self.inner.get(bucket, key).await
        };
        self.call(format!("get {}/{key}", bucket.name()), read).await
    }

    async fn put(&self, bucket: &Bucket, key: &str, value: Bytes) -> Result<u64, BusError> {
        let put = self.change(bucket, key, self.inner.put(bucket, key, value));
        self.store(format!("put {}/{key}", bucket.name()), put).await
    }

    async fn compare_and_set(
        &self,
        bucket: &Bucket,
        key: &str,
        value: Bytes,
        expected: Option<u64>,
    ) -> Result<Option<u64>, BusError> {
        let operation = format!("set {}/{key} from {expected:?}", bucket.name());
        let set = self.change(bucket, key, self.inner.compare_and_set(bucket, key, value, expected));
        self.store(operation, set).await
    }

    async fn compare_and_set_expiring(
        &self,
        bucket: &Bucket,
        key: &str,
        value: Bytes,
        expected: Option<u64>,
        lifetime: Duration,
    ) -> Result<Option<u64>, BusError> {
        let operation = format!("set {}/{key} from {expected:?} for {lifetime:?}", bucket.name());
        let set = self.inner.compare_and_set_expiring(bucket, key, value, expected, lifetime);
        self.store(operation, self.change(bucket, key, set)).await
    }

    async fn used_percent(&self, bucket: &Bucket) -> Result<u64, BusError> {
        self.call(format!("measure {}", bucket.name()), self.inner.used_percent(bucket)).await
    }

    async fn delete(&self, bucket: &Bucket, key: &str) -> Result<(), BusError> {
        let delete = self.change(bucket, key, self.inner.delete(bucket, key));
        self.call(format!("delete {}/{key}", bucket.name()), delete).await
    }

    async fn keys(&self, bucket: &Bucket) -> Result<Vec<String>, BusError> {
        self.call(format!("keys of {}", bucket.name()), self.inner.keys(bucket)).await
    }

    async fn watch(
        &self,
        bucket: &Bucket,
        filter: &str,
    ) -> Result<BoxStream<'static, BucketEntry>, BusError> {
        let operation = format!("watch {}/{filter}", bucket.name());
        let items = self.call(operation, self.inner.watch(bucket, filter)).await?;
        Ok(self.receive(items))
    }

    async fn request(&self, message: Message, timeout: Duration) -> Result<Message, BusError> {
        self.call(format!("request {}", describe(&message)), self.inner.request(message, timeout)).await
    }

    async fn serve(&self) -> Result<BoxStream<'static, ServiceCall>, BusError> {
        let calls = self.call("serve".to_owned(), self.inner.serve()).await?;
        // A dead process must not take calls, so it drops its stream.
        let death = self.process.death.clone().cancelled_owned();
        Ok(self.receive(calls.take_until(death).boxed()))
    }

    fn max_payload(&self) -> usize {
        self.inner.max_payload()
    }

    fn is_connected(&self) -> bool {
        true
    }
}

/// A receiver of one process.
struct ProcessReceiver {
    bus: ProcessBus,
    inner: Box<dyn QueueReceiver>,
    queue: Queue,
}

#[async_trait]
impl QueueReceiver for ProcessReceiver {
    async fn fetch(&mut self, max: usize) -> Result<Vec<Delivery>, BusError> {
        let process = &self.bus.process;
        let operation = format!("fetch {}", self.queue.label());
        process.request(&operation, process.world.options.faults.unavailable).await?;
        process.reach_bus(&operation)?;
        let fetched = process.death.run_until_cancelled(self.inner.fetch(max)).await;
        let Some(deliveries) = fetched else { return std::future::pending().await };
        let deliveries = deliveries?;
        for delivery in &deliveries {
            let (sequence, attempt) = (delivery.sequence, delivery.attempt);
            let message = describe(&delivery.message);
            process.world.record(&process.name, format_args!("receives {sequence}.{attempt} {message}"));
        }
        // Deliveries that get lost come again after their lease.
        process.answer(&operation, process.world.options.faults.lost_answer).await?;
        let wrap = |delivery: Delivery| {
            let Delivery { message, sequence, attempt, lease } = delivery;
            let subject = message.subject.clone();
            let lease = ProcessLease { process: Arc::clone(process), inner: lease, subject };
            Delivery { message, sequence, attempt, lease: Arc::new(lease) }
        };
        Ok(deliveries.into_iter().map(wrap).collect())
    }

    /// None: what a dropped [`Self::fetch`] had fetched comes again after its lease.
    fn take_arrived(&mut self) -> Vec<Delivery> {
        Vec::new()
    }
}

/// A lease of one process.
#[derive(Clone)]
struct ProcessLease {
    process: Arc<Process>,
    inner: Arc<dyn DeliveryLease>,
    subject: String,
}

impl fmt::Debug for ProcessLease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ProcessLease({})", self.subject)
    }
}

impl ProcessLease {
    /// Whether a settlement reaches the server.
    async fn arrives(&self, settlement: &str) -> bool {
        let operation = format!("{settlement} {}", self.subject);
        let loss = self.process.world.options.faults.lost_settlement;
        let arrives = self.process.request(&operation, loss).await.is_ok()
            && self.process.reach_bus(&operation).is_ok();
        if arrives {
            self.process.world.record(&self.process.name, operation);
        }
        arrives
    }
}

#[async_trait]
impl DeliveryLease for ProcessLease {
    async fn ack(&self) {
        if self.arrives("ack").await {
            self.inner.ack().await;
        }
    }

    async fn retry(&self, delay: Duration) {
        if self.arrives("retry").await {
            self.inner.retry(delay).await;
        }
    }

    async fn renew(&self) {
        if self.arrives("renew").await {
            self.inner.renew().await;
        }
    }
}
