//! Records of verification: what an honest aggregator can write passes, and a verdict or a result
//! that was made for something else does not pass as evidence about this job.

use std::{collections::BTreeSet, fs};

use forge_contract::{
    agent::Identity,
    artifact::{Execution, ExecutionsDocument, ManifestDocument, VerificationDocument},
    attestation::Attestation,
    digest::Digest,
    ids::TaskId,
    protocol::PROTOCOL,
    verdict::{Verdict, VerdictOutcome, VerdictStatement},
};
use forge_kernel::job_key::JobKey;
use serde_json::{Value, json};

use crate::{
    common::{Sandbox, insurance_envelope, read_json, with_value},
    forgery::{JOB, audit, canonical, completed_job_of, edit_manifest, replace_artifact, sign_manifest},
};

pub fn aggregator() -> Identity {
    Identity::from_random([1; 32])
}

/// Executed the job.
pub fn agent() -> Identity {
    Identity::from_random([2; 32])
}

/// Was refuted.
pub fn liar() -> Identity {
    Identity::from_random([3; 32])
}

pub fn verifier() -> Identity {
    Identity::from_random([4; 32])
}

/// Records that are changed together, and what is needed to change them.
struct Records {
    manifest: ManifestDocument,
    executions: ExecutionsDocument,
    verification: VerificationDocument,
}

impl Records {
    fn task(&self, execution: &Execution) -> TaskId {
        let key = JobKey::from(self.manifest.job_key.0);
        key.issue_task(self.manifest.job_uid, execution.shard_id, [7; 16])
    }

    /// Another result of the first shard, by the liar.
    fn lie(&self) -> Execution {
        let first = self.executions.executions[0].clone();
        let task_id = self.task(&first);
        let (agent_id, pool) = (liar().id().clone(), "other".parse().unwrap());
        Execution { agent_id, pool, task_id, result_hash: Digest([9; 32]), ..first }
    }

    fn verdict(&self, result: &Execution, outcome: VerdictOutcome, correct: Digest) -> Verdict {
        let statement = VerdictStatement {
            protocol: PROTOCOL,
            outcome,
            job_uid: self.manifest.job_uid,
            shard_id: result.shard_id,
            task_id: result.task_id,
            pool: result.pool.clone(),
            agent_id: result.agent_id.clone(),
            result_hash: result.result_hash,
            correct: Some(correct),
            verifier_id: verifier().id().clone(),
            backend: "scalar".to_owned(),
            adapter: None,
            reason: if outcome == VerdictOutcome::Confirmed {
                String::new()
            } else {
                "other bytes".to_owned()
            },
        };
        statement.sign(&verifier())
    }

    fn attest(&self, result: &Execution, identity: &Identity) -> Attestation {
        let statement =
            result.statement(self.manifest.job_uid, self.executions.program, self.manifest.kernel);
        let signature = statement.sign(identity);
        Attestation { protocol: PROTOCOL, statement, wall_us: 1, cpu_us: 1, signature }
    }

    /// Signs an execution in the name of `identity`.
    fn reassign(&mut self, position: usize, identity: &Identity, pool: &str) {
        let mut execution = self.executions.executions[position].clone();
        (execution.agent_id, execution.pool) = (identity.id().clone(), pool.parse().unwrap());
        execution.signature = self.attest(&execution, identity).signature;
        self.executions.executions[position] = execution;
    }

    /// Lists a refuted and a contradicting result of the liar.
    fn refute_liar(&mut self) {
        let (lie, correct) = (self.lie(), self.executions.executions[0].result_hash);
        self.verification.refuted = vec![self.verdict(&lie, VerdictOutcome::Refuted, correct)];
        self.verification.suspect_pools = vec![lie.pool.clone()];
        self.verification.contradictions = vec![self.attest(&lie, &liar())];
    }
}

/// A job with verification whose record names a refuted and a contradicting result, signed with the
/// keys above. It has no index page, which a change of any document would make wrong.
pub fn verified_job(include: &[&str], options: &[&str]) -> Sandbox {
    let envelope = with_value(insurance_envelope(JOB), "/args/iterations", json!(200_000));
    verified_job_of(envelope, include, options)
}

