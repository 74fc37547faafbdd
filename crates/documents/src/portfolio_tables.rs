//! The tables of a portfolio's result: lines, steps, treaties, capital, exceedance and who makes
//! the tail. Results of other profiles have none.
//!
//! Amounts are in the currency of the args; the envelope names none.

use forge_contract::program::{Occurrence, Program};
use forge_kernel::request::Request;
use serde_json::Value;

use crate::{
    job_result::JobResult,
    number_format::{format_count, format_level, format_percent, format_rounded},
    result_tables::{INTERVAL_LEGEND, ResultTable, TableWidth, nearest_level},
};

/// Stands for what does not exist.
const ABSENT: &str = "-";

/// What a table of a portfolio is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortfolioPart {
    /// Amounts by return period.
    Exceedance,
    /// Lines before treaties.
    Lines,
    /// All lines after each step.
    Steps,
    /// What treaties pay.
    Treaties,
    /// Frequencies and prices of layers.
    Layers,
    /// Premiums of treaties.
    Premiums,
    /// Capital and diversification.
    Capital,
    /// The allocation of the tail.
    Allocation,
    /// Occurrences by component.
    Components,
    /// Figures of the run beside those of the model.
    Checks,
}

/// A table with its title.
pub struct TitledTable {
    /// What the table is about.
    pub part: PortfolioPart,
    /// Title.
    pub title: String,
    /// The table; without rows where only the notes say something.
    pub table: ResultTable,
    /// Sentences below the table.
    pub notes: Vec<String>,
}

/// The output of a portfolio, and the level at which its parts are compared.
struct PortfolioOutput<'a> {
    output: &'a Value,
    args: &'a serde_json::Map<String, Value>,
    has_occurrences: bool,
    /// Position of the compared level among the reported ones.
    position: usize,
    level: String,
    width: TableWidth,
}

/// The tables in reading order; empty for profiles without lines and treaties.
pub fn portfolio_tables(request: &Request, job_result: &JobResult, width: TableWidth) -> Vec<TitledTable> {
    let output = &job_result.document.output;
    let Some(levels) = output["net"]["quantiles"].as_array().filter(|_| output["lines"].is_array()) else {
        return Vec::new();
    };
    let args = &request.envelope.args;
    let position = compared_position(output);
    let level = levels.get(position).and_then(|row| row["level"].as_f64());
    let level = level.map_or_else(String::new, format_level);
    let has_occurrences = has_occurrences(&request.program);
    let portfolio = PortfolioOutput { output, args, has_occurrences, position, level, width };
    let tables = [
        portfolio.exceedance(),
        portfolio.lines(),
        portfolio.steps(),
        portfolio.treaties(),
        portfolio.layers(),
        portfolio.premiums(),
        portfolio.capital(),
        portfolio.allocation(),
        portfolio.components(job_result),
        portfolio.checks(),
    ];
    tables.into_iter().flatten().collect()
}

/// The position, among the reported levels, of the one at which parts are compared: the nearest to
/// that of the diversification benefit.
pub fn compared_position(output: &Value) -> usize {
    let wanted = output["diversification"]["level"].as_f64().unwrap_or_default();
    let levels = output["net"]["quantiles"].as_array().map_or(&[][..], Vec::as_slice);
    let levels: Vec<f64> = levels.iter().filter_map(|row| row["level"].as_f64()).collect();
    nearest_level(&levels, wanted)
}

/// Whether a program has losses by occurrence, and not only totals of the year.
pub fn has_occurrences(program: &Program) -> bool {
    program.groups.iter().any(|group| group.occurrence != Occurrence::Annual)
}

