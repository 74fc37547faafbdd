//! Promises about work queues.

use std::collections::BTreeSet;

use forge_contract::envelope::Target;
use tokio::time::{Instant, sleep, timeout};

use super::{
    LEASE, QUIET, SOON, check, id, job, nothing_comes, publish, publish_all, shard, take, take_one, until,
};
use crate::{
    bus::SharedBus,
    error::BusError,
    message::Message,
    topology::{self, MAX_SHARD_DELIVERIES, Queue, SUBMIT_SUBJECT, Stream},
};

const CPU: Queue = Queue::Shards(Target::Cpu);

/// Checks work queues on buses that `make` makes.
pub async fn queues(make: impl AsyncFn() -> SharedBus) {
    check("messages arrive as they were sent", make().await, arrive).await;
    check("publishers do not wait for each other", make().await, many_publishers).await;
    check("ids deduplicate", make().await, deduplicate).await;
    check("a dropped fetch loses nothing", make().await, dropped_fetch).await;
    check("one receiver has a message", make().await, exclusive).await;
    check("acknowledged messages are gone", make().await, acknowledged).await;
    check("retries come after their delay", make().await, retried).await;
    check("leases expire", make().await, expired).await;
    check("progress keeps the lease", make().await, kept).await;
    check("what kills its receivers is laid aside", make().await, dead_letters).await;
    check("dead letters of ended jobs do not come", make().await, dead_letters_purged).await;
    check("targets are apart", make().await, targets).await;
    check("a purge takes what waits", make().await, purged).await;
    check("sizes", make().await, sizes).await;
    check("prepare twice", make().await, prepared_twice).await;
}

async fn arrive(bus: SharedBus) {
    let mut pull = bus.open_queue(CPU).await.unwrap();
    publish_all(&bus, (0..100).map(|i| shard(Target::Cpu, "j", i))).await;
    let taken = take(&mut *pull, 100).await;
    for (i, delivery) in taken.iter().enumerate() {
        assert_eq!(delivery.message, shard(Target::Cpu, "j", i as u64), "in order, as sent");
        assert_eq!(delivery.attempt, 1);
        assert_eq!(delivery.sequence, taken[0].sequence + i as u64);
    }
    until("delivered is not done", async || bus.backlog(CPU).await == Ok(100)).await;
    let unknown = bus.publish(Message::new("elsewhere", ""), "1").await;
    assert!(matches!(unknown, Err(BusError::Unusable(_))), "{unknown:?}");
}

async fn many_publishers(bus: SharedBus) {
    let publishers = (0..40).map(|number| {
        let (bus, name) = (bus.clone(), format!("j{number}"));
        async move { publish_all(&bus, (0..400).map(|i| shard(Target::Cpu, &name, i))).await }
    });
    futures_util::future::join_all(publishers).await;
    until("all are stored", async || bus.backlog(CPU).await == Ok(40 * 400)).await;
}

async fn deduplicate(bus: SharedBus) {
    for _ in 0..3 {
        bus.publish(Message::new(SUBMIT_SUBJECT, "a"), "same").await.unwrap();
    }
    let twice = [
        (Message::new(SUBMIT_SUBJECT, "b"), "other".to_owned()),
        (Message::new(SUBMIT_SUBJECT, "c"), "same".to_owned()),
    ];
    bus.publish_all(twice.to_vec()).await.unwrap();
    until("two are stored", async || bus.backlog(Queue::Jobs).await == Ok(2)).await;
    let mut pull = bus.open_queue(Queue::Jobs).await.unwrap();
    let taken = take(&mut *pull, 2).await;
    assert_eq!(taken[0].message.payload, "a");
    assert_eq!(taken[1].message.payload, "b");
    taken[0].lease.ack().await;
    until("one is left", async || bus.backlog(Queue::Jobs).await == Ok(1)).await;
    bus.publish(Message::new(SUBMIT_SUBJECT, "d"), "same").await.unwrap();
    sleep(QUIET).await;
    assert_eq!(bus.backlog(Queue::Jobs).await, Ok(1), "the id is known though its message is done");
}

async fn dropped_fetch(bus: SharedBus) {
    let mut pull = bus.open_queue(CPU).await.unwrap();
    for i in 0..20 {
        let message = shard(Target::Cpu, "j", i);
        let fetching = timeout(LEASE / 50, async {
            take_one(&mut *pull).await.lease.ack().await;
        });
        let ((), _) = tokio::join!(publish(&bus, &message), fetching);
    }
    until("all are taken", async || {
        if let Ok(Ok(fetched)) = timeout(LEASE / 10, pull.fetch(7)).await {
            for delivery in fetched {
                delivery.lease.ack().await;
            }
        }
        bus.backlog(CPU).await == Ok(0)
    })
    .await;
}

