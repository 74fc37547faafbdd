//! `ept.csv`: the exceedance probability table (EPT) in the columns of Open Results Data (ORD),
//! version 1.
//!
//! `EPCalc` is 2, full uncertainty. `EPType` is 1 for OEP, 2 for OEP TVaR, 3 for AEP and 4 for AEP
//! TVaR. `SummaryId` is 1, the whole portfolio. Portfolios with treaties have two summaries: 1 is
//! the loss before treaties, 2 the loss after them.

use std::fmt::Write as _;

use forge_kernel::request::Request;
use serde_json::Value;

use crate::{job_result::JobResult, portfolio_tables::has_occurrences};

const HEADER: &str = "SummaryId,EPCalc,EPType,ReturnPeriod,Loss\n";

/// `SummaryId`, `EPType`, and the members of a row of `exceedance` that lead to the amount.
type EpRows = (u8, u8, &'static [&'static str]);

const OEP: u8 = 1;
const OEP_TVAR: u8 = 2;
const AEP: u8 = 3;
const AEP_TVAR: u8 = 4;

const PLAIN: [EpRows; 4] = [
    (1, OEP, &["oep", "var"]),
    (1, OEP_TVAR, &["oep", "tvar"]),
    (1, AEP, &["aep", "var"]),
    (1, AEP_TVAR, &["aep", "tvar"]),
];
const PORTFOLIO: [EpRows; 8] = [
    (1, OEP, &["largest_occurrence", "var"]),
    (1, OEP_TVAR, &["largest_occurrence", "tvar"]),
    (1, AEP, &["gross", "var"]),
    (1, AEP_TVAR, &["gross", "tvar"]),
    (2, OEP, &["net_largest_occurrence", "var"]),
    (2, OEP_TVAR, &["net_largest_occurrence", "tvar"]),
    (2, AEP, &["net", "var"]),
    (2, AEP_TVAR, &["net", "tvar"]),
];

/// Writes the table, ordered by `SummaryId`, `EPType` and, within a type, from the longest return
/// period to the shortest.
///
/// Losses are written as the shortest decimal text that parses back to the same `f64`. Amounts that
/// do not exist have no row.
pub fn ept_csv(request: &Request, job_result: &JobResult) -> String {
    let program = &request.program;
    let kinds = if program.details { &PORTFOLIO[..] } else { &PLAIN };
    // A portfolio may have totals of the year only.
    let has_largest = !program.details || has_occurrences(program);
    let has_treaties = !program.treaties.is_empty();
    let exceedance = job_result.document.output["exceedance"].as_array();
    let mut csv = HEADER.to_owned();
    for (summary, ep_type, path) in kinds
        .iter()
        .filter(|(summary, ep_type, _)| (*summary == 1 || has_treaties) && (has_largest || *ep_type >= AEP))
    {
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
