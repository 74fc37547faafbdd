//! Every field of every document is changed in several ways, and everything is hashed and signed
//! again by a forger who has the keys of the aggregator, of all agents and of all verifiers. Each
//! change fails the audit, or the report names the field as not compared.

use std::{collections::BTreeSet, fs, path::Path, sync::Mutex, thread};

use forge_contract::{
    agent::Identity,
    artifact::{Execution, ManifestDocument},
    attestation::ResultStatement,
    canonical::to_canonical_json,
    digest::Digest,
    verdict::VerdictStatement,
};
use serde_json::{Map, Value, json};

use crate::{
    common::{CommandOutput, Sandbox, forge, insurance_envelope, read_json, with_value},
    forgery::{JOB, edit_manifest, replace_artifact, sign_manifest, write_manifest},
    verdicts::{agent, aggregator, liar, verified_job_of, verifier},
};

/// A job, its audit, and the documents to change.
struct MutationCase {
    envelope: fn() -> Value,
    /// Ways in which a field is changed, at most.
    max_changes: usize,
    include: &'static [&'static str],
    run: &'static [&'static str],
    audit: &'static [&'static str],
    documents: &'static [&'static str],
    /// What may be changed: document, pointer, and the check that names it as not compared.
    free: &'static [FreeField],
}

