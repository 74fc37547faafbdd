//! The tables by return period: of a year's loss (AEP) and of its largest loss (OEP), after and
//! before treaties.

use super::{PortfolioOutput, PortfolioPart, TitledTable, amount, titled};
use crate::{
    number_format::format_count,
    result_tables::{INTERVAL_LEGEND, TableWidth},
};

/// What an exceedance table is of.
struct ExceedanceKind {
    part: PortfolioPart,
    title: &'static str,
    /// Headings of the amount after treaties: the figure, the ends of its interval, TVaR.
    net: [&'static str; 4],
    /// Headings of the amount before treaties: the figure, TVaR.
    gross: [&'static str; 2],
    /// Headings where there are no treaties.
    plain: [&'static str; 4],
    /// Members of a row of `exceedance`: the amount after and before treaties.
    members: [&'static str; 2],
}

const ANNUAL: ExceedanceKind = ExceedanceKind {
    part: PortfolioPart::Exceedance,
    title: "Exceedance of a year's loss (AEP",
    net: ["Net AEP", "Net AEP low", "Net AEP high", "Net TVaR"],
    gross: ["Gross AEP", "Gross TVaR"],
    plain: ["AEP", "AEP low", "AEP high", "AEP TVaR"],
    members: ["net", "gross"],
};
const LARGEST: ExceedanceKind = ExceedanceKind {
    part: PortfolioPart::LargestLosses,
    title: "Exceedance of a year's largest loss (OEP",
    net: ["Net OEP", "Net OEP low", "Net OEP high", "Net OEP TVaR"],
    gross: ["Gross OEP", "Gross OEP TVaR"],
    plain: ["OEP", "OEP low", "OEP high", "OEP TVaR"],
    members: ["net_largest_occurrence", "largest_occurrence"],
};

impl PortfolioOutput<'_> {
    pub(super) fn exceedance(&self) -> Option<TitledTable> {
        self.exceedance_table(&ANNUAL)
    }

    /// `None` where only totals of the year are known.
    pub(super) fn largest_losses(&self) -> Option<TitledTable> {
        self.has_occurrences.then(|| self.exceedance_table(&LARGEST)).flatten()
    }

    fn exceedance_table(&self, kind: &ExceedanceKind) -> Option<TitledTable> {
        let has_treaties = !self.list("treaties").is_empty();
        let is_page = self.width == TableWidth::Page;
        let [figure, low, high, tvar] = if has_treaties { kind.net } else { kind.plain };
        let (low, high) = if is_page { (low, high) } else { ("95% CI low", "95% CI high") };
        let [net, gross] = kind.members;
        let mut columns = vec![(figure, net, "var"), (low, net, "var_low"), (high, net, "var_high")];
        columns.extend(is_page.then_some((tvar, net, "tvar")));
        columns.extend(has_treaties.then_some((kind.gross[0], gross, "var")));
        columns.extend((has_treaties && is_page).then_some((kind.gross[1], gross, "tvar")));
        let rows = self.list("exceedance").iter().map(|row| {
            let years = row["return_period"].as_u64().map_or_else(String::new, format_count);
            let cells = columns.iter().map(|&(_, member, figure)| amount(&row[member][figure]));
            [format!("{years} years")].into_iter().chain(cells).collect()
        });
        let header =
            ["Return period"].into_iter().chain(columns.iter().map(|(heading, ..)| *heading)).collect();
        let words = if has_treaties { "; net and gross: after and before treaties)" } else { ")" };
        let mut title = format!("{}{words}", kind.title);
        if is_page {
            title = format!("{title}, {INTERVAL_LEGEND}");
        }
        titled(kind.part, title, header, rows)
    }
}