async fn exclusive(bus: SharedBus) {
    let mut pulls = [bus.open_queue(CPU).await.unwrap(), bus.open_queue(CPU).await.unwrap()];
    publish_all(&bus, (0..60).map(|i| shard(Target::Cpu, "j", i))).await;
    let mut seen = BTreeSet::new();
    for round in 0..60 {
        let delivery = take_one(&mut *pulls[round % 2]).await;
        assert!(seen.insert(delivery.sequence), "delivered to both");
        delivery.lease.ack().await;
    }
    // Both wait; a message comes to one.
    let [first, second] = &mut pulls;
    let message = shard(Target::Cpu, "j", 60);
    let (mine, yours, ()) = tokio::join!(
        timeout(LEASE / 2, first.fetch(1)),
        timeout(LEASE / 2, second.fetch(1)),
        publish(&bus, &message),
    );
    assert!(mine.is_ok() != yours.is_ok(), "{mine:?} {yours:?}");
}

async fn acknowledged(bus: SharedBus) {
    let mut pull = bus.open_queue(CPU).await.unwrap();
    publish_all(&bus, (0..10).map(|i| shard(Target::Cpu, "j", i))).await;
    for delivery in take(&mut *pull, 10).await {
        delivery.lease.ack().await;
    }
    until("nothing is left", async || bus.backlog(CPU).await == Ok(0)).await;
    nothing_comes(&mut *pull, LEASE + QUIET).await;
}

async fn retried(bus: SharedBus) {
    let mut pull = bus.open_queue(CPU).await.unwrap();
    publish(&bus, &shard(Target::Cpu, "j", 0)).await;
    let first = take_one(&mut *pull).await;
    first.lease.retry(LEASE * 2).await;
    nothing_comes(&mut *pull, LEASE + QUIET).await;
    let second = take_one(&mut *pull).await;
    assert_eq!((second.attempt, second.sequence), (2, first.sequence));
    let start = Instant::now();
    second.lease.retry(std::time::Duration::ZERO).await;
    let third = take_one(&mut *pull).await;
    assert_eq!(third.attempt, 3);
    assert!(start.elapsed() < LEASE, "at once");
}

async fn expired(bus: SharedBus) {
    let (mut pull, mut other) = (bus.open_queue(CPU).await.unwrap(), bus.open_queue(CPU).await.unwrap());
    publish(&bus, &shard(Target::Cpu, "j", 0)).await;
    let start = Instant::now();
    let first = take_one(&mut *pull).await;
    drop(first);
    let second = take_one(&mut *other).await;
    assert!(start.elapsed() >= LEASE * 9 / 10, "not before its time");
    assert_eq!(second.attempt, 2);
    second.lease.ack().await;
    nothing_comes(&mut *pull, LEASE + QUIET).await;
}

async fn kept(bus: SharedBus) {
    let (mut pull, mut other) = (bus.open_queue(CPU).await.unwrap(), bus.open_queue(CPU).await.unwrap());
    publish(&bus, &shard(Target::Cpu, "j", 0)).await;
    let held = take_one(&mut *pull).await;
    for _ in 0..6 {
        nothing_comes(&mut *other, LEASE / 2).await;
        held.lease.renew().await;
    }
    assert_eq!(take_one(&mut *other).await.attempt, 2, "after the last sign of life");
}

async fn dead_letters(bus: SharedBus) {
    let (mut pull, mut dead) =
        (bus.open_queue(CPU).await.unwrap(), bus.open_queue(Queue::DeadLetters).await.unwrap());
    let message = shard(Target::Cpu, "j", 7);
    publish(&bus, &message).await;
    let mut sequence = 0;
    for attempt in 1..=MAX_SHARD_DELIVERIES {
        let delivery = take_one(&mut *pull).await;
        assert_eq!(delivery.attempt, attempt);
        sequence = delivery.sequence;
        delivery.lease.retry(std::time::Duration::ZERO).await;
    }
    nothing_comes(&mut *pull, QUIET).await;
    let letter = take_one(&mut *dead).await;
    assert_eq!(letter.message, message, "as it was published");
    assert_eq!((letter.attempt, letter.sequence), (1, sequence));
    letter.lease.retry(std::time::Duration::ZERO).await;
    let again = take_one(&mut *dead).await;
    assert_eq!((&again.message, again.attempt), (&message, 2));
    again.lease.ack().await;
    nothing_comes(&mut *dead, LEASE + QUIET).await;
    until("given up is not waiting", async || bus.backlog(CPU).await == Ok(0)).await;
}

