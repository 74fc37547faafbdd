//! `forge export` and audits of archives, of whole stores and with attestations.

use std::{fs, path::PathBuf, process::Command};

use forge_contract::digest::Digest;
use serde_json::{Value, json};

use crate::common::{CommandOutput, Sandbox, forge, insurance_envelope, read_json, with_value};

const BLOCK: usize = 512;

fn run(sandbox: &Sandbox, arguments: &[&str]) -> CommandOutput {
    let output = forge().current_dir(sandbox.path()).args(arguments).output().unwrap();
    CommandOutput::new(&output)
}

/// A store with these jobs.
fn store(jobs: &[&str]) -> Sandbox {
    let sandbox = Sandbox::new();
    for job in jobs {
        sandbox.run(&insurance_envelope(job), &["--no-progress"]).expect_code(0);
    }
    sandbox
}

fn export(sandbox: &Sandbox, archive: &str) -> PathBuf {
    run(sandbox, &["export", "out/jobs/job", "-o", archive]).expect_code(0);
    sandbox.path().join(archive)
}

/// Offset of the header of the first entry whose name ends so.
fn header_of(archive: &[u8], end: &str) -> usize {
    let field = |at: usize, length: usize| {
        String::from_utf8(archive[at..at + length].to_vec()).unwrap().trim_end_matches('\0').to_owned()
    };
    let mut at = 0;
    loop {
        let name = format!("{}/{}", field(at + 345, 155), field(at, 100));
        if name.ends_with(end) {
            return at;
        }
        let size = usize::from_str_radix(&field(at + 124, 12), 8).unwrap();
        at += BLOCK + size.div_ceil(BLOCK) * BLOCK;
    }
}

/// Writes the checksum of a header that was changed.
fn set_checksum(archive: &mut [u8], at: usize) {
    archive[at + 148..at + 156].fill(b' ');
    let sum: u32 = archive[at..at + BLOCK].iter().map(|&byte| u32::from(byte)).sum();
    archive[at + 148..at + 156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

#[test]
fn an_archive_has_the_same_bytes_each_time_and_is_audited_without_its_store() {
    let sandbox = store(&["job"]);
    let output = run(&sandbox, &["export", "out/jobs/job", "-o", "a.tar", "--format", "json"]).expect_code(0);
    let document: Value = serde_json::from_str(&output.stdout).unwrap();
    let bytes = fs::read(sandbox.path().join("a.tar")).unwrap();
    assert_eq!(document["sha256"], Digest::hash_parts(&[&bytes]).to_hex());
    assert_eq!(document["bytes"], bytes.len() as u64);
    assert_eq!(document["result"], sandbox.manifest("job")["result"]);
    assert_eq!(fs::read(export(&sandbox, "b.tar")).unwrap(), bytes);
    assert!(!sandbox.path().join("b.tar.partial").exists());
    fs::remove_dir_all(sandbox.store_path()).unwrap();
    let text = run(&sandbox, &["audit", "a.tar"]).expect_code(0).stdout;
    assert!(text.starts_with("consistent: nothing contradicts the result of job job"), "{text}");
    let text = run(&sandbox, &["audit", "a.tar", "--full", "--backend", "simd"]).expect_code(0).stdout;
    assert!(text.starts_with("proved: "), "{text}");
}

/// Uses tar and python3, which a POSIX system with a Python has.
#[test]
fn other_tools_read_the_archive_and_recompute_the_result() {
    let sandbox = Sandbox::new();
    let envelope = with_value(insurance_envelope("job"), "/args/iterations", json!(2000));
    sandbox.run(&envelope, &["--no-progress"]).expect_code(0);
    export(&sandbox, "job.tar");
    let system = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).current_dir(sandbox.path()).args(arguments).output().unwrap();
        CommandOutput::new(&output).expect_code(0).stdout
    };
    system("tar", &["xf", "job.tar"]);
    let manifest = read_json(&sandbox.path().join("store/jobs/job/manifest.json"));
    assert_eq!(manifest, sandbox.manifest("job"));
    let readme = fs::read_to_string(sandbox.path().join("README.txt")).unwrap();
    let result = manifest["result"].as_str().unwrap();
    assert!(readme.contains(result) && readme.lines().all(|line| line.len() <= 200), "{readme}");
    let key = |name: &str| {
        let artifacts = manifest["artifacts"].as_array().unwrap();
        let artifact = artifacts.iter().find(|artifact| artifact["name"] == name).unwrap();
        format!("store/artifacts/sha256/{}/{name}", artifact["sha256"].as_str().unwrap())
    };
    let envelope = key("envelope.json");
    let command = ["verifier/forge_reader.py", "result", &envelope, "--max-iterations", "2000"];
    let recomputed = system("python3", &command);
    assert_eq!(Digest::hash_parts(&[recomputed.as_bytes()]).to_hex(), result);
    let program = Digest::hash_parts(&[&fs::read(sandbox.path().join("program.bin")).unwrap()]).to_hex();
    assert_eq!(read_json(&sandbox.path().join(key("result.json")))["program"], program);
    let schema = fs::read(sandbox.path().join("schemas/result.schema.json")).unwrap();
    assert_eq!(schema, forge().args(["schema", "result"]).output().unwrap().stdout);
}

