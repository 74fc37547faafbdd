//! `forge audit --signers`: comparison of the keys that signed with those that the auditor knows.

use std::{fs, path::PathBuf};

use forge_contract::agent::Identity;
use serde_json::json;

use crate::{
    common::Sandbox,
    forgery::{JOB, audit, completed_job, edit_manifest, sign_manifest, unsign},
};

fn write_signers(sandbox: &Sandbox, text: &str) -> PathBuf {
    let path = sandbox.path().join("signers.txt");
    fs::write(&path, text).unwrap();
    path
}

#[test]
fn without_a_file_the_keys_are_named_as_not_compared() {
    let sandbox = completed_job(&[]);
    let signer = sandbox.manifest(JOB)["signer"].as_str().unwrap().to_owned();
    let audit = audit(&sandbox, 0, &[]);
    let (status, detail) = audit.check("signers");
    assert_eq!(status, "not_compared");
    assert!(detail.contains(&format!("1 aggregator {signer}; ")) && detail.contains("agent"), "{detail}");
}

#[test]
fn keys_in_the_file_are_accepted_and_others_named() {
    let sandbox = completed_job(&[]);
    let aggregator = sandbox.manifest(JOB)["signer"].as_str().unwrap().to_owned();
    let executions = crate::common::read_json(&sandbox.artifact(JOB, "executions.json"));
    let agents: Vec<_> =
        executions["executions"].as_array().unwrap().iter().map(|e| e["agent_id"].clone()).collect();
    let agents: String = agents.iter().map(|agent| format!("agent {}\n", agent.as_str().unwrap())).collect();

    let pools = "pool default\npool acme\n";
    let path = write_signers(&sandbox, &format!("aggregator {aggregator} # the only one\n{agents}{pools}"));
    let options = ["--signers", path.to_str().unwrap()];
    let accepted = audit(&sandbox, 0, &options);
    assert_eq!(accepted.check("signers: pool").0, "ok");
    assert_eq!((accepted.check("signers: aggregator").0, accepted.check("signers: agent").0), ("ok", "ok"));

    write_signers(&sandbox, &format!("aggregator {aggregator}\n"));
    let partly = audit(&sandbox, 0, &options);
    assert_eq!(
        (partly.check("signers: aggregator").0, partly.check("signers: agent").0),
        ("ok", "not_compared")
    );
    assert_eq!(partly.check("signers: pool").0, "not_compared");

    // A known role without a signature in the bundle is named.
    write_signers(
        &sandbox,
        &format!("aggregator {aggregator}\nverifier {}\n", Identity::from_random([9; 32]).id()),
    );
    assert_eq!(audit(&sandbox, 0, &options).check("signers: verifier").0, "not_compared");

    let other = Identity::from_random([9; 32]);
    write_signers(&sandbox, &format!("aggregator {}\nagent {}\npool acme\n", other.id(), other.id()));
    let refused = audit(&sandbox, 4, &options);
    refused
        .expect_failed("signers: aggregator", &format!("aggregator {aggregator} is not in the signers file"));
    refused.expect_failed("signers: agent", "is not in the signers file");
    refused.expect_failed("signers: pool", "pool default is not in the signers file");

    write_signers(&sandbox, "aggregator\n");
    sandbox.run_on_job("audit", JOB, &options).expect_code(2).expect_stderr("line 1 is not a role and a key");
}

#[test]
fn missing_signatures_need_consent() {
    let sandbox = completed_job(&[]);
    let signer = sandbox.manifest(JOB)["signer"].as_str().unwrap().to_owned();
    edit_manifest(&sandbox, unsign);
    audit(&sandbox, 4, &[]).expect_failed("manifest signature", "the manifest is not signed");
    let accepted = audit(&sandbox, 0, &["--allow-unsigned"]);
    assert!(accepted.not_compared().contains(&"manifest signature"));
    let path = write_signers(&sandbox, &format!("aggregator {signer}\n"));
    let options = ["--signers", path.to_str().unwrap()];
    audit(&sandbox, 4, &options).expect_failed("manifest signature", "the manifest is not signed");
    sandbox.run_on_job("audit", JOB, &[&options[..], &["--allow-unsigned"]].concat()).expect_code(2);
    sign_manifest(&sandbox, &Identity::from_random([9; 32]));
    audit(&sandbox, 4, &options).expect_failed("signers: aggregator", "is not in the signers file");
    // A key alone is no signature.
    edit_manifest(&sandbox, |manifest| {
        unsign(manifest);
        manifest["signer"] = json!(signer);
    });
    audit(&sandbox, 4, &["--allow-unsigned"])
        .expect_failed("manifest signature", "only one of signer and signature");
}
