//! The JSON Schemas: the committed files are up to date, documents conform to them, and they accept
//! exactly what the parser accepts.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::common::{Sandbox, forge, insurance_envelope, read_json, with_all_artifacts, with_value};
use forge_kernel::request::Request;
use jsonschema::Validator;
use serde_json::{Value, json};

fn committed_schemas() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../schemas/v1")
}

fn validator(name: &str) -> Validator {
    let schema = read_json(&committed_schemas().join(format!("{name}.schema.json")));
    jsonschema::draft202012::new(&schema).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn example_envelopes() -> Vec<(String, Value)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let paths = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let json = paths.filter(|path| path.extension().is_some_and(|extension| extension == "json"));
    json.map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), read_json(&path))).collect()
}

#[test]
fn committed_schemas_are_up_to_date() {
    let directory = tempfile::tempdir().unwrap();
    assert!(forge().args(["schema", "--write"]).arg(directory.path()).status().unwrap().success());
    let names = |directory: &Path| {
        let mut names: Vec<_> =
            fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let hint = "update them with: cargo run -p forge -- schema --write schemas/v1";
    assert_eq!(names(directory.path()), names(&committed_schemas()), "{hint}");
    for name in names(directory.path()) {
        let fresh = fs::read_to_string(directory.path().join(&name)).unwrap();
        let same = fresh == fs::read_to_string(committed_schemas().join(&name)).unwrap();
        assert!(same, "schemas/v1/{} is out of date; {hint}", name.display());
    }
}

#[test]
fn printed_and_written_schemas_are_equal() {
    let printed = forge().args(["schema", "envelope"]).output().unwrap().stdout;
    assert_eq!(printed, fs::read(committed_schemas().join("envelope.schema.json")).unwrap());
}

#[test]
fn artifacts_conform_to_their_schemas() {
    let sandbox = Sandbox::new();
    let eta = serde_json::from_str(include_str!("../../../examples/eta.json")).unwrap();
    let eta = with_value(with_value(eta, "/args/iterations", json!(1)), "/ctx/job_id", json!("eta"));
    for (job, envelope) in [("insurance", insurance_envelope("insurance")), ("eta", eta)] {
        let envelope = with_value(with_all_artifacts(envelope), "/policy/verify", json!("full"));
        sandbox.run(&envelope, &[]).expect_code(0);
        let assert_conforms = |document: &str, value: &Value| {
            let errors: Vec<_> = validator(document).iter_errors(value).map(|e| e.to_string()).collect();
            assert!(errors.is_empty(), "{document}: {errors:#?}");
        };
        for name in ["envelope", "result", "executions", "verification", "metrics", "plan"] {
            assert_conforms(name, &read_json(&sandbox.artifact(job, &format!("{name}.json"))));
        }
        assert_conforms("manifest", &sandbox.manifest(job));
        assert_conforms("log-entry", &read_json(&sandbox.store_path().join("log/00000000000000000001.json")));
        let profile = envelope["op"]["profile"].as_str().unwrap();
        assert_conforms(
            &format!("{profile}.args"),
            &read_json(&sandbox.artifact(job, "result.json"))["args"],
        );
    }
    sandbox
        .run(&with_value(insurance_envelope("gpu"), "/policy/target", json!("gpu")), &["--backend", "simd"])
        .expect_code(3);
    assert!(validator("error").is_valid(&sandbox.error("gpu")));
    assert!(!validator("error").is_valid(&sandbox.manifest("insurance")));
}

#[test]
fn example_envelopes_conform_to_the_schema() {
    let validator = validator("envelope");
    let examples = example_envelopes();
    assert!(examples.len() >= 4);
    for (name, example) in examples {
        let errors: Vec<_> = validator.iter_errors(&example).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{name}: {errors:#?}");
        Request::from_json(example.to_string().as_bytes()).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

/// Messages of parser rules that span several fields, which a schema does not express.
const CROSS_FIELD_RULES: [&str; 8] = [
    "is missing: give all of",
    "at least min_agents",
    "2^52 draws",
    "`var` and `tvar` require a level",
    "is not allowed with metric",
    "is too large: most amounts",
    "must be the name of an index",
    // The largest amount depends on `decimals`.
    "must be from 0.01 to 10000000000000;",
];

/// Values of every type, and numbers in and out of range.
fn replacements() -> [Value; 14] {
    [
        json!(null),
        json!(true),
        json!(0),
        json!(1),
        json!(-1),
        json!(0.5),
        json!(1e15),
        json!(""),
        json!("derived"),
        json!("any name"),
        json!([]),
        json!(["result_json", "result_json"]),
        json!({}),
        json!({"unknown": 1}),
    ]
}

/// Adds the JSON pointer of every member at any depth.
fn collect_pointers(value: &Value, pointer: &str, found: &mut Vec<String>) {
    let Value::Object(members) = value else { return };
    for (key, member) in members {
        let pointer = format!("{pointer}/{key}");
        found.push(pointer.clone());
        collect_pointers(member, &pointer, found);
    }
}

#[test]
fn schema_and_parser_agree() {
    let validator = validator("envelope");
    let (mut accepted, mut rejected, mut disagreements) = (0, 0, Vec::new());
    for (name, example) in example_envelopes() {
        let mut members = Vec::new();
        collect_pointers(&example, "", &mut members);
        let replaced = members.iter().flat_map(|pointer| {
            replacements().map(|value| {
                let mut changed = example.clone();
                let what = format!("{pointer} = {value}");
                *changed.pointer_mut(pointer).unwrap() = value;
                (what, changed)
            })
        });
        let removed = members.iter().map(|pointer| {
            let (parent, key) = pointer.rsplit_once('/').unwrap();
            let mut changed = example.clone();
            changed.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(key);
            (format!("without {pointer}"), changed)
        });
        for (what, changed) in replaced.chain(removed) {
            let errors =
                Request::from_json(changed.to_string().as_bytes()).err().map(|error| error.to_string());
            match (validator.is_valid(&changed), errors) {
                (true, None) => accepted += 1,
                (false, Some(_)) => rejected += 1,
                (true, Some(errors)) if CROSS_FIELD_RULES.iter().any(|rule| errors.contains(rule)) => {}
                (valid, errors) => {
                    disagreements.push(format!("{name} with {what}: schema: {valid}, parser: {errors:?}"));
                }
            }
        }
    }
    assert!(disagreements.is_empty(), "{}", disagreements.join("\n"));
    assert!(accepted > 100 && rejected > 500, "{accepted} accepted, {rejected} rejected");
}
