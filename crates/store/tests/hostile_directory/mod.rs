//! Stores whose directory an attacker has changed: links, pipes, directories in place of files, and
//! documents of any size.

use std::{
    fs::{self, File},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::suite::{artifact, job, manifest};
use forge_store::{IndexContent, Store, StoreError};

const SPARSE_BYTES: u64 = 8 << 30;

/// A store with one job and one artifact, in a directory that is itself named by a link.
async fn prepared() -> (tempfile::TempDir, PathBuf, Store) {
    let directory = tempfile::tempdir().unwrap();
    let (real, root) = (directory.path().join("real"), directory.path().join("root"));
    fs::create_dir(&real).unwrap();
    symlink(&real, &root).unwrap();
    let store = Store::create_local(&root).await.unwrap();
    let reference = store.put_artifact(artifact("a.txt", "hello")).await.unwrap();
    store.complete_job(&manifest("one", vec![reference]), &IndexContent::default()).await.unwrap();
    (directory, root, store)
}

fn replace(path: &Path, create: impl FnOnce(&Path)) {
    fs::rename(path, path.with_extension("moved")).unwrap();
    create(path);
}

async fn artifact_error(store: &Store) -> StoreError {
    let reference = artifact("a.txt", "hello").reference();
    tokio::time::timeout(Duration::from_secs(20), store.get_artifact(&reference)).await.unwrap().unwrap_err()
}

#[track_caller]
fn assert_corrupt(error: &StoreError, text: &str) {
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
    assert!(error.to_string().contains(text), "{error}");
}

#[tokio::test]
async fn links_below_the_root_are_not_followed() {
    let (_directory, root, store) = prepared().await;
    assert!(store.get_manifest(&job("one")).await.unwrap().is_some(), "the root itself may be a link");
    let key = artifact("a.txt", "hello").reference().key();
    // The content behind the link is right, so only the link is wrong.
    let path = root.join(&key);
    replace(&path, |path| symlink(path.with_extension("moved"), path).unwrap());
    assert_corrupt(&artifact_error(&store).await, "a symbolic link is in its place");

    let (_directory, root, store) = prepared().await;
    let hash = root.join(&key).parent().unwrap().to_owned();
    replace(&hash, |path| symlink(path.with_extension("moved"), path).unwrap());
    assert_corrupt(&artifact_error(&store).await, "a symbolic link is in its place");
    let manifest_path = root.join("jobs/one/manifest.json");
    replace(&manifest_path, |path| symlink(path.with_extension("moved"), path).unwrap());
    assert_corrupt(&store.get_manifest(&job("one")).await.unwrap_err(), "a symbolic link");
}

#[tokio::test]
async fn writes_do_not_leave_the_store_through_a_link() {
    let (directory, root, store) = prepared().await;
    let outside = directory.path().join("outside");
    fs::create_dir(&outside).unwrap();
    replace(&root.join("artifacts"), |path| symlink(&outside, path).unwrap());
    let error = store.put_artifact(artifact("b.txt", "more")).await.unwrap_err();
    assert!(matches!(error, StoreError::Unusable { .. }), "{error}");
    assert!(error.to_string().contains("artifacts is a symbolic link"), "{error}");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
}

#[tokio::test]
async fn links_in_the_log_are_refused_and_linked_jobs_are_listed() {
    let (directory, root, store) = prepared().await;
    assert!(store.create_log_entry(1, b"one".to_vec()).await.unwrap());
    let entry = root.join(Store::log_entry_key(1));
    replace(&entry, |path| symlink(path.with_extension("moved"), path).unwrap());
    assert!(store.has_log_entry(1).await.unwrap());
    assert_corrupt(&store.get_log_entry(1).await.unwrap_err(), "a symbolic link");
    fs::write(root.join("log/00000000000000000002.json#3"), "staging").unwrap();
    let listing = store.list_log().await.unwrap();
    assert_eq!(listing.numbers.into_iter().collect::<Vec<_>>(), [1]);
    assert_eq!(listing.foreign, ["00000000000000000001.moved"]);

    let outside = directory.path().join("outside");
    fs::create_dir(&outside).unwrap();
    replace(&root.join("jobs/one"), |path| symlink(&outside, path).unwrap());
    assert_eq!(store.list_completed_jobs().await.unwrap().into_iter().collect::<Vec<_>>(), [job("one")]);
    replace(&root.join("log"), |path| symlink(&outside, path).unwrap());
    assert_corrupt(&store.list_log().await.unwrap_err(), "a symbolic link is in its place");
    assert!(matches!(store.has_log_entry(1).await, Err(StoreError::Unusable { .. })));
    assert!(matches!(store.create_log_entry(2, Vec::new()).await, Err(StoreError::Unusable { .. })));
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
}

#[tokio::test]
async fn pipes_and_directories_are_not_opened() {
    let (_directory, root, store) = prepared().await;
    let path = root.join(artifact("a.txt", "hello").reference().key());
    replace(&path, |path| {
        rustix::fs::mkfifoat(rustix::fs::CWD, path, rustix::fs::Mode::from_raw_mode(0o644)).unwrap();
    });
    assert_corrupt(&artifact_error(&store).await, "a named pipe is in its place");
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert_corrupt(&artifact_error(&store).await, "a directory is in its place");
    let manifest_path = root.join("jobs/one/manifest.json");
    replace(&manifest_path, |path| fs::create_dir(path).unwrap());
    assert_corrupt(&store.get_manifest(&job("one")).await.unwrap_err(), "a directory");
}

#[tokio::test]
async fn oversized_objects_are_refused_by_their_size() {
    let (_directory, root, store) = prepared().await;
    let sparse = |path: &Path| File::create(path).unwrap().set_len(SPARSE_BYTES).unwrap();
    replace(&root.join(artifact("a.txt", "hello").reference().key()), sparse);
    assert_corrupt(&artifact_error(&store).await, "it has 8589934592 bytes instead of 5");
    replace(&root.join("jobs/one/manifest.json"), sparse);
    let error = store.get_manifest(&job("one")).await.unwrap_err();
    assert!(matches!(error, StoreError::Malformed { .. }), "{error}");
    assert!(error.to_string().contains("it has 8589934592 bytes, and at most 1048576 are read"), "{error}");
}

#[tokio::test]
async fn manifests_are_read_strictly() {
    let (_directory, root, store) = prepared().await;
    let path = root.join("jobs/one/manifest.json");
    let intact = fs::read_to_string(&path).unwrap();
    let hash = artifact("a.txt", "hello").reference().sha256;
    let second = |name: &str| {
        format!(r#"{{"media_type":"text/plain","name":"{name}","sha256":"{hash}","size":5}},{{"media_type""#)
    };
    for (from, to, text) in [
        (r#""shards":3"#, r#""shards":9007199254740993"#.to_owned(), "/shards: is 9007199254740993"),
        (r#""shards":3"#, r#""shards":1e400"#.to_owned(), "/shards: is too large for a finite number"),
        (r#""shards":3"#, r#""shards":NaN"#.to_owned(), "is not valid JSON"),
        (r#""shards":3"#, r#""shards":3,"shards":3"#.to_owned(), "/shards: is given more than once"),
        (
            r#""shards":3"#,
            format!(r#""shards":{}3{}"#, "[".repeat(100_000), "]".repeat(100_000)),
            "too deeply",
        ),
        (r#"{"media_type""#, second("a.txt"), "it names two artifacts a.txt"),
        (r#"{"media_type""#, second("A.TXT"), "it names two artifacts"),
        (r#""name":"a.txt""#, r#""name":"../../a.txt""#.to_owned(), "a name must be 1 to 64"),
    ] {
        let forged = intact.replace(from, &to);
        assert_ne!(forged, intact, "{from}");
        fs::write(&path, forged).unwrap();
        let error = store.get_manifest(&job("one")).await.unwrap_err();
        assert!(matches!(error, StoreError::Malformed { .. }), "{error}");
        assert!(error.to_string().contains(text), "{text}: {error}");
    }
}
