//! The tables of treaties: what they pay, frequencies and prices of layers, premiums.

use forge_kernel::workload::CommissionErrors;
use serde_json::Value;

use super::{ABSENT, PortfolioOutput, PortfolioPart, TitledTable, amount, percent, text, titled};
use crate::{number_format::format_rounded, result_tables::TableWidth};

impl PortfolioOutput<'_> {
    pub(super) fn treaties(&self) -> Option<TitledTable> {
        let is_page = self.width == TableWidth::Page;
        let rows = self.list("treaties").iter().map(|treaty| {
            let mut cells = self.figures(text(&treaty["name"]), &treaty["ceded"]);
            cells.pop();
            cells.push(percent(&treaty["attachment_probability"]));
            cells.push(percent(&treaty["exhaustion_probability"]));
            cells.extend(is_page.then(|| self.largest(&treaty["largest_subject"])));
            cells
        });
        let title = match is_page {
            true => format!(
                "Treaties, what they pay in a year (VaR at {}; OEP: largest loss that they cover, before what they pay)",
                self.level
            ),
            false => format!("Treaties, what they pay in a year (VaR at {})", self.level),
        };
        let mut header = vec!["Treaty", "Mean", "Std. dev.", "VaR", "Attachment", "Exhaustion"];
        header.extend(is_page.then_some("OEP"));
        titled(PortfolioPart::Treaties, title, header, rows)
    }

    /// Frequencies and prices of the treaties that are layers.
    pub(super) fn layers(&self) -> Option<TitledTable> {
        const FIGURES: [&str; 3] = ["attaching_occurrences", "rate_on_line", "technical_premium"];
        let is_layer = |treaty: &&Value| FIGURES.iter().any(|figure| !treaty[*figure].is_null());
        let rows = self.list("treaties").iter().filter(is_layer).map(|treaty| {
            let reinstated = treaty["reinstated"].as_array().filter(|amounts| !amounts.is_empty());
            let reinstated = reinstated.map(|amounts| amounts.iter().filter_map(Value::as_f64).sum());
            vec![
                text(&treaty["name"]),
                frequency(&treaty["attaching_occurrences"]),
                frequency(&treaty["exhausting_occurrences"]),
                reinstated.map_or_else(|| ABSENT.to_owned(), format_rounded),
                amount(&treaty["reinstatement_premium"]["mean"]),
                percent(&treaty["rate_on_line"]),
                amount(&treaty["technical_premium"]),
            ]
        });
        let header =
            vec!["Layer", "Attach/yr", "Exhaust/yr", "Reinstated", "Reinst. prem.", "RoL", "Techn. prem."];
        titled(
            PortfolioPart::Layers,
            "Layers, means per year (RoL: rate on line; reinstatement premium: placed; technical: at 100%)",
            header,
            rows,
        )
    }

    /// Premiums of the treaties that have one, less what the reinsurers pay back; `errors` are
    /// those of all treaties.
    pub(super) fn premiums(&self, errors: &[CommissionErrors]) -> Option<TitledTable> {
        let args = self.args.get("treaties").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let treaties = self.list("treaties").iter().zip(args).zip(errors);
        let treaties: Vec<_> = treaties.filter(|((treaty, _), _)| treaty["premium"].is_object()).collect();
        let has_errors =
            treaties.iter().any(|(_, errors)| errors.commission.or(errors.profit_commission).is_some());
        let rows = treaties.iter().map(|((treaty, args), errors)| {
            let premium = &treaty["premium"];
            // A commission that was not agreed is no commission of 0.
            let (commission, profit) = (&args["commission"], &args["profit_commission"]);
            let is_agreed = commission.is_array() || commission.as_f64().is_some_and(|rate| rate > 0.0);
            let agreed = |is_agreed: bool, name: &str| match is_agreed {
                true => amount(&premium[name]),
                false => ABSENT.to_owned(),
            };
            let error = |error: Option<f64>| {
                has_errors.then(|| error.map_or_else(|| ABSENT.to_owned(), format_rounded))
            };
            let mut cells = vec![text(&treaty["name"]), amount(&premium["ceded"])];
            cells.push(agreed(is_agreed, "commission"));
            cells.extend(error(errors.commission));
            cells.push(agreed(profit.is_object(), "profit_commission"));
            cells.extend(error(errors.profit_commission));
            cells.push(amount(&premium["net"]));
            cells
        });
        let (header, words) = match has_errors {
            true => (
                vec!["Treaty", "Ceded", "Commission", "S.e.", "Profit comm.", "S.e.", "Net"],
                ", with standard errors (s.e.)",
            ),
            false => (vec!["Treaty", "Ceded", "Commission", "Profit comm.", "Net"], ""),
        };
        let title = format!("Premiums less mean commissions of a year{words}");
        titled(PortfolioPart::Premiums, title, header, rows)
    }
}

/// A number of occurrences a year.
fn frequency(value: &Value) -> String {
    value.as_f64().map_or_else(|| ABSENT.to_owned(), |frequency| format!("{frequency:.4}"))
}
