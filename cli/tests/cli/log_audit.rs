//! `forge audit --log`: every kind of tampering with a store's log, or with the jobs that it
//! records, is named.

use std::{fs, path::PathBuf};

use forge_contract::{
    agent::Identity,
    digest::Digest,
    manifest_log::{LogEntryDocument, LogPosition},
};
use serde_json::{Value, json};

use crate::{
    common::{CommandOutput, Sandbox, forge, insurance_envelope, with_value},
    forgery::Audit,
};

const JOBS: [&str; 3] = ["a", "b", "c"];

/// A store with three small jobs, and three entries.
fn logged_store() -> Sandbox {
    let sandbox = Sandbox::new();
    for job in JOBS {
        let envelope = with_value(insurance_envelope(job), "/args/iterations", json!(1000));
        sandbox.run(&envelope, &[]).expect_code(0);
    }
    sandbox
}

fn run_audit(sandbox: &Sandbox, options: &[&str]) -> CommandOutput {
    let output = forge().args(["audit", "--log"]).arg(sandbox.store_path()).args(options).output();
    CommandOutput::new(&output.unwrap())
}

#[track_caller]
fn audit_log(sandbox: &Sandbox, code: i32, options: &[&str]) -> Audit {
    let output = run_audit(sandbox, &[&["--format", "json"], options].concat()).expect_code(code);
    let report: Value = serde_json::from_str(&output.stdout).unwrap();
    assert_eq!(report["passed"], code == 0);
    assert_eq!(report["verdict"], if code == 0 { "consistent" } else { "failed" });
    Audit(report)
}

fn entry_path(sandbox: &Sandbox, number: u64) -> PathBuf {
    sandbox.store_path().join(format!("log/{number:020}.json"))
}

fn read_entry(sandbox: &Sandbox, number: u64) -> LogEntryDocument {
    LogEntryDocument::parse(&fs::read(entry_path(sandbox, number)).unwrap()).unwrap()
}

/// Writes an entry, signed by a forger.
fn forge_entry(sandbox: &Sandbox, number: u64, change: impl FnOnce(&mut LogEntryDocument)) {
    let mut entry = read_entry(sandbox, number);
    change(&mut entry);
    let (_, bytes) = entry.sign(&Identity::from_random([66; 32])).unwrap();
    fs::write(entry_path(sandbox, number), bytes).unwrap();
}

#[test]
fn intact_log_is_consistent_and_names_what_was_not_compared() {
    let sandbox = logged_store();
    let audit = audit_log(&sandbox, 0, &[]);
    assert_eq!((&audit.0["entries"], &audit.0["jobs"]), (&json!(3), &json!(3)));
    for check in ["entries", "format", "chain", "signatures", "manifests", "jobs"] {
        assert_eq!(audit.check(check).0, "ok", "{check}");
    }
    assert_eq!(audit.not_compared(), ["signers", "known head", "contents of the jobs"]);
    assert!(audit.check("known head").1.contains("whose last entries were removed"));

    let text = run_audit(&sandbox, &[]).expect_code(0).stdout;
    assert!(text.starts_with("consistent: nothing contradicts the log of "), "{text}");
    let head = audit.0["head"].as_str().unwrap();
    assert!(text.contains(&format!("Keep this for the next audit: --log-head {head}")), "{text}");
    let position: LogPosition = head.parse().unwrap();
    let bytes = fs::read(entry_path(&sandbox, 3)).unwrap();
    assert_eq!(position, LogPosition { number: 3, hash: Digest::hash_parts(&[&bytes]) });

    // The audit of one job says that it did not look into the log.
    let job = sandbox.run_on_job("audit", "a", &["--format", "json"]).expect_code(0).stdout;
    assert!(Audit(serde_json::from_str(&job).unwrap()).not_compared().contains(&"log"));
    // A job that is run again is recorded once.
    let again = with_value(insurance_envelope("b"), "/args/iterations", json!(1000));
    sandbox.run(&again, &[]).expect_code(0);
    assert_eq!(audit_log(&sandbox, 0, &["--log-head", head]).0["entries"], 3);
}

