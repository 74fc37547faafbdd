//! What must not be left once every job has ended: messages, keys, programs and objects that no job
//! explains.

use std::collections::{BTreeMap, BTreeSet};

use forge_bus::{
    Bus, MemoryBus,
    topology::{Bucket, Stream},
};
use forge_contract::{
    artifact::ArtifactReference,
    digest::Digest,
    job::{JobRecord, JobState},
};
use forge_store::Store;

use crate::{
    client::ClientLog, options::SimulationOptions, record_changes::FinalRecords,
    submitted_jobs::SubmittedJobs,
};

/// Everything that a run may have left behind.
pub struct Leftovers<'a> {
    pub options: &'a SimulationOptions,
    pub bus: &'a MemoryBus,
    pub store: &'a Store,
    pub log: &'a ClientLog,
    pub records: &'a FinalRecords,
    pub jobs: &'a SubmittedJobs,
    /// Whether a verifier refuted a result of any job.
    pub has_refutations: bool,
}

impl Leftovers<'_> {
    /// Returns what is left and has no reason to be.
    pub async fn find(&self) -> Vec<String> {
        let mut found: Vec<_> = Stream::ALL
            .into_iter()
            .map(|stream| (self.bus.message_count(stream), stream.name()))
            .filter(|(count, _)| *count > 0)
            .map(|(count, name)| format!("{count} messages are left in {name}"))
            .collect();
        found.extend(self.find_secrets().await);
        found.extend(self.find_programs().await);
        found.extend(self.find_objects().await);
        found
    }

    /// The keys of jobs are deleted when their jobs end. One exception is documented: of two
    /// planners that admit one submission, or two of the same id, each stores a key, and only one
    /// stores the record.
    async fn find_secrets(&self) -> Vec<String> {
        let mut found = Vec::new();
        let uids: BTreeMap<_, _> =
            self.records.iter().map(|(key, record)| (format!("jobs.{}", record.uid), key)).collect();
        for secret in self.bus.keys(&Bucket::Secrets).await.expect("the bucket exists") {
            match uids.get(&secret) {
                Some(job) => found.push(format!("the key of {job} is left")),
                None if self.may_admit_twice() && secret.starts_with("jobs.") => {}
                None => found.push(format!("the secret {secret} is of no job")),
            }
        }
        found
    }

    /// Whether a job may be admitted again before its record can be read: its submission is
    /// delivered again, or repeated.
    fn may_admit_twice(&self) -> bool {
        let mut ids = BTreeSet::new();
        !self.options.faults.names().is_empty()
            || !self.log.submissions.iter().all(|submission| ids.insert(&submission.job_id))
    }

    /// The records of this job id: two at most, in different namespaces.
    fn records_of(&self, job: &str) -> Vec<&JobRecord> {
        self.records.values().filter(|record| record.job_id.as_str() == job).collect()
    }

    /// Programs stay for later jobs, but only those of valid envelopes, with all their parts.
    async fn find_programs(&self) -> Vec<String> {
        let requests = self.jobs.all().map(|job| &job.request);
        let programs: BTreeMap<_, _> = requests
            .map(|request| (request.program_digest.to_hex(), request.program.encode().len()))
            .collect();
        let mut found = Vec::new();
        let mut stored: BTreeMap<String, usize> = BTreeMap::new();
        for key in self.bus.keys(&Bucket::Programs).await.expect("the bucket exists") {
            let entry = self.bus.get(&Bucket::Programs, &key).await.expect("the bucket exists");
            let length = entry.and_then(|entry| entry.value).map_or(0, |value| value.len());
            let program = key.split('.').next().unwrap_or_default().to_owned();
            *stored.entry(program).or_default() += length;
        }
        for (program, length) in stored {
            let Some(expected) = programs.get(&program) else {
                found.push(format!("the program {program} is of no valid envelope"));
                continue;
            };
            // The first part is stored last, so a program without it is one that was never used.
            let first_part = self.bus.get(&Bucket::Programs, &program).await.expect("the bucket exists");
            let is_usable = first_part.is_some();
            if is_usable && length != *expected {
                found.push(format!("the program {program} has {length} bytes instead of {expected}"));
            }
        }
        found
    }

    /// Objects of a job explain its record, artifacts have the content that their names tell, and
    /// every one belongs to a manifest, unless an aggregator was interrupted or had to give up.
    async fn find_objects(&self) -> Vec<String> {
        let mut found = Vec::new();
        let (mut artifacts, mut referenced) = (BTreeSet::new(), BTreeSet::new());
        for key in self.store.object_keys().await.expect("the store is in memory") {
            if let Some(hash) = key.strip_prefix("artifacts/sha256/").and_then(|key| key.split('/').next()) {
                let bytes = self.store.object_bytes(&key).await.expect("the store is in memory");
                if Digest::hash_parts(&[&bytes]).to_hex() != hash {
                    found.push(format!("{key} has {} bytes of another content", bytes.len()));
                }
                artifacts.insert(key);
                continue;
            }
            let mut path = key.split('/');
            let (Some("jobs"), Some(job), Some(name)) = (path.next(), path.next(), path.next()) else {
                if !key.starts_with("log/") {
                    found.push(format!("the object {key} has no reason"));
                }
                continue;
            };
            let records = self.records_of(job);
            if records.is_empty() {
                if name != "error.json" || !self.log.failed_before.contains(job) {
                    found.push(format!("the object {key} is of no job"));
                }
                continue;
            }
            let is_completed = |record: &&JobRecord| record.state == JobState::Completed;
            if name == "error.json" && records.iter().all(|record| is_completed(record) && record.persist) {
                found.push(format!("{job} completed and has an error.json"));
            }
            if name == "manifest.json" {
                let manifest = self.store.get_manifest(&records[0].job_id).await;
                let manifest = manifest.expect("the store is in memory").expect("it is listed");
                referenced.extend(manifest.artifacts.iter().map(artifact_key));
                if !records.iter().any(is_completed) && !self.options.faults.interrupts_aggregators() {
                    found.push(format!("{job} failed and has a manifest"));
                }
            }
        }
        // A job whose result is refuted while its artifacts are stored is reduced again. The first
        // artifacts stay in the store.
        if !self.options.faults.interrupts_aggregators() && !self.has_refutations {
            found.extend(artifacts.difference(&referenced).map(|key| format!("{key} is of no manifest")));
        }
        found
    }
}

fn artifact_key(reference: &ArtifactReference) -> String {
    format!("artifacts/sha256/{}/{}", reference.sha256.to_hex(), reference.name)
}
