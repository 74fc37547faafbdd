//! Quotas of submitters: enforcement over several planners, and the errors that submitters see.

use std::{fs, process::Output};

use serde_json::{Value, json};

use crate::{
    python_clients::{output_text, python_script},
    support::{Cluster, TestStore, insurance_envelope, with_field},
};

/// Starts services whose two planners enforce these quotas.
fn start_cluster(quotas: &Value) -> Cluster {
    let mut cluster = Cluster::empty(TestStore::Directory);
    let path = write_json(&cluster, "quotas", quotas);
    cluster.spawn("planner", &["planner", "--quotas", &path]);
    cluster.spawn("second-planner", &["planner", "--quotas", &path]);
    for service in ["aggregator", "worker"] {
        cluster.spawn(service, &[service]);
    }
    cluster.complete_warm_up();
    cluster
}

fn write_json(cluster: &Cluster, name: &str, content: &Value) -> String {
    let path = cluster.directory.path().join(format!("{name}.json"));
    fs::write(&path, content.to_string()).unwrap();
    path.display().to_string()
}

/// Runs `forge submit` as the submitter alice.
fn submit_as_alice(cluster: &Cluster, envelope: &Value, options: &[&str]) -> Output {
    let path = write_json(cluster, envelope["ctx"]["job_id"].as_str().unwrap(), envelope);
    cluster.run(&[&["submit", &path, "--submitter", "alice"], options].concat())
}

#[track_caller]
fn assert_output(output: &Output, code: i32, parts: &[&str]) {
    let (found, text) = output_text(output);
    assert_eq!(found, Some(code), "{text}");
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in: {text}");
    }
}

/// A job that is still running when its test ends.
fn endless_job(job: &str) -> Value {
    with_field(insurance_envelope(job, 2_000_000), "/policy/max_agents", json!(1))
}

#[test]
fn third_concurrent_job_is_refused_until_another_has_ended() {
    let cluster = start_cluster(
        &json!({"schema": "forge.quotas.v1", "submitters": {"alice": {"concurrent_jobs": 2, "billable": false}}}),
    );
    for job in ["first", "second"] {
        assert_output(&submit_as_alice(&cluster, &endless_job(job), &[]), 0, &[job, "Submitter", "alice"]);
    }
    let parts = ["quota_exceeded", "submitter alice may have 2 concurrent jobs and has 2"];
    assert_output(&submit_as_alice(&cluster, &insurance_envelope("third", 1), &[]), 3, &parts);
    let record = cluster.wait_for_end("third");
    assert_eq!((&record["state"], &record["submitter"]), (&json!("failed"), &json!("alice")));
    assert_eq!(
        (&record["error"]["code"], &record["error"]["phase"]),
        (&json!("quota_exceeded"), &json!("validate"))
    );
    // A client in Python is refused for the same reason.
    let path = write_json(&cluster, "from-python", &insurance_envelope("from-python", 1));
    let output = python_script(&cluster, "submit.py").args([&path, "--submitter", "alice"]).output().unwrap();
    assert_output(&output, 3, &["from-python: failed", "quota_exceeded"]);
    // Other submitters are not affected.
    cluster.submit(&insurance_envelope("others", 1));
    assert_eq!(cluster.wait_for_end("others")["submitter"], "default");

    assert_output(&cluster.run(&["cancel", "first"]), 0, &["cancelled"]);
    assert_output(
        &submit_as_alice(&cluster, &insurance_envelope("fourth", 1), &["--wait"]),
        0,
        &["completed"],
    );
    // An ended job no longer counts.
    assert_output(
        &submit_as_alice(&cluster, &insurance_envelope("fifth", 1), &["--wait"]),
        0,
        &["completed"],
    );
    // The id of a failed job stays taken.
    assert_output(
        &submit_as_alice(&cluster, &insurance_envelope("third", 1), &["--wait"]),
        3,
        &["quota_exceeded"],
    );
    let billable = with_field(insurance_envelope("billable", 1), "/ctx/billing", json!({"mode": "billable"}));
    assert_output(&submit_as_alice(&cluster, &billable, &[]), 3, &["unauthorized", "alice", "billable"]);
    assert_output(&cluster.run(&["jobs"]), 0, &["Submitter", "failed (quota_exceeded)", "alice", "default"]);
}

#[test]
fn daily_iteration_quota_is_enforced() {
    let cluster = start_cluster(
        &json!({"schema": "forge.quotas.v1", "submitters": {"alice": {"iterations_per_day": 3 * 65_536}}}),
    );
    assert_output(
        &submit_as_alice(&cluster, &insurance_envelope("much", 4), &[]),
        3,
        &["quota_exceeded", "196608 iterations per day"],
    );
    assert_output(&submit_as_alice(&cluster, &insurance_envelope("fits", 3), &["--wait"]), 0, &["completed"]);
    // Submitting it again returns the same job and uses no quota.
    assert_output(&submit_as_alice(&cluster, &insurance_envelope("fits", 3), &["--wait"]), 0, &["completed"]);
    let bad = write_json(&cluster, "name", &insurance_envelope("name", 1));
    assert_output(
        &cluster.run(&["submit", &bad, "--submitter", "a.b"]),
        2,
        &["--submitter", "1 to 32 of the characters"],
    );
}
