//! Tests of the normal form, of every field's errors, and of the JSON Schema.

use proptest::prelude::*;
use serde_json::{Value, json};
use strum::VariantArray;

use super::*;
use crate::{
    canonical::to_canonical_json,
    error::InvalidDocument,
    strict::{self, Errors, ObjectReader},
};

const EXAMPLE: &str = r#"{
  "ctx": {"job_id": "quickstart-001", "run_id": null, "stage_id": null, "trace_id": null,
          "billing": {"mode": "test", "reason": "api"}},
  "op": {"name": "mc", "version": 1, "profile": "insurance.v1"},
  "args": {"iterations": 1000000, "claim_freq": 2.0},
  "policy": {"target": "any", "min_agents": 0, "max_agents": 0, "timeout_ms": 0, "verify": "none"},
  "seed": {"mode": "explicit", "value": "ROOT_SEED_QUICKSTART"},
  "artifacts": {"persist": true, "kv_namespace": "jobs",
                "include": ["result_json", "executions_json", "metrics_json", "ept_csv", "report_html"]}
}"#;

/// Reads an envelope as the kernel does, with a profile that accepts any args.
fn read(bytes: &[u8]) -> Result<Envelope, InvalidDocument> {
    let root = strict::parse(bytes)?;
    let mut errors = Errors::new();
    let EnvelopeDraft { mut envelope, args } = Envelope::read(&root, &mut errors);
    if let Some(Value::Object(args)) = args.map(strict::Node::to_value) {
        envelope.args = args;
    }
    errors.into_result(envelope)
}

fn read_value(value: &Value) -> Result<Envelope, InvalidDocument> {
    read(&serde_json::to_vec(value).unwrap())
}

/// A minimal envelope with the members of `extra` added.
fn with(extra: Value) -> Value {
    let mut value =
        json!({"op": {"name": "mc", "version": 1, "profile": "insurance.v1"}, "args": {"iterations": 1}});
    for (key, member) in extra.as_object().unwrap() {
        value[key] = member.clone();
    }
    value
}

fn canonical(value: &Value) -> String {
    String::from_utf8(to_canonical_json(&read_value(value).unwrap()).unwrap()).unwrap()
}

/// The errors of a minimal envelope with `extra`, one per line.
fn errors(extra: Value) -> String {
    read_value(&with(extra)).unwrap_err().to_string()
}

#[test]
fn the_example_is_valid() {
    let envelope = read(EXAMPLE.as_bytes()).unwrap();
    assert_eq!(envelope.ctx.job_id, Some("quickstart-001".parse().unwrap()));
    assert_eq!(envelope.op, Op { name: "mc".into(), version: 1, profile: "insurance.v1".into() });
    assert_eq!(envelope.seed, Seed::Explicit { value: "ROOT_SEED_QUICKSTART".into() });
    assert_eq!(envelope.policy, Policy::default());
    assert_eq!(envelope.artifacts, Artifacts::default());

    let file = include_bytes!("../../../../examples/insurance.json");
    assert_eq!(read(file).unwrap().args["policy_limit"], 50000);
}

#[test]
fn the_normal_form_writes_defaults_and_omits_absent_fields() {
    assert_eq!(
        canonical(&with(json!({}))),
        concat!(
            r#"{"args":{"iterations":1},"#,
            r#""artifacts":{"include":["result_json","executions_json","metrics_json","ept_csv","report_html"],"#,
            r#""kv_namespace":"jobs","persist":true},"ctx":{"billing":{"mode":"test","reason":"api"}},"#,
            r#""op":{"name":"mc","profile":"insurance.v1","version":1},"#,
            r#""policy":{"max_agents":0,"min_agents":0,"target":"any","timeout_ms":0,"verify":"none"},"#,
            r#""seed":{"mode":"derived"}}"#
        )
    );
}

#[test]
fn omitted_and_written_defaults_are_the_same_bytes() {
    let minimal = canonical(&with(json!({})));
    let spellings = [
        json!({"ctx": null, "policy": null, "seed": null, "artifacts": null}),
        json!({"ctx": {}, "policy": {}, "seed": {}, "artifacts": {}}),
        json!({"ctx": {"billing": {}, "run_id": null}, "seed": {"mode": "derived", "value": null}}),
        json!({"ctx": {"billing": {"mode": "test", "reason": "api"}}, "policy": {"timeout_ms": 0.0, "verify": "none"}}),
        json!({"artifacts": {"include": ["report_html", "metrics_json", "result_json", "ept_csv", "executions_json"]}}),
        json!({"policy": {"target": null, "min_agents": null, "verify_ratio": null}}),
        json!({"$schema": "https://example.com/envelope.schema.json"}),
        json!({"about": null}),
        json!({"about": {}}),
        json!({"about": {"title": null, "currency": null}}),
    ];
    for extra in spellings {
        assert_eq!(canonical(&with(extra.clone())), minimal, "{extra}");
    }
}

