//! What an audit finds when someone has changed what a job left behind.

use std::fs;

use crate::common::{Place, insurance, keeping_all, with};
use forge_contract::digest::Digest;
use serde_json::{Value, json};

const JOB: &str = "x";

/// A completed job that has kept everything.
fn completed(options: &[&str]) -> Place {
    let place = Place::new();
    place.run(&keeping_all(insurance(JOB)), options).expect(0);
    place
}

/// What an audit said.
struct Audit(Value);

impl Audit {
    /// Status and detail of a check.
    fn check(&self, name: &str) -> (&str, &str) {
        let check = self.0["checks"].as_array().unwrap().iter().find(|check| check["name"] == name);
        let check = check.unwrap_or_else(|| panic!("{name} is not in {:#}", self.0));
        (check["status"].as_str().unwrap(), check["detail"].as_str().unwrap())
    }
}

/// Audits, which must end with this exit code.
#[track_caller]
fn audit(place: &Place, code: i32, options: &[&str]) -> Audit {
    let ended = place.on_manifest("audit", JOB, &[&["--format", "json"], options].concat()).expect(code);
    let report: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(report["passed"], code == 0);
    Audit(report)
}

/// Changes an object where it lies.
fn damage(place: &Place, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
    let path = place.artifact(JOB, name);
    let mut bytes = fs::read(&path).unwrap();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
}

/// Changes a document as a careful forger does: under its new hash, and in the manifest too.
fn forge_document(place: &Place, name: &str, change: impl FnOnce(&mut Value)) -> String {
    let old = place.artifact(JOB, name);
    let mut document = crate::common::read_json(&old);
    change(&mut document);
    // Keys are sorted and the numbers of these documents are written in their shortest form, as in canonical JSON.
    let bytes = forge_contract::canonical::to_canonical_json(&document).unwrap();
    let hash = Digest::hash_parts(&[&bytes]).to_hex();
    let new = place.object(&hash, name);
    fs::create_dir_all(new.parent().unwrap()).unwrap();
    fs::write(new, &bytes).unwrap();
    let mut manifest = place.manifest(JOB);
    let artifacts = manifest["artifacts"].as_array_mut().unwrap();
    let artifact = artifacts.iter_mut().find(|artifact| artifact["name"] == name).unwrap();
    artifact["sha256"] = json!(hash);
    artifact["size"] = json!(bytes.len());
    write_manifest(place, &manifest);
    hash
}

fn write_manifest(place: &Place, manifest: &Value) {
    fs::write(place.manifest_path(JOB), manifest.to_string()).unwrap();
}

/// Removes who signed something.
fn unsign(document: &mut Value) {
    for field in ["signer", "signature"] {
        document.as_object_mut().unwrap().remove(field);
    }
}

#[test]
fn signatures_are_of_their_signers() {
    let place = completed(&[]);
    let whole = audit(&place, 0, &[]);
    let signer = place.manifest(JOB)["signer"].as_str().unwrap().to_owned();
    assert_eq!(whole.check("manifest signature"), ("ok", format!("by {signer}").as_str()));
    assert_eq!(whole.check("signatures").1, "5 results, each signed by its agent");
    // The aggregator did not execute the shard.
    forge_document(&place, "executions.json", |e| e["executions"][2]["agent_id"] = json!(signer));
    let forged = audit(&place, 4, &[]);
    assert_eq!(
        forged.check("signatures"),
        ("failed", "that of shard 0-2 is not its agent's over its result")
    );
    assert_eq!(forged.check("manifest signature").0, "failed");
    let mut manifest = place.manifest(JOB);
    manifest.as_object_mut().unwrap().remove("signer");
    write_manifest(&place, &manifest);
    assert_eq!(audit(&place, 4, &[]).check("manifest signature").0, "failed");
}

