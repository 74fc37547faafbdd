//! What must hold after every run, checked from the outside: by the changes of records, by the
//! objects in the store, and by the right results. Uses no code of the services.

use std::collections::BTreeMap;

use forge_bus::{BucketEntry, Bus, MemoryBus, topology::Bucket};
use forge_contract::{
    artifact::{ExecutionsDocument, VerificationDocument},
    digest::Digest,
    envelope::VerificationLevel,
    error::FailureCode,
    job::{JobRecord, JobState},
    manifest_log::LogEntryDocument,
};
use forge_documents::Job;
use forge_store::Store;

use crate::{
    backends::right_result,
    cheats::CheatTally,
    client::ClientLog,
    leftovers::Leftovers,
    options::SimulationOptions,
    workload::{PlannedSubmission, parse, right_hash},
};

/// Finds the jobs that the quota denied, and how many others of the submitter ran meanwhile.
#[derive(Default)]
struct QuotaDenials {
    /// By submitter and job: the most other jobs that were open at the same time.
    open: BTreeMap<String, BTreeMap<String, u64>>,
}

impl QuotaDenials {
    /// Applies a change of a record. Returns the most other open jobs if the job was denied.
    fn apply(&mut self, key: &str, record: &JobRecord) -> Option<u64> {
        record.request?;
        let open = self.open.entry(record.submitter.to_string()).or_default();
        if record.state.is_terminal() {
            let peak = open.remove(key)?;
            let code = record.error.as_ref().map(|error| error.code);
            return (code == Some(FailureCode::QuotaExceeded)).then_some(peak);
        }
        open.entry(key.to_owned()).or_default();
        let others = open.len() as u64 - 1;
        open.values_mut().for_each(|peak| *peak = (*peak).max(others));
        None
    }
}

/// What is known at the end of a run.
pub struct Checker<'a> {
    pub options: &'a SimulationOptions,
    pub bus: &'a MemoryBus,
    pub store: &'a Store,
    pub log: &'a ClientLog,
    /// Every change of bucket `jobs`, in order.
    pub changes: Vec<BucketEntry>,
    /// Agents that never return a wrong result.
    pub honest_agents: BTreeMap<String, String>,
    pub violations: Vec<String>,
    /// Lies in the results of completed jobs.
    pub cheats: CheatTally,
}