#[test]
fn the_digest_ignores_the_job_id() {
    let digest = |extra: Value| read_value(&with(extra)).unwrap().digest().unwrap();
    let first = digest(json!({}));
    assert_eq!(first, digest(json!({"ctx": {"job_id": "a"}})));
    assert_eq!(first, digest(json!({"seed": {"mode": "derived"}})));
    for other in [
        json!({"ctx": {"run_id": "a"}}),
        json!({"about": {"title": "a"}}),
        json!({"args": {"iterations": 2}}),
        json!({"policy": {"timeout_ms": 1}}),
        json!({"seed": {"mode": "explicit", "value": "a"}}),
    ] {
        assert_ne!(first, digest(other.clone()), "{other}");
    }
}

#[test]
fn about_is_text_without_effects_a_currency_and_a_date() {
    let accepted = |about: Value| read_value(&with(json!({ "about": about }))).is_ok();
    for about in [
        json!({"title": "保".repeat(200), "author": "Actuarial function <b>&amp;"}),
        json!({"description": format!("One.\n\nTwo: {}", "x".repeat(3989))}),
        json!({"currency": "EUR", "as_of": "2024-02-29"}),
        json!({"as_of": "0001-01-01"}),
        json!({"as_of": "2000-02-29"}),
    ] {
        assert!(accepted(about.clone()), "{about}");
    }
    for (member, value) in [
        ("title", json!("")),
        ("title", json!("x".repeat(201))),
        ("title", json!("two\nlines")),
        ("title", json!("\u{1b}[2J")),
        ("title", json!("a\u{202e}b")),
        ("title", json!("a\u{2067}b")),
        ("author", json!("a\u{2028}b")),
        ("author", json!(["a"])),
        ("description", json!("a\tb")),
        ("description", json!("x".repeat(4001))),
        ("currency", json!("eur")),
        ("currency", json!("EURO")),
        ("currency", json!("€")),
        ("as_of", json!("2026-02-29")),
        ("as_of", json!("1900-02-29")),
        ("as_of", json!("2026-13-01")),
        ("as_of", json!("2026-04-31")),
        ("as_of", json!("2026-01-00")),
        ("as_of", json!("0000-01-01")),
        ("as_of", json!("31.12.2026")),
        ("as_of", json!("2026-1-1")),
        ("as_of", json!(20_261_231)),
        ("name", json!("a")),
    ] {
        let error = errors(json!({"about": {member: value}}));
        assert!(error.starts_with(&format!("/about/{member}: ")), "{error}");
    }
    assert_eq!(
        errors(json!({"about": {"as_of": "2026-02-29"}})),
        "/about/as_of: must be a date of the calendar as YYYY-MM-DD, such as \"2026-12-31\"; it is \"2026-02-29\""
    );
}

#[test]
fn documents_that_are_not_envelopes_are_rejected() {
    assert_eq!(read(b"[]").unwrap_err().to_string(), "document: must be an object, not an array");
    assert_eq!(
        read(b"{}").unwrap_err().to_string(),
        "/op: is missing: an object is required\n/args: is missing: an object is required"
    );
    assert_eq!(errors(json!({"args": [1]})), "/args: must be an object, not an array");
    assert_eq!(errors(json!({"args": null})), "/args: is missing: an object is required");
    assert_eq!(errors(json!({"artefacts": {}})), "/artefacts: is not a known key: did you mean `artifacts`?");
}

#[test]
fn op_fields_are_checked_for_form() {
    let wanted = "a string of 1 to 64 of the characters a-z, 0-9, _, . and -";
    assert_eq!(
        errors(json!({"op": {}})),
        format!(
            "/op/name: is missing: {wanted} is required\n\
             /op/version: is missing: a whole number from 1 to 4294967295 is required\n\
             /op/profile: is missing: {wanted} is required"
        )
    );
    assert_eq!(
        errors(json!({"op": {"name": "MC", "version": "1", "profile": ""}})),
        format!(
            "/op/name: must be {wanted}; it is \"MC\"\n\
             /op/version: must be a whole number from 1 to 4294967295, not a string\n\
             /op/profile: must be {wanted}; it is \"\""
        )
    );
}

