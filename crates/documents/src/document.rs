//! A document as it is kept: name, media type and bytes. Here are the names, and the documents that are a function of the
//! request and its result alone, so that an audit can make them again.

use forge_contract::{canonical::to_canonical_json, envelope::ArtifactKind};
use forge_kernel::request::Request;
use serde::Serialize;

use crate::{ept, figures::Figures, report};

/// Name of the document that holds the envelope in normal form.
pub const ENVELOPE: &str = "envelope.json";
/// Name of the document that holds the result.
pub const RESULT: &str = "result.json";
/// Name of the document that holds the plan.
pub const PLAN: &str = "plan.json";
/// Name of the document that holds the record of the shards.
pub const EXECUTIONS: &str = "executions.json";

const JSON: &str = "application/json";

/// An artifact to be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// File name, as in `result.json`.
    pub name: &'static str,
    /// Media type, as in `application/json`.
    pub media_type: &'static str,
    /// The content.
    pub bytes: Vec<u8>,
}

impl Document {
    /// A document in canonical JSON.
    pub(crate) fn json(name: &'static str, document: &impl Serialize) -> Self {
        Self { name, media_type: JSON, bytes: canonical(document) }
    }
}

/// The documents that are a function of the result, among those that can be kept; `None` for the others, and for a
/// table of return periods of what has none.
pub fn pure(kind: ArtifactKind, request: &Request, figures: &Figures) -> Option<Document> {
    match kind {
        ArtifactKind::ResultJson => {
            Some(Document { name: RESULT, media_type: JSON, bytes: figures.json.clone() })
        }
        ArtifactKind::EptCsv if request.profile().words.return_periods => Some(Document {
            name: "ept.csv",
            media_type: "text/csv",
            bytes: ept::csv(&figures.summary).into_bytes(),
        }),
        ArtifactKind::ReportHtml => Some(Document {
            name: "report.html",
            media_type: "text/html",
            bytes: report::page(request, figures).into_bytes(),
        }),
        _ => None,
    }
}

/// Canonical JSON of a document of this kernel, all of whose numbers are finite and within 2^53.
pub fn canonical(document: &impl Serialize) -> Vec<u8> {
    to_canonical_json(document).expect("documents hold no number that canonical JSON cannot")
}
