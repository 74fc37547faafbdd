//! The edges between crates are those of ARCHITECTURE.md, and the libraries that only one crate may know are known to one.

use std::{collections::BTreeSet, env, process::Command};

use serde_json::Value;

/// Crates and what of ours each may use.
const EDGES: [(&str, &[&str]); 12] = [
    ("forge-contract", &[]),
    ("forge-kernel", &["forge-contract"]),
    ("forge-documents", &["forge-contract", "forge-kernel"]),
    ("forge-gpu", &["forge-contract", "forge-kernel"]),
    ("forge-bus", &["forge-contract"]),
    ("forge-store", &["forge-contract"]),
    ("forge-service", &["forge-bus", "forge-contract", "forge-kernel"]),
    ("forge-planner", &["forge-bus", "forge-contract", "forge-documents", "forge-kernel", "forge-service"]),
    ("forge-worker", &["forge-bus", "forge-contract", "forge-kernel", "forge-service"]),
    ("forge-verifier", &["forge-bus", "forge-contract", "forge-kernel", "forge-service"]),
    (
        "forge-aggregator",
        &["forge-bus", "forge-contract", "forge-documents", "forge-kernel", "forge-service", "forge-store"],
    ),
    ("forge-harness", &[]),
];

/// Libraries and the crates that may use them directly.
const RESERVED: [(&str, &[&str]); 8] = [
    ("async-nats", &["forge-bus"]),
    ("object_store", &["forge-store"]),
    ("aws-sdk-s3", &["forge-store"]),
    ("aws-smithy-http-client", &["forge-store"]),
    ("rand_chacha", &["forge-kernel"]),
    ("wgpu", &["forge-gpu"]),
    ("prometheus-client", &["forge-service"]),
    ("clap", &["forge", "forge-service"]),
];

fn packages() -> Vec<Value> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--no-deps", "--format-version", "1", "--locked"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    metadata["packages"].as_array().unwrap().clone()
}

/// What a package depends on, tests and builds aside.
fn dependencies(package: &Value) -> BTreeSet<String> {
    let dependencies = package["dependencies"].as_array().unwrap().iter();
    let normal = dependencies.filter(|dependency| dependency["kind"].is_null());
    normal.map(|dependency| dependency["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn crates_use_only_what_they_may() {
    let packages = packages();
    for (name, allowed) in EDGES {
        let package = packages.iter().find(|package| package["name"] == name);
        let package = package.unwrap_or_else(|| panic!("there is no crate {name}"));
        let ours = dependencies(package).into_iter().filter(|dependency| dependency.starts_with("forge-"));
        let forbidden: Vec<_> = ours.filter(|dependency| !allowed.contains(&dependency.as_str())).collect();
        assert!(forbidden.is_empty(), "{name} must not use {forbidden:?}");
    }
}

#[test]
fn some_libraries_are_known_to_one_crate() {
    let packages = packages();
    for (library, allowed) in RESERVED {
        let users = packages.iter().filter(|package| dependencies(package).contains(library));
        let users: Vec<_> = users.map(|package| package["name"].as_str().unwrap()).collect();
        assert!(!users.is_empty() && users.iter().all(|user| allowed.contains(user)), "{library}: {users:?}");
    }
}

#[test]
fn cargo_run_is_the_command() {
    let kinds = |target: &Value| target["kind"].as_array().is_some_and(|kinds| kinds.contains(&"bin".into()));
    let targets = packages().into_iter().flat_map(|package| package["targets"].as_array().unwrap().clone());
    let binaries: Vec<_> = targets.filter(kinds).map(|target| target["name"].clone()).collect();
    assert_eq!(binaries, ["forge"], "a second binary leaves `cargo run` in doubt");
}
