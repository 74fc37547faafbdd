//! The bus within one process, for local runs and tests. Gives every guarantee of [`Bus`] except
//! durability: it holds all messages in memory and needs no server. It uses tokio's clock, which
//! tests can pause.

mod buckets;
mod core_messaging;
mod streams;

use std::{
    fmt,
    sync::{Arc, Weak},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::{BoxStream, StreamExt, iter, unfold};
use parking_lot::{Mutex, MutexGuard};
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until, timeout},
};

use self::{
    buckets::MemoryBuckets,
    core_messaging::{CoreMessaging, into_stream},
    streams::{LeasedMessage, MemoryStreams, WakeUps, queue_index},
};
use crate::{
    bus::{
        BucketEntry, Bus, Delivery, DeliveryLease, DeliveryProgress, MAX_SUBJECTS_PER_PAGE, PublishOutcome,
        QueueReceiver, ServiceCall, StreamSpace, SubjectPage,
    },
    error::BusError,
    message::Message,
    replay::{Replay, ReplayEvent},
    topology::{self, Bucket, Queue, Stream, TopologySettings, check_expires, check_key, subject_matches},
};

/// The in-process bus. Starts empty; its content is lost when the last clone of the `Arc` is
/// dropped.
#[derive(Debug)]
pub struct MemoryBus {
    core: Arc<BusCore>,
    settings: TopologySettings,
    /// Names of the buckets of job records.
    namespaces: Vec<String>,
}

/// State shared by the bus, its receivers and its leases.
struct BusCore {
    state: Mutex<BusState>,
    /// Notified once per message that becomes ready; in the order of [`Queue::ALL`].
    queue_ready: Vec<Notify>,
    /// Notified when the next deadline becomes earlier.
    deadline_moved: Notify,
    /// Notified whenever a stream that can be replayed stores a message, and when the bus ends.
    /// Wakes readers in the order in which they began to wait: tokio's watch channel would choose
    /// an order at random, which a simulation could not repeat.
    message_stored: Arc<Notify>,
}

impl Drop for BusCore {
    fn drop(&mut self) {
        self.message_stored.notify_waiters();
    }
}

#[derive(Debug)]
struct BusState {
    is_prepared: bool,
    streams: MemoryStreams,
    buckets: MemoryBuckets,
    core_messaging: CoreMessaging,
}

impl fmt::Debug for BusCore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BusCore").finish_non_exhaustive()
    }
}

impl MemoryBus {
    /// Creates an empty bus whose [`Bus::prepare`] creates one bucket of job records, `jobs`.
    pub fn new(settings: TopologySettings) -> Arc<Self> {
        Self::with_namespaces(settings, vec![Bucket::default_jobs().name().to_owned()])
    }

    /// Creates an empty bus whose [`Bus::prepare`] creates a bucket of job records per namespace.
    pub fn with_namespaces(settings: TopologySettings, namespaces: Vec<String>) -> Arc<Self> {
        let state = BusState {
            is_prepared: false,
            streams: MemoryStreams::new(settings),
            buckets: MemoryBuckets::default(),
            core_messaging: CoreMessaging::default(),
        };
        let core = BusCore {
            state: Mutex::new(state),
            queue_ready: Queue::ALL.iter().map(|_| Notify::new()).collect(),
            deadline_moved: Notify::new(),
            message_stored: Arc::default(),
        };
        Arc::new(Self { core: Arc::new(core), settings, namespaces })
    }

    /// Returns the number of messages in a stream.
    #[cfg(feature = "testing")]
    pub fn message_count(&self, stream: Stream) -> usize {
        self.core.lock().streams.message_count(stream)
    }

