//! Manifests that are in the store before a job has stored its own, and the log.

use forge_contract::{
    agent::Identity,
    artifact::{ManifestDocument, Phase},
    digest::Digest,
    envelope::Target,
    error::FailureCode,
    ids::JobUid,
    job::JobState,
    manifest_log::{LogChain, LogEntryDocument},
};
use forge_kernel::KERNEL;
use forge_service::registry::{self, AgentCapacity, Role};
use forge_store::{Artifact, IndexContent, Store};

use crate::{Fixture, UID};

/// The entries of the log, whose chain is checked.
async fn log_entries(store: &Store) -> Vec<LogEntryDocument> {
    let (mut chain, mut entries) = (LogChain::new(), Vec::new());
    while let Some(bytes) = store.get_log_entry(entries.len() as u64 + 1).await.unwrap() {
        let (entry, faults) = chain.check(entries.len() as u64 + 1, Ok(&bytes));
        assert_eq!(faults, []);
        entries.push(entry.unwrap());
    }
    entries
}

impl Fixture {
    async fn return_right_results(&self) {
        for (position, result) in self.results.iter().enumerate() {
            self.return_result(0, position, result).await;
        }
    }

    /// Completes the job, and returns its manifest.
    async fn complete(&mut self) -> ManifestDocument {
        self.order_reduction().await;
        self.return_right_results().await;
        self.completion().await;
        self.store.get_manifest(&self.job.id).await.unwrap().unwrap()
    }
}

/// Seed of an aggregator that is registered, but does not run.
const AGGREGATOR_THAT_DIED: [u8; 32] = [8; 32];

/// A fixture whose store holds `manifest` from the start, under the key of the job.
async fn with_stored_manifest(earlier: &Fixture, manifest: &ManifestDocument) -> Fixture {
    let fixture = Fixture::start().await;
    let died = Identity::from_random(AGGREGATOR_THAT_DIED);
    let record = registry::agent_record(&died, Target::Any, AgentCapacity::none(), KERNEL);
    registry::register(fixture.bus.clone(), Role::Aggregator, record, fixture.stop.clone()).await.unwrap();
    for reference in &manifest.artifacts {
        let bytes = earlier.store.get_artifact(reference).await.unwrap();
        let (name, media_type) = (reference.name.clone(), reference.media_type.clone());
        fixture.store.put_artifact(Artifact { name, media_type, bytes }).await.unwrap();
    }
    fixture.store.complete_job(manifest, &IndexContent::default()).await.unwrap();
    fixture.order_reduction().await;
    fixture.return_right_results().await;
    fixture
}

#[tokio::test(start_paused = true)]
async fn completed_job_has_an_entry_in_the_log() {
    let mut fixture = Fixture::start().await;
    let manifest = fixture.complete().await;
    let [entry] = &log_entries(&fixture.store).await[..] else { panic!() };
    assert_eq!((&entry.job_id, entry.job_uid, entry.namespace.as_str()), (&fixture.job.id, UID, "jobs"));
    assert_eq!(entry.manifest, Digest::hash_parts(&[&Store::manifest_bytes(&manifest)]));
    assert_eq!(entry.signer, *Identity::from_random([9; 32]).id());
    fixture.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn manifest_of_an_aggregator_that_died_is_kept_and_recorded() {
    let mut earlier = Fixture::start().await;
    let manifest = earlier.complete().await;
    // The aggregator that stored it had another key, and is registered.
    let manifest = manifest.sign(&Identity::from_random(AGGREGATOR_THAT_DIED));
    let fixture = with_stored_manifest(&earlier, &manifest).await;
    let record = fixture.ended_record().await;
    assert_eq!(record.state, JobState::Completed, "{:?}", record.error);
    assert_eq!(fixture.store.get_manifest(&fixture.job.id).await.unwrap(), Some(manifest.clone()));
    let [entry] = &log_entries(&fixture.store).await[..] else { panic!() };
    assert_eq!(entry.manifest, Digest::hash_parts(&[&Store::manifest_bytes(&manifest)]));
    assert_eq!(entry.signer, *Identity::from_random([9; 32]).id());
    fixture.shut_down().await;
    earlier.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn manifest_of_a_stranger_is_not_kept() {
    let mut earlier = Fixture::start().await;
    let manifest = earlier.complete().await;
    let (aggregator, stranger) = (Identity::from_random([9; 32]), Identity::from_random([66; 32]));
    let forged = |change: fn(&mut ManifestDocument), signer: &Identity| {
        let mut forged = manifest.clone();
        change(&mut forged);
        forged.sign(signer)
    };
    let unsigned = ManifestDocument { signer: None, signature: None, ..manifest.clone() };
    let changed = ManifestDocument { shards: 3, ..manifest.clone() };
    let other_uid = forged(|manifest| manifest.job_uid = JobUid([2; 16]), &aggregator);
    let other_key = forged(|manifest| manifest.job_key = Digest([3; 32]), &aggregator);
    let other_envelope = forged(|manifest| manifest.request = Digest([3; 32]), &aggregator);
    let other_result = forged(|manifest| manifest.result = Digest([3; 32]), &aggregator);
    for (forged, code, text) in [
        (unsigned, FailureCode::StorageFailed, "it is not signed"),
        (changed, FailureCode::StorageFailed, "its signature is not valid"),
        (forged(|_| (), &stranger), FailureCode::StorageFailed, "was never registered as an aggregator"),
        (other_key, FailureCode::StorageFailed, "it does not reveal the job's key"),
        (other_uid, FailureCode::Conflict, "is the manifest of another submission of job j"),
        (other_envelope, FailureCode::Conflict, "is the manifest of another envelope"),
        (other_result, FailureCode::VerificationFailed, "but this run computed"),
    ] {
        let fixture = with_stored_manifest(&earlier, &forged).await;
        let error = fixture.ended_record().await.error.unwrap_or_else(|| panic!("{text}: it was kept"));
        assert_eq!((error.code, error.phase), (code, Phase::Store), "{}", error.message);
        assert!(error.message.contains(text), "{text}: {}", error.message);
        assert_eq!(log_entries(&fixture.store).await, []);
        fixture.shut_down().await;
    }
    earlier.shut_down().await;
}
