//! Streams and work queues of the twin: who holds which message until when. Synchronous and without a clock of its own:
//! callers say what time it is, under one lock.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet, VecDeque},
    sync::Arc,
};

use tokio::time::{Duration, Instant};

use crate::{
    message::{Message, StoredMessage},
    topology::{self, DUPLICATE_WINDOW, MAX_MESSAGE_AGE, Queue, Stream},
};

/// Messages of a log looked at under one lock.
const SCAN: usize = 1024;

/// A message that was taken from a queue.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) message: Message,
    /// Its number in the log of its queue.
    pub(super) slot: u64,
    /// The number to tell: that of the message itself.
    pub(super) sequence: u64,
    pub(super) attempt: u64,
}

/// What there is to do for the lock's holder after a change.
#[derive(Debug, Default)]
pub(super) struct Effects {
    /// Queues with more to take, by index, once for each message.
    pub(super) ready: Vec<usize>,
    /// There is an earlier deadline than before.
    pub(super) rearm: bool,
}

/// Every stream.
#[derive(Debug)]
pub(super) struct Streams {
    lease: Duration,
    /// By the order of [`Stream::ALL`].
    logs: Vec<Log>,
    /// By the order of [`Queue::ALL`].
    queues: Vec<Line>,
    /// When which message of which log is to be delivered again.
    timers: BTreeSet<(Instant, usize, u64)>,
}

#[derive(Debug)]
struct Line {
    queue: Queue,
    log: usize,
    filter: Option<String>,
    ready: BTreeSet<u64>,
    /// Messages waiting or being worked on.
    held: u64,
}

#[derive(Debug, Default)]
struct Log {
    last: u64,
    slots: BTreeMap<u64, Slot>,
    ids: HashSet<Arc<str>>,
    ages: VecDeque<(Instant, Arc<str>)>,
}

#[derive(Debug)]
struct Slot {
    message: Message,
    stored: Instant,
    /// The queue that delivers it; `None` if none does, or no longer.
    queue: Option<usize>,
    attempts: u64,
    deadline: Option<Instant>,
    /// For a dead letter: the number of the shard's message.
    origin: Option<u64>,
}

fn log_of(stream: Stream) -> usize {
    Stream::ALL.iter().position(|other| *other == stream).expect("every stream is listed")
}

/// Index of a queue.
pub(super) fn queue_index(queue: Queue) -> usize {
    Queue::ALL.iter().position(|other| *other == queue).expect("every queue is listed")
}

impl Streams {
    pub(super) fn new(lease: Duration) -> Self {
        let line = |queue: Queue| Line {
            queue,
            log: log_of(queue.stream()),
            filter: queue.filter(),
            ready: BTreeSet::new(),
            held: 0,
        };
        Self {
            lease,
            logs: Stream::ALL.iter().map(|_| Log::default()).collect(),
            queues: Queue::ALL.into_iter().map(line).collect(),
            timers: BTreeSet::new(),
        }
    }

    /// Stores a message, unless its id is known.
    pub(super) fn store(
        &mut self,
        now: Instant,
        stream: Stream,
        message: Message,
        id: Option<&str>,
        effects: &mut Effects,
    ) {
        let log = log_of(stream);
        if id.is_none_or(|id| self.logs[log].is_new(now, id)) {
            self.append(now, log, message, None, effects);
        }
    }

    fn append(
        &mut self,
        now: Instant,
        log: usize,
        message: Message,
        origin: Option<u64>,
        effects: &mut Effects,
    ) {
        let takes = |line: &Line| {
            line.log == log
                && line
                    .filter
                    .as_ref()
                    .is_none_or(|filter| topology::subject_matches(filter, &message.subject))
        };
        let queue = self.queues.iter().position(takes);
        self.logs[log].last += 1;
        let sequence = self.logs[log].last;
        if let Some(queue) = queue {
            self.queues[queue].held += 1;
            self.queues[queue].ready.insert(sequence);
            effects.ready.push(queue);
        }
        let slot = Slot { message, stored: now, queue, attempts: 0, deadline: None, origin };
        self.logs[log].slots.insert(sequence, slot);
        self.logs[log].forget_old(now);
    }

    /// Makes ready what is due again, or lays it with the dead letters.
    pub(super) fn expire(&mut self, now: Instant, effects: &mut Effects) {
        while let Some(&(deadline, log, sequence)) = self.timers.first()
            && deadline <= now
        {
            self.timers.pop_first();
            self.again(now, log, sequence, effects);
        }
    }