#[test]
fn forged_records_of_verification_are_found() {
    let verified = || {
        let place = Place::new();
        let envelope = with(keeping_all(insurance(JOB)), "/policy/verify", json!("full"));
        place.run(&envelope, &[]).expect(0);
        place
    };
    assert_eq!(
        audit(&verified(), 0, &[]).check("verification"),
        ("ok", "5 of 5 shards executed twice, 0 wrong results refuted")
    );
    let forged = |change: fn(&mut Value, &str), says: &str| {
        let place = verified();
        let agent = place.manifest(JOB)["signer"].as_str().unwrap().to_owned();
        forge_document(&place, "verification.json", |document| change(document, &agent));
        let audit = audit(&place, 4, &[]);
        let (status, detail) = audit.check("verification");
        assert!(status == "failed" && detail.contains(says), "{status}: {detail}");
    };
    forged(|v, _| v["checked"][4] = json!("0-5"), "shard 0-5, which was checked, is not one of the job's");
    forged(|v, _| v["shards"] = json!(6), "another job");
    forged(|v, _| v["on_other_hardware"] = json!(5), "counts of shards by backend");
    forged(|v, _| v["pairs"][0]["verifier_hardware"] = json!("gpu"), "counts of shards by backend");
    forged(|v, _| v["pairs"][0]["shards"] = json!(4), "counts of shards by backend");
    forged(
        |v, agent| {
            v["refuted"] = json!([{
                "shard_id": "0-1", "agent_id": agent, "claimed": "1".repeat(64), "correct": "2".repeat(64),
                "verifier_id": agent, "signature": "0".repeat(128)
            }]);
        },
        "the verdict about shard 0-1 is not signed by its verifier",
    );
}

#[test]
fn a_changed_byte_is_found_in_every_object() {
    let names = ["envelope.json", "result.json", "executions.json", "shards.bin", "report.html", "ept.csv"];
    let place = completed(&["--keep-shards"]);
    for name in names {
        let middle = |bytes: &mut Vec<u8>| {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
        };
        damage(&place, name, middle);
        let audit = audit(&place, 4, &[]);
        assert_eq!(audit.check(name).0, "failed", "{name}");
        assert!(audit.check(name).1.contains("is corrupted"), "{}", audit.check(name).1);
        damage(&place, name, middle);
    }
    audit(&place, 0, &[]);
}

#[test]
fn a_missing_and_a_cut_object_are_found() {
    let place = completed(&[]);
    damage(&place, "metrics.json", |bytes| bytes.truncate(10));
    fs::remove_file(place.artifact(JOB, "plan.json")).unwrap();
    let audit = audit(&place, 4, &[]);
    assert!(audit.check("metrics.json").1.contains("it has 10 bytes"), "{}", audit.check("metrics.json").1);
    assert!(audit.check("plan.json").1.contains("does not exist"), "{}", audit.check("plan.json").1);
    assert_eq!(audit.check("plan").0, "not_possible");
}

#[test]
fn a_forged_result_does_not_follow_from_the_shards() {
    let place = completed(&["--keep-shards"]);
    let hash = forge_document(&place, "result.json", |result| result["output"]["mean_loss"] = json!(1));
    let mut manifest = place.manifest(JOB);
    manifest["result"] = json!(hash);
    write_manifest(&place, &manifest);
    let audit = audit(&place, 4, &[]);
    assert_eq!((audit.check("result.json").0, audit.check("result").0), ("ok", "ok"));
    assert_eq!(audit.check("re-reduction").0, "failed");
    // The page and the table were made of the right result.
    place.on_manifest("replay", JOB, &[]).expect(4).says("another result than stored");
}

#[test]
fn a_result_that_answers_another_envelope_is_found() {
    for (pointer, value) in [
        ("/args/claim_freq", json!(9)),
        ("/seed/root_seed", json!("0".repeat(64))),
        ("/iterations/performed", json!(299_999)),
        ("/iterations/stop_reason", json!("band_reached")),
        ("/replay_key", json!("fr1-0")),
    ] {
        let place = completed(&[]);
        let change = |result: &mut Value| *result.pointer_mut(pointer).unwrap() = value;
        let hash = forge_document(&place, "result.json", change);
        let mut manifest = place.manifest(JOB);
        manifest["result"] = json!(hash);
        write_manifest(&place, &manifest);
        assert_eq!(audit(&place, 4, &[]).check("result").0, "failed", "{pointer}");
    }
}

#[test]
fn a_result_that_the_manifest_does_not_name_is_found() {
    let place = completed(&[]);
    forge_document(&place, "result.json", |result| result["output"]["mean_loss"] = json!(1));
    assert_eq!(audit(&place, 4, &[]).check("result").0, "failed");
}

