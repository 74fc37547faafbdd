//! One suite for every backend, and what only a local directory can get wrong.

use std::{fs, path::Path};

use forge_contract::{
    artifact::{ArtifactReference, ErrorDocument, ManifestDocument, Phase},
    digest::Digest,
    error::FailureCode,
    ids::{JobId, ReplayKey},
};
use forge_store::{Artifact, Completion, Store, StoreError};

fn artifact(name: &str, content: &str) -> Artifact {
    let media_type = "text/plain".to_owned();
    Artifact { name: name.to_owned(), media_type, bytes: content.as_bytes().to_vec() }
}

fn job(name: &str) -> JobId {
    name.parse().unwrap()
}

fn manifest(name: &str, artifacts: Vec<ArtifactReference>) -> ManifestDocument {
    ManifestDocument {
        schema: ManifestDocument::SCHEMA.to_owned(),
        job_id: job(name),
        kernel: 1,
        replay_key: ReplayKey(Digest::of(&[b"key"])),
        request: Digest::of(&[b"request"]),
        result: Digest::of(&[b"result"]),
        merkle_root: Digest::of(&[b"root"]),
        shards: 3,
        artifacts,
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
    assert_eq!((first.size, first.sha256), (5, Digest::of(&[b"hello"])));
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
    assert_eq!(store.manifest(&job("one")).await.unwrap(), None);
    assert!(store.put_error(&failure("one", "first")).await.unwrap());
    assert!(store.put_error(&failure("one", "second")).await.unwrap());
    assert_eq!(store.error(&job("one")).await.unwrap().unwrap().message, "second");

    let references =
        store.put_artifacts(vec![artifact("r.json", "1"), artifact("e.json", "2")]).await.unwrap();
    assert_eq!(references.iter().map(|r| r.name.as_str()).collect::<Vec<_>>(), ["r.json", "e.json"]);
    let document = manifest("one", references);
    assert_eq!(store.complete(&document, &[]).await.unwrap(), Completion::Stored);
    assert_eq!(store.manifest(&job("one")).await.unwrap().as_ref(), Some(&document));
    assert_eq!(store.error(&job("one")).await.unwrap(), None);

    assert!(!store.put_error(&failure("one", "too late")).await.unwrap());
    assert_eq!(store.error(&job("one")).await.unwrap(), None);
}

async fn the_first_manifest_stays(store: &Store) {
    let first = manifest("two", Vec::new());
    let second = ManifestDocument { result: Digest::of(&[b"another"]), ..first.clone() };
    assert_eq!(store.complete(&first, &[]).await.unwrap(), Completion::Stored);
    let answer = store.complete(&second, &[]).await.unwrap();
    assert_eq!(answer, Completion::AlreadyComplete(Box::new(first.clone())));
    assert_eq!(store.manifest(&job("two")).await.unwrap(), Some(first));
}

async fn suite(store: &Store) {
    artifacts_are_stored_once_and_read_back(store).await;
    names_cannot_leave_the_store(store).await;
    a_job_has_either_an_error_or_a_manifest(store).await;
    the_first_manifest_stays(store).await;
}

#[tokio::test]
async fn memory() {
    suite(&Store::in_memory()).await;
}

#[tokio::test]
async fn local_directory() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("not/there/yet");
    suite(&Store::create_local(&root).await.unwrap()).await;
    suite_leaves_only_what_it_stored(&root);
}

/// No staging file, no probe, and every object under the hash of its content.
fn suite_leaves_only_what_it_stored(root: &Path) {
    let top: Vec<_> = names(root);
    assert_eq!(top, ["artifacts", "jobs"]);
    let objects = root.join("artifacts/sha256");
    assert_eq!(names(&objects).len(), 3);
    for hash in names(&objects) {
        for name in names(&objects.join(&hash)) {
            let content = fs::read(objects.join(&hash).join(&name)).unwrap();
            assert_eq!(Digest::of(&[&content]).to_hex(), hash, "{name}");
        }
    }
    assert_eq!(names(&root.join("jobs/one")), ["index.html", "manifest.json"]);
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn other_bytes_under_a_hash_are_reported_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::create_local(directory.path()).await.unwrap();
    let reference = store.put_artifact(artifact("a.txt", "hello")).await.unwrap();
    let path = directory.path().join(reference.key());
    fs::write(&path, "hellO").unwrap();

    let error = store.put_artifact(artifact("a.txt", "hello")).await.unwrap_err();
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
    assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    assert_eq!(fs::read(&path).unwrap(), b"hellO");
    assert_eq!(names(path.parent().unwrap()), ["a.txt"]);
}

#[tokio::test]
async fn a_file_in_the_way_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    for root in [file.clone(), file.join("below")] {
        let error = Store::create_local(&root).await.unwrap_err();
        assert!(matches!(error, StoreError::Unusable { .. }), "{error}");
        assert!(error.to_string().contains(file.to_str().unwrap()), "{error}");
    }
    let absent = directory.path().join("absent");
    assert!(matches!(Store::open_local(&absent), Err(StoreError::Missing { .. })));
    assert!(matches!(Store::open_local(&file), Err(StoreError::Unusable { .. })));
}

#[tokio::test]
async fn a_manifest_of_another_job_or_version_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::create_local(directory.path()).await.unwrap();
    store.complete(&manifest("right", Vec::new()), &[]).await.unwrap();
    fs::rename(directory.path().join("jobs/right"), directory.path().join("jobs/wrong")).unwrap();
    let error = store.manifest(&job("wrong")).await.unwrap_err();
    assert!(error.to_string().contains("it is the manifest of job right"), "{error}");

    let path = directory.path().join("jobs/wrong/manifest.json");
    let later = fs::read_to_string(&path).unwrap().replace("forge.manifest.v1", "forge.manifest.v2");
    fs::write(&path, later).unwrap();
    assert!(matches!(store.manifest(&job("wrong")).await, Err(StoreError::Malformed { .. })));
    fs::write(&path, "{").unwrap();
    assert!(matches!(store.manifest(&job("wrong")).await, Err(StoreError::Malformed { .. })));
}