    /// When something is due next.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.timers.first().map(|timer| timer.0)
    }

    /// A message whose lease or delay is over.
    fn again(&mut self, now: Instant, log: usize, sequence: u64, effects: &mut Effects) {
        let Some(slot) = self.logs[log].slots.get_mut(&sequence) else { return };
        slot.deadline = None;
        let Some(queue) = slot.queue else { return };
        let line = &mut self.queues[queue];
        if line.queue.max_deliveries().is_none_or(|limit| slot.attempts < limit) {
            line.ready.insert(sequence);
            effects.ready.push(queue);
            return;
        }
        slot.queue = None;
        line.held -= 1;
        let message = slot.message.clone();
        self.append(now, log_of(Stream::DeadLetters), message, Some(sequence), effects);
    }

    /// Takes up to `max` messages.
    pub(super) fn take(
        &mut self,
        now: Instant,
        queue: usize,
        max: usize,
        effects: &mut Effects,
    ) -> Vec<Taken> {
        let mut taken = Vec::new();
        let log = self.queues[queue].log;
        while taken.len() < max
            && let Some(sequence) = self.queues[queue].ready.pop_first()
        {
            let origin = self.logs[log].slots.get(&sequence).and_then(|slot| slot.origin);
            if origin.is_some_and(|origin| !self.logs[log_of(Stream::Shards)].slots.contains_key(&origin)) {
                self.remove(log, sequence);
                continue;
            }
            let Some(slot) = self.logs[log].slots.get_mut(&sequence) else { continue };
            slot.attempts += 1;
            taken.push(Taken {
                message: slot.message.clone(),
                slot: sequence,
                sequence: slot.origin.unwrap_or(sequence),
                attempt: slot.attempts,
            });
            self.set_deadline(log, sequence, now + self.lease, effects);
        }
        if !self.queues[queue].ready.is_empty() {
            effects.ready.push(queue);
        }
        taken
    }

    fn set_deadline(&mut self, log: usize, sequence: u64, deadline: Instant, effects: &mut Effects) {
        let Some(slot) = self.logs[log].slots.get_mut(&sequence) else { return };
        if let Some(old) = slot.deadline.replace(deadline) {
            self.timers.remove(&(old, log, sequence));
        }
        effects.rearm |= self.timers.first().is_none_or(|first| deadline < first.0);
        self.timers.insert((deadline, log, sequence));
    }

    /// Removes a message that is done with.
    pub(super) fn ack(&mut self, queue: usize, sequence: u64) {
        self.remove(self.queues[queue].log, sequence);
    }

    /// Sets when a message is delivered again, if `attempt` still holds it.
    pub(super) fn postpone(
        &mut self,
        now: Instant,
        queue: usize,
        sequence: u64,
        attempt: u64,
        delay: Option<Duration>,
        effects: &mut Effects,
    ) {
        let log = self.queues[queue].log;
        let holds = |slot: &Slot| slot.attempts == attempt && slot.deadline.is_some();
        if !self.logs[log].slots.get(&sequence).is_some_and(holds) {
            return;
        }
        self.set_deadline(log, sequence, now + delay.unwrap_or(self.lease), effects);
        self.expire(now, effects);
    }

    fn remove(&mut self, log: usize, sequence: u64) {
        let Some(slot) = self.logs[log].slots.remove(&sequence) else { return };
        if let Some(deadline) = slot.deadline {
            self.timers.remove(&(deadline, log, sequence));
        }
        if let Some(queue) = slot.queue {
            self.queues[queue].held -= 1;
            self.queues[queue].ready.remove(&sequence);
        }
    }

    /// Removes the messages on a subject.
    pub(super) fn purge(&mut self, stream: Stream, subject: &str) {
        let log = log_of(stream);
        let slots = self.logs[log].slots.iter();
        let gone: Vec<u64> = slots
            .filter(|(_, slot)| topology::subject_matches(subject, &slot.message.subject))
            .map(|(sequence, _)| *sequence)
            .collect();
        gone.into_iter().for_each(|sequence| self.remove(log, sequence));
    }

    /// Messages of a queue that wait or are worked on.
    pub(super) fn held(&self, queue: usize) -> u64 {
        self.queues[queue].held
    }

    /// Messages stored in a stream.
    pub(super) fn stored(&self, stream: Stream) -> usize {
        self.logs[log_of(stream)].slots.len()
    }

    /// Some of the results after `after` on any of `subjects`, and how far was looked.
    pub(super) fn results(&self, after: u64, subjects: &[String]) -> (Vec<StoredMessage>, u64) {
        let log = &self.logs[log_of(Stream::Results)];
        let (mut found, mut looked, mut count) = (Vec::new(), log.last, 0);
        for (sequence, slot) in log.slots.range(after + 1..) {
            if count == SCAN {
                looked = sequence - 1;
                break;
            }
            count += 1;
            if subjects.iter().any(|filter| topology::subject_matches(filter, &slot.message.subject)) {
                found.push(StoredMessage { sequence: *sequence, message: slot.message.clone() });
            }
        }
        (found, looked)
    }
}

impl Log {
    /// Notes an id; false if it has been here within the window.
    fn is_new(&mut self, now: Instant, id: &str) -> bool {
        while let Some((when, old)) = self.ages.front()
            && now.duration_since(*when) >= DUPLICATE_WINDOW
        {
            self.ids.remove(old);
            self.ages.pop_front();
        }
        if self.ids.contains(id) {
            return false;
        }
        let id: Arc<str> = id.into();
        self.ids.insert(id.clone());
        self.ages.push_back((now, id));
        true
    }

    /// Drops messages past [`MAX_MESSAGE_AGE`] that no queue delivers.
    fn forget_old(&mut self, now: Instant) {
        while let Some(first) = self.slots.first_entry()
            && first.get().queue.is_none()
            && now.duration_since(first.get().stored) >= MAX_MESSAGE_AGE
        {
            first.remove();
        }
    }
}
