//! The tail taken apart: means of amounts (co-TVaR) and of counts over its years, by line, treaty
//! or group.

use std::{ops::ControlFlow, str::FromStr};

use clap::ValueEnum;
use forge_contract::listed_amounts::{AmountClasses, add_sums};
use forge_documents::{number_format::format_level, result_tables::capitalise};
use forge_kernel::{
    statistics::Level,
    summary::HighestMoment,
    tail_sums::{ClassSums, sums_above},
    workload::{ModelPart, ModelParts},
    years::{PartFigures, YearFigures},
};
use serde_json::json;

use crate::{
    error::CommandError,
    text::data_table::{ColumnRole, DataCell, DataColumn, DataTable},
    year_pass::{PassArgs, YearCollector, YearPass},
    year_record::YearRecord,
    year_table::{Perspective, TableReport},
};

const MILLION: u64 = 1_000_000;

/// The probability of a tail, in millionths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TailProbability(u64);

impl TailProbability {
    /// The level of the quantile that the tail begins at.
    fn level(self) -> Level {
        Level::new(MILLION - self.0, MILLION)
    }
}

impl FromStr for TailProbability {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let millionths = text.parse::<f64>().ok().and_then(|probability| {
            let millionths = (probability * MILLION as f64).round();
            let is_exact = millionths / MILLION as f64 == probability;
            (is_exact && millionths > 0.0 && millionths < MILLION as f64).then_some(millionths as u64)
        });
        let message = "must be above 0 and below 1, with at most six decimals";
        millionths.map(Self).ok_or_else(|| message.to_owned())
    }
}

/// What a tail is taken apart by. The help of `--by` describes all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TailPart {
    Line,
    Treaty,
    Group,
}

impl TailPart {
    fn name(self) -> &'static str {
        match self {
            Self::Line => "line",
            Self::Treaty => "treaty",
            Self::Group => "group",
        }
    }

    fn of_model(self, parts: &ModelParts) -> &[ModelPart] {
        match self {
            Self::Line => &parts.lines,
            Self::Treaty => &parts.treaties,
            Self::Group => &parts.groups,
        }
    }

    fn of_year(self, figures: &YearFigures) -> &[PartFigures] {
        match self {
            Self::Line => &figures.lines,
            Self::Treaty => &figures.treaties,
            Self::Group => &figures.groups,
        }
    }
}

/// Takes the tail apart. All years are computed again: results do not hold the counts of a tail.
pub fn explain_tail(
    record: &YearRecord,
    tail: TailProbability,
    by: TailPart,
    perspective: Perspective,
    args: &PassArgs,
) -> Result<TableReport, CommandError> {
    let request = record.request();
    let parts = request.parts();
    let model_parts = by.of_model(&parts);
    if model_parts.is_empty() {
        return Err(CommandError::Input(format!("--by {}: the model has none", by.name())));
    }
    let new_collector = || TailClasses { by, perspective, classes: AmountClasses::new() };
    let mut all = new_collector();
    let pass = YearPass::new(record, args, |_| true);
    let completed = pass.execute(new_collector, |of_block| {
        all.merge(of_block);
        ControlFlow::Continue(())
    })?;
    let coverage = completed.coverage;
    let means = all.means_above(tail.level(), record.years);
    let highest = match perspective {
        Perspective::Net => parts.net,
        Perspective::Gross => parts.gross,
    };
    let rows = tail_rows(model_parts, &means, request.program.units, perspective, highest);
    let noun = request.profile().vocabulary.iterations;
    let members = json!({
        "schema": "forge.explain.v1",
        "view": "tail",
        "job_id": record.job.id,
        "result": record.result,
        "perspective": perspective.name(),
        "tail": tail.0 as f64 / MILLION as f64,
        "by": by.name(),
        "years": record.years,
        "tail_years": means.years,
        "recomputed": coverage.years,
        "compared_with": coverage.compared_with(),
    });
    let level = format_level(tail.level().to_f64());
    Ok(TableReport {
        title: format!(
            "Job {}: means over the {noun} beyond the {level} quantile of the {} amount, by {}",
            record.job.id,
            perspective.name(),
            by.name()
        ),
        table: DataTable {
            units: request.program.units,
            parts: "parts",
            columns: vec![
                DataColumn::new(by.name(), &capitalise(by.name()), ColumnRole::Key),
                DataColumn::new("co_tvar", "Co-TVaR", ColumnRole::Figure),
                DataColumn::new("mean_count", mean_count_heading(by), ColumnRole::Figure),
            ],
            rows,
        },
        parts_title: "",
        notes: vec![
            "The last row is the mean amount by which the tail is selected.".to_owned(),
            coverage.describe(noun),
        ],
        members: members.as_object().cloned().unwrap_or_default(),
    })
}

