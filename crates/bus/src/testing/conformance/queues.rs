//! Guarantees of work queues.

use std::{collections::BTreeSet, time::Duration};

use forge_contract::envelope::Target;
use futures_util::future::join_all;
use tokio::time::{Instant, sleep, timeout};

use super::fixture::{
    EVENT_TIMEOUT, LEASE, QUIET_PERIOD, assert_no_delivery, fetch, fetch_one, job_uid, publish, publish_all,
    run_check, shard_id, shard_message, wait_until,
};
use crate::{
    bus::{DeliveryProgress, PublishOutcome, SharedBus},
    error::BusError,
    message::Message,
    topology::{self, JobLength, MAX_SHARD_DELIVERIES, Queue, SUBMIT_SUBJECT, Stream},
};

const CPU_SHARDS: Queue = Queue::Shards(Target::Cpu, JobLength::Short);

/// Checks the work queues of buses from `make_bus`.
pub async fn check_queues(make_bus: impl AsyncFn() -> SharedBus) {
    run_check("messages arrive in order and unchanged", make_bus().await, messages_arrive).await;
    run_check("publishers do not block each other", make_bus().await, concurrent_publishers).await;
    run_check("message ids deduplicate", make_bus().await, deduplication).await;
    run_check("a dropped fetch loses no message", make_bus().await, dropped_fetch).await;
    run_check("a message goes to one receiver", make_bus().await, exclusive_delivery).await;
    run_check("acknowledged messages are removed", make_bus().await, acknowledgement).await;
    run_check("retries arrive after their delay", make_bus().await, retry_delay).await;
    run_check("expired leases cause redelivery", make_bus().await, lease_expiry).await;
    run_check("renewal extends a lease", make_bus().await, lease_renewal).await;
    run_check("exhausted shards become dead letters", make_bus().await, dead_letters).await;
    run_check("purged dead letters are not delivered", make_bus().await, purged_dead_letters).await;
    run_check("the progress of deliveries is known", make_bus().await, delivery_progress).await;
    run_check("targets have separate queues", make_bus().await, separate_targets).await;
    run_check("a purge removes waiting messages", make_bus().await, purge).await;
    run_check("a purge leaves other jobs alone", make_bus().await, purge_beside_other_jobs).await;
    run_check("payload limits are enforced", make_bus().await, payload_limits).await;
    run_check("preparing twice keeps messages", make_bus().await, repeated_preparation).await;
}

async fn messages_arrive(bus: SharedBus) {
    let mut receiver = bus.open_queue(CPU_SHARDS).await.unwrap();
    publish_all(&bus, (0..100).map(|i| shard_message(Target::Cpu, "j", i))).await;
    let deliveries = fetch(&mut *receiver, 100).await;
    for (i, delivery) in deliveries.iter().enumerate() {
        assert_eq!(delivery.message, shard_message(Target::Cpu, "j", i as u64), "in order, unchanged");
        assert_eq!(delivery.attempt, 1);
        assert_eq!(delivery.sequence, deliveries[0].sequence + i as u64);
    }
    wait_until("the backlog counts in-flight messages", async || bus.backlog(CPU_SHARDS).await == Ok(100))
        .await;
    let unknown_subject = bus.publish(Message::new("elsewhere", ""), "1").await;
    assert!(matches!(unknown_subject, Err(BusError::Unusable(_))), "{unknown_subject:?}");
}

async fn delivery_progress(bus: SharedBus) {
    let mut receiver = bus.open_queue(CPU_SHARDS).await.unwrap();
    let is_at = async |stored_to, delivered_to| {
        wait_until("the progress is as expected", async || {
            bus.delivery_progress(CPU_SHARDS).await == Ok(DeliveryProgress { stored_to, delivered_to })
        })
        .await;
    };
    is_at(0, 0).await;
    publish_all(&bus, (0..3).map(|i| shard_message(Target::Cpu, "j", i))).await;
    publish(&bus, &shard_message(Target::Gpu, "j", 3)).await;
    let first = fetch_one(&mut *receiver).await;
    is_at(4, 1).await;
    // A message that was returned has been delivered all the same.
    first.lease.retry(Duration::ZERO).await;
    fetch(&mut *receiver, 3).await;
    is_at(4, 4).await;
}

async fn concurrent_publishers(bus: SharedBus) {
    let publishers = (0..40).map(|number| {
        let (bus, job) = (bus.clone(), format!("j{number}"));
        async move { publish_all(&bus, (0..400).map(|i| shard_message(Target::Cpu, &job, i))).await }
    });
    join_all(publishers).await;
    wait_until("all are stored", async || bus.backlog(CPU_SHARDS).await == Ok(40 * 400)).await;
}

