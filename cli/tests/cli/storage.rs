//! Stores that are unwritable, full, damaged or moved, and runs that share one.

use std::fs;

use crate::common::{CommandOutput, Sandbox, endless_envelope, forge, insurance_envelope, with_value};
use serde_json::json;

#[test]
fn file_in_place_of_the_store_is_a_storage_failure() {
    let sandbox = Sandbox::new();
    fs::write(sandbox.store_path(), "in the way").unwrap();
    sandbox
        .run(&insurance_envelope("x"), &[])
        .expect_code(3)
        .expect_stderr("error: storage_failed: ")
        .expect_stderr(sandbox.store_path().to_str().unwrap())
        .expect_stderr("a file is where a directory should be");
    assert_eq!(fs::read(sandbox.store_path()).unwrap(), b"in the way");
}

#[cfg(unix)]
#[test]
fn unwritable_store_is_reported_before_execution() {
    use std::os::unix::{fs::PermissionsExt, process::CommandExt};

    let sandbox = Sandbox::new();
    fs::create_dir(sandbox.store_path()).unwrap();
    fs::set_permissions(sandbox.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(sandbox.store_path(), fs::Permissions::from_mode(0o555)).unwrap();
    let mut command = forge();
    command.args(["run", "-", "--out"]).arg(sandbox.store_path());
    if fs::write(sandbox.store_path().join("write-test"), "").is_ok() {
        fs::remove_file(sandbox.store_path().join("write-test")).unwrap();
        // Root ignores permissions, so run as the user nobody.
        command.uid(65_534);
    }
    crate::common::run_with_stdin(command, endless_envelope("x").to_string().as_bytes())
        .expect_code(3)
        .expect_stderr("storage_failed")
        .expect_stderr("permission denied");
    assert!(sandbox.files().is_empty());
}

#[cfg(unix)]
#[test]
fn full_disk_leaves_no_partial_objects() {
    let sandbox = Sandbox::new();
    let mut limited = std::process::Command::new("sh");
    // Limit files to 8 blocks; ignoring SIGXFSZ turns the signal into a write error.
    limited.args(["-c", "trap '' XFSZ; ulimit -f 8; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_forge")]);
    limited.args(["run", "-", "--out"]).arg(sandbox.store_path());
    crate::common::run_with_stdin(limited, insurance_envelope("full").to_string().as_bytes())
        .expect_code(3)
        .expect_stderr("error: storage_failed: ")
        .expect_stderr("could not be written: the file is larger than the system allows")
        .expect_stderr("jobs/full/error.json");
    let count = sandbox.files().iter().filter(|file| file.starts_with("artifacts/")).count();
    sandbox.assert_objects_intact(count);
    assert!(!sandbox.manifest_path("full").exists());
    let error = sandbox.error("full");
    assert_eq!((&error["code"], &error["phase"]), (&json!("storage_failed"), &json!("store")));

    // With space again, the same job completes and its failure record is removed.
    sandbox.run(&insurance_envelope("full"), &[]).expect_code(0);
    assert!(!sandbox.store_path().join("jobs/full/error.json").exists());
    sandbox.run_on_job("audit", "full", &[]).expect_code(0);
}

#[test]
fn damaged_object_is_never_reused() {
    let sandbox = Sandbox::new();
    sandbox.run(&insurance_envelope("first"), &[]).expect_code(0);
    let path = sandbox.artifact("first", "result.json");
    let damaged = fs::read_to_string(&path).unwrap().replacen("\"kernel\":1", "\"kernel\":2", 1);
    fs::write(&path, &damaged).unwrap();

    for job in ["first", "second"] {
        sandbox
            .run(&insurance_envelope(job), &[])
            .expect_code(3)
            .expect_stderr("storage_failed")
            .expect_stderr(&format!("{} is corrupted", path.display()));
    }
    assert_eq!(fs::read_to_string(&path).unwrap(), damaged);
    assert!(!sandbox.manifest_path("second").exists());
    assert_eq!(sandbox.error("second")["code"], "storage_failed");
    // The first job had completed, so its failed second run is not recorded.
    assert!(!sandbox.store_path().join("jobs/first/error.json").exists());
}