impl Checker<'_> {
    /// Checks everything, and returns what is violated and the lies in results.
    pub async fn check(mut self) -> (Vec<String>, CheatTally) {
        let records = self.check_changes();
        self.check_submissions(&records);
        for record in records.values() {
            self.check_end(record);
            if record.state == JobState::Completed {
                self.check_result(record).await;
            }
        }
        let Self { options, bus, store, log, .. } = self;
        self.violations.extend(Leftovers { options, bus, store, log, records: &records }.find().await);
        self.check_quarantines().await;
        (self.violations, self.cheats)
    }

    fn require(&mut self, holds: bool, violation: impl FnOnce() -> String) {
        if !holds {
            self.violations.push(violation());
        }
    }

    /// Every record goes forward only, is never changed after its end, and keeps its uid. Returns
    /// the last version of each.
    fn check_changes(&mut self) -> BTreeMap<String, JobRecord> {
        let mut records: BTreeMap<String, JobRecord> = BTreeMap::new();
        let mut active: BTreeMap<String, i64> = BTreeMap::new();
        let mut denials = QuotaDenials::default();
        for change in std::mem::take(&mut self.changes) {
            let key = change.key;
            let Some(value) = change.value else {
                self.violations.push(format!("the record of {key} was removed"));
                continue;
            };
            let record: JobRecord = match serde_json::from_slice(&value) {
                Ok(record) => record,
                Err(error) => {
                    self.violations.push(format!("the record of {key} is malformed: {error}"));
                    continue;
                }
            };
            let before = records.get(&key).cloned();
            if let Some(before) = &before {
                let (from, to) = (before.state, record.state);
                self.require(!from.is_terminal(), || {
                    format!("{key} was changed after its end: {from:?} to {to:?}")
                });
                // An aggregator that takes a job over may have to collect more results.
                let is_taken_over = (from, to) == (JobState::Reducing, JobState::Running);
                let goes_forward = from <= to || is_taken_over;
                self.require(goes_forward, || format!("{key} went back from {from:?} to {to:?}"));
                self.require(before.uid == record.uid, || format!("{key} changed its uid"));
            }
            let has_all_results = matches!(record.state, JobState::Reducing | JobState::Completed);
            let progress = record.progress;
            self.require(!has_all_results || progress.shards_done == progress.shards, || {
                format!("{key} is {:?} without all results: {progress:?}", record.state)
            });
            let charged = |state: JobState| (JobState::Planned..=JobState::Reducing).contains(&state);
            let was_charged = before.is_some_and(|before| charged(before.state));
            let count = active.entry(record.submitter.to_string()).or_default();
            *count += i64::from(charged(record.state)) - i64::from(was_charged);
            let (count, submitter) = (*count, record.submitter.clone());
            if let Some(quota) = self.options.job_quota {
                self.require(count <= quota as i64, || {
                    format!("{submitter} has {count} concurrent jobs and may have {quota}")
                });
            }
            // A stale record makes an ended job count.
            if let Some(quota) = self.options.job_quota
                && self.options.faults.stale_read == 0.0
                && let Some(peak) = denials.apply(&key, &record)
            {
                self.require(peak >= quota, || {
                    format!("{key} was denied beside {peak} concurrent jobs, although {quota} are allowed")
                });
            }
            records.insert(key, record);
        }
        records
    }

    /// Every stored submission has a record, every record has ended, and the API refuses only what
    /// it must.
    fn check_submissions(&mut self, records: &BTreeMap<String, JobRecord>) {
        for (key, record) in records {
            let state = record.state;
            self.require(state.is_terminal(), || format!("{key} has not ended: it is {state:?}"));
        }
        let by_digest = |digest: Digest| records.values().any(|record| record.request == Some(digest));
        for (submission, status) in self.log.refused.clone() {
            let other = |sent: &PlannedSubmission| {
                sent.job_id == submission.job_id && sent.envelope != submission.envelope
            };
            let is_right = match status {
                400 => !submission.is_valid,
                409 => submission.is_valid && self.log.submissions.iter().any(other),
                _ => false,
            };
            self.require(is_right, || format!("the API refused {} with {status}", submission.job_id));
        }
        for submission in self.log.stored.clone() {
            let bytes = submission.envelope.as_bytes();
            let rejected = format!("rejected-{}", &Digest::hash_parts(&[bytes]).to_hex()[..16]);
            let is_known = if submission.is_valid {
                by_digest(Job::new(parse(&submission.envelope)).envelope_digest)
            } else {
                records.contains_key(&submission.job_id)
            };
            self.require(is_known || records.contains_key(&rejected), || {
                format!("a submission of {} has no record: {}", submission.job_id, submission.envelope)
            });
        }
    }

    /// The end of a job is explained by its envelope, its client, or a fault that is on.
    fn check_end(&mut self, record: &JobRecord) {
        let key = record.job_id.to_string();
        let Some(error) = &record.error else {
            self.require(record.state == JobState::Completed, || format!("{key} failed without a reason"));
            return;
        };
        let job = self.job(record);
        let policy = job.as_ref().map(|job| job.request.envelope.policy.clone());
        let submissions = self.log.submissions.iter().filter(|submission| submission.job_id == key);
        let explained = match error.code {
            FailureCode::InvalidRequest => {
                job.is_none()
                    && (self.log.garbage > 0 || self.log.submissions.iter().any(|sent| !sent.is_valid))
            }
            FailureCode::Conflict => job.is_none() && key.starts_with("rejected-"),
            FailureCode::Cancelled => self.log.cancelled.contains(&key) && submissions.count() > 0,
            FailureCode::Timeout => policy.is_some_and(|policy| policy.timeout_ms > 0),
            FailureCode::InsufficientAgents => policy.is_some_and(|policy| policy.min_agents > 0),
            FailureCode::QuotaExceeded => self.options.job_quota.is_some(),
            // An aggregator that freezes uses up its patience with the store.
            FailureCode::StorageFailed => {
                self.options.faults.has_store_faults() || self.options.faults.freeze > 0.0
            }
            // An aggregator stored a wrong result of an agent that was not yet refuted, and could
            // not record it. The next attempt refuses that result.
            FailureCode::VerificationFailed => {
                self.options.has_dishonest_workers()
                    && !self.options.faults.names().is_empty()
                    && policy.is_some_and(|policy| policy.verify != VerificationLevel::Full)
            }
            // Programs and results that the server refuses.
            FailureCode::ExecutionFailed | FailureCode::Internal => self.options.faults.too_large > 0.0,
            FailureCode::Unauthorized | FailureCode::AggregationFailed => false,
        };
        self.require(explained, || {
            format!("{key} failed without a cause: {}: {}", error.code, error.message)
        });
    }

    /// The job of a record; `None` if its envelope was invalid.
    fn job(&self, record: &JobRecord) -> Option<Job> {
        let digest = record.request?;
        let valid = self.log.submissions.iter().filter(|submission| submission.is_valid);
        let mut jobs = valid.map(|submission| Job::new(parse(&submission.envelope)));
        jobs.find(|job| job.envelope_digest == digest)
    }

    /// A completed job has the right result, in the record and in the store.
    async fn check_result(&mut self, record: &JobRecord) {
        let key = record.job_id.to_string();
        let Some(job) = self.job(record) else {
            self.violations.push(format!("{key} completed, but nobody submitted it"));
            return;
        };
        let is_verified = job.request.envelope.policy.verify == VerificationLevel::Full;
        let must_be_right = is_verified || !self.options.has_dishonest_workers();
        let right = right_hash(&job);
        self.require(!must_be_right || record.result == Some(right), || {
            format!("{key} has the result {:?} instead of {right}", record.result)
        });
        if !job.request.envelope.artifacts.persist {
            return;
        }
        if let Err(violation) = self.check_artifacts(record, &job, must_be_right).await {
            self.violations.push(format!("{key}: {violation}"));
        }
    }

    async fn check_artifacts(
        &mut self,
        record: &JobRecord,
        job: &Job,
        must_be_right: bool,
    ) -> Result<(), String> {
        let text = |error: &dyn std::fmt::Display| error.to_string();
        let manifest = self.store.get_manifest(&record.job_id).await.map_err(|error| text(&error))?;
        let manifest = manifest.ok_or("it has no manifest")?;
        if Some(manifest.result) != record.result {
            return Err(format!("its manifest has the result {}", manifest.result));
        }
        self.check_log(record).await?;
        let mut documents = BTreeMap::new();
        for reference in &manifest.artifacts {
            let bytes = self.store.get_artifact(reference).await.map_err(|error| text(&error))?;
            documents.insert(reference.name.clone(), bytes);
        }
        let read = |name: &str| documents.get(name).ok_or_else(|| format!("it has no {name}"));
        let executions: ExecutionsDocument =
            serde_json::from_slice(read("executions.json")?).map_err(|error| text(&error))?;
        let verification: VerificationDocument =
            serde_json::from_slice(read("verification.json")?).map_err(|error| text(&error))?;
        let mut wrong = 0;
        for execution in &executions.executions {
            let shard = job.request.shard(execution.shard_id);
            let right = right_result(&job.request.program, &shard).digest();
            wrong += u64::from(execution.result_hash != right);
            if must_be_right && execution.result_hash != right {
                return Err(format!("the execution of shard {} is wrong", execution.shard_id));
            }
            let refuted = verification.refuted.iter().any(|verdict| {
                let statement = &verdict.statement;
                statement.shard_id == execution.shard_id
                    && statement.agent_id == execution.agent_id
                    && statement.result_hash == execution.result_hash
            });
            if refuted {
                return Err(format!("the execution of shard {} is refuted", execution.shard_id));
            }
        }
        let VerificationDocument { shards, drawn, .. } = verification;
        self.cheats.add(wrong, shards, drawn, !verification.refuted.is_empty());
        Ok(())
    }

    /// The log has an entry of the manifest, and its entries follow one another.
    async fn check_log(&self, record: &JobRecord) -> Result<(), String> {
        let manifest = self.store.get_stored_manifest(&record.job_id).await;
        let manifest = manifest.map_err(|error| error.to_string())?.ok_or("it has no manifest")?;
        let (mut previous, mut is_recorded) = (None, false);
        for number in 1u64.. {
            let entry = self.store.get_log_entry(number).await.map_err(|error| error.to_string())?;
            let Some(bytes) = entry else { break };
            let entry = LogEntryDocument::parse(&bytes).map_err(|error| error.to_string())?;
            if entry.previous != previous {
                return Err(format!("entry {number} of the log does not follow the one before"));
            }
            previous = Some(Digest::hash_parts(&[&bytes]));
            is_recorded |= entry.manifest == manifest.sha256 && entry.job_uid == record.uid;
        }
        if is_recorded { Ok(()) } else { Err("its manifest is not in the log".to_owned()) }
    }

    /// No honest agent is in quarantine, nor a pool of such agents only.
    async fn check_quarantines(&mut self) {
        let keys = self.bus.keys(&Bucket::Agents).await.expect("the bucket exists");
        for key in keys {
            let agent = key.strip_prefix("quarantine.").filter(|id| self.honest_agents.contains_key(*id));
            self.require(agent.is_none(), || format!("an honest agent is in quarantine: {key}"));
            let pool = key.strip_prefix("quarantined-pools.").filter(|pool| pool.starts_with("pool-"));
            self.require(pool.is_none(), || format!("a pool of honest agents is in quarantine: {key}"));
        }
    }
}
