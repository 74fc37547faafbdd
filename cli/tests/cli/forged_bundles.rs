//! Bundles that a forger made consistent in themselves: each is refused, or the report names what
//! was not compared.

use std::fs;

use forge_contract::{agent::Identity, digest::Digest, shard_result::ShardResult};
use forge_documents::JobResult;
use forge_kernel::{convergence::StopReason, reduction::merge_results, request::Request};
use forge_store::shards_file::{ShardsFileReader, ShardsFileWriter};
use serde_json::{Value, json};

use crate::{
    common::{Sandbox, insurance_envelope, with_all_artifacts, with_value},
    forgery::{
        JOB, audit, completed_job, completed_job_of, drop_artifact, edit_manifest, forge_document,
        forge_executions, forge_result, replace_artifact, sign_manifest, unsign,
    },
};

/// A change of a document's text.
type TextChange = fn(&str) -> String;

fn forger() -> Identity {
    Identity::from_random([66; 32])
}

/// A job whose shard results were not kept.
fn job_without_shards() -> Sandbox {
    completed_job(&["--keep-shards=0"])
}

fn change_mean(result: &mut Value) {
    result["output"]["mean_loss"] = json!(1);
}

#[test]
fn full_audit_of_an_intact_job_proves_its_result() {
    let sandbox = completed_job(&[]);
    let plain = audit(&sandbox, 0, &[]);
    assert_eq!(plain.verdict(), "consistent");
    assert_eq!(plain.check("result.json figures").0, "ok");
    assert_eq!((&plain.0["shards"], &plain.0["shards_reexecuted"]), (&json!(5), &json!(0)));
    for options in [["--full"].as_slice(), &["--reexecute", "5"], &["--reexecute", "99", "--backend", "simd"]]
    {
        let proved = audit(&sandbox, 0, options);
        assert_eq!(proved.verdict(), "proved", "{options:?}");
        assert_eq!(proved.0["missed"], json!([]));
        for name in ["report.html content", "ept.csv content", "index.html content", "re-execution"] {
            assert_eq!(proved.check(name).0, "ok", "{name}");
        }
    }
    let part = audit(&sandbox, 0, &["--reexecute", "2"]);
    assert_eq!(part.verdict(), "consistent");
    let missed = &part.0["missed"][0];
    assert_eq!(missed["wrong_shards"], 1);
    assert!((missed["probability"].as_f64().unwrap() - 0.6).abs() < 1e-12, "{missed}");
    let text = sandbox.run_on_job("audit", JOB, &["--reexecute", "2"]).expect_code(0).stdout;
    assert!(text.starts_with("consistent: ") && text.contains("2 of 5 shards were executed again"), "{text}");
    assert!(text.contains("missed with probability 60.00% with 1 wrong shard"), "{text}");
    let text = sandbox.run_on_job("audit", JOB, &["--full"]).expect_code(0).stdout;
    assert!(text.starts_with("proved: the result of job x follows from its envelope"), "{text}");
}

#[test]
fn result_of_a_run_that_converged_is_proved() {
    let convergence = json!({"metric": "mean", "relative_half_width": 0.02});
    let envelope = with_value(insurance_envelope(JOB), "/args/convergence", convergence);
    let envelope = with_value(envelope, "/args/iterations", json!(100_000_000));
    let sandbox = completed_job_of(&with_all_artifacts(envelope), &[]);
    assert_eq!(audit(&sandbox, 0, &["--full"]).verdict(), "proved");
}

