//! Invalid input: the error messages, and that nothing is executed or written.

use std::io::Read;

use crate::common::{CommandOutput, Sandbox, endless_envelope, forge, insurance_envelope, with_value};
use serde_json::{Value, json};

/// Runs an envelope that must be rejected, and returns the output.
#[track_caller]
fn run_rejected(envelope: &Value) -> CommandOutput {
    let sandbox = Sandbox::new();
    let output = sandbox.run(envelope, &[]).expect_code(2);
    assert_eq!(output.stdout, "");
    assert!(!sandbox.store_path().exists(), "the store was created");
    output
}

#[track_caller]
fn assert_arg_rejected(name: &str, value: Value, message: &str) {
    run_rejected(&with_value(insurance_envelope("x"), &format!("/args/{name}"), value))
        .expect_stderr(&format!("/args/{name}: {message}"));
}

#[test]
fn malformed_json_is_reported_with_line_and_column() {
    let sandbox = Sandbox::new();
    sandbox.run_bytes(b"{\n  \"op\": }", &[]).expect_code(2).expect_stderr("line 2 column 9");
    sandbox.run_bytes(b"", &[]).expect_code(2).expect_stderr("document: is empty");
    sandbox.run_bytes(b"\xff", &[]).expect_code(2).expect_stderr("is not UTF-8: byte 0xff at offset 0");
    let deep = "[".repeat(100_000);
    sandbox.run_bytes(deep.as_bytes(), &[]).expect_code(2).expect_stderr("is nested too deeply: at most 64");
    assert!(!sandbox.store_path().exists());
}

#[test]
fn oversized_input_is_rejected_without_reading_it() {
    let sandbox = Sandbox::new();
    let start = std::time::Instant::now();
    sandbox.run_bytes(&vec![b' '; 100 << 20], &[]).expect_code(2).expect_stderr("document: is too large");
    // Reading or parsing 100 MB would take longer.
    assert!(start.elapsed().as_secs() < 5);
}

#[test]
fn unknown_op_error_lists_the_known_ones() {
    let op = |pointer, value| run_rejected(&with_value(insurance_envelope("x"), pointer, value));
    op("/op/name", json!("nc")).expect_stderr("/op/name: is unknown: this kernel has `mc`");
    op("/op/version", json!(2)).expect_stderr("/op/version: is unknown: this kernel has `mc` in version 1");
    op("/op/profile", json!("insurance.v2")).expect_stderr("`mc` version 1 has `insurance.v1`, `eta.v1`");
}

/// A portfolio of lines with heavy tails under this many quota shares, in a step each.
fn wide_portfolio(lines: u32, steps: u32) -> Value {
    let lines: Vec<String> = (0..lines).map(|line| format!("line {line}")).collect();
    let strike = |line: &String| json!({"line": line, "severity": {"lognormal": {"mu": 9, "sigma": 5}}});
    let share = |step: u32| {
        json!({"name": format!("share {step}"), "step": step, "kind": "quota_share", "covers": lines,
            "cession": 0.05})
    };
    json!({
        "op": {"name": "mc", "version": 1, "profile": "risk.compound.v1"},
        "args": {
            "iterations": 65_536, "lines": lines, "report": {"allocation": true},
            "groups": [{"name": "all", "count": {"poisson": 2},
                "strikes": lines.iter().map(strike).collect::<Vec<_>>()}],
            "treaties": (1..=steps).map(share).collect::<Vec<_>>()
        }
    })
}

#[test]
fn results_too_large_for_services_are_refused_with_their_size() {
    let sandbox = Sandbox::new();
    let check = |lines: u32, steps: u32, code: i32| {
        std::fs::write(sandbox.path().join("wide.json"), wide_portfolio(lines, steps).to_string()).unwrap();
        let mut command = forge();
        command.current_dir(sandbox.path()).args(["envelope", "check", "wide.json", "--format", "json"]);
        let output = CommandOutput::new(&command.output().unwrap()).expect_code(code);
        serde_json::from_str::<Value>(&output.stdout).unwrap()
    };
    let refused = check(16, 32, 2);
    let error = &refused["errors"][0];
    assert_eq!((&refused["valid"], &error["pointer"]), (&false.into(), &"/args".into()));
    assert_eq!(error["code"], "result_too_large");
    assert!(error["message"].as_str().unwrap().contains("their allocation"), "{error}");
    let size = |document: &Value, name: &str| document[name].as_u64().unwrap();
    assert!(size(&refused, "result_bytes") > size(&refused, "max_result_bytes"));
    let valid = check(8, 1, 0);
    assert_eq!(valid["valid"], true);
    assert!(size(&valid, "result_bytes") < size(&valid, "max_result_bytes"));
    assert!(size(&valid, "program_bytes") > 100_000);
}

