//! Settings as deployments pass them: empty variables, values with white space, addresses of
//! stores, names that are not UTF-8, and output whose reader leaves.

use std::{
    collections::BTreeMap,
    fs,
    io::Read,
    process::{Command, Stdio},
};

use crate::common::{CommandOutput, Sandbox, forge, insurance_envelope};

const SERVICES: [&str; 5] = ["planner", "worker", "verifier", "aggregator", "up"];

fn run(command: &mut Command) -> CommandOutput {
    CommandOutput::new(&command.output().unwrap())
}

/// Variables of a command's options, as its help names them.
fn variables(command: &str) -> Vec<String> {
    let help = run(forge().args([command, "--help"])).expect_code(0).stdout;
    let names = help.split("[env: ").skip(1).filter_map(|rest| rest.split(['=', ']']).next());
    names.map(|name| name.trim().to_owned()).collect()
}

fn print_config(command: &str, environment: &BTreeMap<String, String>) -> CommandOutput {
    run(forge().args([command, "--print-config"]).envs(environment))
}

#[test]
fn an_empty_variable_of_any_option_counts_as_absent() {
    for service in SERVICES {
        let names = variables(service);
        assert!(names.len() > 15, "{service}: {names:?}");
        let plain = print_config(service, &BTreeMap::new()).expect_code(0).stdout;
        for empty in ["", " ", "\n", "\t\r\n"] {
            let environment = names.iter().map(|name| (name.clone(), empty.to_owned())).collect();
            assert_eq!(print_config(service, &environment).expect_code(0).stdout, plain, "{empty:?}");
        }
    }
}

