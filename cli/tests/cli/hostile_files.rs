//! Stores whose files are not what they seem: sparse giants, pipes, directories and links; and an
//! envelope that asks for years of work. No command hangs, and none reads what it must not.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader},
    os::unix::fs::symlink,
    path::Path,
    process::{Command, Stdio},
};

use forge_contract::agent::Identity;
use forge_documents::Job;
use forge_kernel::request::Request;
use serde_json::json;

use crate::{
    common::{CommandOutput, Sandbox, forge, insurance_envelope, with_value},
    forgery::{JOB, audit, completed_job, edit_manifest, replace_artifact, sign_manifest},
};

const SPARSE_BYTES: u64 = 8 << 30;

/// Puts something else in place of a file.
type FileChange = fn(&Path);

fn make_sparse(path: &Path) {
    let _ = fs::remove_file(path);
    File::create(path).unwrap().set_len(SPARSE_BYTES).unwrap();
}

fn make_pipe(path: &Path) {
    fs::remove_file(path).unwrap();
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

fn make_link(path: &Path) {
    let moved = path.with_extension("moved");
    fs::rename(path, &moved).unwrap();
    symlink(moved, path).unwrap();
}

fn make_directory(path: &Path) {
    fs::remove_file(path).unwrap();
    fs::create_dir(path).unwrap();
}

/// The commands that read a stored job refuse it.
#[track_caller]
fn assert_refused(sandbox: &Sandbox, text: &str) {
    sandbox.run_on_job("audit", JOB, &[]).expect_code(4).expect_stderr(text);
    sandbox.run_on_job("replay", JOB, &[]).expect_code(4).expect_stderr(text);
    let store = sandbox.store_path();
    let out = sandbox.path().join("fetched");
    let fetched =
        forge().args(["artifacts", "get", JOB, "--store"]).arg(&store).arg("--out").arg(&out).output();
    CommandOutput::new(&fetched.unwrap()).expect_code(4).expect_stderr(text);
}

#[test]
fn irregular_files_are_refused_without_being_opened() {
    let changes: [(FileChange, &str); 4] = [
        (make_pipe, "a named pipe is in its place"),
        (make_directory, "a directory is in its place"),
        (make_link, "a symbolic link is in its place"),
        (
            |path| {
                symlink("/dev/zero", {
                    let _ = fs::remove_file(path);
                    path
                })
                .unwrap()
            },
            "a symbolic link is in its place",
        ),
    ];
    for (change, text) in changes {
        for name in ["manifest.json", "envelope.json", "shards.bin"] {
            let sandbox = completed_job(&[]);
            match name {
                "manifest.json" => change(&sandbox.manifest_path(JOB)),
                _ => change(&sandbox.artifact(JOB, name)),
            }
            match name {
                "shards.bin" => audit(&sandbox, 4, &["--full"]).expect_failed(name, text),
                _ => assert_refused(&sandbox, text),
            }
        }
    }
    let sandbox = completed_job(&[]);
    make_pipe(&sandbox.store_path().join("jobs/x/index.html"));
    audit(&sandbox, 4, &[]).expect_failed("index.html content", "a named pipe is in its place");
}

#[test]
fn linked_directories_are_refused_and_a_linked_root_is_not() {
    let sandbox = completed_job(&[]);
    let linked = sandbox.path().join("linked");
    symlink(sandbox.store_path(), &linked).unwrap();
    let manifest = linked.join("jobs/x/manifest.json");
    let output = forge().arg("audit").arg(&manifest).output().unwrap();
    CommandOutput::new(&output).expect_code(0);
    for directory in ["jobs/x", "jobs", "artifacts", "artifacts/sha256"] {
        let sandbox = completed_job(&[]);
        make_link(&sandbox.store_path().join(directory));
        assert_refused(&sandbox, "a symbolic link is in its place");
    }
    let sandbox = completed_job(&[]);
    make_link(&sandbox.store_path().join("jobs/x"));
    let output = forge().arg("audit").arg(sandbox.store_path().join("jobs/x")).output().unwrap();
    CommandOutput::new(&output).expect_code(4).expect_stderr("a symbolic link is in its place");
}

#[test]
fn sparse_giants_are_refused_by_their_size() {
    let sandbox = completed_job(&[]);
    make_sparse(&sandbox.manifest_path(JOB));
    assert_refused(&sandbox, "it has 8589934592 bytes, and at most 1048576 are read");
    for name in ["envelope.json", "shards.bin", "report.html", "executions.json"] {
        // With the size that the manifest states for the intact artifact, and with its own.
        let sandbox = completed_job(&[]);
        make_sparse(&sandbox.artifact(JOB, name));
        audit(&sandbox, 4, &[]).expect_failed(name, "it has 8589934592 bytes instead of");
        edit_manifest(&sandbox, |manifest| {
            let artifacts = manifest["artifacts"].as_array_mut().unwrap();
            let artifact = artifacts.iter_mut().find(|artifact| artifact["name"] == name).unwrap();
            artifact["size"] = json!(SPARSE_BYTES);
        });
        sign_manifest(&sandbox, &Identity::from_random([66; 32]));
        audit(&sandbox, 4, &[]).expect_failed(name, "the manifest states 8589934592 bytes for");
    }
}

#[test]
fn amount_of_work_is_stated_before_it_starts() {
    let sandbox = completed_job(&[]);
    let envelope = with_value(insurance_envelope(JOB), "/args/iterations", json!(1_u64 << 48));
    let job = Job::new(Request::from_json(envelope.to_string().as_bytes()).unwrap());
    let bytes = forge_documents::canonical_json(&job.request.envelope);
    replace_artifact(&sandbox, "envelope.json", &bytes);
    edit_manifest(&sandbox, |manifest| {
        manifest["replay_key"] = json!(job.request.replay_key);
        manifest["request"] = json!(job.envelope_digest);
        manifest["shards"] = json!(job.request.plan.shard_count());
    });
    sign_manifest(&sandbox, &Identity::from_random([66; 32]));
    let mut command = forge();
    command.arg("audit").arg(sandbox.manifest_path(JOB)).arg("--full");
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stderr.take().unwrap()).read_line(&mut line).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(line.contains("executing 1,048,576 shards again: 281,474,976,710,656 years on scalar"), "{line}");
    assert!(line.contains(" days"), "{line}");
}

