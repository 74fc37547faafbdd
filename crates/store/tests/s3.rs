//! Runs the conformance suite on a bucket of a real S3 store, and tests faults specific to buckets.

mod suite;

use std::{process::Command, time::Duration};

use forge_harness::{S3Server, tools};
use forge_store::{IndexContent, S3Credentials, S3Options, Store, StoreError, StoreLocation};
#[cfg(feature = "object-lock")]
use forge_store::{ObjectLock, RetentionMode};
use suite::{artifact, job, manifest, suite};
use tokio::time::Instant;

fn options(server: &S3Server) -> S3Options {
    let variables = server.env();
    let find = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into());
    S3Options::from_variables(find).unwrap()
}

fn location(text: &str) -> StoreLocation {
    text.parse().unwrap()
}

/// Queries the store with an independent client: `support.py`.
fn boto3(server: &S3Server, arguments: &[&str]) -> Vec<String> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support.py");
    let mut command = Command::new(tools::python(&[tools::BOTO3]));
    let output = command.arg(script).args(arguments).envs(server.env()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn a_bucket_conforms() {
    let server = S3Server::shared();
    let place = location("s3://forge/a/prefix");
    let store = Store::open(&place, &options(&server)).await.unwrap();
    suite(&store).await;
    assert_eq!(store.locate("x"), "s3://forge/a/prefix/x");

    let keys = boto3(&server, &["keys", "forge", "a/prefix/"]);
    assert_eq!(keys.iter().filter(|key| key.starts_with("a/prefix/artifacts/sha256/")).count(), 4);
    assert!(keys.contains(&"a/prefix/jobs/one/manifest.json".to_owned()), "{keys:?}");
    assert!(!keys.iter().any(|key| key.contains(".forge-probe")), "{keys:?}");
    for (name, media_type) in
        [("index.html", "text/html; charset=utf-8"), ("manifest.json", "application/json")]
    {
        let key = format!("a/prefix/jobs/one/{name}");
        assert_eq!(boto3(&server, &["media-type", "forge", &key]), [media_type]);
    }
    let reference = artifact("a.txt", "hello").reference();
    assert_eq!(
        boto3(&server, &["media-type", "forge", &format!("a/prefix/{}", reference.key())]),
        ["text/plain"]
    );

    let reader = Store::open_for_reading(&place, &options(&server)).await.unwrap();
    assert_eq!(reader.get_artifact(&reference).await.unwrap(), b"hello");
}

#[tokio::test]
async fn different_content_under_a_hash_is_reported_and_kept() {
    let server = S3Server::shared();
    let store = Store::open(&location("s3://forge/corrupt"), &options(&server)).await.unwrap();
    let reference = artifact("a.txt", "hello").reference();
    boto3(&server, &["put", "forge", &format!("corrupt/{}", reference.key()), "hellO"]);
    for _ in 0..2 {
        let error = store.put_artifact(artifact("a.txt", "hello")).await.unwrap_err();
        assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
    }
}

#[cfg(feature = "object-lock")]
#[tokio::test]
async fn objects_created_under_object_lock_are_retained() {
    let server = S3Server::shared();
    let place = location("s3://locked/p");
    let lock = ObjectLock { mode: RetentionMode::Compliance, days: 2 };
    let options = S3Options { object_lock: Some(lock), ..options(&server) };
    let store = Store::open(&place, &options).await.unwrap();
    suite(&store).await;
    // The second opening finds the existing bucket.
    let store_again = Store::open(&place, &options).await.unwrap();
    let reference = store_again.put_artifact(artifact("a.txt", "hello")).await.unwrap();
    assert!(boto3(&server, &["versions", "locked", "p/.forge-probe/"]).is_empty());

    let entry = format!("p/{}", Store::log_entry_key(2));
    for key in [format!("p/{}", reference.key()), "p/jobs/one/manifest.json".to_owned(), entry] {
        assert_eq!(boto3(&server, &["retention", "locked", &key]), ["COMPLIANCE 2"]);
        assert_eq!(boto3(&server, &["delete-versions", "locked", &key]), ["403 AccessDenied"]);
    }
    assert_eq!(boto3(&server, &["media-type", "locked", "p/jobs/one/manifest.json"]), ["application/json"]);
    assert_eq!(boto3(&server, &["delete-versions", "locked", "p/jobs/two/index.html"]), ["deleted"]);
    assert_eq!(store.get_artifact(&reference).await.unwrap(), b"hello");
}

#[cfg(feature = "object-lock")]
#[tokio::test]
async fn a_bucket_without_object_lock_is_rejected_if_it_is_requested() {
    let server = S3Server::shared();
    let lock = ObjectLock { mode: RetentionMode::Governance, days: 1 };
    let options = S3Options { object_lock: Some(lock), ..options(&server) };
    let error = Store::open(&location("s3://forge"), &options).await.unwrap_err();
    assert!(matches!(error, StoreError::Unusable { .. }), "{error}");
    assert!(error.to_string().contains("without Object Lock"), "{error}");
}

#[tokio::test]
async fn a_missing_bucket_and_wrong_credentials_are_reported() {
    let server = S3Server::shared();
    let good = options(&server);
    let error = Store::open(&location("s3://no-such-bucket"), &good).await.unwrap_err();
    assert!(matches!(error, StoreError::Missing { .. }), "{error}");
    assert_eq!(error.to_string(), "the bucket no-such-bucket does not exist");

    let known = server.access_key();
    for (access_key_id, secret_access_key) in [(known, "hunter2"), ("nobody", "hunter2")] {
        let credentials = S3Credentials {
            access_key_id: access_key_id.to_owned(),
            secret_access_key: secret_access_key.to_owned(),
            session_token: None,
        };
        let wrong = S3Options { credentials: Some(credentials), ..good.clone() };
        let error = Store::open(&location("s3://forge"), &wrong).await.unwrap_err();
        assert!(matches!(error, StoreError::Unusable { .. }), "{error}");
        let shown = format!("{error} {error:?} {wrong:?}");
        assert!(shown.contains("access denied"), "{shown}");
        assert!(!shown.contains("hunter2") && !shown.contains(access_key_id), "{shown}");
    }
}

#[tokio::test]
async fn an_unreachable_store_is_reported_promptly() {
    let server = S3Server::shared();
    // No process listens on port 1, and 192.0.2.0/24 is reserved for documentation.
    for endpoint in ["http://127.0.0.1:1", "http://192.0.2.1:9000"] {
        let options = S3Options { endpoint: Some(endpoint.to_owned()), ..options(&server) };
        let start = Instant::now();
        let error = Store::open(&location("s3://forge"), &options).await.unwrap_err();
        assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
        assert!(matches!(error, StoreError::Unavailable { .. }), "{error:?}");
        assert!(error.to_string().contains(endpoint), "{error}");
    }
}

#[tokio::test]
async fn a_store_recovers_after_it_stops_responding() {
    let mut server = S3Server::start();
    let place = location("s3://forge");
    // Writes that must succeed get a generous timeout: the first writes to SeaweedFS may take
    // seconds.
    let patient = Store::open(&place, &options(&server)).await.unwrap();
    patient.complete_job(&manifest("before", Vec::new()), &IndexContent::default()).await.unwrap();
    let reference = patient.put_artifact(artifact("a.txt", "hello")).await.unwrap();
    let request_timeout = Duration::from_secs(1);
    let impatient = S3Options { request_timeout, max_retries: 1, ..options(&server) };
    let store = Store::open_for_reading(&place, &impatient).await.unwrap();

    server.pause();
    for error in [
        store.get_artifact(&reference).await.unwrap_err(),
        store.put_artifact(artifact("b.txt", "later")).await.unwrap_err(),
        store.get_manifest(&job("before")).await.unwrap_err(),
    ] {
        assert!(matches!(error, StoreError::Unavailable { .. }), "{error:?}");
        assert!(error.to_string().ends_with("the store did not answer in time"), "{error}");
    }
    server.resume();
    patient.put_artifact(artifact("b.txt", "later")).await.unwrap();

    server.kill();
    let error = store.get_manifest(&job("before")).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable { .. }), "{error:?}");
    server.restart();
    assert!(patient.get_manifest(&job("before")).await.unwrap().is_some());
    assert_eq!(patient.get_artifact(&reference).await.unwrap(), b"hello");
}

#[tokio::test]
async fn tls_requires_a_trusted_ca() {
    let server = S3Server::start_with_tls();
    let (endpoint, authority) = server.tls_endpoint().unwrap();
    let place = location("s3://forge/encrypted");
    let hasty = S3Options { max_retries: 0, endpoint: Some(endpoint), ..options(&server) };
    let unknown = Store::open(&place, &hasty).await;
    assert!(matches!(unknown, Err(StoreError::Unavailable { .. })), "{:?}", unknown.err());
    let none = S3Options { ca_bundle: Some("/dev/null".into()), ..hasty.clone() };
    let none = Store::open(&place, &none).await.err().unwrap().to_string();
    assert!(none.contains("AWS_CA_BUNDLE holds no certificate"), "{none}");
    let known = S3Options { ca_bundle: Some(authority), ..hasty };
    suite(&Store::open(&place, &known).await.unwrap()).await;
    // Object Lock uses the SDK, which must trust the same CA.
    let retention = ObjectLock { mode: RetentionMode::Governance, days: 1 };
    let locked = S3Options { object_lock: Some(retention), ..known };
    let place = location("s3://forge-encrypted-locked/encrypted");
    suite(&Store::open(&place, &locked).await.unwrap()).await;
}