#[test]
fn ctx_fields_are_checked_for_form() {
    let good = json!({"ctx": {"job_id": "a-B_9", "run_id": "r/1 x", "stage_id": "~",
        "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736", "billing": {"mode": "billable", "reason": "studio_run"}}});
    let ctx = read_value(&with(good)).unwrap().ctx;
    assert_eq!(ctx.billing, Billing { mode: BillingMode::Billable, reason: BillingReason::StudioRun });
    assert_eq!(ctx.trace_id.unwrap().len(), 32);

    let label = "a string of 1 to 128 printable ASCII characters";
    let trace = "a W3C trace id: 32 lower-case hexadecimal digits, not all of them zero";
    let zeros = "0".repeat(32);
    assert_eq!(
        errors(json!({"ctx": {"job_id": "a.b", "run_id": "é", "stage_id": "", "trace_id": zeros,
            "billing": {"mode": "free", "reason": 1}, "user": "x"}})),
        format!(
            "/ctx/job_id: must be a string of 1 to 64 of the characters A-Z, a-z, 0-9, _ and -; it is \"a.b\"\n\
             /ctx/run_id: must be {label}; it is \"é\"\n\
             /ctx/stage_id: must be {label}; it is \"\"\n\
             /ctx/trace_id: must be {trace}; it is \"{zeros}\"\n\
             /ctx/billing/mode: must be \"billable\" or \"test\"; it is \"free\"\n\
             /ctx/billing/reason: must be \"api\", \"studio_run\", \"lab\" or \"internal\", not a number\n\
             /ctx/user: is not a known key: the known keys are `job_id`, `run_id`, `stage_id`, `trace_id`, `billing`"
        )
    );
    let upper = json!({"ctx": {"trace_id": "4BF92F3577B34DA6A3CE929D0E0E4736"}});
    assert!(errors(upper).starts_with("/ctx/trace_id: must be a W3C trace id"));
}

#[test]
fn policy_fields_are_checked_for_range() {
    assert_eq!(
        errors(json!({"policy": {"target": "fpga", "min_agents": -1, "max_agents": 1_000_001,
            "timeout_ms": 2_592_000_001_u64, "verify": true, "verify_ratio": 1.5}})),
        "/policy/target: must be \"cpu\", \"gpu\" or \"any\"; it is \"fpga\"\n\
         /policy/min_agents: must be a whole number from 0 to 1000000; it is -1\n\
         /policy/max_agents: must be a whole number from 0 to 1000000; it is 1000001\n\
         /policy/timeout_ms: must be a whole number from 0 to 2592000000; it is 2592000001\n\
         /policy/verify: must be \"none\", \"spotcheck\" or \"full\", not a boolean\n\
         /policy/verify_ratio: must be from 0 to 1; it is 1.5"
    );
    assert_eq!(
        errors(json!({"policy": {"min_agents": 5, "max_agents": 4}})),
        "/policy/max_agents: must be 0 (no maximum) or at least min_agents, 5; it is 4"
    );
    for (min, max) in [(5, 5), (5, 0), (0, 1)] {
        read_value(&with(json!({"policy": {"min_agents": min, "max_agents": max}}))).unwrap();
    }
}

#[test]
fn the_seed_mode_determines_whether_a_value_is_allowed() {
    let wanted = "a string of 1 to 1024 bytes";
    let cases = [
        (json!({"mode": "explicit"}), format!("/seed/value: is missing: {wanted} is required")),
        (
            json!({"mode": "explicit", "value": null}),
            format!("/seed/value: is missing: {wanted} is required"),
        ),
        (json!({"mode": "explicit", "value": ""}), format!("/seed/value: must be {wanted}; it is \"\"")),
        (json!({"mode": "explicit", "value": 7}), format!("/seed/value: must be {wanted}, not a number")),
        (
            json!({"mode": "random", "value": "x"}),
            "/seed/mode: must be \"derived\" or \"explicit\"; it is \"random\"".into(),
        ),
    ];
    for (seed, message) in cases {
        assert_eq!(errors(json!({"seed": seed})), message);
    }
    let unwanted = "/seed/value: is not allowed with mode \"derived\": omit it, or set mode to \"explicit\"";
    for seed in [json!({"mode": "derived", "value": "x"}), json!({"value": "x"}), json!({"value": 1})] {
        assert_eq!(errors(json!({"seed": seed})), unwanted);
    }
    for (seed, kind) in [(json!(42), "a number"), (json!("42"), "a string")] {
        let form = r#"write {"mode":"explicit","value":"42"}"#;
        assert_eq!(errors(json!({"seed": seed})), format!("/seed: must be an object, not {kind}: {form}"));
    }
    let long = errors(json!({"seed": {"mode": "explicit", "value": "é".repeat(513)}}));
    assert!(long.ends_with("… (1026 bytes)"), "{long}");
    read_value(&with(json!({"seed": {"mode": "explicit", "value": "é".repeat(512)}}))).unwrap();
}