#[test]
fn all_errors_are_reported_at_once() {
    let envelope = with_value(insurance_envelope("a b"), "/args/claim_frequency", json!(2));
    let envelope = with_value(envelope, "/args/claim_freq", json!(null));
    let stderr = run_rejected(&with_value(envelope, "/policy/target", json!("tpu"))).stderr;
    for line in [
        "  /ctx/job_id: must be a string of 1 to 64 of the characters",
        "  /args/claim_freq: is missing",
        "  /args/claim_frequency: is not a known key: did you mean `claim_freq`?",
        "  /policy/target: must be \"cpu\", \"gpu\" or \"any\"",
    ] {
        assert!(stderr.contains(line), "{line:?} is not in:\n{stderr}");
    }
}

#[test]
fn args_out_of_range_are_rejected() {
    assert_arg_rejected("claim_freq", json!(-1), "must be from 0 to 10000; it is -1");
    assert_arg_rejected("claim_freq", json!(10_001), "must be from 0 to 10000");
    assert_arg_rejected("claim_severity_sig", json!(0), "must be from 1e-9 to 8; it is 0");
    assert_arg_rejected("cat_prob", json!(1.5), "must be from 0 to 1; it is 1.5");
    assert_arg_rejected("cat_prob", json!(-0.1), "must be from 0 to 1");
    assert_arg_rejected("cat_mu", json!(null), "is missing: give all of cat_prob, cat_mu and cat_sig");
    assert_arg_rejected("iterations", json!(0), "must be a whole number from 1 to 281474976710656; it is 0");
    assert_arg_rejected("iterations", json!((1u64 << 48) + 1), "must be a whole number");
    assert_arg_rejected("iterations", json!(1.5), "must be a whole number");
    run_rejected(&with_value(insurance_envelope("x"), "/seed", json!({"mode": "explicit"})))
        .expect_stderr("/seed/value: is missing");
    run_rejected(&with_value(insurance_envelope("x"), "/seed", json!({"value": "x"})))
        .expect_stderr("/seed/value: is not allowed");
}

#[test]
fn non_finite_and_out_of_range_numbers_are_rejected() {
    let sandbox = Sandbox::new();
    for (text, message) in
        [("1e999", "is too large for a finite number"), ("NaN", "line 1"), ("1e300", "is 1e300")]
    {
        let envelope = insurance_envelope("x")
            .to_string()
            .replace("\"claim_severity_mu\":6", &format!("\"claim_severity_mu\":{text}"));
        sandbox.run_bytes(envelope.as_bytes(), &[]).expect_code(2).expect_stderr(message);
    }
}

#[test]
fn saturated_amounts_cause_a_warning_or_a_rejection() {
    let mut envelope = with_value(insurance_envelope("large"), "/args/policy_limit", json!(null));
    envelope = with_value(
        with_value(envelope, "/args/aggregate_limit", json!(null)),
        "/artifacts/persist",
        json!(false),
    );
    // The median claim is e^31.5, more than a third of the largest amount; about one claim in seven
    // exceeds it.
    let some_saturate = with_value(envelope.clone(), "/args/claim_severity_mu", json!(31.5));
    let output = Sandbox::new().run(&some_saturate, &[]).expect_code(0);
    assert!(output.stdout.contains("Warnings\n"), "{}", output.stdout);
    assert!(
        output.stdout.contains("amounts exceeded 90,071,992,547,410, the largest there is"),
        "{}",
        output.stdout
    );
    run_rejected(&with_value(envelope, "/args/claim_severity_mu", json!(34)))
        .expect_stderr("/args/claim_severity_mu: is too large: most amounts");
}

#[test]
fn invalid_options_are_rejected() {
    let sandbox = Sandbox::new();
    let run_invalid = |options: &[&str]| sandbox.run(&insurance_envelope("x"), options).expect_code(2);
    run_invalid(&["--backend", "cuda"])
        .expect_stderr("unknown backend \"cuda\"; this machine has auto, simd, scalar, ")
        .expect_stderr("simd-portable");
    run_invalid(&["--threads", "0"]).expect_stderr("--threads");
    run_invalid(&["--format", "xml"]).expect_stderr("text, json");
    assert!(!sandbox.store_path().exists());
}

