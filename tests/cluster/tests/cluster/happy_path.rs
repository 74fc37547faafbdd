//! Jobs through all services, without any fault.

use serde_json::json;

use crate::support::{Cluster, insurance_envelope, with_field};

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
