//! The bus as one process sees it: [`MemoryBus`](forge_bus::MemoryBus) behind a network that
//! delays, loses and repeats what passes.

use std::{collections::BTreeSet, fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use forge_bus::{
    BucketEntry, Bus, BusError, DeliveryProgress, Message, PublishOutcome, QueueReceiver, Replay,
    ServiceCall, SharedBus, StreamSpace, SubjectPage,
    topology::{Bucket, Queue, Stream},
};
use futures_util::{
    FutureExt,
    stream::{BoxStream, StreamExt},
};
use parking_lot::Mutex;

use crate::{
    entry_history::{EntryHistory, MAX_STALENESS},
    message_mishaps::{deliver_late, lose_result},
    process::Process,
    process_queue::ProcessReceiver,
    traffic::TrafficLedger,
    watch_gaps::with_gaps,
};

/// The bus of one process.
#[derive(Clone)]
pub struct ProcessBus {
    pub process: Arc<Process>,
    pub inner: SharedBus,
    pub history: Arc<EntryHistory>,
    /// Ids of all published messages.
    pub ids: Arc<Mutex<BTreeSet<String>>>,
    pub traffic: Arc<TrafficLedger>,
}

impl fmt::Debug for ProcessBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ProcessBus({})", self.process.name)
    }
}

/// Describes messages in the trace: a change of any byte changes it.
pub fn describe(message: &Message) -> String {
    let digest = forge_contract::digest::Digest::hash_parts(&[&message.payload]);
    format!("{} ({} bytes, {})", message.subject, message.payload.len(), &digest.to_hex()[..8])
}

/// The stream that stores a message.
fn stream_name(message: &Message) -> Option<&'static str> {
    Stream::for_subject(&message.subject).map(Stream::name)
}

impl ProcessBus {
    /// Performs an operation across the network, on a stream or bucket if `asset` names one.
    async fn call<T>(
        &self,
        asset: Option<&str>,
        operation: String,
        run: impl Future<Output = Result<T, BusError>>,
    ) -> Result<T, BusError> {
        let process = &self.process;
        let faults = &process.world.options.faults;
        process.request(&operation, faults.unavailable).await?;
        process.reach_bus(asset, &operation)?;
        let result = run.await;
        let outcome = if result.is_ok() { "ok" } else { "error" };
        process.world.record(&process.name, format_args!("{operation}: {outcome}"));
        process.answer(&operation, faults.lost_answer).await?;
        result
    }

    /// A request that stores something of this size: there may be no space for it.
    async fn store<T>(
        &self,
        asset: Option<&str>,
        operation: String,
        size: usize,
        run: impl Future<Output = Result<T, BusError>>,
    ) -> Result<T, BusError> {
        let world = &self.process.world;
        self.check_size(size)?;
        if world.happens(world.options.faults.full) {
            let full = async { Err(BusError::Full("the simulated limit is reached".to_owned())) };
            return self.call(asset, operation, full).await;
        }
        self.call(asset, operation, run).await
    }

    /// Refuses what the server does not accept. A limit is no passing fault: it outlasts the
    /// turmoil.
    fn check_size(&self, size: usize) -> Result<(), BusError> {
        let (usual, unusual) = (self.max_payload(), self.process.world.options.faults.message_limit());
        let limit = unusual.map_or(usual, |limit| limit.min(usual));
        if size > limit { Err(BusError::TooLarge { size, limit }) } else { Ok(()) }
    }

    /// Publishes messages and counts those that are stored.
    async fn publish_counted(&self, messages: Vec<(Message, String)>) -> Result<(), BusError> {
        self.inner.publish_all(messages.clone()).await?;
        messages.iter().for_each(|(message, _)| self.note_stored(message));
        Ok(())
    }

    fn note_stored(&self, message: &Message) {
        self.traffic.note_stored(&self.process.name, message, self.process.world.now());
        lose_result(&self.process.world, &self.inner, message);
    }

    /// Whether messages are stored later than their sender waits for the answer.
    fn is_late(&self) -> bool {
        self.process.world.happens(self.process.world.options.faults.late)
    }

