//! Throughput and latency of the bus, in memory and on a real server: publishing, fetching and
//! acknowledging, replaying, and compare-and-set. Run with `cargo bench -p forge-bus`.

use std::time::Duration;

use forge_bus::topology::{Bucket, JobLength, Queue, Stream, TopologySettings};
use forge_bus::{JetStreamBus, MemoryBus, Message, SharedBus, jetstream::JetStreamOptions, topology};
use forge_contract::{
    envelope::Target,
    ids::{JobUid, PoolName},
    shard::ShardId,
};
use forge_harness::{NatsConfig, NatsServer};
use futures_util::StreamExt;
use tokio::time::Instant;

/// Messages per throughput measurement.
const MESSAGE_COUNT: u64 = 100_000;
const QUEUE: Queue = Queue::Shards(Target::Cpu, JobLength::Short);
const JOB: JobUid = JobUid([1; 16]);

fn shard_message(index: u64) -> (Message, String) {
    let subject = topology::shard_subject(Target::Cpu, JobLength::Short, JOB, ShardId { height: 0, index });
    (Message::new(subject.clone(), vec![7; 512]), subject)
}

fn result_message(index: u64) -> (Message, String) {
    let subject = topology::result_subject(&PoolName::default(), JOB, ShardId { height: 0, index });
    (Message::new(subject.clone(), vec![7; 512]), subject)
}

fn print_rate(name: &str, start: Instant) {
    let rate = MESSAGE_COUNT as f64 / start.elapsed().as_secs_f64();
    eprintln!("{name:<24} {rate:>10.0}/s");
}

async fn measure(name: &str, bus: SharedBus) {
    eprintln!("{name}");
    bus.prepare().await.expect("preparing succeeds");
    let messages = (0..MESSAGE_COUNT).map(shard_message).collect();
    let start = Instant::now();
    bus.publish_all(messages).await.expect("publishing succeeds");
    print_rate("publish_all", start);

    let mut receiver = bus.open_queue(QUEUE).await.expect("opening the queue succeeds");
    let (start, mut count) = (Instant::now(), 0);
    while count < MESSAGE_COUNT {
        for delivery in receiver.fetch(512).await.expect("fetching succeeds") {
            delivery.lease.ack().await;
            count += 1;
        }
    }
    print_rate("fetch(512) and ack", start);

    bus.publish_all((0..MESSAGE_COUNT).map(result_message).collect()).await.expect("publishing succeeds");
    let start = Instant::now();
    let replay = bus
        .replay(Stream::Results, vec![topology::results_filter(JOB)])
        .await
        .expect("opening the replay succeeds");
    assert_eq!(replay.take(MESSAGE_COUNT as usize).count().await as u64, MESSAGE_COUNT);
    print_rate("replay", start);

    let mut times: Vec<Duration> = Vec::new();
    for index in 0..2000 {
        let (message, id) = shard_message(MESSAGE_COUNT + index);
        let fetching = tokio::spawn(async move {
            let fetched = receiver.fetch(1).await.expect("fetching succeeds");
            let arrived = Instant::now();
            fetched[0].lease.ack().await;
            (arrived, receiver)
        });
        tokio::time::sleep(Duration::from_millis(1)).await;
        let start = Instant::now();
        bus.publish(message, &id).await.expect("publishing succeeds");
        let (arrived, returned) = fetching.await.expect("the fetching task does not panic");
        receiver = returned;
        times.push(arrived - start);
    }
    print_percentiles("publish to fetch", times);

    let (mut times, mut revision) = (Vec::new(), None);
    for index in 0..2000_u64 {
        let start = Instant::now();
        let value = index.to_string().into();
        let written =
            bus.compare_and_set(&Bucket::Agents, "k", value, revision).await.expect("writing succeeds");
        revision = Some(written.expect("there is no other writer"));
        times.push(start.elapsed());
    }
    print_percentiles("compare_and_set", times);
}

fn print_percentiles(name: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |part: usize| times[times.len() * part / 100].as_secs_f64() * 1e3;
    eprintln!("{name:<24} p50 {:.3} ms, p99 {:.3} ms", at(50), at(99));
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("the runtime starts").block_on(async {
        measure("in memory", MemoryBus::new(TopologySettings::default())).await;
        let server = NatsServer::start(&NatsConfig::default());
        let bus =
            JetStreamBus::connect(JetStreamOptions::new(server.url())).await.expect("connecting succeeds");
        measure("JetStream", bus).await;
    });
}
