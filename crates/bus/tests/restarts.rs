//! A server that is killed and comes back: everything goes on, and nothing is lost.

use std::{collections::BTreeSet, time::Duration};

use forge_bus::topology::{Bucket, Queue};
use forge_bus::{
    Bus, JetStreamBus, Message, ReplayContent, SharedBus, jetstream::JetStreamOptions, testing::conformance,
    topology,
};
use forge_contract::{envelope::Target, ids::JobId, shard::ShardId};
use forge_harness::{NatsConfig, NatsServer};
use futures_util::StreamExt;
use tokio::time::{Instant, sleep, timeout};

const LIMIT: Duration = Duration::from_secs(60);

async fn connect(server: &NatsServer) -> SharedBus {
    let options =
        JetStreamOptions { topology: conformance::settings(), ..JetStreamOptions::new(server.url()) };
    let bus = JetStreamBus::connect(options).await.unwrap();
    bus.prepare().await.unwrap();
    bus
}

fn job() -> JobId {
    "j".parse().unwrap()
}

fn result(index: u64) -> (Message, String) {
    let subject = topology::result_subject(&job(), ShardId { height: 0, index });
    (Message::new(subject.clone(), vec![7; 100]), subject)
}

fn shard(index: u64) -> (Message, String) {
    let subject = topology::shard_subject(Target::Cpu, &job(), ShardId { height: 0, index });
    (Message::new(subject.clone(), index.to_string()), subject)
}

/// Kills the server a few times, while `done` is false.
async fn disturb(mut server: NatsServer, times: u32) -> NatsServer {
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
async fn publishing_and_replaying() {
    let server = NatsServer::start(&NatsConfig::default());
    let bus = connect(&server).await;
    let mut replay = bus.replay(topology::shard_message_subjects(&job()), ReplayContent::Full).await.unwrap();
    let disturbing = tokio::spawn(disturb(server, 3));
    let publishing = tokio::spawn({
        let bus = bus.clone();
        async move {
            let mut index = 0;
            let start = Instant::now();
            while start.elapsed() < Duration::from_secs(5) {
                let some = (index..index + 500).map(result).collect();
                bus.publish_all(some).await.unwrap();
                bus.publish(result(index + 500).0, &result(index + 500).1).await.unwrap();
                index += 501;
            }
            index
        }
    });
    let count = timeout(LIMIT, publishing).await.unwrap().unwrap();
    let server = disturbing.await.unwrap();
    let mut last = 0;
    let mut seen = BTreeSet::new();
    while (seen.len() as u64) < count {
        let stored = timeout(LIMIT, replay.next()).await.expect("more results").unwrap();
        assert!(stored.sequence > last, "in order, none twice");
        last = stored.sequence;
        seen.insert(stored.message.subject);
    }
    assert!((0..count).all(|index| seen.contains(&result(index).1)));
    let mut again =
        bus.replay(topology::shard_message_subjects(&job()), ReplayContent::Headers).await.unwrap();
    let mut stored = 0;
    while timeout(Duration::from_secs(1), again.next()).await.is_ok() {
        stored += 1;
    }
    assert!(stored >= count, "{stored} of {count}");
    drop(server);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pulling() {
    let server = NatsServer::start(&NatsConfig::default());
    let bus = connect(&server).await;
    let count = 2000;
    let mut pull = bus.open_queue(Queue::Shards(Target::Cpu)).await.unwrap();
    let disturbing = tokio::spawn(disturb(server, 3));
    let publishing = tokio::spawn({
        let bus = bus.clone();
        async move {
            for index in 0..count {
                bus.publish(shard(index).0, &shard(index).1).await.unwrap();
                sleep(Duration::from_millis(1)).await;
            }
        }
    });
    let mut seen = BTreeSet::new();
    let fetching = async {
        while (seen.len() as u64) < count {
            for delivery in pull.fetch(16).await.unwrap() {
                seen.insert(delivery.message.subject);
                delivery.lease.ack().await;
            }
        }
    };
    timeout(LIMIT, fetching).await.expect("all shards come");
    publishing.await.unwrap();
    let server = disturbing.await.unwrap();
    let emptied = async {
        while bus.backlog(Queue::Shards(Target::Cpu)).await.unwrap() > 0 {
            if let Ok(Ok(more)) = timeout(Duration::from_millis(100), pull.fetch(16)).await {
                for delivery in more {
                    delivery.lease.ack().await;
                }
            }
        }
    };
    timeout(LIMIT, emptied).await.expect("nothing is left");
    drop(server);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watching_and_writing() {
    let server = NatsServer::start(&NatsConfig::default());
    let bus = connect(&server).await;
    let mut watch = bus.watch(&Bucket::Agents, ">").await.unwrap();
    let mut listening = bus.subscribe(topology::JOB_ENDED_FILTER).await.unwrap();
    let mut calls = bus.serve().await.unwrap();
    let disturbing = tokio::spawn(disturb(server, 3));
    let (agents, start) = (Bucket::Agents, Instant::now());
    let mut revision = None;
    let mut value = 0_u64;
    // A counter that only a writer who is sure of the last value may raise.
    while start.elapsed() < Duration::from_secs(4) {
        value += 1;
        let written =
            bus.compare_and_set(&agents, "counter", value.to_string().into(), revision).await.unwrap();
        revision = Some(written.expect("nobody else writes"));
    }
    let server = disturbing.await.unwrap();
    let seen = async {
        let mut last = 0;
        loop {
            let entry = watch.next().await.unwrap();
            assert!(entry.revision > last, "each change once, in order");
            last = entry.revision;
            if entry.value.unwrap() == value.to_string() {
                return;
            }
        }
    };
    timeout(LIMIT, seen).await.expect("the last value comes");
    bus.delete(&agents, "counter").await.unwrap();
    assert_eq!(timeout(LIMIT, watch.next()).await.unwrap().unwrap().value, None);

    bus.broadcast(Message::new(topology::job_ended_subject(&job()), "over")).await.unwrap();
    assert_eq!(timeout(LIMIT, listening.next()).await.unwrap().unwrap().payload, "over");
    let asked = bus.request(Message::new(topology::API_STATUS_SUBJECT, ""), LIMIT);
    let (answer, ()) = tokio::join!(asked, async {
        calls.next().await.unwrap().responder.reply("yes".into()).await;
    });
    assert_eq!(answer.unwrap().payload, "yes");
    drop(server);
}

#[tokio::test]
async fn an_outage_that_lasts_is_an_error() {
    let mut server = NatsServer::start(&NatsConfig::default());
    let bus = connect(&server).await;
    let mut pull = bus.open_queue(Queue::Jobs).await.unwrap();
    server.kill();
    let (published, fetched) = tokio::join!(
        timeout(LIMIT, bus.publish(Message::new(topology::SUBMIT_SUBJECT, ""), "1")),
        timeout(LIMIT, pull.fetch(1)),
    );
    assert!(matches!(published.unwrap(), Err(forge_bus::BusError::Unavailable(_))));
    assert!(matches!(fetched.unwrap().map(drop), Err(forge_bus::BusError::Unavailable(_))));
    assert!(!bus.is_connected());
    server.restart();
    bus.publish(Message::new(topology::SUBMIT_SUBJECT, ""), "1").await.unwrap();
    let fetched = timeout(LIMIT, pull.fetch(1)).await.unwrap().unwrap();
    assert_eq!(fetched[0].message.subject, topology::SUBMIT_SUBJECT);
}
