//! Clients that are none of ours: the scripts of `examples/python`, which know NATS and S3 and nothing else of Forge.

use std::{
    fs,
    io::Write,
    path::Path,
    process::{Command, Output, Stdio},
};

use forge_harness::{
    S3Server,
    tools::{self, BOTO3, NATS_PY},
};
use serde_json::{Value, json};

use crate::support::{Cluster, insurance, result_of_run, with};

/// A script of `examples/python` that talks to the cluster's NATS.
pub fn script(cluster: &Cluster, name: &str) -> Command {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/python").join(name);
    let mut command = Command::new(tools::python(&[NATS_PY, BOTO3]));
    command.arg(path).env("NATS_URL", cluster.nats.url()).envs(S3Server::shared().env());
    command
}

/// Exit code and everything that was said.
pub fn text(output: &Output) -> (Option<i32>, String) {
    let all = [&output.stdout[..], &output.stderr[..]].concat();
    (output.status.code(), String::from_utf8(all).unwrap())
}

fn written(cluster: &Cluster, name: &str, content: &Value) -> String {
    let path = cluster.directory.path().join(name);
    fs::write(&path, content.to_string()).unwrap();
    path.display().to_string()
}

#[test]
fn a_job_is_submitted_followed_and_checked_from_python() {
    let cluster = Cluster::start_on_s3();
    cluster.completes_warm_up();
    let envelope = with(insurance("from-python", 8), "/artifacts/include", json!(["result_json", "ept_csv"]));
    let path = written(&cluster, "from-python.json", &envelope);
    let (code, said) = text(&script(&cluster, "submit.py").arg(&path).output().unwrap());
    assert_eq!(code, Some(0), "{said}");
    let result = result_of_run(&envelope);
    for part in ["from-python: completed", "mean_loss", "8/8 shards", &result] {
        assert!(said.contains(part), "{part}: {said}");
    }
    // Submitted again, it is the same job.
    let (code, said) = text(&script(&cluster, "submit.py").arg(&path).output().unwrap());
    assert!(code == Some(0) && said.contains(&result), "{said}");

    let out = cluster.directory.path().join("fetched");
    let mut browse = script(&cluster, "browse.py");
    let (code, said) =
        text(&browse.args([&cluster.store(), "from-python", "--out"]).arg(&out).output().unwrap());
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains(&result) && said.contains("ept.csv") && !said.contains("DAMAGED"), "{said}");
    let fetched = fs::read(out.join("result.json")).unwrap();
    assert_eq!(forge_contract::digest::Digest::hash_parts(&[&fetched]).to_hex(), result);
    let (code, said) = text(&script(&cluster, "browse.py").arg(cluster.store()).output().unwrap());
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("from-python") && said.contains("warm-up"), "{said}");
    let nobody = script(&cluster, "browse.py").args([&cluster.store(), "nobody"]).output().unwrap();
    assert_eq!(nobody.status.code(), Some(1));
}

#[test]
fn what_cannot_be_a_job_is_recorded_as_failed_for_python_too() {
    let cluster = Cluster::start_on_s3();
    cluster.completes_warm_up();
    let invalid = with(insurance("invalid", 1), "/args/claim_freq", json!(-1));
    let invalid = with(invalid, "/policy/colour", json!("red"));
    let path = written(&cluster, "invalid.json", &invalid);
    let (code, said) = text(&script(&cluster, "submit.py").arg(path).output().unwrap());
    assert_eq!(code, Some(3), "{said}");
    for part in ["invalid: failed", "invalid_request", "/args/claim_freq", "/policy/colour"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let record = cluster.wait("invalid");
    let pointers: Vec<_> =
        record["error"]["details"].as_array().unwrap().iter().map(|d| &d["pointer"]).collect();
    assert_eq!(pointers.len(), 2, "{record:#}");
    assert!(pointers.contains(&&json!("/args/claim_freq")) && pointers.contains(&&json!("/policy/colour")));

    // Another envelope under the id of a job that there is.
    let path = written(&cluster, "conflict.json", &insurance("warm-up", 2));
    let (code, said) = text(&script(&cluster, "submit.py").arg(path).output().unwrap());
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("conflict: ") && said.contains("rejected-"), "{said}");
}

#[test]
fn the_micro_service_is_found_and_answers_in_json() {
    let cluster = Cluster::start();
    cluster.completes_warm_up();
    // Long enough to be running still when it is cancelled.
    let envelope = with(insurance("micro", 2_000_000), "/policy/max_agents", json!(1));
    let mut child = Command::new(tools::python(&[NATS_PY, BOTO3]))
        .args(["-c", include_str!("micro.py")])
        .env("NATS_URL", cluster.nats.url())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(envelope.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(said["info"]["body"]["name"], "forge");
    let endpoints = said["info"]["body"]["endpoints"].as_array().unwrap();
    let mut subjects: Vec<_> =
        endpoints.iter().map(|endpoint| endpoint["subject"].as_str().unwrap()).collect();
    subjects.sort_unstable();
    let expected =
        ["forge.v1.api.cancel", "forge.v1.api.status", "forge.v1.api.submit", "forge.v1.api.submit.*"];
    assert_eq!(subjects, expected);
    for answer in ["submit", "again", "as_alice", "status", "cancel"] {
        assert_eq!(said[answer]["code"], Value::Null, "{said:#}");
        assert_eq!(said[answer]["body"]["schema"], "forge.job.v1", "{said:#}");
        assert_eq!(said[answer]["body"]["job_id"], "micro");
        assert_eq!(
            said[answer]["body"]["submitter"], "default",
            "who submits it again does not change whose it is"
        );
    }
    assert_eq!(said["cancel"]["body"]["state"], "cancelled", "{said:#}");
    assert_eq!((&said["unknown"]["code"], &said["invalid"]["code"]), (&json!("404"), &json!("400")));
    assert!(said["invalid"]["reason"].as_str().unwrap().contains("/op"), "{said:#}");
    assert_eq!(said["stats"]["body"]["endpoints"].as_array().unwrap().len(), 4);
    assert_eq!(said["nobody"]["code"], "400", "{said:#}");
}