#[test]
fn result_with_another_mean_is_refused_or_named() {
    // With its shard results, the job contradicts the forged figure.
    let sandbox = completed_job(&[]);
    forge_result(&sandbox, change_mean);
    audit(&sandbox, 4, &[]).expect_failed("manifest signature", "not the signer's");
    edit_manifest(&sandbox, unsign);
    audit(&sandbox, 4, &[]).expect_failed("manifest signature", "the manifest is not signed");
    sign_manifest(&sandbox, &forger());
    audit(&sandbox, 4, &[]).expect_failed("result.json figures", "/output/mean_loss is 1, recomputed 1991");

    // Without them, the report names the figures as not compared, and only --full finds the fault.
    let sandbox = job_without_shards();
    forge_result(&sandbox, change_mean);
    sign_manifest(&sandbox, &forger());
    for options in [[].as_slice(), &["--reexecute", "4"]] {
        let audit = audit(&sandbox, 0, options);
        assert_eq!(audit.verdict(), "consistent");
        assert!(audit.not_compared().contains(&"result.json figures"), "{:#}", audit.0);
        assert_eq!(audit.0["missed"][0]["probability"], 1.0);
    }
    let text = sandbox.run_on_job("audit", JOB, &[]).expect_code(0).stdout;
    assert!(text.contains("a forged figure is missed with certainty"), "{text}");
    for options in [["--full"].as_slice(), &["--reexecute", "5"]] {
        audit(&sandbox, 4, options)
            .expect_failed("result.json figures", "/output/mean_loss is 1, recomputed 1991");
    }
    edit_manifest(&sandbox, unsign);
    audit(&sandbox, 4, &[]).expect_failed("manifest signature", "--allow-unsigned accepts that");
    audit(&sandbox, 4, &["--full", "--allow-unsigned"])
        .expect_failed("result.json figures", "/output/mean_loss");
}

#[test]
fn replay_compares_with_the_result_that_the_manifest_names() {
    // The manifest states the right hash, and names another document.
    let sandbox = completed_job(&[]);
    forge_document(&sandbox, "result.json", change_mean);
    sign_manifest(&sandbox, &forger());
    sandbox.run_on_job("replay", JOB, &[]).expect_code(4).expect_stderr("but its result.json has the hash");
    // A repeated run does not adopt it.
    let again = sandbox.run(&with_all_artifacts(insurance_envelope(JOB)), &[]);
    again.expect_stderr("but names another result.json").expect_code(4);
}

#[test]
fn manifest_without_the_requested_artifacts_is_refused() {
    let sandbox = completed_job(&[]);
    edit_manifest(&sandbox, |manifest| manifest["artifacts"] = json!([]));
    sign_manifest(&sandbox, &forger());
    for options in [[].as_slice(), &["--full"]] {
        audit(&sandbox, 4, options).expect_failed("replay key", "the manifest names no envelope.json");
    }
    for name in
        ["result.json", "executions.json", "metrics.json", "verification.json", "report.html", "ept.csv"]
    {
        let sandbox = completed_job(&[]);
        drop_artifact(&sandbox, name);
        sign_manifest(&sandbox, &forger());
        let text = format!("the envelope asks for {name}, but the manifest names none");
        audit(&sandbox, 4, &[]).expect_failed("artifacts", &text);
    }
    let sandbox = completed_job_of(&insurance_envelope(JOB), &[]);
    edit_manifest(&sandbox, |manifest| {
        let mut extra = manifest["artifacts"][0].clone();
        extra["name"] = json!("setup.exe");
        manifest["artifacts"].as_array_mut().unwrap().push(extra);
    });
    sign_manifest(&sandbox, &forger());
    audit(&sandbox, 4, &[]).expect_failed("artifacts", "setup.exe, which the envelope does not ask for");
}

