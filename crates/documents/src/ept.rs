//! `ept.csv`: the exceedance probability table in the columns of Open Results Data (ORD), EPT version 1. Pure: a function of
//! the result.
//!
//! EPCalc 2 is full uncertainty; EPType is 1 OEP, 2 OEP TVaR, 3 AEP, 4 AEP TVaR. One summary, number 1: the portfolio.

use std::fmt::Write as _;

use forge_kernel::report::{Exceedance, Summary};

const HEADER: &str = "SummaryId,EPCalc,EPType,ReturnPeriod,Loss\n";

/// A type's number, and the figure it is.
type EpType = (u8, fn(&Exceedance) -> f64);

const TYPES: [EpType; 4] = [(1, |e| e.oep), (2, |e| e.oep_tvar), (3, |e| e.aep), (4, |e| e.aep_tvar)];

/// The table: by type, the longest return period first.
pub fn csv(summary: &Summary) -> String {
    let mut csv = HEADER.to_owned();
    for (number, figure) in TYPES {
        for exceedance in summary.exceedance.iter().rev() {
            // Writing to a String cannot fail. The shortest text that reads back as the same number.
            let _ = writeln!(csv, "1,2,{number},{},{}", exceedance.return_period, figure(exceedance));
        }
    }
    csv
}