    /// Stores messages; returns the number of those that were not duplicates.
    fn store(&self, messages: impl IntoIterator<Item = (Message, String)>) -> Result<usize, BusError> {
        let (now, mut wake_ups) = (Instant::now(), WakeUps::default());
        let (mut can_be_replayed, mut stored) = (false, 0);
        let mut state = self.core.lock();
        let outcome = messages.into_iter().try_for_each(|(message, id)| {
            let stream = Stream::for_subject(&message.subject).ok_or_else(|| {
                BusError::Unusable(format!("no stream stores the subject {}", message.subject))
            })?;
            state.check_prepared(stream)?;
            can_be_replayed |= !stream.is_work_queue();
            let limits = stream.limits(&self.settings);
            check_size(message.encoded_size(Some(&id)), limits.max_message_bytes)?;
            state.core_messaging.broadcast(&message);
            stored += usize::from(state.streams.store(now, stream, message, &id, &mut wake_ups)?);
            Ok(())
        });
        drop(state);
        self.core.wake(wake_ups);
        if can_be_replayed {
            self.core.message_stored.notify_waiters();
        }
        outcome.map(|()| stored)
    }
}

impl BusState {
    fn check_prepared(&self, stream: Stream) -> Result<(), BusError> {
        if self.is_prepared {
            Ok(())
        } else {
            Err(BusError::Missing(format!("the stream {}", stream.name())))
        }
    }
}

impl BusCore {
    fn lock(&self) -> MutexGuard<'_, BusState> {
        self.state.lock()
    }

    /// Updates the streams under the lock, then wakes the tasks that wait for the change.
    fn update_streams<T>(&self, update: impl FnOnce(&mut MemoryStreams, Instant, &mut WakeUps) -> T) -> T {
        let (now, mut wake_ups) = (Instant::now(), WakeUps::default());
        let result = update(&mut self.lock().streams, now, &mut wake_ups);
        self.wake(wake_ups);
        result
    }

    fn wake(&self, wake_ups: WakeUps) {
        wake_ups.ready_queues.into_iter().for_each(|queue| self.queue_ready[queue].notify_one());
        if wake_ups.has_earlier_deadline {
            self.deadline_moved.notify_waiters();
        }
    }
}

/// Checks a size against a limit.
fn check_size(size: usize, limit: usize) -> Result<(), BusError> {
    if size > limit { Err(BusError::TooLarge { size, limit }) } else { Ok(()) }
}

#[async_trait]
impl Bus for MemoryBus {
    async fn prepare(&self) -> Result<(), BusError> {
        let mut state = self.core.lock();
        state.is_prepared = true;
        for bucket in topology::all_buckets(&self.namespaces) {
            let limits = bucket.limits(&self.settings, self.namespaces.len());
            state.buckets.create(&bucket, limits);
        }
        Ok(())
    }

    async fn publish_once(&self, message: Message, id: &str) -> Result<PublishOutcome, BusError> {
        let stored = self.store([(message, id.to_owned())])?;
        Ok(if stored == 0 { PublishOutcome::Duplicate } else { PublishOutcome::Stored })
    }

    async fn publish_all(&self, messages: Vec<(Message, String)>) -> Result<(), BusError> {
        self.store(messages).map(drop)
    }

    async fn broadcast(&self, message: Message) -> Result<(), BusError> {
        check_size(message.encoded_size(None), self.max_payload())?;
        self.core.lock().core_messaging.broadcast(&message);
        Ok(())
    }

