//! Jobs through all services, without any fault.

use std::sync::{Arc, Mutex};

use futures_util::StreamExt;
use serde_json::json;

use crate::{
    bus_observer::BusObserver,
    job_mix::convergence_args,
    support::{Cluster, insurance_envelope, with_field},
};

#[test]
fn job_result_equals_forge_run() {
    let cluster = Cluster::start();
    let envelope = insurance_envelope("plain", 20);
    cluster.submit(&envelope);
    let record = cluster.assert_completes(&envelope);
    assert_eq!(record["progress"]["shards_done"], 20);
    assert!(record["headline"]["mean_loss"].as_f64().is_some_and(|mean| mean > 0.0));
}

#[test]
fn verified_job_on_s3_can_be_audited_and_replayed() {
    let cluster = Cluster::start_on_s3();
    let envelope = with_field(insurance_envelope("verified", 12), "/policy/verify", json!("full"));
    let artifacts = ["result_json", "executions_json", "metrics_json", "verification_json", "plan_json"];
    let envelope = with_field(envelope, "/artifacts/include", json!(artifacts));
    cluster.submit(&envelope);
    let record = cluster.assert_completes(&envelope);
    assert_eq!(record["progress"]["shards_verified"], 12);
    let manifest = record["manifest"].as_str().unwrap();
    assert!(manifest.starts_with("s3://"), "{manifest}");
    for arguments in [["replay", manifest].as_slice(), &["audit", manifest, "--reexecute", "2"]] {
        let output = cluster.run(arguments);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
        assert!(text.contains("same result") || text.contains("checks passed"), "{text}");
    }
}

/// A job of more than 2^30 expected draws is long, even if it converges early.
#[test]
fn shards_and_verifications_of_a_long_job_wait_in_queues_of_their_own() {
    let cluster = Cluster::start();
    let observer = BusObserver::connect(&cluster);
    let subjects = Arc::<Mutex<Vec<String>>>::default();
    for filter in ["forge.v1.shards.>", "forge.v1.duplicates.>", "forge.v1.duplicates-long.>"] {
        let mut messages = observer.block_on(observer.bus.subscribe(filter)).unwrap();
        let seen = Arc::clone(&subjects);
        observer.spawn(async move {
            while let Some(message) = messages.next().await {
                seen.lock().unwrap().push(message.subject);
            }
        });
    }
    let envelope = with_field(insurance_envelope("long", 100_000), "/args/convergence", convergence_args());
    let envelope = with_field(envelope, "/policy/verify", json!("full"));
    cluster.submit(&envelope);
    let record = cluster.assert_completes(&envelope);
    let progress = &record["progress"];
    assert!(progress["shards_verified"].as_u64() > Some(0), "{record:#}");
    assert_eq!(progress["shards_verified"], progress["shards_done"], "{record:#}");
    let short = insurance_envelope("short", 2);
    cluster.submit(&short);
    let short_uid = cluster.assert_completes(&short)["uid"].as_str().unwrap().to_owned();
    let uid = record["uid"].as_str().unwrap();
    let subjects = subjects.lock().unwrap();
    let kinds = |uid: &str| -> Vec<&str> {
        let of_job = subjects.iter().filter_map(|subject| Some(subject.split_once(&format!(".{uid}."))?.0));
        let mut kinds: Vec<_> = of_job.collect();
        kinds.sort_unstable();
        kinds.dedup();
        kinds
    };
    assert_eq!(kinds(uid), ["forge.v1.duplicates-long", "forge.v1.shards.any-long"]);
    assert_eq!(kinds(&short_uid), ["forge.v1.shards.any"]);
    observer.assert_drained();
}
