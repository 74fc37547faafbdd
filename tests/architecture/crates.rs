//! Edges between the crates of the workspace, and libraries that one crate keeps to itself.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::source::{packages, target_kinds};

/// Every workspace member and the members it may use outside its tests, apart from `forge` itself,
/// which only `forge-python` uses.
const EDGES: [(&str, &[&str]); 20] = [
    ("forge-contract", &[]),
    ("forge-kernel", &["forge-contract"]),
    ("forge-documents", &["forge-contract", "forge-kernel"]),
    ("forge-gpu", &["forge-contract", "forge-kernel"]),
    ("forge-bus", &["forge-contract"]),
    ("forge-store", &["forge-contract"]),
    ("forge-ord", &[]),
    ("forge-workbook", &["forge-documents", "forge-kernel"]),
    ("forge-service", &["forge-bus", "forge-contract", "forge-kernel"]),
    ("forge-planner", &["forge-bus", "forge-contract", "forge-documents", "forge-kernel", "forge-service"]),
    ("forge-worker", &["forge-bus", "forge-contract", "forge-kernel", "forge-service"]),
    ("forge-verifier", &["forge-bus", "forge-contract", "forge-kernel", "forge-service"]),
    (
        "forge-aggregator",
        &["forge-bus", "forge-contract", "forge-documents", "forge-kernel", "forge-service", "forge-store"],
    ),
    ("forge-console", &["forge-bus", "forge-contract", "forge-documents", "forge-service", "forge-store"]),
    (
        "forge",
        &[
            "forge-aggregator",
            "forge-bus",
            "forge-console",
            "forge-contract",
            "forge-documents",
            "forge-gpu",
            "forge-kernel",
            "forge-ord",
            "forge-planner",
            "forge-service",
            "forge-store",
            "forge-verifier",
            "forge-workbook",
            "forge-worker",
        ],
    ),
    ("forge-python", &["forge-contract", "forge-service", "forge-store"]),
    ("forge-harness", &[]),
    ("forge-cluster-tests", &[]),
    ("forge-architecture-tests", &[]),
    ("forge-simulation", &[]),
];

/// Libraries and the crates that may use them directly.
const RESERVED: [(&str, &[&str]); 14] = [
    ("async-nats", &["forge-bus"]),
    ("object_store", &["forge-store"]),
    ("aws-sdk-s3", &["forge-store"]),
    ("aws-smithy-http-client", &["forge-store"]),
    ("rand_chacha", &["forge-kernel"]),
    ("wgpu", &["forge-gpu"]),
    ("arrow-array", &["forge-ord"]),
    ("parquet", &["forge-ord"]),
    ("rust_xlsxwriter", &["forge-workbook"]),
    ("prometheus-client", &["forge-service"]),
    ("clap", &["forge", "forge-service"]),
    ("hyper", &["forge-console", "forge-service"]),
    ("pyo3", &["forge-python"]),
    ("forge", &["forge-python"]),
];

/// The direct dependencies of a package, those of tests and build scripts excluded.
fn dependencies(package: &Value) -> BTreeSet<String> {
    let dependencies = package["dependencies"].as_array().unwrap().iter();
    let normal = dependencies.filter(|dependency| dependency["kind"].is_null());
    normal.map(|dependency| dependency["name"].as_str().unwrap().to_owned()).collect()
}

fn name(package: &Value) -> &str {
    package["name"].as_str().unwrap()
}

#[test]
fn every_member_has_its_edges_listed() {
    let packages = packages();
    let members: BTreeSet<_> = packages.iter().map(name).collect();
    let listed: BTreeSet<_> = EDGES.iter().map(|(member, _)| *member).collect();
    assert_eq!(members, listed, "EDGES and the workspace members differ");
}

#[test]
fn members_use_only_the_members_they_may() {
    let packages = packages();
    for (member, allowed) in EDGES {
        let package = packages.iter().find(|package| name(package) == member);
        let used = package.into_iter().flat_map(dependencies).filter(|used| used.starts_with("forge-"));
        let forbidden: Vec<_> = used.filter(|used| !allowed.contains(&used.as_str())).collect();
        assert!(forbidden.is_empty(), "{member} must not use {forbidden:?}");
    }
}

#[test]
fn reserved_libraries_are_used_by_their_crates_only() {
    let packages = packages();
    for (library, allowed) in RESERVED {
        let users = packages.iter().filter(|package| dependencies(package).contains(library));
        let users: Vec<_> = users.map(name).collect();
        assert!(!users.is_empty(), "no crate uses {library}: remove it from RESERVED");
        assert!(users.iter().all(|user| allowed.contains(user)), "{library} is used by {users:?}");
    }
}

#[test]
fn forge_is_the_only_binary() {
    let is_binary = |target: &Value| target_kinds(target).contains(&"bin");
    let packages = packages();
    let targets = packages.iter().flat_map(|package| package["targets"].as_array().unwrap());
    let binaries: Vec<_> = targets.filter(|target| is_binary(target)).map(|target| &target["name"]).collect();
    assert_eq!(binaries, ["forge"], "with a second binary `cargo run` would need --bin");
}
