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

/// Pointers and messages of the errors of an envelope.
fn errors_of(envelope: &Value) -> Vec<(String, String)> {
    let errors = Request::from_json(envelope.to_string().as_bytes()).unwrap_err().into_errors();
    errors.into_iter().map(|error| (error.pointer, error.message)).collect()
}

#[test]
fn args_of_another_profile_are_one_error() {
    for owner in PROFILES {
        for given in PROFILES.iter().filter(|given| given.name != owner.name) {
            let mut envelope = example(owner);
            envelope["op"]["profile"] = json!(given.name);
            let message = format!(
                "is `{}`, but the args are those of `{}`: change one of them",
                given.name, owner.name
            );
            assert_eq!(errors_of(&envelope), [("/op/profile".to_owned(), message)]);
        }
    }
    // A key of the profile's own, or one of no profile, shows that the profile is meant.
    let mut envelope = example(PROFILES[0]);
    envelope["op"]["profile"] = json!("eta.v1");
    envelope["args"]["base_eta"] = json!(1);
    assert!(errors_of(&envelope).len() > 5);
    let unknown = json!({ "op": envelope["op"], "args": {"iterations": 1, "nothing": 2} });
    assert!(errors_of(&unknown).iter().all(|(pointer, _)| pointer.starts_with("/args/")));
}

/// Pointers of the warnings about an example with other args.
fn warnings_about(profile: &Profile, changes: &[(&str, Value)]) -> Vec<String> {
    let mut envelope = example(profile);
    for (name, value) in changes {
        envelope["args"][*name] = value.clone();
    }
    let request = Request::from_json(envelope.to_string().as_bytes()).unwrap();
    request.warnings().into_iter().map(|warning| warning.pointer).collect()
}

#[test]
fn suspicious_args_of_the_insurance_profile_cause_warnings() {
    let warnings = |changes: &[(&str, Value)]| warnings_about(PROFILES[0], changes);
    assert!(warnings(&[]).is_empty());
    assert_eq!(warnings(&[("policy_limit", json!(300_000))]), ["/args/policy_limit"]);
    // The median claim is 403, and all but a few exceed e^(6 - 3).
    assert_eq!(warnings(&[("policy_limit", json!(20))]), ["/args/policy_limit"]);
    assert!(warnings(&[("policy_limit", json!(21))]).is_empty());
    let unlimited = |name: &'static str, sigma: f64| {
        warnings(&[("policy_limit", Value::Null), ("aggregate_limit", Value::Null), (name, json!(sigma))])
    };
    assert_eq!(unlimited("cat_sig", 8.0), Vec::<String>::new());
    assert_eq!(
        warnings(&[("aggregate_limit", Value::Null), ("cat_mu", json!(25)), ("cat_sig", json!(4))]),
        ["/args/cat_sig"]
    );
    assert_eq!(unlimited("claim_severity_sig", 8.0), Vec::<String>::new());
    let large = [
        ("policy_limit", Value::Null),
        ("aggregate_limit", Value::Null),
        ("claim_severity_mu", json!(25)),
        ("claim_severity_sig", json!(4)),
    ];
    assert_eq!(warnings(&large), ["/args/claim_severity_sig"]);
}

#[test]
fn runs_of_hours_cause_a_warning() {
    for profile in PROFILES {
        let iterations = |count: u64| warnings_about(profile, &[("iterations", json!(count))]);
        assert!(iterations(1_000_000).is_empty(), "{}", profile.name);
        assert_eq!(iterations(10_000_000_000_000), ["/args/iterations"], "{}", profile.name);
        let convergence = json!({"metric": "mean", "relative_half_width": 0.01});
        let converging = [("iterations", json!(10_000_000_000_000u64)), ("convergence", convergence)];
        assert!(warnings_about(profile, &converging).is_empty(), "{}", profile.name);
    }
}

#[test]
fn tails_with_few_iterations_cause_a_warning() {
    let profile = PROFILES.into_iter().find(|profile| profile.name == "risk.compound.v1").unwrap();
    let warnings = |iterations: u64, capital: Value, report: Value| {
        warnings_about(
            profile,
            &[("iterations", json!(iterations)), ("capital", capital), ("report", report)],
        )
    };
    let of_report = |iterations: u64, report: &Value| warnings(iterations, Value::Null, report.clone());
    let (periods, levels) = (json!({"return_periods": [10, 5000]}), json!({"levels": [0.9, 0.9995]}));
    // Ten years are expected beyond the return period and the level.
    assert_eq!(of_report(49_999, &periods), ["/args/report/return_periods"]);
    assert!(of_report(50_000, &periods).is_empty());
    assert_eq!(of_report(19_999, &levels), ["/args/report/levels"]);
    assert!(of_report(20_000, &levels).is_empty());
    // The default lists have 1,000 years and 99.9%.
    assert!(of_report(100, &json!({})).is_empty());
    let capital = json!({"own_funds": 1e9, "level": 0.995});
    assert_eq!(warnings(1999, capital.clone(), json!({})), ["/args/capital/level"]);
    assert!(warnings(2000, capital, json!({})).is_empty());
}

#[test]
fn a_profile_that_is_nearly_right_is_named() {
    let mut envelope = example(PROFILES[0]);
    envelope["op"]["profile"] = json!("risk.compund.v1");
    let errors = errors_of(&envelope);
    let is_named = |(pointer, message): &(String, String)| {
        pointer == "/op/profile" && message.ends_with("did you mean `risk.compound.v1`?")
    };
    assert!(errors.iter().any(is_named), "{errors:?}");
}

#[test]
fn a_table_that_a_profile_does_not_write_causes_a_warning() {
    for profile in PROFILES {
        let mut envelope = example(profile);
        envelope["artifacts"] = json!({"include": ["result_json", "ept_csv"]});
        let request = Request::from_json(envelope.to_string().as_bytes()).unwrap();
        let pointers: Vec<_> = request.warnings().into_iter().map(|warning| warning.pointer).collect();
        let expected: &[&str] = if profile.vocabulary.return_periods { &[] } else { &["/artifacts/include"] };
        assert_eq!(pointers, expected, "{}", profile.name);
    }
}