#[test]
fn known_head_shows_removed_last_entries_and_a_new_log() {
    let sandbox = logged_store();
    let head = audit_log(&sandbox, 0, &[]).0["head"].as_str().unwrap().to_owned();
    let with_head = ["--log-head", &head];
    assert_eq!(audit_log(&sandbox, 0, &with_head).check("known head"), ("ok", "entry 3 is the known one"));

    // Removed with its job: only the known head shows it.
    let last = fs::read(entry_path(&sandbox, 3)).unwrap();
    fs::remove_file(entry_path(&sandbox, 3)).unwrap();
    fs::remove_dir_all(sandbox.store_path().join("jobs/c")).unwrap();
    audit_log(&sandbox, 0, &[]);
    audit_log(&sandbox, 4, &with_head)
        .expect_failed("known head", "the log ends with entry 2, but entry 3 is known");

    // Another job in its place.
    let other = with_value(insurance_envelope("d"), "/args/iterations", json!(1000));
    sandbox.run(&other, &[]).expect_code(0);
    assert_ne!(fs::read(entry_path(&sandbox, 3)).unwrap(), last);
    audit_log(&sandbox, 0, &[]);
    audit_log(&sandbox, 4, &with_head)
        .expect_failed("known head", "it was replaced, or the log was written anew");
    run_audit(&sandbox, &["--log-head", "3"]).expect_code(2).expect_stderr("the number of an entry, a colon");
}

