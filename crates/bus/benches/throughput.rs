//! What a real server on this machine does: messages stored, pulled and acknowledged in a second, and how long one takes
//! from publisher to receiver. Run by `cargo bench -p forge-bus`.

use std::time::Duration;

use forge_bus::topology::{Bucket, Queue, TopologySettings};
use forge_bus::{JetStreamBus, MemoryBus, Message, SharedBus, jetstream::JetStreamOptions, topology};
use forge_contract::{envelope::Target, ids::JobId, shard::ShardId};
use forge_harness::{NatsConfig, NatsServer};
use futures_util::StreamExt;
use tokio::time::Instant;

const COUNT: u64 = 100_000;
const QUEUE: Queue = Queue::Shards(Target::Cpu);

fn shard(index: u64) -> (Message, String) {
    let job: JobId = "j".parse().expect("an identifier");
    let subject = topology::shard_subject(Target::Cpu, &job, ShardId { height: 0, index });
    (Message::new(subject.clone(), vec![7; 512]), subject)
}

fn result(index: u64) -> (Message, String) {
    let job: JobId = "j".parse().expect("an identifier");
    let subject = topology::result_subject(&job, ShardId { height: 0, index });
    (Message::new(subject.clone(), vec![7; 512]), subject)
}

fn report(name: &str, start: Instant) {
    let rate = COUNT as f64 / start.elapsed().as_secs_f64();
    eprintln!("{name:<24} {rate:>10.0} a second");
}

async fn measure(name: &str, bus: SharedBus) {
    eprintln!("{name}");
    bus.prepare().await.expect("prepared");
    let all = (0..COUNT).map(shard).collect();
    let start = Instant::now();
    bus.publish_all(all).await.expect("published");
    report("publish_all", start);

    let mut pull = bus.open_queue(QUEUE).await.expect("a queue");
    let (start, mut count) = (Instant::now(), 0);
    while count < COUNT {
        for delivery in pull.fetch(512).await.expect("fetched") {
            delivery.lease.ack().await;
            count += 1;
        }
    }
    report("fetch(512) and ack", start);

    bus.publish_all((0..COUNT).map(result).collect()).await.expect("published");
    let job: JobId = "j".parse().expect("an identifier");
    let start = Instant::now();
    let replay = bus
        .replay(topology::shard_message_subjects(&job), forge_bus::ReplayContent::Full)
        .await
        .expect("a replay");
    assert_eq!(replay.take(COUNT as usize).count().await as u64, COUNT);
    report("replay", start);

    let mut times: Vec<Duration> = Vec::new();
    for index in 0..2000 {
        let (message, id) = shard(COUNT + index);
        let fetching = tokio::spawn(async move {
            let fetched = pull.fetch(1).await.expect("fetched");
            let arrived = Instant::now();
            fetched[0].lease.ack().await;
            (arrived, pull)
        });
        tokio::time::sleep(Duration::from_millis(1)).await;
        let start = Instant::now();
        bus.publish(message, &id).await.expect("published");
        let (arrived, same) = fetching.await.expect("no panic");
        pull = same;
        times.push(arrived - start);
    }
    percentiles("publish to fetch", times);

    let (mut times, mut revision) = (Vec::new(), None);
    for index in 0..2000_u64 {
        let start = Instant::now();
        let value = index.to_string().into();
        let written = bus.compare_and_set(&Bucket::Agents, "k", value, revision).await.expect("written");
        revision = Some(written.expect("nobody else writes"));
        times.push(start.elapsed());
    }
    percentiles("compare_and_set", times);
}

fn percentiles(name: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |part: usize| times[times.len() * part / 100].as_secs_f64() * 1e3;
    eprintln!("{name:<24} p50 {:.3} ms, p99 {:.3} ms", at(50), at(99));
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime").block_on(async {
        measure("in memory", MemoryBus::new(TopologySettings::default())).await;
        let server = NatsServer::start(&NatsConfig::default());
        let bus = JetStreamBus::connect(JetStreamOptions::new(server.url())).await.expect("connected");
        measure("JetStream", bus).await;
    });
}
