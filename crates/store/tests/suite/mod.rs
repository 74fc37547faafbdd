//! The conformance suite: tests that every kind of store must pass.

use forge_contract::{
    artifact::{ArtifactReference, ErrorDocument, ManifestDocument, Phase},
    digest::Digest,
    error::FailureCode,
    ids::{JobId, JobUid, ReplayKey},
    manifest_log::MAX_LOG_ENTRY_BYTES,
};
use forge_store::{Artifact, Completion, IndexContent, LogListing, Store, StoreError};
use futures_util::future::join_all;

/// A plain-text artifact.
pub fn artifact(name: &str, content: &str) -> Artifact {
    let media_type = "text/plain".to_owned();
    Artifact { name: name.to_owned(), media_type, bytes: content.as_bytes().to_vec() }
}

/// A job id.
pub fn job(name: &str) -> JobId {
    name.parse().unwrap()
}

/// The manifest of a job.
pub fn manifest(name: &str, artifacts: Vec<ArtifactReference>) -> ManifestDocument {
    ManifestDocument {
        schema: ManifestDocument::SCHEMA.to_owned(),
        job_id: job(name),
        job_uid: JobUid([1; 16]),
        job_key: Digest::hash_parts(&[b"job key"]),
        kernel: 1,
        replay_key: ReplayKey(Digest::hash_parts(&[b"key"])),
        request: Digest::hash_parts(&[b"request"]),
        result: Digest::hash_parts(&[b"result"]),
        merkle_root: Digest::hash_parts(&[b"root"]),
        shards: 3,
        artifacts,
        signer: None,
        signature: None,
    }
}

fn failure(name: &str, message: &str) -> ErrorDocument {
    ErrorDocument {
        schema: ErrorDocument::SCHEMA.to_owned(),
        job_id: job(name),
        code: FailureCode::Cancelled,
        message: message.to_owned(),
        details: Vec::new(),
        phase: Phase::Execute,
    }
}

async fn artifacts_are_stored_once_and_read_back(store: &Store) {
    let first = store.put_artifact(artifact("a.txt", "hello")).await.unwrap();
    assert_eq!((first.size, first.sha256), (5, Digest::hash_parts(&[b"hello"])));
    assert_eq!(store.put_artifact(artifact("a.txt", "hello")).await.unwrap(), first);
    assert_eq!(store.get_artifact(&first).await.unwrap(), b"hello");

    let absent = artifact("b.txt", "never stored").reference();
    assert!(matches!(store.get_artifact(&absent).await, Err(StoreError::Missing { .. })));
    let shorter = ArtifactReference { size: 4, ..first };
    assert!(matches!(store.get_artifact(&shorter).await, Err(StoreError::Corrupt { .. })));
}

async fn names_cannot_leave_the_store(store: &Store) {
    for name in ["", "..", "../x", "a/b", ".hidden", "a b", "é", &"a".repeat(65)] {
        let artifact = artifact(name, "x");
        let reference = artifact.reference();
        assert!(matches!(store.put_artifact(artifact).await, Err(StoreError::Malformed { .. })), "{name}");
        assert!(matches!(store.get_artifact(&reference).await, Err(StoreError::Malformed { .. })), "{name}");
    }
}

async fn a_job_has_either_an_error_or_a_manifest(store: &Store) {
    assert_eq!(store.get_manifest(&job("one")).await.unwrap(), None);
    assert!(store.put_error(&failure("one", "first")).await.unwrap());
    assert!(store.put_error(&failure("one", "second")).await.unwrap());
    assert_eq!(store.get_error(&job("one")).await.unwrap().unwrap().message, "second");

    let references =
        store.put_artifacts(vec![artifact("r.json", "1"), artifact("e.json", "2")]).await.unwrap();
    assert_eq!(references.iter().map(|r| r.name.as_str()).collect::<Vec<_>>(), ["r.json", "e.json"]);
    let document = manifest("one", references);
    assert_eq!(store.complete_job(&document, &IndexContent::default()).await.unwrap(), Completion::Stored);
    assert_eq!(store.get_manifest(&job("one")).await.unwrap().as_ref(), Some(&document));
    assert_eq!(store.get_error(&job("one")).await.unwrap(), None);

    assert!(!store.put_error(&failure("one", "too late")).await.unwrap());
    assert_eq!(store.get_error(&job("one")).await.unwrap(), None);
}

