//! A store that cannot be written, is full, or has been damaged.

use std::fs;

use crate::common::{Ended, Place, endless, forge, insurance, with};
use serde_json::json;

#[test]
fn a_file_where_the_directory_should_be() {
    let place = Place::new();
    fs::write(place.out(), "in the way").unwrap();
    place
        .run(&insurance("x"), &[])
        .expect(3)
        .says("error: storage_failed: ")
        .says(place.out().to_str().unwrap())
        .says("a file is where a directory should be");
    assert_eq!(fs::read(place.out()).unwrap(), b"in the way");
}

#[cfg(unix)]
#[test]
fn a_directory_without_permission_is_found_before_anything_is_computed() {
    use std::os::unix::{fs::PermissionsExt, process::CommandExt};

    let place = Place::new();
    fs::create_dir(place.out()).unwrap();
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(place.out(), fs::Permissions::from_mode(0o555)).unwrap();
    let mut command = forge();
    command.args(["run", "-", "--out"]).arg(place.out());
    if fs::write(place.out().join("root-may"), "").is_ok() {
        fs::remove_file(place.out().join("root-may")).unwrap();
        // As nobody, whom permissions apply to.
        command.uid(65_534);
    }
    crate::common::feed(command, endless("x").to_string().as_bytes())
        .expect(3)
        .says("storage_failed")
        .says("permission denied");
    assert!(place.files().is_empty());
}

#[cfg(unix)]
#[test]
fn a_full_disk_leaves_nothing_half_written() {
    let place = Place::new();
    let mut limited = std::process::Command::new("sh");
    // Files of at most 8 blocks, and an error in place of a signal beyond that.
    limited.args(["-c", "trap '' XFSZ; ulimit -f 8; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_forge")]);
    limited.args(["run", "-", "--keep-shards", "--out"]).arg(place.out());
    crate::common::feed(limited, insurance("full").to_string().as_bytes())
        .expect(3)
        .says("error: storage_failed: ")
        .says("could not be written: the file is larger than the system allows")
        .says("jobs/full/error.json");
    let whole = place.files().iter().filter(|file| file.starts_with("artifacts/")).count();
    place.objects_are_whole(whole);
    assert!(!place.manifest_path("full").exists());
    let error = place.error("full");
    assert_eq!((&error["code"], &error["phase"]), (&json!("storage_failed"), &json!("store")));

    // With room again, the same job completes, and is no longer on record as failed.
    place.run(&insurance("full"), &["--keep-shards"]).expect(0);
    assert!(!place.out().join("jobs/full/error.json").exists());
    place.on_manifest("audit", "full", &[]).expect(0);
}

#[test]
fn a_damaged_object_is_never_taken_for_the_right_one() {
    let place = Place::new();
    place.run(&insurance("first"), &[]).expect(0);
    let path = place.artifact("first", "result.json");
    let damaged = fs::read_to_string(&path).unwrap().replacen("\"kernel\":1", "\"kernel\":2", 1);
    fs::write(&path, &damaged).unwrap();

    for job in ["first", "second"] {
        place
            .run(&insurance(job), &[])
            .expect(3)
            .says("storage_failed")
            .says(&format!("{} is corrupted", path.display()));
    }
    assert_eq!(fs::read_to_string(&path).unwrap(), damaged);
    assert!(!place.manifest_path("second").exists());
    assert_eq!(place.error("second")["code"], "storage_failed");
    // The first job has completed once; its record stays.
    assert!(!place.out().join("jobs/first/error.json").exists());
}

#[test]
fn a_manifest_with_another_result_is_a_mismatch() {
    let place = Place::new();
    place.run(&insurance("x"), &[]).expect(0);
    let path = place.manifest_path("x");
    let mut manifest = place.manifest("x");
    manifest["result"] = json!("0".repeat(64));
    fs::write(&path, manifest.to_string()).unwrap();
    place.run(&insurance("x"), &[]).expect(4).says("verification_failed");
    assert_eq!(crate::common::read_json(&path), manifest);
}

#[test]
fn a_failed_job_is_recorded_once_and_can_be_run_again() {
    let place = Place::new();
    let gpu = with(insurance("gpu"), "/policy/target", json!("gpu"));
    let simd = ["--backend", "simd"];
    place
        .run(&gpu, &simd)
        .expect(3)
        .says("error: insufficient_agents: policy.target is gpu")
        .says("on the CPU");
    assert_eq!(place.files(), ["jobs/gpu/error.json"]);
    let error = place.error("gpu");
    assert_eq!((&error["code"], &error["schema"]), (&json!("insufficient_agents"), &json!("forge.error.v1")));
    // The id is not taken by a job that never completed.
    place.run(&insurance("gpu"), &[]).expect(0);
    assert!(!place.out().join("jobs/gpu/error.json").exists());

    let many = with(insurance("many"), "/policy/min_agents", json!(3));
    place.run(&many, &["--threads", "2"]).expect(3).says("insufficient_agents").says("see --threads");
    place.run(&many, &["--threads", "3"]).expect(0);
}

#[test]
fn the_store_can_be_moved() {
    let place = Place::new();
    place.run(&insurance("x"), &[]).expect(0);
    let moved = place.path().join("somewhere else");
    fs::rename(place.out(), &moved).unwrap();
    let output = forge().arg("audit").arg("jobs/x").current_dir(&moved).output().unwrap();
    Ended::new(&output).expect(0);
}

#[test]
fn runs_of_one_job_at_once_store_it_once() {
    let place = Place::new();
    std::thread::scope(|scope| {
        let runs: Vec<_> = (0..4).map(|_| scope.spawn(|| place.run(&insurance("x"), &[]))).collect();
        runs.into_iter().for_each(|run| drop(run.join().unwrap().expect(0)));
    });
    assert_eq!(place.files().iter().filter(|file| file.starts_with("jobs/")).count(), 2);
    place.on_manifest("audit", "x", &[]).expect(0);
}

#[cfg(unix)]
#[test]
fn a_run_that_is_killed_leaves_no_manifest_without_its_objects() {
    let place = Place::new();
    let file = place.path().join("envelope.json");
    let mut killed = 0;
    for attempt in 0..25 {
        let job = format!("job-{attempt}");
        fs::write(&file, insurance(&job).to_string()).unwrap();
        let mut command = forge();
        command.arg("run").arg(&file).arg("--out").arg(place.out()).arg("--keep-shards");
        let mut child = command.stdout(std::process::Stdio::null()).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(4 * attempt));
        child.kill().unwrap();
        killed += i32::from(!child.wait().unwrap().success());
        if !place.manifest_path(&job).exists() {
            place.run(&insurance(&job), &["--keep-shards"]).expect(0);
        }
        place.on_manifest("audit", &job, &[]).expect(0);
    }
    assert!(killed > 3, "no run was killed in time");
    // What a killed run had not finished lies under another name.
    for file in place.files().iter().filter(|file| file.starts_with("artifacts/") && !file.contains('#')) {
        let hash = forge_contract::digest::Digest::hash_parts(&[&fs::read(place.out().join(file)).unwrap()]);
        assert!(file.contains(&hash.to_hex()), "{file}");
    }
}
