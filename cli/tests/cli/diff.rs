//! `forge diff`: what differs between two results, and whether it is beyond sampling error.

use std::fs;

use serde_json::{Value, json};

use crate::common::{CommandOutput, Sandbox, forge, insurance_envelope, run_with_stdin, with_value};

/// A store with these jobs: id, and pointer and value that differ from the first.
fn store(jobs: &[(&str, &[(&str, Value)])]) -> Sandbox {
    let sandbox = Sandbox::new();
    for (job, changes) in jobs {
        let envelope = insurance_envelope(job);
        let changes = changes.iter().cloned();
        let envelope =
            changes.fold(envelope, |envelope, (pointer, value)| with_value(envelope, pointer, value));
        sandbox.run(&envelope, &["--no-progress", "--keep-shards=0"]).expect_code(0);
    }
    sandbox
}

fn diff(sandbox: &Sandbox, a: &str, b: &str, options: &[&str]) -> CommandOutput {
    let mut command = forge();
    command.arg("diff").arg(sandbox.manifest_path(a)).arg(sandbox.manifest_path(b)).args(options);
    CommandOutput::new(&command.output().unwrap())
}

fn diff_json(sandbox: &Sandbox, a: &str, b: &str) -> Value {
    let output = diff(sandbox, a, b, &["--format", "json"]).expect_code(4);
    assert_eq!(output.stderr, "");
    serde_json::from_str(&output.stdout).unwrap()
}

fn figure<'a>(document: &'a Value, name: &str) -> &'a Value {
    let figures = document["figures"].as_array().unwrap();
    figures.iter().find(|figure| figure["name"] == name).unwrap_or_else(|| panic!("{name}: {document:#}"))
}

#[test]
fn the_same_result_is_recognised_wherever_it_is() {
    let sandbox = store(&[("a", &[]), ("b", &[("/about", json!({"title": "The same"}))])]);
    for options in [&[][..], &["--all"]] {
        let output = diff(&sandbox, "a", "b", options).expect_code(0);
        assert!(output.stdout.contains("\nthe same result\n"), "{}", output.stdout);
        assert_eq!(output.stderr, "");
    }
    // A file, written with other white space, and standard input.
    let result = fs::read(sandbox.artifact("a", "result.json")).unwrap();
    let value: Value = serde_json::from_slice(&result).unwrap();
    let file = sandbox.path().join("pretty.json");
    fs::write(&file, format!("{value:#}")).unwrap();
    let mut command = forge();
    command.arg("diff").arg(&file).args(["-", "--format", "json"]);
    let output = run_with_stdin(command, &result).expect_code(0);
    let document: Value = serde_json::from_str(&output.stdout).unwrap();
    assert_eq!((&document["same_result"], &document["args"]), (&json!(true), &json!([])));
    assert_eq!(document["a"]["result"], sandbox.manifest("a")["result"]);
}

#[test]
fn common_random_numbers_are_recognised_by_seed_size_and_parts() {
    let limit = ("/args/policy_limit", json!(40_000));
    let frequency = ("/args/claim_freq", json!(2));
    let size = ("/args/iterations", json!(200_000));
    let seed = ("/seed", json!({"mode": "explicit", "value": "other"}));
    let sandbox = store(&[
        ("base", &[]),
        ("limit", std::slice::from_ref(&limit)),
        ("frequency", &[frequency]),
        ("size", &[limit.clone(), size]),
        ("seed", &[seed]),
    ]);
    // Another limit changes no draw.
    let document = diff_json(&sandbox, "base", "limit");
    assert_eq!((&document["same_result"], &document["common_random_numbers"]), (&json!(false), &json!(true)));
    assert_eq!(document["args"], json!([{"name": "policy_limit", "a": 50_000, "b": 40_000}]));
    let output = diff(&sandbox, "base", "limit", &[]).expect_code(4);
    let conclusion = "intervals that overlap tell nothing (-)\n";
    assert!(output.stdout.ends_with(conclusion), "{}", output.stdout);
    // The last column says what the field of the JSON does, and the conclusion counts the rows.
    let shown = |row: &Value| row["a"]["value"] != row["b"]["value"];
    let (mut apart, mut compared) = (0, 0);
    for row in document["figures"].as_array().unwrap().iter().filter(|row| shown(row)) {
        let name = row["name"].as_str().unwrap();
        let line = output.stdout.lines().find(|line| line.trim_start().starts_with(&format!("{name} ")));
        let word = match row["beyond_sampling_error"].as_bool() {
            None => "-",
            Some(false) => "overlap",
            Some(true) => "apart",
        };
        assert_eq!(line.unwrap().split_whitespace().last(), Some(word), "{name}");
        apart += usize::from(word == "apart");
        compared += usize::from(row["a"]["low"].is_number() && row["b"]["low"].is_number());
    }
    let counts = format!("(intervals apart): {apart} of the {compared} figures above that have intervals\n");
    assert!(compared > 0 && output.stdout.contains(&counts), "{counts}{}", output.stdout);
    // One name for the loss of 200 years, which is the quantile at 99.5%.
    let names: Vec<_> =
        document["figures"].as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap()).collect();
    let is_listed = |name: &str| names.contains(&name);
    assert!(is_listed("quantiles[0.995].var") && is_listed("exceedance[200].oep.var"), "{names:?}");
    assert!(is_listed("exceedance[50].aep.var") && !is_listed("exceedance[200].aep.var"), "{names:?}");
    // More claims, fewer years or another seed do.
    for other in ["frequency", "size", "seed"] {
        let document = diff_json(&sandbox, "base", other);
        assert_eq!(document["common_random_numbers"], false, "{other}");
    }
    // With another seed nothing but sampling error remains, with another model more.
    let by_seed = diff_json(&sandbox, "base", "seed");
    assert_eq!(by_seed["args"], json!([]));
    assert_eq!(figure(&by_seed, "mean_loss")["beyond_sampling_error"], false);
    let by_frequency = diff_json(&sandbox, "base", "frequency");
    let mean = figure(&by_frequency, "mean_loss");
    assert_eq!(mean["beyond_sampling_error"], true);
    let (a, b) = (mean["a"]["value"].as_f64().unwrap(), mean["b"]["value"].as_f64().unwrap());
    assert_eq!(mean["difference"], b - a);
    assert_eq!(mean["relative"], (b - a) / a);
    assert_eq!(mean["a"]["value"], result(&sandbox, "base")["output"]["mean_loss"]);
    assert_eq!(mean["b"]["value"], result(&sandbox, "frequency")["output"]["mean_loss"]);
}

