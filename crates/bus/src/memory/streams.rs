//! Streams and work queues of the in-process bus: which receiver leases which message until when.
//! Synchronous and without a clock: callers hold the lock and pass the time.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet, VecDeque},
    sync::Arc,
};

use tokio::time::{Duration, Instant};

use crate::{
    bus::{DeliveryProgress, StreamSpace},
    error::BusError,
    message::{Message, StoredMessage},
    topology::{
        DUPLICATE_WINDOW, MAX_MESSAGE_AGE, Queue, Stream, StreamLimits, TopologySettings, subject_matches,
    },
};

/// Messages that one call of [`MemoryStreams::read`] examines, to bound the time under the
/// lock.
const MAX_SCANNED_MESSAGES: usize = 1024;

/// A message handed out to a receiver.
#[derive(Debug)]
pub(super) struct LeasedMessage {
    pub(super) message: Message,
    /// Position in the log of its queue's stream; identifies the lease.
    pub(super) log_sequence: u64,
    /// Position to report: for a dead letter, that of the shard's own message.
    pub(super) sequence: u64,
    pub(super) attempt: u64,
}

/// Tasks to wake after a change, once the lock is released.
#[derive(Debug, Default)]
pub(super) struct WakeUps {
    /// Indexes of queues with messages to lease, once per message.
    pub(super) ready_queues: Vec<usize>,
    /// The next deadline is earlier than before: receivers must restart their timers.
    pub(super) has_earlier_deadline: bool,
}

/// All streams and their queues.
#[derive(Debug)]
pub(super) struct MemoryStreams {
    settings: TopologySettings,
    /// In the order of [`Stream::ALL`].
    logs: Vec<StreamLog>,
    /// In the order of [`Queue::ALL`].
    queues: Vec<QueueState>,
    /// Deadline, log and sequence of every message that waits for redelivery.
    deadlines: BTreeSet<(Instant, usize, u64)>,
}

#[derive(Debug)]
struct QueueState {
    queue: Queue,
    log: usize,
    filter: Option<String>,
    /// Sequences of messages to lease.
    ready: BTreeSet<u64>,
    /// Number of messages, both ready and leased.
    backlog: u64,
}

#[derive(Debug, Default)]
struct StreamLog {
    last_sequence: u64,
    entries: BTreeMap<u64, LogEntry>,
    /// Space that the entries take in bytes.
    bytes: u64,
    /// Number of entries per subject.
    subjects: BTreeMap<String, u64>,
    /// Message ids of the duplicate window, and the same ids by age.
    ids: HashSet<Arc<str>>,
    ids_by_age: VecDeque<(Instant, Arc<str>)>,
}

#[derive(Debug)]
struct LogEntry {
    message: Message,
    /// Space that the message takes in bytes.
    size: u64,
    stored_at: Instant,
    /// Index of the queue that delivers it; `None` if none does, or the queue has given it up.
    queue: Option<usize>,
    attempts: u64,
    /// End of the lease, or of the delay before a retry.
    deadline: Option<Instant>,
    /// For a dead letter: sequence of the shard's message.
    shard_sequence: Option<u64>,
}

/// Space that JetStream takes to store a message on disk.
pub(super) fn stored_size(subject: &str, encoded_size: usize) -> u64 {
    const RECORD_OVERHEAD: usize = 34;
    (RECORD_OVERHEAD + subject.len() + encoded_size) as u64
}

fn log_index(stream: Stream) -> usize {
    Stream::ALL.iter().position(|other| *other == stream).expect("Stream::ALL is complete")
}

/// Returns the index of a queue in [`WakeUps::ready_queues`].
pub(super) fn queue_index(queue: Queue) -> usize {
    Queue::ALL.iter().position(|other| *other == queue).expect("Queue::ALL is complete")
}