#[test]
fn documents_of_any_shape_are_small_and_quoted_in_part() {
    // 16 MiB of objects would need over a gigabyte in memory.
    let objects = |bytes: usize| format!("[{}{{\"\":0}}]", "{\"\":0},".repeat(bytes / 7)).into_bytes();
    let forged = |bytes: usize| {
        let sandbox = completed_job(&[]);
        let hash = replace_artifact(&sandbox, "result.json", &objects(bytes));
        edit_manifest(&sandbox, |manifest| manifest["result"] = json!(hash));
        sign_manifest(&sandbox, &Identity::from_random([66; 32]));
        sandbox
    };
    let text = "bytes for result.json, and it can have at most 2097152";
    audit(&forged(16 << 20), 4, &[]).expect_failed("result.json", text);
    let sandbox = forged(1 << 20);
    let output = sandbox.run_on_job("audit", JOB, &[]).expect_code(4);
    assert!(output.stdout.len() + output.stderr.len() < 20_000, "{}", output.stdout.len());
    assert!(output.stdout.contains(" more bytes)"), "{}", output.stdout);
}

#[test]
fn records_that_do_not_fit_in_memory_are_not_read() {
    // An envelope of 2^48 iterations justifies a record of gigabytes.
    let sandbox = completed_job(&[]);
    let envelope = with_value(insurance_envelope(JOB), "/args/iterations", json!(1_u64 << 48));
    let job = Job::new(Request::from_json(envelope.to_string().as_bytes()).unwrap());
    replace_artifact(&sandbox, "envelope.json", &forge_documents::canonical_json(&job.request.envelope));
    for name in ["executions.json", "verification.json"] {
        make_sparse(&sandbox.artifact(JOB, name));
    }
    edit_manifest(&sandbox, |manifest| {
        manifest["replay_key"] = json!(job.request.replay_key);
        manifest["request"] = json!(job.envelope_digest);
        manifest["shards"] = json!(job.request.plan.shard_count());
        for artifact in manifest["artifacts"].as_array_mut().unwrap() {
            if ["executions.json", "verification.json"].contains(&artifact["name"].as_str().unwrap()) {
                artifact["size"] = json!(1_u64 << 30);
            }
        }
    });
    sign_manifest(&sandbox, &Identity::from_random([66; 32]));
    let audit = audit(&sandbox, 4, &[]);
    for name in ["executions.json", "verification.json"] {
        let (status, detail) = audit.check(name);
        assert!(status == "not_compared" && detail.contains("are read into memory"), "{status} {detail}");
    }
}

#[test]
fn files_beside_those_of_the_job_are_named() {
    let sandbox = completed_job(&[]);
    assert!(!audit(&sandbox, 0, &[]).not_compared().contains(&"other files"));
    fs::write(sandbox.store_path().join("jobs/x/report\u{1b}[2J\n.html"), "<script>alert(1)</script>")
        .unwrap();
    fs::write(sandbox.artifact(JOB, "result.json").with_file_name("report.html"), "2").unwrap();
    let named = audit(&sandbox, 0, &[]);
    let (status, detail) = named.check("other files");
    assert_eq!(status, "not_compared");
    assert!(detail.starts_with("2 that the manifest does not name lie beside"), "{detail}");
    assert!(detail.contains("/report.html, jobs/x/report\\u{1b}[2J\\u{a}.html"), "{detail}");
    for number in 0..2000 {
        fs::write(sandbox.store_path().join(format!("jobs/x/{number}")), "").unwrap();
    }
    assert!(audit(&sandbox, 0, &[]).check("other files").1.starts_with("1000 or more"));
}
