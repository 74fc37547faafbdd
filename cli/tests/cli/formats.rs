//! `--format json` of the commands that need no services: every line or document parses.

use serde_json::Value;

use crate::common::{CommandOutput, Sandbox, forge, insurance_envelope};

/// Runs a command in the sandbox and parses its output as one document.
#[track_caller]
fn document(sandbox: &Sandbox, arguments: &[&str]) -> Value {
    let output = run(sandbox, arguments);
    serde_json::from_str(&output).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {output}"))
}

/// Runs a command in the sandbox and parses each line of its output.
#[track_caller]
fn lines(sandbox: &Sandbox, arguments: &[&str]) -> Vec<Value> {
    let output = run(sandbox, arguments);
    output.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[track_caller]
fn run(sandbox: &Sandbox, arguments: &[&str]) -> String {
    let mut command = forge();
    command.current_dir(sandbox.path()).args(arguments).args(["--format", "json"]);
    CommandOutput::new(&command.output().unwrap()).expect_code(0).stdout
}

#[test]
fn commands_on_files_print_json() {
    let sandbox = Sandbox::new();
    let file = sandbox.path().join("envelope.json");
    std::fs::write(&file, insurance_envelope("job").to_string()).unwrap();
    let result = document(&sandbox, &["run", "envelope.json", "--no-progress", "--out", "out"]);
    assert_eq!(result["schema"], "forge.result.v1");
    let manifest = sandbox.manifest("job");
    let replay = document(&sandbox, &["replay", "out/jobs/job", "--no-progress"]);
    assert_eq!((&replay["schema"], &replay["same_result"]), (&"forge.replay.v1".into(), &true.into()));
    assert_eq!((&replay["stored"], &replay["recomputed"]), (&manifest["result"], &manifest["result"]));
    assert_eq!(document(&sandbox, &["audit", "out/jobs/job"])["schema"], "forge.audit.v1");
    assert_eq!(document(&sandbox, &["audit", "--log", "out"])["schema"], "forge.log-audit.v1");
    assert_eq!(document(&sandbox, &["diff", "out/jobs/job", "out/jobs/job"])["schema"], "forge.diff.v1");
    let top = document(&sandbox, &["explain", "out/jobs/job", "--top", "1", "--no-progress"]);
    assert_eq!((&top["schema"], &top["rows"][0]["rank"]), (&"forge.explain.v1".into(), &1.into()));
    let years = ["years", "out/jobs/job", "--where", "net > 249999", "--no-progress"];
    assert_eq!(document(&sandbox, &years)["schema"], "forge.years.v1");
    let checked = document(&sandbox, &["envelope", "check", "envelope.json"]);
    assert_eq!((&checked["schema"], &checked["valid"]), (&"forge.envelope-check.v1".into(), &true.into()));
    let bench = ["bench", "--rounds", "1", "--seconds", "0.001", "--backend", "scalar"];
    assert_eq!(document(&sandbox, &bench)["schema"], "forge.bench.v1");
    assert_eq!(document(&sandbox, &["devices"])["schema"], "forge.devices.v1");

    let listed = lines(&sandbox, &["artifacts", "ls", "job", "--store", "out"]);
    assert_eq!(&Value::from(listed), &manifest["artifacts"]);
    let fetched = lines(&sandbox, &["artifacts", "get", "job", "--store", "out", "--out", "all"]);
    assert_eq!(fetched.len(), manifest["artifacts"].as_array().unwrap().len());
    assert_eq!(fetched[0]["path"], "all/envelope.json");
    let one = ["artifacts", "get", "job", "result.json", "--store", "out", "--out", "one"];
    assert_eq!(lines(&sandbox, &one)[0]["sha256"], manifest["result"]);
    assert!(sandbox.path().join("one/result.json").exists());
    let users = lines(&sandbox, &["credentials", "secrets", "--submitter", "alice"]);
    let alice = users.iter().find(|user| user["user"] == "client-alice").unwrap();
    assert_eq!(alice["for"], "submitter alice");
    assert!(std::path::Path::new(alice["env"].as_str().unwrap()).exists());

    let mut command = forge();
    command.current_dir(sandbox.path()).args(["artifacts", "get", "job", "result.json", "--store", "out"]);
    command.args(["--format", "json"]);
    CommandOutput::new(&command.output().unwrap())
        .expect_code(2)
        .expect_stderr("--format json: give --out too");
}
