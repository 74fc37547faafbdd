//! The quota ledger: each submitter's usage is one key of bucket `forge_quotas`, changed by
//! compare-and-set, so that planners running concurrently cannot together exceed a quota. It stores
//! and prunes usage; [`quota_policy`] decides whether a charge is permitted.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use forge_bus::{BucketEntry, BusError, SharedBus, topology::Bucket};
use forge_contract::{
    ids::{JobId, Submitter},
    job::{JobRecord, JobState},
    quota::{Quotas, Usage},
};
use forge_service::job_records::{self, MISSING_RECORD_GRACE_PERIOD};
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

use crate::{
    admitted_job::AdmittedJob,
    quota_policy::{self, QuotaDay, QuotaDenial},
};

/// Job records that are read concurrently.
const CONCURRENT_RECORD_READS: usize = 32;

/// The outcome of charging a job.
#[derive(Debug, PartialEq, Eq)]
pub enum ChargeOutcome {
    /// The job may run: it is charged, now or earlier, or its submitter has no limit.
    Charged,
    /// The job ended before it was charged.
    JobEnded,
    /// The quota does not permit the job.
    Denied(QuotaDenial),
}

/// A submitter's usage as it was read.
struct UsageSnapshot {
    usage: Usage,
    /// `None` if the submitter has no usage yet.
    revision: Option<u64>,
    /// Time since the usage was last changed.
    age: Duration,
}

/// How to count an active job whose record is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MissingRecord {
    /// The record was removed, so nothing will end the job.
    Ended,
    /// The replica that answered may not have stored the record yet.
    Active,
}

/// Charges jobs to their submitters.
#[derive(Debug)]
pub struct QuotaLedger {
    bus: SharedBus,
    quotas: Arc<Quotas>,
    /// Serialise the charges of one submitter in this process: concurrent ones would only fail each
    /// other's compare-and-set. Holds the submitters with a charge in progress.
    charge_locks: Mutex<HashMap<Submitter, Arc<AsyncMutex<()>>>>,
}

impl QuotaLedger {
    pub fn new(bus: SharedBus, quotas: Arc<Quotas>) -> Self {
        Self { bus, quotas, charge_locks: Mutex::default() }
    }

    /// Charges a job to its submitter, at most once however often it is called. The job's record
    /// must exist.
    ///
    /// # Errors
    /// Returns any error from the underlying bus operation. The job may or may not be charged then;
    /// call again.
    pub async fn charge(&self, admitted: &AdmittedJob, day: &QuotaDay) -> Result<ChargeOutcome, BusError> {
        let (request, submitter) = (&admitted.job.request, &admitted.record.submitter);
        let quota = self.quotas.quota_for(submitter);
        let mode = request.envelope.ctx.billing.mode;
        if let Err(denial) = quota_policy::check_billing(submitter, quota, mode) {
            return Ok(ChargeOutcome::Denied(denial));
        }
        if !quota.is_limited() {
            return Ok(ChargeOutcome::Charged);
        }
        let name = active_job_name(&admitted.bucket, &admitted.job.id);
        let _guard = self.lock_charges(submitter).await;
        loop {
            let UsageSnapshot { mut usage, revision, age } = self.snapshot(submitter).await?;
            if usage.active.contains(&name) {
                return Ok(ChargeOutcome::Charged);
            }
            // Another planner may have charged the job, which then ended and was pruned.
            if admitted.taken_over
                && self.has_ended(&admitted.bucket, &admitted.job.id, MissingRecord::Active).await?
            {
                return Ok(ChargeOutcome::JobEnded);
            }
            let active = usage.active.len();
            if quota_policy::should_prune(quota, &usage) {
                // A job was charged after its record was stored, so a record that is still missing
                // long after the last charge was removed.
                let missing = if age > MISSING_RECORD_GRACE_PERIOD {
                    MissingRecord::Ended
                } else {
                    MissingRecord::Active
                };
                usage.active = self.prune(usage.active, missing).await?;
            }
            let iterations = request.plan.iterations();
            let (usage, outcome) =
                match quota_policy::charge(submitter, quota, &usage, &name, iterations, day) {
                    Ok(charged) => (charged, ChargeOutcome::Charged),
                    // Without this write, every further denial would read the ended jobs again.
                    Err(denial) if usage.active.len() < active => (usage, ChargeOutcome::Denied(denial)),
                    Err(denial) => return Ok(ChargeOutcome::Denied(denial)),
                };
            let json = serde_json::to_vec(&usage).expect("usage consists of strings and numbers");
            let (bucket, key) = (Bucket::Quotas, submitter.as_str());
            if self.bus.compare_and_set(&bucket, key, json.into(), revision).await?.is_some() {
                return Ok(outcome);
            }
        }
    }