type FreeField = (&'static str, &'static str, &'static str);

/// What depends on nothing else, whatever was kept.
const ALWAYS_FREE: &[FreeField] = &[
    ("executions.json", "/executions/*/wall_ms", "executions.json reports"),
    ("executions.json", "/executions/*/adapter", "executions.json reports"),
    ("metrics.json", "/forge_version", "metrics.json reports"),
    ("metrics.json", "/plan_ms", "metrics.json reports"),
    ("verification.json", "/checked/*/statement/agent_id", "verification.json reports"),
    ("verification.json", "/checked/*/statement/pool", "verification.json reports"),
    ("verification.json", "/checked/*/statement/verifier_id", "signers"),
    ("verification.json", "/refuted/*/statement/verifier_id", "signers"),
    ("verification.json", "/refuted/*/statement/agent_id", "verification.json reports"),
    ("verification.json", "/refuted/*/statement/reason", "verification.json reports"),
    ("verification.json", "/refuted/*/statement/backend", "verification.json reports"),
    ("verification.json", "/refuted/*/statement/adapter", "verification.json reports"),
    ("verification.json", "/refuted/*/statement/result_hash", "verification.json reports"),
    ("verification.json", "/contradictions", "verification.json reports"),
    ("verification.json", "/contradictions/*/wall_us", "verification.json reports"),
    ("verification.json", "/contradictions/*/cpu_us", "verification.json reports"),
    ("verification.json", "/contradictions/*/statement/pool", "verification.json reports"),
    ("verification.json", "/contradictions/*/statement/agent_id", "verification.json reports"),
    ("verification.json", "/contradictions/*/statement/backend", "verification.json reports"),
    ("verification.json", "/contradictions/*/statement/adapter", "verification.json reports"),
    ("verification.json", "/contradictions/*/statement/result_hash", "verification.json reports"),
];

/// What a run does not change, although it lies among its figures.
const NEVER_FREE: [&str; 3] = ["/level", "/return_period", "/name"];

const KEPT: MutationCase = MutationCase {
    envelope: insurance,
    max_changes: usize::MAX,
    include: &["result_json", "executions_json", "metrics_json", "verification_json", "plan_json"],
    run: &[],
    audit: &[],
    documents: &[
        "manifest.json",
        "envelope.json",
        "executions.json",
        "metrics.json",
        "verification.json",
        "plan.json",
    ],
    free: &[],
};

/// Figures are free without shard results, their names are not.
const WITHOUT_SHARDS: MutationCase = MutationCase {
    envelope: insurance,
    max_changes: usize::MAX,
    include: &["result_json"],
    run: &["--keep-shards=0"],
    audit: &[],
    documents: &["result.json", "manifest.json"],
    free: &[
        ("result.json", "/output/", "result.json figures"),
        ("result.json", "/work/", "result.json figures"),
        ("manifest.json", "/job_uid", "job uid and key"),
        ("manifest.json", "/job_key", "job uid and key"),
        ("manifest.json", "/merkle_root", "Merkle root"),
    ],
};

const WITHOUT_EXECUTIONS: MutationCase = MutationCase {
    envelope: insurance,
    max_changes: usize::MAX,
    include: &["metrics_json", "verification_json"],
    run: &["--keep-shards=0"],
    audit: &[],
    documents: &["metrics.json", "verification.json", "manifest.json"],
    free: &[
        ("metrics.json", "/threads", "metrics.json reports"),
        ("metrics.json", "/backend", "metrics.json reports"),
        ("metrics.json", "/cpu_ms", "metrics.json reports"),
        ("metrics.json", "/occurrences", "metrics.json reports"),
        ("verification.json", "/refuted/*/statement/correct", "verification.json results"),
        ("verification.json", "/pairs/*/primary", "verification.json backends"),
        ("manifest.json", "/result", "result.json figures"),
        ("manifest.json", "/merkle_root", "Merkle root"),
    ],
};

/// The same with all shards executed again: the manifest's hashes are compared with theirs.
const EXECUTED_AGAIN: MutationCase = MutationCase {
    audit: &["--full", "--backend", "simd"],
    documents: &["manifest.json"],
    free: &[],
    ..WITHOUT_EXECUTIONS
};

/// A portfolio has many more figures, and names of everything that they are about.
const PORTFOLIO: MutationCase =
    MutationCase { envelope: portfolio, max_changes: 1, documents: &["result.json"], ..WITHOUT_SHARDS };

fn insurance() -> Value {
    with_value(insurance_envelope(JOB), "/args/iterations", json!(200_000))
}

/// With every kind of group, treaty and table.
fn portfolio() -> Value {
    let args = json!({"iterations": 200_000, "decimals": 2, "lines": ["property", "motor"],
        "groups": [
            {"name": "attritional", "annual": [{"line": "motor", "amount": {"gamma": {"mean": 400, "cv": 0.2}}}]},
            {"name": "large", "count": {"poisson": {"mean": 1}}, "claims": [
                {"line": "property", "severity": {"lognormal": {"mean": 300, "cv": 1}}, "limit": 2000,
                 "index": "inflation"}]},
            {"name": "storm", "count": {"negative_binomial": {"mean": 0.5, "contagion": 0.2}}, "strikes": [
                {"line": "property", "severity": {"lognormal": {"mean": 500, "cv": 1}}},
                {"line": "motor", "severity": {"lognormal": {"mean": 50, "cv": 1}}, "rank": "same"}]}],
        "indices": [{"name": "inflation", "lognormal": {"mean": 1, "cv": 0.04}}],
        "treaties": [
            {"name": "QS", "step": 1, "kind": "quota_share", "covers": ["motor"], "cession": 0.2, "premium": 100,
             "commission": 0.25},
            {"name": "Cat", "step": 2, "kind": "occurrence_xl", "covers": ["property", "motor"],
             "groups": ["storm"], "limit": 400, "attachment": 300, "placed": 0.9, "reinstatements": [1.0],
             "premium": 60},
            {"name": "SL", "step": 3, "kind": "aggregate_xl", "covers": ["property", "motor"], "limit": 500,
             "attachment": 1500}],
        "capital": {"own_funds": 4000, "measure": "var", "level": 0.995},
        "report": {"allocation": true, "return_periods": [10, 200], "levels": [0.9, 0.995]}});
    json!({"ctx": {"job_id": JOB}, "op": {"name": "mc", "version": 1, "profile": "risk.compound.v1"},
        "args": args, "seed": {"mode": "explicit", "value": "A_SEED"}})
}

/// One changed document.
struct Mutation {
    document: &'static str,
    /// Pointer to what was changed, with `*` for indices.
    field: String,
    content: Value,
}

fn mutations(base: &Sandbox, case: &MutationCase) -> Vec<Mutation> {
    let mut all = Vec::new();
    for &document in case.documents {
        let original = match document {
            "manifest.json" => base.manifest(JOB),
            _ => read_json(&base.artifact(JOB, document)),
        };
        let mut seen = BTreeSet::new();
        for pointer in pointers(&original) {
            let token =
                |token: &str| if token.parse::<u64>().is_ok() { "*".to_owned() } else { token.to_owned() };
            let field = pointer.split('/').map(token).collect::<Vec<_>>().join("/");
            if !seen.insert(field.clone()) {
                continue;
            }
            let changes = changes(original.pointer(&pointer).unwrap());
            for (added, value) in changes.into_iter().take(case.max_changes) {
                let mut content = original.clone();
                *content.pointer_mut(&pointer).unwrap() = value;
                let field = added.map_or_else(|| field.clone(), |name| format!("{field}/{name}"));
                if content == original {
                    continue;
                }
                all.push(Mutation { document, field, content });
            }
        }
    }
    all
}

fn pointers(value: &Value) -> Vec<String> {
    let children: Vec<_> = match value {
        Value::Object(members) => members.iter().map(|(key, value)| (key.clone(), value)).collect(),
        Value::Array(items) => items.iter().enumerate().map(|(i, value)| (i.to_string(), value)).collect(),
        _ => Vec::new(),
    };
    let below = |(key, value): &(String, &Value)| {
        pointers(value).into_iter().map(|pointer| format!("/{key}{pointer}")).collect::<Vec<_>>()
    };
    [vec![String::new()], children.iter().flat_map(below).collect()].concat()
}

/// Other values in place of one; with the name of a field if one is added.
fn changes(value: &Value) -> Vec<(Option<&'static str>, Value)> {
    let in_place = |values: Vec<Value>| values.into_iter().map(|value| (None, value)).collect::<Vec<_>>();
    match value {
        Value::Null => in_place(vec![json!(1)]),
        Value::Bool(flag) => in_place(vec![json!(!flag)]),
        Value::Number(number) => {
            let n = number.as_f64().unwrap();
            let nearby = number.as_u64().map_or_else(|| json!(n * 1.5), |n| json!(n + 1));
            in_place(vec![nearby, json!(-n - 1.0), json!(number.to_string())])
        }
        Value::String(text) => {
            let (body, last) = text.split_at(text.len().saturating_sub(1));
            let other = if last == "0" { "1" } else { "0" };
            let other_key = if text == liar().id().as_str() { agent() } else { liar() };
            let key = text.starts_with('U').then(|| json!(other_key.id()));
            let texts =
                vec![json!(format!("{body}{other}")), json!(format!("{text}\u{430}\u{202e}\u{1b}[2J"))];
            in_place([texts, key.into_iter().collect()].concat())
        }
        Value::Array(items) => {
            let reversed: Vec<_> = items.iter().rev().cloned().collect();
            let repeated: Vec<_> = items.iter().chain(items.last()).cloned().collect();
            in_place(vec![json!([]), json!(reversed), json!(repeated)])
        }
        Value::Object(members) => {
            let mut changed = in_place(vec![Value::Null]);
            for key in members.keys() {
                let fewer: Map<_, _> = members.clone().into_iter().filter(|(name, _)| name != key).collect();
                changed.push((None, fewer.into()));
            }
            for name in ["currency", "adapter"].into_iter().filter(|name| !members.contains_key(*name)) {
                let mut more = members.clone();
                more.insert(name.to_owned(), json!("EUR"));
                changed.push((Some(name), more.into()));
            }
            changed
        }
    }
}

fn identity(id: &Value) -> Option<Identity> {
    [aggregator(), agent(), liar(), verifier()].into_iter().find(|key| Some(key.id().as_str()) == id.as_str())
}

/// Signs everything in a document again as far as it can be parsed.
fn sign_again(document: &str, content: &mut Value, manifest: &ManifestDocument) {
    let resign = |entry: &mut Value, sign: &dyn Fn(&Value) -> Option<Value>| {
        if let Some(signature) = sign(entry).filter(|_| entry.get("signature").is_some()) {
            entry["signature"] = signature;
        }
    };
    let elements = |content: &mut Value, list: &str, sign: &dyn Fn(&Value) -> Option<Value>| {
        content
            .get_mut(list)
            .and_then(Value::as_array_mut)
            .into_iter()
            .flatten()
            .for_each(|entry| resign(entry, sign));
    };
    let sign_result = |statement: &ResultStatement| {
        to_canonical_json(statement).ok()?;
        Some(json!(statement.sign(&identity(&json!(statement.agent_id))?)))
    };
    match document {
        "executions.json" => {
            let Ok(program) = serde_json::from_value::<Digest>(content["program"].clone()) else { return };
            elements(content, "executions", &|entry| {
                let execution: Execution = serde_json::from_value(entry.clone()).ok()?;
                sign_result(&execution.statement(manifest.job_uid, program, manifest.kernel))
            });
        }
        "verification.json" if content.is_object() => {
            for list in ["checked", "refuted"] {
                elements(content, list, &|entry| {
                    let statement: VerdictStatement =
                        serde_json::from_value(entry["statement"].clone()).ok()?;
                    let key = identity(&json!(statement.verifier_id))?;
                    Some(json!(statement.sign(&key).signature))
                });
            }
            elements(content, "contradictions", &|entry| {
                sign_result(&serde_json::from_value(entry["statement"].clone()).ok()?)
            });
        }
        _ => {}
    }
}

/// Puts the changed document in place of the original, and signs the manifest.
fn forge_mutation(sandbox: &Sandbox, original: &Value, mutation: &Mutation) {
    let Mutation { document, field, content } = mutation;
    let manifest: ManifestDocument = serde_json::from_value(original.clone()).unwrap();
    if *document == "manifest.json" {
        let parsed = serde_json::from_value::<ManifestDocument>(content.clone());
        let is_signed = |parsed: &ManifestDocument| parsed.signer.is_some() && parsed.signature.is_some();
        let signed = parsed.ok().filter(|parsed| to_canonical_json(parsed).is_ok() && is_signed(parsed));
        let signed = signed.filter(|_| !field.starts_with("/sign"));
        let signed = signed.map(|parsed| serde_json::to_value(parsed.sign(&aggregator())).unwrap());
        return write_manifest(sandbox, &signed.unwrap_or_else(|| content.clone()));
    }
    write_manifest(sandbox, original);
    let mut content = content.clone();
    if !field.ends_with("/signature") {
        sign_again(document, &mut content, &manifest);
    }
    let bytes = to_canonical_json(&content).unwrap_or_else(|_| content.to_string().into_bytes());
    let hash = replace_artifact(sandbox, document, &bytes);
    if *document == "result.json" {
        edit_manifest(sandbox, |manifest| manifest["result"] = json!(hash));
    }
    sign_manifest(sandbox, &aggregator());
}

fn copy_directory(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (path, target) = (entry.as_ref().unwrap().path(), to.join(entry.unwrap().file_name()));
        if path.is_dir() {
            copy_directory(&path, &target);
        } else {
            fs::copy(path, target).unwrap();
        }
    }
}

