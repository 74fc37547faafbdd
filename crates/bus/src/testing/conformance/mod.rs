//! What every bus must do, as functions over [`Bus`](crate::Bus): each is given a fresh, prepared bus whose lease is [`LEASE`], and panics
//! where a promise is broken.

mod buckets;
mod queues;
mod replay;
mod wire;

use std::{future::Future, time::Duration};

use forge_contract::{envelope::Target, ids::JobId, shard::ShardId};
use tokio::time::timeout;

pub use self::{buckets::buckets, queues::queues, replay::replay, wire::wire};
use crate::{
    bus::{Delivery, QueueReceiver, SharedBus},
    message::Message,
    topology::{self, TopologySettings},
};

/// Lease time of the buses under test.
pub const LEASE: Duration = Duration::from_secs(1);
/// How long is waited for what should come.
const SOON: Duration = Duration::from_secs(20);
/// How long is waited for what should not.
const QUIET: Duration = Duration::from_millis(300);

/// Settings of the buses under test.
pub fn settings() -> TopologySettings {
    TopologySettings { lease: LEASE, ..TopologySettings::default() }
}

/// Runs one check on a fresh bus, within a time that is ample.
async fn check<R: Future<Output = ()>>(name: &str, bus: SharedBus, check: impl FnOnce(SharedBus) -> R) {
    eprintln!("{name}");
    assert!(timeout(Duration::from_secs(60), check(bus)).await.is_ok(), "{name} did not end");
}

fn job(name: &str) -> JobId {
    name.parse().expect("an identifier")
}

fn id(index: u64) -> ShardId {
    ShardId { height: 0, index }
}

fn shard(target: Target, job_name: &str, index: u64) -> Message {
    Message::new(topology::shard_subject(target, &job(job_name), id(index)), format!("shard {index}"))
        .with_header("Forge-Test", index.to_string())
}

fn result(job_name: &str, index: u64) -> Message {
    Message::new(topology::result_subject(&job(job_name), id(index)), format!("result {index}"))
        .with_header("Forge-Test", index.to_string())
}

async fn publish(bus: &SharedBus, message: &Message) {
    bus.publish(message.clone(), &message.subject).await.expect("published");
}

async fn publish_all(bus: &SharedBus, messages: impl Iterator<Item = Message>) {
    let all = messages.map(|message| (message.clone(), message.subject)).collect();
    bus.publish_all(all).await.expect("published");
}

/// The next `count` deliveries.
async fn take(pull: &mut dyn QueueReceiver, count: usize) -> Vec<Delivery> {
    let mut taken = Vec::new();
    while taken.len() < count {
        let fetched = timeout(SOON, pull.fetch(count - taken.len())).await;
        let fetched = fetched.unwrap_or_else(|_| panic!("{} of {count} came", taken.len())).expect("fetched");
        assert!(!fetched.is_empty() && fetched.len() <= count - taken.len(), "{}", fetched.len());
        taken.extend(fetched);
    }
    taken
}

async fn take_one(pull: &mut dyn QueueReceiver) -> Delivery {
    take(pull, 1).await.remove(0)
}

async fn nothing_comes(pull: &mut dyn QueueReceiver, within: Duration) {
    if let Ok(fetched) = timeout(within, pull.fetch(1)).await {
        panic!("nothing was to come: {fetched:?}");
    }
}

/// Waits until something holds: acknowledgements take a moment to arrive.
async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    for _ in 0..200 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("never: {what}");
}