    async fn subscribe(&self, filter: &str) -> Result<BoxStream<'static, Message>, BusError> {
        Ok(into_stream(self.core.lock().core_messaging.subscribe(filter)))
    }

    async fn open_queue(&self, queue: Queue) -> Result<Box<dyn QueueReceiver>, BusError> {
        self.core.lock().check_prepared(queue.stream())?;
        Ok(Box::new(MemoryReceiver { core: self.core.clone(), queue: queue_index(queue) }))
    }

    async fn replay(&self, stream: Stream, filters: Vec<String>) -> Result<Replay, BusError> {
        let last_stored = {
            let state = self.core.lock();
            state.check_prepared(stream)?;
            state.streams.last_sequence(stream)
        };
        let reader = MemoryStreamReader {
            // A weak reference, so that an open replay does not keep the bus alive.
            core: Arc::downgrade(&self.core),
            message_stored: Arc::clone(&self.core.message_stored),
            stream,
            filters,
            searched_to: 0,
            catching_up_to: Some(last_stored),
        };
        let batches = unfold(reader, |mut reader| async { Some((iter(reader.next_batch().await?), reader)) });
        Ok(Replay::new(batches.flatten().boxed()))
    }

    async fn purge(&self, stream: Stream, filter: &str) -> Result<(), BusError> {
        self.core.lock().streams.purge(stream, filter);
        Ok(())
    }

    async fn remove(&self, stream: Stream, sequence: u64) -> Result<(), BusError> {
        self.core.lock().streams.remove_message(stream, sequence);
        Ok(())
    }

    async fn stream_subjects(
        &self,
        stream: Stream,
        filter: &str,
        offset: usize,
    ) -> Result<SubjectPage, BusError> {
        let state = self.core.lock();
        state.check_prepared(stream)?;
        let subjects = || state.streams.subjects(stream).filter(|(name, _)| subject_matches(filter, name));
        let page = subjects().skip(offset).take(MAX_SUBJECTS_PER_PAGE);
        let counts = page.map(|(name, count)| (name.to_owned(), count)).collect();
        Ok(SubjectPage { counts, total: subjects().count() })
    }

    async fn backlog(&self, queue: Queue) -> Result<u64, BusError> {
        self.core.lock().check_prepared(queue.stream())?;
        Ok(self.core.update_streams(|streams, now, wake_ups| {
            streams.expire(now, wake_ups);
            streams.backlog(queue_index(queue))
        }))
    }

    async fn delivery_progress(&self, queue: Queue) -> Result<DeliveryProgress, BusError> {
        let state = self.core.lock();
        state.check_prepared(queue.stream())?;
        Ok(state.streams.delivery_progress(queue_index(queue)))
    }

    async fn get(&self, bucket: &Bucket, key: &str) -> Result<Option<BucketEntry>, BusError> {
        check_key(key)?;
        self.core.lock().buckets.get(Instant::now(), bucket, key)
    }

    async fn put(&self, bucket: &Bucket, key: &str, value: Bytes) -> Result<u64, BusError> {
        check_key(key)?;
        self.core.lock().buckets.put(Instant::now(), bucket, key, value)
    }

    async fn compare_and_set(
        &self,
        bucket: &Bucket,
        key: &str,
        value: Bytes,
        expected: Option<u64>,
    ) -> Result<Option<u64>, BusError> {
        check_key(key)?;
        self.core.lock().buckets.compare_and_set(Instant::now(), bucket, key, value, expected, None)
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
        let (mut core, now) = (self.core.lock(), Instant::now());
        core.buckets.compare_and_set(now, bucket, key, value, expected, Some(lifetime))
    }

    async fn used_percent(&self, bucket: &Bucket) -> Result<u64, BusError> {
        self.core.lock().buckets.used_percent(Instant::now(), bucket)
    }

    async fn stream_space(&self, stream: Stream) -> Result<StreamSpace, BusError> {
        Ok(self.core.lock().streams.space(stream))
    }

    async fn delete(&self, bucket: &Bucket, key: &str) -> Result<(), BusError> {
        check_key(key)?;
        self.core.lock().buckets.delete(Instant::now(), bucket, key)
    }

    async fn keys(&self, bucket: &Bucket) -> Result<Vec<String>, BusError> {
        self.core.lock().buckets.keys(Instant::now(), bucket)
    }

    async fn watch(
        &self,
        bucket: &Bucket,
        filter: &str,
    ) -> Result<BoxStream<'static, BucketEntry>, BusError> {
        let watcher = self.core.lock().buckets.watch(Instant::now(), bucket, filter)?;
        Ok(into_stream(watcher))
    }

    async fn request(&self, message: Message, time_limit: Duration) -> Result<Message, BusError> {
        check_size(message.encoded_size(None), self.max_payload())?;
        let subject = message.subject.clone();
        let no_response = || BusError::NoResponse(subject);
        let Some(reply) = self.core.lock().core_messaging.request(message) else {
            return Err(no_response());
        };
        match timeout(time_limit, reply).await {
            Ok(Ok(reply)) => reply,
            Ok(Err(_)) | Err(_) => Err(no_response()),
        }
    }

    async fn serve(&self) -> Result<BoxStream<'static, ServiceCall>, BusError> {
        Ok(into_stream(self.core.lock().core_messaging.serve()))
    }

    fn max_payload(&self) -> usize {
        self.settings.max_message_bytes
    }

    fn is_connected(&self) -> bool {
        true
    }
}