async fn deduplication(bus: SharedBus) {
    let publish = async |id| bus.publish_once(Message::new(SUBMIT_SUBJECT, "a"), id).await;
    assert_eq!(publish("same").await, Ok(PublishOutcome::Stored));
    assert_eq!(publish("same").await, Ok(PublishOutcome::Duplicate));
    bus.publish(Message::new(SUBMIT_SUBJECT, "a"), "same").await.expect("a duplicate is no error");
    let other = (Message::new(SUBMIT_SUBJECT, "b"), "other".to_owned());
    let same = (Message::new(SUBMIT_SUBJECT, "c"), "same".to_owned());
    bus.publish_all(vec![other, same]).await.unwrap();
    wait_until("two are stored", async || bus.backlog(Queue::Jobs).await == Ok(2)).await;
    let mut receiver = bus.open_queue(Queue::Jobs).await.unwrap();
    let deliveries = fetch(&mut *receiver, 2).await;
    assert_eq!(deliveries[0].message.payload, "a");
    assert_eq!(deliveries[1].message.payload, "b");
    deliveries[0].lease.ack().await;
    wait_until("one is left", async || bus.backlog(Queue::Jobs).await == Ok(1)).await;
    bus.publish(Message::new(SUBMIT_SUBJECT, "d"), "same").await.unwrap();
    sleep(QUIET_PERIOD).await;
    assert_eq!(bus.backlog(Queue::Jobs).await, Ok(1), "ids outlive the acknowledgement of their message");
}

async fn dropped_fetch(bus: SharedBus) {
    let mut receiver = bus.open_queue(CPU_SHARDS).await.unwrap();
    for i in 0..20 {
        let message = shard_message(Target::Cpu, "j", i);
        let fetching = timeout(LEASE / 50, async {
            fetch_one(&mut *receiver).await.lease.ack().await;
        });
        let ((), _) = tokio::join!(publish(&bus, &message), fetching);
    }
    wait_until("all are acknowledged", async || {
        if let Ok(Ok(fetched)) = timeout(LEASE / 10, receiver.fetch(7)).await {
            for delivery in fetched {
                delivery.lease.ack().await;
            }
        }
        bus.backlog(CPU_SHARDS).await == Ok(0)
    })
    .await;
}

async fn exclusive_delivery(bus: SharedBus) {
    let mut receivers =
        [bus.open_queue(CPU_SHARDS).await.unwrap(), bus.open_queue(CPU_SHARDS).await.unwrap()];
    publish_all(&bus, (0..60).map(|i| shard_message(Target::Cpu, "j", i))).await;
    let mut sequences = BTreeSet::new();
    for round in 0..60 {
        let delivery = fetch_one(&mut *receivers[round % 2]).await;
        assert!(sequences.insert(delivery.sequence), "delivered to both receivers");
        delivery.lease.ack().await;
    }
    // While both receivers wait, a message goes to only one of them.
    let [first, second] = &mut receivers;
    let message = shard_message(Target::Cpu, "j", 60);
    let (first_fetch, second_fetch, ()) = tokio::join!(
        timeout(LEASE / 2, first.fetch(1)),
        timeout(LEASE / 2, second.fetch(1)),
        publish(&bus, &message),
    );
    assert!(first_fetch.is_ok() != second_fetch.is_ok(), "{first_fetch:?} {second_fetch:?}");
}

async fn acknowledgement(bus: SharedBus) {
    let mut receiver = bus.open_queue(CPU_SHARDS).await.unwrap();
    publish_all(&bus, (0..10).map(|i| shard_message(Target::Cpu, "j", i))).await;
    for delivery in fetch(&mut *receiver, 10).await {
        delivery.lease.ack().await;
    }
    wait_until("the backlog is empty", async || bus.backlog(CPU_SHARDS).await == Ok(0)).await;
    assert_no_delivery(&mut *receiver, LEASE + QUIET_PERIOD).await;
}

async fn retry_delay(bus: SharedBus) {
    let mut receiver = bus.open_queue(CPU_SHARDS).await.unwrap();
    publish(&bus, &shard_message(Target::Cpu, "j", 0)).await;
    let first = fetch_one(&mut *receiver).await;
    first.lease.retry(LEASE * 2).await;
    assert_no_delivery(&mut *receiver, LEASE + QUIET_PERIOD).await;
    let second = fetch_one(&mut *receiver).await;
    assert_eq!((second.attempt, second.sequence), (2, first.sequence));
    let start = Instant::now();
    second.lease.retry(Duration::ZERO).await;
    let third = fetch_one(&mut *receiver).await;
    assert_eq!(third.attempt, 3);
    assert!(start.elapsed() < LEASE, "without delay");
}