#[test]
fn a_changed_archive_fails() {
    let sandbox = store(&["job"]);
    let bytes = fs::read(export(&sandbox, "job.tar")).unwrap();
    let audit = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut changed = bytes.clone();
        change(&mut changed);
        fs::write(sandbox.path().join("changed.tar"), changed).unwrap();
        run(&sandbox, &["audit", "changed.tar"])
    };
    // A figure of the result.
    let output = audit(&|archive| {
        let at = header_of(archive, "/result.json") + BLOCK;
        let digit = archive[at..].iter().position(u8::is_ascii_digit).unwrap();
        archive[at + digit] ^= 1;
    });
    output.expect_code(4).expect_stderr("result.json");
    // Names that lead out of the directory, and links.
    let outside = sandbox.path().join("outside");
    for (name, kind, reason) in [
        ("store/../../outside", b'0', "is not allowed"),
        ("/tmp/outside", b'0', "is not allowed"),
        ("store/jobs/job/link", b'2', "is no regular file"),
        ("store/jobs/job/link", b'1', "is no regular file"),
        ("store/jobs/job/pipe", b'6', "is no regular file"),
    ] {
        let output = audit(&|archive| {
            let at = header_of(archive, "/index.html");
            archive[at..at + 100].fill(0);
            archive[at..at + name.len()].copy_from_slice(name.as_bytes());
            archive[at + 156] = kind;
            let target = outside.to_str().unwrap();
            archive[at + 157..at + 157 + target.len().min(100)]
                .copy_from_slice(&target.as_bytes()[..target.len().min(100)]);
            set_checksum(archive, at);
        });
        output.expect_code(4).expect_stderr(reason);
    }
    assert!(!outside.exists() && !PathBuf::from("/tmp/outside").exists());
    // Twice the same file, too large a file, a damaged header, an early end, and no end.
    let twice = audit(&|archive| {
        let at = header_of(archive, "/index.html");
        let manifest = "store/jobs/job/manifest.json";
        archive[at..at + 100].fill(0);
        archive[at..at + manifest.len()].copy_from_slice(manifest.as_bytes());
        set_checksum(archive, at);
    });
    twice.expect_code(4).expect_stderr("is there twice");
    let large = audit(&|archive| {
        let at = header_of(archive, "/envelope.json");
        archive[at + 124..at + 135].copy_from_slice(b"00100000000");
        set_checksum(archive, at);
    });
    large.expect_code(4).expect_stderr("bytes, and can have at most 1048576");
    let damaged = audit(&|archive| {
        let at = header_of(archive, "/envelope.json");
        archive[at] ^= 1;
    });
    damaged.expect_code(4).expect_stderr("wrong checksum");
    audit(&|archive| archive.truncate(archive.len() - 3 * BLOCK)).expect_code(4).expect_stderr("it ends");
    audit(&|archive| archive.truncate(archive.len() - 2 * BLOCK))
        .expect_code(4)
        .expect_stderr("ends too early");
    // An archive without a job.
    let without = audit(&|archive| {
        let end = header_of(archive, "/manifest.json");
        archive.truncate(end);
        archive.resize(end + 2 * BLOCK, 0);
    });
    without.expect_code(2).expect_stderr("is no archive of `forge export`");
}