/// What is wrong with the audit of a changed document; `None` if it failed as it must, or named the
/// field.
fn complaint(case: &MutationCase, mutation: &Mutation, output: &CommandOutput) -> Option<String> {
    let Mutation { document, field, content } = mutation;
    let complain = |text: &str| Some(format!("{document} {field}: {text}\n{content}\n{}", output.stderr));
    match output.code {
        Some(4) => None,
        // This binary cannot judge another kernel version.
        Some(2) if (*document, field.as_str()) == ("manifest.json", "/kernel") => None,
        Some(0) => {
            let report: Value = serde_json::from_str(&output.stdout).unwrap();
            let is_named = |name: &str| report["not_compared"].as_array().unwrap().contains(&json!(name));
            let is_fixed = NEVER_FREE.iter().any(|name| field.ends_with(name));
            let is_field = |free: &str| match free.ends_with('/') {
                true => field.starts_with(free) && !is_fixed,
                false => field == free,
            };
            let free = case.free.iter().chain(ALWAYS_FREE);
            let mut free = free.filter(|(of, free, _)| of == document && is_field(free));
            match free.next() {
                Some((.., name)) if is_named(name) => None,
                Some(_) => complain("passes, and is not named as not compared"),
                None => complain("passes"),
            }
        }
        code => complain(&format!("exit code {code:?}")),
    }
}

