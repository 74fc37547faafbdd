//! A GPU gives the same result hash as the CPU, the execution record names it, and a GPU that is
//! missing or excluded by the policy is rejected with a reason. The tests named `gpu_…` need a GPU
//! adapter; `.config/nextest.toml` skips them on machines without one.

use std::sync::OnceLock;

use serde_json::{Value, json};

use crate::common::{
    CommandOutput, Sandbox, forge, insurance_envelope, read_json, with_all_artifacts, with_value,
};

/// The backends that `forge devices` lists.
fn devices() -> &'static [Value] {
    static DEVICES: OnceLock<Vec<Value>> = OnceLock::new();
    DEVICES.get_or_init(|| {
        let output = forge().args(["devices", "--format", "json"]).output().unwrap();
        let listed: Value = serde_json::from_str(&CommandOutput::new(&output).expect_code(0).stdout).unwrap();
        assert_eq!(listed["schema"], "forge.devices.v1");
        listed["devices"].as_array().unwrap().clone()
    })
}

/// Whether this machine has a GPU to test with.
fn gpu_is_present() -> bool {
    forge_harness::gpu::require_adapter(devices().iter().any(|device| device["target"] == "gpu"))
}

#[test]
fn devices_lists_backends_with_self_test_and_rate() {
    let names: Vec<_> = devices().iter().map(|device| device["backend"].as_str().unwrap()).collect();
    assert!(names.contains(&"scalar") && names.contains(&"simd-portable"), "{names:?}");
    for device in devices() {
        assert_eq!((&device["usable"], &device["reason"]), (&json!(true), &Value::Null), "{device}");
        assert_eq!(device["adapter"].is_string(), device["target"] == "gpu", "{device}");
        assert!(device["iterations_per_second"].as_f64().unwrap() > 0.0, "{device}");
    }
    let text = CommandOutput::new(&forge().arg("devices").output().unwrap()).expect_code(0);
    assert!(names.iter().all(|name| text.stdout.contains(name)), "{}", text.stdout);
    assert_eq!(text.stderr, "");
    assert_eq!(text.stdout.contains("No GPU: "), !names.contains(&"gpu-0"), "{}", text.stdout);
}

#[test]
fn gpu_gives_the_same_result_and_is_verified_on_the_cpu() {
    if !gpu_is_present() {
        return;
    }
    let sandbox = Sandbox::new();
    let result = |options: &[&str]| sandbox.run(&insurance_envelope("x"), options).expect_code(0).stdout;
    let cpu = result(&["--backend", "scalar", "--format", "json"]);
    assert_eq!(result(&["--backend", "gpu", "--format", "json"]), cpu);
    assert_eq!(result(&["--backend", "gpu-0", "--format", "json"]), cpu);

    let envelope = with_value(
        with_all_artifacts(insurance_envelope("gpu")),
        "/policy",
        json!({"target": "gpu", "verify": "full"}),
    );
    sandbox.run(&envelope, &[]).expect_code(0);
    let adapters: Vec<_> = devices().iter().map(|device| &device["adapter"]).collect();
    let executions = read_json(&sandbox.artifact("gpu", "executions.json"));
    let executions = executions["executions"].as_array().unwrap();
    assert!(!executions.is_empty());
    for execution in executions {
        assert!(execution["backend"].as_str().unwrap().starts_with("gpu-"), "{execution}");
        assert!(adapters.contains(&&execution["adapter"]), "{execution}");
    }
    let verification = read_json(&sandbox.artifact("gpu", "verification.json"));
    assert_eq!(verification["on_other_hardware"], executions.len(), "{verification:#}");
    assert_eq!(verification["pairs"][0]["verifier_hardware"], "cpu", "{verification:#}");
    sandbox.run_on_job("replay", "gpu", &["--backend", "gpu"]).expect_code(0);
    sandbox.run_on_job("audit", "gpu", &["--reexecute", "2"]).expect_code(0);
}

#[test]
fn missing_gpu_is_rejected_with_a_reason() {
    let sandbox = Sandbox::new();
    sandbox
        .run(&insurance_envelope("x"), &["--backend", "gpu-99"])
        .expect_code(2)
        .expect_stderr("--backend gpu-99: ");
    sandbox
        .run(&insurance_envelope("x"), &["--backend", "gpu-x"])
        .expect_code(2)
        .expect_stderr("unknown backend \"gpu-x\"");
    let no_driver = |arguments: &[&str]| {
        let mut command = forge();
        command.env("VK_DRIVER_FILES", "/dev/null").env("VK_ICD_FILENAMES", "/dev/null").args(arguments);
        CommandOutput::new(&command.output().unwrap())
    };
    let devices = no_driver(&["devices"]).expect_code(0);
    assert!(devices.stdout.contains("No GPU: no Vulkan driver reports a GPU"), "{}", devices.stdout);
    let worker = ["worker", "--backend", "gpu", "--nats-url", "nats://127.0.0.1:1"];
    no_driver(&worker).expect_code(2).expect_stderr("--backend gpu: no Vulkan driver reports a GPU");
}

#[test]
fn gpu_rejects_a_job_whose_policy_excludes_it() {
    if !gpu_is_present() {
        return;
    }
    let sandbox = Sandbox::new();
    let cpu = with_value(insurance_envelope("cpu"), "/policy/target", json!("cpu"));
    sandbox
        .run(&cpu, &["--backend", "gpu"])
        .expect_code(3)
        .expect_stderr("policy.target is cpu, but gpu-0 is a GPU");
}
