//! Messages, timeouts and helpers that the checks share.

use std::{future::Future, time::Duration};

use forge_contract::{
    digest::Digest,
    envelope::Target,
    ids::{JobUid, PoolName},
    shard::ShardId,
};
use tokio::time::{sleep, timeout};

use crate::{
    bus::{Delivery, QueueReceiver, SharedBus},
    message::Message,
    topology::{self, JobLength, TopologySettings},
};

/// Lease of the queues under test.
pub const LEASE: Duration = Duration::from_secs(1);
/// Bound on waiting for an event that must happen.
pub(super) const EVENT_TIMEOUT: Duration = Duration::from_secs(20);
/// Period in which an event that must not happen would be noticed.
pub(super) const QUIET_PERIOD: Duration = Duration::from_millis(300);
/// Bound on one check.
const CHECK_TIMEOUT: Duration = Duration::from_secs(60);

/// Returns the topology settings of the buses under test.
pub fn settings() -> TopologySettings {
    TopologySettings { lease: LEASE, storage_bytes: 256 << 20, ..TopologySettings::default() }
}

/// Runs one check on a fresh bus.
pub(super) async fn run_check<R: Future<Output = ()>>(
    name: &str,
    bus: SharedBus,
    check: impl FnOnce(SharedBus) -> R,
) {
    eprintln!("{name}");
    assert!(timeout(CHECK_TIMEOUT, check(bus)).await.is_ok(), "{name}: not done after {CHECK_TIMEOUT:?}");
}

/// The uid of the job with this name.
pub(super) fn job_uid(name: &str) -> JobUid {
    let digest = Digest::hash_parts(&[name.as_bytes()]);
    JobUid(digest.0[..16].try_into().expect("a digest has 32 bytes"))
}

pub(super) fn shard_id(index: u64) -> ShardId {
    ShardId { height: 0, index }
}

pub(super) fn shard_message(target: Target, job: &str, index: u64) -> Message {
    let subject = topology::shard_subject(target, JobLength::Short, job_uid(job), shard_id(index));
    Message::new(subject, format!("shard {index}")).with_header("Forge-Test", index.to_string())
}

pub(super) fn result_message(job: &str, index: u64) -> Message {
    let subject = topology::result_subject(&PoolName::default(), job_uid(job), shard_id(index));
    Message::new(subject, format!("result {index}")).with_header("Forge-Test", index.to_string())
}

pub(super) fn verdict_message(job: &str, index: u64) -> Message {
    Message::new(topology::verdict_subject(job_uid(job), shard_id(index)), format!("verdict {index}"))
}

/// Publishes a message under its subject as the id.
pub(super) async fn publish(bus: &SharedBus, message: &Message) {
    bus.publish(message.clone(), &message.subject).await.expect("publishing succeeds");
}

/// Publishes messages, each under its subject as the id.
pub(super) async fn publish_all(bus: &SharedBus, messages: impl Iterator<Item = Message>) {
    let messages = messages.map(|message| (message.clone(), message.subject)).collect();
    bus.publish_all(messages).await.expect("publishing succeeds");
}

/// Fetches exactly `count` deliveries.
pub(super) async fn fetch(receiver: &mut dyn QueueReceiver, count: usize) -> Vec<Delivery> {
    let mut deliveries = Vec::new();
    while deliveries.len() < count {
        let missing = count - deliveries.len();
        let fetched = timeout(EVENT_TIMEOUT, receiver.fetch(missing)).await;
        let fetched = fetched.unwrap_or_else(|_| panic!("{missing} of {count} messages did not arrive"));
        let fetched = fetched.expect("fetching succeeds");
        assert!(!fetched.is_empty() && fetched.len() <= missing, "{} of at most {missing}", fetched.len());
        deliveries.extend(fetched);
    }
    deliveries
}

pub(super) async fn fetch_one(receiver: &mut dyn QueueReceiver) -> Delivery {
    fetch(receiver, 1).await.remove(0)
}

pub(super) async fn assert_no_delivery(receiver: &mut dyn QueueReceiver, period: Duration) {
    if let Ok(fetched) = timeout(period, receiver.fetch(1)).await {
        panic!("unexpected delivery: {fetched:?}");
    }
}

/// Polls a condition until it holds: settlements take a moment to reach the server.
pub(super) async fn wait_until(condition: &str, mut holds: impl AsyncFnMut() -> bool) {
    for _ in 0..200 {
        if holds().await {
            return;
        }
        sleep(Duration::from_millis(50)).await;
    }
    panic!("never true: {condition}");
}
