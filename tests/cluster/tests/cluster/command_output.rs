//! What the `forge` commands that talk to services print for programs, and how contexts lead them
//! to their services.

use std::{fs, path::Path};

use forge_bus::topology::Bucket;
use forge_contract::agent::{AgentId, Identity};
use serde_json::{Value, json};

use crate::{
    bus_observer::BusObserver,
    support::{Cluster, insurance_envelope},
};

/// Runs a command with `--format json`, and parses each line of its output.
#[track_caller]
fn lines(cluster: &Cluster, arguments: &[&str]) -> Vec<Value> {
    let output = cluster.forge().args(arguments).args(["--format", "json"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{arguments:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn write_envelope(directory: &Path, job: &str, leaves: u64) -> String {
    let path = directory.join(format!("{job}.json"));
    fs::write(&path, insurance_envelope(job, leaves).to_string()).unwrap();
    path.display().to_string()
}

#[test]
fn every_command_that_talks_to_services_prints_json() {
    let cluster = Cluster::start();
    cluster.complete_warm_up();
    let directory = cluster.directory.path();
    let is_record = |record: &Value, job: &str, state: &str| {
        assert_eq!(
            (&record["schema"], &record["job_id"], &record["state"]),
            (&json!("forge.job.v1"), &json!(job), &json!(state))
        );
    };
    let short = write_envelope(directory, "short", 1);
    let submitted = lines(&cluster, &["submit", &short, "--wait"]);
    is_record(&submitted[0], "short", "completed");
    for command in ["status", "watch"] {
        is_record(lines(&cluster, &[command, "short"]).last().unwrap(), "short", "completed");
    }
    let long = write_envelope(directory, "long", 2_000_000);
    lines(&cluster, &["submit", &long]);
    is_record(&lines(&cluster, &["cancel", "long"])[0], "long", "cancelled");
    let jobs = lines(&cluster, &["jobs"]);
    let ids: Vec<_> = jobs.iter().map(|record| record["job_id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["long", "short", "warm-up"]);
    let artifacts = lines(&cluster, &["artifacts", "ls", "short"]);
    assert!(artifacts.iter().any(|artifact| artifact["name"] == "result.json"), "{artifacts:?}");
    let agents = lines(&cluster, &["agents"]);
    let worker = agents.iter().find(|agent| agent["role"] == "worker").unwrap();

    // A quarantine of an agent that is not there.
    let id: AgentId = Identity::from_random([7; 32]).id().clone();
    let record = json!({"schema": "forge.quarantine.v1", "agent_id": id, "pool": worker["pool"],
        "job_uid": "ab".repeat(16), "shard_id": "0-0", "claimed": "00".repeat(32), "correct": "11".repeat(32),
        "verifier_id": id});
    let observer = BusObserver::connect(&cluster);
    let key = format!("quarantine.{id}");
    observer
        .block_on(observer.bus.put(&Bucket::Agents, &key, record.to_string().into_bytes().into()))
        .unwrap();
    assert_eq!(lines(&cluster, &["quarantine", "ls"]), [record]);
    let output = cluster.run(&["quarantine", "lift", id.as_str(), "--format", "json"]);
    let lifted: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&lifted["lifted"], &lifted["agents_left"]), (&json!(id), &json!(0)));
    assert!(lines(&cluster, &["quarantine", "ls"]).is_empty());
}

#[test]
fn clients_find_their_services_by_the_context() {
    let cluster = Cluster::start();
    cluster.complete_warm_up();
    let home = cluster.directory.path().join("home");
    let client = || {
        let mut command = cluster.forge();
        command.env_remove("FORGE_NATS_URL").env_remove("FORGE_STORE").env("XDG_CONFIG_HOME", &home);
        command
    };
    let run = |arguments: &[&str]| {
        let output = client().args(arguments).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let (url, store) = (cluster.nats.url(), cluster.store());
    assert_eq!(run(&["context", "add", "test", "--nats", &url, "--store", &store]).0, Some(0));
    let (code, text, stderr) = run(&["status", "warm-up"]);
    assert!(code == Some(0) && text.contains("completed"), "{text}{stderr}");
    let (code, text, stderr) = run(&["artifacts", "ls", "warm-up"]);
    assert!(code == Some(0) && text.contains("result.json"), "{text}{stderr}");
    // An option replaces the whole connection, and says so.
    assert_eq!(run(&["context", "add", "other", "--nats", "nats://127.0.0.1:1"]).0, Some(0));
    let (code, _, stderr) = run(&["status", "warm-up", "--context", "other", "--nats-url", &url]);
    assert!(code == Some(0) && stderr.contains("--nats-url or its variable is given"), "{stderr}");
}
