//! The tables of a portfolio's result: lines, steps, treaties, capital, exceedance and who makes
//! the tail. Results of other profiles have none.
//!
//! The titles of tables of amounts name their currency, if the envelope states it.

use forge_contract::program::{Occurrence, Program};
use forge_kernel::{request::Request, workload::Vocabulary};
use serde_json::Value;

use crate::{
    headline_figures::figure_text,
    job_result::JobResult,
    number_format::{format_count, format_level, format_percent, format_ratio, format_rounded},
    result_tables::{self, ResultTable, TableWidth, compared_position},
    tail_value_intervals::{beyond_level, few_beyond_notes, mark_if_few},
};

mod checks;
mod exceedance;
mod treaties;

/// Stands for what does not exist.
const ABSENT: &str = "-";

/// What a table of a portfolio is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortfolioPart {
    /// Annual losses by return period.
    Exceedance,
    /// Their tail values.
    TailValues,
    /// Largest losses by return period.
    LargestLosses,
    /// Their tail values.
    LargestTailValues,
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
    job_result: &'a JobResult,
    output: &'a Value,
    args: &'a serde_json::Map<String, Value>,
    has_occurrences: bool,
    /// Position of the compared level among the reported ones.
    position: usize,
    level: String,
    width: TableWidth,
    words: Vocabulary,
    /// The currency; empty where none is stated.
    unit: &'a str,
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
    let unit = result_tables::unit(request);
    let words = request.profile().vocabulary;
    let portfolio =
        PortfolioOutput { job_result, output, args, has_occurrences, position, level, width, words, unit };
    let tables = [
        portfolio.lines(),
        portfolio.steps(),
        portfolio.treaties(),
        portfolio.layers(),
        portfolio.premiums(&request.commission_errors(&job_result.merged)),
        portfolio.capital(),
        portfolio.allocation(),
        portfolio.components(),
        portfolio.checks(),
    ];
    let tables = portfolio.exceedance().into_iter().chain(tables.into_iter().flatten());
    tables.map(|table| with_unit(table, unit)).collect()
}

/// Names the currency of a table's amounts, if there is one. Rows of checks name it themselves,
/// because not all of them are amounts.
fn with_unit(table: TitledTable, unit: &str) -> TitledTable {
    let has_amounts = !matches!(table.part, PortfolioPart::Components | PortfolioPart::Checks);
    if unit.is_empty() || !has_amounts {
        return table;
    }
    TitledTable { title: format!("{}, {unit}", table.title), ..table }
}

/// Whether a program has losses by occurrence, and not only totals of the year.
pub fn has_occurrences(program: &Program) -> bool {
    program.groups.iter().any(|group| group.occurrence != Occurrence::Annual)
}