/// Reads the messages of a stream that match filters, from the first on.
struct MemoryStreamReader {
    core: Weak<BusCore>,
    message_stored: Arc<Notify>,
    stream: Stream,
    filters: Vec<String>,
    /// Sequence up to which the stream has been searched.
    searched_to: u64,
    /// Sequence of the last message that was stored when the replay began; `None` once that has
    /// been searched.
    catching_up_to: Option<u64>,
}

impl MemoryStreamReader {
    /// Waits for the next events; `None` if the bus no longer exists.
    async fn next_batch(&mut self) -> Option<Vec<ReplayEvent>> {
        loop {
            // Created before the search, so that a message stored after it wakes this reader.
            let message_stored = self.message_stored.notified();
            let (messages, searched_to) =
                { self.core.upgrade()?.lock().streams.read(self.stream, self.searched_to, &self.filters) };
            let is_at_end = searched_to == std::mem::replace(&mut self.searched_to, searched_to);
            let mut events: Vec<ReplayEvent> = messages.into_iter().map(ReplayEvent::Message).collect();
            if self.catching_up_to.is_some_and(|last| searched_to >= last) {
                self.catching_up_to = None;
                events.push(ReplayEvent::CaughtUp);
            }
            if !events.is_empty() {
                return Some(events);
            }
            if is_at_end {
                message_stored.await;
            }
        }
    }
}

/// A receiver of one queue.
struct MemoryReceiver {
    core: Arc<BusCore>,
    /// Index in [`Queue::ALL`].
    queue: usize,
}

#[async_trait]
impl QueueReceiver for MemoryReceiver {
    async fn fetch(&mut self, max: usize) -> Result<Vec<Delivery>, BusError> {
        loop {
            // Created before the lock is taken, so that a change in between wakes this receiver.
            let deadline_moved = self.core.deadline_moved.notified();
            let (leased, deadline) = self.core.update_streams(|streams, now, wake_ups| {
                streams.expire(now, wake_ups);
                (streams.lease_ready(now, self.queue, max.max(1), wake_ups), streams.next_deadline())
            });
            if !leased.is_empty() {
                return Ok(leased.into_iter().map(|leased| self.delivery(leased)).collect());
            }
            let deadline_passed = async {
                match deadline {
                    Some(deadline) => sleep_until(deadline).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = self.core.queue_ready[self.queue].notified() => {}
                () = deadline_moved => {}
                () = deadline_passed => {}
            }
        }
    }

    /// None: a message is leased only when it is returned.
    fn take_arrived(&mut self) -> Vec<Delivery> {
        Vec::new()
    }
}

impl MemoryReceiver {
    fn delivery(&self, leased: LeasedMessage) -> Delivery {
        let lease = MemoryLease {
            core: self.core.clone(),
            queue: self.queue,
            log_sequence: leased.log_sequence,
            attempt: leased.attempt,
        };
        Delivery {
            message: leased.message,
            sequence: leased.sequence,
            attempt: leased.attempt,
            lease: Arc::new(lease),
        }
    }
}

/// The lease of a delivered message.
#[derive(Debug)]
struct MemoryLease {
    core: Arc<BusCore>,
    queue: usize,
    log_sequence: u64,
    attempt: u64,
}

impl MemoryLease {
    fn postpone(&self, delay: Option<Duration>) {
        self.core.update_streams(|streams, now, wake_ups| {
            streams.postpone(now, self.queue, self.log_sequence, self.attempt, delay, wake_ups);
        });
    }
}

#[async_trait]
impl DeliveryLease for MemoryLease {
    async fn ack(&self) {
        self.core.lock().streams.ack(self.queue, self.log_sequence);
    }

    async fn retry(&self, delay: Duration) {
        self.postpone(Some(delay));
    }

    async fn renew(&self) {
        self.postpone(None);
    }
}
