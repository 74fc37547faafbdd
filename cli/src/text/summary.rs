//! The summary of a run, for an actuary at a terminal: at most 100 columns wide.

use std::collections::BTreeSet;

use forge_aggregator::JobCompletion;
use forge_documents::{
    JobResult, histogram,
    number_format::{format_count, format_duration, format_percent, format_rate},
    result_tables::{self, ResultTable, capitalise},
};

use super::{bars, plot, table};
use crate::output::Style;

/// What is summarised.
pub struct View<'a> {
    /// The job and what came of it.
    pub completed: &'a JobCompletion,
    /// On how many threads it was executed.
    pub threads: usize,
    /// Where the artifacts are: label and text.
    pub artifacts: Vec<(String, String)>,
}

impl View<'_> {
    /// The whole summary.
    pub fn text(&self, style: Style) -> String {
        let section = |(title, lines): (String, Vec<String>)| {
            let title = if title == WARNINGS { style.warning(&title) } else { style.heading(&title) };
            format!("{title}\n{}\n", lines.join("\n"))
        };
        self.sections().into_iter().map(section).collect::<Vec<_>>().join("\n")
    }

    /// Titles and lines.
    fn sections(&self) -> Vec<(String, Vec<String>)> {
        let (request, job_result) = (&self.completed.job.request, self.job_result());
        let words = request.profile().vocabulary;
        let moments = result_tables::moment_values(request, job_result).into_iter();
        let moments: Vec<_> = moments.map(|figure| (figure.label, figure.value, figure.remark)).collect();
        let quantity = result_tables::quantity_with_unit(words);
        let mut sections = vec![
            (format!("Job {}", self.completed.job.id), table::facts(&self.run_facts())),
            (capitalise(&quantity), table::figures(&moments)),
            (format!("Quantiles of the {quantity}"), set(&result_tables::quantile_table(job_result))),
        ];
        if words.return_periods {
            sections.push((
                result_tables::exceedance_title(words),
                set(&result_tables::exceedance_table(job_result, words)),
            ));
            if let Some(lines) = plot::lines(&job_result.merged, &request.program) {
                let title = format!(
                    "{} by return period in {}: AEP solid line, OEP dotted",
                    capitalise(words.quantity),
                    words.iterations
                );
                sections.push((title, lines));
            }
        } else {
            let title = format!("Distribution of the {quantity}");
            let rows = histogram::histogram_rows(&job_result.merged.total, request.program.units);
            sections.push((title, bars::lines(&rows)));
        }
        let warnings: Vec<_> = result_tables::result_warnings(request, job_result)
            .iter()
            .map(|warning| format!("  {warning}"))
            .collect();
        if !warnings.is_empty() {
            sections.push((WARNINGS.to_owned(), warnings));
        }
        sections.push(("Artifacts".to_owned(), table::facts(&self.artifacts)));
        sections
    }

    fn job_result(&self) -> &JobResult {
        &self.completed.job_result
    }

    fn run_facts(&self) -> Vec<(String, String)> {
        let JobCompletion { job, executing, executions, .. } = self.completed;
        let request = &job.request;
        let words = request.profile().vocabulary;
        let threads =
            if self.threads == 1 { "1 thread".to_owned() } else { format!("{} threads", self.threads) };
        let backends = distinct(executions.iter().map(|execution| &execution.backend));
        let rate = self.job_result().merged.iterations as f64 / executing.as_secs_f64().max(1e-9);
        let engine = format!(
            "{backends} on {threads}, {} ({} {}/s)",
            format_duration(*executing),
            format_rate(rate),
            words.iterations
        );
        let mut facts = vec![
            ("Profile", result_tables::profile_label(request)),
            (words.iterations, result_tables::iterations_text(self.job_result(), words)),
            (words.occurrences, result_tables::occurrences_text(request, self.job_result())),
            ("Seed", result_tables::seed_text(request).to_owned()),
            ("Executed by", engine),
        ];
        facts.extend(self.verified().map(|verified| ("Verified", verified)));
        facts.extend(self.refuted().map(|refuted| ("Refuted", refuted)));
        facts.into_iter().map(|(label, text)| (capitalise(label), text)).collect()
    }

    fn verified(&self) -> Option<String> {
        let verification = &self.completed.verification;
        if verification.checked.is_empty() {
            return None;
        }
        let chance = verification.detection.iter().find(|detection| detection.wrong_share == 0.05)?;
        let other = match verification.on_other_hardware {
            0 => String::new(),
            shards => format!(" ({} of them on other hardware)", format_count(shards)),
        };
        Some(format!(
            "{} of {} shards again by {}{other}: equal; 5% wrong ones would show in {} of cases",
            format_count(verification.checked.len() as u64),
            format_count(verification.shards),
            distinct(verification.pairs.iter().map(|pair| &pair.verifier)),
            format_percent(chance.probability)
        ))
    }

    fn refuted(&self) -> Option<String> {
        let refuted = &self.completed.verification.refuted;
        let agents: BTreeSet<_> = refuted.iter().map(|refuted| &refuted.agent_id).collect();
        let count =
            |number: usize, one: &str| format!("{number} {one}{}", if number == 1 { "" } else { "s" });
        (!refuted.is_empty()).then(|| {
            format!(
                "{} of {}, executed again by others: test this machine",
                count(refuted.len(), "wrong result"),
                count(agents.len(), "thread")
            )
        })
    }
}

/// Distinct texts, in order.
fn distinct<'a>(texts: impl Iterator<Item = &'a String>) -> String {
    let texts: BTreeSet<_> = texts.map(String::as_str).collect();
    texts.into_iter().collect::<Vec<_>>().join(", ")
}

const WARNINGS: &str = "Warnings";

fn set(table: &ResultTable) -> Vec<String> {
    table::lines(&table.header, &table.rows)
}
