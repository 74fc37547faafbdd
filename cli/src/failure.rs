//! How a command ends when it does not succeed: what is said, and the exit code. The codes are documented API.

use std::{fmt, process::ExitCode};

use forge_contract::{
    artifact::Phase,
    error::{FailureCode, InvalidDocument},
};
use forge_store::StoreError;

/// Exit codes, as `forge --help` shows them.
pub const EXIT_CODES: &str = "\
Exit codes:
  0  success
  2  bad input or usage: nothing was run
  3  the job failed or was cancelled; jobs/<job_id>/error.json says why
  4  a replay, an audit or a repeated run found other results than stored
  1  anything else";

/// Why a command did not succeed.
#[derive(Debug)]
pub enum Failure {
    /// The command cannot be carried out as given.
    Input(String),
    /// A document is invalid, with everything that is wrong with it.
    Invalid {
        /// How the document was named, as in `envelope.json`.
        name: String,
        /// What is wrong.
        errors: InvalidDocument,
    },
    /// The job failed.
    Job(JobFailure),
    /// Results or artifacts are not what was stored.
    Mismatch(String),
    /// Anything else.
    Other(anyhow::Error),
}

/// Why a job failed, as its record says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobFailure {
    /// What kind of failure.
    pub code: FailureCode,
    /// What the job was doing.
    pub phase: Phase,
    /// A sentence for people.
    pub message: String,
}

impl JobFailure {
    /// A failure of this kind.
    pub fn new(code: FailureCode, phase: Phase, message: impl Into<String>) -> Self {
        Self { code, phase, message: message.into() }
    }

    /// The store did not do as asked.
    pub fn storage(error: &StoreError) -> Self {
        Self::new(FailureCode::StorageFailed, Phase::Store, error.to_string())
    }
}

impl Failure {
    /// The exit code of the process.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Input(_) | Self::Invalid { .. } => 2,
            Self::Job(JobFailure { code: FailureCode::Conflict, .. }) => 2,
            Self::Job(_) => 3,
            Self::Mismatch(_) => 4,
            Self::Other(_) => 1,
        })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Input(message) | Self::Mismatch(message) => f.write_str(message),
            Self::Invalid { name, errors } => {
                write!(f, "{name} is not a valid envelope:")?;
                errors.errors().iter().try_for_each(|error| write!(f, "\n  {error}"))
            }
            Self::Job(failure) => write!(f, "{}: {}", failure.code, failure.message),
            Self::Other(error) => write!(f, "{error:#}"),
        }
    }
}

impl From<JobFailure> for Failure {
    fn from(failure: JobFailure) -> Self {
        Self::Job(failure)
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Other(error)
    }
}
