//! Runs the conformance suite on memory and a local directory, and tests faults specific to
//! directories.

#[cfg(unix)]
mod hostile_directory;
mod suite;

use std::{fs, path::Path};

use forge_contract::digest::Digest;
use forge_store::{IndexContent, S3Options, Store, StoreError, StoreLocation};
use suite::{artifact, job, manifest, suite};

#[tokio::test]
async fn a_store_in_memory_conforms() {
    let location: StoreLocation = "memory:".parse().unwrap();
    suite(&Store::open(&location, &S3Options::default()).await.unwrap()).await;
}

#[tokio::test]
async fn a_local_directory_conforms() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("not/there/yet");
    let location = StoreLocation::Directory(root.clone());
    suite(&Store::open(&location, &S3Options::default()).await.unwrap()).await;
    Store::open_for_reading(&location, &S3Options::default()).await.unwrap();
    assert_only_stored_objects_remain(&root);
}

/// Checks that no staging file and no probe remains, and that every object is stored under the hash
/// of its content.
fn assert_only_stored_objects_remain(root: &Path) {
    let top: Vec<_> = names(root);
    assert_eq!(top, ["artifacts", "jobs", "log"]);
    let objects = root.join("artifacts/sha256");
    assert_eq!(names(&objects).len(), 4);
    for hash in names(&objects) {
        for name in names(&objects.join(&hash)) {
            let content = fs::read(objects.join(&hash).join(&name)).unwrap();
            assert_eq!(Digest::hash_parts(&[&content]).to_hex(), hash, "{name}");
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
async fn different_content_under_a_hash_is_reported_and_kept() {
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
async fn a_file_in_place_of_a_directory_is_named() {
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
async fn a_manifest_of_another_job_or_version_is_rejected() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::create_local(directory.path()).await.unwrap();
    store.complete_job(&manifest("right", Vec::new()), &IndexContent::default()).await.unwrap();
    fs::rename(directory.path().join("jobs/right"), directory.path().join("jobs/wrong")).unwrap();
    let error = store.get_manifest(&job("wrong")).await.unwrap_err();
    assert!(error.to_string().contains("it is the manifest of job right"), "{error}");

    let path = directory.path().join("jobs/wrong/manifest.json");
    let later = fs::read_to_string(&path).unwrap().replace("forge.manifest.v1", "forge.manifest.v2");
    fs::write(&path, later).unwrap();
    assert!(matches!(store.get_manifest(&job("wrong")).await, Err(StoreError::Malformed { .. })));
    fs::write(&path, "{").unwrap();
    assert!(matches!(store.get_manifest(&job("wrong")).await, Err(StoreError::Malformed { .. })));
}
