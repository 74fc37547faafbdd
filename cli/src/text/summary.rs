//! The summary of a run, for an actuary at a terminal: at most 100 columns wide.

use std::collections::BTreeSet;

use forge_aggregator::JobCompletion;
use forge_documents::{
    Figures, histogram,
    number::{duration, grouped, percent, rounded_rate},
    tables::{self, Table, capitalised},
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
        let (request, figures) = (&self.completed.job.request, self.figures());
        let words = request.profile().words;
        let moments = tables::moments(request, figures).into_iter();
        let moments: Vec<_> = moments.map(|figure| (figure.label, figure.value, figure.remark)).collect();
        let quantity = tables::with_unit(words);
        let mut sections = vec![
            (format!("Job {}", self.completed.job.id), table::facts(&self.run_facts())),
            (capitalised(&quantity), table::figures(&moments)),
            (format!("Quantiles of the {quantity}"), set(&tables::quantiles(figures))),
        ];
        if words.return_periods {
            sections.push((tables::exceedance_title(words), set(&tables::exceedance(figures, words))));
            if let Some(lines) = plot::lines(&figures.merged, &request.program) {
                let title = format!(
                    "{} by return period in {}: AEP solid line, OEP dotted",
                    capitalised(words.quantity),
                    words.iterations
                );
                sections.push((title, lines));
            }
        } else {
            let title = format!("Distribution of the {quantity}");
            let rows = histogram::rows(&figures.merged.total, request.program.units);
            sections.push((title, bars::lines(&rows)));
        }
        let warnings: Vec<_> =
            tables::warnings(request, figures).iter().map(|warning| format!("  {warning}")).collect();
        if !warnings.is_empty() {
            sections.push((WARNINGS.to_owned(), warnings));
        }
        sections.push(("Artifacts".to_owned(), table::facts(&self.artifacts)));
        sections
    }

    fn figures(&self) -> &Figures {
        &self.completed.figures
    }

    fn run_facts(&self) -> Vec<(String, String)> {
        let JobCompletion { job, executing, executions, .. } = self.completed;
        let request = &job.request;
        let words = request.profile().words;
        let threads =
            if self.threads == 1 { "1 thread".to_owned() } else { format!("{} threads", self.threads) };
        let backends = distinct(executions.iter().map(|execution| &execution.backend));
        let rate = self.figures().merged.iterations as f64 / executing.as_secs_f64().max(1e-9);
        let engine = format!(
            "{backends} on {threads}, {} ({} {}/s)",
            duration(*executing),
            rounded_rate(rate),
            words.iterations
        );
        let mut facts = vec![
            ("Profile", tables::profile(request)),
            (words.iterations, tables::iterations(self.figures(), words)),
            (words.occurrences, tables::occurrences(request, self.figures())),
            ("Seed", tables::seed(request).to_owned()),
            ("Executed by", engine),
        ];
        facts.extend(self.verified().map(|verified| ("Verified", verified)));
        facts.extend(self.refuted().map(|refuted| ("Refuted", refuted)));
        facts.into_iter().map(|(label, text)| (capitalised(label), text)).collect()
    }

    fn verified(&self) -> Option<String> {
        let verification = &self.completed.verification;
        if verification.checked.is_empty() {
            return None;
        }
        let chance = verification.detection.iter().find(|detection| detection.wrong_share == 0.05)?;
        let other = match verification.on_other_hardware {
            0 => String::new(),
            shards => format!(" ({} of them on other hardware)", grouped(shards)),
        };
        Some(format!(
            "{} of {} shards again by {}{other}: equal; 5% wrong ones would show in {} of cases",
            grouped(verification.checked.len() as u64),
            grouped(verification.shards),
            distinct(verification.pairs.iter().map(|pair| &pair.verifier)),
            percent(chance.probability)
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

fn set(table: &Table) -> Vec<String> {
    table::lines(&table.header, &table.rows)
}
