//! The tables by return period: of a year's loss (AEP) and of its largest loss (OEP), each with its
//! tail value (TVaR), after and before treaties.

use super::{PortfolioOutput, PortfolioPart, TitledTable, amount, titled};
use crate::{
    number_format::format_count,
    result_tables::INTERVAL_HEADINGS,
    tail_value_intervals::{beyond_return_period, few_beyond_notes, mark_if_few},
};

/// What an exceedance table is of.
struct ExceedanceKind {
    part: PortfolioPart,
    title: &'static str,
    /// Stands for the amount in headings, unless the title has the word.
    abbreviation: Option<&'static str>,
    /// Headings of the amount after and before treaties, and where there are no treaties.
    headings: [&'static str; 3],
    /// Members of a row of `exceedance`: the amount after and before treaties.
    members: [&'static str; 2],
    /// Members of an amount: the figure and the ends of its interval.
    figures: [&'static str; 3],
}

const ANNUAL: ExceedanceKind = ExceedanceKind {
    part: PortfolioPart::Exceedance,
    title: "Exceedance of a year's loss",
    abbreviation: Some("AEP"),
    headings: ["Net AEP", "Gross AEP", "AEP"],
    members: ["net", "gross"],
    figures: ["var", "var_low", "var_high"],
};
const ANNUAL_TAIL: ExceedanceKind = ExceedanceKind {
    part: PortfolioPart::TailValues,
    title: "TVaR of a year's loss by return period",
    abbreviation: None,
    headings: ["Net TVaR", "Gross TVaR", "TVaR"],
    figures: ["tvar", "tvar_low", "tvar_high"],
    ..ANNUAL
};
const LARGEST: ExceedanceKind = ExceedanceKind {
    part: PortfolioPart::LargestLosses,
    title: "Exceedance of a year's largest loss",
    abbreviation: Some("OEP"),
    headings: ["Net OEP", "Gross OEP", "OEP"],
    members: ["net_largest_occurrence", "largest_occurrence"],
    ..ANNUAL
};
const LARGEST_TAIL: ExceedanceKind = ExceedanceKind {
    part: PortfolioPart::LargestTailValues,
    title: "TVaR of a year's largest loss by return period",
    members: LARGEST.members,
    ..ANNUAL_TAIL
};

impl PortfolioOutput<'_> {
    /// Exceedance and tail values of the annual loss, then those of its largest occurrence, unless
    /// only totals of the year are known.
    pub(super) fn exceedance(&self) -> Vec<TitledTable> {
        let largest: &[_] = if self.has_occurrences { &[LARGEST, LARGEST_TAIL] } else { &[] };
        [ANNUAL, ANNUAL_TAIL].iter().chain(largest).filter_map(|kind| self.exceedance_table(kind)).collect()
    }

    fn exceedance_table(&self, kind: &ExceedanceKind) -> Option<TitledTable> {
        let has_treaties = !self.list("treaties").is_empty();
        let [net_heading, gross_heading, only_heading] = kind.headings;
        let [net, gross] = kind.members;
        let [figure, low, high] = kind.figures;
        let is_tail = figure == "tvar";
        let rows = self.list("exceedance").iter().map(|row| {
            let period = row["return_period"].as_u64().unwrap_or_default();
            let shows_interval = is_tail && row[net][low].is_number();
            let beyond = beyond_return_period(self.job_result, period);
            let label = mark_if_few(format!("{} years", format_count(period)), beyond, shows_interval);
            let before = has_treaties.then(|| amount(&row[gross][figure]));
            [label]
                .into_iter()
                .chain([figure, low, high].map(|name| amount(&row[net][name])))
                .chain(before)
                .collect()
        });
        let mut header = vec!["Return period", if has_treaties { net_heading } else { only_heading }];
        header.extend(INTERVAL_HEADINGS);
        header.extend(has_treaties.then_some(gross_heading));
        let words = has_treaties.then_some("net and gross: after and before treaties");
        let words: Vec<_> = kind.abbreviation.into_iter().chain(words).collect();
        let title = match words.is_empty() {
            true => kind.title.to_owned(),
            false => format!("{} ({})", kind.title, words.join("; ")),
        };
        let mut table = titled(kind.part, title, header, rows)?;
        table.notes.extend(few_beyond_notes(&table.table.rows, self.words));
        Some(table)
    }
}
