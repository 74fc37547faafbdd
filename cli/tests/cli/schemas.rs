//! The JSON Schemas: committed ones are fresh, documents keep to them, and they agree with the parser.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::common::{Place, forge, insurance, keeping_all, read_json, with};
use forge_kernel::request::Request;
use jsonschema::Validator;
use serde_json::{Value, json};

fn committed() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../schemas/v1")
}

fn validator(name: &str) -> Validator {
    let schema = read_json(&committed().join(format!("{name}.schema.json")));
    jsonschema::draft202012::new(&schema).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn examples() -> Vec<(String, Value)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let paths = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let json = paths.filter(|path| path.extension().is_some_and(|extension| extension == "json"));
    json.map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), read_json(&path))).collect()
}

#[test]
fn committed_schemas_are_fresh() {
    let directory = tempfile::tempdir().unwrap();
    assert!(forge().args(["schema", "--write"]).arg(directory.path()).status().unwrap().success());
    let names = |directory: &Path| {
        let mut names: Vec<_> =
            fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let refresh = "refresh them with: cargo run -p forge -- schema --write schemas/v1";
    assert_eq!(names(directory.path()), names(&committed()), "{refresh}");
    for name in names(directory.path()) {
        let fresh = fs::read_to_string(directory.path().join(&name)).unwrap();
        let same = fresh == fs::read_to_string(committed().join(&name)).unwrap();
        assert!(same, "schemas/v1/{} is out of date; {refresh}", name.display());
    }
}

#[test]
fn a_printed_schema_is_the_written_one() {
    let printed = forge().args(["schema", "envelope"]).output().unwrap().stdout;
    assert_eq!(printed, fs::read(committed().join("envelope.schema.json")).unwrap());
}

#[test]
fn what_a_job_leaves_behind_keeps_to_its_schema() {
    let place = Place::new();
    let eta = serde_json::from_str(include_str!("../../../examples/eta.json")).unwrap();
    let eta = with(with(eta, "/args/iterations", json!(1)), "/ctx/job_id", json!("eta"));
    for (job, envelope) in [("insurance", insurance("insurance")), ("eta", eta)] {
        let envelope = with(keeping_all(envelope), "/policy/verify", json!("full"));
        place.run(&envelope, &[]).expect(0);
        let keeps = |document: &str, value: &Value| {
            let errors: Vec<_> = validator(document).iter_errors(value).map(|e| e.to_string()).collect();
            assert!(errors.is_empty(), "{document}: {errors:#?}");
        };
        for name in ["envelope", "result", "executions", "verification", "metrics", "plan"] {
            keeps(name, &read_json(&place.artifact(job, &format!("{name}.json"))));
        }
        keeps("manifest", &place.manifest(job));
        let profile = envelope["op"]["profile"].as_str().unwrap();
        keeps(&format!("{profile}.args"), &read_json(&place.artifact(job, "result.json"))["args"]);
    }
    place.run(&with(insurance("gpu"), "/policy/target", json!("gpu")), &["--backend", "simd"]).expect(3);
    assert!(validator("error").is_valid(&place.error("gpu")));
    assert!(!validator("error").is_valid(&place.manifest("insurance")));
}

#[test]
fn examples_keep_to_the_schema() {
    let validator = validator("envelope");
    let examples = examples();
    assert!(examples.len() >= 4);
    for (name, example) in examples {
        let errors: Vec<_> = validator.iter_errors(&example).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{name}: {errors:#?}");
        Request::from_json(example.to_string().as_bytes()).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

/// Rules over several fields, which the schema does not state.
const RULES_OF_THE_PARSER: [&str; 6] = [
    "given together",
    "at least min_agents",
    "2^52 draws",
    "`var` and `tvar` need a level",
    "must not be given with",
    "is so large",
];

/// Everything that can stand at a place, by type and by range.
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

fn pointers(value: &Value, pointer: &str, found: &mut Vec<String>) {
    let Value::Object(members) = value else { return };
    for (key, member) in members {
        let pointer = format!("{pointer}/{key}");
        found.push(pointer.clone());
        pointers(member, &pointer, found);
    }
}

#[test]
fn schema_and_parser_agree() {
    let validator = validator("envelope");
    let (mut accepted, mut refused) = (0, 0);
    for (name, example) in examples() {
        let mut places = Vec::new();
        pointers(&example, "", &mut places);
        let replaced = places.iter().flat_map(|place| {
            replacements().map(|value| {
                let mut changed = example.clone();
                *changed.pointer_mut(place).unwrap() = value;
                changed
            })
        });
        let removed = places.iter().map(|place| {
            let (parent, key) = place.rsplit_once('/').unwrap();
            let mut changed = example.clone();
            changed.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(key);
            changed
        });
        for changed in replaced.chain(removed) {
            let errors =
                Request::from_json(changed.to_string().as_bytes()).err().map(|error| error.to_string());
            match (validator.is_valid(&changed), errors) {
                (true, None) => accepted += 1,
                (false, Some(_)) => refused += 1,
                (true, Some(errors)) if RULES_OF_THE_PARSER.iter().any(|rule| errors.contains(rule)) => {}
                (valid, errors) => {
                    panic!("{name}: the schema says {valid}, the parser {errors:?} of {changed:#}")
                }
            }
        }
    }
    assert!(accepted > 100 && refused > 500, "{accepted} accepted, {refused} refused");
}
