//! The in-process bus and a real server answer random sequences of operations alike. A simulation
//! over the in-process bus says something about a real cluster only as far as they do.

use std::{collections::BTreeMap, env, time::Duration};

use fastrand::Rng;
use forge_bus::{
    BusError, Delivery, JetStreamBus, MemoryBus, Message, QueueReceiver, SharedBus,
    jetstream::JetStreamOptions,
    testing::conformance,
    topology::{self, Bucket, JobLength, Queue, Stream, TopologySettings},
};
use forge_contract::{
    envelope::Target,
    ids::{JobUid, PoolName},
    shard::ShardId,
};
use forge_harness::{NatsConfig, NatsServer};
use tokio::time::{Instant, sleep, timeout};

/// Sequences, each on empty buses.
const SEQUENCES: u64 = 150;
/// Operations of a sequence.
const OPERATIONS: usize = 60;
/// Within this time every operation has an answer, also on a busy machine.
const OPERATION_TIME: Duration = Duration::from_secs(20);

/// Upper bound of the time for which a count of a server may lag behind.
const LAG: Duration = Duration::from_secs(5);

/// An operation with its arguments.
#[derive(Debug, Clone)]
enum Operation {
    Publish(Message, String),
    PublishAll(Vec<(Message, String)>),
    Purge(Stream, String),
    Remove(Stream, u64),
    Subjects(Stream, usize),
    Backlog(Queue),
    /// Receives a message and acknowledges it, if there is one.
    Take(Queue),
    Replay(Stream),
    Get(Bucket, String),
    Put(Bucket, String, String),
    CompareAndSet(Bucket, String, String, Option<u64>),
    Delete(Bucket, String),
    Keys(Bucket),
}

/// Queues that messages are drawn for.
const QUEUES: [Queue; 6] = [
    Queue::Jobs,
    Queue::Shards(Target::Any, JobLength::Short),
    Queue::Shards(Target::Any, JobLength::Long),
    Queue::Verifications(JobLength::Short),
    Queue::Verifications(JobLength::Long),
    Queue::Reduce,
];

/// Keys of entries; the last one is not valid.
const KEYS: [&str; 4] = ["a", "b", "c.d", "not valid"];

fn buckets() -> [Bucket; 3] {
    [Bucket::default_jobs(), Bucket::Agents, Bucket::Quotas]
}

fn uid(number: u8) -> JobUid {
    JobUid([number; 16])
}

fn draw_length(rng: &mut Rng) -> JobLength {
    JobLength::ALL[rng.usize(0..JobLength::ALL.len())]
}

/// Subjects of every stream, and one that no stream stores.
fn draw_subject(rng: &mut Rng) -> String {
    let (job, shard) = (uid(rng.u8(1..=3)), ShardId { height: 0, index: rng.u64(0..3) });
    match rng.u8(0..8) {
        0 => topology::SUBMIT_SUBJECT.to_owned(),
        1 => topology::shard_subject(Target::Any, draw_length(rng), job, shard),
        2 => topology::verification_subject(draw_length(rng), job, shard),
        3 => topology::result_subject(&PoolName::default(), job, shard),
        4 => topology::verdict_subject(job, shard),
        5 => topology::outcomes_subject(job),
        6 => topology::reduce_subject(job),
        _ => "forge.v1.unknown".to_owned(),
    }
}

/// A message, with an id that may have been used before.
fn draw_message(rng: &mut Rng) -> (Message, String) {
    let payload = format!("payload {}", rng.u8(..));
    (Message::new(draw_subject(rng), payload), format!("id-{}", rng.u8(0..60)))
}

fn draw_filter(rng: &mut Rng, stream: Stream) -> String {
    let job = uid(rng.u8(1..=3));
    match stream {
        Stream::Shards => topology::shards_filter(job),
        Stream::Results => topology::results_filter(job),
        Stream::Verdicts => topology::verdicts_filter(job),
        _ => stream.subjects()[0].to_owned(),
    }
}

fn draw(rng: &mut Rng) -> Operation {
    let stream = Stream::ALL[rng.usize(0..Stream::ALL.len())];
    let queue = QUEUES[rng.usize(0..QUEUES.len())];
    let bucket = buckets()[rng.usize(0..3)].clone();
    let key = KEYS[rng.usize(0..KEYS.len())].to_owned();
    let value = format!("value {}", rng.u8(..));
    match rng.u8(0..20) {
        0..=5 => {
            let (message, id) = draw_message(rng);
            Operation::Publish(message, id)
        }
        6 => {
            // After a failure it is open which messages are stored, so all of them have a stream.
            let messages = (0..rng.usize(0..4)).map(|_| draw_message(rng));
            let has_stream = |message: &Message| Stream::for_subject(&message.subject).is_some();
            Operation::PublishAll(messages.filter(|(message, _)| has_stream(message)).collect())
        }
        7 => Operation::Purge(stream, draw_filter(rng, stream)),
        8 => Operation::Remove(stream, rng.u64(1..20)),
        9 => Operation::Subjects(stream, rng.usize(0..3)),
        10 => Operation::Backlog(queue),
        11 | 12 => Operation::Take(queue),
        13 => Operation::Replay(if rng.bool() { Stream::Results } else { Stream::Verdicts }),
        14 => Operation::Get(bucket, key),
        15 => Operation::Put(bucket, key, value),
        16 | 17 => Operation::CompareAndSet(bucket, key, value, rng.bool().then(|| rng.u64(1..8))),
        18 => Operation::Delete(bucket, key),
        _ => Operation::Keys(bucket),
    }
}