/// The same of another model.
pub fn verified_job_of(envelope: Value, include: &[&str], options: &[&str]) -> Sandbox {
    // The record is made from executions, even if they are not kept.
    let mut all: BTreeSet<&str> = include.iter().copied().collect();
    all.extend(["executions_json", "verification_json"]);
    let envelope = with_value(envelope, "/policy", json!({"verify": "spotcheck", "verify_ratio": 0.5}));
    let sandbox = completed_job_of(&with_value(envelope, "/artifacts/include", json!(all)), options);
    edit_records(&sandbox, |records| {
        for position in 0..records.executions.executions.len() {
            records.reassign(position, &agent(), "default");
        }
        for verdict in &mut records.verification.checked {
            verdict.statement.agent_id = agent().id().clone();
            verdict.statement.verifier_id = verifier().id().clone();
            *verdict = verdict.statement.clone().sign(&verifier());
        }
        records.refute_liar();
    });
    ask_for(&sandbox, include);
    let _ = fs::remove_file(sandbox.store_path().join("jobs").join(JOB).join("index.html"));
    sandbox
}

/// Replaces the envelope by one that asks for these artifacts alone.
fn ask_for(sandbox: &Sandbox, include: &[&str]) {
    let mut envelope = read_json(&sandbox.artifact(JOB, "envelope.json"));
    let kinds = envelope["artifacts"]["include"].as_array().unwrap().clone();
    let kinds: Vec<_> = kinds.into_iter().filter(|kind| include.contains(&kind.as_str().unwrap())).collect();
    envelope["artifacts"]["include"] = json!(kinds);
    let request = forge_kernel::request::Request::from_json(envelope.to_string().as_bytes()).unwrap();
    let job = forge_documents::Job::new(request);
    replace_artifact(sandbox, "envelope.json", &forge_documents::canonical_json(&job.request.envelope));
    edit_manifest(sandbox, |manifest| {
        manifest["request"] = json!(job.envelope_digest);
        manifest["artifacts"].as_array_mut().unwrap().retain(|artifact| {
            let name = artifact["name"].as_str().unwrap();
            ["envelope.json", "shards.bin"].contains(&name)
                || include.contains(&name.replace('.', "_").as_str())
        });
    });
    sign_manifest(sandbox, &aggregator());
}

/// Changes the records and signs the manifest. The metrics follow.
fn edit_records(sandbox: &Sandbox, change: impl FnOnce(&mut Records)) {
    let read = |name: &str| fs::read(sandbox.artifact(JOB, name)).unwrap();
    let mut records = Records {
        manifest: serde_json::from_value(sandbox.manifest(JOB)).unwrap(),
        executions: serde_json::from_slice(&read("executions.json")).unwrap(),
        verification: serde_json::from_slice(&read("verification.json")).unwrap(),
    };
    change(&mut records);
    replace_artifact(sandbox, "executions.json", &canonical(&records.executions));
    replace_artifact(sandbox, "verification.json", &canonical(&records.verification));
    let has_metrics = records.manifest.artifacts.iter().any(|artifact| artifact.name == "metrics.json");
    if has_metrics {
        let agents: BTreeSet<_> =
            records.executions.executions.iter().map(|e| (&e.pool, &e.agent_id)).collect();
        let mut metrics = read_json(&sandbox.artifact(JOB, "metrics.json"));
        metrics["threads"] = json!(agents.len());
        replace_artifact(sandbox, "metrics.json", &canonical(&metrics));
    }
    sign_manifest(sandbox, &aggregator());
}

fn job() -> Sandbox {
    verified_job(&["result_json", "executions_json", "verification_json"], &[])
}

#[test]
fn confirmed_results_of_suspects_and_confirmations_of_equal_results_pass() {
    let sandbox = job();
    edit_records(&sandbox, |records| {
        // The liar's result of another shard was confirmed, and so it counts.
        let checked = records.verification.checked[1].statement.shard_id;
        let shards = &records.executions.executions;
        let position = shards.iter().position(|e| e.shard_id == checked).unwrap();
        records.reassign(position, &liar(), "other");
        // The confirmation names another agent, who returned the same bytes.
        assert_eq!(records.verification.checked[1].statement.agent_id, *agent().id());
    });
    let passed = audit(&sandbox, 0, &[]);
    assert_eq!(passed.check("verification").0, "ok");
    assert!(passed.check("verification").1.contains("1 wrong results refuted, 1 contradicting"));
}

