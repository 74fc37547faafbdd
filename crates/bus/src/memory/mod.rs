//! The bus within one process, for tests and local runs: every promise of [`Bus`], nothing on disk, no server. Time is
//! tokio's, so tests may pause it.

mod buckets;
mod streams;
mod wire;

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::{BoxStream, StreamExt, iter, unfold};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep_until, timeout},
};

use self::{
    buckets::Buckets,
    streams::{Effects, Streams, Taken, queue_index},
    wire::Wire,
};
use crate::{
    bus::{BucketEntry, Bus, Delivery, DeliveryLease, QueueReceiver, ReplayContent, ServiceCall},
    error::BusError,
    message::{Message, StoredMessage},
    topology::{self, Bucket, Queue, Stream, TopologySettings, check_key},
};

/// The largest payload the twin takes: what a nats-server takes that was not told otherwise.
pub const MAX_PAYLOAD_BYTES: usize = 1 << 20;

/// The bus within one process. It is empty at its start and gone with its last user.
#[derive(Debug)]
pub struct MemoryBus {
    shared: Arc<Shared>,
    namespaces: Vec<String>,
}

struct Shared {
    state: Mutex<State>,
    /// By the order of [`Queue::ALL`].
    ready: Vec<Notify>,
    /// Told when there is a deadline earlier than those known.
    rearm: Notify,
    /// Told when a result is stored.
    results: watch::Sender<()>,
}

#[derive(Debug)]
struct State {
    prepared: bool,
    streams: Streams,
    buckets: Buckets,
    wire: Wire,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl MemoryBus {
    /// A bus with nothing in it, where [`Bus::prepare`] makes the bucket of job records `jobs`.
    pub fn new(settings: TopologySettings) -> Arc<Self> {
        Self::with_namespaces(settings, vec![Bucket::default_jobs().name().to_owned()])
    }

    /// The same with these buckets of job records.
    pub fn with_namespaces(settings: TopologySettings, namespaces: Vec<String>) -> Arc<Self> {
        let state = State {
            prepared: false,
            streams: Streams::new(settings.lease),
            buckets: Buckets::default(),
            wire: Wire::default(),
        };
        let shared = Shared {
            state: Mutex::new(state),
            ready: Queue::ALL.iter().map(|_| Notify::new()).collect(),
            rearm: Notify::new(),
            results: watch::Sender::new(()),
        };
        Arc::new(Self { shared: Arc::new(shared), namespaces })
    }

    /// Messages stored in a stream at this moment.
    pub fn message_count(&self, stream: Stream) -> usize {
        self.shared.lock().streams.stored(stream)
    }

    fn store(&self, messages: impl IntoIterator<Item = (Message, String)>) -> Result<(), BusError> {
        let (now, mut effects) = (Instant::now(), Effects::default());
        let mut results = false;
        let mut state = self.shared.lock();
        let stored = messages.into_iter().try_for_each(|(message, id)| {
            fits(message.payload.len())?;
            let stream = Stream::for_subject(&message.subject)
                .ok_or_else(|| BusError::Unusable(format!("no stream stores {}", message.subject)))?;
            state.prepared_or(stream.name())?;
            results |= stream == Stream::Results;
            state.wire.broadcast(&message);
            state.streams.store(now, stream, message, Some(&id), &mut effects);
            Ok(())
        });
        drop(state);
        self.shared.tell(effects);
        if results {
            self.shared.results.send_replace(());
        }
        stored
    }
}

impl State {
    fn prepared_or(&self, name: &str) -> Result<(), BusError> {
        if self.prepared { Ok(()) } else { Err(BusError::Missing(format!("the stream {name}"))) }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the streams, then wakes those whom it concerns.
    fn change<T>(&self, change: impl FnOnce(&mut Streams, Instant, &mut Effects) -> T) -> T {
        let (now, mut effects) = (Instant::now(), Effects::default());
        let result = change(&mut self.lock().streams, now, &mut effects);
        self.tell(effects);
        result
    }

    fn tell(&self, effects: Effects) {
        effects.ready.into_iter().for_each(|queue| self.ready[queue].notify_one());
        if effects.rearm {
            self.rearm.notify_waiters();
        }
    }
}

fn fits(size: usize) -> Result<(), BusError> {
    if size > MAX_PAYLOAD_BYTES { Err(BusError::TooLarge { size, limit: MAX_PAYLOAD_BYTES }) } else { Ok(()) }
}

#[async_trait]
impl Bus for MemoryBus {
    async fn prepare(&self) -> Result<(), BusError> {
        let mut state = self.shared.lock();
        state.prepared = true;
        for bucket in topology::all_buckets(&self.namespaces) {
            state.buckets.create(&bucket);
        }
        Ok(())
    }

    async fn publish(&self, message: Message, id: &str) -> Result<(), BusError> {
        self.store([(message, id.to_owned())])
    }

    async fn publish_all(&self, messages: Vec<(Message, String)>) -> Result<(), BusError> {
        self.store(messages)
    }

    async fn broadcast(&self, message: Message) -> Result<(), BusError> {
        fits(message.payload.len())?;
        self.shared.lock().wire.broadcast(&message);
        Ok(())
    }

    async fn subscribe(&self, subject: &str) -> Result<BoxStream<'static, Message>, BusError> {
        Ok(wire::stream(self.shared.lock().wire.listen(subject)))
    }

    async fn open_queue(&self, queue: Queue) -> Result<Box<dyn QueueReceiver>, BusError> {
        self.shared.lock().prepared_or(queue.stream().name())?;
        Ok(Box::new(MemoryPull { shared: self.shared.clone(), queue: queue_index(queue) }))
    }