/// Forges one shard result, and everything that follows from it, signed by the forger.
fn forge_everything(sandbox: &Sandbox) {
    let envelope = fs::read(sandbox.artifact(JOB, "envelope.json")).unwrap();
    let request = Request::from_json(&envelope).unwrap();
    let mut reader = ShardsFileReader::new();
    reader.push(&fs::read(sandbox.artifact(JOB, "shards.bin")).unwrap());
    let mut results = Vec::new();
    while let Some(bytes) = reader.next_result().unwrap() {
        results.push(ShardResult::decode(&bytes).unwrap());
    }
    results[1].components[0].occurrences += 1000;
    let mut writer = ShardsFileWriter::new();
    results.iter().for_each(|result| writer.push(&result.encode()));
    replace_artifact(sandbox, "shards.bin", &writer.finish());
    let hashes: Vec<Digest> = results.iter().map(ShardResult::digest).collect();
    forge_executions(sandbox, &hashes, &forger());
    let merged = merge_results(&request.program, &results);
    let forged = JobResult::new(&request, merged, StopReason::BudgetExhausted);
    let hash = replace_artifact(sandbox, "result.json", &forged.json);
    let occurrences = forged.document.work.occurrences;
    forge_document(sandbox, "metrics.json", |metrics| {
        (metrics["occurrences"], metrics["threads"]) = (json!(occurrences), json!(1));
    });
    for kind in &request.envelope.artifacts.include {
        if let Some(document) = forge_documents::reproducible_document(*kind, &request, &forged)
            && document.name != "result.json"
        {
            replace_artifact(sandbox, document.name, &document.bytes);
        }
    }
    edit_manifest(sandbox, |manifest| manifest["result"] = json!(hash));
    sign_manifest(sandbox, &forger());
    let manifest = serde_json::from_value(sandbox.manifest(JOB)).unwrap();
    let page =
        forge_store::Store::render_index_page(&manifest, &forge_aggregator::index_content(&request, &forged));
    fs::write(sandbox.store_path().join("jobs").join(JOB).join("index.html"), page).unwrap();
}

#[test]
fn perfect_forgery_of_one_shard_passes_by_the_stated_chance_only() {
    let sandbox = completed_job(&[]);
    let signer = sandbox.manifest(JOB)["signer"].as_str().unwrap().to_owned();
    forge_everything(&sandbox);
    let plain = audit(&sandbox, 0, &[]);
    assert_eq!((plain.verdict(), &plain.0["missed"][0]["probability"]), ("consistent", &json!(1.0)));
    audit(&sandbox, 4, &["--full"]).expect_failed("re-execution", "shard 0-1 is recorded as");
    audit(&sandbox, 4, &["--full"]).expect_failed("result.json figures", "/work/components/0/occurrences");
    audit(&sandbox, 4, &["--reexecute", "5"]).expect_failed("re-execution", "shard 0-1 is recorded as");
    // Some draws of two hit the forged shard, as many as two of five on average.
    let caught = (0..20).filter(|seed| {
        let options = ["--reexecute", "2", "--backend", "simd", "--seed", &seed.to_string()];
        sandbox.run_on_job("audit", JOB, &options).code == Some(4)
    });
    assert!((2..=16).contains(&caught.count()));
    let known = sandbox.path().join("signers.txt");
    fs::write(&known, format!("aggregator {signer}\n")).unwrap();
    let refused = audit(&sandbox, 4, &["--signers", known.to_str().unwrap()]);
    refused.expect_failed("signers: aggregator", &format!("{} is not in the signers file", forger().id()));
}

#[test]
fn shards_with_a_new_merkle_root_are_refused_by_what_they_contradict() {
    let forged = |keep: bool| {
        let sandbox = if keep { completed_job(&[]) } else { job_without_shards() };
        let hashes: Vec<Digest> = (0..5u8).map(|shard| Digest([shard; 32])).collect();
        forge_executions(&sandbox, &hashes, &forger());
        forge_document(&sandbox, "metrics.json", |metrics| metrics["threads"] = json!(1));
        sign_manifest(&sandbox, &forger());
        sandbox
    };
    audit(&forged(true), 4, &[]).expect_failed("re-reduction", "not those recorded in executions.json");
    let sandbox = forged(false);
    assert_eq!(audit(&sandbox, 0, &[]).verdict(), "consistent");
    audit(&sandbox, 4, &["--reexecute", "1"]).expect_failed("re-execution", "is recorded as");
    audit(&sandbox, 4, &["--full"]).expect_failed("re-execution", "shard 0-0 is recorded as 0000");
}

