//! Tampering with stored artifacts, and the check of `forge audit` that detects it.

use std::fs;

use forge_contract::{agent::Identity, digest::Digest};
use serde_json::{Value, json};

use crate::{
    common::{Sandbox, insurance_envelope, with_all_artifacts, with_value},
    forgery::{
        JOB, audit, completed_job, completed_job_of, edit_manifest, forge_document, forge_executions,
        forge_result, replace_artifact, unsign, write_manifest,
    },
};

/// Changes the bytes of an artifact in place.
fn damage(sandbox: &Sandbox, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
    let path = sandbox.artifact(JOB, name);
    let mut bytes = fs::read(&path).unwrap();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
}

#[test]
fn forged_signers_are_detected() {
    let sandbox = completed_job(&[]);
    let intact = audit(&sandbox, 0, &[]);
    let signer = sandbox.manifest(JOB)["signer"].as_str().unwrap().to_owned();
    assert_eq!(intact.check("manifest signature"), ("ok", format!("by {signer}").as_str()));
    assert_eq!(intact.check("signatures").1, "5 results, each signed by its agent");
    // Claim that the aggregator executed a shard.
    forge_document(&sandbox, "executions.json", |e| e["executions"][2]["agent_id"] = json!(signer));
    let forged = audit(&sandbox, 4, &[]);
    assert_eq!(
        forged.check("signatures"),
        ("failed", "the signature of shard 0-2 is not its agent's over its result")
    );
    assert_eq!(forged.check("manifest signature").0, "failed");
    let mut manifest = sandbox.manifest(JOB);
    manifest.as_object_mut().unwrap().remove("signer");
    write_manifest(&sandbox, &manifest);
    assert_eq!(audit(&sandbox, 4, &[]).check("manifest signature").0, "failed");
}

#[test]
fn forged_verification_records_are_detected() {
    let verified = || {
        let envelope = with_all_artifacts(insurance_envelope(JOB));
        completed_job_of(&with_value(envelope, "/policy/verify", json!("full")), &[])
    };
    assert_eq!(
        audit(&verified(), 0, &[]).check("verification"),
        ("ok", "5 of 5 shards executed twice, 0 wrong results refuted")
    );
    let forged = |change: fn(&mut Value), message: &str| {
        let sandbox = verified();
        forge_document(&sandbox, "verification.json", change);
        let audit = audit(&sandbox, 4, &[]);
        let (status, detail) = audit.check("verification");
        assert!(status == "failed" && detail.contains(message), "{status}: {detail}");
    };
    forged(|v| v["checked"][4]["statement"]["shard_id"] = json!("0-5"), "shard 0-5 is not one of the job's");
    forged(|v| v["shards"] = json!(6), "another job");
    forged(|v| v["on_other_hardware"] = json!(5), "shard counts by backend");
    forged(|v| v["pairs"][0]["verifier_hardware"] = json!("gpu"), "shard counts by backend");
    forged(|v| v["pairs"][0]["shards"] = json!(4), "shard counts by backend");
    forged(
        |v| v["checked"][1]["statement"]["result_hash"] = json!("1".repeat(64)),
        "the confirmation of shard 0-1 is not signed by its verifier",
    );
    forged(
        |v| {
            let mut verdict = v["checked"][1].clone();
            verdict["statement"]["outcome"] = json!("refuted");
            v["refuted"] = json!([verdict]);
        },
        "the verdict on shard 0-1 is not signed by its verifier",
    );
}

#[test]
fn changed_byte_is_detected_in_every_object() {
    let names = ["envelope.json", "result.json", "executions.json", "shards.bin", "report.html", "ept.csv"];
    let sandbox = completed_job(&[]);
    for name in names {
        let middle = |bytes: &mut Vec<u8>| {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
        };
        damage(&sandbox, name, middle);
        let audit = audit(&sandbox, 4, &[]);
        assert_eq!(audit.check(name).0, "failed", "{name}");
        assert!(audit.check(name).1.contains("is corrupted"), "{}", audit.check(name).1);
        damage(&sandbox, name, middle);
    }
    audit(&sandbox, 0, &[]);
}

#[test]
fn missing_and_truncated_objects_are_detected() {
    let sandbox = completed_job(&[]);
    damage(&sandbox, "metrics.json", |bytes| bytes.truncate(10));
    fs::remove_file(sandbox.artifact(JOB, "plan.json")).unwrap();
    let audit = audit(&sandbox, 4, &[]);
    assert!(audit.check("metrics.json").1.contains("it has 10 bytes"), "{}", audit.check("metrics.json").1);
    assert!(audit.check("plan.json").1.contains("does not exist"), "{}", audit.check("plan.json").1);
    assert_eq!(audit.check("plan").0, "not_compared");
}

#[test]
fn forged_result_is_detected_by_re_reduction() {
    let sandbox = completed_job(&[]);
    forge_result(&sandbox, |result| result["output"]["mean_loss"] = json!(1));
    let audit = audit(&sandbox, 4, &[]);
    assert_eq!((audit.check("result.json").0, audit.check("result").0), ("ok", "ok"));
    assert_eq!(audit.check("re-reduction").0, "failed");
    // Replay compares with the manifest's result.
    sandbox.run_on_job("replay", JOB, &[]).expect_code(4).expect_stderr("differs from the stored one");
}