impl MemoryStreams {
    pub(super) fn new(settings: TopologySettings) -> Self {
        let queue_state = |queue: Queue| QueueState {
            queue,
            log: log_index(queue.stream()),
            filter: queue.filter(),
            ready: BTreeSet::new(),
            backlog: 0,
        };
        Self {
            settings,
            logs: Stream::ALL.iter().map(|_| StreamLog::default()).collect(),
            queues: Queue::ALL.into_iter().map(queue_state).collect(),
            deadlines: BTreeSet::new(),
        }
    }

    /// How much of a stream is in use.
    pub(super) fn space(&self, stream: Stream) -> StreamSpace {
        let (log, limits) = (&self.logs[log_index(stream)], stream.limits(&self.settings));
        StreamSpace {
            bytes: log.bytes,
            max_bytes: Some(limits.max_bytes),
            messages: log.entries.len() as u64,
            max_messages: limits.max_messages,
        }
    }

    /// Stores a message, unless a message with its id was stored within the duplicate window.
    /// Returns whether it did. Fails if the stream has reached a limit.
    pub(super) fn store(
        &mut self,
        now: Instant,
        stream: Stream,
        message: Message,
        id: &str,
        wake_ups: &mut WakeUps,
    ) -> Result<bool, BusError> {
        let log = log_index(stream);
        if self.logs[log].has_id(now, id) {
            return Ok(false);
        }
        let size = stored_size(&message.subject, message.encoded_size(Some(id)));
        self.logs[log].check_limits(stream, &stream.limits(&self.settings), &message.subject, size)?;
        self.logs[log].register_id(now, id);
        self.append(now, log, message, size, None, wake_ups);
        Ok(true)
    }

    fn append(
        &mut self,
        now: Instant,
        log: usize,
        message: Message,
        size: u64,
        shard_sequence: Option<u64>,
        wake_ups: &mut WakeUps,
    ) {
        let accepts = |queue: &QueueState| {
            queue.log == log
                && queue.filter.as_ref().is_none_or(|filter| subject_matches(filter, &message.subject))
        };
        let queue = self.queues.iter().position(accepts);
        self.logs[log].last_sequence += 1;
        let sequence = self.logs[log].last_sequence;
        if let Some(queue) = queue {
            self.queues[queue].backlog += 1;
            self.queues[queue].ready.insert(sequence);
            wake_ups.ready_queues.push(queue);
        }
        self.logs[log].bytes += size;
        *self.logs[log].subjects.entry(message.subject.clone()).or_default() += 1;
        let entry =
            LogEntry { message, size, stored_at: now, queue, attempts: 0, deadline: None, shard_sequence };
        self.logs[log].entries.insert(sequence, entry);
        self.logs[log].drop_expired(now);
    }

    /// Processes all deadlines that have passed.
    pub(super) fn expire(&mut self, now: Instant, wake_ups: &mut WakeUps) {
        while let Some(&(deadline, log, sequence)) = self.deadlines.first()
            && deadline <= now
        {
            self.deadlines.pop_first();
            self.end_lease(now, log, sequence, wake_ups);
        }
    }

