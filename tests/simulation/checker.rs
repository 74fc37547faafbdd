//! What must hold after every run, checked from the outside: by the changes of records, by the
//! objects in the store, and by the right results. Uses no code of the services.

use std::collections::BTreeMap;

use forge_bus::{Bus, MemoryBus, topology::Bucket};
use forge_contract::{
    artifact::{ExecutionsDocument, VerificationDocument},
    digest::Digest,
    envelope::VerificationLevel,
    ids::JobUid,
    job::{JobRecord, JobState},
    manifest_log::LogEntryDocument,
    verdict::VerdictOutcome,
};
use forge_documents::Job;
use forge_store::Store;

use crate::{
    backends::right_result,
    cheats::CheatTally,
    client::ClientLog,
    executions::{PublishedEvidence, required_verifications},
    failure_causes::{FailureCauses, rejected_name},
    leftovers::Leftovers,
    options::SimulationOptions,
    record_changes::{FinalRecords, check_changes},
    submitted_jobs::SubmittedJobs,
    workload::{PlannedSubmission, parse, right_hash},
};

/// What is known at the end of a run.
pub struct Checker<'a> {
    pub options: &'a SimulationOptions,
    pub bus: &'a MemoryBus,
    pub store: &'a Store,
    pub log: &'a ClientLog,
    pub evidence: PublishedEvidence<'a>,
    pub jobs: SubmittedJobs,
    /// Agents that never return a wrong result.
    pub honest_agents: BTreeMap<String, String>,
    pub violations: Vec<String>,
    /// Lies in the results of completed jobs.
    pub cheats: CheatTally,
}

impl Checker<'_> {
    /// Checks everything, and returns what is violated and the lies in results.
    pub async fn check(mut self) -> (Vec<String>, CheatTally) {
        let changes = self.evidence.traffic.take_record_changes();
        let (records, violations) = check_changes(changes, self.options, &self.jobs);
        self.violations.extend(violations);
        self.check_submissions(&records);
        for (key, record) in &records {
            self.check_end(key, record, &records);
            if record.state == JobState::Completed {
                self.check_result(key, record).await;
            }
        }
        let Self { options, bus, store, log, jobs, .. } = &self;
        let has_refutations = records.values().any(|record| self.is_found_out(record.uid));
        let leftovers = Leftovers { options, bus, store, log, records: &records, jobs, has_refutations };
        let found = leftovers.find().await;
        self.violations.extend(found);
        self.check_quarantines().await;
        (self.violations, self.cheats)
    }

    fn require(&mut self, holds: bool, violation: impl FnOnce() -> String) {
        if !holds {
            self.violations.push(violation());
        }
    }

    /// Every stored submission has a record, every record has ended, and the API refuses only what
    /// it must.
    fn check_submissions(&mut self, records: &FinalRecords) {
        for (key, record) in records {
            let state = record.state;
            self.require(state.is_terminal(), || format!("{key} has not ended: it is {state:?}"));
        }
        let by_digest = |digest: Digest| records.values().any(|of| of.request == Some(digest));
        let has_id = |id: &str| records.values().any(|of| of.job_id.as_str() == id);
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
            let is_known = if submission.is_valid {
                by_digest(Job::new(parse(&submission.envelope)).envelope_digest)
            } else {
                has_id(&submission.job_id)
            };
            self.require(is_known || has_id(&rejected_name(&submission.envelope)), || {
                format!("a submission of {} has no record: {}", submission.job_id, submission.envelope)
            });
        }
    }

    /// The end of a job is explained by its envelope, its client, or a fault that is on.
    fn check_end(&mut self, key: &str, record: &JobRecord, records: &FinalRecords) {
        let Some(error) = &record.error else {
            let is_completed = record.state == JobState::Completed;
            return self.require(is_completed, || format!("{key} failed without a reason"));
        };
        let causes = FailureCauses { options: self.options, log: self.log, records };
        let is_explained = causes.explain(record, self.jobs.of(record).map(|job| &**job), error.code);
        self.require(is_explained, || {
            format!("{key} failed without a cause: {}: {}", error.code, error.message)
        });
    }

    /// A completed job has the right result, in the record and in the store.
    async fn check_result(&mut self, key: &str, record: &JobRecord) {
        let Some(job) = self.jobs.of(record).cloned() else {
            self.violations.push(format!("{key} completed, but no client submitted it"));
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
            let is_refuted = verification.refuted.iter().any(|verdict| {
                let statement = &verdict.statement;
                statement.shard_id == execution.shard_id && statement.result_hash == execution.result_hash
            });
            if is_refuted {
                return Err(format!(
                    "it states that the execution of shard {} is refuted",
                    execution.shard_id
                ));
            }
        }
        self.evidence.check(record.uid, job, &executions.executions)?;
        let shards = executions.executions.len() as u64;
        let drawn = required_verifications(job, executions.executions.len()) as u64;
        if (verification.shards, verification.drawn) != (shards, drawn) {
            let VerificationDocument { shards, drawn, .. } = verification;
            return Err(format!("it states that {drawn} of {shards} shards were drawn"));
        }
        self.cheats.add(wrong, shards, drawn, self.is_found_out(record.uid));
        Ok(())
    }

    /// Whether a result of the job is refuted.
    fn is_found_out(&self, uid: JobUid) -> bool {
        let is_refuted = |outcome| outcome == VerdictOutcome::Refuted;
        self.evidence.verdicts(uid).iter().any(|published| is_refuted(published.verdict.statement.outcome))
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