    /// Fails for the sender, and stores the messages later.
    async fn publish_late(&self, operation: &str, messages: Vec<(Message, String)>) -> Result<(), BusError> {
        self.process.request(operation, 0.0).await?;
        let (name, now) = (&self.process.name, self.process.world.now());
        messages.iter().for_each(|(message, _)| self.traffic.note_stored(name, message, now));
        deliver_late(&self.process, &self.inner, operation, messages);
        Err(BusError::Unavailable("the simulated answer did not arrive in time".to_owned()))
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

    /// Notes the versions of a record, and a key's value before it is changed for the first time
    /// and after every change.
    async fn change<T>(
        &self,
        bucket: &Bucket,
        key: &str,
        change: impl Future<Output = Result<T, BusError>>,
    ) -> Result<T, BusError> {
        let has_stale_reads = self.process.world.options.faults.stale_read > 0.0;
        if has_stale_reads {
            self.history.record(bucket, key, self.inner.get(bucket, key).await?);
        }
        let result = change.await;
        let entry = self.inner.get(bucket, key).await?;
        if let Bucket::Jobs(namespace) = bucket {
            self.traffic.note_record(namespace, key, entry.as_ref(), self.process.world.now());
        }
        if has_stale_reads {
            self.history.record(bucket, key, entry);
        }
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
        self.call(None, "prepare".to_owned(), self.inner.prepare()).await
    }

    async fn publish_once(&self, message: Message, id: &str) -> Result<PublishOutcome, BusError> {
        let operation = format!("publish {}", describe(&message));
        let id = self.effective_id(id.to_owned());
        let (asset, size) = (stream_name(&message), message.payload.len());
        if self.is_late() {
            self.check_size(size)?;
            let late = self.publish_late(&operation, vec![(message, id)]).await;
            return late.map(|()| PublishOutcome::Stored);
        }
        let publish = async {
            let outcome = self.inner.publish_once(message.clone(), &id).await?;
            self.note_stored(&message);
            Ok(outcome)
        };
        self.store(asset, operation, size, publish).await
    }

    async fn publish_all(&self, messages: Vec<(Message, String)>) -> Result<(), BusError> {
        let described: Vec<_> = messages.iter().map(|(message, _)| describe(message)).collect();
        let operation = format!("publish {}", described.join(", "));
        let messages: Vec<_> =
            messages.into_iter().map(|(message, id)| (message, self.effective_id(id))).collect();
        let asset = messages.first().and_then(|(message, _)| stream_name(message));
        let size = messages.iter().map(|(message, _)| message.payload.len()).max().unwrap_or(0);
        self.check_size(size)?;
        if self.is_late() {
            return self.publish_late(&operation, messages).await;
        }
        // The server may store some of the messages only.
        let world = &self.process.world;
        if world.happens(world.options.faults.unavailable) && !messages.is_empty() {
            let stored = world.draw(|rng| rng.usize(0..messages.len()));
            let stored = messages.into_iter().take(stored).collect();
            self.call(asset, format!("{operation} in part"), self.publish_counted(stored)).await?;
            return Err(BusError::Unavailable("the simulated connection was cut".to_owned()));
        }
        self.store(asset, operation, size, self.publish_counted(messages)).await
    }

    async fn broadcast(&self, message: Message) -> Result<(), BusError> {
        self.check_size(message.payload.len())?;
        self.call(None, format!("broadcast {}", describe(&message)), self.inner.broadcast(message)).await
    }

    async fn subscribe(&self, filter: &str) -> Result<BoxStream<'static, Message>, BusError> {
        let items = self.call(None, format!("subscribe {filter}"), self.inner.subscribe(filter)).await?;
        let world = Arc::clone(&self.process.world);
        let arrives = move |_: &Message| {
            let is_lost = world.happens(world.options.faults.lost_broadcast);
            async move { !is_lost }
        };
        Ok(self.receive(items.filter(arrives).boxed()))
    }

    async fn open_queue(&self, queue: Queue) -> Result<Box<dyn QueueReceiver>, BusError> {
        let stream = Some(queue.stream().name());
        let inner =
            self.call(stream, format!("open {}", queue.label()), self.inner.open_queue(queue)).await?;
        Ok(Box::new(ProcessReceiver { process: Arc::clone(&self.process), inner, queue }))
    }

    async fn replay(&self, stream: Stream, filters: Vec<String>) -> Result<Replay, BusError> {
        let operation = format!("replay {filters:?}");
        let open = async {
            if self.process.name.starts_with("planner") {
                self.traffic.note_drive(&self.process.name, &filters);
            }
            self.inner.replay(stream, filters).await
        };
        let replay = self.call(Some(stream.name()), operation, open).await?;
        let process = Arc::clone(&self.process);
        Ok(replay.paced(move || {
            let process = Arc::clone(&process);
            async move { process.arrive().await }.boxed()
        }))
    }

