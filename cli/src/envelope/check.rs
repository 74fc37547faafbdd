//! `forge envelope check`: what an envelope will cost, and what is wrong or suspicious in it.

use std::{path::Path, time::Duration};

use forge_bus::topology::TopologySettings;
use forge_contract::{
    error::{FieldError, InvalidDocument},
    strict,
};
use forge_documents::{
    Job,
    number_format::{format_bytes, format_count, format_duration, format_rate},
    result_tables,
};
use forge_kernel::{
    backend::{Backend, simd::Simd},
    request::Request,
    result_size::ResultSize,
    workload::warning::Warning,
};
use forge_service::result_limit;
use serde::Serialize;
use serde_json::{Value, json};

use super::source_text::{SourceText, TextPosition};
use crate::{
    engine::{self, CallCost},
    error::CommandError,
    foreign_text, input,
    output::{self, OutputFormat, TextStyle},
    text::{count_of, table},
};

/// Minimum duration of the call that measures the speed of this machine.
const CALIBRATION: Duration = Duration::from_millis(30);

/// Schema of the JSON object; docs/guides/scripting.md describes its fields.
const SCHEMA: &str = "forge.envelope-check.v1";

/// An error or a warning, with its place in the source.
#[derive(Debug, Serialize)]
struct EnvelopeFinding {
    /// RFC 6901 JSON pointer to the value; empty for the whole document.
    pointer: String,
    #[serde(flatten)]
    position: TextPosition,
    /// Kind of the finding, for programs.
    code: &'static str,
    /// What is wrong, and what to do about it.
    message: String,
    /// The end of the message that says what to do; null where it does not.
    hint: Option<String>,
}

impl EnvelopeFinding {
    fn of_error(error: &FieldError, source: &SourceText<'_>) -> Self {
        Self {
            pointer: error.pointer.clone(),
            position: source.position_of_error(error),
            code: error.code.as_str(),
            message: error.message.clone(),
            hint: error.hint.clone(),
        }
    }

    fn of_warning(warning: Warning, source: &SourceText<'_>) -> Self {
        let Warning { pointer, message } = warning;
        let position = source.position_of(&pointer);
        Self { pointer, position, code: "suspicious_value", message, hint: None }
    }

    /// The refusal of a model whose results fit no message.
    fn of_excess(message: String, source: &SourceText<'_>) -> Self {
        let (pointer, position) = ("/args".to_owned(), source.position_of("/args"));
        Self { pointer, position, code: "result_too_large", message, hint: None }
    }

    /// One line, as compilers print it.
    fn to_line(&self, source_name: &str) -> String {
        let Self { pointer, position, message, .. } = self;
        let place = if pointer.is_empty() { "document" } else { pointer };
        format!("{source_name}:{}:{}: {place}: {message}", position.line, position.column)
    }
}

/// Runs the command.
///
/// # Errors
/// The envelope cannot be read, or is invalid.
pub fn execute(file: &Path, print: bool, format: OutputFormat) -> Result<(), CommandError> {
    let (source_name, bytes) = input::read_source(file)?;
    let source = SourceText::new(&bytes);
    let job = match Request::from_json(&bytes) {
        Ok(request) => Job::new(request),
        Err(errors) => return Err(report_errors(&source_name, &source, &errors, format)?),
    };
    let sizes = DataSizes::of(&job.request);
    if let Some(excess) = sizes.describe_excess(&job.request) {
        let refusal = EnvelopeFinding::of_excess(excess, &source);
        return Err(report_findings(&source_name, &[refusal], Some(&sizes), format)?);
    }
    let warnings = job.request.warnings().into_iter();
    let warnings: Vec<_> = warnings.map(|warning| EnvelopeFinding::of_warning(warning, &source)).collect();
    if print {
        for warning in &warnings {
            output::print_to_stderr(&format!("warning: {}", warning.to_line(&source_name)));
        }
        return output::print(output::to_json_document(&job.request.envelope).as_bytes());
    }
    let cost = Cost::of(&job.request, sizes);
    let text = match format {
        OutputFormat::Json => output::to_json_document(&cost.to_json(&job, &source_name, &warnings)),
        OutputFormat::Text => cost.to_text(&job, &source_name, &warnings, TextStyle::of_stdout()),
    };
    output::print(text.as_bytes())
}

/// Prints the errors of a document, and returns the error that the command ends with.
fn report_errors(
    source_name: &str,
    source: &SourceText<'_>,
    errors: &InvalidDocument,
    format: OutputFormat,
) -> Result<CommandError, CommandError> {
    let findings = errors.errors().iter().map(|error| EnvelopeFinding::of_error(error, source));
    report_findings(source_name, &findings.collect::<Vec<_>>(), None, format)
}

/// Prints why an envelope is refused, and returns the error that the command ends with.
fn report_findings(
    source_name: &str,
    findings: &[EnvelopeFinding],
    sizes: Option<&DataSizes>,
    format: OutputFormat,
) -> Result<CommandError, CommandError> {
    match format {
        OutputFormat::Json => {
            let mut document = json!({
                "schema": SCHEMA, "file": source_name, "valid": false, "errors": findings, "warnings": [],
            });
            if let Some(sizes) = sizes {
                sizes.add_to(&mut document);
            }
            output::print(output::to_json_document(&document).as_bytes())?;
        }
        OutputFormat::Text => {
            findings.iter().for_each(|finding| output::print_to_stderr(&finding.to_line(source_name)));
        }
    }
    let count = count_of(findings.len() as u64, "error");
    Ok(CommandError::Input(format!("{source_name} is not a valid envelope: {count}")))
}