fn result(sandbox: &Sandbox, job: &str) -> Value {
    crate::common::read_json(&sandbox.artifact(job, "result.json"))
}

#[test]
fn the_table_shows_what_differs_and_with_all_everything() {
    let sandbox = store(&[("base", &[]), ("limit", &[("/args/aggregate_limit", json!(null))])]);
    let text = diff(&sandbox, "base", "limit", &[]).expect_code(4).stdout;
    let line = |start: &str| text.lines().find(|line| line.trim_start().starts_with(start));
    assert!(line("aggregate_limit ").is_some_and(|line| line.ends_with(" 250000  -")), "{text}");
    assert!(line("max_loss ").is_some() && line("claim_freq").is_none(), "{text}");
    // The median has the same value.
    assert!(line("quantiles[0.5].var ").is_none(), "{text}");
    let all = diff(&sandbox, "base", "limit", &["--all"]).expect_code(4).stdout;
    assert!(all.contains("  claim_freq ") && all.contains("  quantiles[0.5].var "), "{all}");
    assert!(all.lines().all(|line| line.chars().count() <= 100), "{all}");
}

#[test]
fn portfolios_are_compared_by_the_names_of_their_parts() {
    let printed = forge().args(["envelope", "new", "--profile", "risk.compound.v1"]).output().unwrap().stdout;
    let mut envelope: Value = serde_json::from_slice(&printed).unwrap();
    envelope["args"]["iterations"] = json!(20_000);
    envelope["seed"] = json!({"mode": "explicit", "value": "tests"});
    let sandbox = Sandbox::new();
    sandbox.run(&envelope, &["--no-progress", "--as", "base"]).expect_code(0);
    let treaty = envelope["args"]["treaties"].as_array_mut().unwrap().pop().unwrap();
    sandbox.run(&envelope, &["--no-progress", "--as", "without"]).expect_code(0);
    let document = diff_json(&sandbox, "base", "without");
    let name = treaty["name"].as_str().unwrap();
    let args = document["args"].as_array().unwrap();
    let prefix = format!("treaties[{name}].");
    assert!(!args.is_empty());
    for arg in args {
        assert!(arg["name"].as_str().unwrap().starts_with(&prefix) && arg["b"].is_null(), "{arg}");
    }
    let ceded = figure(&document, &format!("treaties[{name}].ceded.mean"));
    assert!(ceded["a"]["value"].is_number() && ceded["b"].is_null() && ceded["difference"].is_null());
    // Years draw the same losses with and without a treaty.
    let gross = figure(&document, "gross.mean");
    assert_eq!((&gross["difference"], &gross["beyond_sampling_error"]), (&json!(0.0), &json!(false)));
}

#[test]
fn results_that_cannot_be_compared_are_refused() {
    let sandbox = store(&[("a", &[]), ("bare", &[("/artifacts/include", json!([]))])]);
    let trip = json!({
        "ctx": {"job_id": "trip"},
        "op": {"name": "mc", "version": 1, "profile": "eta.v1"},
        "args": {"iterations": 1000, "base_eta": 30, "traffic_mean": 5, "traffic_std": 2}
    });
    sandbox.run(&trip, &["--no-progress"]).expect_code(0);
    diff(&sandbox, "a", "trip", &[]).expect_code(2).expect_stderr("their figures cannot be compared");
    diff(&sandbox, "a", "bare", &[])
        .expect_code(2)
        .expect_stderr("job bare did not keep result.json: write it with `forge report ");
    let run = |a: &str, b: &str| {
        let mut command = forge();
        command.current_dir(sandbox.path()).args(["diff", a, b]);
        CommandOutput::new(&command.output().unwrap())
    };
    run("-", "-").expect_code(2).expect_stderr("only one result can come from standard input");
    run("absent", "out/jobs/a").expect_code(2).expect_stderr("cannot open absent");
    fs::write(sandbox.path().join("other.json"), "{}").unwrap();
    run("out/jobs/a", "other.json")
        .expect_code(2)
        .expect_stderr("other.json is no result.json: missing field");
    // A result that is not the manifest's.
    let artifact = sandbox.artifact("a", "result.json");
    let changed = fs::read_to_string(&artifact).unwrap().replace("\"mean_loss\":", "\"mean_loss\":1");
    fs::write(&artifact, &changed).unwrap();
    diff(&sandbox, "a", "trip", &[]).expect_code(4).expect_stderr("result.json");
    // A result whose args were changed is not one of this program.
    fs::write(sandbox.path().join("changed.json"), changed.replace("\"claim_freq\":1.5", "\"claim_freq\":2"))
        .unwrap();
    fs::write(sandbox.path().join("same.json"), &changed).unwrap();
    run("same.json", "changed.json").expect_code(4).expect_stderr("states the program");
}