#[test]
fn forged_records_of_shards_are_found() {
    let forged = |change: fn(&mut Value), failing: &str| {
        let place = completed(&[]);
        forge_document(&place, "executions.json", change);
        let audit = audit(&place, 4, &[]);
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
fn a_forged_shard_hash_is_found_by_executing_it_again() {
    let place = completed(&[]);
    forge_document(&place, "executions.json", |e| e["executions"][2]["result_hash"] = json!("1".repeat(64)));
    // A signature cannot be forged; it can be left out.
    assert_eq!(audit(&place, 4, &[]).check("signatures").0, "failed");
    forge_document(&place, "executions.json", |e| {
        e["executions"].as_array_mut().unwrap().iter_mut().for_each(unsign);
    });
    let executions = crate::common::read_json(&place.artifact(JOB, "executions.json"));
    let hashes = executions["executions"].as_array().unwrap().iter();
    let hashes: Vec<Digest> = hashes.map(|e| e["result_hash"].as_str().unwrap().parse().unwrap()).collect();
    let mut manifest = place.manifest(JOB);
    manifest["merkle_root"] = json!(forge_contract::merkle::root(&hashes));
    write_manifest(&place, &manifest);
    assert_eq!(audit(&place, 4, &[]).check("manifest signature").0, "failed");
    unsign(&mut manifest);
    write_manifest(&place, &manifest);
    // Everything that is stored agrees; only the computation does not.
    let agrees = audit(&place, 0, &[]);
    assert_eq!(
        (agrees.check("signatures").0, agrees.check("manifest signature").0),
        ("not_possible", "not_possible")
    );
    let audit = audit(&place, 4, &["--reexecute", "5"]);
    assert!(
        audit.check("re-execution").1.starts_with("shard 0-2 is recorded as 1111"),
        "{}",
        audit.check("re-execution").1
    );
}

#[test]
fn another_envelope_is_found() {
    let place = completed(&[]);
    forge_document(&place, "envelope.json", |envelope| envelope["args"]["claim_freq"] = json!(9));
    let audit = audit(&place, 4, &[]);
    assert_eq!(audit.check("replay key").0, "failed");
    assert_eq!(audit.check("seeds").0, "not_possible");
    place.on_manifest("replay", JOB, &[]).expect(4).says("envelope.json: its replay key is");
}

#[test]
fn kept_results_must_be_those_of_the_plan() {
    let place = completed(&["--keep-shards"]);
    let path = place.artifact(JOB, "shards.bin");
    let bytes = fs::read(&path).unwrap();
    // The header alone: no shard at all, under the right hash.
    let header = &bytes[..8];
    let hash = Digest::hash_parts(&[header]).to_hex();
    let new = place.object(&hash, "shards.bin");
    fs::create_dir_all(new.parent().unwrap()).unwrap();
    fs::write(new, header).unwrap();
    let mut manifest = place.manifest(JOB);
    let artifacts = manifest["artifacts"].as_array_mut().unwrap();
    let artifact = artifacts.iter_mut().find(|artifact| artifact["name"] == "shards.bin").unwrap();
    (artifact["sha256"], artifact["size"]) = (json!(hash), json!(8));
    write_manifest(&place, &manifest);
    assert_eq!(audit(&place, 4, &[]).check("re-reduction").0, "failed");
}

#[test]
fn a_manifest_that_is_none_is_a_mismatch() {
    let place = completed(&[]);
    fs::write(place.manifest_path(JOB), "{}").unwrap();
    place.on_manifest("audit", JOB, &[]).expect(4).says("cannot be read");
    fs::remove_file(place.manifest_path(JOB)).unwrap();
    place.on_manifest("audit", JOB, &[]).expect(2).says("cannot be opened");
}

#[test]
fn names_in_a_manifest_cannot_leave_the_store() {
    let place = completed(&[]);
    let mut manifest = place.manifest(JOB);
    manifest["artifacts"][0]["name"] = json!("../../../../../etc/hostname");
    write_manifest(&place, &manifest);
    let audit = audit(&place, 4, &[]);
    assert!(audit.check("../../../../../etc/hostname").1.contains("a name is 1 to 64 characters"));
}
