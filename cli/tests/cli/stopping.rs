//! Runs that are stopped from outside: by a signal, or by the time that their envelope allows.

use std::{
    fs,
    os::unix::process::ExitStatusExt,
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use crate::common::{Ended, Place, endless, forge, insurance, with};
use serde_json::{Value, json};

fn start(place: &Place, envelope: &Value, options: &[&str]) -> Child {
    let file = place.path().join("envelope.json");
    fs::write(&file, envelope.to_string()).unwrap();
    let mut command = forge();
    command.arg("run").arg(file).arg("--out").arg(place.out()).args(options);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_for_handler(&child);
    child
}

/// Waits until SIGINT would be handled: before that it would end the process at once.
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

fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill").args([format!("-{name}"), child.id().to_string()]).status().unwrap();
    assert!(sent.success());
}

#[test]
fn a_signal_stops_a_run_in_good_order() {
    for (name, job) in [("INT", "interrupted"), ("TERM", "terminated")] {
        let place = Place::new();
        let child = start(&place, &endless(job), &["--threads", "2"]);
        signal(&child, name);
        let sent = Instant::now();
        let ended = Ended::new(&child.wait_with_output().unwrap()).expect(3);
        assert!(sent.elapsed() < Duration::from_secs(5));
        assert_eq!((ended.stdout.as_str(), ended.stderr.lines().count()), ("", 1), "{}", ended.stderr);
        assert!(
            ended.stderr.starts_with("error: cancelled: cancelled on request (recorded in "),
            "{}",
            ended.stderr
        );
        let error = place.error(job);
        assert_eq!((&error["code"], &error["phase"]), (&json!("cancelled"), &json!("execute")));
        assert_eq!(place.files(), [format!("jobs/{job}/error.json")]);
    }
}

#[test]
fn a_second_signal_kills() {
    let place = Place::new();
    // A leaf of these takes seconds, and the first signal waits two for its end.
    let slow = with(
        with(endless("slow"), "/args/claim_freq", json!(10_000)),
        "/args/iterations",
        json!(100_000_000),
    );
    let mut child = start(&place, &slow, &["--backend", "scalar", "--threads", "1"]);
    signal(&child, "INT");
    sleep(Duration::from_millis(200));
    assert!(child.try_wait().unwrap().is_none(), "the first signal ended it at once");
    signal(&child, "INT");
    assert_eq!(child.wait().unwrap().signal(), Some(2));
}

#[test]
fn a_run_ends_with_the_time_it_is_allowed() {
    let place = Place::new();
    let envelope = with(endless("late"), "/policy/timeout_ms", json!(300));
    let start = Instant::now();
    let ended =
        place.run(&envelope, &[]).expect(3).says("error: timeout: ").says("policy.timeout_ms, 300 ms");
    assert!(start.elapsed() < Duration::from_secs(5), "{}", ended.stderr);
    assert_eq!(place.error("late")["code"], "timeout");
    let enough = with(insurance("late"), "/policy/timeout_ms", json!(60_000));
    place.run(&enough, &[]).expect(0);
}