#[test]
fn a_damaged_job_is_not_exported() {
    let sandbox = store(&["job"]);
    let artifact = sandbox.artifact("job", "metrics.json");
    let mut bytes = fs::read(&artifact).unwrap();
    bytes[0] ^= 1;
    fs::write(&artifact, bytes).unwrap();
    run(&sandbox, &["export", "out/jobs/job", "-o", "job.tar"]).expect_code(4).expect_stderr("metrics.json");
    let left: Vec<_> =
        fs::read_dir(sandbox.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["out"]);
    run(&sandbox, &["export", "out/jobs/absent", "-o", "job.tar"]).expect_code(2);
    run(&sandbox, &["export", "out/jobs/job", "-o", "s3://bucket/x"])
        .expect_code(2)
        .expect_stderr("not supported here");
}

#[test]
fn all_jobs_of_a_store_are_audited_and_one_failure_fails() {
    let sandbox = store(&["a", "b", "job"]);
    let all = |options: &[&str]| run(&sandbox, &[&["audit", "--all", "out"], options].concat());
    let text = all(&["--full", "--backend", "simd"]).expect_code(0).stdout;
    assert!(text.starts_with("3 jobs of out: no audit failed\n"), "{text}");
    assert_eq!(text.lines().filter(|line| line.contains(" proved ")).count(), 3, "{text}");
    let artifact = sandbox.artifact("b", "metrics.json");
    let changed = fs::read_to_string(&artifact).unwrap().replacen(':', " :", 1);
    fs::write(&artifact, changed).unwrap();
    let output = all(&["--format", "json"]).expect_code(4).expect_stderr(" failed; the first: ");
    let lines: Vec<Value> = output.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let verdict = |job: &str| &lines.iter().find(|line| line["job_id"] == job).unwrap()["verdict"];
    assert_eq!((lines.len(), verdict("b")), (3, &json!("failed")));
    let text = all(&[]).expect_code(4).stdout;
    assert!(text.lines().any(|line| line.starts_with("  b ") && line.contains("FAILED")), "{text}");
    let empty = sandbox.path().join("empty");
    fs::create_dir(&empty).unwrap();
    run(&sandbox, &["audit", "--all", "empty"]).expect_code(2).expect_stderr("no job has completed in");
    run(&sandbox, &["audit", "--all", "out", "out/jobs/a"]).expect_code(2);
}

#[test]
fn an_attestation_states_what_was_recomputed_and_the_verdict() {
    let sandbox = store(&["job"]);
    let attest = |file: &str, options: &[&str]| {
        run(&sandbox, &[&["audit", "out/jobs/job", "--attest", file], options].concat())
    };
    attest("proof.json", &["--full", "--backend", "simd"]).expect_code(0);
    let document = read_json(&sandbox.path().join("proof.json"));
    assert_eq!(document["schema"], "forge.attestation.v1");
    assert_eq!((&document["audit"]["verdict"], &document["requested"]), (&json!("proved"), &json!("all")));
    assert_eq!(document["manifest"]["result"], sandbox.manifest("job")["result"]);
    let manifest = fs::read(sandbox.manifest_path("job")).unwrap();
    assert_eq!(document["manifest"]["sha256"], Digest::hash_parts(&[&manifest]).to_hex());
    assert_eq!(document["forge"]["version"], env!("CARGO_PKG_VERSION"));
    let time = document["attested_at"].as_str().unwrap();
    assert!(time.starts_with("20") && time.ends_with('Z'), "{time}");
    attest("proof.html", &["--reexecute", "2"]).expect_code(0);
    let page = fs::read_to_string(sandbox.path().join("proof.html")).unwrap();
    let result = sandbox.manifest("job")["result"].as_str().unwrap().to_owned();
    assert!(page.contains("consistent") && page.contains("2 of 5") && page.contains(&result), "{page}");
    // A failed audit is attested too.
    let artifact = sandbox.artifact("job", "result.json");
    fs::write(&artifact, fs::read_to_string(&artifact).unwrap().replace(':', " :")).unwrap();
    attest("failed.json", &[]).expect_code(4);
    assert_eq!(read_json(&sandbox.path().join("failed.json"))["audit"]["verdict"], "failed");
    attest("proof.pdf", &[]).expect_code(2).expect_stderr("must end in .html or .json");
    attest("absent/x.json", &[]).expect_code(2).expect_stderr("--attest: cannot write absent/x.json");
}