#[test]
fn invented_verification_is_refused() {
    let spotcheck = || {
        let envelope =
            with_value(with_all_artifacts(insurance_envelope(JOB)), "/policy/verify", json!("spotcheck"));
        completed_job_of(&with_value(envelope, "/policy/verify_ratio", json!(0.5)), &[])
    };
    assert_eq!(audit(&spotcheck(), 0, &[]).check("verification").0, "ok");
    let invented = |change: fn(&mut Value), text: &str| {
        let sandbox = spotcheck();
        forge_document(&sandbox, "verification.json", change);
        sign_manifest(&sandbox, &forger());
        audit(&sandbox, 4, &[]).expect_failed("verification", text);
    };
    invented(|v| v["policy"] = json!("full"), "the envelope asks to verify");
    invented(|v| v["share"] = json!(1), "the envelope asks to verify a share of 0.5");
    invented(|v| v["drawn"] = json!(5), "5 shards were drawn, and the policy asks for 3");
    invented(|v| v["escape"][0]["probability"] = json!(0.001), "the probabilities are not those of 3");
    invented(
        |v| {
            v["checked"].as_array_mut().unwrap().pop();
            v["pairs"][0]["shards"] = json!(2);
        },
        "was drawn by the job's key, but was not checked",
    );
    invented(|v| v["suspect_pools"] = json!(["default"]), "not those with a refuted result");
    invented(|v| v["pairs"][0]["primary"] = json!("gpu"), "are not those that executed them");
    invented(|v| v["pairs"][0]["primary_adapter"] = json!("GPU 9000"), "does not match its adapter");
    invented(|v| v["replay_key"] = json!(format!("fr1-{}", "0".repeat(64))), "another job");
    invented(|v| v["schema"] = json!("forge.verification.v9"), "another job");
    invented(
        |v| {
            let mut statement = v["checked"][0]["statement"].clone();
            for field in ["outcome", "verifier_id", "reason", "correct"] {
                statement.as_object_mut().unwrap().remove(field);
            }
            let zeros = "0".repeat(64);
            (statement["seed"], statement["program"]) = (json!(zeros), json!(zeros));
            (statement["iterations"], statement["kernel"]) = (json!(1), json!(1));
            v["contradictions"] = json!([{
                "protocol": 1, "statement": statement, "wall_us": 0, "cpu_us": 0, "signature": "0".repeat(128)
            }]);
        },
        "is not signed by its agent",
    );
}

#[test]
fn another_key_of_the_job_is_refused() {
    let sandbox = completed_job(&[]);
    edit_manifest(&sandbox, |manifest| manifest["job_key"] = json!("1".repeat(64)));
    sign_manifest(&sandbox, &forger());
    audit(&sandbox, 4, &[]).expect_failed("signatures", "was not issued with the job's key");
}

#[test]
fn verification_that_was_not_asked_for_is_refused() {
    let sandbox = completed_job(&[]);
    forge_document(&sandbox, "verification.json", |document| {
        document["drawn"] = json!(5);
        (document["policy"], document["share"]) = (json!("full"), json!(1));
    });
    sign_manifest(&sandbox, &forger());
    audit(&sandbox, 4, &[]).expect_failed("verification", "the envelope asks to verify a share of 0");
}

#[test]
fn replaced_documents_are_refused_or_named() {
    for (name, content) in [("report.html", "<script>alert(1)</script>"), ("ept.csv", "SummaryId\n1,2,3")] {
        let check = format!("{name} content");
        let sandbox = completed_job(&[]);
        replace_artifact(&sandbox, name, content.as_bytes());
        sign_manifest(&sandbox, &forger());
        audit(&sandbox, 4, &[]).expect_failed(&check, "does not follow from the result");
        let sandbox = job_without_shards();
        replace_artifact(&sandbox, name, content.as_bytes());
        sign_manifest(&sandbox, &forger());
        assert!(audit(&sandbox, 0, &[]).not_compared().contains(&check.as_str()));
        audit(&sandbox, 4, &["--full"]).expect_failed(&check, "does not follow from the result");
    }
    // The index page has no hash.
    let sandbox = completed_job(&[]);
    fs::write(sandbox.store_path().join("jobs/x/index.html"), "<script>alert(1)</script>").unwrap();
    audit(&sandbox, 4, &[]).expect_failed("index.html content", "does not follow from manifest and result");
}

