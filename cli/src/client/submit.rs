//! `forge submit`: hands an envelope to the services.

use std::path::PathBuf;

use clap::Args;
use forge_bus::topology;
use forge_contract::ids::{JobId, Submitter};
use serde_json::Value;

use super::{
    connection::{Connection, ConnectionArgs},
    record, watch,
};
use crate::{
    failure::Failure,
    input,
    output::{self, Style},
};

const EXAMPLES: &str = "\
Examples:
  forge submit examples/insurance.json --wait
  forge submit examples/insurance.json --as quickstart-002
  forge submit examples/insurance.json --format json | jq -r .job_id

The same id with the same envelope is the same job: submitting it again answers its record.";

/// Submit an envelope to the services
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct SubmitArgs {
    /// The envelope: a file, or - for standard input
    envelope: PathBuf,
    /// Submit it under this job id
    #[arg(long = "as", value_name = "JOB_ID")]
    job_id: Option<JobId>,
    /// Submit it by this name, whose quotas count; where permissions are set, they say who may use which [default: default]
    #[arg(long, env = "FORGE_SUBMITTER", value_name = "NAME")]
    submitter: Option<Submitter>,
    /// Wait until the job has ended
    #[arg(long)]
    wait: bool,
    /// What is written to standard output
    #[arg(long, value_enum, default_value_t = watch::Format::Text)]
    format: watch::Format,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// Carries out the command.
///
/// # Errors
/// The envelope is invalid, nobody takes it, or, waiting, the job fails.
pub fn execute(args: &SubmitArgs) -> Result<(), Failure> {
    let mut bytes = input::envelope(&args.envelope)?;
    if let Some(job_id) = &args.job_id {
        let mut envelope: Value =
            serde_json::from_slice(&bytes).map_err(|error| Failure::Input(error.to_string()))?;
        let ctx = envelope.as_object_mut().map(|envelope| envelope.entry("ctx").or_insert(Value::Null));
        match ctx {
            Some(ctx @ (Value::Null | Value::Object(_))) => ctx["job_id"] = job_id.as_str().into(),
            _ => return Err(Failure::Input("--as: the envelope, and its ctx, must be objects".to_owned())),
        }
        bytes = envelope.to_string().into_bytes();
    }
    let connection = Connection::open(&args.connection)?;
    let subject = topology::api_submit_subject(&args.submitter.clone().unwrap_or_default());
    let mut submitted = connection.submit(&subject, &bytes)?;
    if args.wait {
        submitted = watch::until_ended(&connection, &submitted.job_id, args.format == watch::Format::Text)?;
    }
    match args.format {
        watch::Format::Json => output::print(&watch::json(&submitted))?,
        watch::Format::Text => output::print(record::text(&submitted, Style::of_stdout()).as_bytes())?,
    }
    record::outcome(&submitted)
}
