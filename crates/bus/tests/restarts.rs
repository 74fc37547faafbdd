//! A server that is killed and restarted: every operation continues, and no message is lost.

use std::{collections::BTreeSet, time::Duration};

use forge_bus::topology::{Bucket, JobLength, Queue, Stream};
use forge_bus::{
    BucketEntry, Bus, JetStreamBus, Message, Replay, SharedBus, jetstream::JetStreamOptions,
    testing::conformance, topology,
};
use forge_contract::{
    envelope::Target,
    ids::{JobUid, PoolName},
    shard::ShardId,
};
use forge_harness::{NatsConfig, NatsServer};
use futures_util::StreamExt;
use tokio::time::{Instant, sleep, timeout};

/// Bound on waiting for an event that must happen.
const EVENT_TIMEOUT: Duration = Duration::from_secs(60);

async fn connect(server: &NatsServer) -> SharedBus {
    let options =
        JetStreamOptions { topology: conformance::settings(), ..JetStreamOptions::new(server.url()) };
    let bus = JetStreamBus::connect(options).await.unwrap();
    bus.prepare().await.unwrap();
    bus
}

const JOB: JobUid = JobUid([1; 16]);

async fn replay_results(bus: &SharedBus) -> Replay {
    bus.replay(Stream::Results, vec![topology::results_filter(JOB)]).await.unwrap()
}

fn result_message(index: u64) -> (Message, String) {
    let subject = topology::result_subject(&PoolName::default(), JOB, ShardId { height: 0, index });
    (Message::new(subject.clone(), vec![7; 100]), subject)
}

fn shard_message(index: u64) -> (Message, String) {
    let subject = topology::shard_subject(Target::Cpu, JobLength::Short, JOB, ShardId { height: 0, index });
    (Message::new(subject.clone(), index.to_string()), subject)
}