#[test]
fn missing_changed_and_foreign_entries_are_named() {
    let sandbox = logged_store();
    let path = entry_path(&sandbox, 2);
    let intact = fs::read(&path).unwrap();
    fs::remove_file(&path).unwrap();
    let audit = audit_log(&sandbox, 4, &[]);
    audit.expect_failed("entries", "entry 3 comes after a gap: entry 2 is missing");
    audit.expect_failed("jobs", "job b has no entry");

    // Changed without and with a new signature.
    let changed =
        String::from_utf8(intact.clone()).unwrap().replace(r#""namespace":"jobs""#, r#""namespace":"j""#);
    fs::write(&path, changed).unwrap();
    let audit = audit_log(&sandbox, 4, &[]);
    audit.expect_failed("signatures", "entry 2 is not signed by its signer");
    audit.expect_failed("chain", "entry 3 follows an entry with SHA-256");
    fs::write(&path, &intact).unwrap();
    forge_entry(&sandbox, 2, |entry| entry.namespace = "j".to_owned());
    let audit = audit_log(&sandbox, 4, &[]);
    assert_eq!(audit.check("signatures").0, "ok");
    audit.expect_failed("chain", "entry 3 follows an entry with SHA-256");

    // A copy of another entry, junk, and something other than a file.
    fs::copy(entry_path(&sandbox, 3), &path).unwrap();
    audit_log(&sandbox, 4, &[]).expect_failed("format", "entry 2 states the number 3");
    fs::write(&path, "{}").unwrap();
    audit_log(&sandbox, 4, &[]).expect_failed("format", "entry 2 cannot be read: ");
    fs::write(&path, vec![b' '; 1 << 20]).unwrap();
    audit_log(&sandbox, 4, &[]).expect_failed("format", "at most 4096 are read");
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    audit_log(&sandbox, 4, &[]).expect_failed("format", "a directory is in its place");
    fs::remove_dir(&path).unwrap();

    fs::write(&path, &intact).unwrap();
    audit_log(&sandbox, 0, &[]);
    fs::write(sandbox.store_path().join("log/notes.txt"), "x").unwrap();
    audit_log(&sandbox, 4, &[]).expect_failed("entries", "log/notes.txt is not an entry");
    fs::remove_file(sandbox.store_path().join("log/notes.txt")).unwrap();
    // A number far beyond the others is a gap, and does not keep the audit busy.
    fs::copy(entry_path(&sandbox, 3), entry_path(&sandbox, 1 << 60)).unwrap();
    audit_log(&sandbox, 4, &[]).expect_failed(
        "entries",
        "entry 1152921504606846976 comes after a gap: entries 4 to 1152921504606846975",
    );
}

#[test]
fn replaced_removed_and_unrecorded_jobs_are_named() {
    let sandbox = logged_store();
    // Replaced by a job that was really executed, with another envelope.
    let elsewhere = Sandbox::new();
    let other = with_value(insurance_envelope("b"), "/args/iterations", json!(2000));
    elsewhere.run(&other, &[]).expect_code(0);
    let intact = fs::read(sandbox.manifest_path("b")).unwrap();
    fs::copy(elsewhere.manifest_path("b"), sandbox.manifest_path("b")).unwrap();
    audit_log(&sandbox, 4, &[]).expect_failed("manifests", "of job b, ");
    let recorded = Digest::hash_parts(&[&intact]).to_string();
    assert!(audit_log(&sandbox, 4, &[]).check("manifests").1.contains(&recorded));
    fs::write(sandbox.manifest_path("b"), "{}").unwrap();
    audit_log(&sandbox, 4, &[]).expect_failed("manifests", "of job b, which cannot be read: ");
    fs::remove_file(sandbox.manifest_path("b")).unwrap();
    audit_log(&sandbox, 4, &[])
        .expect_failed("manifests", "entry 2 records a manifest of job b, which is missing");
    fs::write(sandbox.manifest_path("b"), &intact).unwrap();
    audit_log(&sandbox, 0, &[]);

    let copied = sandbox.store_path().join("jobs/d");
    fs::create_dir(&copied).unwrap();
    let manifest = String::from_utf8(intact).unwrap().replace(r#""job_id":"b""#, r#""job_id":"d""#);
    fs::write(copied.join("manifest.json"), manifest).unwrap();
    audit_log(&sandbox, 4, &[]).expect_failed("jobs", "job d has no entry");
    fs::remove_dir_all(copied).unwrap();

    forge_entry(&sandbox, 3, |entry| entry.job_uid.0 = [9; 16]);
    audit_log(&sandbox, 4, &[]).expect_failed("manifests", "of job c, which has the uid ");

    fs::remove_dir_all(sandbox.store_path().join("log")).unwrap();
    let audit = audit_log(&sandbox, 4, &[]);
    audit.expect_failed("jobs", "job a has no entry; job b has no entry; job c has no entry");
    assert_eq!(audit.0["head"], Value::Null);
}

#[test]
fn forged_end_of_a_log_fails_with_known_signers_only() {
    let sandbox = logged_store();
    let signers: String =
        (1..=3).map(|number| format!("aggregator {}\n", read_entry(&sandbox, number).signer)).collect();
    let path = sandbox.path().join("signers.txt");
    fs::write(&path, signers).unwrap();
    let options = ["--signers", path.to_str().unwrap()];
    assert_eq!(audit_log(&sandbox, 0, &options).check("signers").0, "ok");
    // The last entry has no successor that would contradict it.
    forge_entry(&sandbox, 3, |_| {});
    assert_eq!(audit_log(&sandbox, 0, &[]).check("signers").0, "not_compared");
    audit_log(&sandbox, 4, &options).expect_failed("signers", "is not in the signers file");
}

#[test]
fn manifest_that_was_recorded_twice_is_accepted() {
    let sandbox = logged_store();
    let last = read_entry(&sandbox, 3);
    let previous = Some(Digest::hash_parts(&[&fs::read(entry_path(&sandbox, 3)).unwrap()]));
    let again = LogEntryDocument { number: 4, previous, ..last };
    let (_, bytes) = again.sign(&Identity::from_random([7; 32])).unwrap();
    fs::write(entry_path(&sandbox, 4), bytes).unwrap();
    let audit = audit_log(&sandbox, 0, &[]);
    assert!(audit.check("manifests").1.ends_with("; 1 recorded again, which is harmless"));
}

#[test]
fn log_of_an_empty_store_and_options_of_a_job() {
    let sandbox = Sandbox::new();
    run_audit(&sandbox, &[]).expect_code(2).expect_stderr("does not exist");
    fs::create_dir(sandbox.store_path()).unwrap();
    run_audit(&sandbox, &[]).expect_code(2).expect_stderr("has neither log/ nor jobs/");
    let options: [&[&str]; 4] = [&["--full"], &["--reexecute", "3"], &["--allow-unsigned"], &["jobs/a"]];
    for options in options {
        run_audit(&sandbox, options).expect_code(2).expect_stderr("cannot be used with");
    }
    let output = forge().args(["audit", "x", "--log-head", &format!("1:{}", "0".repeat(64))]).output();
    CommandOutput::new(&output.unwrap()).expect_code(2).expect_stderr("cannot be used with");
}

#[test]
fn a_directory_that_is_no_store_is_refused() {
    let sandbox = logged_store();
    let jobs = sandbox.store_path().join("jobs");
    let output = forge().args(["audit", "--log"]).arg(jobs).output().unwrap();
    CommandOutput::new(&output).expect_code(2).expect_stderr("has neither log/ nor jobs/: name the store");
}
