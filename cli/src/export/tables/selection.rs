//! What is exported: perspectives, sets of summaries, years.

use std::{ops::Range, str::FromStr};

use clap::ValueEnum;
use forge_contract::program::{MAX_AMOUNT, Program};
use forge_kernel::{
    treaties::TreatyTerms,
    workload::{ModelPart, ModelParts},
};

/// Which losses a table has. The help of `--perspective` describes all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LossPerspective {
    Gross,
    Ceded,
    Net,
}

impl LossPerspective {
    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gross => "gross",
            Self::Ceded => "ceded",
            Self::Net => "net",
        }
    }

    /// The name in names of files: insured loss, reinsurance loss, loss net of reinsurance.
    pub fn code(self) -> &'static str {
        match self {
            Self::Gross => "il",
            Self::Ceded => "rl",
            Self::Net => "ri",
        }
    }
}

/// What has a summary of its own. The help of `--by` describes all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SummarySet {
    All,
    Line,
    Treaty,
}

impl SummarySet {
    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Line => "line",
            Self::Treaty => "treaty",
        }
    }

    /// The name in names of files.
    pub fn code(self) -> &'static str {
        match self {
            Self::All => "S1",
            Self::Line => "S2",
            Self::Treaty => "S3",
        }
    }

    /// Names of the summaries, in the order of their numbers, which start at 1.
    pub fn summaries(self, parts: &ModelParts) -> Vec<String> {
        let names = |parts: &[ModelPart]| parts.iter().map(|part| part.name.clone()).collect();
        match self {
            Self::All => vec!["all".to_owned()],
            Self::Line => names(&parts.lines),
            Self::Treaty => names(&parts.treaties),
        }
    }
}

/// Years by their numbers, from the first one up to but without the second one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct YearRange(pub Range<u64>);

impl FromStr for YearRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers = text.split_once("..").and_then(|(start, end)| {
            let (start, end) = (start.parse().ok()?, end.parse().ok()?);
            (start < end).then_some(start..end)
        });
        numbers
            .map(Self)
            .ok_or_else(|| "must be two numbers such as 0..1000, which are the years 0 to 999".to_owned())
    }
}

/// Why the losses of a perspective cannot be summed up so; `None` if they can.
pub fn refuse_summaries(perspective: LossPerspective, set: SummarySet, program: &Program) -> Option<String> {
    match (perspective, set) {
        (LossPerspective::Ceded, _) if program.treaties.is_empty() => {
            Some("--perspective ceded: the model has no treaties".to_owned())
        }
        (LossPerspective::Gross | LossPerspective::Net, SummarySet::Treaty) => {
            let perspective = perspective.name();
            Some(format!("--by treaty: losses of the perspective {perspective} do not belong to a treaty"))
        }
        (LossPerspective::Net, SummarySet::Line) if program.lines > 1 && program.cap < MAX_AMOUNT => {
            Some("--by line: the limit of the year cuts the sum of all lines".to_owned())
        }
        _ => None,
    }
}

/// Why occurrences have no losses of a perspective; `None` if they have.
pub fn refuse_occurrences(
    perspective: LossPerspective,
    program: &Program,
    parts: &ModelParts,
) -> Option<String> {
    if perspective == LossPerspective::Gross {
        return None;
    }
    let of_year = program
        .treaties
        .iter()
        .position(|treaty| matches!(treaty.terms, TreatyTerms::AggregateXl { .. }))
        .map(|at| format!("treaty \"{}\" pays for the amount of the year", parts.treaties[at].name));
    let is_net = perspective == LossPerspective::Net;
    let limit = (is_net && program.cap < MAX_AMOUNT).then(|| "the year has a limit".to_owned());
    let base = (is_net && program.base > 0).then(|| "an amount is added in every year".to_owned());
    let reason = of_year.or(limit).or(base)?;
    Some(format!(
        "--table splt: {reason}, so occurrences have no {} loss; use --perspective gross or --table ylt",
        perspective.name()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_years_are_not_empty() {
        assert_eq!("0..10".parse(), Ok(YearRange(0..10)));
        for text in ["", "5", "5..5", "9..3", "-1..3", "0..x", "0...4", "1-4"] {
            assert!(text.parse::<YearRange>().is_err(), "{text}");
        }
    }
}
