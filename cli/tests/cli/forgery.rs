//! What a forger with write access to a store does: changes documents, stores them under their new
//! hashes, names those in the manifest, and signs everything with keys of their own.

use std::fs;

use forge_contract::{
    agent::Identity,
    artifact::{ExecutionsDocument, ManifestDocument},
    canonical::to_canonical_json,
    digest::Digest,
    merkle,
};
use serde::Serialize;
use serde_json::{Value, json};

use crate::common::{Sandbox, insurance_envelope, read_json, with_all_artifacts};

/// Id of the job in these tests.
pub const JOB: &str = "x";

/// A completed job with every artifact kept.
pub fn completed_job(options: &[&str]) -> Sandbox {
    completed_job_of(&with_all_artifacts(insurance_envelope(JOB)), options)
}

/// A completed job of this envelope.
pub fn completed_job_of(envelope: &Value, options: &[&str]) -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.run(envelope, options).expect_code(0);
    sandbox
}

/// The JSON report of an audit.
pub struct Audit(pub Value);

impl Audit {
    /// Status and detail of the check with this name.
    #[track_caller]
    pub fn check(&self, name: &str) -> (&str, &str) {
        let check = self.0["checks"].as_array().unwrap().iter().find(|check| check["name"] == name);
        let check = check.unwrap_or_else(|| panic!("{name} is not in {:#}", self.0));
        (check["status"].as_str().unwrap(), check["detail"].as_str().unwrap())
    }

    /// Asserts that a check failed with this text.
    #[track_caller]
    pub fn expect_failed(&self, name: &str, text: &str) {
        let (status, detail) = self.check(name);
        assert!(status == "failed" && detail.contains(text), "{name}: {status}: {detail}, not {text}");
    }

    pub fn verdict(&self) -> &str {
        self.0["verdict"].as_str().unwrap()
    }

    /// Names of what was not compared.
    pub fn not_compared(&self) -> Vec<&str> {
        self.0["not_compared"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect()
    }
}

/// Audits the job and asserts the exit code, and that verdict and code agree.
#[track_caller]
pub fn audit(sandbox: &Sandbox, code: i32, options: &[&str]) -> Audit {
    let output =
        sandbox.run_on_job("audit", JOB, &[&["--format", "json"], options].concat()).expect_code(code);
    let report: Value = serde_json::from_str(&output.stdout).unwrap();
    assert_eq!(report["passed"], code == 0);
    assert_eq!(report["verdict"] == "failed", code == 4, "{report:#}");
    Audit(report)
}

pub fn write_manifest(sandbox: &Sandbox, manifest: &Value) {
    fs::write(sandbox.manifest_path(JOB), manifest.to_string()).unwrap();
}

/// Changes the manifest and leaves its signature as it is.
pub fn edit_manifest(sandbox: &Sandbox, change: impl FnOnce(&mut Value)) {
    let mut manifest = sandbox.manifest(JOB);
    change(&mut manifest);
    write_manifest(sandbox, &manifest);
}

/// Signs the manifest with another key.
pub fn sign_manifest(sandbox: &Sandbox, identity: &Identity) {
    let manifest: ManifestDocument = serde_json::from_value(sandbox.manifest(JOB)).unwrap();
    write_manifest(sandbox, &serde_json::to_value(manifest.sign(identity)).unwrap());
}

/// Stores an artifact under its hash, and names it in the manifest in place of the old one. Returns
/// its hash.
pub fn replace_artifact(sandbox: &Sandbox, name: &str, bytes: &[u8]) -> String {
    let hash = Digest::hash_parts(&[bytes]).to_hex();
    let path = sandbox.object(&hash, name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
    edit_manifest(sandbox, |manifest| {
        let artifacts = manifest["artifacts"].as_array_mut().unwrap();
        let artifact = artifacts.iter_mut().find(|artifact| artifact["name"] == name).unwrap();
        (artifact["sha256"], artifact["size"]) = (json!(hash), json!(bytes.len()));
    });
    hash
}

/// Changes a document: stores it under its new hash, which the manifest names. Returns the hash.
pub fn forge_document(sandbox: &Sandbox, name: &str, change: impl FnOnce(&mut Value)) -> String {
    let mut document = read_json(&sandbox.artifact(JOB, name));
    change(&mut document);
    replace_artifact(sandbox, name, &to_canonical_json(&document).unwrap())
}

/// Changes the result: stores it under its new hash, which the manifest names as the result.
pub fn forge_result(sandbox: &Sandbox, change: impl FnOnce(&mut Value)) {
    let hash = forge_document(sandbox, "result.json", change);
    edit_manifest(sandbox, |manifest| manifest["result"] = json!(hash));
}

/// Removes signer and signature.
pub fn unsign(document: &mut Value) {
    for field in ["signer", "signature"] {
        document.as_object_mut().unwrap().remove(field);
    }
}

/// Removes an artifact from the manifest.
pub fn drop_artifact(sandbox: &Sandbox, name: &str) {
    edit_manifest(sandbox, |manifest| {
        manifest["artifacts"].as_array_mut().unwrap().retain(|artifact| artifact["name"] != name);
    });
}

/// Gives every shard another result hash, signed by a key of the forger, and the manifest the
/// Merkle root over them.
pub fn forge_executions(sandbox: &Sandbox, hashes: &[Digest], identity: &Identity) {
    let manifest: ManifestDocument = serde_json::from_value(sandbox.manifest(JOB)).unwrap();
    let path = sandbox.artifact(JOB, "executions.json");
    let mut document: ExecutionsDocument = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    for (execution, &hash) in document.executions.iter_mut().zip(hashes) {
        execution.result_hash = hash;
        execution.agent_id = identity.id().clone();
        let statement = execution.statement(manifest.job_uid, document.program, manifest.kernel);
        execution.signature = statement.sign(identity);
    }
    replace_artifact(sandbox, "executions.json", &canonical(&document));
    edit_manifest(sandbox, |manifest| manifest["merkle_root"] = json!(merkle::root(hashes)));
}

pub fn canonical(document: &impl Serialize) -> Vec<u8> {
    to_canonical_json(document).unwrap()
}
