//! `ept.csv`: the exceedance probability table (EPT) in the columns of Open Results Data (ORD),
//! version 1.
//!
//! `EPCalc` is 2, full uncertainty. `EPType` is 1 for OEP, 2 for OEP TVaR, 3 for AEP and 4 for AEP
//! TVaR. `SummaryId` is 1, the whole portfolio. Portfolios with treaties have two summaries: 1 is
//! the loss before treaties, 2 the annual loss after them, of which no occurrences are known.

use std::fmt::Write as _;

use forge_kernel::request::Request;
use serde_json::Value;

use crate::{job_result::JobResult, portfolio_tables::has_occurrences};

const HEADER: &str = "SummaryId,EPCalc,EPType,ReturnPeriod,Loss\n";

/// `SummaryId`, `EPType`, and the members of a row of `exceedance` that lead to the amount.
type EpRows = (u8, u8, &'static [&'static str]);

const PLAIN: [EpRows; 4] =
    [(1, 1, &["oep", "var"]), (1, 2, &["oep", "tvar"]), (1, 3, &["aep", "var"]), (1, 4, &["aep", "tvar"])];
const OF_OCCURRENCES: [EpRows; 2] =
    [(1, 1, &["largest_occurrence", "var"]), (1, 2, &["largest_occurrence", "tvar"])];
const OF_YEARS: [EpRows; 4] = [
    (1, 3, &["gross", "var"]),
    (1, 4, &["gross", "tvar"]),
    (2, 3, &["net", "var"]),
    (2, 4, &["net", "tvar"]),
];

/// Writes the table, ordered by `SummaryId`, `EPType` and, within a type, from the longest return
/// period to the shortest.
///
/// Losses are written as the shortest decimal text that parses back to the same `f64`. Amounts that
/// do not exist have no row.
pub fn ept_csv(request: &Request, job_result: &JobResult) -> String {
    let program = &request.program;
    let kinds = match (program.details, has_occurrences(program)) {
        (false, _) => PLAIN.to_vec(),
        (true, true) => [&OF_OCCURRENCES[..], &OF_YEARS].concat(),
        (true, false) => OF_YEARS.to_vec(),
    };
    let has_treaties = !program.treaties.is_empty();
    let exceedance = job_result.document.output["exceedance"].as_array();
    let mut csv = HEADER.to_owned();
    for (summary, ep_type, path) in kinds.into_iter().filter(|(summary, ..)| *summary == 1 || has_treaties) {
        for row in exceedance.into_iter().flatten().rev() {
            let loss = path.iter().fold(row, |value: &Value, name| &value[*name]);
            let period = row["return_period"].as_u64();
            if let Some((period, loss)) = period.zip(loss.as_f64()) {
                // Writing to a String cannot fail.
                let _ = writeln!(csv, "{summary},2,{ep_type},{period},{loss}");
            }
        }
    }
    csv
}
