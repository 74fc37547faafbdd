//! Invalid envelopes: each spoils a valid one in one place.

use fastrand::Rng;
use serde_json::{Value, json};

/// A change that makes an envelope invalid, by name.
type Mutation = (&'static str, fn(&mut Value));

/// Changes of members.
const MUTATIONS: [Mutation; 12] = [
    ("a negative number", |envelope| envelope["args"]["iterations"] = json!(-1)),
    ("a fraction", |envelope| envelope["args"]["iterations"] = json!(1.5)),
    ("an inexact number", |envelope| envelope["args"]["iterations"] = json!(1u64 << 60)),
    ("another type", |envelope| envelope["policy"] = json!([envelope["policy"].take()])),
    ("an unknown member", |envelope| envelope["policy"]["max_agent"] = json!(1)),
    ("an unknown operation", |envelope| envelope["op"]["version"] = json!(2)),
    ("an unknown profile", |envelope| envelope["op"]["profile"] = json!("insurance.v9")),
    ("an unknown namespace", |envelope| envelope["artifacts"]["kv_namespace"] = json!("attic")),
    ("a minimum above the maximum", |envelope| {
        envelope["policy"]["min_agents"] = json!(3);
        envelope["policy"]["max_agents"] = json!(2);
    }),
    ("a time limit of a year", |envelope| envelope["policy"]["timeout_ms"] = json!(31_536_000_000u64)),
    ("an id with a space", |envelope| envelope["ctx"]["job_id"] = json!("job 1")),
    ("a value of a derived seed", |envelope| envelope["seed"] = json!({"mode": "derived", "value": "x"})),
];

/// Changes of the text.
const TEXT_MUTATIONS: [fn(String) -> String; 4] = [
    // A duplicate member.
    |text| text.replacen('{', r#"{"op": null, "#, 1),
    |text| text[..text.len() / 2].to_owned(),
    |text| {
        text.replacen(r#""args":"#, &format!(r#""args":{}{},"more":"#, "[".repeat(200), "]".repeat(200)), 1)
    },
    |text| format!("{text}\u{0}"),
];

/// Draws one of the ways to spoil an envelope. Returns its text.
pub fn spoil(rng: &mut Rng, envelope: Value) -> String {
    spoil_by(rng.usize(0..MUTATIONS.len() + TEXT_MUTATIONS.len()), envelope)
}

fn spoil_by(number: usize, mut envelope: Value) -> String {
    if let Some((_, mutate)) = MUTATIONS.get(number) {
        mutate(&mut envelope);
        return envelope.to_string();
    }
    TEXT_MUTATIONS[number - MUTATIONS.len()](envelope.to_string())
}

#[test]
fn every_mutation_is_refused() {
    use crate::workload::{MODELS, valid_envelope};
    use forge_kernel::request::Request;

    for number in 0..MUTATIONS.len() + TEXT_MUTATIONS.len() {
        let text = spoil_by(number, valid_envelope());
        let request = Request::from_json_with(text.as_bytes(), &**MODELS);
        // Only the settings of an installation tell which namespaces exist.
        let name = MUTATIONS.get(number).map_or("a text", |(name, _)| name);
        let is_refused = request.is_err() || name == "an unknown namespace";
        assert!(is_refused, "{name}: {text}");
    }
}