#[test]
fn manifest_with_another_result_is_a_mismatch() {
    let sandbox = Sandbox::new();
    sandbox.run(&insurance_envelope("x"), &[]).expect_code(0);
    let path = sandbox.manifest_path("x");
    let mut manifest = sandbox.manifest("x");
    manifest["result"] = json!("0".repeat(64));
    fs::write(&path, manifest.to_string()).unwrap();
    sandbox.run(&insurance_envelope("x"), &[]).expect_code(4).expect_stderr("verification_failed");
    assert_eq!(crate::common::read_json(&path), manifest);
}

#[test]
fn failed_job_is_recorded_and_can_be_run_again() {
    let sandbox = Sandbox::new();
    let gpu = with_value(insurance_envelope("gpu"), "/policy/target", json!("gpu"));
    let simd = ["--backend", "simd"];
    sandbox
        .run(&gpu, &simd)
        .expect_code(3)
        .expect_stderr("error: insufficient_agents: policy.target is gpu")
        .expect_stderr("on the CPU");
    assert_eq!(sandbox.files(), ["jobs/gpu/error.json"]);
    let error = sandbox.error("gpu");
    assert_eq!((&error["code"], &error["schema"]), (&json!("insufficient_agents"), &json!("forge.error.v1")));
    // A job that never completed does not occupy its id.
    sandbox.run(&insurance_envelope("gpu"), &[]).expect_code(0);
    assert!(!sandbox.store_path().join("jobs/gpu/error.json").exists());

    let many = with_value(insurance_envelope("many"), "/policy/min_agents", json!(3));
    sandbox
        .run(&many, &["--threads", "2"])
        .expect_code(3)
        .expect_stderr("insufficient_agents")
        .expect_stderr("see --threads");
    sandbox.run(&many, &["--threads", "3"]).expect_code(0);
}

#[test]
fn store_can_be_moved() {
    let sandbox = Sandbox::new();
    sandbox.run(&insurance_envelope("x"), &[]).expect_code(0);
    let moved = sandbox.path().join("somewhere else");
    fs::rename(sandbox.store_path(), &moved).unwrap();
    let output = forge().arg("audit").arg("jobs/x").current_dir(&moved).output().unwrap();
    CommandOutput::new(&output).expect_code(0);
}

#[test]
fn concurrent_runs_of_a_job_store_it_once() {
    let sandbox = Sandbox::new();
    std::thread::scope(|scope| {
        let runs: Vec<_> =
            (0..4).map(|_| scope.spawn(|| sandbox.run(&insurance_envelope("x"), &[]))).collect();
        runs.into_iter().for_each(|run| drop(run.join().unwrap().expect_code(0)));
    });
    assert_eq!(sandbox.files().iter().filter(|file| file.starts_with("jobs/")).count(), 2);
    sandbox.run_on_job("audit", "x", &[]).expect_code(0);
}

#[cfg(unix)]
#[test]
fn killed_run_leaves_no_manifest_without_its_objects() {
    let sandbox = Sandbox::new();
    let file = sandbox.path().join("envelope.json");
    let mut killed = 0;
    for attempt in 0..25 {
        let job = format!("job-{attempt}");
        fs::write(&file, insurance_envelope(&job).to_string()).unwrap();
        let mut command = forge();
        command.arg("run").arg(&file).arg("--out").arg(sandbox.store_path());
        let mut child = command.stdout(std::process::Stdio::null()).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(4 * attempt));
        child.kill().unwrap();
        killed += i32::from(!child.wait().unwrap().success());
        if !sandbox.manifest_path(&job).exists() {
            sandbox.run(&insurance_envelope(&job), &[]).expect_code(0);
        }
        sandbox.run_on_job("audit", &job, &[]).expect_code(0);
    }
    assert!(killed > 3, "too few runs were killed before they ended");
    // Files that a killed run left incomplete have temporary names with a #.
    for file in sandbox.files().iter().filter(|file| file.starts_with("artifacts/") && !file.contains('#')) {
        let hash =
            forge_contract::digest::Digest::hash_parts(
                &[&fs::read(sandbox.store_path().join(file)).unwrap()],
            );
        assert!(file.contains(&hash.to_hex()), "{file}");
    }
}
