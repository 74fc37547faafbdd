//! A CPU worker and a GPU worker side by side: shards run on the hardware that the policy requests
//! and are verified on the other. Every test here needs a GPU adapter; `.config/nextest.toml`
//! skips this module on machines without one.

use std::fs;

use serde_json::{Value, json};

use crate::{
    job_mix::eta_envelope,
    support::{Cluster, TestStore, insurance_envelope, with_field},
};

/// Starts all services with a CPU worker and a GPU worker. None if there is no GPU adapter.
fn start_mixed_cluster() -> Option<Cluster> {
    let mut cluster = Cluster::empty(TestStore::Directory);
    let devices = cluster.run(&["devices", "--format", "json"]).stdout;
    let devices: Value = serde_json::from_slice(&devices).unwrap();
    let is_gpu = |device: &Value| device["target"] == "gpu";
    if !forge_harness::gpu::require_adapter(devices["devices"].as_array().unwrap().iter().any(is_gpu)) {
        return None;
    }
    for service in ["planner", "aggregator"] {
        cluster.spawn(service, &[service]);
    }
    cluster.spawn("verifier", &["verifier", "--backend", "gpu"]);
    cluster.spawn("worker-cpu", &["worker", "--backend", "simd"]);
    cluster.spawn("worker-gpu", &["worker", "--backend", "gpu"]);
    Some(cluster)
}

fn fetch_document(cluster: &Cluster, job: &str, name: &str) -> Value {
    let output = cluster.run(&["artifacts", "get", job, name]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Number of a job's shards executed on the CPU and on the GPU.
fn shards_by_hardware(cluster: &Cluster, job: &str) -> (usize, usize) {
    let executions = fetch_document(cluster, job, "executions.json");
    let executions = executions["executions"].as_array().unwrap();
    let on_gpu = executions.iter().filter(|execution| execution["adapter"].is_string()).count();
    (executions.len() - on_gpu, on_gpu)
}

#[test]
fn shards_run_on_the_requested_hardware_and_are_verified_on_the_other() {
    let Some(cluster) = start_mixed_cluster() else { return };
    let job = |name: &str, target: &str, envelope: Value| {
        let envelope = with_field(envelope, "/ctx/job_id", json!(name));
        let envelope = with_field(envelope, "/policy", json!({"target": target, "verify": "full"}));
        with_field(
            envelope,
            "/artifacts/include",
            json!(["result_json", "executions_json", "verification_json"]),
        )
    };
    let jobs = [
        job("on-cpu", "cpu", insurance_envelope("", 12)),
        job("on-gpu", "gpu", insurance_envelope("", 40)),
        job("on-any", "any", eta_envelope("", 24)),
    ];
    for envelope in &jobs {
        cluster.submit(envelope);
    }
    for envelope in &jobs {
        cluster.assert_completes(envelope);
    }
    assert_eq!(shards_by_hardware(&cluster, "on-cpu"), (12, 0));
    assert_eq!(shards_by_hardware(&cluster, "on-gpu"), (0, 40));
    let (on_cpu, on_gpu) = shards_by_hardware(&cluster, "on-any");
    assert_eq!(on_cpu + on_gpu, 24);
    for (job, shards) in [("on-cpu", 12), ("on-gpu", 40), ("on-any", 24)] {
        let verification = fetch_document(&cluster, job, "verification.json");
        assert_eq!(verification["on_other_hardware"], shards, "{job}: {verification:#}");
    }
    let log = fs::read_to_string(cluster.directory.path().join("worker-gpu.log")).unwrap();
    assert!(log.contains("taking shards") && log.contains("\"adapter\":"), "{log}");
}

#[test]
fn gpu_job_continues_on_another_worker_after_a_kill() {
    let Some(mut cluster) = start_mixed_cluster() else { return };
    let envelope = with_field(insurance_envelope("killed", 600), "/policy/target", json!("gpu"));
    cluster.submit(&envelope);
    let is_running = |record: &Value| record["progress"]["shards_done"].as_u64().is_some_and(|done| done > 5);
    cluster.wait_until("killed", "running", is_running);
    cluster.kill("worker-gpu");
    cluster.spawn("worker-gpu-2", &["worker", "--backend", "gpu"]);
    cluster.assert_completes(&envelope);
}
