//! The summary of a run for an actuary at a terminal, at most 100 columns wide. Names in it come
//! from the envelope, so control characters are written out.

use std::collections::BTreeSet;

use forge_aggregator::JobCompletion;
use forge_documents::{
    JobResult, histogram,
    number_format::{format_count, format_duration, format_percent, format_rate},
    portfolio_tables::portfolio_tables,
    result_tables::{self, ResultTable, TableWidth, capitalise},
    tail_value_intervals::few_beyond_notes,
};

use super::{bar_chart, count_of, exceedance_plot, table};
use crate::{foreign_text::escape_line, output::TextStyle};

const WARNINGS: &str = "Warnings";

/// Everything that the summary shows.
pub struct RunSummary<'a> {
    /// The job and its result.
    pub completion: &'a JobCompletion,
    /// Number of threads that executed it.
    pub threads: usize,
    /// Where the artifacts are: label and text.
    pub artifacts: Vec<(String, String)>,
}

impl RunSummary<'_> {
    /// The whole summary as text.
    pub fn render(&self, style: TextStyle) -> String {
        let section = |(title, lines): (String, Vec<String>)| {
            let title = escape_line(&title);
            let title = if title == WARNINGS { style.warning(&title) } else { style.heading(&title) };
            let lines: Vec<_> = lines.iter().map(|line| escape_line(line)).collect();
            format!("{title}\n{}\n", lines.join("\n"))
        };
        self.sections().into_iter().map(section).collect::<Vec<_>>().join("\n")
    }

    /// The sections in order, each with its title and its lines.
    fn sections(&self) -> Vec<(String, Vec<String>)> {
        let (request, result) = (&self.completion.job.request, self.result());
        let words = request.profile().vocabulary;
        let moments = result_tables::moment_values(request, result).into_iter();
        let moments: Vec<_> = moments.map(|figure| (figure.label, figure.value, figure.remark)).collect();
        let quantity = result_tables::quantity_with_unit(request);
        let mut sections = vec![
            (format!("Job {}", self.completion.job.id), table::render_facts(&self.run_facts())),
            (capitalise(&quantity), table::render_figures(&moments)),
            (format!("Quantiles of the {quantity}"), render(&result_tables::value_at_risk_table(result))),
        ];
        let tail_values = result_tables::tail_value_table(result);
        let mut lines = render(&tail_values);
        lines.extend(few_beyond_notes(&tail_values.rows, words).iter().map(|note| format!("  {note}")));
        sections.push((result_tables::tail_value_title(request), lines));
        let tables = portfolio_tables(request, result, TableWidth::Terminal).into_iter();
        sections.extend(tables.map(|titled| {
            let mut lines = match titled.table.rows.is_empty() {
                true => Vec::new(),
                false => render(&titled.table),
            };
            lines.extend(titled.notes.iter().map(|note| format!("  {note}")));
            (titled.title, lines)
        }));
        if words.return_periods {
            if !request.program.details {
                sections.push((
                    result_tables::exceedance_title(request),
                    render(&result_tables::exceedance_table(result, words)),
                ));
            }
            sections.extend(exceedance_plot::render_plot(request, &result.merged));
        } else {
            let title = format!("Distribution of the {quantity}");
            let rows = histogram::histogram_rows(&result.merged.total, request.program.units);
            sections.push((title, bar_chart::render_bars(&rows)));
        }
        let warnings: Vec<_> = result_tables::result_warnings(request, result)
            .iter()
            .map(|warning| format!("  {warning}"))
            .collect();
        if !warnings.is_empty() {
            sections.push((WARNINGS.to_owned(), warnings));
        }
        sections.push(("Artifacts".to_owned(), table::render_facts(&self.artifacts)));
        sections
    }

    fn result(&self) -> &JobResult {
        &self.completion.job_result
    }

    fn run_facts(&self) -> Vec<(String, String)> {
        let JobCompletion { job, execution_duration, executions, .. } = self.completion;
        let request = &job.request;
        let words = request.profile().vocabulary;
        let backends = distinct(executions.iter().map(|execution| &execution.backend));
        let rate = self.result().merged.iterations as f64 / execution_duration.as_secs_f64().max(1e-9);
        let engine = format!(
            "{backends} on {}, {} ({} {}/s)",
            count_of(self.threads as u64, "thread"),
            format_duration(*execution_duration),
            format_rate(rate),
            words.iterations
        );
        let mut facts: Vec<_> =
            result_tables::title(request).map(|title| ("Title", title.to_owned())).into_iter().collect();
        facts.extend([
            ("Profile", result_tables::profile_label(request)),
            (words.iterations, result_tables::iterations_text(self.result(), words)),
            (result_tables::OCCURRENCES, result_tables::occurrences_text(request, self.result())),
            ("Seed", result_tables::seed_text(request).to_owned()),
            ("Executed by", engine),
        ]);
        facts.extend(self.verification_fact().map(|text| ("Verified", text)));
        facts.extend(self.refutation_fact().map(|text| ("Refuted", text)));
        facts.extend(self.contradiction_fact().map(|text| ("Contradicted", text)));
        facts.into_iter().map(|(label, text)| (capitalise(label), text)).collect()
    }

    /// How much was verified, and what that proves; `None` if nothing was verified.
    fn verification_fact(&self) -> Option<String> {
        let verification = &self.completion.verification;
        if verification.checked.is_empty() {
            return None;
        }
        // The first attacker is one with a single wrong shard.
        let escape = verification.escape.first()?;
        let on_other_hardware = match verification.on_other_hardware {
            0 => String::new(),
            shards => format!(" ({} of them on other hardware)", format_count(shards)),
        };
        Some(format!(
            "{} of {} shards re-executed by {}{on_other_hardware}: all equal; P(one wrong shard ships) = {}",
            format_count(verification.checked.len() as u64),
            format_count(verification.shards),
            distinct(verification.pairs.iter().map(|pair| &pair.verifier)),
            format_percent(escape.probability)
        ))
    }

    /// How many results were refuted; `None` if none were.
    fn refutation_fact(&self) -> Option<String> {
        let refuted = &self.completion.verification.refuted;
        if refuted.is_empty() {
            return None;
        }
        let agents: BTreeSet<_> = refuted.iter().map(|verdict| &verdict.statement.agent_id).collect();
        Some(format!(
            "{} of {}, re-executed by others; test this machine's hardware",
            count_of(refuted.len() as u64, "wrong result"),
            count_of(agents.len() as u64, "thread")
        ))
    }

    /// How many accepted results another result contradicts; `None` if none.
    fn contradiction_fact(&self) -> Option<String> {
        let count = self.completion.verification.contradictions.len() as u64;
        (count > 0).then(|| format!("{} by a second result of its shard", count_of(count, "result")))
    }
}

/// The distinct texts in ascending order, separated by commas.
fn distinct<'a>(texts: impl Iterator<Item = &'a String>) -> String {
    let texts: BTreeSet<_> = texts.map(String::as_str).collect();
    texts.into_iter().collect::<Vec<_>>().join(", ")
}

fn render(table: &ResultTable) -> Vec<String> {
    table::render_table(&table.header, &table.rows)
}
