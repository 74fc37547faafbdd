//! Jobs through the services, when nothing goes wrong.

use serde_json::json;

use crate::support::{Cluster, insurance, with};

#[test]
fn a_job_has_the_result_of_forge_run() {
    let cluster = Cluster::start();
    let envelope = insurance("plain", 20);
    cluster.submit(&envelope);
    let record = cluster.completes(&envelope);
    assert_eq!(record["progress"]["shards_done"], 20);
    assert!(record["headline"]["mean_loss"].as_f64().is_some_and(|mean| mean > 0.0));
}

#[test]
fn a_verified_job_on_s3_can_be_audited_and_replayed() {
    let cluster = Cluster::start_on_s3();
    let envelope = with(insurance("verified", 12), "/policy/verify", json!("full"));
    let all = ["result_json", "executions_json", "metrics_json", "verification_json", "plan_json"];
    let envelope = with(envelope, "/artifacts/include", json!(all));
    cluster.submit(&envelope);
    let record = cluster.completes(&envelope);
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
