//! `ept.csv`: the exceedance probability table (EPT) in the columns of Open Results Data (ORD),
//! version 1.
//!
//! Fixed columns: `SummaryId` is 1, the whole portfolio; `EPCalc` is 2, full uncertainty. `EPType`
//! is 1 for OEP, 2 for OEP TVaR, 3 for AEP and 4 for AEP TVaR.

use std::fmt::Write as _;

use forge_kernel::summary::{Exceedance, Summary};

const HEADER: &str = "SummaryId,EPCalc,EPType,ReturnPeriod,Loss\n";

/// An `EPType`, with the statistic it lists.
type EpType = (u8, fn(&Exceedance) -> f64);

const EP_TYPES: [EpType; 4] = [(1, |e| e.oep), (2, |e| e.oep_tvar), (3, |e| e.aep), (4, |e| e.aep_tvar)];

/// Writes the table, ordered by `EPType` and, within a type, from the longest return period to the
/// shortest.
///
/// Losses are written as the shortest decimal text that parses back to the same `f64`.
pub fn ept_csv(summary: &Summary) -> String {
    let mut csv = HEADER.to_owned();
    for (ep_type, statistic) in EP_TYPES {
        for exceedance in summary.exceedance.iter().rev() {
            // Writing to a String cannot fail.
            let _ = writeln!(csv, "1,2,{ep_type},{},{}", exceedance.return_period, statistic(exceedance));
        }
    }
    csv
}