#[test]
fn artifacts_are_checked_against_the_list() {
    let artifacts =
        json!({"persist": false, "kv_namespace": "my_jobs", "include": ["report_html", "result_json"]});
    let read = read_value(&with(json!({"artifacts": artifacts}))).unwrap().artifacts;
    assert_eq!(read.include, [ArtifactKind::ResultJson, ArtifactKind::ReportHtml]);
    assert_eq!(canonical(&with(json!({"artifacts": {"include": []}}))).matches(r#""include":[]"#).count(), 1);
    let found = errors(json!({"artifacts": {"persist": "yes", "kv_namespace": "a.b", "include":
        ["ept_csv", "plan_jsn", "ept_csv"]}}));
    let lines: Vec<_> = found.lines().collect();
    assert_eq!(lines.len(), 4, "{found}");
    assert_eq!(lines[0], "/artifacts/persist: must be true or false, not a string");
    assert!(
        lines[1].starts_with("/artifacts/kv_namespace: must be a string of 1 to 64 of the characters"),
        "{found}"
    );
    assert!(lines[2].starts_with("/artifacts/include/1: must be \"result_json\", "), "{found}");
    assert!(lines[2].ends_with("it is \"plan_jsn\": did you mean \"plan_json\"?"), "{found}");
    assert_eq!(lines[3], "/artifacts/include/2: repeats /artifacts/include/0: remove one of them");
}

#[test]
fn several_errors_are_reported_together() {
    let value =
        with(json!({"op": 1, "args": "x", "policy": {"target": 3}, "sed": {}, "artifacts": [], "seed": "x"}));
    let invalid = read_value(&value).unwrap_err();
    let pointers: Vec<_> = invalid.errors().iter().map(|error| error.pointer.as_str()).collect();
    assert_eq!(pointers, ["/op", "/policy/target", "/seed", "/artifacts", "/args", "/sed"]);
}

#[test]
fn errors_of_args_are_reported_with_the_others() {
    let root = strict::parse(br#"{"op": {"name": "mc", "version": 0, "profile": "p"}, "args": {"rate": 9}}"#)
        .unwrap();
    let mut errors = Errors::new();
    let draft = Envelope::read(&root, &mut errors);
    let mut args = ObjectReader::open(draft.args.unwrap(), "/args", &mut errors).unwrap();
    args.required_number("rate", 0.0..=1.0);
    args.finish();
    assert_eq!(
        errors.into_result(draft.envelope).unwrap_err().to_string(),
        "/op/version: must be a whole number from 1 to 4294967295; it is 0\n\
         /args/rate: must be from 0 to 1; it is 9"
    );
}

fn schema() -> Value {
    schemars::schema_for!(Envelope).to_value()
}

#[test]
fn the_schema_rejects_unknown_keys_and_lists_required_ones() {
    let schema = schema();
    assert_eq!(schema["required"], json!(["op", "args"]));
    assert_eq!(schema["additionalProperties"], false);
    for (name, definition) in schema["$defs"].as_object().unwrap() {
        if definition["type"] == "object" {
            assert_eq!(definition["additionalProperties"], false, "{name}");
        }
    }
    assert_eq!(schema["$defs"]["Op"]["required"], json!(["name", "version", "profile"]));
    for optional in ["About", "Context", "Billing", "Policy", "Seed", "Artifacts"] {
        assert!(schema["$defs"][optional]["required"].is_null(), "{optional}");
    }
}

#[test]
fn the_schema_states_defaults_ranges_and_null() {
    let schema = schema();
    let property = |of: &str, name: &str| schema["$defs"][of]["properties"][name].clone();
    assert_eq!(property("Policy", "min_agents")["default"], 0);
    assert_eq!(property("Policy", "min_agents")["maximum"], 1_000_000);
    assert_eq!(property("Policy", "timeout_ms")["type"], json!(["integer", "null"]));
    assert_eq!(property("Policy", "timeout_ms")["maximum"], 2_592_000_000_u64);
    assert_eq!(property("Policy", "verify_ratio")["maximum"], 1);
    assert_eq!(property("Policy", "target")["default"], "any");
    assert_eq!(property("Policy", "target")["anyOf"][1]["type"], "null");
    assert_eq!(property("Artifacts", "persist")["default"], true);
    assert_eq!(
        property("Artifacts", "include")["default"],
        json!(["result_json", "executions_json", "metrics_json", "ept_csv", "report_html"])
    );
    assert_eq!(property("Context", "billing")["default"], json!({"mode": "test", "reason": "api"}));
    assert_eq!(schema["properties"]["seed"]["default"], json!({"mode": "derived"}));
    assert_eq!(schema["properties"]["policy"]["anyOf"][1]["type"], "null");
    assert_eq!(schema["properties"]["args"]["type"], "object");
}

#[test]
fn every_property_and_choice_of_the_schema_is_described() {
    fn check(path: &str, value: &Value) {
        if let Some(properties) = value["properties"].as_object()
            && value["type"] == "object"
        {
            for (name, property) in properties {
                assert!(property["description"].is_string(), "{path}/{name}");
            }
        }
        if value["const"].is_string() {
            assert!(value["description"].is_string(), "{path}");
        }
        assert!(value["enum"].is_null(), "{path}: choices without descriptions");
        match value {
            Value::Object(members) => members
                .iter()
                .filter(|(key, _)| !matches!(key.as_str(), "if" | "then" | "else" | "not"))
                .for_each(|(key, member)| check(&format!("{path}/{key}"), member)),
            Value::Array(items) => items.iter().for_each(|item| check(path, item)),
            _ => {}
        }
    }
    check("", &schema());
}

fn any_valid() -> impl Strategy<Value = Value> {
    let ctx = (
        prop::option::of("[A-Za-z0-9_-]{1,64}"),
        prop::option::of("[ -~]{1,128}"),
        prop::option::of("[1-9a-f][0-9a-f]{31}"),
        prop::option::of(prop::sample::select(vec!["billable", "test"])),
    )
        .prop_map(|(job, run, trace, mode)| {
            json!({"job_id": job, "run_id": run, "stage_id": run, "trace_id": trace, "billing": {"mode": mode}})
        });
    let policy = (0..=1_000_000_u32, 0..=2_592_000_000_u64, prop::option::of(0.0..=1.0_f64)).prop_map(
        |(agents, timeout, ratio)| {
            json!({"min_agents": agents, "max_agents": agents, "timeout_ms": timeout, "verify_ratio": ratio})
        },
    );
    let seed = prop_oneof![
        Just(json!({"mode": "derived"})),
        any::<String>()
            .prop_filter("1 to 1024 bytes", |text| (1..=1024).contains(&text.len()))
            .prop_map(|value| json!({"mode": "explicit", "value": value})),
    ];
    let kinds =
        vec!["result_json", "plan_json", "ept_csv", "report_html", "verification_json", "metrics_json"];
    let include = prop::sample::subsequence(kinds, 0..=6).prop_shuffle();
    let args = prop::collection::btree_map(any::<String>(), -1e15..1e15_f64, 0..6);
    let about = (prop::option::of("[a-zé保 ]{1,200}"), prop::option::of("[a-z\n]{1,100}"), "[A-Z]{3}").prop_map(
        |(title, description, currency)| {
            json!({"title": title, "description": description, "currency": currency, "as_of": "2026-12-31"})
        },
    );
    (ctx, policy, seed, include, args, about).prop_map(|(ctx, policy, seed, include, args, about)| {
        with(json!({"ctx": ctx, "policy": policy, "seed": seed, "artifacts": {"include": include}, "args": args,
                    "about": about}))
    })
}

#[test]
fn choices_are_named_as_they_serialise() {
    fn check<T: VariantArray + Copy + Into<&'static str> + serde::Serialize>() {
        for &variant in T::VARIANTS {
            assert_eq!(serde_json::to_value(variant).unwrap(), Into::<&str>::into(variant));
        }
    }
    check::<ArtifactKind>();
    check::<BillingMode>();
    check::<BillingReason>();
    check::<Target>();
    check::<VerificationLevel>();
}

proptest! {
    /// Both the strict reader and serde read the normal form of a valid envelope as the same
    /// envelope.
    #[test]
    fn the_normal_form_of_a_valid_envelope_reads_as_itself(value in any_valid()) {
        let envelope = read_value(&value).unwrap();
        let stored = to_canonical_json(&envelope).unwrap();
        prop_assert_eq!(&read(&stored).unwrap(), &envelope);
        prop_assert_eq!(&serde_json::from_slice::<Envelope>(&stored).unwrap(), &envelope);
        prop_assert_eq!(read(&stored).unwrap().digest(), envelope.digest());
    }
}