#[track_caller]
fn assert_changes_are_refused_or_named(case: &MutationCase) {
    let base = verified_job_of((case.envelope)(), case.include, case.run);
    base.run_on_job("audit", JOB, case.audit).expect_code(0);
    let original = base.manifest(JOB);
    let all = mutations(&base, case);
    assert!(all.len() > 50, "{}", all.len());
    let (queue, complaints) = (Mutex::new(all.into_iter()), Mutex::new(Vec::new()));
    let work = || {
        let sandbox = Sandbox::new();
        copy_directory(&base.store_path(), &sandbox.store_path());
        loop {
            let Some(mutation) = queue.lock().unwrap().next() else { return };
            forge_mutation(&sandbox, &original, &mutation);
            let mut command = forge();
            command.arg("audit").arg(sandbox.manifest_path(JOB)).args(["--format", "json"]).args(case.audit);
            let output = CommandOutput::new(&command.output().unwrap());
            complaints.lock().unwrap().extend(complaint(case, &mutation, &output));
        }
    };
    thread::scope(|scope| {
        let threads = thread::available_parallelism().map_or(2, usize::from);
        (0..threads).for_each(|_| drop(scope.spawn(work)));
    });
    let complaints = complaints.into_inner().unwrap();
    assert!(complaints.is_empty(), "{} changes:\n{}", complaints.len(), complaints.join("\n"));
}

#[test]
fn every_change_of_a_document_is_refused_or_named() {
    assert_changes_are_refused_or_named(&KEPT);
}

#[test]
fn every_change_without_shard_results_is_refused_or_named() {
    assert_changes_are_refused_or_named(&WITHOUT_SHARDS);
}

#[test]
fn every_change_of_a_portfolio_is_refused_or_named() {
    assert_changes_are_refused_or_named(&PORTFOLIO);
}

#[test]
fn every_change_without_executions_is_refused_or_named() {
    assert_changes_are_refused_or_named(&WITHOUT_EXECUTIONS);
}

#[test]
fn every_change_is_refused_or_named_if_all_shards_are_executed_again() {
    assert_changes_are_refused_or_named(&EXECUTED_AGAIN);
}
