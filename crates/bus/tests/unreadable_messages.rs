//! Messages whose headers the client library cannot parse: no reader stops at them, drops another
//! message because of them, or meets them again.

use std::{
    io::{BufRead, BufReader, Write},
    net::TcpStream,
    time::Duration,
};

use forge_bus::{
    Bus, BusError, JetStreamBus, Message, Replay, SharedBus,
    jetstream::JetStreamOptions,
    testing::conformance,
    topology::{self, Bucket, JobLength, Queue, SUBMIT_SUBJECT, Stream},
};
use forge_contract::{
    envelope::Target,
    ids::{JobUid, PoolName},
    shard::ShardId,
};
use forge_harness::{NatsConfig, NatsServer};
use futures_util::StreamExt;
use tokio::time::{Instant, timeout};

/// Bound on waiting for an event that must happen.
const EVENT_TIMEOUT: Duration = Duration::from_secs(20);

/// Header blocks that the client library rejects: it then drops the connection, or its task panics.
const UNREADABLE_HEADERS: [&[u8]; 9] = [
    b"NATS/1.0\r\nnocolon\r\n\r\n",
    b"NATS/1.0\r\nForge-Test: \xff\xfe\x80\r\n\r\n",
    b"NATS/1.0\r\nForge-Test: a\rb\r\n\r\n",
    b"NATS/2.0\r\nForge-Test: b\r\n\r\n",
    b"\r\n\r\n",
    b"\x00\x01\x02\x03 garbage",
    b"NATS/1.0\r\nForge\x01Test: b\r\n\r\n",
    b"NATS/1.0\r\nForge-Test: a\r\n\r\nno colon",
    "NATS/1.0\r\nForge-T\u{e9}st: b\r\n\r\n".as_bytes(),
];

/// Status lines that the client library rejects. JetStream removes status lines of stored messages.
const UNREADABLE_STATUS_LINES: [&[u8]; 2] = [b"NATS/1.0 abc\r\n\r\n", b"NATS/1.0 99999 text\r\n\r\n"];

/// Unusual header blocks that the client library accepts.
const UNUSUAL_HEADERS: [&[u8]; 9] = [
    b"NATS/1.0\r\n\r\n",
    b"NATS/1.0 503\r\n\r\n",
    b"NATS/1.0 100 Idle Heartbeat\r\n\r\n",
    b"NATS/1.0 404 No Messages\r\nForge-Test: x\r\n\r\n",
    b"NATS/1.0\r\nForge-Test:\r\n\r\n",
    b"NATS/1.0\nForge-Test: lf\n\n",
    b"NATS/1.0\r\nForge-Test: a\r\n folded\r\n\r\n",
    b"NATS/1.0\r\nForge-Test: first\r\nForge-Test: last\r\n\r\n",
    b"NATS/1.0\r\nForge-Test: no end",
];

/// A connection that sends header blocks as they are.
struct RawPublisher(BufReader<TcpStream>);

impl RawPublisher {
    fn connect(server: &NatsServer) -> Self {
        let stream = TcpStream::connect(server.url().strip_prefix("nats://").unwrap()).unwrap();
        stream.set_read_timeout(Some(EVENT_TIMEOUT)).unwrap();
        let mut publisher = Self(BufReader::new(stream));
        publisher.send(b"CONNECT {\"verbose\":false,\"headers\":true}\r\n");
        publisher
    }

    /// Sends protocol lines and waits until the server has processed them.
    fn send(&mut self, lines: &[u8]) {
        let stream = self.0.get_mut();
        stream.write_all(lines).unwrap();
        stream.write_all(b"PING\r\n").unwrap();
        loop {
            let mut line = String::new();
            assert!(self.0.read_line(&mut line).unwrap() > 0, "the server closed the connection");
            assert!(!line.starts_with("-ERR"), "{line}");
            if line.starts_with("PONG") {
                return;
            }
        }
    }

