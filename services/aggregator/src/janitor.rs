//! Purging messages of jobs that are not being reduced. Workers may publish below any job's uid, so
//! results of invented or ended jobs would fill their stream otherwise. A planner, a verifier or an
//! aggregator that was cut off or frozen may publish long after the job has ended, and a shard that
//! has become a dead letter then would stay in its stream.
//!
//! NATS lets a worker publish to a subject with a token `*` or `>`, which it stores literally. As
//! the filter of a purge, such a subject matches the results of honest workers. So messages whose
//! subjects name no job and shard are removed one by one.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use forge_bus::{
    BusError, SharedBus, StoredMessage, SubjectPage,
    topology::{self, Stream},
};
use forge_contract::ids::JobUid;
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// The streams whose messages are purged.
const STREAMS: [Stream; 4] = [Stream::Shards, Stream::Verifications, Stream::Results, Stream::Verdicts];
/// Interval between two passes.
const INTERVAL: Duration = Duration::from_secs(30);
/// Messages or jobs whose removal is requested at the same time. One after another, a worker
/// would invent jobs faster than they are purged.
const CONCURRENT_REMOVALS: usize = 64;

/// Numbers of stored messages, by job and stream.
type MessageCounts = BTreeMap<JobUid, BTreeMap<Stream, u64>>;

/// Purges messages of unknown jobs until `stop` is cancelled. Every aggregator does so, which needs
/// no agreement between them.
pub(crate) async fn purge_unknown_jobs(bus: SharedBus, stop: CancellationToken) {
    let mut suspects = BTreeSet::new();
    while stop.run_until_cancelled(sleep(INTERVAL)).await.is_some() {
        let Some(pass) = stop.run_until_cancelled(purge(&bus, &suspects)).await else { return };
        match pass {
            Ok(unknown) => suspects = unknown,
            Err(error) => {
                tracing::warn!(%error, "purging messages of unknown jobs failed; retrying in {INTERVAL:?}")
            }
        }
    }
}

/// Purges the messages of jobs that have no order to reduce, and were `suspects` in the pass
/// before: the order of a job that has just begun may be missing from one look. Returns the
/// suspects for the next pass. Results whose subject names no job and shard are removed at once.
async fn purge(bus: &SharedBus, suspects: &BTreeSet<JobUid>) -> Result<BTreeSet<JobUid>, BusError> {
    let (messages, pools) = count_messages(bus).await?;
    for pool in &pools {
        let removed = remove_malformed(bus, pool).await?;
        tracing::warn!(pool, removed, "removed results whose subjects name no job and shard");
    }
    let orders = if messages.is_empty() { BTreeSet::new() } else { jobs_with_orders(bus).await? };
    let without_order = messages.into_iter().filter(|(uid, _)| !orders.contains(uid));
    let (to_purge, unknown): (Vec<_>, Vec<_>) = without_order.partition(|(uid, _)| suspects.contains(uid));
    let purges = to_purge.into_iter().map(|(uid, counts)| async move {
        let subjects = topology::job_subjects(uid).into_iter();
        for (stream, subject) in subjects.filter(|(stream, _)| counts.contains_key(stream)) {
            bus.purge(stream, &subject).await?;
        }
        let messages = counts.values().sum::<u64>();
        tracing::warn!(%uid, messages, "purged messages of a job that is not being reduced");
        Ok(())
    });
    stream::iter(purges).buffer_unordered(CONCURRENT_REMOVALS).try_collect::<()>().await?;
    Ok(unknown.into_iter().map(|(uid, _)| uid).collect())
}

/// Counts the stored messages of all jobs. Returns, too, the pools that have published results to
/// subjects which name no job and shard.
async fn count_messages(bus: &SharedBus) -> Result<(MessageCounts, BTreeSet<String>), BusError> {
    let (mut counts, mut pools) = (MessageCounts::new(), BTreeSet::new());
    for stream in STREAMS {
        for filter in stream.subjects() {
            visit_subjects(bus, stream, filter, |subject, count| {
                match topology::parse_job_of_message(&subject) {
                    Some(uid) => *counts.entry(uid).or_default().entry(stream).or_default() += count,
                    None if stream == Stream::Results => {
                        pools.extend(subject.split('.').nth(3).map(str::to_owned));
                    }
                    None => {}
                }
            })
            .await?;
        }
    }
    Ok((counts, pools))
}

/// Removes a pool's messages whose subjects name no job and shard. Returns their number.
async fn remove_malformed(bus: &SharedBus, pool: &str) -> Result<usize, BusError> {
    let mut stored = bus.replay(Stream::Results, vec![format!("forge.v1.results.{pool}.>")]).await?;
    let mut malformed = Vec::new();
    while let Some(StoredMessage { sequence, message }) = stored.next_stored().await {
        if topology::parse_result_subject(&message.subject).is_none() {
            malformed.push(sequence);
        }
    }
    let removals: Vec<_> = malformed.iter().map(|&sequence| bus.remove(Stream::Results, sequence)).collect();
    stream::iter(removals).buffer_unordered(CONCURRENT_REMOVALS).try_collect::<()>().await?;
    Ok(malformed.len())
}

