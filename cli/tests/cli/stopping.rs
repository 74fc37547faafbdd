//! Runs that are stopped from outside: by a signal, or by the timeout in their envelope.

use std::{
    fs,
    os::unix::process::ExitStatusExt,
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use crate::common::{CommandOutput, Sandbox, endless_envelope, forge, insurance_envelope, with_value};
use serde_json::{Value, json};

fn start_run(sandbox: &Sandbox, envelope: &Value, options: &[&str]) -> Child {
    let file = sandbox.path().join("envelope.json");
    fs::write(&file, envelope.to_string()).unwrap();
    let mut command = forge();
    command.arg("run").arg(file).arg("--out").arg(sandbox.store_path()).args(options);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_for_handler(&child);
    child
}

/// Waits until a handler for SIGINT is installed. An earlier signal would kill the process.
fn wait_for_handler(child: &Child) {
    let status = format!("/proc/{}/status", child.id());
    let handled = || {
        let status = fs::read_to_string(&status).unwrap_or_default();
        let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap_or("0");
        u64::from_str_radix(mask.trim(), 16).unwrap_or(0) & (1 << 1) != 0
    };
    let start = Instant::now();
    while !handled() && start.elapsed() < Duration::from_secs(10) {
        sleep(Duration::from_millis(10));
    }
    sleep(Duration::from_millis(100));
}

fn send_signal(child: &Child, name: &str) {
    let sent = Command::new("kill").args([format!("-{name}"), child.id().to_string()]).status().unwrap();
    assert!(sent.success());
}

#[test]
fn first_signal_cancels_the_run_and_records_it() {
    for (name, job) in [("INT", "interrupted"), ("TERM", "terminated")] {
        let sandbox = Sandbox::new();
        let child = start_run(&sandbox, &endless_envelope(job), &["--threads", "2"]);
        send_signal(&child, name);
        let sent = Instant::now();
        let output = CommandOutput::new(&child.wait_with_output().unwrap()).expect_code(3);
        assert!(sent.elapsed() < Duration::from_secs(5));
        let mut lines = output.stderr.lines().filter(|line| !line.starts_with("warning: "));
        let is_cancellation =
            |line: &str| line.starts_with("error: cancelled: cancelled on request (recorded in ");
        assert!(lines.next().is_some_and(is_cancellation) && lines.next().is_none(), "{}", output.stderr);
        assert!(output.stdout.is_empty(), "{}", output.stdout);
        let error = sandbox.error(job);
        assert_eq!((&error["code"], &error["phase"]), (&json!("cancelled"), &json!("execute")));
        assert_eq!(sandbox.files(), [format!("jobs/{job}/error.json")]);
    }
}

#[test]
fn second_signal_kills_the_process() {
    let sandbox = Sandbox::new();
    // A leaf of this job takes seconds; after the first signal, the run waits 2 s for it.
    let slow = with_value(
        with_value(endless_envelope("slow"), "/args/claim_freq", json!(10_000)),
        "/args/iterations",
        json!(100_000_000),
    );
    let mut child = start_run(&sandbox, &slow, &["--backend", "scalar", "--threads", "1"]);
    send_signal(&child, "INT");
    sleep(Duration::from_millis(200));
    assert!(child.try_wait().unwrap().is_none(), "the first signal killed the process");
    send_signal(&child, "INT");
    assert_eq!(child.wait().unwrap().signal(), Some(2));
}

#[test]
fn run_ends_when_its_timeout_expires() {
    let sandbox = Sandbox::new();
    let envelope = with_value(endless_envelope("late"), "/policy/timeout_ms", json!(300));
    let start = Instant::now();
    let output = sandbox
        .run(&envelope, &[])
        .expect_code(3)
        .expect_stderr("error: timeout: ")
        .expect_stderr("policy.timeout_ms (300 ms)");
    assert!(start.elapsed() < Duration::from_secs(5), "{}", output.stderr);
    assert_eq!(sandbox.error("late")["code"], "timeout");
    let enough = with_value(insurance_envelope("late"), "/policy/timeout_ms", json!(60_000));
    sandbox.run(&enough, &[]).expect_code(0);
}
