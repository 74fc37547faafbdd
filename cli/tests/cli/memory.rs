//! Memory does not grow with the number of iterations.

#![cfg(target_os = "linux")]

use std::{fs, process::Stdio, thread::sleep, time::Duration};

use serde_json::{Value, json};

use crate::common::{Place, forge, with};

/// The most memory that a run of so many trips ever held, in kB.
fn peak(trips: u64) -> u64 {
    let place = Place::new();
    let eta: Value = serde_json::from_str(include_str!("../../../examples/eta.json")).unwrap();
    let envelope = with(with(eta, "/args/iterations", json!(trips)), "/artifacts/persist", json!(false));
    let file = place.path().join("envelope.json");
    fs::write(&file, envelope.to_string()).unwrap();
    let mut command = forge();
    command.arg("run").arg(file).args(["--threads", "2"]).stdout(Stdio::null());
    let mut child = command.spawn().unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    while child.try_wait().unwrap().is_none() {
        let status = fs::read_to_string(&status).unwrap_or_default();
        let held = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.strip_suffix("kB"));
        peak = held.map_or(peak, |held| held.trim().parse().unwrap());
        sleep(Duration::from_millis(5));
    }
    assert!(child.wait().unwrap().success());
    peak
}

#[test]
fn a_long_run_needs_no_more_memory_than_a_short_one() {
    // 61 shards and 763; a shard's result takes some 100 kB.
    let (short, long) = (peak(4_000_000), peak(100_000_000));
    assert!(short > 1000 && long < short + 16_000, "{short} kB and {long} kB");
}
