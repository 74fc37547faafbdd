//! The cases: models as args of envelopes, and what their sources expect of the results.

use std::path::Path;

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

/// Files of cases, with the headings of their parts of the report.
const GROUPS: [(&str, &str); 6] = [
    ("collective_risk", "Poisson and lognormal laws"),
    ("counts_and_severities", "Families of counts and severities"),
    ("treaties_by_hand", "Treaties, one year by hand"),
    ("treaties_in_distribution", "Treaties in distribution"),
    ("allocation", "Allocation"),
    ("events", "Events and extreme values"),
];

/// The cases of a file.
pub struct CaseGroup {
    /// Heading in the report.
    pub heading: &'static str,
    /// The cases.
    pub cases: Vec<ValidationCase>,
}

/// A model with published answers.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ValidationCase {
    /// Identifier.
    pub id: String,
    /// What the model is.
    pub title: String,
    /// Where the answers are from.
    pub source: String,
    /// How the model is expressed.
    pub note: Option<String>,
    /// The runs that give the figures.
    pub runs: Vec<ValidationRun>,
}

/// An envelope, and what is expected of its result.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ValidationRun {
    /// Profile.
    pub profile: String,
    /// Args.
    pub args: Value,
    /// The expectations.
    pub checks: Vec<ValidationCheck>,
}

/// An expected figure.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ValidationCheck {
    /// The amount that the figure is of: `total`, `gross`, `largest`, `line NAME`, `step NUMBER`,
    /// `ceded NAME`.
    pub of: Option<String>,
    /// The figure of that amount.
    pub figure: Option<FigureKind>,
    /// Level of a quantile.
    pub level: Option<f64>,
    /// Return period of a quantile.
    pub return_period: Option<u64>,
    /// Which amounts a probability is of, compared with `amount`.
    pub relation: Option<Relation>,
    /// The amount of a probability.
    pub amount: Option<f64>,
    /// Instead of a figure, the JSON pointer of a field of the output; of a list, the sum.
    pub field: Option<String>,
    /// The standard deviation of one year of the field. Without it, the field is exact.
    pub std_dev: Option<f64>,
    /// Whether the figure has no sampling error.
    #[serde(default)]
    pub exact: bool,
    /// The answer.
    pub expected: f64,
    /// How precise the answer is, relative to itself. Default 0.
    #[serde(default)]
    pub relative: f64,
    /// What the report calls the figure, where its own name does not do.
    pub label: Option<String>,
}

/// A figure of an amount.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FigureKind {
    Mean,
    StdDev,
    Variance,
    Probability,
    Var,
    Tvar,
}

/// Which amounts a probability is of.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Relation {
    At,
    AtMost,
    AtLeast,
    Above,
}

/// A case that no profile expresses.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExcludedCase {
    /// Identifier.
    pub id: String,
    /// What the model is.
    pub title: String,
    /// Where the answers are from.
    pub source: String,
    /// Why it is not expressed.
    pub reason: String,
}

fn read<T: DeserializeOwned>(directory: &Path, name: &str) -> T {
    let path = directory.join(name).with_extension("json");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// All cases.
pub fn groups(directory: &Path) -> Vec<CaseGroup> {
    GROUPS.iter().map(|(name, heading)| CaseGroup { heading, cases: read(directory, name) }).collect()
}

/// The cases that no profile expresses.
pub fn not_expressible(directory: &Path) -> Vec<ExcludedCase> {
    read(directory, "not_expressible")
}
