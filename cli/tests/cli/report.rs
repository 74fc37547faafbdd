//! `forge report` writes what the job itself keeps, and the words of `about` change no result.

use std::{fs, path::PathBuf};

use crate::common::{Sandbox, forge, insurance_envelope, run_with_stdin, with_value};
use serde_json::json;

/// The documents that follow from the result, each with its option.
const DOCUMENTS: [(&str, &str); 3] =
    [("--html", "report.html"), ("--csv", "ept.csv"), ("--json", "result.json")];

#[test]
fn a_job_keeps_report_and_table_by_default_and_an_empty_list_keeps_none() {
    let sandbox = Sandbox::new();
    sandbox.run(&insurance_envelope("default"), &[]).expect_code(0);
    let names = |job: &str| {
        let manifest = sandbox.manifest(job);
        let artifacts = manifest["artifacts"].as_array().unwrap().iter();
        artifacts.map(|artifact| artifact["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(
        names("default"),
        [
            "envelope.json",
            "result.json",
            "executions.json",
            "metrics.json",
            "ept.csv",
            "report.html",
            "shards.bin"
        ]
    );
    let nothing = with_value(insurance_envelope("nothing"), "/artifacts/include", json!([]));
    sandbox.run(&nothing, &["--keep-shards=0"]).expect_code(0);
    assert_eq!(names("nothing"), ["envelope.json"]);
    assert_eq!(sandbox.manifest("nothing")["result"], sandbox.manifest("default")["result"]);
}

#[test]
fn documents_written_later_have_the_bytes_of_those_that_a_job_keeps() {
    let sandbox = Sandbox::new();
    let kept = with_value(insurance_envelope("job"), "/about/title", json!("Kept <or not>"));
    sandbox.run(&kept, &[]).expect_code(0);
    // The same job in another store, where it keeps no documents.
    let without = Sandbox::new();
    without.run(&with_value(kept, "/artifacts/include", json!([])), &["--keep-shards=0"]).expect_code(0);
    let path = |name: &str| without.path().join(name);
    let files: Vec<PathBuf> = DOCUMENTS.iter().map(|(_, name)| path(name)).collect();
    let mut options = vec!["--no-progress", "--threads", "1"];
    for ((option, _), file) in DOCUMENTS.iter().zip(&files) {
        options.extend([option, file.to_str().unwrap()]);
    }
    let output = without.run_on_job("report", "job", &options).expect_code(0);
    assert!(output.stdout.is_empty() && output.stderr.is_empty(), "{}", output.stderr);
    for ((option, name), file) in DOCUMENTS.iter().zip(&files) {
        let bytes = fs::read(sandbox.artifact("job", name)).unwrap();
        assert!(!bytes.is_empty() && fs::read(file).unwrap() == bytes, "{name}");
        // Also to standard output.
        let printed = without.run_on_job("report", "job", &["--no-progress", option, "-"]).expect_code(0);
        assert_eq!(printed.stdout.as_bytes(), bytes, "{name}");
    }
}

#[test]
fn reports_that_cannot_be_written_are_refused() {
    let sandbox = Sandbox::new();
    sandbox.run(&insurance_envelope("job"), &[]).expect_code(0);
    let report = |options: &[&str]| sandbox.run_on_job("report", "job", options).expect_code(2);
    report(&[]).expect_stderr("--html");
    report(&["--html", "-", "--csv", "-"]).expect_stderr("only one document can go to standard output");
    report(&["--html", "s3://bucket/x"]).expect_stderr("s3:// is not supported here");
    report(&["--html", "/no/such/directory/x"]).expect_stderr("cannot write /no/such/directory/x");
    let trip = json!({
        "ctx": {"job_id": "trip"},
        "op": {"name": "mc", "version": 1, "profile": "eta.v1"},
        "args": {"iterations": 1000, "base_eta": 30, "traffic_mean": 5, "traffic_std": 2}
    });
    // The default list holds ept.csv, which is no reason to warn.
    let output = sandbox.run(&trip, &["--no-progress"]).expect_code(0);
    assert!(output.stderr.is_empty(), "{}", output.stderr);
    sandbox
        .run_on_job("report", "trip", &["--csv", "-"])
        .expect_code(2)
        .expect_stderr("--csv: there is no ept.csv: eta.v1 has no return periods");
    // A manifest that states another result.
    let path = sandbox.manifest_path("trip");
    let manifest = fs::read_to_string(&path).unwrap();
    let result = sandbox.manifest("trip")["result"].as_str().unwrap().to_owned();
    fs::write(&path, manifest.replace(&result, &"0".repeat(64))).unwrap();
    let file = sandbox.path().join("report.html");
    let option = file.to_str().unwrap();
    sandbox.run_on_job("report", "trip", &["--no-progress", "--html", option]).expect_code(4);
    assert!(!file.exists());
}

#[test]
fn about_changes_the_submission_but_not_the_result() {
    let sandbox = Sandbox::new();
    sandbox.run(&insurance_envelope("plain"), &[]).expect_code(0);
    let about = json!({"title": "A title\u{200b}", "currency": "EUR", "as_of": "2026-12-31"});
    let with_about = with_value(insurance_envelope("about"), "/about", about.clone());
    let mut check = forge();
    check.args(["envelope", "check", "-"]);
    let checked = run_with_stdin(check, with_about.to_string().as_bytes()).expect_code(0);
    assert!(checked.stdout.contains("A title\\u{200b}"), "{}", checked.stdout);
    let output = sandbox.run(&with_about, &[]).expect_code(0);
    assert!(output.stdout.contains("A title\\u{200b}") && output.stdout.contains("Annual loss, EUR"));
    let (plain, about_manifest) = (sandbox.manifest("plain"), sandbox.manifest("about"));
    assert_eq!(plain["result"], about_manifest["result"]);
    assert_eq!(plain["replay_key"], about_manifest["replay_key"]);
    assert_ne!(plain["request"], about_manifest["request"]);
    sandbox.run_on_job("audit", "about", &["--full"]).expect_code(0);
    // Another `about` under the same job id is another submission.
    let conflicting = with_value(insurance_envelope("plain"), "/about", about);
    sandbox.run(&conflicting, &[]).expect_code(2).expect_stderr("error: conflict: ");
}
