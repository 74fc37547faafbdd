//! The log of a store: several aggregators append to it, and one that is killed between manifest
//! and entry leaves the entry to another one.

use std::{
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use forge_contract::{artifact::ManifestDocument, manifest_log::LogEntryDocument};
use serde_json::{Value, json};

use crate::{
    bus_observer::BusObserver,
    job_mix::{assert_all_complete, spawn_slow_services},
    support::{Cluster, TestStore, WAIT_LIMIT, insurance_envelope},
};

/// The report of `forge audit --log`, which must pass.
#[track_caller]
fn audit_log(cluster: &Cluster) -> Value {
    let output = cluster.run(&["audit", "--log", &cluster.store(), "--format", "json"]);
    let report = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{report}{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_str(&report).unwrap()
}

fn read_entry(store: &Path, number: u64) -> LogEntryDocument {
    LogEntryDocument::parse(&fs::read(store.join(format!("log/{number:020}.json"))).unwrap()).unwrap()
}

/// Two aggregators complete jobs, and one after the other is killed while it does.
fn assert_log_survives_kills(store: TestStore) {
    let mut cluster = Cluster::empty(store);
    spawn_slow_services(&mut cluster);
    cluster.spawn("aggregator-2", &["aggregator"]);
    let observer = BusObserver::connect(&cluster);
    let envelopes: Vec<_> =
        (0..32).map(|number| insurance_envelope(&format!("logged-{number}"), 1 + number % 3)).collect();
    for (number, envelope) in envelopes.iter().enumerate() {
        cluster.submit(envelope);
        if number % 8 == 7 {
            let name = ["aggregator", "aggregator-2"][number / 8 % 2];
            cluster.kill(name);
            cluster.spawn(name, &["aggregator"]);
        }
    }
    assert_all_complete(&cluster, &observer, &envelopes);
    let report = audit_log(&cluster);
    assert_eq!(report["jobs"], envelopes.len(), "{report:#}");
    // A manifest may be recorded twice, but only if an aggregator was killed at that moment.
    let entries = report["entries"].as_u64().unwrap() as usize;
    assert!((envelopes.len()..envelopes.len() + 8).contains(&entries), "{report:#}");
    observer.assert_drained();
}

#[test]
fn aggregators_write_one_log_in_a_bucket_and_survive_kills() {
    assert_log_survives_kills(TestStore::S3(forge_harness::S3Server::shared()));
}

#[test]
fn aggregators_write_one_log_in_a_directory_and_survive_kills() {
    assert_log_survives_kills(TestStore::Directory);
}

#[test]
fn manifest_of_a_killed_aggregator_is_kept_and_recorded_by_another() {
    let mut cluster = Cluster::empty(TestStore::Directory);
    let store = Path::new(&cluster.store()).to_owned();
    fs::create_dir(&store).unwrap();
    // A file in place of the log's folder keeps the aggregator between manifest and entry.
    fs::write(store.join("log"), "in the way").unwrap();
    for service in ["planner", "aggregator", "verifier", "worker"] {
        cluster.spawn(service, &[service]);
    }
    let envelope = insurance_envelope("interrupted", 3);
    cluster.submit(&envelope);
    let manifest_path = store.join("jobs/interrupted/manifest.json");
    let started = Instant::now();
    while !manifest_path.exists() {
        assert!(started.elapsed() < WAIT_LIMIT, "{}", cluster.logs());
        thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(cluster.record("interrupted")["state"], "reducing");
    cluster.kill("aggregator");
    let manifest = fs::read(&manifest_path).unwrap();
    fs::remove_file(store.join("log")).unwrap();
    cluster.spawn("aggregator-2", &["aggregator"]);
    cluster.assert_completes(&envelope);
    assert_eq!(fs::read(&manifest_path).unwrap(), manifest);
    let report = audit_log(&cluster);
    assert_eq!((&report["entries"], &report["jobs"]), (&json!(1), &json!(1)));
    let manifest: ManifestDocument = serde_json::from_slice(&manifest).unwrap();
    assert_ne!(Some(read_entry(&store, 1).signer), manifest.signer);
}

#[test]
fn manifest_that_a_stranger_put_under_a_job_is_not_adopted() {
    let cluster = Cluster::start();
    let envelope = insurance_envelope("forged", 2);
    let path = cluster.directory.path().join("envelope.json");
    fs::write(&path, envelope.to_string()).unwrap();
    // With the right envelope, result and signature, but of another submission.
    let run = cluster.run(&["run", path.to_str().unwrap(), "--out", &cluster.store()]);
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let manifest_path = Path::new(&cluster.store()).join("jobs/forged/manifest.json");
    let manifest = fs::read(&manifest_path).unwrap();
    cluster.submit(&envelope);
    let record = cluster.wait_for_end("forged");
    assert_eq!((&record["state"], &record["error"]["code"]), (&json!("failed"), &json!("conflict")));
    let message = record["error"]["message"].as_str().unwrap();
    assert!(message.contains("is the manifest of another submission of job forged"), "{message}");
    assert_eq!(fs::read(&manifest_path).unwrap(), manifest);
}