async fn dead_letters_purged(bus: SharedBus) {
    let (mut pull, mut dead) =
        (bus.open_queue(CPU).await.unwrap(), bus.open_queue(Queue::DeadLetters).await.unwrap());
    for name in ["gone", "here"] {
        publish(&bus, &shard(Target::Cpu, name, 0)).await;
        for _ in 0..MAX_SHARD_DELIVERIES {
            take_one(&mut *pull).await.lease.retry(std::time::Duration::ZERO).await;
        }
        nothing_comes(&mut *pull, QUIET).await;
    }
    for (stream, subject) in topology::job_subjects(&job("gone")) {
        bus.purge(stream, &subject).await.unwrap();
    }
    assert_eq!(
        take_one(&mut *dead).await.message.subject,
        topology::shard_subject(Target::Cpu, &job("here"), id(0))
    );
    nothing_comes(&mut *dead, QUIET).await;
}

async fn targets(bus: SharedBus) {
    let targets = [Target::Cpu, Target::Gpu, Target::Any];
    for target in targets {
        publish(&bus, &shard(target, "j", 0)).await;
    }
    for target in targets {
        until("one each", async || bus.backlog(Queue::Shards(target)).await == Ok(1)).await;
        let mut pull = bus.open_queue(Queue::Shards(target)).await.unwrap();
        let delivery = take_one(&mut *pull).await;
        assert_eq!(delivery.message, shard(target, "j", 0));
        delivery.lease.ack().await;
        nothing_comes(&mut *pull, QUIET).await;
    }
}

async fn purged(bus: SharedBus) {
    let mut pull = bus.open_queue(CPU).await.unwrap();
    publish_all(&bus, (0..10).map(|i| shard(Target::Cpu, "gone", i))).await;
    publish_all(&bus, (0..10).map(|i| shard(Target::Cpu, "here", i))).await;
    let held = take(&mut *pull, 5).await;
    for (stream, subject) in topology::job_subjects(&job("gone")) {
        bus.purge(stream, &subject).await.unwrap();
    }
    held[0].lease.ack().await;
    held[1].lease.retry(std::time::Duration::ZERO).await;
    let rest = take(&mut *pull, 10).await;
    for (i, delivery) in rest.iter().enumerate() {
        assert_eq!(delivery.message, shard(Target::Cpu, "here", i as u64));
        delivery.lease.ack().await;
    }
    nothing_comes(&mut *pull, LEASE + QUIET).await;
    until("nothing is left", async || bus.backlog(CPU).await == Ok(0)).await;
    bus.purge(Stream::Reduce, &topology::reduce_subject(&job("never"))).await.unwrap();
}

async fn sizes(bus: SharedBus) {
    let mut pull = bus.open_queue(Queue::Jobs).await.unwrap();
    let big: Vec<u8> = (0..512 * 1024).map(|i| (i % 251) as u8).collect();
    bus.publish(Message::new(SUBMIT_SUBJECT, big.clone()), "big").await.unwrap();
    bus.publish(Message::new(SUBMIT_SUBJECT, ""), "empty").await.unwrap();
    let taken = take(&mut *pull, 2).await;
    assert_eq!(taken[0].message.payload, big);
    assert!(taken[1].message.payload.is_empty());
    let limit = bus.max_payload();
    let huge = Message::new(SUBMIT_SUBJECT, vec![0; limit + 1]);
    let refused = [
        bus.publish(huge.clone(), "huge").await,
        bus.publish_all(vec![(huge.clone(), "huge".to_owned())]).await,
        bus.broadcast(Message::new("forge.v1.ended.j", huge.payload.clone())).await,
        bus.request(Message::new(topology::API_SUBMIT_SUBJECT, huge.payload), SOON).await.map(drop),
    ];
    for refused in refused {
        assert!(matches!(refused, Err(BusError::TooLarge { size, .. }) if size > limit), "{refused:?}");
    }
}

async fn prepared_twice(bus: SharedBus) {
    publish(&bus, &shard(Target::Cpu, "j", 0)).await;
    bus.prepare().await.unwrap();
    until("nothing is lost", async || bus.backlog(CPU).await == Ok(1)).await;
    assert!(bus.is_connected());
    sleep(QUIET).await;
}
