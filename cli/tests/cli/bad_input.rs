//! Bad input: what is said, and that nothing is run or written.

use std::io::Read;

use crate::common::{Ended, Place, endless, forge, insurance, with};
use serde_json::{Value, json};

/// Runs an envelope, which must be refused, and answers what was said.
#[track_caller]
fn refused(envelope: &Value) -> Ended {
    let place = Place::new();
    let ended = place.run(envelope, &[]).expect(2);
    assert_eq!(ended.stdout, "");
    assert!(!place.out().exists(), "something was written");
    ended
}

#[track_caller]
fn refused_arg(name: &str, value: Value, says: &str) {
    refused(&with(insurance("x"), &format!("/args/{name}"), value)).says(&format!("/args/{name}: {says}"));
}

#[test]
fn malformed_json_has_line_and_column() {
    let place = Place::new();
    place.run_bytes(b"{\n  \"op\": }", &[]).expect(2).says("line 2 column 9");
    place.run_bytes(b"", &[]).expect(2).says("document: is empty");
    place.run_bytes(b"\xff", &[]).expect(2).says("is not UTF-8: byte 0xff at offset 0");
    let deep = "[".repeat(100_000);
    place.run_bytes(deep.as_bytes(), &[]).expect(2).says("is nested too deeply: at most 64");
    assert!(!place.out().exists());
}

#[test]
fn a_large_input_is_refused_without_being_read() {
    let place = Place::new();
    let start = std::time::Instant::now();
    place.run_bytes(&vec![b' '; 100 << 20], &[]).expect(2).says("document: is too large");
    // Reading, or parsing, 100 MB would take longer than this allows.
    assert!(start.elapsed().as_secs() < 5);
}

#[test]
fn what_exists_is_named() {
    let op = |pointer, value| refused(&with(insurance("x"), pointer, value));
    op("/op/name", json!("nc")).says("/op/name: is unknown; this kernel has `mc`");
    op("/op/version", json!(2)).says("/op/version: is unknown; `mc` exists in version 1");
    op("/op/profile", json!("insurance.v2")).says("`mc` version 1 has `insurance.v1`, `eta.v1`");
}

#[test]
fn all_errors_are_shown_at_once() {
    let envelope = with(insurance("a b"), "/args/claim_frequency", json!(2));
    let envelope = with(envelope, "/args/claim_freq", json!(null));
    let said = refused(&with(envelope, "/policy/target", json!("tpu"))).stderr;
    for line in [
        "  /ctx/job_id: must be a string of 1 to 64 characters",
        "  /args/claim_freq: is missing",
        "  /args/claim_frequency: is not a known key: did you mean `claim_freq`?",
        "  /policy/target: must be \"cpu\", \"gpu\" or \"any\"",
    ] {
        assert!(said.contains(line), "{line:?} is not in:\n{said}");
    }
}

#[test]
fn args_are_checked() {
    refused_arg("claim_freq", json!(-1), "must be from 0 to 10000; it is -1");
    refused_arg("claim_freq", json!(10_001), "must be from 0 to 10000");
    refused_arg("claim_severity_sig", json!(0), "must be from 1e-9 to 8; it is 0");
    refused_arg("cat_prob", json!(1.5), "must be from 0 to 1; it is 1.5");
    refused_arg("cat_prob", json!(-0.1), "must be from 0 to 1");
    refused_arg("cat_mu", json!(null), "is missing: cat_prob, cat_mu and cat_sig are given together");
    refused_arg("iterations", json!(0), "must be a whole number from 1 to 281474976710656; it is 0");
    refused_arg("iterations", json!((1u64 << 48) + 1), "must be a whole number");
    refused_arg("iterations", json!(1.5), "must be a whole number");
    refused(&with(insurance("x"), "/seed", json!({"mode": "explicit"}))).says("/seed/value: is missing");
    refused(&with(insurance("x"), "/seed", json!({"value": "x"}))).says("/seed/value: is not allowed");
}

#[test]
fn numbers_that_are_none_are_refused() {
    let place = Place::new();
    for (text, says) in
        [("1e999", "is too large for a finite number"), ("NaN", "line 1"), ("1e300", "is 1e300")]
    {
        let envelope = insurance("x")
            .to_string()
            .replace("\"claim_severity_mu\":6", &format!("\"claim_severity_mu\":{text}"));
        place.run_bytes(envelope.as_bytes(), &[]).expect(2).says(says);
    }
}