/// Kills and restarts a server `times` times.
async fn restart_repeatedly(mut server: NatsServer, times: u32) -> NatsServer {
    for _ in 0..times {
        sleep(Duration::from_millis(400)).await;
        server = tokio::task::spawn_blocking(move || {
            server.kill();
            std::thread::sleep(Duration::from_millis(300));
            server.restart();
            server
        })
        .await
        .unwrap();
    }
    server
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publishing_and_replaying_survive_restarts() {
    let server = NatsServer::start(&NatsConfig::default());
    let bus = connect(&server).await;
    let mut replay = replay_results(&bus).await;
    let restarting = tokio::spawn(restart_repeatedly(server, 3));
    let publishing = tokio::spawn({
        let bus = bus.clone();
        async move {
            let mut index = 0;
            let start = Instant::now();
            while start.elapsed() < Duration::from_secs(5) {
                let batch = (index..index + 500).map(result_message).collect();
                bus.publish_all(batch).await.unwrap();
                bus.publish(result_message(index + 500).0, &result_message(index + 500).1).await.unwrap();
                index += 501;
                // At most 100,200 messages, which the stream holds.
                sleep(Duration::from_millis(25)).await;
            }
            index
        }
    });
    let count = timeout(EVENT_TIMEOUT, publishing).await.unwrap().unwrap();
    let server = restarting.await.unwrap();
    let mut last = 0;
    let mut received_subjects = BTreeSet::new();
    while (received_subjects.len() as u64) < count {
        let stored = timeout(EVENT_TIMEOUT, replay.next()).await.expect("all results arrive").unwrap();
        assert!(stored.sequence > last, "in order, without repetition");
        last = stored.sequence;
        received_subjects.insert(stored.message.subject);
    }
    assert!((0..count).all(|index| received_subjects.contains(&result_message(index).1)));
    let mut second_replay = replay_results(&bus).await;
    let mut stored = 0;
    while timeout(Duration::from_secs(1), second_replay.next()).await.is_ok() {
        stored += 1;
    }
    assert!(stored >= count, "{stored} of {count}");
    drop(server);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fetching_survives_restarts() {
    let server = NatsServer::start(&NatsConfig::default());
    let bus = connect(&server).await;
    let count = 2000;
    let mut receiver = bus.open_queue(Queue::Shards(Target::Cpu, JobLength::Short)).await.unwrap();
    let restarting = tokio::spawn(restart_repeatedly(server, 3));
    let publishing = tokio::spawn({
        let bus = bus.clone();
        async move {
            for index in 0..count {
                bus.publish(shard_message(index).0, &shard_message(index).1).await.unwrap();
                sleep(Duration::from_millis(1)).await;
            }
        }
    });
    let mut received_subjects = BTreeSet::new();
    let fetching = async {
        while (received_subjects.len() as u64) < count {
            for delivery in receiver.fetch(16).await.unwrap() {
                received_subjects.insert(delivery.message.subject);
                delivery.lease.ack().await;
            }
        }
    };
    timeout(EVENT_TIMEOUT, fetching).await.expect("all shards arrive");
    publishing.await.unwrap();
    let server = restarting.await.unwrap();
    let draining = async {
        while bus.backlog(Queue::Shards(Target::Cpu, JobLength::Short)).await.unwrap() > 0 {
            if let Ok(Ok(deliveries)) = timeout(Duration::from_millis(100), receiver.fetch(16)).await {
                for delivery in deliveries {
                    delivery.lease.ack().await;
                }
            }
        }
    };
    timeout(EVENT_TIMEOUT, draining).await.expect("the queue is drained");
    drop(server);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watches_and_writes_survive_restarts() {
    let server = NatsServer::start(&NatsConfig::default());
    let bus = connect(&server).await;
    let mut watch = bus.watch(&Bucket::Agents, ">").await.unwrap();
    let mut ended = bus.subscribe(topology::JOB_ENDED_FILTER).await.unwrap();
    let mut calls = bus.serve().await.unwrap();
    let restarting = tokio::spawn(restart_repeatedly(server, 3));
    let (agents, start) = (Bucket::Agents, Instant::now());
    let mut revision = None;
    let mut value = 0_u64;
    // A counter whose every increment must know the previous revision.
    while start.elapsed() < Duration::from_secs(4) {
        value += 1;
        let written =
            bus.compare_and_set(&agents, "counter", value.to_string().into(), revision).await.unwrap();
        revision = Some(written.expect("there is no other writer"));
    }
    let server = restarting.await.unwrap();
    let last_value = async {
        let mut last = 0;
        loop {
            let entry = watch.next().await.unwrap();
            assert!(entry.revision > last, "each change at most once, in order");
            last = entry.revision;
            if entry.value.unwrap() == value.to_string() {
                return;
            }
        }
    };
    timeout(EVENT_TIMEOUT, last_value).await.expect("the last value arrives");
    bus.delete(&agents, "counter").await.unwrap();
    assert_eq!(timeout(EVENT_TIMEOUT, watch.next()).await.unwrap().unwrap().value, None);

    bus.broadcast(Message::new(topology::job_ended_subject(JOB), "ended")).await.unwrap();
    assert_eq!(timeout(EVENT_TIMEOUT, ended.next()).await.unwrap().unwrap().payload, "ended");
    let request = bus.request(Message::new(topology::API_STATUS_SUBJECT, ""), EVENT_TIMEOUT);
    let (reply, ()) = tokio::join!(request, async {
        calls.next().await.unwrap().responder.reply("yes".into()).await;
    });
    assert_eq!(reply.unwrap().payload, "yes");
    drop(server);
}

#[tokio::test]
async fn operations_fail_during_a_long_outage_and_recover_after_it() {
    let mut server = NatsServer::start(&NatsConfig::default());
    let bus = connect(&server).await;
    let mut receiver = bus.open_queue(Queue::Jobs).await.unwrap();
    server.kill();
    let (published, fetched) = tokio::join!(
        timeout(EVENT_TIMEOUT, bus.publish(Message::new(topology::SUBMIT_SUBJECT, ""), "1")),
        timeout(EVENT_TIMEOUT, receiver.fetch(1)),
    );
    assert!(matches!(published.unwrap(), Err(forge_bus::BusError::Unavailable(_))));
    assert!(matches!(fetched.unwrap().map(drop), Err(forge_bus::BusError::Unavailable(_))));
    assert!(!bus.is_connected());
    server.restart();
    bus.publish(Message::new(topology::SUBMIT_SUBJECT, ""), "1").await.unwrap();
    let fetched = timeout(EVENT_TIMEOUT, receiver.fetch(1)).await.unwrap().unwrap();
    assert_eq!(fetched[0].message.subject, topology::SUBMIT_SUBJECT);
}

/// The next message of a replay within [`EVENT_TIMEOUT`].
async fn next_subject(replay: &mut Replay) -> String {
    let stored = timeout(EVENT_TIMEOUT, replay.next()).await.expect("a message arrives");
    stored.expect("the replay goes on").message.subject
}

/// A power failure takes what was acknowledged and not synced to disk. Messages after it have
/// sequences that readers know already.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_continue_on_a_server_that_has_lost_its_latest_messages() {
    let mut server = NatsServer::start(&NatsConfig::default());
    let bus = connect(&server).await;
    let publish = async |index| {
        let (message, id) = result_message(index);
        bus.publish(message, &id).await.unwrap();
        id
    };
    let agents = Bucket::Agents;
    let mut replay = replay_results(&bus).await;
    let mut watch = bus.watch(&agents, ">").await.unwrap();
    let next_value = async |watch: &mut futures_util::stream::BoxStream<'static, BucketEntry>| {
        timeout(EVENT_TIMEOUT, watch.next()).await.expect("a change arrives").unwrap().value
    };
    for index in 0..5 {
        let id = publish(index).await;
        assert_eq!(next_subject(&mut replay).await, id);
        bus.put(&agents, "agent", index.to_string().into()).await.unwrap();
        assert_eq!(next_value(&mut watch).await, Some(index.to_string().into()));
    }
    for losing_all in [false, true] {
        server.stop();
        let earlier = server.copy_data();
        server.restart();
        for index in 10..40 {
            let id = publish(index).await;
            assert_eq!(next_subject(&mut replay).await, id);
            bus.put(&agents, "agent", index.to_string().into()).await.unwrap();
            assert_eq!(next_value(&mut watch).await, Some(index.to_string().into()));
        }
        match losing_all {
            true => {
                server.restart_empty();
                bus.prepare().await.unwrap();
            }
            false => server.restart_from(&earlier),
        }
        for index in 50..60 {
            let id = publish(index).await;
            assert_eq!(next_subject(&mut replay).await, id, "after losing all: {losing_all}");
            bus.put(&agents, "agent", index.to_string().into()).await.unwrap();
            assert_eq!(next_value(&mut watch).await, Some(index.to_string().into()));
        }
    }
}