#[test]
fn errors_name_the_unreadable_file() {
    let sandbox = Sandbox::new();
    let run = |arguments: &[&str]| {
        let output = forge().args(arguments).current_dir(sandbox.path()).output();
        CommandOutput::new(&output.unwrap())
    };
    run(&["run", "absent.json"]).expect_code(2).expect_stderr("cannot read absent.json: No such file");
    run(&["run", "."]).expect_code(2).expect_stderr("cannot read .: Is a directory");
    run(&["replay", "absent"]).expect_code(2).expect_stderr("cannot open absent");
    run(&["audit", "."]).expect_code(2).expect_stderr(". is not in the directory of a job");
    run(&["envelope", "new", "--profile", "x.v1"])
        .expect_code(2)
        .expect_stderr("available profiles: insurance.v1, eta.v1");
    run(&["schema", "x"]).expect_code(2).expect_stderr("available schemas: envelope, ");
    run(&["fly"]).expect_code(2).expect_stderr("unrecognized subcommand");
}

#[test]
fn job_id_conflict_is_reported_before_execution() {
    let sandbox = Sandbox::new();
    sandbox.run(&insurance_envelope("taken"), &[]).expect_code(0);
    let files = sandbox.files();
    sandbox
        .run(&endless_envelope("taken"), &[])
        .expect_code(2)
        .expect_stderr("error: conflict: ")
        .expect_stderr("with job id taken")
        .expect_stderr("choose another job id with --as");
    assert_eq!(sandbox.files(), files);
    // The same envelope with another artifact is another envelope, and runs under another id.
    let more =
        with_value(insurance_envelope("taken"), "/artifacts/include", json!(["result_json", "report_html"]));
    sandbox.run(&more, &[]).expect_code(2);
    sandbox.run(&more, &["--as", "more"]).expect_code(0);
    assert_eq!(sandbox.manifest("more")["result"], sandbox.manifest("taken")["result"]);
    let arguments = ["artifacts", "get", "no-such-job", "--store"];
    let output = forge().args(arguments).arg(sandbox.store_path()).output().unwrap();
    CommandOutput::new(&output)
        .expect_code(2)
        .expect_stderr("no job no-such-job has completed in this store");
}

#[test]
fn envelope_check_reports_errors_or_the_plan() {
    let mut check = forge();
    check.args(["envelope", "check", "-"]);
    let bad = with_value(insurance_envelope("x"), "/args/claim_freq", json!("two"));
    let output = crate::common::run_with_stdin(check, bad.to_string().as_bytes()).expect_code(2);
    let column = bad.to_string().find("\"two\"").unwrap() + 1;
    let start = format!("standard input:1:{column}: /args/claim_freq: must be a number");
    assert!(output.stderr.starts_with(&start), "{}", output.stderr);
    assert!(
        output.stderr.ends_with("error: standard input is not a valid envelope: 1 error\n"),
        "{}",
        output.stderr
    );

    let mut check = forge();
    check.args(["envelope", "check", "-"]);
    let output =
        crate::common::run_with_stdin(check, insurance_envelope("x").to_string().as_bytes()).expect_code(0);
    assert!(output.stdout.starts_with("valid\n"), "{}", output.stdout);
    assert!(
        output.stdout.contains("fr1-") && output.stdout.contains("300,000 years in 5 shards"),
        "{}",
        output.stdout
    );
}

#[test]
fn envelope_check_reports_errors_as_json() {
    let mut check = forge();
    check.args(["envelope", "check", "-", "--format", "json"]);
    let bad = with_value(insurance_envelope("x"), "/args/claim_freq", json!("two"));
    let output = crate::common::run_with_stdin(check, bad.to_string().as_bytes()).expect_code(2);
    let document: Value = serde_json::from_str(&output.stdout).unwrap();
    assert_eq!(
        (&document["valid"], &document["errors"][0]["pointer"]),
        (&json!(false), &json!("/args/claim_freq"))
    );
}

