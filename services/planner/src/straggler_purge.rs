//! Removes stragglers: messages of a job that reach the bus after an aggregator has removed its
//! messages. These are shards that a planner was just publishing, and results of workers that had
//! not yet received the job's end.

use std::time::Duration;

use forge_bus::{
    Bus, BusError, SharedBus,
    topology::{self, Bucket, Stream},
};
use forge_contract::ids::JobId;
use forge_service::job_records;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// Delay between the end of a job and the purge. By then every worker has received the job's end or
/// has returned the result it was computing.
const STRAGGLER_GRACE_PERIOD: Duration = Duration::from_secs(5);

/// Purges the stragglers of ended jobs in background tasks.
#[derive(Debug, Clone)]
pub struct StragglerPurger {
    bus: SharedBus,
    stop: CancellationToken,
}

impl StragglerPurger {
    /// `stop` cancels every purge that has not run yet.
    pub fn new(bus: SharedBus, stop: CancellationToken) -> Self {
        Self { bus, stop }
    }

    /// Purges an ended job's stragglers after a grace period. A failure is only logged: messages
    /// that stay expire by age.
    pub fn schedule(&self, job: JobId, bucket: Bucket) {
        let (bus, stop) = (self.bus.clone(), self.stop.clone());
        tokio::spawn(stop.run_until_cancelled_owned(async move {
            sleep(STRAGGLER_GRACE_PERIOD).await;
            if let Err(error) = purge_stragglers(bus.as_ref(), &bucket, &job).await {
                tracing::warn!(%job, %error, "purging the job's stragglers failed; they expire by age");
            }
        }));
    }
}

/// Purges all messages of a job except its orders, provided that its record is still terminal: the
/// record may have been removed and the job submitted again.
async fn purge_stragglers(bus: &dyn Bus, bucket: &Bucket, job: &JobId) -> Result<(), BusError> {
    let found = job_records::get(bus, bucket, job).await?;
    if !found.is_some_and(|found| found.record.state.is_terminal()) {
        return Ok(());
    }
    let subjects = topology::job_subjects(job).into_iter();
    for (stream, subject) in subjects.filter(|(stream, _)| *stream != Stream::Reduce) {
        bus.purge(stream, &subject).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use forge_bus::{MemoryBus, Message, topology::Queue};
    use forge_contract::{envelope::Target, job::JobState, shard::ShardId};

    use super::*;
    use crate::submission_record::{SubmissionOrigin, initial_record};

    /// Messages of a job that are left after a purge: shards, verifications, and orders. The job's
    /// record is in `state`, or missing.
    async fn backlog_after_purge(state: Option<JobState>) -> (u64, u64, u64) {
        let (bus, bucket, job) =
            (MemoryBus::new(Default::default()), Bucket::default_jobs(), "j".parse().unwrap());
        bus.prepare().await.unwrap();
        if let Some(state) = state {
            let origin = SubmissionOrigin {
                submitter: Default::default(),
                sequence: 1,
                time: "2026-11-23T04:21:23.123Z".to_owned(),
                trace_id: None,
            };
            let mut record = initial_record(JobId::clone(&job), origin, None);
            record.state = state;
            assert!(job_records::create(bus.as_ref(), &bucket, &record).await.unwrap());
        }
        let shard = ShardId { height: 0, index: 0 };
        for subject in [
            topology::shard_subject(Target::Cpu, &job, shard),
            topology::verification_subject(&job, shard),
            topology::end_subject(&job),
        ] {
            bus.publish(Message::new(subject.clone(), ""), &subject).await.unwrap();
        }
        purge_stragglers(bus.as_ref(), &bucket, &job).await.unwrap();
        let backlog = async |queue| bus.backlog(queue).await.unwrap();
        (
            backlog(Queue::Shards(Target::Cpu)).await,
            backlog(Queue::Verifications).await,
            backlog(Queue::End).await,
        )
    }

    #[tokio::test]
    async fn purge_removes_everything_but_orders_of_a_terminal_job() {
        assert_eq!(backlog_after_purge(Some(JobState::Cancelled)).await, (0, 0, 1));
    }

    #[tokio::test]
    async fn purge_leaves_jobs_alone_that_are_running_or_unrecorded() {
        assert_eq!(backlog_after_purge(Some(JobState::Running)).await, (1, 1, 1));
        assert_eq!(backlog_after_purge(None).await, (1, 1, 1));
    }
}