#[test]
fn white_space_around_a_variable_is_removed() {
    let values = [
        ("FORGE_NATS_URL", "nats://h:1"),
        ("FORGE_REPLICAS", "3"),
        ("FORGE_LEASE_MS", "20000"),
        ("FORGE_HTTP", "127.0.0.1:9464"),
        ("FORGE_LOG_FORMAT", "json"),
        ("FORGE_MAX_JOBS", "7"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318"),
    ];
    let config = |suffix: &str| {
        let pad = |value: &str| format!("{suffix}{value}{suffix}");
        let environment = values.iter().map(|(name, value)| ((*name).to_owned(), pad(value))).collect();
        print_config("planner", &environment).expect_code(0).stdout
    };
    assert_eq!(config("\n"), config(""));
}

#[test]
fn help_and_settings_never_show_the_credentials_of_a_url() {
    for arguments in [["planner", "--help"], ["planner", "--print-config"], ["jobs", "--help"]] {
        for url in ["nats://ann:hush@h", "ann:hush@h", "nats://ann:hu/hush@h", "hush@h"] {
            let shown = run(forge().args(arguments).env("FORGE_NATS_URL", url)).expect_code(0).stdout;
            assert!(!shown.contains("hush"), "{shown}");
        }
    }
}

#[test]
fn servers_that_are_spoken_to_in_another_way_are_refused() {
    for url in ["wss://127.0.0.1:1", "ws://127.0.0.1:1", "http://127.0.0.1:1", "nats://127.0.0.1:99999"] {
        let output = run(forge().args(["jobs", "--nats-url", url]));
        assert!(
            output.stderr.starts_with("error: ") && output.stderr.contains("URL")
                || output.stderr.contains("WebSocket"),
            "{url}: {}",
            output.stderr
        );
    }
}

#[test]
fn settings_of_a_bucket_end_in_a_sentence_and_never_in_a_panic() {
    let cases = [
        ("AWS_ACCESS_KEY_ID", "k\ney", "AWS_ACCESS_KEY_ID"),
        ("AWS_SESSION_TOKEN", "to ken", "AWS_SESSION_TOKEN"),
        ("AWS_REGION", "us east 1", "AWS_REGION"),
        ("AWS_ENDPOINT_URL", "http://127.0.0.1:99999", "the S3 endpoint"),
        ("AWS_ENDPOINT_URL", "http://my host:9", "the S3 endpoint"),
        ("AWS_ENDPOINT_URL", "127.0.0.1:9", "the S3 endpoint"),
    ];
    for (name, value, reported) in cases {
        let mut command = forge();
        command.args(["artifacts", "ls", "x", "--store", "s3://bucket"]);
        let plain = [("AWS_ACCESS_KEY_ID", "k"), ("AWS_SECRET_ACCESS_KEY", "s")];
        run(command.envs(plain).env(name, value)).expect_code(2).expect_stderr(reported);
    }
}

#[test]
fn missing_credentials_of_a_bucket_are_reported_as_such() {
    let sandbox = Sandbox::new();
    let mut command = forge();
    command.args(["artifacts", "ls", "x", "--store", "s3://some-bucket"]).env_clear();
    command.env("HOME", sandbox.path()).env("AWS_EC2_METADATA_DISABLED", "true");
    run(&mut command)
        .expect_code(2)
        .expect_stderr("no credentials: AWS_ACCESS_KEY_ID is not set")
        .expect_stderr(".aws/credentials");
    run(command.env("AWS_PROFILE", "work")).expect_code(2).expect_stderr("AWS_PROFILE=work");
}

#[test]
fn results_of_a_run_go_to_the_bucket_that_out_names_or_nowhere() {
    let sandbox = Sandbox::new();
    let envelope = sandbox.path().join("envelope.json");
    fs::write(&envelope, insurance_envelope("x").to_string()).unwrap();
    let out = |location: &str| {
        let mut command = forge();
        command.current_dir(sandbox.path()).args(["run", "envelope.json", "--out", location]);
        command.envs([("AWS_ACCESS_KEY_ID", "k"), ("AWS_SECRET_ACCESS_KEY", "s")]);
        run(command.env("AWS_ENDPOINT_URL", "http://127.0.0.1:1"))
    };
    out("s3://bucket/x").expect_code(3).expect_stderr("storage_failed: s3://bucket/x");
    for location in ["gs://bucket/x", "s3:/bucket/x", "S3://bucket", "file:///tmp/x", "memory:"] {
        out(location).expect_code(2).expect_stderr("--out");
    }
    let entries: Vec<_> =
        fs::read_dir(sandbox.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(entries, ["envelope.json"]);
}

#[cfg(unix)]
#[test]
fn names_that_are_not_utf_8_work_for_files_and_are_refused_for_stores() {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt};

    let sandbox = Sandbox::new();
    let directory = sandbox.path().join(OsStr::from_bytes(b"caf\xe9 \xff"));
    fs::create_dir(&directory).unwrap();
    let envelope = directory.join("envelope.json");
    fs::write(&envelope, insurance_envelope("x").to_string()).unwrap();
    let store = sandbox.store_path();
    run(forge().arg("run").arg(&envelope).arg("--out").arg(&store)).expect_code(0);
    let fetched = directory.join("fetched");
    run(forge().args(["artifacts", "get", "x", "--store"]).arg(&store).arg("--out").arg(&fetched))
        .expect_code(0);
    assert!(fetched.join("result.json").is_file());

    let reason = "the path of the directory is not valid UTF-8";
    run(forge().arg("run").arg(&envelope).arg("--out").arg(directory.join("store")))
        .expect_code(3)
        .expect_stderr(reason);
    run(forge().arg("run").arg("envelope.json").current_dir(&directory)).expect_code(3).expect_stderr(reason);
    run(forge().args(["artifacts", "ls", "x"]).env("FORGE_STORE", &directory))
        .expect_code(2)
        .expect_stderr(reason);
    let copy = directory.join("jobs/x");
    fs::create_dir_all(&copy).unwrap();
    fs::copy(sandbox.manifest_path("x"), copy.join("manifest.json")).unwrap();
    for command in ["replay", "audit"] {
        run(forge().arg(command).arg(copy.join("manifest.json"))).expect_code(2).expect_stderr(reason);
    }
}

#[test]
fn a_reader_that_leaves_ends_a_command_quietly() {
    for arguments in
        [&["--help"][..], &["--version"], &["schema", "envelope"], &["envelope", "new"], &["devices"]]
    {
        let mut child =
            forge().args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let mut errors = String::new();
        child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
        let status = child.wait().unwrap();
        assert!(status.success() && errors.is_empty(), "{arguments:?}: {status} {errors}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn output_that_cannot_be_written_is_an_error_of_every_command() {
    let sandbox = Sandbox::new();
    let path = sandbox.path().join("full.json");
    fs::write(&path, insurance_envelope("full").to_string()).unwrap();
    let envelope = path.display().to_string();
    let full = || fs::File::options().write(true).open("/dev/full").unwrap();
    let store = sandbox.store_path().display().to_string();
    let job: &[&str] = &["artifacts", "ls", "full", "--store", &store];
    for arguments in [
        &["--version"][..],
        &["--help"],
        &["worker", "--help"],
        &["schema", "envelope"],
        &["envelope", "new"],
        &["devices"],
        &["planner", "--print-config"],
        &["run", &envelope, "--out", &store],
        job,
    ] {
        let output = run(forge().args(arguments).stdout(full()));
        output
            .expect_code(1)
            .expect_stderr("error: cannot write to standard output: No space left on device");
    }
    // Messages are lost, and the result is not.
    let output = run(forge().args(["run", &envelope, "--out", &store]).stderr(full()));
    output.expect_code(0);
}
