//! Charging jobs to their submitters: what each uses is one key of bucket `forge_quotas`, changed by compare-and-set, so
//! that several planners together admit no more than there may be. What is too much is decided by [`quota`].

use std::{collections::BTreeSet, time::Duration};

use forge_bus::{BucketEntry, BusError, topology::Bucket};
use forge_contract::{
    ids::{JobId, Submitter},
    job::{JobRecord, JobState},
    quota::Usage,
};
use forge_service::job_records;
use futures_util::{StreamExt, TryStreamExt, stream};

use crate::{
    admit::Admitted,
    planner::Planner,
    quota::{self, Refusal},
};

/// Records that are asked for at once.
const AT_ONCE: usize = 32;
/// After so long without a change of what is used, a record that is not found is gone. Before that it may be that a copy of
/// the bucket has not heard of it.
const SETTLED: Duration = Duration::from_secs(10);

/// What came of charging a job.
#[derive(Debug, PartialEq, Eq)]
pub enum Charge {
    /// It may go on: it is charged, by now or since earlier, or there is nothing to charge.
    Paid,
    /// It has ended before it was charged.
    Ended,
    /// It may not.
    Refused(Refusal),
}

/// What a submitter uses, as it was read.
struct Read {
    usage: Usage,
    revision: Option<u64>,
    age: Duration,
}

impl Planner {
    /// Charges a job to its submitter, once, however often it is called. The job's record is there.
    /// `day` is today, as in `2026-11-23`, UTC.
    ///
    /// # Errors
    /// As the bus: it is not known whether the job is charged, and it is to be called again.
    pub(crate) async fn charge(&self, admitted: &Admitted, day: &str) -> Result<Charge, BusError> {
        let (request, submitter) = (&admitted.job.request, &admitted.record.submitter);
        let quota = self.settings.quotas.quota_for(submitter);
        if let Err(refusal) = quota::may_bill(submitter, quota, request.envelope.ctx.billing.mode) {
            return Ok(Charge::Refused(refusal));
        }
        if !quota.is_limited() {
            return Ok(Charge::Paid);
        }
        let (name, iterations) = (active(&admitted.bucket, &admitted.job.id), request.plan.iterations());
        // The submissions in hand here wait for each other: they would only spoil each other's attempts.
        let _alone = self.charging.lock().await;
        loop {
            let Read { mut usage, revision, age } = self.usage(submitter).await?;
            if usage.active.contains(&name) {
                return Ok(Charge::Paid);
            }
            // Another planner may have charged it, it may have ended, and so be active no more.
            if admitted.taken_over && self.has_ended(&admitted.bucket, &admitted.job.id, false).await? {
                return Ok(Charge::Ended);
            }
            if quota::is_worth_a_look(quota, &usage) {
                usage.active = self.not_ended(usage.active, age > SETTLED).await?;
            }
            let usage = match quota::charge(submitter, quota, &usage, &name, iterations, day) {
                Ok(usage) => usage,
                Err(refusal) => return Ok(Charge::Refused(refusal)),
            };
            let json = serde_json::to_vec(&usage).expect("what is used is made of strings and numbers");
            let (bucket, key) = (Bucket::Quotas, submitter.as_str());
            if self.bus.compare_and_set(&bucket, key, json.into(), revision).await?.is_some() {
                return Ok(Charge::Paid);
            }
        }
    }

    /// Whether it is known what comes of a submission: it has been charged, nothing is charged, or it has ended.
    ///
    /// # Errors
    /// As the bus.
    pub(crate) async fn is_decided(&self, bucket: &Bucket, record: &JobRecord) -> Result<bool, BusError> {
        if record.state != JobState::Accepted {
            return Ok(true);
        }
        let quota = self.settings.quotas.quota_for(&record.submitter);
        if quota::may_bill(&record.submitter, quota, record.billing.mode).is_err() {
            return Ok(false);
        }
        Ok(!quota.is_limited()
            || self.usage(&record.submitter).await?.usage.active.contains(&active(bucket, &record.job_id)))
    }

    /// What a submitter uses.
    async fn usage(&self, submitter: &Submitter) -> Result<Read, BusError> {
        let found = self.bus.get(&Bucket::Quotas, submitter.as_str()).await?;
        let Some(BucketEntry { value: Some(value), revision, age, .. }) = found else {
            return Ok(Read { usage: Usage::default(), revision: None, age: Duration::ZERO });
        };
        let unreadable =
            |error| BusError::Unusable(format!("what submitter {submitter} uses cannot be read: {error}"));
        Ok(Read { usage: serde_json::from_slice(&value).map_err(unreadable)?, revision: Some(revision), age })
    }

    /// Those of the active jobs that have not ended.
    async fn not_ended(&self, jobs: BTreeSet<String>, settled: bool) -> Result<BTreeSet<String>, BusError> {
        let looked = stream::iter(jobs).map(async |name| {
            let ended = match named(&name) {
                Some((bucket, job)) => self.has_ended(&bucket, &job, settled).await?,
                None => true,
            };
            Ok::<_, BusError>((!ended).then_some(name))
        });
        looked.buffer_unordered(AT_ONCE).try_filter_map(async |name| Ok(name)).try_collect().await
    }

    /// Whether a job's record is terminal, or, if `gone_counts`, gone.
    async fn has_ended(&self, bucket: &Bucket, job: &JobId, gone_counts: bool) -> Result<bool, BusError> {
        let found = job_records::get(self.bus.as_ref(), bucket, job).await?;
        Ok(found.map_or(gone_counts, |found| found.record.state.is_terminal()))
    }
}

/// The name of a job among the active ones. One id may name a job in each bucket.
fn active(bucket: &Bucket, job: &JobId) -> String {
    format!("{}/{job}", bucket.name())
}

/// Reads such a name.
fn named(active: &str) -> Option<(Bucket, JobId)> {
    let (bucket, job) = active.split_once('/')?;
    Some((Bucket::Jobs(bucket.to_owned()), job.parse().ok()?))
}

#[cfg(test)]
mod tests;