/// What a caller can tell of an error apart from its text.
fn kind(error: &BusError) -> String {
    let text = format!("{error:?}");
    text.split(['(', ' ']).next().unwrap_or_default().to_owned()
}

/// An answer as text that both buses must give.
fn answer<T: std::fmt::Debug>(result: Result<T, BusError>) -> String {
    result.map_or_else(|error| kind(&error), |value| format!("{value:?}"))
}

/// A bus and its receivers, which stay open: messages that a dropped one has fetched come again
/// only after their lease.
struct BusUnderTest {
    bus: SharedBus,
    receivers: BTreeMap<Queue, Box<dyn QueueReceiver>>,
}

impl BusUnderTest {
    async fn new(bus: SharedBus) -> Self {
        bus.prepare().await.unwrap();
        Self { bus, receivers: BTreeMap::new() }
    }

    /// Performs an operation and returns its answer.
    async fn perform(&mut self, operation: Operation) -> String {
        let performed = timeout(OPERATION_TIME, self.answer(operation)).await;
        performed.unwrap_or_else(|_| format!("no answer within {OPERATION_TIME:?}"))
    }

    async fn answer(&mut self, operation: Operation) -> String {
        let bus = &self.bus;
        match operation {
            Operation::Publish(message, id) => answer(bus.publish_once(message, &id).await),
            Operation::PublishAll(messages) => answer(bus.publish_all(messages).await),
            Operation::Purge(stream, filter) => answer(bus.purge(stream, &filter).await),
            Operation::Remove(stream, sequence) => answer(bus.remove(stream, sequence).await),
            Operation::Subjects(stream, offset) => {
                let page = bus.stream_subjects(stream, stream.subjects()[0], offset).await;
                answer(page.map(|page| (page.counts, page.total)))
            }
            Operation::Backlog(_) | Operation::Take(_) => unreachable!("pairs of buses perform these"),
            Operation::Replay(stream) => {
                let filters = stream.subjects().iter().map(|filter| (*filter).to_owned()).collect();
                let mut replay = bus.replay(stream, filters).await.expect("the stream exists");
                let mut messages = Vec::new();
                while let Some(stored) = replay.next_stored().await {
                    messages.push((stored.sequence, stored.message.subject, stored.message.payload));
                }
                format!("{messages:?}")
            }
            Operation::Get(bucket, key) => {
                let entry = bus.get(&bucket, &key).await;
                answer(entry.map(|entry| entry.map(|entry| (entry.value, entry.revision))))
            }
            Operation::Put(bucket, key, value) => answer(bus.put(&bucket, &key, value.into()).await),
            Operation::CompareAndSet(bucket, key, value, expected) => {
                answer(bus.compare_and_set(&bucket, &key, value.into(), expected).await)
            }
            Operation::Delete(bucket, key) => answer(bus.delete(&bucket, &key).await),
            Operation::Keys(bucket) => answer(bus.keys(&bucket).await.map(|mut keys| {
                keys.sort();
                keys
            })),
        }
    }

    /// Receives a message of a queue and acknowledges it. Passes over messages before `first`: a
    /// receiver may hold some that were purged meanwhile.
    async fn take(&mut self, queue: Queue, first: u64) -> Delivery {
        let before = self.stored(queue.stream()).await;
        if !self.receivers.contains_key(&queue) {
            let receiver = self.bus.open_queue(queue).await.expect("the queue exists");
            self.receivers.insert(queue, receiver);
        }
        let receiver = self.receivers.get_mut(&queue).expect("it was opened");
        let delivery = loop {
            let delivery = receiver.fetch(1).await.expect("the queue exists").remove(0);
            if delivery.sequence >= first {
                break delivery;
            }
        };
        delivery.lease.ack().await;
        // A settlement takes a moment to reach the server.
        while self.stored(queue.stream()).await >= before {
            sleep(Duration::from_millis(1)).await;
        }
        delivery
    }

    /// Number of messages in a stream.
    async fn stored(&self, stream: Stream) -> u64 {
        let page = self.bus.stream_subjects(stream, ">", 0).await.expect("the stream exists");
        page.counts.values().sum()
    }

    /// Number of messages in a queue.
    async fn backlog(&self, queue: Queue) -> u64 {
        self.bus.backlog(queue).await.expect("the queue exists")
    }
}

/// Both buses, after the same operations.
struct BusPair {
    jetstream: BusUnderTest,
    memory: BusUnderTest,
    /// Number of messages that were purged and removed, by stream.
    removed: BTreeMap<Stream, u64>,
    /// Operations so far, with their answers.
    history: Vec<String>,
}