/// How large the data of a job are that travel between services.
struct DataSizes {
    /// Bytes of the program.
    program: u64,
    /// Expected bytes of the result of a shard of the largest ones.
    result: ResultSize,
    /// Bytes of the largest result that services carry, if the server's `max_payload` is at least
    /// the default.
    max_result: u64,
}

impl DataSizes {
    fn of(request: &Request) -> Self {
        Self {
            program: request.program.encode().len() as u64,
            result: request.result_size(),
            max_result: result_limit::max_result_bytes(TopologySettings::DEFAULT_MAX_MESSAGE_BYTES),
        }
    }

    /// Why services refuse the envelope; `None` if results fit a message.
    fn describe_excess(&self, request: &Request) -> Option<String> {
        let excess = || result_limit::describe_excess(request, &self.result, self.max_result);
        (self.result.total() > self.max_result)
            .then(|| format!("describe a model that is too large for services: {}", excess()))
    }

    fn add_to(&self, document: &mut Value) {
        document["program_bytes"] = self.program.into();
        document["result_bytes"] = self.result.total().into();
        document["max_result_bytes"] = self.max_result.into();
    }
}

/// The cost of a job on this machine.
struct Cost {
    /// Expected occurrences of all iterations.
    occurrences: f64,
    /// What travels between services.
    sizes: DataSizes,
    /// Name of the backend that was measured.
    backend: String,
    /// Threads that execute: no more than there are shards.
    threads: u64,
    /// Cost of a shard; `None` if the backend failed.
    shard: Option<CallCost>,
    /// Iterations of the plan.
    iterations: u64,
    /// Shards of the plan.
    shards: u64,
}

impl Cost {
    fn of(request: &Request, sizes: DataSizes) -> Self {
        let backend = Simd::new();
        let (iterations, shards) = (request.plan.iterations(), request.plan.shard_count());
        Self {
            occurrences: request.expected_occurrences() * iterations as f64,
            sizes,
            backend: backend.name().to_owned(),
            threads: (engine::core_count() as u64).min(shards),
            shard: engine::call_cost(&backend, &request.program, CALIBRATION).ok(),
            iterations,
            shards,
        }
    }

    /// Expected duration.
    fn duration(&self) -> Option<Duration> {
        let seconds = self.shard?.seconds(self.iterations, self.shards, self.threads);
        Duration::try_from_secs_f64(seconds).ok()
    }

    fn to_json(&self, job: &Job, source_name: &str, warnings: &[EnvelopeFinding]) -> Value {
        let (request, plan) = (&job.request, &job.request.plan);
        let mut document = json!({
            "schema": SCHEMA,
            "file": source_name,
            "valid": true,
            "job_id": job.id,
            "title": result_tables::title(request),
            "replay_key": request.replay_key,
            "iterations": self.iterations,
            "shards": self.shards,
            "checkpoints": plan.checkpoints().len(),
            "expected_occurrences": strict::number_to_value(self.occurrences),
            "estimate": {
                "backend": self.backend,
                "threads": self.threads,
                "seconds": self.duration().map(|duration| duration.as_secs_f64()),
            },
            "errors": [],
            "warnings": warnings,
        });
        self.sizes.add_to(&mut document);
        document
    }

    fn to_text(
        &self,
        job: &Job,
        source_name: &str,
        warnings: &[EnvelopeFinding],
        style: TextStyle,
    ) -> String {
        let (plan, words) = (&job.request.plan, job.request.profile().vocabulary);
        let shards = count_of(self.shards, "shard");
        let an_iteration = self.occurrences / self.iterations as f64;
        let title = result_tables::title(&job.request).map(|title| ("Title", title.to_owned()));
        let mut facts: Vec<_> = title.into_iter().collect();
        facts.extend([
            ("Job id", job.id.to_string()),
            ("Replay key", job.request.replay_key.to_string()),
            ("Plan", format!("{} {} in {shards}", format_count(plan.iterations()), words.iterations)),
            (
                result_tables::OCCURRENCES,
                result_tables::occurrence_counts(an_iteration, &format_rate(self.occurrences), words)
                    + ", expected",
            ),
            ("Program", format_bytes(self.sizes.program)),
            (
                "Results",
                format!(
                    "about {} a shard; services carry at most {} (max_payload of NATS: 1 MiB or more)",
                    format_bytes(self.sizes.result.total()),
                    format_bytes(self.sizes.max_result)
                ),
            ),
        ]);
        if let Some(duration) = self.duration() {
            let threads = count_of(self.threads, "thread");
            let rate = self.iterations as f64 / duration.as_secs_f64().max(f64::MIN_POSITIVE);
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
        if !warnings.is_empty() {
            text += &format!("\n{}\n", style.warning("Warnings"));
            for warning in warnings {
                text += &format!("  {}\n", foreign_text::quote_line(&warning.to_line(source_name)));
            }
        }
        text
    }
}