impl PortfolioOutput<'_> {
    fn list(&self, name: &str) -> &[Value] {
        self.output[name].as_array().map_or(&[][..], Vec::as_slice)
    }

    /// Name, mean, deviation, value at risk and tail value at risk.
    fn figures(&self, name: String, figures: &Value) -> Vec<String> {
        let tail = &figures["quantiles"][self.position];
        let cells = [&figures["mean"], &figures["std_dev"], &tail["var"], &tail["tvar"]];
        [name].into_iter().chain(cells.map(amount)).collect()
    }

    /// The figures of a year, and the value at risk of its largest loss (OEP).
    fn figures_with_largest(&self, name: String, figures: &Value, largest: &Value) -> Vec<String> {
        let mut cells = self.figures(name, figures);
        cells.push(self.largest(largest));
        cells
    }

    /// The value at risk of a largest loss.
    fn largest(&self, largest: &Value) -> String {
        match self.has_occurrences {
            true => amount(&largest["quantiles"][self.position]["var"]),
            false => ABSENT.to_owned(),
        }
    }

    fn lines(&self) -> Option<TitledTable> {
        let rows = self.list("lines").iter().map(|line| {
            self.figures_with_largest(text(&line["name"]), &line["gross"], &line["largest_occurrence"])
        });
        let total = (rows.len() > 1).then(|| {
            let (gross, largest) = (&self.output["gross"], &self.output["largest_occurrence"]);
            self.figures_with_largest("all lines".to_owned(), gross, largest)
        });
        let title = format!("Lines before treaties (VaR, TVaR and OEP at {})", self.level);
        titled(
            PortfolioPart::Lines,
            title,
            vec!["Line", "Mean", "Std. dev.", "VaR", "TVaR", "OEP"],
            rows.chain(total),
        )
    }

    fn steps(&self) -> Option<TitledTable> {
        let steps = self.list("steps");
        let rows = steps.iter().map(|step| {
            let name = format!("after step {}", step["step"]);
            self.figures_with_largest(name, &step["net"], &step["largest_occurrence"])
        });
        let gross = (!steps.is_empty()).then(|| {
            let (gross, largest) = (&self.output["gross"], &self.output["largest_occurrence"]);
            self.figures_with_largest("before treaties".to_owned(), gross, largest)
        });
        let title = format!("All lines, step by step (VaR, TVaR and OEP at {})", self.level);
        titled(
            PortfolioPart::Steps,
            title,
            vec!["Annual loss", "Mean", "Std. dev.", "VaR", "TVaR", "OEP"],
            gross.into_iter().chain(rows),
        )
    }

    fn capital(&self) -> Option<TitledTable> {
        let mut rows = Vec::new();
        let signal = &self.output["capital_adequacy_signal"];
        if let Some(capital) = self.args.get("capital").filter(|_| signal.is_object()) {
            let is_tail = capital["measure"] == "tvar";
            let measure = if is_tail { "TVaR" } else { "VaR" };
            let level = capital["level"].as_f64().unwrap_or_default();
            let scr = format!("SCR: net {measure} at {}", format_level(level));
            let shows_interval = is_tail && signal["ratio_low"].is_number();
            let scr = mark_if_few(scr, beyond_level(self.job_result, level), shows_interval);
            rows.extend([
                vec!["Own funds".to_owned(), amount(&capital["own_funds"])],
                vec![scr, figure(&signal["scr"], "scr")],
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
        let header = vec!["Figure", "Value"];
        let mut table =
            titled(PortfolioPart::Capital, "Capital and diversification", header, rows.into_iter())?;
        table.notes.extend(few_beyond_notes(&table.table.rows, self.words));
        Some(table)
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
        let share = |part: f64| if net > 0.0 { format_ratio(part / net) } else { ABSENT.to_owned() };
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
        let title = format!("Tail allocation: means of the years beyond the net VaR at {}", self.level);
        let header = vec!["Part", "Mean", "Of the net loss"];
        let table = titled(PortfolioPart::Allocation, title, header, rows.into_iter())?;
        // What the bucket of the quantile costs beyond the VaR is not known by part.
        let note =
            "Years are known by intervals of 0.4% of the net loss, so net is not exactly the net TVaR.";
        Some(TitledTable { notes: vec![note.to_owned()], ..table })
    }

    /// Occurrences by component.
    fn components(&self) -> Option<TitledTable> {
        let work = &self.job_result.document.work;
        let years = self.job_result.merged.iterations.max(1) as f64;
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
            "Occurrences by component",
            vec!["Component", "In all", "A year", "At the limit"],
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

/// A figure that the record of a job has under this name, as its status shows it.
fn figure(value: &Value, name: &str) -> String {
    value.as_f64().map_or_else(|| ABSENT.to_owned(), |value| figure_text(name, value))
}

fn ratio_with_interval(signal: &Value) -> String {
    let ratio = |name: &str| figure(&signal[name], "solvency_ratio");
    format!("{} (95% CI {} to {})", ratio("ratio"), ratio("ratio_low"), ratio("ratio_high"))
}