/// Jobs that are reduced or wait for it.
async fn jobs_with_orders(bus: &SharedBus) -> Result<BTreeSet<JobUid>, BusError> {
    let mut jobs = BTreeSet::new();
    visit_subjects(bus, Stream::Reduce, Stream::Reduce.subjects()[0], |subject, _| {
        jobs.extend(topology::parse_reduce_subject(&subject));
    })
    .await?;
    Ok(jobs)
}

/// Visits the subjects of a stream that match `filter`, with the numbers of their stored messages.
async fn visit_subjects(
    bus: &SharedBus,
    stream: Stream,
    filter: &str,
    mut visit: impl FnMut(String, u64) + Send,
) -> Result<(), BusError> {
    let mut offset = 0;
    loop {
        let SubjectPage { counts, total } = bus.stream_subjects(stream, filter, offset).await?;
        offset += counts.len();
        let is_last = counts.is_empty() || offset >= total;
        counts.into_iter().for_each(|(subject, count)| visit(subject, count));
        if is_last {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use forge_bus::{
        MemoryBus, Message,
        testing::{BusFault, BusOperation, FaultyBus},
        topology::{JobLength, TopologySettings},
    };
    use forge_contract::{envelope::Target, ids::PoolName, shard::ShardId};
    use tokio::time::Instant;

    use super::*;

    const SHARD: ShardId = ShardId { height: 0, index: 0 };

    #[tokio::test]
    async fn messages_of_unknown_jobs_are_purged_at_the_second_look_and_malformed_results_at_once() {
        let bus: SharedBus = MemoryBus::new(TopologySettings::default());
        bus.prepare().await.unwrap();
        let (known, unknown) = (JobUid([1; 16]), JobUid([2; 16]));
        for uid in [known, unknown] {
            let subjects = [
                topology::shard_subject(Target::Any, JobLength::Short, uid, SHARD),
                topology::verification_subject(JobLength::Long, uid, SHARD),
                topology::result_subject(&PoolName::default(), uid, SHARD),
                topology::verdict_subject(uid, SHARD),
                topology::outcomes_subject(uid),
            ];
            for subject in subjects {
                bus.publish(Message::new(subject.clone(), "a message"), &subject).await.unwrap();
            }
        }
        bus.publish(Message::new(topology::reduce_subject(known), "an order"), "order").await.unwrap();
        // As filters, some of these subjects match the results of known jobs.
        for token in ["x", "*.*", "*.>", ">", "*.0-0", "02020202020202020202020202020202.*", "é.0-0"] {
            let subject = format!("forge.v1.results.default.{token}");
            bus.publish(Message::new(subject, "junk"), token).await.unwrap();
        }
        let suspects = purge(&bus, &BTreeSet::new()).await.unwrap();
        assert_eq!(suspects, BTreeSet::from([unknown]));
        let of_job = || STREAMS.map(|stream| (stream, 1 + u64::from(stream == Stream::Verdicts))).into();
        let counted = count_messages(&bus).await.unwrap();
        assert_eq!(counted, (BTreeMap::from([(known, of_job()), (unknown, of_job())]), BTreeSet::new()));
        assert!(purge(&bus, &suspects).await.unwrap().is_empty());
        assert_eq!(count_messages(&bus).await.unwrap().0, BTreeMap::from([(known, of_job())]));
    }

    #[tokio::test(start_paused = true)]
    async fn messages_of_many_unknown_jobs_are_purged_concurrently() {
        let slow = |operation: BusOperation<'_>| match operation {
            BusOperation::Purge { .. } => BusFault::Delay(Duration::from_secs(1)),
            _ => BusFault::None,
        };
        let bus: SharedBus = Arc::new(FaultyBus::new(MemoryBus::new(TopologySettings::default()), slow));
        bus.prepare().await.unwrap();
        for number in 0..10 * CONCURRENT_REMOVALS {
            let uid = JobUid((number as u128).to_be_bytes());
            let subject = topology::result_subject(&PoolName::default(), uid, SHARD);
            bus.publish(Message::new(subject, "a result"), &uid.to_string()).await.unwrap();
        }
        let suspects = purge(&bus, &BTreeSet::new()).await.unwrap();
        assert_eq!(suspects.len(), 10 * CONCURRENT_REMOVALS);
        let started = Instant::now();
        assert!(purge(&bus, &suspects).await.unwrap().is_empty());
        assert!(count_messages(&bus).await.unwrap().0.is_empty());
        // One purge a job, of the only stream that has messages of it.
        assert_eq!(started.elapsed(), Duration::from_secs(10));
    }
}