    /// Returns the earliest deadline.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|deadline| deadline.0)
    }

    /// Makes a message ready for redelivery, or a dead letter if it has used up its deliveries.
    fn end_lease(&mut self, now: Instant, log: usize, sequence: u64, wake_ups: &mut WakeUps) {
        let Some(entry) = self.logs[log].entries.get_mut(&sequence) else { return };
        entry.deadline = None;
        let Some(index) = entry.queue else { return };
        let queue = &mut self.queues[index];
        if queue.queue.max_deliveries().is_none_or(|limit| entry.attempts < limit) {
            queue.ready.insert(sequence);
            wake_ups.ready_queues.push(index);
            return;
        }
        entry.queue = None;
        queue.backlog -= 1;
        let (message, size) = (entry.message.clone(), entry.size);
        self.append(now, log_index(Stream::DeadLetters), message, size, Some(sequence), wake_ups);
    }

    /// Leases up to `max` ready messages of a queue. Drops dead letters whose shard has been
    /// purged.
    pub(super) fn lease_ready(
        &mut self,
        now: Instant,
        queue: usize,
        max: usize,
        wake_ups: &mut WakeUps,
    ) -> Vec<LeasedMessage> {
        let mut leased = Vec::new();
        let log = self.queues[queue].log;
        let shards = log_index(Stream::Shards);
        while leased.len() < max
            && let Some(sequence) = self.queues[queue].ready.pop_first()
        {
            let shard = self.logs[log].entries.get(&sequence).and_then(|entry| entry.shard_sequence);
            if shard.is_some_and(|shard| !self.logs[shards].entries.contains_key(&shard)) {
                self.remove(log, sequence);
                continue;
            }
            let Some(entry) = self.logs[log].entries.get_mut(&sequence) else { continue };
            entry.attempts += 1;
            leased.push(LeasedMessage {
                message: entry.message.clone(),
                log_sequence: sequence,
                sequence: entry.shard_sequence.unwrap_or(sequence),
                attempt: entry.attempts,
            });
            self.set_deadline(log, sequence, now + self.settings.lease, wake_ups);
        }
        if !self.queues[queue].ready.is_empty() {
            wake_ups.ready_queues.push(queue);
        }
        leased
    }

    fn set_deadline(&mut self, log: usize, sequence: u64, deadline: Instant, wake_ups: &mut WakeUps) {
        let Some(entry) = self.logs[log].entries.get_mut(&sequence) else { return };
        if let Some(former) = entry.deadline.replace(deadline) {
            self.deadlines.remove(&(former, log, sequence));
        }
        wake_ups.has_earlier_deadline |= self.deadlines.first().is_none_or(|first| deadline < first.0);
        self.deadlines.insert((deadline, log, sequence));
    }

    /// Removes an acknowledged message.
    pub(super) fn ack(&mut self, queue: usize, sequence: u64) {
        self.remove(self.queues[queue].log, sequence);
    }

    /// Schedules the next delivery of a message after `delay`, or after the lease time if that is
    /// `None`. Does nothing if `attempt` no longer holds the lease.
    pub(super) fn postpone(
        &mut self,
        now: Instant,
        queue: usize,
        sequence: u64,
        attempt: u64,
        delay: Option<Duration>,
        wake_ups: &mut WakeUps,
    ) {
        let log = self.queues[queue].log;
        let holds_lease = |entry: &LogEntry| entry.attempts == attempt && entry.deadline.is_some();
        if !self.logs[log].entries.get(&sequence).is_some_and(holds_lease) {
            return;
        }
        self.set_deadline(log, sequence, now + delay.unwrap_or(self.settings.lease), wake_ups);
        self.expire(now, wake_ups);
    }

    fn remove(&mut self, log: usize, sequence: u64) {
        let Some(entry) = self.logs[log].remove(sequence) else { return };
        if let Some(deadline) = entry.deadline {
            self.deadlines.remove(&(deadline, log, sequence));
        }
        if let Some(queue) = entry.queue {
            self.queues[queue].backlog -= 1;
            self.queues[queue].ready.remove(&sequence);
        }
    }

    /// Removes a message of a stream, if it is there.
    pub(super) fn remove_message(&mut self, stream: Stream, sequence: u64) {
        self.remove(log_index(stream), sequence);
    }

    /// Removes the messages of a stream that match a filter.
    pub(super) fn purge(&mut self, stream: Stream, filter: &str) {
        let log = log_index(stream);
        let entries = self.logs[log].entries.iter();
        let sequences: Vec<u64> = entries
            .filter(|(_, entry)| subject_matches(filter, &entry.message.subject))
            .map(|(sequence, _)| *sequence)
            .collect();
        sequences.into_iter().for_each(|sequence| self.remove(log, sequence));
    }

    /// How far messages of a queue have been leased at least once.
    pub(super) fn delivery_progress(&self, queue: usize) -> DeliveryProgress {
        let QueueState { log, ready, .. } = &self.queues[queue];
        let log = &self.logs[*log];
        let is_new = |sequence: &&u64| log.entries.get(sequence).is_some_and(|entry| entry.attempts == 0);
        let delivered_to = ready.iter().find(is_new).map_or(log.last_sequence, |first| first - 1);
        DeliveryProgress { stored_to: log.last_sequence, delivered_to }
    }

    /// Counts the messages of a queue, both ready and leased.
    pub(super) fn backlog(&self, queue: usize) -> u64 {
        self.queues[queue].backlog
    }

    /// Counts the messages in a stream.
    #[cfg(feature = "testing")]
    pub(super) fn message_count(&self, stream: Stream) -> usize {
        self.logs[log_index(stream)].entries.len()
    }

    /// Subjects of a stream, sorted, with the number of their messages.
    pub(super) fn subjects(&self, stream: Stream) -> impl Iterator<Item = (&str, u64)> {
        self.logs[log_index(stream)].subjects.iter().map(|(name, count)| (name.as_str(), *count))
    }

    /// Sequence of the latest message of a stream; 0 if it never had one.
    pub(super) fn last_sequence(&self, stream: Stream) -> u64 {
        self.logs[log_index(stream)].last_sequence
    }

    /// Reads the messages of a stream after `after` that match any of `filters`. Returns them with
    /// the sequence up to which it has searched, which may lie before the end.
    pub(super) fn read(&self, stream: Stream, after: u64, filters: &[String]) -> (Vec<StoredMessage>, u64) {
        let log = &self.logs[log_index(stream)];
        let (mut messages, mut searched_to, mut scanned) = (Vec::new(), log.last_sequence, 0);
        for (sequence, entry) in log.entries.range(after + 1..) {
            if scanned == MAX_SCANNED_MESSAGES {
                searched_to = sequence - 1;
                break;
            }
            scanned += 1;
            if filters.iter().any(|filter| subject_matches(filter, &entry.message.subject)) {
                messages.push(StoredMessage { sequence: *sequence, message: entry.message.clone() });
            }
        }
        (messages, searched_to)
    }
}