fn mean_count_heading(by: TailPart) -> &'static str {
    match by {
        TailPart::Line => "Occurrences with a loss",
        TailPart::Treaty => "Payments",
        TailPart::Group => "Occurrences",
    }
}

/// Means over the years of the tail.
struct TailMeans {
    /// Number of years, which need not be a whole one.
    years: f64,
    /// For each part its mean amount in minor units, for each its mean count, and the mean amount
    /// by which the tail is selected.
    means: Vec<f64>,
}

fn tail_rows(
    parts: &[ModelPart],
    tail: &TailMeans,
    units: u32,
    perspective: Perspective,
    highest: HighestMoment,
) -> Vec<Vec<DataCell>> {
    let amount = |sum: f64, highest: HighestMoment| {
        highest.mean(sum / f64::from(units)).map_or(DataCell::Absent, DataCell::Number)
    };
    let (amounts, rest) = tail.means.split_at(parts.len());
    let (counts, total) = rest.split_at(parts.len());
    let row = |((part, &mean), &count): ((&ModelPart, &f64), &f64)| {
        let name = DataCell::Text(part.name.clone());
        vec![name, amount(mean, part.highest), DataCell::Number(count)]
    };
    let mut rows: Vec<_> = parts.iter().zip(amounts).zip(counts).map(row).collect();
    let name = format!("({})", perspective.name());
    rows.push(vec![DataCell::Text(name), amount(total[0], highest), DataCell::Absent]);
    rows
}

/// Sums over the years by class of their amounts, as results have them for the allocation.
struct TailClasses {
    by: TailPart,
    perspective: Perspective,
    classes: AmountClasses<YearSums>,
}

/// Sums over some years.
#[derive(Default)]
struct YearSums {
    years: u64,
    /// Amounts of the parts, their counts, then the amount by which years are compared.
    sums: Vec<u128>,
}

impl YearSums {
    fn add(&mut self, years: u64, added: impl ExactSizeIterator<Item = u128>) {
        self.years += years;
        add_sums(&mut self.sums, added);
    }

    fn merge(&mut self, other: Self) {
        self.add(other.years, other.sums.into_iter());
    }
}

impl TailClasses {
    fn merge(&mut self, other: Self) {
        self.classes.merge(other.classes, YearSums::merge);
    }

    fn means_above(&self, level: Level, years: u64) -> TailMeans {
        let classes = self.classes.iter();
        let classes: Vec<_> =
            classes.map(|(_, sums)| ClassSums { years: sums.years, sums: &sums.sums }).collect();
        let above = sums_above(&classes, years, level);
        TailMeans { years: above.years, means: above.sums.iter().map(|sum| sum / above.years).collect() }
    }
}

impl YearCollector for TailClasses {
    type Year = YearFigures;

    fn add(&mut self, figures: &YearFigures) {
        let parts = self.by.of_year(figures);
        let amount = self.perspective.amount_of(figures);
        let amounts = parts.iter().map(|part| part.amount);
        let counts = parts.iter().map(|part| part.count);
        let added: Vec<u128> = amounts.chain(counts).chain([amount]).map(u128::from).collect();
        self.classes.of_amount(amount, YearSums::merge).add(1, added.into_iter());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tails_have_at_most_six_decimals() {
        for (text, millionths) in [("0.005", 5000), ("5e-3", 5000), ("0.000001", 1), ("0.999999", 999_999)] {
            assert_eq!(text.parse(), Ok(TailProbability(millionths)), "{text}");
        }
        for text in ["0", "1", "-0.1", "0.0000005", "0.1234567", "1%", "nan", ""] {
            assert!(text.parse::<TailProbability>().is_err(), "{text}");
        }
    }
}