impl PortfolioOutput<'_> {
    fn list(&self, name: &str) -> &[Value] {
        self.output[name].as_array().map_or(&[][..], Vec::as_slice)
    }

    fn exceedance(&self) -> Option<TitledTable> {
        let has_treaties = !self.list("treaties").is_empty();
        let is_page = self.width == TableWidth::Page;
        let columns: &[(&str, &str, &str)] = match (has_treaties, is_page) {
            (true, false) => &[
                ("Net AEP", "net", "var"),
                ("95% CI low", "net", "var_low"),
                ("95% CI high", "net", "var_high"),
                ("Gross AEP", "gross", "var"),
                ("Gross OEP", "largest_occurrence", "var"),
            ],
            (true, true) => &[
                ("Net AEP", "net", "var"),
                ("Net AEP low", "net", "var_low"),
                ("Net AEP high", "net", "var_high"),
                ("Net TVaR", "net", "tvar"),
                ("Gross AEP", "gross", "var"),
                ("Gross TVaR", "gross", "tvar"),
                ("Gross OEP", "largest_occurrence", "var"),
                ("OEP TVaR", "largest_occurrence", "tvar"),
            ],
            (false, false) => &[
                ("AEP", "net", "var"),
                ("95% CI low", "net", "var_low"),
                ("95% CI high", "net", "var_high"),
                ("OEP", "largest_occurrence", "var"),
            ],
            (false, true) => &[
                ("AEP", "net", "var"),
                ("AEP low", "net", "var_low"),
                ("AEP high", "net", "var_high"),
                ("AEP TVaR", "net", "tvar"),
                ("OEP", "largest_occurrence", "var"),
                ("OEP TVaR", "largest_occurrence", "tvar"),
            ],
        };
        let rows = self.list("exceedance").iter().map(|row| {
            let years = row["return_period"].as_u64().map_or_else(String::new, format_count);
            let cells = columns.iter().map(|&(_, tail, figure)| match tail {
                "largest_occurrence" if !self.has_occurrences => ABSENT.to_owned(),
                _ => amount(&row[tail][figure]),
            });
            [format!("{years} years")].into_iter().chain(cells).collect()
        });
        let header =
            ["Return period"].into_iter().chain(columns.iter().map(|(heading, ..)| *heading)).collect();
        let title = match has_treaties {
            true => {
                "Exceedance (net and gross AEP: loss of a year after and before treaties; OEP: largest loss)"
            }
            false => "Exceedance (AEP: loss of a year; OEP: its largest loss)",
        };
        let title = if is_page { format!("{title}, {INTERVAL_LEGEND}") } else { title.to_owned() };
        titled(PortfolioPart::Exceedance, title, header, rows)
    }

    /// Name, mean, deviation, value at risk and tail value at risk.
    fn figures(&self, name: String, figures: &Value) -> Vec<String> {
        let tail = &figures["quantiles"][self.position];
        let cells = [&figures["mean"], &figures["std_dev"], &tail["var"], &tail["tvar"]];
        [name].into_iter().chain(cells.map(amount)).collect()
    }

    fn lines(&self) -> Option<TitledTable> {
        let rows = self.list("lines").iter().map(|line| self.figures(text(&line["name"]), &line["gross"]));
        let total = (rows.len() > 1).then(|| self.figures("all lines".to_owned(), &self.output["gross"]));
        let title = format!("Lines before treaties (VaR and TVaR at {})", self.level);
        titled(
            PortfolioPart::Lines,
            title,
            vec!["Line", "Mean", "Std. dev.", "VaR", "TVaR"],
            rows.chain(total),
        )
    }

    fn steps(&self) -> Option<TitledTable> {
        let steps = self.list("steps");
        let rows =
            steps.iter().map(|step| self.figures(format!("after step {}", step["step"]), &step["net"]));
        let gross =
            (!steps.is_empty()).then(|| self.figures("before treaties".to_owned(), &self.output["gross"]));
        let title = format!("All lines, step by step (VaR and TVaR at {})", self.level);
        titled(
            PortfolioPart::Steps,
            title,
            vec!["Annual loss", "Mean", "Std. dev.", "VaR", "TVaR"],
            gross.into_iter().chain(rows),
        )
    }

    fn treaties(&self) -> Option<TitledTable> {
        let rows = self.list("treaties").iter().map(|treaty| {
            let mut cells = self.figures(text(&treaty["name"]), &treaty["ceded"]);
            cells.pop();
            cells.push(percent(&treaty["attachment_probability"]));
            cells.push(percent(&treaty["exhaustion_probability"]));
            cells
        });
        let title = format!("Treaties, what they pay in a year (VaR at {})", self.level);
        let header = vec!["Treaty", "Mean", "Std. dev.", "VaR", "Attachment", "Exhaustion"];
        titled(PortfolioPart::Treaties, title, header, rows)
    }

    /// Frequencies and prices of the treaties that are layers.
    fn layers(&self) -> Option<TitledTable> {
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

    /// Premiums of the treaties that have one.
    fn premiums(&self) -> Option<TitledTable> {
        let treaties = self.list("treaties").iter().filter(|treaty| treaty["premium"].is_object());
        let rows = treaties.map(|treaty| {
            let premiums = ["ceded", "commission", "net"].map(|name| amount(&treaty["premium"][name]));
            [text(&treaty["name"])].into_iter().chain(premiums).collect()
        });
        let header = vec!["Treaty", "Ceded", "Commission", "Net"];
        titled(PortfolioPart::Premiums, "Premiums: ceded, commission, net", header, rows)
    }

    fn capital(&self) -> Option<TitledTable> {
        let mut rows = Vec::new();
        let signal = &self.output["capital_adequacy_signal"];
        if let Some(capital) = self.args.get("capital").filter(|_| signal.is_object()) {
            let measure = if capital["measure"] == "tvar" { "TVaR" } else { "VaR" };
            let level = capital["level"].as_f64().map_or_else(String::new, format_level);
            rows.extend([
                vec!["Own funds".to_owned(), amount(&capital["own_funds"])],
                vec![format!("SCR: net {measure} at {level}"), amount(&signal["scr"])],
                vec!["Solvency ratio".to_owned(), ratio_with_interval(signal)],
                vec!["Ruin probability".to_owned(), percent(&signal["ruin_probability"])],
                vec!["Signal".to_owned(), text(&signal["signal"])],
            ]);
        }
        let diversification = &self.output["diversification"];
        if self.list("lines").len() > 1 {
            let level = diversification["level"].as_f64().map_or_else(String::new, format_level);
            rows.extend([
                vec![
                    format!("Sum of the lines' gross VaR at {level}"),
                    amount(&diversification["sum_of_lines"]),
                ],
                vec![format!("Gross VaR of all lines at {level}"), amount(&diversification["together"])],
                vec!["Diversification benefit".to_owned(), percent(&diversification["benefit"])],
            ]);
        }
        titled(
            PortfolioPart::Capital,
            "Capital and diversification",
            vec!["Figure", "Value"],
            rows.into_iter(),
        )
    }

    /// The parts of lines and treaties in the net loss beyond the compared level.
    fn allocation(&self) -> Option<TitledTable> {
        let tail = &self.list("allocation").get(self.position)?["tail"];
        let Some(net) = tail["net"].as_f64() else {
            return Some(TitledTable {
                part: PortfolioPart::Allocation,
                title: "Tail allocation".to_owned(),
                table: ResultTable { header: Vec::new(), rows: Vec::new() },
                notes: vec!["No tail allocation: the net annual loss has no mean.".to_owned()],
            });
        };
        let share = |part: f64| if net > 0.0 { format_percent_of(part / net) } else { ABSENT.to_owned() };
        let parts = |names: &str, list: &str, sign: f64| {
            let (names, amounts) = (self.list(names), tail[list].as_array().map_or(&[][..], Vec::as_slice));
            let rows = names.iter().zip(amounts).map(|(name, amount)| {
                let Some(amount) = amount.as_f64() else {
                    return vec![text(&name["name"]), ABSENT.to_owned(), ABSENT.to_owned()];
                };
                let amount = sign * amount;
                // Not -0.
                let amount = if amount == 0.0 { 0.0 } else { amount };
                vec![text(&name["name"]), format_rounded(amount), share(amount)]
            });
            rows.collect::<Vec<_>>()
        };
        let mut rows = parts("lines", "lines", 1.0);
        rows.extend(parts("treaties", "treaties", -1.0));
        rows.push(vec!["net".to_owned(), format_rounded(net), share(net)]);
        // The quantile's bucket counts in part: net is the net TVaR to the width of a bucket.
        let title =
            format!("Tail allocation: means beyond the net VaR at {} (net: its TVaR, to 0.4%)", self.level);
        titled(PortfolioPart::Allocation, title, vec!["Part", "Mean", "Of the net loss"], rows.into_iter())
    }

    /// Figures of the run beside those of the model: on a terminal the z-scores alone.
    fn checks(&self) -> Option<TitledTable> {
        const TITLE: &str = "Checks against the model (z: distance in standard errors)";
        let checks = &self.output["checks"];
        let groups = checks["groups"].as_array().map_or(&[][..], Vec::as_slice);
        let mut legend = CheckLegend::default();
        if self.width == TableWidth::Terminal {
            let rows: Vec<_> = groups
                .iter()
                .map(|group| {
                    let [count, gross] = ["count", "gross"].map(|name| &group[name]);
                    vec![
                        text(&group["name"]),
                        legend.z_score(&count["mean"], false),
                        legend.z_score(&count["variance"], true),
                        legend.z_score(&gross["mean"], false),
                        legend.z_score(&gross["variance"], true),
                        legend.z_score(&group["zero_probability"], false),
                    ]
                })
                .collect();
            let header = vec!["Group", "Count mean", "Count var.", "Loss mean", "Loss var.", "No loss"];
            let checks = titled(PortfolioPart::Checks, TITLE, header, rows.into_iter());
            return checks.map(|checks| TitledTable { notes: legend.sentences(), ..checks });
        }
        let mut rows = Vec::new();
        let mut push = |label: String, check: &Value, is_variance: bool| {
            let z = legend.z_score(check, is_variance);
            rows.push(vec![label, figure(&check["expected"]), figure(&check["found"]), z]);
        };
        for group in groups {
            let name = text(&group["name"]);
            for (figures, words) in [("count", "occurrences"), ("gross", "annual loss")] {
                for moment in ["mean", "variance"] {
                    let check = &group[figures][moment];
                    if check.is_object() {
                        push(format!("{name}: {moment} of the {words}"), check, moment == "variance");
                    }
                }
            }
            push(format!("{name}: probability of no loss"), &group["zero_probability"], false);
        }
        let largest = checks["largest_occurrence"].as_array().filter(|_| self.has_occurrences);
        let largest = largest.map_or(&[][..], Vec::as_slice);
        let has_model = largest.iter().any(|check| !check["probability"]["expected"].is_null());
        for check in largest.iter().filter(|_| has_model) {
            let label = format!("Probability that the largest loss exceeds {}", amount(&check["amount"]));
            push(label, &check["probability"], false);
        }
        let mut notes = legend.sentences();
        if !largest.is_empty() && !has_model {
            notes.push("The model has no figure for the largest loss of a year.".to_owned());
        }
        let header = vec!["Figure", "Model", "This run", "z"];
        let checks = titled(PortfolioPart::Checks, TITLE, header, rows.into_iter());
        checks.map(|checks| TitledTable { notes, ..checks })
    }

    /// Occurrences by component.
    fn components(&self, job_result: &JobResult) -> Option<TitledTable> {
        let work = &job_result.document.work;
        let years = job_result.merged.iterations.max(1) as f64;
        let rows = work.components.iter().map(|component| {
            vec![
                component.name.clone(),
                format_count(component.occurrences),
                format!("{:.4}", component.occurrences as f64 / years),
                format_count(component.capped),
            ]
        });
        titled(
            PortfolioPart::Components,
            "Losses by component",
            vec!["Component", "Losses", "A year", "At the limit"],
            rows,
        )
    }
}