    fn publish(&mut self, subject: &str, headers: &[u8], payload: &str) {
        let mut lines =
            format!("HPUB {subject} {} {}\r\n", headers.len(), headers.len() + payload.len()).into_bytes();
        lines.extend_from_slice(headers);
        lines.extend_from_slice(payload.as_bytes());
        lines.extend_from_slice(b"\r\n");
        self.send(&lines);
    }
}

async fn connect(server: &NatsServer) -> SharedBus {
    let options =
        JetStreamOptions { topology: conformance::settings(), ..JetStreamOptions::new(server.url()) };
    let bus = JetStreamBus::connect(options).await.unwrap();
    bus.prepare().await.unwrap();
    bus
}

const JOB: JobUid = JobUid([1; 16]);

fn result_subject(index: u64) -> String {
    topology::result_subject(&PoolName::default(), JOB, ShardId { height: 0, index })
}

async fn publish_result(bus: &SharedBus, index: u64) {
    let message = Message::new(result_subject(index), format!("result {index}"));
    bus.publish(message, &format!("result {index}")).await.unwrap();
}

async fn replay(bus: &SharedBus) -> Replay {
    bus.replay(Stream::Results, vec![topology::results_filter(JOB)]).await.unwrap()
}

async fn next(replay: &mut Replay) -> Message {
    timeout(EVENT_TIMEOUT, replay.next()).await.expect("a message arrives").unwrap().message
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replays_step_over_them() {
    let server = NatsServer::start(&NatsConfig::default());
    let (bus, mut publisher) = (connect(&server).await, RawPublisher::connect(&server));
    let mut live = replay(&bus).await;
    let mut count = 0;
    for headers in UNREADABLE_HEADERS {
        publish_result(&bus, count).await;
        publisher.publish(&result_subject(900), headers, "unreadable");
        count += 1;
    }
    // Many in a row, and one that no message follows.
    for (index, headers) in (901..965).zip(UNREADABLE_HEADERS.into_iter().cycle()) {
        publisher.publish(&result_subject(index), headers, "unreadable");
    }
    publish_result(&bus, count).await;
    count += 1;
    publisher.publish(&result_subject(900), UNREADABLE_HEADERS[2], "unreadable");
    for index in 0..count {
        assert_eq!(next(&mut live).await.payload, format!("result {index}"));
    }
    publish_result(&bus, count).await;
    assert_eq!(next(&mut live).await.payload, format!("result {count}"), "and after the last one");
    count += 1;
    assert!(bus.unreadable_messages() >= 74, "{}", bus.unreadable_messages());

    // The same after a restart of the service.
    let restarted = connect(&server).await;
    let mut stored = replay(&restarted).await;
    for index in 0..count {
        let next = timeout(EVENT_TIMEOUT, stored.next_stored()).await.expect("a message arrives").unwrap();
        assert_eq!(next.message.payload, format!("result {index}"));
    }
    assert_eq!(timeout(EVENT_TIMEOUT, stored.next_stored()).await.expect("the replay catches up"), None);
    publish_result(&restarted, count).await;
    assert_eq!(next(&mut stored).await.payload, format!("result {count}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unusual_headers_are_read_alike_in_every_way() {
    let server = NatsServer::start(&NatsConfig::default());
    let (bus, mut publisher) = (connect(&server).await, RawPublisher::connect(&server));
    for headers in UNUSUAL_HEADERS {
        publisher.publish(&result_subject(1), headers, "payload");
    }
    let mut first = replay(&bus).await;
    let mut streamed = Vec::new();
    for _ in UNUSUAL_HEADERS {
        streamed.push(next(&mut first).await);
    }
    assert_eq!(bus.unreadable_messages(), 0);
    assert!(streamed.iter().all(|message| message.payload == "payload"), "{streamed:?}");

    // A reader that has met an unreadable message reads the next ones one by one.
    bus.purge(topology::Stream::Results, ">").await.unwrap();
    publisher.publish(&result_subject(1), UNREADABLE_HEADERS[0], "");
    for headers in UNUSUAL_HEADERS {
        publisher.publish(&result_subject(1), headers, "payload");
    }
    let mut second = replay(&bus).await;
    for message in streamed {
        assert_eq!(next(&mut second).await, message);
    }
    assert!(bus.unreadable_messages() > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn buckets_treat_their_keys_as_absent() {
    let server = NatsServer::start(&NatsConfig::default());
    let (bus, mut publisher) = (connect(&server).await, RawPublisher::connect(&server));
    let agents = Bucket::Agents;
    let first = bus.put(&agents, "workers.first", "here".into()).await.unwrap();
    bus.put(&agents, "workers.victim", "here".into()).await.unwrap();
    let mut watch = bus.watch(&agents, "workers.*").await.unwrap();
    for _ in 0..2 {
        timeout(EVENT_TIMEOUT, watch.next()).await.expect("the current entries arrive").unwrap();
    }
    for (i, headers) in UNREADABLE_HEADERS.into_iter().enumerate() {
        publisher.publish("$KV.forge_agents.workers.victim", headers, "{}");
        publisher.publish(&format!("$KV.forge_agents.workers.x{i}"), headers, "{}");
    }
    // Names that are not valid keys.
    publisher.publish("$KV.forge_agents.workers.\u{e9}", UNREADABLE_HEADERS[0], "{}");
    bus.put(&agents, "workers.last", "here".into()).await.unwrap();
    let mut victim = None;
    loop {
        let entry = timeout(EVENT_TIMEOUT, watch.next()).await.expect("the last entry arrives").unwrap();
        match entry.key.as_str() {
            "workers.last" => break,
            "workers.victim" => victim = Some(entry.value),
            _ => assert_eq!(entry.value, None, "{}", entry.key),
        }
    }
    assert_eq!(victim, Some(None), "the victim's entry is gone");

    let mut keys = timeout(EVENT_TIMEOUT, bus.keys(&agents)).await.expect("keys are listed").unwrap();
    keys.sort();
    assert_eq!(keys, ["workers.first", "workers.last"]);
    let start = Instant::now();
    assert_eq!(bus.get(&agents, "workers.victim").await, Ok(None));
    assert_eq!(bus.get(&agents, "workers.first").await.unwrap().unwrap().revision, first);
    bus.delete(&agents, "workers.x1").await.unwrap();
    let created = bus.compare_and_set(&agents, "workers.victim", "new".into(), None).await.unwrap();
    assert_eq!(bus.get(&agents, "workers.victim").await.unwrap().unwrap().revision, created.unwrap());
    assert!(start.elapsed() < Duration::from_secs(2), "without retries: {:?}", start.elapsed());
    // A status line does not hide an entry.
    publisher.publish("$KV.forge_agents.workers.status", b"NATS/1.0 404 No Messages\r\n\r\n", "there");
    assert_eq!(bus.get(&agents, "workers.status").await.unwrap().unwrap().value, Some("there".into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queues_remove_them() {
    let server = NatsServer::start(&NatsConfig::default());
    let (bus, mut publisher) = (connect(&server).await, RawPublisher::connect(&server));
    let mut receiver = bus.open_queue(Queue::Jobs).await.unwrap();
    // Others wait when the first ones arrive, and one is received while the receiver waits.
    for (i, headers) in UNREADABLE_HEADERS.into_iter().enumerate() {
        publisher.publish(SUBMIT_SUBJECT, headers, "unreadable");
        let name = format!("job {i}");
        let (fetched, published) = tokio::join!(
            timeout(EVENT_TIMEOUT, receiver.fetch(16)),
            bus.publish(Message::new(SUBMIT_SUBJECT, name.clone()), &name),
        );
        published.unwrap();
        let fetched = fetched.expect("the job arrives").unwrap();
        assert_eq!(fetched[0].message.payload, name);
        fetched[0].lease.ack().await;
    }
    for i in 0..64 {
        publisher.publish(SUBMIT_SUBJECT, UNREADABLE_HEADERS[i % UNREADABLE_HEADERS.len()], "unreadable");
    }
    publisher.publish(SUBMIT_SUBJECT, b"NATS/1.0 503\r\n\r\n", "status");
    bus.publish(Message::new(SUBMIT_SUBJECT, "last"), "last").await.unwrap();
    // As a planner that has just been restarted.
    let restarted = connect(&server).await;
    let mut receiver = restarted.open_queue(Queue::Jobs).await.unwrap();
    let mut payloads = Vec::new();
    while payloads.len() < 2 {
        for delivery in timeout(EVENT_TIMEOUT, receiver.fetch(16)).await.expect("jobs arrive").unwrap() {
            delivery.lease.ack().await;
            payloads.push(delivery.message.payload);
        }
    }
    payloads.sort();
    assert_eq!(payloads, ["last", "status"]);
    let drained = async {
        while bus.backlog(Queue::Jobs).await != Ok(0) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(EVENT_TIMEOUT, drained).await.expect("unreadable messages are removed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_letters_of_unreadable_shards_are_dropped() {
    let server = NatsServer::start(&NatsConfig::default());
    let (bus, mut publisher) = (connect(&server).await, RawPublisher::connect(&server));
    let subject =
        |index| topology::shard_subject(Target::Cpu, JobLength::Short, JOB, ShardId { height: 0, index });
    let mut sequences = Vec::new();
    for index in 0..3 {
        publisher.publish(&subject(index), UNREADABLE_HEADERS[index as usize], "unreadable");
        sequences.push(index + 1);
    }
    bus.publish(Message::new(subject(3), "shard"), "shard").await.unwrap();
    sequences.push(4);
    for sequence in sequences {
        let advisory = format!("{{\"stream_seq\":{sequence}}}");
        let subject = "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.FORGE_SHARDS.workers-cpu";
        publisher.publish(subject, b"NATS/1.0\r\n\r\n", &advisory);
    }
    let mut receiver = bus.open_queue(Queue::DeadLetters).await.unwrap();
    let start = Instant::now();
    let dead_letter =
        timeout(EVENT_TIMEOUT, receiver.fetch(1)).await.expect("a dead letter arrives").unwrap();
    assert_eq!(dead_letter[0].message.payload, "shard");
    assert!(start.elapsed() < Duration::from_secs(5), "without retries: {:?}", start.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_service_continues_to_answer() {
    let server = NatsServer::start(&NatsConfig::default());
    let (bus, mut publisher) = (connect(&server).await, RawPublisher::connect(&server));
    let client = connect(&server).await;
    let mut calls = bus.serve().await.unwrap();
    let serving = tokio::spawn(async move {
        while let Some(call) = calls.next().await {
            call.responder.reply("answer".into()).await;
        }
    });
    for headers in UNREADABLE_HEADERS.into_iter().chain(UNREADABLE_STATUS_LINES) {
        publisher.publish(topology::API_STATUS_SUBJECT, headers, "j");
        let answered = async {
            loop {
                let request = Message::new(topology::API_STATUS_SUBJECT, "j");
                match client.request(request, Duration::from_secs(1)).await {
                    Ok(reply) => return reply,
                    Err(BusError::NoResponse(_)) => {}
                    Err(error) => panic!("{error:?}"),
                }
            }
        };
        assert_eq!(timeout(EVENT_TIMEOUT, answered).await.expect("an answer").payload, "answer");
        // Other operations of the process do not notice.
        let start = Instant::now();
        bus.put(&Bucket::default_jobs(), "j", "record".into()).await.unwrap();
        assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    }
    serving.abort();
}