#[test]
fn result_of_another_envelope_is_detected() {
    for (pointer, value) in [
        ("/args/claim_freq", json!(9)),
        ("/seed/root_seed", json!("0".repeat(64))),
        ("/iterations/performed", json!(299_999)),
        ("/iterations/stop_reason", json!("band_reached")),
        ("/replay_key", json!("fr1-0")),
    ] {
        let sandbox = completed_job(&[]);
        let change = |result: &mut Value| *result.pointer_mut(pointer).unwrap() = value;
        forge_result(&sandbox, change);
        assert_eq!(audit(&sandbox, 4, &[]).check("result").0, "failed", "{pointer}");
    }
}

#[test]
fn result_that_the_manifest_does_not_name_is_detected() {
    let sandbox = completed_job(&[]);
    forge_document(&sandbox, "result.json", |result| result["output"]["mean_loss"] = json!(1));
    assert_eq!(audit(&sandbox, 4, &[]).check("result").0, "failed");
}

#[test]
fn forged_execution_records_are_detected() {
    let forged = |change: fn(&mut Value), failing: &str| {
        let sandbox = completed_job(&[]);
        forge_document(&sandbox, "executions.json", change);
        let audit = audit(&sandbox, 4, &[]);
        assert_eq!(audit.check(failing).0, "failed", "{failing}: {}", audit.check(failing).1);
    };
    forged(|e| e["executions"][2]["seed"] = json!("1".repeat(64)), "seeds");
    forged(|e| e["executions"][2]["result_hash"] = json!("1".repeat(64)), "Merkle root");
    forged(|e| e["executions"][2]["iterations"] = json!(1), "shards");
    forged(|e| e["executions"][2]["shard_id"] = json!("0-4"), "shards");
    forged(|e| e["executions"].as_array_mut().unwrap().swap(0, 1), "shards");
    forged(|e| drop(e["executions"].as_array_mut().unwrap().pop()), "shards");
    forged(|e| e["program"] = json!("1".repeat(64)), "shards");
}

#[test]
fn forged_shard_hash_is_detected_by_re_execution() {
    let sandbox = completed_job(&["--keep-shards=0"]);
    forge_document(&sandbox, "executions.json", |e| {
        e["executions"][2]["result_hash"] = json!("1".repeat(64))
    });
    // The forger cannot sign the new hash as the agent, but can sign it with another key.
    assert_eq!(audit(&sandbox, 4, &[]).check("signatures").0, "failed");
    let executions = crate::common::read_json(&sandbox.artifact(JOB, "executions.json"));
    let hashes = executions["executions"].as_array().unwrap().iter();
    let hashes: Vec<Digest> = hashes.map(|e| e["result_hash"].as_str().unwrap().parse().unwrap()).collect();
    forge_executions(&sandbox, &hashes, &Identity::from_random([66; 32]));
    forge_document(&sandbox, "metrics.json", |metrics| metrics["threads"] = json!(1));
    assert_eq!(audit(&sandbox, 4, &[]).check("manifest signature").0, "failed");
    edit_manifest(&sandbox, unsign);
    // Removing the signature does not pass unnoticed.
    assert_eq!(audit(&sandbox, 4, &[]).check("manifest signature").0, "failed");
    // All stored artifacts are now consistent; only re-execution contradicts them.
    let agrees = audit(&sandbox, 0, &["--allow-unsigned"]);
    assert_eq!(agrees.verdict(), "consistent");
    assert_eq!((agrees.check("signatures").0, agrees.check("manifest signature").0), ("ok", "not_compared"));
    let audit = audit(&sandbox, 4, &["--allow-unsigned", "--reexecute", "5"]);
    assert!(
        audit.check("re-execution").1.starts_with("shard 0-2 is recorded as 1111"),
        "{}",
        audit.check("re-execution").1
    );
}

#[test]
fn replaced_envelope_is_detected() {
    let sandbox = completed_job(&[]);
    forge_document(&sandbox, "envelope.json", |envelope| envelope["args"]["claim_freq"] = json!(9));
    let audit = audit(&sandbox, 4, &[]);
    assert_eq!(audit.check("replay key").0, "failed");
    assert_eq!(audit.check("seeds").0, "not_compared");
    sandbox.run_on_job("replay", JOB, &[]).expect_code(4).expect_stderr("envelope.json: its replay key is");
}

#[test]
fn missing_shard_results_are_detected() {
    let sandbox = completed_job(&[]);
    let path = sandbox.artifact(JOB, "shards.bin");
    let bytes = fs::read(&path).unwrap();
    // Only the header, without any shard result, stored under its correct hash.
    replace_artifact(&sandbox, "shards.bin", &bytes[..8]);
    assert_eq!(audit(&sandbox, 4, &[]).check("re-reduction").0, "failed");
}

#[test]
fn malformed_manifest_is_a_mismatch() {
    let sandbox = completed_job(&[]);
    fs::write(sandbox.manifest_path(JOB), "{}").unwrap();
    sandbox.run_on_job("audit", JOB, &[]).expect_code(4).expect_stderr("cannot be read");
    fs::remove_file(sandbox.manifest_path(JOB)).unwrap();
    sandbox.run_on_job("audit", JOB, &[]).expect_code(2).expect_stderr("cannot open");
}

#[test]
fn names_in_a_manifest_cannot_leave_the_store() {
    let sandbox = completed_job(&[]);
    edit_manifest(&sandbox, |manifest| {
        manifest["artifacts"][0]["name"] = json!("../../../../../etc/hostname");
    });
    audit(&sandbox, 4, &[]).expect_failed("manifest.json", "a name must be 1 to 64 of the characters");
}