#[test]
fn confirmations_by_the_executing_agent_are_named() {
    let sandbox = job();
    assert!(!audit(&sandbox, 0, &[]).not_compared().contains(&"verification.json confirmations"));
    edit_records(&sandbox, |records| {
        for verdict in &mut records.verification.checked {
            let mut statement = verdict.statement.clone();
            statement.verifier_id = statement.agent_id.clone();
            *verdict = statement.sign(&agent());
        }
    });
    assert!(audit(&sandbox, 0, &[]).not_compared().contains(&"verification.json confirmations"));
}

#[test]
fn texts_that_aggregators_do_not_accept_are_refused() {
    for text in ["", "scalar\u{1b}[2J", &"x".repeat(129)] {
        let executed = job();
        edit_records(&executed, |records| records.executions.executions[1].backend = text.to_owned());
        audit(&executed, 4, &[])
            .expect_failed("shards", "shard 0-1 states a backend or adapter that is no name");
        let verified = job();
        edit_records(&verified, |records| {
            let mut statement = records.verification.checked[0].statement.clone();
            statement.adapter = Some(text.to_owned());
            records.verification.checked[0] = statement.sign(&verifier());
        });
        audit(&verified, 4, &[]).expect_failed("verification", "states a backend or adapter that is no name");
    }
}

#[test]
fn evidence_that_was_made_for_something_else_is_refused() {
    let refused = |change: fn(&mut Records), text: &str| {
        let sandbox = job();
        edit_records(&sandbox, change);
        audit(&sandbox, 4, &[]).expect_failed("verification", text);
    };
    // An honest agent is accused of a result that is the accepted one, or of nothing.
    refused(
        |records| {
            let accepted = records.executions.executions[0].clone();
            records.verification.refuted =
                vec![records.verdict(&accepted, VerdictOutcome::Refuted, Digest([8; 32]))];
            records.verification.suspect_pools = vec![accepted.pool];
        },
        "states another correct result than the accepted one",
    );
    refused(
        |records| records.verification.suspect_pools.insert(0, "honest".parse().unwrap()),
        "the suspect pools are not those with a refuted result",
    );
    // An honest agent's result with another seed, or for fewer iterations.
    let with_other: [fn(&mut Execution); 3] = [
        |result| result.seed = Digest([5; 32]),
        |result| result.iterations -= 1,
        |result| result.task_id = TaskId([5; 32]),
    ];
    for (index, change) in with_other.into_iter().enumerate() {
        let sandbox = job();
        edit_records(&sandbox, |records| {
            let mut result = records.lie();
            change(&mut result);
            records.verification.contradictions = vec![records.attest(&result, &liar())];
        });
        let text = if index == 2 {
            "was not issued with the job's key"
        } else {
            "not signed by its agent for this shard"
        };
        audit(&sandbox, 4, &[]).expect_failed("verification", text);
    }
    // One refutation counts once.
    refused(
        |records| {
            let again = records.verification.refuted[0].clone();
            records.verification.refuted.push(again);
        },
        "the refuted results are not in order, each once",
    );
    // The verifier's own evidence says that the accepted result is wrong.
    refused(
        |records| {
            let lie = records.lie();
            records.verification.refuted =
                vec![records.verdict(&lie, VerdictOutcome::Refuted, Digest([8; 32]))];
        },
        "states another correct result than the accepted one",
    );
}

#[test]
fn confirmations_are_compared_with_whatever_is_known_of_the_results() {
    let forged = |include: &[&str], options: &[&str]| {
        let sandbox = verified_job(&["result_json", "executions_json", "verification_json"], options);
        edit_records(&sandbox, |records| {
            let mut other = records.verification.checked[0].statement.clone();
            (other.result_hash, other.correct) = (Digest([8; 32]), Some(Digest([8; 32])));
            records.verification.checked[0] = other.sign(&verifier());
        });
        ask_for(&sandbox, include);
        sandbox
    };
    let text = "is not the accepted one";
    audit(&forged(&["result_json", "executions_json", "verification_json"], &["--keep-shards=0"]), 4, &[])
        .expect_failed("verification", text);
    audit(&forged(&["result_json", "verification_json"], &[]), 4, &[]).expect_failed("verification", text);
    let unknown = forged(&["result_json", "verification_json"], &["--keep-shards=0"]);
    assert!(audit(&unknown, 0, &[]).not_compared().contains(&"verification.json results"));
    audit(&unknown, 4, &["--full", "--backend", "simd"]).expect_failed("verification", text);
}
