//! Workers on a CPU and on a GPU side by side: shards go to the hardware that a policy asks for, and are verified on the other.

use std::fs;

use serde_json::{Value, json};

use crate::{
    mix::eta,
    support::{Cluster, Place, insurance, with},
};

/// Services, and a worker of each kind; None where there is no GPU.
fn mixed() -> Option<Cluster> {
    let mut cluster = Cluster::empty(Place::Directory);
    let devices = cluster.run(&["devices", "--format", "json"]).stdout;
    let devices: Value = serde_json::from_slice(&devices).unwrap();
    let is_gpu = |device: &Value| device["target"] == "gpu";
    if !forge_harness::gpu::is_there(devices["devices"].as_array().unwrap().iter().any(is_gpu)) {
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

fn document(cluster: &Cluster, job: &str, name: &str) -> Value {
    let output = cluster.run(&["artifacts", "get", job, name]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// How many shards of a job were executed on a CPU, and how many on a GPU.
fn executed(cluster: &Cluster, job: &str) -> (usize, usize) {
    let executions = document(cluster, job, "executions.json");
    let executions = executions["executions"].as_array().unwrap();
    let on_gpu = executions.iter().filter(|execution| execution["adapter"].is_string()).count();
    (executions.len() - on_gpu, on_gpu)
}

#[test]
fn shards_go_to_the_hardware_that_is_asked_for_and_are_verified_on_the_other() {
    let Some(cluster) = mixed() else { return };
    let job = |name: &str, target: &str, envelope: Value| {
        let envelope = with(envelope, "/ctx/job_id", json!(name));
        let envelope = with(envelope, "/policy", json!({"target": target, "verify": "full"}));
        with(envelope, "/artifacts/include", json!(["result_json", "executions_json", "verification_json"]))
    };
    let jobs = [
        job("on-cpu", "cpu", insurance("", 12)),
        job("on-gpu", "gpu", insurance("", 40)),
        job("on-any", "any", eta("", 24)),
    ];
    for envelope in &jobs {
        cluster.submit(envelope);
    }
    for envelope in &jobs {
        cluster.completes(envelope);
    }
    assert_eq!(executed(&cluster, "on-cpu"), (12, 0));
    assert_eq!(executed(&cluster, "on-gpu"), (0, 40));
    let (on_cpu, on_gpu) = executed(&cluster, "on-any");
    assert_eq!(on_cpu + on_gpu, 24);
    for (job, shards) in [("on-cpu", 12), ("on-gpu", 40), ("on-any", 24)] {
        let verification = document(&cluster, job, "verification.json");
        assert_eq!(verification["on_other_hardware"], shards, "{job}: {verification:#}");
    }
    let log = fs::read_to_string(cluster.directory.path().join("worker-gpu.log")).unwrap();
    assert!(log.contains("taking shards") && log.contains("\"adapter\":"), "{log}");
}

#[test]
fn a_job_for_a_gpu_goes_on_with_another_when_its_worker_is_killed() {
    let Some(mut cluster) = mixed() else { return };
    let envelope = with(insurance("killed", 600), "/policy/target", json!("gpu"));
    cluster.submit(&envelope);
    let under_way = |record: &Value| record["progress"]["shards_done"].as_u64().is_some_and(|done| done > 5);
    cluster.wait_until("killed", "under way", under_way);
    cluster.kill("worker-gpu");
    cluster.spawn("worker-gpu-2", &["worker", "--backend", "gpu"]);
    cluster.completes(&envelope);
}

#[test]
fn a_worker_without_a_gpu_says_why_and_takes_what_is_for_the_cpu() {
    let mut cluster = Cluster::empty(Place::Directory);
    cluster.environment.push(("VK_DRIVER_FILES".to_owned(), "/dev/null".to_owned()));
    cluster.environment.push(("VK_ICD_FILENAMES".to_owned(), "/dev/null".to_owned()));
    for service in ["planner", "aggregator", "verifier", "worker"] {
        cluster.spawn(service, &[service]);
    }
    let waiting = with(insurance("waiting", 2), "/policy", json!({"target": "gpu", "timeout_ms": 4000}));
    let cpu = with(insurance("cpu", 2), "/policy/target", json!("cpu"));
    cluster.submit(&waiting);
    cluster.submit(&cpu);
    cluster.completes(&cpu);
    let record = cluster.wait("waiting");
    assert_eq!(
        (&record["error"]["code"], &record["progress"]["shards_done"]),
        (&json!("timeout"), &json!(0))
    );
    let log = fs::read_to_string(cluster.directory.path().join("worker.log")).unwrap();
    assert!(log.contains("no Vulkan driver reports a GPU"), "{log}");
}