    async fn purge(&self, stream: Stream, filter: &str) -> Result<(), BusError> {
        self.call(Some(stream.name()), format!("purge {filter}"), self.inner.purge(stream, filter)).await
    }

    async fn remove(&self, stream: Stream, sequence: u64) -> Result<(), BusError> {
        let operation = format!("remove {sequence} of {}", stream.name());
        self.call(Some(stream.name()), operation, self.inner.remove(stream, sequence)).await
    }

    async fn stream_subjects(
        &self,
        stream: Stream,
        filter: &str,
        offset: usize,
    ) -> Result<SubjectPage, BusError> {
        let operation = format!("list the subjects of {}", stream.name());
        self.call(Some(stream.name()), operation, self.inner.stream_subjects(stream, filter, offset)).await
    }

    async fn backlog(&self, queue: Queue) -> Result<u64, BusError> {
        let operation = format!("count {}", queue.label());
        self.call(Some(queue.stream().name()), operation, self.inner.backlog(queue)).await
    }

    async fn delivery_progress(&self, queue: Queue) -> Result<DeliveryProgress, BusError> {
        let operation = format!("progress of {}", queue.label());
        self.call(Some(queue.stream().name()), operation, self.inner.delivery_progress(queue)).await
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
        self.call(Some(bucket.name()), format!("get {}/{key}", bucket.name()), read).await
    }

    async fn put(&self, bucket: &Bucket, key: &str, value: Bytes) -> Result<u64, BusError> {
        let size = value.len();
        let put = self.change(bucket, key, self.inner.put(bucket, key, value));
        self.store(Some(bucket.name()), format!("put {}/{key}", bucket.name()), size, put).await
    }

    async fn compare_and_set(
        &self,
        bucket: &Bucket,
        key: &str,
        value: Bytes,
        expected: Option<u64>,
    ) -> Result<Option<u64>, BusError> {
        let (operation, size) = (format!("set {}/{key} from {expected:?}", bucket.name()), value.len());
        let set = self.change(bucket, key, self.inner.compare_and_set(bucket, key, value, expected));
        self.store(Some(bucket.name()), operation, size, set).await
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
        let size = value.len();
        let set = self.inner.compare_and_set_expiring(bucket, key, value, expected, lifetime);
        self.store(Some(bucket.name()), operation, size, self.change(bucket, key, set)).await
    }

    async fn used_percent(&self, bucket: &Bucket) -> Result<u64, BusError> {
        let operation = format!("measure {}", bucket.name());
        self.call(Some(bucket.name()), operation, self.inner.used_percent(bucket)).await
    }

    async fn stream_space(&self, stream: Stream) -> Result<StreamSpace, BusError> {
        self.call(Some(stream.name()), format!("measure {}", stream.name()), self.inner.stream_space(stream))
            .await
    }

    async fn delete(&self, bucket: &Bucket, key: &str) -> Result<(), BusError> {
        let delete = self.change(bucket, key, self.inner.delete(bucket, key));
        self.call(Some(bucket.name()), format!("delete {}/{key}", bucket.name()), delete).await
    }

    async fn keys(&self, bucket: &Bucket) -> Result<Vec<String>, BusError> {
        self.call(Some(bucket.name()), format!("keys of {}", bucket.name()), self.inner.keys(bucket)).await
    }

    async fn watch(
        &self,
        bucket: &Bucket,
        filter: &str,
    ) -> Result<BoxStream<'static, BucketEntry>, BusError> {
        let operation = format!("watch {}/{filter}", bucket.name());
        let items = self.call(Some(bucket.name()), operation, self.inner.watch(bucket, filter)).await?;
        Ok(self.receive(with_gaps(&self.process, items)))
    }

    async fn request(&self, message: Message, timeout: Duration) -> Result<Message, BusError> {
        self.check_size(message.payload.len())?;
        let operation = format!("request {}", describe(&message));
        self.call(None, operation, self.inner.request(message, timeout)).await
    }

    async fn serve(&self) -> Result<BoxStream<'static, ServiceCall>, BusError> {
        let calls = self.call(None, "serve".to_owned(), self.inner.serve()).await?;
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