#[test]
fn invented_metrics_are_refused() {
    let invented = |change: fn(&mut Value), text: &str| {
        let sandbox = completed_job(&[]);
        forge_document(&sandbox, "metrics.json", change);
        sign_manifest(&sandbox, &forger());
        audit(&sandbox, 4, &[]).expect_failed("metrics", text);
    };
    invented(|m| m["shards"] = json!(6), "shards is 6");
    invented(|m| m["iterations"] = json!(1), "iterations is 1");
    invented(|m| m["occurrences"] = json!(1), "occurrences is 1");
    invented(|m| m["threads"] = json!(1000), "threads is 1000");
    invented(|m| m["backend"] = json!("abacus"), "backend is \"abacus\"");
    invented(|m| m["cpu_ms"] = json!(0), "cpu_ms is 0");
    invented(|m| m["iterations_per_second"] = json!(1), "do not follow from");
    invented(|m| m["job_id"] = json!("y"), "another job");
}

#[test]
fn numbers_that_readers_round_are_refused_by_name() {
    let large = 9_007_199_254_740_993_u64;
    let sandbox = completed_job(&[]);
    edit_manifest(&sandbox, |manifest| manifest["shards"] = json!(large));
    audit(&sandbox, 4, &[]).expect_failed("manifest.json", "/shards: is 9007199254740993");
    edit_manifest(&sandbox, |manifest| manifest["shards"] = json!(1_u64 << 53));
    forge_document(&sandbox, "verification.json", |document| document["shards"] = json!(1_u64 << 53));
    audit(&sandbox, 4, &["--full"]).expect_failed("shard count", "9,007,199,254,740,992 shards");
    for (name, field, check) in [
        ("executions.json", "/executions/0/iterations", "shards"),
        ("metrics.json", "/occurrences", "metrics"),
        ("verification.json", "/on_other_hardware", "verification"),
        ("result.json", "/iterations/performed", "result"),
    ] {
        let sandbox = completed_job(&[]);
        let mut document = crate::common::read_json(&sandbox.artifact(JOB, name));
        *document.pointer_mut(field).unwrap() = json!(large);
        replace_artifact(&sandbox, name, document.to_string().as_bytes());
        sign_manifest(&sandbox, &forger());
        for options in [[].as_slice(), &["--full"]] {
            audit(&sandbox, 4, options).expect_failed(check, &format!("{field}: is {large}"));
        }
    }
}