async fn lease_expiry(bus: SharedBus) {
    let (mut receiver, mut other) =
        (bus.open_queue(CPU_SHARDS).await.unwrap(), bus.open_queue(CPU_SHARDS).await.unwrap());
    publish(&bus, &shard_message(Target::Cpu, "j", 0)).await;
    let start = Instant::now();
    let first = fetch_one(&mut *receiver).await;
    drop(first);
    let second = fetch_one(&mut *other).await;
    assert!(start.elapsed() >= LEASE * 9 / 10, "not before the lease expires");
    assert_eq!(second.attempt, 2);
    second.lease.ack().await;
    assert_no_delivery(&mut *receiver, LEASE + QUIET_PERIOD).await;
}

async fn lease_renewal(bus: SharedBus) {
    let (mut receiver, mut other) =
        (bus.open_queue(CPU_SHARDS).await.unwrap(), bus.open_queue(CPU_SHARDS).await.unwrap());
    publish(&bus, &shard_message(Target::Cpu, "j", 0)).await;
    let leased = fetch_one(&mut *receiver).await;
    for _ in 0..6 {
        assert_no_delivery(&mut *other, LEASE / 2).await;
        leased.lease.renew().await;
    }
    assert_eq!(fetch_one(&mut *other).await.attempt, 2, "redelivered after the last renewal");
}

async fn dead_letters(bus: SharedBus) {
    let (mut receiver, mut dead_letters) =
        (bus.open_queue(CPU_SHARDS).await.unwrap(), bus.open_queue(Queue::DeadLetters).await.unwrap());
    let message = shard_message(Target::Cpu, "j", 7);
    publish(&bus, &message).await;
    let mut sequence = 0;
    for attempt in 1..=MAX_SHARD_DELIVERIES {
        let delivery = fetch_one(&mut *receiver).await;
        assert_eq!(delivery.attempt, attempt);
        sequence = delivery.sequence;
        delivery.lease.retry(Duration::ZERO).await;
    }
    assert_no_delivery(&mut *receiver, QUIET_PERIOD).await;
    let dead_letter = fetch_one(&mut *dead_letters).await;
    assert_eq!(dead_letter.message, message, "as published");
    assert_eq!((dead_letter.attempt, dead_letter.sequence), (1, sequence));
    dead_letter.lease.retry(Duration::ZERO).await;
    let redelivered = fetch_one(&mut *dead_letters).await;
    assert_eq!((&redelivered.message, redelivered.attempt), (&message, 2));
    redelivered.lease.ack().await;
    assert_no_delivery(&mut *dead_letters, LEASE + QUIET_PERIOD).await;
    wait_until("a dead letter is not part of the backlog", async || bus.backlog(CPU_SHARDS).await == Ok(0))
        .await;
}

async fn purged_dead_letters(bus: SharedBus) {
    let (mut receiver, mut dead_letters) =
        (bus.open_queue(CPU_SHARDS).await.unwrap(), bus.open_queue(Queue::DeadLetters).await.unwrap());
    for name in ["purged", "kept"] {
        publish(&bus, &shard_message(Target::Cpu, name, 0)).await;
        for _ in 0..MAX_SHARD_DELIVERIES {
            fetch_one(&mut *receiver).await.lease.retry(Duration::ZERO).await;
        }
        assert_no_delivery(&mut *receiver, QUIET_PERIOD).await;
    }
    for (stream, subject) in topology::job_subjects(job_uid("purged")) {
        bus.purge(stream, &subject).await.unwrap();
    }
    assert_eq!(
        fetch_one(&mut *dead_letters).await.message.subject,
        topology::shard_subject(Target::Cpu, JobLength::Short, job_uid("kept"), shard_id(0))
    );
    assert_no_delivery(&mut *dead_letters, QUIET_PERIOD).await;
}

async fn separate_targets(bus: SharedBus) {
    let targets = [Target::Cpu, Target::Gpu, Target::Any];
    for target in targets {
        publish(&bus, &shard_message(target, "j", 0)).await;
    }
    for target in targets {
        wait_until("each queue holds one", async || {
            bus.backlog(Queue::Shards(target, JobLength::Short)).await == Ok(1)
        })
        .await;
        let mut receiver = bus.open_queue(Queue::Shards(target, JobLength::Short)).await.unwrap();
        let delivery = fetch_one(&mut *receiver).await;
        assert_eq!(delivery.message, shard_message(target, "j", 0));
        delivery.lease.ack().await;
        assert_no_delivery(&mut *receiver, QUIET_PERIOD).await;
    }
}

