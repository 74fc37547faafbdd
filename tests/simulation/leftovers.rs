//! What must not be left once every job has ended: messages, keys, programs and objects that no job
//! explains.

use std::collections::{BTreeMap, BTreeSet};

use forge_bus::{
    Bus, MemoryBus,
    topology::{Bucket, Stream},
};
use forge_contract::{
    artifact::ArtifactReference,
    job::{JobRecord, JobState},
};
use forge_store::Store;

use crate::{client::ClientLog, options::SimulationOptions, workload::parse};

/// Everything that a run may have left behind.
pub struct Leftovers<'a> {
    pub options: &'a SimulationOptions,
    pub bus: &'a MemoryBus,
    pub store: &'a Store,
    pub log: &'a ClientLog,
    pub records: &'a BTreeMap<String, JobRecord>,
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
        let secrets = self.bus.keys(&Bucket::Secrets).await.expect("the bucket exists");
        let keys: BTreeMap<_, _> =
            self.records.iter().map(|(job, record)| (format!("jobs.{}", record.uid), job)).collect();
        found.extend(
            secrets
                .iter()
                .filter_map(|secret| keys.get(secret))
                .map(|job| format!("the key of {job} is left")),
        );
        found.extend(self.find_programs().await);
        found.extend(self.find_objects().await);
        found
    }

    /// Programs stay for later jobs, but only those of valid envelopes, with all their parts.
    async fn find_programs(&self) -> Vec<String> {
        let valid = self.log.submissions.iter().filter(|submission| submission.is_valid);
        let programs: BTreeMap<_, _> = valid
            .map(|submission| {
                let request = parse(&submission.envelope);
                (request.program_digest.to_hex(), request.program.encode().len())
            })
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

    /// Objects of a job explain its record, and every artifact belongs to a manifest, unless an
    /// aggregator was interrupted or had to give up.
    async fn find_objects(&self) -> Vec<String> {
        let mut found = Vec::new();
        let (mut artifacts, mut referenced) = (BTreeSet::new(), BTreeSet::new());
        for key in self.store.object_keys().await.expect("the store is in memory") {
            if key.starts_with("artifacts/") {
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
            let Some(record) = self.records.get(job) else {
                if name == "error.json" && self.log.failed_before.contains(job) {
                    continue;
                }
                found.push(format!("the object {key} is of no job"));
                continue;
            };
            let is_completed = record.state == JobState::Completed;
            if name == "error.json" && is_completed && record.persist {
                found.push(format!("{job} completed and has an error.json"));
            }
            if name == "manifest.json" {
                let manifest = self.store.get_manifest(&record.job_id).await;
                let manifest = manifest.expect("the store is in memory").expect("it is listed");
                referenced.extend(manifest.artifacts.iter().map(artifact_key));
                if !is_completed && !self.is_interrupted() {
                    found.push(format!("{job} failed and has a manifest"));
                }
            }
        }
        if !self.is_interrupted() {
            found.extend(artifacts.difference(&referenced).map(|key| format!("{key} is of no manifest")));
        }
        found
    }

    /// Whether aggregators may have had to leave their work to others.
    fn is_interrupted(&self) -> bool {
        let faults = &self.options.faults;
        faults.has_store_faults()
            || faults.crash + faults.freeze + faults.lost_settlement + faults.unavailable > 0.0
            || faults.lost_answer + faults.delay + faults.outage + faults.leader_change > 0.0
    }
}

fn artifact_key(reference: &ArtifactReference) -> String {
    format!("artifacts/sha256/{}/{}", reference.sha256.to_hex(), reference.name)
}
