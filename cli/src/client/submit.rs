//! `forge submit`: submits an envelope to the services.

use std::path::PathBuf;

use clap::Args;
use forge_contract::ids::{JobId, Submitter};
use forge_service::NatsArgs;
use serde_json::Value;

use super::{connection::ClientConnection, record_text, watch};
use crate::{
    context::ContextArgs,
    error::CommandError,
    input,
    output::{self, OutputFormat, TextStyle},
};

const EXAMPLES: &str = "\
Examples:
  forge submit examples/insurance.json --wait
  forge submit examples/insurance.json --as quickstart-002
  forge submit examples/insurance.json --format json | jq -r .job_id

Submitting is idempotent: the same envelope under the same job id is the same job, and its record is shown.";

/// Submit an envelope to the services
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct SubmitArgs {
    /// Envelope file, or - for standard input
    envelope: PathBuf,
    /// Submit under this job id instead of the envelope's ctx.job_id
    #[arg(long = "as", value_name = "JOB_ID")]
    job_id: Option<JobId>,
    /// Submitter to which the job's usage is charged; NATS permissions may restrict the choice
    /// [default: default]
    #[arg(long, env = "FORGE_SUBMITTER", value_name = "NAME")]
    submitter: Option<Submitter>,
    /// Wait until the job has ended; exit with code 3 if it fails or is cancelled
    #[arg(long)]
    wait: bool,
    /// Output format: text is a summary, json is the job record on one line
    #[arg(long, value_enum, default_value_t = OutputFormat::Text)]
    format: OutputFormat,
    #[command(flatten)]
    nats: NatsArgs,
    #[command(flatten)]
    _context: ContextArgs,
}

/// Runs the command.
///
/// # Errors
/// The envelope is invalid, no planner answers, or the job has failed.
pub fn execute(args: &SubmitArgs) -> Result<(), CommandError> {
    let (mut envelope, request) = input::read_envelope(&args.envelope)?;
    input::print_warnings(&request);
    if let Some(job_id) = &args.job_id {
        envelope = with_job_id(&envelope, job_id)?;
    }
    let connection = ClientConnection::open(&args.nats)?;
    let mut record = connection.submit(envelope, &args.submitter.clone().unwrap_or_default())?;
    if args.wait {
        record = watch::wait_for_end(&connection, record, args.format == OutputFormat::Text)?;
    }
    match args.format {
        OutputFormat::Json => output::print(output::to_json_lines([&record]).as_bytes())?,
        OutputFormat::Text => {
            output::print(record_text::render_record(&record, TextStyle::of_stdout()).as_bytes())?;
        }
    }
    record_text::require_success(&record)
}

/// The envelope with another `ctx.job_id`.
fn with_job_id(envelope: &[u8], job_id: &JobId) -> Result<Vec<u8>, CommandError> {
    let mut envelope: Value =
        serde_json::from_slice(envelope).map_err(|error| CommandError::Input(error.to_string()))?;
    let ctx = envelope.as_object_mut().map(|envelope| envelope.entry("ctx").or_insert(Value::Null));
    match ctx {
        Some(ctx @ (Value::Null | Value::Object(_))) => ctx["job_id"] = job_id.as_str().into(),
        _ => return Err(CommandError::Input("--as: the envelope and its ctx must be objects".to_owned())),
    }
    Ok(envelope.to_string().into_bytes())
}