async fn purge(bus: SharedBus) {
    let mut receiver = bus.open_queue(CPU_SHARDS).await.unwrap();
    publish_all(&bus, (0..10).map(|i| shard_message(Target::Cpu, "purged", i))).await;
    publish_all(&bus, (0..10).map(|i| shard_message(Target::Cpu, "kept", i))).await;
    let leased = fetch(&mut *receiver, 5).await;
    for (stream, subject) in topology::job_subjects(job_uid("purged")) {
        bus.purge(stream, &subject).await.unwrap();
    }
    leased[0].lease.ack().await;
    leased[1].lease.retry(Duration::ZERO).await;
    let remaining = fetch(&mut *receiver, 10).await;
    for (i, delivery) in remaining.iter().enumerate() {
        assert_eq!(delivery.message, shard_message(Target::Cpu, "kept", i as u64));
        delivery.lease.ack().await;
    }
    assert_no_delivery(&mut *receiver, LEASE + QUIET_PERIOD).await;
    wait_until("the backlog is empty", async || bus.backlog(CPU_SHARDS).await == Ok(0)).await;
    bus.purge(Stream::Reduce, &topology::reduce_subject(job_uid("never"))).await.unwrap();
}

/// A purge forgets no message that receivers hold of other jobs: it is delivered again when its
/// lease ends. A server's purge by subject may forget it.
async fn purge_beside_other_jobs(bus: SharedBus) {
    const ROUNDS: u64 = 30;
    const QUEUE: Queue = Queue::Verifications(JobLength::Short);
    let message = |job: &str, index| {
        let subject = topology::verification_subject(JobLength::Short, job_uid(job), shard_id(index));
        Message::new(subject, "")
    };
    let mut receiver = bus.open_queue(QUEUE).await.unwrap();
    let mut held = BTreeSet::new();
    for round in 0..ROUNDS {
        let purged = format!("purged {round}");
        for index in 5 * round..5 * (round + 1) {
            publish(&bus, &message("kept", index)).await;
            publish(&bus, &message(&purged, index)).await;
        }
        // Receivers acknowledge some messages of the first half, and hold the others.
        for (position, delivery) in fetch(&mut *receiver, 5).await.into_iter().enumerate() {
            let is_kept = delivery.message.subject.contains(&job_uid("kept").to_string());
            if is_kept && (position as u64 + round).is_multiple_of(3) {
                delivery.lease.ack().await;
            } else if is_kept {
                held.insert(delivery.message.subject);
            }
        }
        for (stream, subject) in topology::job_subjects(job_uid(&purged)) {
            bus.purge(stream, &subject).await.unwrap();
        }
        let counts = bus.stream_subjects(Stream::Verifications, ">", 0).await.unwrap().counts;
        let is_left = |subject: &String| subject.contains(&job_uid(&purged).to_string());
        assert!(!counts.keys().any(is_left), "round {round}: {counts:?}");
    }
    let mut waiting: BTreeSet<_> =
        bus.stream_subjects(Stream::Verifications, ">", 0).await.unwrap().counts.into_keys().collect();
    assert!(held.is_subset(&waiting), "a purge removed messages of another job");
    while !waiting.is_empty() {
        let fetched = timeout(10 * LEASE, receiver.fetch(100)).await;
        let fetched = fetched.unwrap_or_else(|_| panic!("never delivered again: {waiting:?}")).unwrap();
        for delivery in fetched {
            waiting.remove(&delivery.message.subject);
            delivery.lease.ack().await;
        }
    }
    wait_until("the backlog is empty", async || bus.backlog(QUEUE).await == Ok(0)).await;
}

async fn payload_limits(bus: SharedBus) {
    let mut receiver = bus.open_queue(Queue::Jobs).await.unwrap();
    let large: Vec<u8> = (0..512 * 1024).map(|i| (i % 251) as u8).collect();
    bus.publish(Message::new(SUBMIT_SUBJECT, large.clone()), "large").await.unwrap();
    bus.publish(Message::new(SUBMIT_SUBJECT, ""), "empty").await.unwrap();
    let deliveries = fetch(&mut *receiver, 2).await;
    assert_eq!(deliveries[0].message.payload, large);
    assert!(deliveries[1].message.payload.is_empty());
    let limit = bus.max_payload();
    let oversized = Message::new(SUBMIT_SUBJECT, vec![0; limit + 1]);
    let results = [
        bus.publish(oversized.clone(), "oversized").await,
        bus.publish_all(vec![(oversized.clone(), "oversized".to_owned())]).await,
        bus.broadcast(Message::new("forge.v1.ended.j", oversized.payload.clone())).await,
        bus.request(Message::new(topology::API_SUBMIT_SUBJECT, oversized.payload), EVENT_TIMEOUT)
            .await
            .map(drop),
    ];
    for result in results {
        assert!(matches!(result, Err(BusError::TooLarge { size, .. }) if size > limit), "{result:?}");
    }
}

async fn repeated_preparation(bus: SharedBus) {
    publish(&bus, &shard_message(Target::Cpu, "j", 0)).await;
    bus.prepare().await.unwrap();
    wait_until("the message is still there", async || bus.backlog(CPU_SHARDS).await == Ok(1)).await;
    assert!(bus.is_connected());
}