    /// Waits for the submitter's lock.
    async fn lock_charges(&self, submitter: &Submitter) -> OwnedMutexGuard<()> {
        let lock = {
            let mut locks = self.charge_locks.lock().unwrap_or_else(PoisonError::into_inner);
            locks.retain(|_, lock| Arc::strong_count(lock) > 1);
            Arc::clone(locks.entry(submitter.clone()).or_default())
        };
        lock.lock_owned().await
    }

    /// Whether records and usage show the job's quota decision: it was charged, needs no charge, or
    /// has ended. A denial shows only once an aggregator has ended the job.
    ///
    /// # Errors
    /// Returns any error from reading the usage.
    pub async fn is_decision_visible(&self, bucket: &Bucket, record: &JobRecord) -> Result<bool, BusError> {
        if record.state != JobState::Accepted {
            return Ok(true);
        }
        let quota = self.quotas.quota_for(&record.submitter);
        if quota_policy::check_billing(&record.submitter, quota, record.billing.mode).is_err() {
            return Ok(false);
        }
        let name = active_job_name(bucket, &record.job_id);
        Ok(!quota.is_limited() || self.usage(&record.submitter).await?.active.contains(&name))
    }

    /// What a submitter uses now.
    ///
    /// # Errors
    /// Returns any error from reading the bucket; [`BusError::Corrupt`] if the value is malformed.
    pub async fn usage(&self, submitter: &Submitter) -> Result<Usage, BusError> {
        Ok(self.snapshot(submitter).await?.usage)
    }

    async fn snapshot(&self, submitter: &Submitter) -> Result<UsageSnapshot, BusError> {
        let entry = self.bus.get(&Bucket::Quotas, submitter.as_str()).await?;
        let Some(BucketEntry { value: Some(value), revision, age, .. }) = entry else {
            return Ok(UsageSnapshot { usage: Usage::default(), revision: None, age: Duration::ZERO });
        };
        let unreadable = |error| {
            let key = format!("key {submitter} of bucket {}", Bucket::Quotas.name());
            BusError::Corrupt(format!("{key} holds no usage that can be read: {error}"))
        };
        let usage = serde_json::from_slice(&value).map_err(unreadable)?;
        Ok(UsageSnapshot { usage, revision: Some(revision), age })
    }

    /// Removes the jobs that have ended.
    async fn prune(
        &self,
        active: BTreeSet<String>,
        missing: MissingRecord,
    ) -> Result<BTreeSet<String>, BusError> {
        let checks = stream::iter(active).map(async |name| {
            let ended = match parse_active_job_name(&name) {
                Some((bucket, job)) => self.has_ended(&bucket, &job, missing).await?,
                // No planner writes such a name, and no job's end would ever remove it.
                None => true,
            };
            Ok::<_, BusError>((!ended).then_some(name))
        });
        let checks = checks.buffer_unordered(CONCURRENT_RECORD_READS);
        checks.try_filter_map(async |name| Ok(name)).try_collect().await
    }

    async fn has_ended(
        &self,
        bucket: &Bucket,
        job: &JobId,
        missing: MissingRecord,
    ) -> Result<bool, BusError> {
        let found = job_records::get(self.bus.as_ref(), bucket, job).await?;
        let ended = |record: JobRecord| record.state.is_terminal();
        Ok(found.map_or(missing == MissingRecord::Ended, |found| ended(found.record)))
    }
}

/// The name of a job in [`Usage::active`]. Includes the bucket, so that pruning finds the record.
fn active_job_name(bucket: &Bucket, job: &JobId) -> String {
    format!("{}/{job}", bucket.name())
}

/// Parses a name made by [`active_job_name`].
fn parse_active_job_name(name: &str) -> Option<(Bucket, JobId)> {
    let (bucket, job) = name.split_once('/')?;
    Some((Bucket::Jobs(bucket.to_owned()), job.parse().ok()?))
}

#[cfg(test)]
mod tests;
