//! Submitters and their quotas, as operators and submitters meet them.

use std::{fs, process::Output};

use serde_json::{Value, json};

use crate::{
    clients::{script, text},
    support::{Cluster, Place, insurance, with},
};

/// Services whose planners know these quotas.
fn cluster(quotas: &Value) -> Cluster {
    let mut cluster = Cluster::empty(Place::Directory);
    let path = written(&cluster, "quotas", quotas);
    cluster.spawn("planner", &["planner", "--quotas", &path]);
    cluster.spawn("second-planner", &["planner", "--quotas", &path]);
    for service in ["aggregator", "worker"] {
        cluster.spawn(service, &[service]);
    }
    cluster.completes_warm_up();
    cluster
}

fn written(cluster: &Cluster, name: &str, content: &Value) -> String {
    let path = cluster.directory.path().join(format!("{name}.json"));
    fs::write(&path, content.to_string()).unwrap();
    path.display().to_string()
}

/// Submits as alice.
fn submit(cluster: &Cluster, envelope: &Value, more: &[&str]) -> Output {
    let path = written(cluster, envelope["ctx"]["job_id"].as_str().unwrap(), envelope);
    cluster.run(&[&["submit", &path, "--submitter", "alice"], more].concat())
}

#[track_caller]
fn expect(output: &Output, code: i32, says: &[&str]) {
    let (found, said) = text(output);
    assert_eq!(found, Some(code), "{said}");
    for part in says {
        assert!(said.contains(part), "{part:?} is not in: {said}");
    }
}

/// A job that does not end by itself while a test runs.
fn long(job: &str) -> Value {
    with(insurance(job, 2_000_000), "/policy/max_agents", json!(1))
}

#[test]
fn the_third_job_at_once_is_refused_until_one_has_ended() {
    let cluster = cluster(
        &json!({"schema": "forge.quotas.v1", "submitters": {"alice": {"concurrent_jobs": 2, "billable": false}}}),
    );
    for job in ["first", "second"] {
        expect(&submit(&cluster, &long(job), &[]), 0, &[job, "Submitter", "alice"]);
    }
    let says = ["quota_exceeded", "submitter alice may have 2 concurrent jobs and has 2"];
    expect(&submit(&cluster, &insurance("third", 1), &[]), 3, &says);
    let record = cluster.wait("third");
    assert_eq!((&record["state"], &record["submitter"]), (&json!("failed"), &json!("alice")));
    assert_eq!(
        (&record["error"]["code"], &record["error"]["phase"]),
        (&json!("quota_exceeded"), &json!("validate"))
    );
    // The same for a client that is none of ours.
    let path = written(&cluster, "from-python", &insurance("from-python", 1));
    let output = script(&cluster, "submit.py").args([&path, "--submitter", "alice"]).output().unwrap();
    expect(&output, 3, &["from-python: failed", "quota_exceeded"]);
    // Others are not concerned.
    cluster.submit(&insurance("others", 1));
    assert_eq!(cluster.wait("others")["submitter"], "default");

    expect(&cluster.run(&["cancel", "first"]), 0, &["cancelled"]);
    expect(&submit(&cluster, &insurance("fourth", 1), &["--wait"]), 0, &["completed"]);
    // Its place is free again, too.
    expect(&submit(&cluster, &insurance("fifth", 1), &["--wait"]), 0, &["completed"]);
    // A failed job's id cannot be used again.
    expect(&submit(&cluster, &insurance("third", 1), &["--wait"]), 3, &["quota_exceeded"]);
    let billable = with(insurance("billable", 1), "/ctx/billing", json!({"mode": "billable"}));
    expect(&submit(&cluster, &billable, &[]), 3, &["unauthorized", "alice", "billable"]);
    expect(&cluster.run(&["jobs"]), 0, &["Submitter", "failed (quota_exceeded)", "alice", "default"]);
}

#[test]
fn the_iterations_of_a_day_are_counted() {
    let cluster = cluster(
        &json!({"schema": "forge.quotas.v1", "submitters": {"alice": {"iterations_per_day": 3 * 65_536}}}),
    );
    expect(
        &submit(&cluster, &insurance("much", 4), &[]),
        3,
        &["quota_exceeded", "196608 iterations per day"],
    );
    expect(&submit(&cluster, &insurance("fits", 3), &["--wait"]), 0, &["completed"]);
    // Submitted again it is the same job, and costs nothing.
    expect(&submit(&cluster, &insurance("fits", 3), &["--wait"]), 0, &["completed"]);
    let bad = written(&cluster, "name", &insurance("name", 1));
    expect(&cluster.run(&["submit", &bad, "--submitter", "a.b"]), 2, &["--submitter", "1 to 32 characters"]);
}