    async fn replay(
        &self,
        subjects: Vec<String>,
        content: ReplayContent,
    ) -> Result<BoxStream<'static, StoredMessage>, BusError> {
        self.shared.lock().prepared_or(Stream::Results.name())?;
        let mut changes = self.shared.results.subscribe();
        changes.mark_changed();
        let from = (Arc::downgrade(&self.shared), changes, 0, subjects);
        let batches = unfold(from, move |(shared, mut changes, mut after, subjects)| async move {
            loop {
                let (mut found, looked) = { shared.upgrade()?.lock().streams.results(after, &subjects) };
                // Nothing new: wait. A result stored in between has marked the channel as changed.
                if looked == after {
                    changes.changed().await.ok()?;
                    continue;
                }
                after = looked;
                if content == ReplayContent::Headers {
                    found.iter_mut().for_each(|stored| stored.message.payload = Bytes::new());
                }
                return Some((iter(found), (shared, changes, after, subjects)));
            }
        });
        Ok(batches.flatten().boxed())
    }

    async fn purge(&self, stream: Stream, subject: &str) -> Result<(), BusError> {
        self.shared.lock().streams.purge(stream, subject);
        Ok(())
    }

    async fn backlog(&self, queue: Queue) -> Result<u64, BusError> {
        self.shared.lock().prepared_or(queue.stream().name())?;
        Ok(self.shared.change(|streams, now, effects| {
            streams.expire(now, effects);
            streams.held(queue_index(queue))
        }))
    }

    async fn get(&self, bucket: &Bucket, key: &str) -> Result<Option<BucketEntry>, BusError> {
        check_key(key)?;
        self.shared.lock().buckets.get(Instant::now(), bucket, key)
    }

    async fn put(&self, bucket: &Bucket, key: &str, value: Bytes) -> Result<u64, BusError> {
        check_key(key)?;
        fits(value.len())?;
        self.shared.lock().buckets.put(Instant::now(), bucket, key, value)
    }

    async fn compare_and_set(
        &self,
        bucket: &Bucket,
        key: &str,
        value: Bytes,
        expected: Option<u64>,
    ) -> Result<Option<u64>, BusError> {
        check_key(key)?;
        fits(value.len())?;
        self.shared.lock().buckets.compare_and_set(Instant::now(), bucket, key, value, expected)
    }

    async fn delete(&self, bucket: &Bucket, key: &str) -> Result<(), BusError> {
        check_key(key)?;
        self.shared.lock().buckets.delete(Instant::now(), bucket, key)
    }

    async fn keys(&self, bucket: &Bucket) -> Result<Vec<String>, BusError> {
        self.shared.lock().buckets.keys(Instant::now(), bucket)
    }

    async fn watch(
        &self,
        bucket: &Bucket,
        filter: &str,
    ) -> Result<BoxStream<'static, BucketEntry>, BusError> {
        let watcher = self.shared.lock().buckets.watch(Instant::now(), bucket, filter)?;
        Ok(wire::stream(watcher))
    }

    async fn request(&self, message: Message, limit: Duration) -> Result<Message, BusError> {
        fits(message.payload.len())?;
        let subject = message.subject.clone();
        let no_answer = || BusError::NoResponse(subject);
        let Some(answer) = self.shared.lock().wire.request(message) else { return Err(no_answer()) };
        match timeout(limit, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) | Err(_) => Err(no_answer()),
        }
    }

    async fn serve(&self) -> Result<BoxStream<'static, ServiceCall>, BusError> {
        Ok(wire::stream(self.shared.lock().wire.serve()))
    }

    fn max_payload(&self) -> usize {
        MAX_PAYLOAD_BYTES
    }

    fn is_connected(&self) -> bool {
        true
    }
}

/// An open queue of the twin.
struct MemoryPull {
    shared: Arc<Shared>,
    queue: usize,
}

#[async_trait]
impl QueueReceiver for MemoryPull {
    async fn fetch(&mut self, max: usize) -> Result<Vec<Delivery>, BusError> {
        loop {
            let rearm = self.shared.rearm.notified();
            let (taken, deadline) = self.shared.change(|streams, now, effects| {
                streams.expire(now, effects);
                (streams.take(now, self.queue, max.max(1), effects), streams.next_deadline())
            });
            if !taken.is_empty() {
                return Ok(taken.into_iter().map(|taken| self.delivery(taken)).collect());
            }
            let due = async {
                match deadline {
                    Some(deadline) => sleep_until(deadline).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.shared.ready[self.queue].notified() => {}
                () = rearm => {}
                () = due => {}
            }
        }
    }
}

impl MemoryPull {
    fn delivery(&self, taken: Taken) -> Delivery {
        let lease = Lease {
            shared: self.shared.clone(),
            queue: self.queue,
            slot: taken.slot,
            attempt: taken.attempt,
        };
        Delivery {
            message: taken.message,
            sequence: taken.sequence,
            attempt: taken.attempt,
            lease: Arc::new(lease),
        }
    }
}

/// A message that is being worked on.
#[derive(Debug)]
struct Lease {
    shared: Arc<Shared>,
    queue: usize,
    slot: u64,
    attempt: u64,
}

impl Lease {
    fn postpone(&self, delay: Option<Duration>) {
        self.shared.change(|streams, now, effects| {
            streams.postpone(now, self.queue, self.slot, self.attempt, delay, effects);
        });
    }
}

#[async_trait]
impl DeliveryLease for Lease {
    async fn ack(&self) {
        self.shared.lock().streams.ack(self.queue, self.slot);
    }

    async fn retry(&self, delay: Duration) {
        self.postpone(Some(delay));
    }

    async fn renew(&self) {
        self.postpone(None);
    }
}