#[test]
fn documents_that_readers_read_differently_are_refused() {
    let cases: [(TextChange, &str); 5] = [
        (
            |json| json.replacen(r#""shards":5"#, r#""shards":5,"shards":5"#, 1),
            "/shards: is given more than once",
        ),
        (|json| json.replacen(r#""shards":5"#, r#""shards":NaN"#, 1), "is not valid JSON"),
        (|json| json.replacen(r#""shards":5"#, r#""shards":1e999"#, 1), "is too large for a finite number"),
        (
            |json| json.replacen(r#""shards":5"#, &format!(r#""shards":{}"#, "[".repeat(1_000_000)), 1),
            "nested too deeply",
        ),
        (
            |json| json.replacen(r#""shards":5"#, &format!(r#""shards":[{}0]"#, "0,".repeat(1_000_000)), 1),
            "invalid type",
        ),
    ];
    for (change, text) in cases {
        let sandbox = completed_job(&[]);
        let json = fs::read_to_string(sandbox.artifact(JOB, "metrics.json")).unwrap();
        let forged = change(&json);
        assert_ne!(forged, json);
        replace_artifact(&sandbox, "metrics.json", forged.as_bytes());
        sign_manifest(&sandbox, &forger());
        audit(&sandbox, 4, &[]).expect_failed("metrics", text);
    }
}

/// The log records the hash of a manifest, so it must have one form.
#[test]
fn manifests_in_another_form_are_refused() {
    let sandbox = completed_job(&[]);
    let json = fs::read_to_string(sandbox.manifest_path(JOB)).unwrap();
    let changes: [TextChange; 3] = [
        |json| format!("{json}\n"),
        |json| json.replacen(':', ": ", 1),
        |json| json.replacen("forge", "\\u0066orge", 1),
    ];
    for change in changes {
        let changed = change(&json);
        assert_ne!(changed, json);
        fs::write(sandbox.manifest_path(JOB), changed).unwrap();
        audit(&sandbox, 4, &[]).expect_failed("manifest.json", "it is not canonical JSON");
    }
}

#[test]
fn ambiguous_names_are_refused() {
    for name in ["result.json", "Result.JSON"] {
        let sandbox = completed_job(&[]);
        edit_manifest(&sandbox, |manifest| {
            let mut second = manifest["artifacts"][1].clone();
            second["name"] = json!(name);
            manifest["artifacts"].as_array_mut().unwrap().push(second);
        });
        sign_manifest(&sandbox, &forger());
        audit(&sandbox, 4, &[]).expect_failed("manifest.json", "it names two artifacts");
        sandbox.run_on_job("replay", JOB, &[]).expect_code(4).expect_stderr("it names two artifacts");
    }
}

#[test]
fn weak_keys_are_no_signers() {
    // The neutral element of the curve: the signature R = 1, s = 0 is valid over every message.
    let weak = "UAAQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAABVBG";
    let signature = format!("01{}", "0".repeat(126));
    let sandbox = completed_job(&[]);
    edit_manifest(&sandbox, |manifest| {
        (manifest["signer"], manifest["signature"]) = (json!(weak), json!(signature));
    });
    audit(&sandbox, 4, &[]).expect_failed("manifest.json", "a key that is not weak");
    let sandbox = completed_job(&[]);
    forge_document(&sandbox, "executions.json", |document| {
        for execution in document["executions"].as_array_mut().unwrap() {
            (execution["agent_id"], execution["signature"]) = (json!(weak), json!(signature));
        }
    });
    sign_manifest(&sandbox, &forger());
    audit(&sandbox, 4, &[]).expect_failed("signatures", "a key that is not weak");
}

#[test]
fn terminal_escapes_are_written_out() {
    let escapes = "\u{1b}]0;owned\u{7}\u{1b}[2K\rok\nproved: \u{9b}31m\u{202e}";
    let sandbox = completed_job(&[]);
    forge_document(&sandbox, "executions.json", |document| {
        document["executions"][0][escapes] = json!(escapes);
    });
    sign_manifest(&sandbox, &forger());
    let metrics = |metrics: &mut Value| metrics["backend"] = json!(escapes);
    forge_document(&sandbox, "metrics.json", metrics);
    for format in ["text", "json"] {
        let output =
            sandbox.run_on_job("audit", JOB, &["--format", format, "--allow-unsigned"]).expect_code(4);
        for text in [&output.stdout, &output.stderr] {
            let unsafe_char = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
            assert!(!text.contains(unsafe_char), "{text:?}");
        }
        assert!(!output.stdout.contains("\nproved: "), "{}", output.stdout);
    }
    edit_manifest(&sandbox, |manifest| manifest[escapes] = json!(1));
    let output = sandbox.run_on_job("replay", JOB, &[]).expect_code(4);
    assert!(!output.stderr.contains('\u{1b}') && output.stderr.contains(r"\u{1b}"), "{:?}", output.stderr);
}