fn titled(
    part: PortfolioPart,
    title: impl Into<String>,
    header: Vec<&'static str>,
    rows: impl Iterator<Item = Vec<String>>,
) -> Option<TitledTable> {
    let rows: Vec<_> = rows.collect();
    (!rows.is_empty()).then(|| TitledTable {
        part,
        title: title.into(),
        table: ResultTable { header, rows },
        notes: Vec::new(),
    })
}

pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn amount(value: &Value) -> String {
    value.as_f64().map_or_else(|| ABSENT.to_owned(), format_rounded)
}

fn percent(value: &Value) -> String {
    value.as_f64().map_or_else(|| ABSENT.to_owned(), format_percent)
}

/// A percentage of any size and sign, with one decimal.
fn format_percent_of(fraction: f64) -> String {
    format!("{:.1}%", fraction * 100.0)
}

/// A figure of any size: a probability, a number or an amount.
fn figure(value: &Value) -> String {
    let text = |x: f64| match x.abs() < 1000.0 {
        true => format!("{x:.6}"),
        false => format_rounded(x),
    };
    value.as_f64().map_or_else(|| ABSENT.to_owned(), text)
}

/// What stands in place of z-scores, with its meaning.
const CHECK_WORDS: [(&str, &str); 8] = [
    ("index", "depends on an index, so no model figure"),
    ("strikes", "a sum of independent losses, so no model figure"),
    ("moment", "the tail is too heavy for this figure or its standard error"),
    ("single year", "a single year has no variance"),
    ("few years", "fewer than 10 expected"),
    ("exact", "the same in every year, and equal to the model's"),
    ("DIFFERS", "the same in every year of the model, but not of this run"),
    ("constant", "nearly the same in every run, so no standard error"),
];
/// Figures that are equal but for rounding differ by less than this, relative to their size.
const ROUNDING: f64 = 1e-9;

