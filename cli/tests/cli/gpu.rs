//! Proves that a GPU gives the same result hash as the CPU, that the record says what executed, and that a GPU which is not
//! there or not wanted is refused with a reason.

use std::sync::OnceLock;

use serde_json::{Value, json};

use crate::common::{Ended, Place, forge, insurance, keeping_all, read_json, with};

/// What `forge devices` lists.
fn devices() -> &'static [Value] {
    static DEVICES: OnceLock<Vec<Value>> = OnceLock::new();
    DEVICES.get_or_init(|| {
        let output = forge().args(["devices", "--format", "json"]).output().unwrap();
        let listed: Value = serde_json::from_str(&Ended::new(&output).expect(0).stdout).unwrap();
        assert_eq!(listed["schema"], "forge.devices.v1");
        listed["devices"].as_array().unwrap().clone()
    })
}

/// Whether there is a GPU to test with.
fn is_there() -> bool {
    forge_harness::gpu::is_there(devices().iter().any(|device| device["target"] == "gpu"))
}

#[test]
fn devices_are_listed_with_the_outcome_of_their_test() {
    let names: Vec<_> = devices().iter().map(|device| device["backend"].as_str().unwrap()).collect();
    assert!(names.contains(&"scalar") && names.contains(&"simd-portable"), "{names:?}");
    for device in devices() {
        assert_eq!((&device["usable"], &device["reason"]), (&json!(true), &Value::Null), "{device}");
        assert_eq!(device["adapter"].is_string(), device["target"] == "gpu", "{device}");
        assert!(device["iterations_per_second"].as_f64().unwrap() > 0.0, "{device}");
    }
    let text = Ended::new(&forge().arg("devices").output().unwrap()).expect(0);
    assert!(names.iter().all(|name| text.stdout.contains(name)), "{}", text.stdout);
    assert_eq!(text.stderr, "");
    assert_eq!(text.stdout.contains("No GPU: "), !names.contains(&"gpu-0"), "{}", text.stdout);
}

#[test]
fn a_gpu_gives_the_same_result_and_is_verified_on_the_cpu() {
    if !is_there() {
        return;
    }
    let place = Place::new();
    let result = |options: &[&str]| place.run(&insurance("x"), options).expect(0).stdout;
    let cpu = result(&["--backend", "scalar", "--format", "json"]);
    assert_eq!(result(&["--backend", "gpu", "--format", "json"]), cpu);
    assert_eq!(result(&["--backend", "gpu-0", "--format", "json"]), cpu);

    let asked = with(keeping_all(insurance("gpu")), "/policy", json!({"target": "gpu", "verify": "full"}));
    place.run(&asked, &[]).expect(0);
    let adapters: Vec<_> = devices().iter().map(|device| &device["adapter"]).collect();
    let executions = read_json(&place.artifact("gpu", "executions.json"));
    let executions = executions["executions"].as_array().unwrap();
    assert!(!executions.is_empty());
    for execution in executions {
        assert!(execution["backend"].as_str().unwrap().starts_with("gpu-"), "{execution}");
        assert!(adapters.contains(&&execution["adapter"]), "{execution}");
    }
    let verification = read_json(&place.artifact("gpu", "verification.json"));
    assert_eq!(verification["on_other_hardware"], executions.len(), "{verification:#}");
    assert_eq!(verification["pairs"][0]["verifier_hardware"], "cpu", "{verification:#}");
    place.on_manifest("replay", "gpu", &["--backend", "gpu"]).expect(0);
    place.on_manifest("audit", "gpu", &["--reexecute", "2"]).expect(0);
}

#[test]
fn a_gpu_that_is_not_there_or_not_wanted_is_refused() {
    let place = Place::new();
    place.run(&insurance("x"), &["--backend", "gpu-99"]).expect(2).says("--backend gpu-99: ");
    place.run(&insurance("x"), &["--backend", "gpu-x"]).expect(2).says("there is no backend \"gpu-x\"");
    let no_driver = |arguments: &[&str]| {
        let mut command = forge();
        command.env("VK_DRIVER_FILES", "/dev/null").env("VK_ICD_FILENAMES", "/dev/null").args(arguments);
        Ended::new(&command.output().unwrap())
    };
    let devices = no_driver(&["devices"]).expect(0);
    assert!(devices.stdout.contains("No GPU: no Vulkan driver reports a GPU"), "{}", devices.stdout);
    let worker = ["worker", "--backend", "gpu", "--nats-url", "nats://127.0.0.1:1"];
    no_driver(&worker).expect(2).says("--backend gpu: no Vulkan driver reports a GPU");
    if !is_there() {
        return;
    }
    let cpu = with(insurance("cpu"), "/policy/target", json!("cpu"));
    place.run(&cpu, &["--backend", "gpu"]).expect(3).says("policy.target is cpu, and gpu-0 is a GPU");
}
