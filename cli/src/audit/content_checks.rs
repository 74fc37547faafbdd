//! Compares every document that follows from the result with one that is written anew from
//! recomputed figures, byte for byte.

use forge_aggregator::index_content;
use forge_contract::envelope::ArtifactKind;
use forge_documents::{JobResult, artifact_name, document::RESULT_JSON, reproducible_document};
use forge_store::Store;
use serde_json::Value;

use super::{
    evidence::{Evidence, parse_result},
    report::{AuditCheckResult, AuditReport, CheckProblem},
};

/// Documents written from the figures of the result, apart from `result.json` itself.
const DERIVED_KINDS: [ArtifactKind; 2] = [ArtifactKind::EptCsv, ArtifactKind::ReportHtml];

/// Compares the documents with recomputed figures; without any, names them as not compared.
/// Returns whether `result.json` has exactly the recomputed bytes.
pub fn check_contents(
    evidence: &Evidence<'_>,
    figures: Option<&JobResult>,
    report: &mut AuditReport,
) -> bool {
    let result = result_follows(evidence, figures);
    let is_recomputed = result.is_ok();
    report.add("result.json figures", result);
    for kind in DERIVED_KINDS.into_iter().filter(|&kind| evidence.is_named(artifact_name(kind))) {
        let name = artifact_name(kind);
        report.add(&format!("{name} content"), document_follows(evidence, kind, figures));
    }
    report.add("index.html content", index_page_follows(evidence, figures));
    is_recomputed
}

fn recomputed(figures: Option<&JobResult>) -> Result<&JobResult, CheckProblem> {
    figures.ok_or_else(|| {
        let reason = "no shard results to derive it from: neither kept nor all executed again";
        CheckProblem::NotCompared(reason.to_owned())
    })
}

fn result_follows(evidence: &Evidence<'_>, figures: Option<&JobResult>) -> AuditCheckResult {
    let figures = recomputed(figures)?;
    if figures.hash != evidence.manifest.result {
        let difference = evidence.result().ok().and_then(|stored| {
            let expected = parse_result(&figures.json).ok()?;
            describe_difference(&stored, &expected)
        });
        let difference = difference.map(|text| format!(": {text}")).unwrap_or_default();
        return Err(CheckProblem::failed(format!(
            "the recomputed result is {}, but the manifest has {}{difference}",
            figures.hash, evidence.manifest.result
        )));
    }
    if evidence.is_named(RESULT_JSON) && evidence.bytes(RESULT_JSON)? != figures.json {
        return Err(CheckProblem::failed(format!("{RESULT_JSON} is not the recomputed document")));
    }
    Ok("every figure equals the recomputed one".to_owned())
}

fn document_follows(
    evidence: &Evidence<'_>,
    kind: ArtifactKind,
    figures: Option<&JobResult>,
) -> AuditCheckResult {
    let stored = evidence.bytes(artifact_name(kind))?;
    let request = &evidence.trusted_job()?.request;
    let expected = reproducible_document(kind, request, recomputed(figures)?);
    if expected.is_some_and(|expected| expected.bytes == stored) {
        return Ok("equals the page or table written anew from the result".to_owned());
    }
    Err(CheckProblem::failed(format!("{} does not follow from the result", artifact_name(kind))))
}

/// The index page has no hash in the manifest, so it is compared as a whole.
fn index_page_follows(evidence: &Evidence<'_>, figures: Option<&JobResult>) -> AuditCheckResult {
    let failed = |error: &dyn ToString| CheckProblem::Failed(error.to_string());
    let Some(stored) = evidence.stored.read_index_page().map_err(|error| failed(&error))? else {
        return Err(CheckProblem::NotCompared("there is no index.html".to_owned()));
    };
    let request = &evidence.trusted_job()?.request;
    let content = index_content(request, recomputed(figures)?);
    if stored == Store::render_index_page(evidence.manifest, &content) {
        return Ok("equals the page written anew from manifest and result".to_owned());
    }
    Err(CheckProblem::failed("index.html does not follow from manifest and result"))
}

/// The first place, in the order of keys, at which two documents differ.
fn describe_difference(stored: &Value, expected: &Value) -> Option<String> {
    let (pointer, stored, expected) = first_difference(stored, expected, String::new())?;
    let text = |value: Option<&Value>| value.map_or_else(|| "absent".to_owned(), Value::to_string);
    Some(format!("{pointer} is {}, recomputed {}", text(stored), text(expected)))
}

type Difference<'a> = (String, Option<&'a Value>, Option<&'a Value>);

fn first_difference<'a>(stored: &'a Value, expected: &'a Value, pointer: String) -> Option<Difference<'a>> {
    match (stored, expected) {
        (Value::Object(a), Value::Object(b)) => a
            .keys()
            .chain(b.keys())
            .find_map(|key| compare_members(a.get(key), b.get(key), format!("{pointer}/{key}"))),
        (Value::Array(a), Value::Array(b)) => (0..a.len().max(b.len()))
            .find_map(|index| compare_members(a.get(index), b.get(index), format!("{pointer}/{index}"))),
        _ if stored == expected => None,
        _ => Some((pointer, Some(stored), Some(expected))),
    }
}

fn compare_members<'a>(
    stored: Option<&'a Value>,
    expected: Option<&'a Value>,
    pointer: String,
) -> Option<Difference<'a>> {
    match (stored, expected) {
        (Some(stored), Some(expected)) => first_difference(stored, expected, pointer),
        _ => Some((pointer, stored, expected)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn first_difference_is_named_with_both_values() {
        let expected = json!({"a": [1, {"b": 2}], "c": null});
        for (stored, text) in [
            (json!({"a": [1, {"b": 3}], "c": null}), Some("/a/1/b is 3, recomputed 2")),
            (json!({"a": [1], "c": null}), Some(r#"/a/1 is absent, recomputed {"b":2}"#)),
            (json!({"a": [1, {"b": 2}], "c": null, "d": 4}), Some("/d is 4, recomputed absent")),
            (expected.clone(), None),
        ] {
            assert_eq!(describe_difference(&stored, &expected).as_deref(), text);
        }
    }
}
