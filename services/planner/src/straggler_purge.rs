//! Removes stragglers: messages of a job that reach the bus after an aggregator has removed its
//! messages. These are shards that a planner was just publishing, and results of workers that had
//! not yet received the job's end.
//!
//! The job's submission is the reminder of the purge: it stays on the bus until the purge is done,
//! so that another planner purges if this one dies.

use std::time::Duration;

use forge_bus::{
    Bus, BusError,
    topology::{self, Bucket},
};
use forge_contract::ids::{JobId, JobUid};
use forge_service::{Settlement, job_records};

/// Delay between the end of a job and the purge. By then every worker has received the job's end or
/// has returned the result it was computing.
pub const STRAGGLER_GRACE_PERIOD: Duration = Duration::from_secs(5);

/// Purges all messages of a job that has ended, except its orders, and returns the settlement of
/// its submission: retried until the grace period has passed, then acknowledged. Orders stay,
/// because an aggregator that has not finished its cleanup resumes it by them.
///
/// # Errors
/// Returns any error from reading the record or from the purge. Some messages may be left then.
pub async fn purge_stragglers(
    bus: &dyn Bus,
    bucket: &Bucket,
    job: &JobId,
    uid: JobUid,
) -> Result<Settlement, BusError> {
    // A record that was removed, or replaced by that of a later submission, no longer tells when
    // the job ended. Its messages have a uid of their own, so they are purged at once.
    let found = job_records::get(bus, bucket, job).await?.filter(|found| found.record.uid == uid);
    let rest = match found {
        // A terminal record is never written again, so its age is the time since the end.
        Some(found) if found.record.state.is_terminal() => STRAGGLER_GRACE_PERIOD.saturating_sub(found.age),
        // A replica that does not know the job's end yet.
        Some(_) => STRAGGLER_GRACE_PERIOD,
        None => Duration::ZERO,
    };
    if !rest.is_zero() {
        return Ok(Settlement::Retry(rest));
    }
    for (stream, subject) in topology::job_subjects(uid) {
        bus.purge(stream, &subject).await?;
    }
    Ok(Settlement::Ack)
}

#[cfg(test)]
mod tests {
    use forge_bus::{
        MemoryBus, Message,
        topology::{JobLength, Queue},
    };
    use forge_contract::{envelope::Target, job::JobState, shard::ShardId};
    use tokio::time::advance;

    use super::*;
    use crate::submission_record::{SubmissionOrigin, initial_record};

    const UID: JobUid = JobUid([1; 16]);

    /// The settlement of a purge, and the messages of the job that are left after it: shards,
    /// verifications, and orders. `record` is the record under the job's id: its uid, its state and
    /// the time since its last update.
    async fn purge(record: Option<(JobUid, JobState, Duration)>) -> (Settlement, [u64; 3]) {
        let (bus, bucket, job) =
            (MemoryBus::new(Default::default()), Bucket::default_jobs(), "j".parse().unwrap());
        bus.prepare().await.unwrap();
        if let Some((uid, state, age)) = record {
            let origin = SubmissionOrigin {
                submitter: Default::default(),
                sequence: 1,
                attempt: 1,
                time: "2026-11-23T04:21:23.123Z".to_owned(),
                trace_id: None,
            };
            let mut record = initial_record(JobId::clone(&job), uid, origin, None);
            record.state = state;
            assert!(job_records::create(bus.as_ref(), &bucket, &record).await.unwrap());
            advance(age).await;
        }
        let shard = ShardId { height: 0, index: 0 };
        for subject in [
            topology::shard_subject(Target::Cpu, JobLength::Short, UID, shard),
            topology::verification_subject(JobLength::Short, UID, shard),
            topology::end_subject(UID),
        ] {
            bus.publish(Message::new(subject.clone(), ""), &subject).await.unwrap();
        }
        let settlement = purge_stragglers(bus.as_ref(), &bucket, &job, UID).await.unwrap();
        let backlog = async |queue| bus.backlog(queue).await.unwrap();
        let left = [
            backlog(Queue::Shards(Target::Cpu, JobLength::Short)).await,
            backlog(Queue::Verifications(JobLength::Short)).await,
            backlog(Queue::End).await,
        ];
        (settlement, left)
    }

    #[tokio::test(start_paused = true)]
    async fn purge_removes_everything_but_orders_of_a_terminal_job() {
        let ended = (UID, JobState::Cancelled, STRAGGLER_GRACE_PERIOD);
        assert_eq!(purge(Some(ended)).await, (Settlement::Ack, [0, 0, 1]));
    }

    #[tokio::test(start_paused = true)]
    async fn purge_is_retried_until_the_grace_period_has_passed() {
        let second = Duration::from_secs(1);
        for (state, age, rest) in [
            (JobState::Cancelled, second, STRAGGLER_GRACE_PERIOD - second),
            (JobState::Running, 1000 * second, STRAGGLER_GRACE_PERIOD),
        ] {
            assert_eq!(purge(Some((UID, state, age))).await, (Settlement::Retry(rest), [1, 1, 1]));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn record_that_is_gone_or_of_a_later_submission_delays_no_purge() {
        let later = (JobUid([2; 16]), JobState::Running, Duration::ZERO);
        assert_eq!(purge(Some(later)).await, (Settlement::Ack, [0, 0, 1]));
        assert_eq!(purge(None).await, (Settlement::Ack, [0, 0, 1]));
    }
}
