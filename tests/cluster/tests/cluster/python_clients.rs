//! Independent clients: the scripts of `examples/python`, which use NATS and S3 and no code of
//! Forge.

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

use crate::support::{Cluster, insurance_envelope, local_result_hash, with_field};

/// A command that runs a script of `examples/python` against the cluster's NATS.
pub fn python_script(cluster: &Cluster, name: &str) -> Command {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/python").join(name);
    let mut command = Command::new(tools::python(&[NATS_PY, BOTO3]));
    command.arg(path).env("NATS_URL", cluster.nats.url()).envs(S3Server::shared().env());
    command
}

/// Exit code, and standard output followed by standard error.
pub fn output_text(output: &Output) -> (Option<i32>, String) {
    let all = [&output.stdout[..], &output.stderr[..]].concat();
    (output.status.code(), String::from_utf8(all).unwrap())
}

fn write_json(cluster: &Cluster, name: &str, content: &Value) -> String {
    let path = cluster.directory.path().join(name);
    fs::write(&path, content.to_string()).unwrap();
    path.display().to_string()
}

#[test]
fn python_scripts_submit_follow_and_check_a_job() {
    let cluster = Cluster::start_on_s3();
    cluster.complete_warm_up();
    let envelope = with_field(
        insurance_envelope("from-python", 8),
        "/artifacts/include",
        json!(["result_json", "ept_csv"]),
    );
    let path = write_json(&cluster, "from-python.json", &envelope);
    let (code, output) = output_text(&python_script(&cluster, "submit.py").arg(&path).output().unwrap());
    assert_eq!(code, Some(0), "{output}");
    let result = local_result_hash(&envelope);
    for part in ["from-python: completed", "  Mean  ", "8/8 shards", &result] {
        assert!(output.contains(part), "{part}: {output}");
    }
    // Submitting the same envelope again returns the same job.
    let (code, output) = output_text(&python_script(&cluster, "submit.py").arg(&path).output().unwrap());
    assert!(code == Some(0) && output.contains(&result), "{output}");

    let out = cluster.directory.path().join("fetched");
    let mut browse = python_script(&cluster, "browse.py");
    let (code, output) =
        output_text(&browse.args([&cluster.store(), "from-python", "--out"]).arg(&out).output().unwrap());
    assert_eq!(code, Some(0), "{output}");
    assert!(
        output.contains(&result) && output.contains("ept.csv") && !output.contains("DAMAGED"),
        "{output}"
    );
    let fetched = fs::read(out.join("result.json")).unwrap();
    assert_eq!(forge_contract::digest::Digest::hash_parts(&[&fetched]).to_hex(), result);
    let (code, output) =
        output_text(&python_script(&cluster, "browse.py").arg(cluster.store()).output().unwrap());
    assert_eq!(code, Some(0), "{output}");
    assert!(output.contains("from-python") && output.contains("warm-up"), "{output}");
    let unknown_job =
        python_script(&cluster, "browse.py").args([&cluster.store(), "no-such-job"]).output().unwrap();
    assert_eq!(unknown_job.status.code(), Some(1));
}

#[test]
fn python_script_reports_rejected_envelopes_as_failed_jobs() {
    let cluster = Cluster::start_on_s3();
    cluster.complete_warm_up();
    let invalid = with_field(insurance_envelope("invalid", 1), "/args/claim_freq", json!(-1));
    let invalid = with_field(invalid, "/policy/colour", json!("red"));
    let hostile = format!("\u{1b}]0;title\u{7}\u{200b}{}", "k".repeat(3000));
    let invalid = with_field(invalid, &format!("/args/{hostile}"), json!(1));
    let path = write_json(&cluster, "invalid.json", &invalid);
    let (code, output) = output_text(&python_script(&cluster, "submit.py").arg(path).output().unwrap());
    assert_eq!(code, Some(3), "{output}");
    for part in ["invalid: failed", "invalid_request", "/args/claim_freq", "/policy/colour"] {
        assert!(output.contains(part), "{part}: {output}");
    }
    let unsafe_characters = ['\u{1b}', '\u{7}', '\u{200b}'];
    assert!(!output.contains(unsafe_characters) && !output.contains(&"k".repeat(200)), "{output}");
    let record = cluster.wait_for_end("invalid");
    let pointers: Vec<_> =
        record["error"]["details"].as_array().unwrap().iter().map(|d| &d["pointer"]).collect();
    assert_eq!(pointers.len(), 3, "{record:#}");
    assert!(pointers.contains(&&json!("/args/claim_freq")) && pointers.contains(&&json!("/policy/colour")));

    // Another envelope under the id of an existing job.
    let path = write_json(&cluster, "conflict.json", &insurance_envelope("warm-up", 2));
    let (code, output) = output_text(&python_script(&cluster, "submit.py").arg(path).output().unwrap());
    assert_eq!(code, Some(3), "{output}");
    assert!(output.contains("conflict: ") && output.contains("rejected-"), "{output}");
}

#[test]
fn micro_service_is_discoverable_and_answers_in_json() {
    let cluster = Cluster::start();
    cluster.complete_warm_up();
    // Large enough to be running still when it is cancelled.
    let envelope = with_field(insurance_envelope("micro", 2_000_000), "/policy/max_agents", json!(1));
    let mut child = Command::new(tools::python(&[NATS_PY, BOTO3]))
        .args(["-c", include_str!("micro_service_client.py")])
        .env("NATS_URL", cluster.nats.url())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(envelope.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let replies: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(replies["info"]["body"]["name"], "forge");
    let endpoints = replies["info"]["body"]["endpoints"].as_array().unwrap();
    let mut subjects: Vec<_> =
        endpoints.iter().map(|endpoint| endpoint["subject"].as_str().unwrap()).collect();
    subjects.sort_unstable();
    let expected = [
        "forge.v1.api.cancel",
        "forge.v1.api.list",
        "forge.v1.api.status",
        "forge.v1.api.submit",
        "forge.v1.api.submit.*",
    ];
    assert_eq!(subjects, expected);
    for request in ["submit", "submit_again", "as_alice", "status", "cancel"] {
        assert_eq!(replies[request]["code"], Value::Null, "{replies:#}");
        assert_eq!(replies[request]["body"]["schema"], "forge.job.v1", "{replies:#}");
        assert_eq!(replies[request]["body"]["job_id"], "micro");
        assert_eq!(
            replies[request]["body"]["submitter"], "default",
            "submitting it again as another submitter does not change its owner"
        );
    }
    assert_eq!(replies["list"]["body"]["jobs"][0]["job_id"], "micro", "{replies:#}");
    assert_eq!(replies["cancel"]["body"]["state"], "cancelled", "{replies:#}");
    assert_eq!((&replies["unknown"]["code"], &replies["invalid"]["code"]), (&json!("404"), &json!("400")));
    assert!(replies["invalid"]["reason"].as_str().unwrap().contains("/op"), "{replies:#}");
    assert_eq!(replies["stats"]["body"]["endpoints"].as_array().unwrap().len(), 5);
    assert_eq!(replies["submitter_too_long"]["code"], "400", "{replies:#}");
}