impl BusPair {
    /// Performs an operation on both and compares the answers.
    async fn perform(&mut self, operation: Operation) {
        let operation = self.with_revision(operation).await;
        let answered = match operation {
            Operation::Backlog(queue) => return self.compare_backlogs(queue).await,
            Operation::Take(queue) => return self.compare_deliveries(queue).await,
            Operation::Purge(stream, _) | Operation::Remove(stream, _) => {
                let before = self.memory.stored(stream).await;
                let answered = self.memory.perform(operation.clone()).await;
                *self.removed.entry(stream).or_default() += before - self.memory.stored(stream).await;
                answered
            }
            _ => self.memory.perform(operation.clone()).await,
        };
        let expected = self.jetstream.perform(operation.clone()).await;
        self.history.push(format!("{operation:?}: {expected}"));
        self.require(answered == expected, &format!("the in-process bus answers {answered}"));
    }

    /// Half of the comparisons expect the current revision. None expects that of a removal.
    async fn with_revision(&self, operation: Operation) -> Operation {
        match operation {
            Operation::CompareAndSet(bucket, key, value, Some(expected)) => {
                let entry = self.memory.bus.get(&bucket, &key).await.ok().flatten();
                let is_current = expected % 2 == 0;
                let expected = entry.map(|entry| if is_current { entry.revision } else { expected });
                Operation::CompareAndSet(bucket, key, value, expected)
            }
            operation => operation,
        }
    }

    /// Takes a message of a queue, if it has one, from both.
    async fn compare_deliveries(&mut self, queue: Queue) {
        if self.memory.backlog(queue).await == 0 {
            return;
        }
        let taken = self.memory.take(queue, 0).await;
        let expected = timeout(OPERATION_TIME, self.jetstream.take(queue, taken.sequence)).await;
        let describe = |delivery: &Delivery| {
            let Delivery { message, sequence, attempt, .. } = delivery;
            format!("{sequence}, attempt {attempt}: {} {:?}", message.subject, message.payload)
        };
        let (taken, expected) = (describe(&taken), expected.as_ref().map(describe));
        self.history.push(format!("Take({queue:?}): {expected:?}"));
        self.require(expected == Ok(taken.clone()), &format!("the in-process bus delivers {taken}"));
    }

    /// A server may count messages that were purged: until the queue is read to the end of its
    /// stream, or, if it had delivered them, until their lease ends.
    async fn compare_backlogs(&self, queue: Queue) {
        let stream = queue.stream();
        let lower = self.memory.backlog(queue).await;
        let upper = lower + self.removed.get(&stream).copied().unwrap_or(0);
        let deadline = Instant::now() + LAG;
        let mut counted = self.jetstream.backlog(queue).await;
        while !(lower..=upper).contains(&counted) && Instant::now() < deadline {
            sleep(Duration::from_millis(5)).await;
            counted = self.jetstream.backlog(queue).await;
        }
        let counts = format!("{queue:?} has {lower} to {upper} messages, the server says {counted}");
        self.require((lower..=upper).contains(&counted), &counts);
    }

    fn require(&self, holds: bool, violation: &str) {
        assert!(holds, "{}\n{violation}", self.history.join("\n"));
    }

    /// Empties the queues and compares everything that is stored.
    async fn finish(&mut self) {
        for queue in QUEUES {
            while self.memory.backlog(queue).await > 0 {
                self.perform(Operation::Take(queue)).await;
            }
        }
        for queue in QUEUES {
            self.compare_backlogs(queue).await;
        }
        for stream in Stream::ALL {
            self.perform(Operation::Subjects(stream, 0)).await;
        }
        for bucket in buckets() {
            self.perform(Operation::Keys(bucket.clone())).await;
            for key in KEYS {
                self.perform(Operation::Get(bucket.clone(), key.to_owned())).await;
            }
        }
    }
}

#[tokio::test]
async fn both_buses_answer_random_operations_alike() {
    let first = env::var("SEED").ok().map(|seed| seed.parse().expect("SEED is a number"));
    let seeds = first.map_or(0..SEQUENCES, |seed| seed..seed + 1);
    for seed in seeds {
        // A receiver of an earlier sequence could take a message on the same server.
        let server = NatsServer::start(&NatsConfig::default());
        // No lease expires, so that each message is delivered once.
        let settings = TopologySettings { lease: Duration::from_secs(600), ..conformance::settings() };
        let options = JetStreamOptions { topology: settings, ..JetStreamOptions::new(server.url()) };
        let jetstream = BusUnderTest::new(JetStreamBus::connect(options).await.unwrap()).await;
        let memory = BusUnderTest::new(MemoryBus::new(settings)).await;
        let mut pair =
            BusPair { jetstream, memory, removed: BTreeMap::new(), history: vec![format!("SEED={seed}")] };
        let mut rng = Rng::with_seed(seed);
        for _ in 0..OPERATIONS {
            pair.perform(draw(&mut rng)).await;
        }
        pair.finish().await;
    }
}