/// The words that stand in place of z-scores in a table.
#[derive(Default)]
struct CheckLegend(Vec<String>);

impl CheckLegend {
    /// A difference in standard errors; in its place, why there is none.
    fn z_score(&mut self, check: &Value, is_variance: bool) -> String {
        let word = match (check["z"].as_f64(), check["unknown"].as_str()) {
            (Some(z), _) => return format!("{z:+.2}"),
            (None, None) => return ABSENT.to_owned(),
            (None, Some("constant")) => constant_word(check, is_variance).to_owned(),
            (None, Some(reason)) => reason.replace('_', " "),
        };
        if !self.0.contains(&word) {
            self.0.push(word.clone());
        }
        word
    }

    /// A sentence for each word that the table has.
    fn sentences(&self) -> Vec<String> {
        let used = CHECK_WORDS.iter().filter(|(word, _)| self.0.iter().any(|used| used == word));
        used.map(|(word, meaning)| format!("{word}: {meaning}.")).collect()
    }
}

/// Whether a figure without a standard error is that of the model. The variance of two equally
/// probable values has no standard error either, but is not the same in every run.
fn constant_word(check: &Value, is_variance: bool) -> &'static str {
    let (Some(expected), Some(found)) = (check["expected"].as_f64(), check["found"].as_f64()) else {
        return "constant";
    };
    match (found - expected).abs() <= ROUNDING * expected.abs() {
        true => "exact",
        false if is_variance && expected > 0.0 => "constant",
        false => "DIFFERS",
    }
}

/// A number of occurrences a year.
fn frequency(value: &Value) -> String {
    value.as_f64().map_or_else(|| ABSENT.to_owned(), |frequency| format!("{frequency:.4}"))
}

fn ratio_with_interval(signal: &Value) -> String {
    let ratio = |name: &str| signal[name].as_f64().map_or_else(|| ABSENT.to_owned(), format_percent_of);
    format!("{} (95% CI {} to {})", ratio("ratio"), ratio("ratio_low"), ratio("ratio_high"))
}
