//! The artifacts that depend on the request and its result alone. An audit recomputes them and
//! compares the bytes.

use forge_contract::envelope::ArtifactKind;
use forge_kernel::request::Request;

use crate::{
    document::{Document, EPT_CSV, REPORT_HTML, RESULT_JSON, media_type},
    ept_csv,
    job_result::JobResult,
    report_page,
};

/// Renders an artifact from the request and its result.
///
/// Returns `None` for artifacts that record how the job was executed, and for `ept.csv` if the
/// profile has no return periods.
pub fn reproducible_document(
    kind: ArtifactKind,
    request: &Request,
    job_result: &JobResult,
) -> Option<Document> {
    match kind {
        ArtifactKind::ResultJson => Some(Document::json(RESULT_JSON, job_result.json.clone())),
        ArtifactKind::EptCsv if request.profile().vocabulary.return_periods => Some(Document {
            name: EPT_CSV,
            media_type: media_type(EPT_CSV),
            bytes: ept_csv::ept_csv(request, job_result).into_bytes(),
        }),
        ArtifactKind::ReportHtml => Some(Document {
            name: REPORT_HTML,
            media_type: media_type(REPORT_HTML),
            bytes: report_page::report_page(request, job_result).into_bytes(),
        }),
        _ => None,
    }
}
