//! Requests built from an envelope equal those read from its JSON, and report the same errors.

use std::path::Path;

use forge_contract::{canonical::to_canonical_json, envelope::Envelope};
use forge_kernel::{
    request::Request,
    workload::{PROFILES, Profile},
};
use serde_json::{Value, json};

fn example(profile: &Profile) -> Value {
    let op = json!({ "name": profile.op, "version": profile.version, "profile": profile.name });
    json!({ "op": op, "args": (profile.example_args)() })
}

/// The profiles' examples and the files in `examples/`.
fn example_envelopes() -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let files = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let files = files.filter(|path| path.extension().is_some_and(|extension| extension == "json"));
    let files: Vec<_> = files.map(|path| std::fs::read(path).unwrap()).collect();
    assert!(!files.is_empty(), "examples/ holds envelopes");
    files.into_iter().chain(PROFILES.map(|profile| example(profile).to_string().into_bytes())).collect()
}

fn assert_same(a: &Request, b: &Request) {
    assert_eq!(a.envelope, b.envelope);
    assert_eq!(a.program, b.program);
    assert_eq!(a.program_digest, b.program_digest);
    assert_eq!(a.plan, b.plan);
    assert_eq!(a.replay_key, b.replay_key);
    assert_eq!(a.root_seed, b.root_seed);
    // Covers the profile and the model, which are private.
    assert_eq!(format!("{a:?}"), format!("{b:?}"));
}

#[test]
fn an_envelope_gives_the_request_of_its_json() {
    for json in example_envelopes() {
        let submitted = Request::from_json(&json).unwrap();
        assert_same(&Request::from_envelope(submitted.envelope.clone()).unwrap(), &submitted);
        let stored = to_canonical_json(&submitted.envelope).unwrap();
        let envelope: Envelope = serde_json::from_slice(&stored).unwrap();
        assert_same(&Request::from_envelope(envelope).unwrap(), &submitted);
    }
}

#[test]
fn an_envelope_with_invalid_args_gives_the_errors_of_its_json() {
    let nested = |depth: usize| (0..depth).fold(json!(1), |value, _| json!([value]));
    let changes = [
        ("/args/iterations", json!(0)),
        ("/args/iterations", json!("many")),
        ("/args/iterations", json!(u64::MAX)),
        ("/args/cat_prob", json!(null)),
        ("/args/claim_severity_mu", json!(-1e300)),
        ("/args/claim_severity_mu", json!(49)),
        ("/args/unknown", json!([1, { "a/b": i64::MIN }])),
        ("/args/unknown", nested(62)),
        ("/args/unknown", nested(63)),
        ("/args/convergence", json!({ "metric": "var", "relative_half_width": 0 })),
        ("/op/profile", json!("insurance.v0")),
        ("/op/version", json!(2)),
    ];
    for (pointer, value) in changes {
        let mut envelope = example(PROFILES[0]);
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        envelope.pointer_mut(parent).unwrap()[key] = value;
        if pointer == "/args/claim_severity_mu" {
            // Without limits, a median claim beyond the largest amount is rejected when the model
            // is compiled.
            envelope["args"]["policy_limit"] = Value::Null;
            envelope["args"]["aggregate_limit"] = Value::Null;
        }
        let submitted = Request::from_json(envelope.to_string().as_bytes()).unwrap_err();
        let mut draft = Request::from_json(example(PROFILES[0]).to_string().as_bytes()).unwrap().envelope;
        draft.op = serde_json::from_value(envelope["op"].clone()).unwrap();
        draft.args = envelope["args"].as_object().unwrap().clone();
        assert_eq!(Request::from_envelope(draft).unwrap_err(), submitted, "{pointer}");
    }
}