#[test]
fn amounts_that_saturate_are_counted_or_refused() {
    let mut envelope = with(insurance("large"), "/args/policy_limit", json!(null));
    envelope = with(with(envelope, "/args/aggregate_limit", json!(null)), "/artifacts/persist", json!(false));
    // e^31.5 is above a third of the largest amount: a claim in seven or so exceeds it.
    let some = with(envelope.clone(), "/args/claim_severity_mu", json!(31.5));
    let ran = Place::new().run(&some, &[]).expect(0);
    assert!(ran.stdout.contains("Warnings\n"), "{}", ran.stdout);
    assert!(
        ran.stdout.contains("amounts exceeded 90,071,992,547,410, the largest there is"),
        "{}",
        ran.stdout
    );
    refused(&with(envelope, "/args/claim_severity_mu", json!(34)))
        .says("/args/claim_severity_mu: is so large");
}

#[test]
fn options_are_checked() {
    let place = Place::new();
    let bad = |options: &[&str]| place.run(&insurance("x"), options).expect(2);
    bad(&["--backend", "cuda"])
        .says("there is no backend \"cuda\": this machine has auto, simd, scalar, ")
        .says("simd-portable");
    bad(&["--threads", "0"]).says("--threads");
    bad(&["--format", "xml"]).says("text, json");
    assert!(!place.out().exists());
}

#[test]
fn files_that_cannot_be_read_are_named() {
    let place = Place::new();
    let ended = |arguments: &[&str]| {
        let output = forge().args(arguments).current_dir(place.path()).output();
        Ended::new(&output.unwrap())
    };
    ended(&["run", "absent.json"]).expect(2).says("absent.json cannot be read: No such file");
    ended(&["run", "."]).expect(2).says(". cannot be read: Is a directory");
    ended(&["replay", "absent"]).expect(2).says("absent cannot be opened");
    ended(&["audit", "."]).expect(2).says(". is not in a job's directory");
    ended(&["envelope", "new", "--profile", "x.v1"]).expect(2).says("there are insurance.v1, eta.v1");
    ended(&["schema", "x"]).expect(2).says("there are envelope, ");
    ended(&["fly"]).expect(2).says("unrecognized subcommand");
}

#[test]
fn a_conflict_is_found_before_anything_is_computed() {
    let place = Place::new();
    place.run(&insurance("taken"), &[]).expect(0);
    let files = place.files();
    place.run(&endless("taken"), &[]).expect(2).says("error: conflict: ").says("under the job id taken");
    assert_eq!(place.files(), files);
}

#[test]
fn an_envelope_is_checked_without_being_run() {
    let mut check = forge();
    check.args(["envelope", "check", "-"]);
    let bad = with(insurance("x"), "/args/claim_freq", json!("two"));
    let ended = crate::common::feed(check, bad.to_string().as_bytes()).expect(2);
    assert!(ended.stderr.starts_with("/args/claim_freq: must be a number"), "{}", ended.stderr);
    assert!(
        ended.stderr.ends_with("error: standard input is not a valid envelope: 1 error\n"),
        "{}",
        ended.stderr
    );

    let mut check = forge();
    check.args(["envelope", "check", "-"]);
    let ended = crate::common::feed(check, insurance("x").to_string().as_bytes()).expect(0);
    assert!(ended.stdout.starts_with("valid\n"), "{}", ended.stdout);
    assert!(
        ended.stdout.contains("fr1-") && ended.stdout.contains("300,000 years in 5 shards"),
        "{}",
        ended.stdout
    );
}

#[test]
fn the_examples_that_are_printed_are_valid_and_complete() {
    for profile in ["insurance.v1", "eta.v1"] {
        let printed = forge().args(["envelope", "new", "--profile", profile]).output().unwrap().stdout;
        let mut check = forge();
        check.args(["envelope", "check", "-", "--print"]);
        let normal = crate::common::feed(check, &printed).expect(0).stdout;
        let (printed, normal): (Value, Value) =
            (serde_json::from_slice(&printed).unwrap(), serde_json::from_str(&normal).unwrap());
        assert_eq!(printed["op"]["profile"], profile);
        // Nothing is left to defaults but the job's name.
        for part in ["op", "policy", "seed", "artifacts"] {
            assert_eq!(printed[part], normal[part]);
        }
        assert_eq!(printed["ctx"].get("job_id"), None);
    }
}

#[test]
fn a_closed_pipe_is_no_failure() {
    let mut child = forge()
        .args(["schema", "envelope"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!((child.wait().unwrap().code(), said.as_str()), (Some(0), ""));
}
