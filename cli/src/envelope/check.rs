//! `forge envelope check`: what an envelope will cost, and what is wrong or suspicious in it.

use std::{path::Path, time::Duration};

use forge_bus::topology::TopologySettings;
use forge_contract::{error::InvalidDocument, strict};
use forge_documents::{
    Job,
    number_format::{format_bytes, format_count, format_duration, format_rate},
    result_tables::{self, capitalise},
};
use forge_kernel::{
    backend::{Backend, simd::Simd},
    request::Request,
};
use forge_service::result_limit;
use serde_json::{Value, json};

use crate::{
    engine,
    error::CommandError,
    foreign_text, input,
    output::{self, OutputFormat, TextStyle},
    text::{count_of, table},
};

/// Minimum duration of the call that measures the speed of this machine.
const CALIBRATION: Duration = Duration::from_millis(30);

/// Runs the command.
///
/// # Errors
/// The envelope cannot be read, or is invalid.
pub fn execute(file: &Path, print: bool, format: OutputFormat) -> Result<(), CommandError> {
    let job = match input::read_request(file, &()) {
        Ok(request) => Job::new(request),
        Err(CommandError::InvalidEnvelope { source_name, errors }) => {
            return Err(report_errors(&source_name, &errors, format)?);
        }
        Err(other) => return Err(other),
    };
    warn_of_large_results(&job.request);
    if print {
        input::print_warnings(&job.request);
        return output::print(super::to_pretty_json(&job.request.envelope).as_bytes());
    }
    let cost = Cost::of(&job.request);
    match format {
        OutputFormat::Json => output::print(super::to_pretty_json(&cost.to_json(&job)).as_bytes()),
        OutputFormat::Text => output::print(cost.to_text(&job, TextStyle::of_stdout()).as_bytes()),
    }
}

/// Warns of a model whose results fit no message, which services refuse.
fn warn_of_large_results(request: &Request) {
    let limit = result_limit::max_result_bytes(TopologySettings::DEFAULT_MAX_MESSAGE_BYTES);
    if let Some(size) = request.excess_result_size(limit) {
        let excess = result_limit::describe_excess(request, &size, limit);
        output::print_to_stderr(&format!("warning: services refuse this envelope: {excess}"));
    }
}

/// Prints the errors, and returns the error that the command ends with.
fn report_errors(
    source_name: &str,
    errors: &InvalidDocument,
    format: OutputFormat,
) -> Result<CommandError, CommandError> {
    match format {
        OutputFormat::Json => {
            let errors: Vec<_> =
                errors.errors().iter().map(|e| json!({"pointer": e.pointer, "message": e.message})).collect();
            let document = json!({"valid": false, "errors": errors});
            output::print(super::to_pretty_json(&document).as_bytes())?;
        }
        OutputFormat::Text => {
            errors.errors().iter().for_each(|error| output::print_to_stderr(&error.to_string()));
        }
    }
    let count = count_of(errors.errors().len() as u64, "error");
    Ok(CommandError::Input(format!("{source_name} is not a valid envelope: {count}")))
}

/// The cost of a job on this machine.
struct Cost {
    /// Expected occurrences of all iterations.
    occurrences: f64,
    /// Bytes of the program.
    program_bytes: u64,
    /// Name of the backend that was measured.
    backend: String,
    /// Threads that execute.
    threads: usize,
    /// Iterations per second of all threads; `None` if the backend failed.
    rate: Option<f64>,
    /// Iterations of the plan.
    iterations: u64,
}

impl Cost {
    fn of(request: &Request) -> Self {
        let backend = Simd::new();
        let threads = engine::core_count();
        let rate = engine::iterations_per_second(&backend, &request.program, CALIBRATION);
        let iterations = request.plan.iterations();
        Self {
            occurrences: request.expected_occurrences() * iterations as f64,
            program_bytes: request.program.encode().len() as u64,
            backend: backend.name().to_owned(),
            threads,
            rate: rate.ok().map(|rate| rate * threads as f64),
            iterations,
        }
    }

    /// Expected duration.
    fn duration(&self) -> Option<Duration> {
        let seconds = self.iterations as f64 / self.rate?;
        Duration::try_from_secs_f64(seconds).ok()
    }

    fn to_json(&self, job: &Job) -> Value {
        let (request, plan) = (&job.request, &job.request.plan);
        json!({
            "valid": true,
            "job_id": job.id,
            "title": result_tables::title(request),
            "replay_key": request.replay_key,
            "iterations": self.iterations,
            "shards": plan.shard_count(),
            "checkpoints": plan.checkpoints().len(),
            "expected_occurrences": strict::number_to_value(self.occurrences),
            "program_bytes": self.program_bytes,
            "estimate": {
                "backend": self.backend,
                "threads": self.threads,
                "seconds": self.duration().map(|duration| duration.as_secs_f64()),
            },
            "warnings": request.warnings(),
        })
    }

    fn to_text(&self, job: &Job, style: TextStyle) -> String {
        let (plan, words) = (&job.request.plan, job.request.profile().vocabulary);
        let shards = count_of(plan.shard_count(), "shard");
        let an_iteration = self.occurrences / self.iterations as f64;
        let occurrences = capitalise(words.occurrences);
        let title = result_tables::title(&job.request).map(|title| ("Title", title.to_owned()));
        let mut facts: Vec<_> = title.into_iter().collect();
        facts.extend([
            ("Job id", job.id.to_string()),
            ("Replay key", job.request.replay_key.to_string()),
            ("Plan", format!("{} {} in {shards}", format_count(plan.iterations()), words.iterations)),
            (
                occurrences.as_str(),
                format!(
                    "{} expected ({an_iteration:.4} a {})",
                    format_rate(self.occurrences),
                    words.iterations.trim_end_matches('s')
                ),
            ),
            ("Program", format_bytes(self.program_bytes)),
        ]);
        if let Some((duration, rate)) = self.duration().zip(self.rate) {
            let threads = count_of(self.threads as u64, "thread");
            let text = format!(
                "about {} on this machine ({} {}/s, {} on {threads})",
                format_duration(duration),
                format_rate(rate),
                words.iterations,
                self.backend
            );
            facts.push(("Time", text));
        }
        if !plan.checkpoints().is_empty() {
            let checkpoints = count_of(plan.checkpoints().len() as u64, "checkpoint");
            facts.push(("Convergence", format!("tested at up to {checkpoints}")));
        }
        let facts: Vec<_> = facts.into_iter().map(|(label, text)| (label.to_owned(), text)).collect();
        let mut text = format!("valid\n{}\n", table::render_facts(&facts).join("\n"));
        let warnings = job.request.warnings();
        if !warnings.is_empty() {
            text += &format!("\n{}\n", style.warning("Warnings"));
            for warning in warnings {
                text += &format!("  {}\n", foreign_text::quote_line(&warning.to_string()));
            }
        }
        text
    }
}