async fn first_manifest_is_kept(store: &Store) {
    let first = manifest("two", Vec::new());
    let second = ManifestDocument { result: Digest::hash_parts(&[b"another"]), ..first.clone() };
    assert_eq!(store.complete_job(&first, &IndexContent::default()).await.unwrap(), Completion::Stored);
    let answer = store.complete_job(&second, &IndexContent::default()).await.unwrap();
    assert_eq!(answer, Completion::AlreadyComplete(Box::new(first.clone())));
    assert_eq!(store.get_manifest(&job("two")).await.unwrap(), Some(first));
}

async fn artifact_with_different_content_is_rejected(store: &Store) {
    let stored = store.put_artifact(artifact("a.txt", "hello")).await.unwrap();
    let other = artifact("a.txt", "HELLO");
    let claimed = ArtifactReference { sha256: other.reference().sha256, ..stored.clone() };
    assert!(matches!(store.get_artifact(&claimed).await, Err(StoreError::Missing { .. })));
    assert_eq!(store.get_artifact(&stored).await.unwrap(), b"hello");
}

async fn exactly_one_concurrent_writer_completes_a_job(store: &Store) {
    let racers: Vec<_> =
        (0..12_u64).map(|shards| ManifestDocument { shards, ..manifest("race", Vec::new()) }).collect();
    let content = IndexContent::default();
    let answers = join_all(racers.iter().map(|racer| store.complete_job(racer, &content))).await;
    let winner = store.get_manifest(&job("race")).await.unwrap().unwrap();
    let mut stored = 0;
    for (racer, answer) in racers.iter().zip(answers) {
        match answer.unwrap() {
            Completion::Stored => {
                stored += 1;
                assert_eq!(*racer, winner);
            }
            Completion::AlreadyComplete(existing) => assert_eq!(*existing, winner),
        }
    }
    assert_eq!(stored, 1);
    let writers = (0..12).map(|_| store.put_artifact(artifact("race.txt", "the same")));
    assert!(join_all(writers).await.into_iter().all(|answer| answer.is_ok()));
}

async fn log_entries_are_created_once_and_listed_with_the_jobs(store: &Store) {
    assert_eq!(store.list_log().await.unwrap(), LogListing::default());
    assert_eq!(store.get_log_entry(1).await.unwrap(), None);
    assert!(!store.has_log_entry(1).await.unwrap());
    for number in [1, 2, 12, 1 << 53] {
        assert!(store.create_log_entry(number, format!("{number}").into_bytes()).await.unwrap());
        assert!(!store.create_log_entry(number, b"another".to_vec()).await.unwrap());
        assert_eq!(store.get_log_entry(number).await.unwrap(), Some(format!("{number}").into_bytes()));
        assert!(store.has_log_entry(number).await.unwrap());
    }
    let racers = join_all((0..8).map(|racer: u64| store.create_log_entry(3, vec![racer as u8]))).await;
    assert_eq!(racers.into_iter().filter(|created| *created.as_ref().unwrap()).count(), 1);
    let large = vec![b' '; MAX_LOG_ENTRY_BYTES + 1];
    assert!(store.create_log_entry(13, large).await.unwrap());
    assert!(matches!(store.get_log_entry(13).await, Err(StoreError::Malformed { .. })));

    let listing = store.list_log().await.unwrap();
    assert_eq!(listing.numbers.into_iter().collect::<Vec<_>>(), [1, 2, 3, 12, 13, 1 << 53]);
    assert!(listing.foreign.is_empty());
    // The jobs of the tests above. A job with an error alone has not completed.
    store.put_error(&failure("failed", "it failed")).await.unwrap();
    let jobs: Vec<_> = store.list_completed_jobs().await.unwrap().into_iter().collect();
    assert_eq!(jobs, [job("one"), job("race"), job("two")]);
}

async fn manifests_are_read_with_the_hash_of_their_bytes(store: &Store) {
    let stored = store.get_stored_manifest(&job("two")).await.unwrap().unwrap();
    assert_eq!(stored.sha256, Digest::hash_parts(&[&Store::manifest_bytes(&stored.document)]));
}

/// Runs the suite on an empty store.
pub async fn suite(store: &Store) {
    artifacts_are_stored_once_and_read_back(store).await;
    names_cannot_leave_the_store(store).await;
    a_job_has_either_an_error_or_a_manifest(store).await;
    first_manifest_is_kept(store).await;
    artifact_with_different_content_is_rejected(store).await;
    exactly_one_concurrent_writer_completes_a_job(store).await;
    log_entries_are_created_once_and_listed_with_the_jobs(store).await;
    manifests_are_read_with_the_hash_of_their_bytes(store).await;
}