#[test]
fn envelope_check_names_the_place_the_code_and_the_hint_of_every_error() {
    let sandbox = Sandbox::new();
    let check = |text: &str, options: &[&str]| {
        std::fs::write(sandbox.path().join("é.json"), text).unwrap();
        let mut command = forge();
        command.current_dir(sandbox.path()).args(["envelope", "check", "é.json"]).args(options);
        CommandOutput::new(&command.output().unwrap()).expect_code(2)
    };
    let findings = |text: &str| -> Vec<Value> {
        let document: Value = serde_json::from_str(&check(text, &["--format", "json"]).stdout).unwrap();
        assert_eq!((&document["file"], &document["warnings"]), (&json!("é.json"), &json!([])));
        document["errors"].as_array().unwrap().clone()
    };
    let text = "{\"op\": {\"name\": \"mc\", \"version\": 1, \"profile\": \"insurance.v1\"},\n \"args\": {\n  \
                \"iterations\": 10, \"claim_frq\": 1,\n  \"claim_severity_mu\": 1, \"claim_severity_sig\": \"é\",\n  \
                \"policy_limit\": 0}}";
    let expected = [
        ("/args/claim_freq", 2, 10, "missing", Some("a number from 0 to 10000 is required")),
        ("/args/claim_severity_sig", 4, 49, "invalid_value", None),
        ("/args/policy_limit", 5, 19, "invalid_value", None),
        ("/args/claim_frq", 3, 21, "unknown_key", Some("did you mean `claim_freq`?")),
    ];
    let found = findings(text);
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (finding, (pointer, line, column, code, hint)) in found.iter().zip(expected) {
        let place =
            (&finding["pointer"], &finding["line"], &finding["column"], &finding["code"], &finding["hint"]);
        assert_eq!(place, (&json!(pointer), &json!(line), &json!(column), &json!(code), &json!(hint)));
        let message = finding["message"].as_str().unwrap();
        assert!(hint.is_none_or(|hint| message.ends_with(&format!(": {hint}"))), "{message}");
        let line = format!("é.json:{line}:{column}: {pointer}: {message}\n");
        assert!(check(text, &[]).stderr.contains(&line), "{line}");
    }
    // Columns count characters, also those of syntax errors.
    let syntax = &findings("{\"é\": 1,\n \"é\": NaN}")[0];
    assert_eq!(
        (&syntax["line"], &syntax["column"], &syntax["code"]),
        (&json!(2), &json!(7), &json!("syntax"))
    );
    assert!(syntax["message"].as_str().unwrap().contains("at line 2 column 7: JSON has neither NaN"));
    let repeated = &findings("{\"a\": 1,\n \"a\": 2}")[0];
    assert_eq!(
        (&repeated["line"], &repeated["column"], &repeated["code"], &repeated["hint"]),
        (&json!(2), &json!(2), &json!("duplicate_key"), &json!("keep one of them"))
    );
}

#[test]
fn named_examples_are_printed() {
    for example in ["portfolio", "tower", "capital", "mixture", "events"] {
        let command = ["envelope", "new", "--profile", "risk.compound.v1", "--example", example];
        let printed = forge().args(command).output().unwrap().stdout;
        let mut check = forge();
        check.args(["envelope", "check", "-"]);
        let text = crate::common::run_with_stdin(check, &printed).expect_code(0).stdout;
        assert!(text.starts_with("valid\n") && !text.contains("Warnings"), "{example}: {text}");
    }
    let unknown = ["envelope", "new", "--profile", "risk.compound.v1", "--example", "towers"];
    let output = forge().args(unknown).output().unwrap();
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("has: portfolio, tower, capital, mixture, events")
    );
    let none = forge().args(["envelope", "new", "--example", "tower"]).output().unwrap();
    assert!(String::from_utf8_lossy(&none.stderr).contains("has no named examples"));
}

#[test]
fn printed_example_envelopes_are_valid_and_complete() {
    for profile in ["insurance.v1", "eta.v1"] {
        let printed = forge().args(["envelope", "new", "--profile", profile]).output().unwrap().stdout;
        let mut check = forge();
        check.args(["envelope", "check", "-", "--print"]);
        let normal = crate::common::run_with_stdin(check, &printed).expect_code(0).stdout;
        let (printed, normal): (Value, Value) =
            (serde_json::from_slice(&printed).unwrap(), serde_json::from_str(&normal).unwrap());
        assert_eq!(printed["op"]["profile"], profile);
        // Everything except the job id is written out.
        for part in ["op", "policy", "seed", "artifacts"] {
            assert_eq!(printed[part], normal[part]);
        }
        assert_eq!(printed["ctx"].get("job_id"), None);
    }
}

#[test]
fn closed_stdout_pipe_is_not_an_error() {
    let mut child = forge()
        .args(["schema", "envelope"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert_eq!((child.wait().unwrap().code(), stderr.as_str()), (Some(0), ""));
}
