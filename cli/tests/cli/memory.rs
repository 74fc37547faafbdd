//! Memory does not grow with the number of iterations.

#![cfg(target_os = "linux")]

use std::{fs, process::Stdio, thread::sleep, time::Duration};

use serde_json::{Value, json};

use crate::common::{Sandbox, forge, with_value};

/// Peak resident memory of a run with this many trips, in kB.
fn peak_memory_kb(trips: u64) -> u64 {
    let sandbox = Sandbox::new();
    let eta: Value = serde_json::from_str(include_str!("../../../examples/eta.json")).unwrap();
    let envelope =
        with_value(with_value(eta, "/args/iterations", json!(trips)), "/artifacts/persist", json!(false));
    let file = sandbox.path().join("envelope.json");
    fs::write(&file, envelope.to_string()).unwrap();
    let mut command = forge();
    command.arg("run").arg(file).args(["--threads", "2"]).stdout(Stdio::null());
    let mut child = command.spawn().unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    while child.try_wait().unwrap().is_none() {
        let status = fs::read_to_string(&status).unwrap_or_default();
        let high_water_mark = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.strip_suffix("kB"));
        peak = high_water_mark.map_or(peak, |kb| kb.trim().parse().unwrap());
        sleep(Duration::from_millis(5));
    }
    assert!(child.wait().unwrap().success());
    peak
}

#[test]
fn memory_does_not_grow_with_iterations() {
    // 61 and 763 shards; a shard result takes about 100 kB.
    let (short, long) = (peak_memory_kb(4_000_000), peak_memory_kb(100_000_000));
    assert!(short > 1000 && long < short + 16_000, "{short} kB and {long} kB");
}
