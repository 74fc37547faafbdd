//! An artifact as bytes, with its file name and media type. Does not know where artifacts are
//! stored.

use forge_contract::{canonical::to_canonical_json, envelope::ArtifactKind};
use serde::Serialize;

/// File name of the normalised envelope.
pub const ENVELOPE_JSON: &str = "envelope.json";
/// File name of the result; the SHA-256 of this document is the result hash.
pub const RESULT_JSON: &str = "result.json";
/// File name of the plan.
pub const PLAN_JSON: &str = "plan.json";
/// File name of the list of shard executions.
pub const EXECUTIONS_JSON: &str = "executions.json";

/// File name of the totals over all shards.
pub const METRICS_JSON: &str = "metrics.json";
/// File name of the record of verification.
pub const VERIFICATION_JSON: &str = "verification.json";
/// File name of the exceedance table.
pub const EPT_CSV: &str = "ept.csv";
/// File name of the report page.
pub const REPORT_HTML: &str = "report.html";

/// File name of an artifact.
pub fn artifact_name(kind: ArtifactKind) -> &'static str {
    match kind {
        ArtifactKind::ResultJson => RESULT_JSON,
        ArtifactKind::ExecutionsJson => EXECUTIONS_JSON,
        ArtifactKind::MetricsJson => METRICS_JSON,
        ArtifactKind::VerificationJson => VERIFICATION_JSON,
        ArtifactKind::PlanJson => PLAN_JSON,
        ArtifactKind::EptCsv => EPT_CSV,
        ArtifactKind::ReportHtml => REPORT_HTML,
    }
}

/// Media type of an artifact, by its file name.
pub fn media_type(name: &str) -> &'static str {
    match name {
        EPT_CSV => "text/csv",
        REPORT_HTML => "text/html",
        _ => "application/json",
    }
}

/// One artifact of a job, ready to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// File name, such as `result.json`.
    pub name: &'static str,
    /// Media type, such as `application/json`.
    pub media_type: &'static str,
    /// Contents of the file.
    pub bytes: Vec<u8>,
}

impl Document {
    pub(crate) fn json(name: &'static str, bytes: Vec<u8>) -> Self {
        Self { name, media_type: media_type(name), bytes }
    }
}

/// Serialises a document as canonical JSON (RFC 8785).
///
/// # Panics
/// If the document holds a number that canonical JSON cannot represent. The documents of this
/// kernel do not: all their numbers are finite, and all integers are within 2^53.
pub fn canonical_json(document: &impl Serialize) -> Vec<u8> {
    to_canonical_json(document).expect("every number of a document is finite and within 2^53")
}
