//! `result.xlsx`: the result of a job as a workbook with native charts, from the figures of
//! `result.json`. The same result gives the same bytes: the date of creation is fixed. Pure: no
//! I/O, no clock and no environment.
//!
//! Reading order: [`sheet`] → [`result_sheets`] → [`portfolio_sheets`] → [`file`].

mod file;
mod portfolio_sheets;
mod result_sheets;
mod sheet;

use forge_documents::JobResult;
use forge_kernel::request::Request;
use serde_json::Value;

/// The workbook cannot be written, such as for a text that is longer than a cell can be.
#[derive(Debug, thiserror::Error)]
#[error("cannot make the workbook: {0}")]
pub struct WorkbookError(#[from] rust_xlsxwriter::XlsxError);

/// The bytes of `result.xlsx`.
///
/// # Errors
/// A text or a table exceeds what a workbook can hold.
pub fn result_workbook(request: &Request, job_result: &JobResult) -> Result<Vec<u8>, WorkbookError> {
    // The document always serialises: its numbers are finite.
    let document = serde_json::to_value(&job_result.document).unwrap_or(Value::Null);
    let mut sheets = vec![
        result_sheets::summary(request, job_result, &document),
        result_sheets::exceedance(request, job_result, &document["output"]),
    ];
    sheets.extend(portfolio_sheets::portfolio_sheets(&document["output"]));
    sheets.push(result_sheets::model(request));
    sheets.retain(|sheet| !sheet.rows.is_empty());
    let title = forge_documents::result_tables::title(request).unwrap_or("Result");
    Ok(file::workbook_bytes(title, &sheets)?)
}