impl StreamLog {
    /// Whether a message id was recorded within the duplicate window.
    fn has_id(&mut self, now: Instant, id: &str) -> bool {
        while let Some((registered_at, oldest)) = self.ids_by_age.front()
            && now.duration_since(*registered_at) >= DUPLICATE_WINDOW
        {
            self.ids.remove(oldest);
            self.ids_by_age.pop_front();
        }
        self.ids.contains(id)
    }

    /// Records a message id.
    fn register_id(&mut self, now: Instant, id: &str) {
        let id: Arc<str> = id.into();
        self.ids.insert(id.clone());
        self.ids_by_age.push_back((now, id));
    }

    fn check_limits(
        &self,
        stream: Stream,
        limits: &StreamLimits,
        subject: &str,
        size: u64,
    ) -> Result<(), BusError> {
        let full = |limit: &str| Err(BusError::Full(format!("{}: maximum {limit} exceeded", stream.name())));
        let count = self.subjects.get(subject).copied().unwrap_or(0);
        if limits.max_messages_per_subject.is_some_and(|limit| count >= limit) {
            return full("messages per subject");
        }
        if limits.max_messages.is_some_and(|limit| self.entries.len() as u64 >= limit) {
            return full("messages");
        }
        if self.bytes + size >= limits.max_bytes { full("bytes") } else { Ok(()) }
    }

    fn remove(&mut self, sequence: u64) -> Option<LogEntry> {
        let entry = self.entries.remove(&sequence)?;
        self.bytes -= entry.size;
        if let Some(count) = self.subjects.get_mut(&entry.message.subject) {
            *count -= 1;
            if *count == 0 {
                self.subjects.remove(&entry.message.subject);
            }
        }
        Some(entry)
    }

    /// Drops messages older than [`MAX_MESSAGE_AGE`] from the start of the log, up to the first
    /// that a queue delivers.
    fn drop_expired(&mut self, now: Instant) {
        while let Some((&sequence, oldest)) = self.entries.first_key_value()
            && oldest.queue.is_none()
            && now.duration_since(oldest.stored_at) >= MAX_MESSAGE_AGE
        {
            self.remove(sequence);
        }
    }
}
