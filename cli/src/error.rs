//! The error type of every command: the text printed after `error:` and the exit code. Commands
//! return it; only `main` ends the process.

use std::{fmt, process::ExitCode};

use forge_contract::{
    artifact::Phase,
    error::{FailureCode, InvalidDocument},
};
use forge_service::ConfigError;
use forge_store::StoreError;

use crate::exit_code;

/// Why a command did not succeed.
#[derive(Debug)]
pub enum CommandError {
    /// The command cannot be carried out as given: an argument, a setting or a path is wrong.
    Input(String),
    /// The envelope is invalid.
    InvalidEnvelope {
        /// Where the envelope came from: a path, or `standard input`.
        source_name: String,
        /// Every error in it.
        errors: InvalidDocument,
    },
    /// The job failed or was cancelled.
    Job(JobFailure),
    /// Results or artifacts differ from the stored ones.
    Mismatch(String),
    /// Two results that were compared differ, as standard output says in detail.
    ResultsDiffer,
    /// An audit found nothing wrong, but something that was asked for could not be done.
    Incomplete(String),
    /// Anything else.
    Other(anyhow::Error),
}

/// Why a job failed, as its record states it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobFailure {
    /// Kind of failure.
    pub code: FailureCode,
    /// Phase in which the job failed.
    pub phase: Phase,
    /// Human-readable explanation.
    pub message: String,
}

impl JobFailure {
    /// A failure with this code, phase and explanation.
    pub fn new(code: FailureCode, phase: Phase, message: impl Into<String>) -> Self {
        Self { code, phase, message: message.into() }
    }

    /// A failed store operation.
    pub fn storage(error: &StoreError) -> Self {
        Self::new(FailureCode::StorageFailed, Phase::Store, error.to_string())
    }
}

impl CommandError {
    /// The exit code of the process, one of [`exit_code::EXIT_CODES`]. A job id conflict counts as
    /// invalid input, because nothing was executed.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Input(_) | Self::InvalidEnvelope { .. } => exit_code::INVALID_INPUT,
            Self::Job(JobFailure { code: FailureCode::Conflict, .. }) => exit_code::INVALID_INPUT,
            Self::Job(_) => exit_code::JOB_FAILED,
            Self::Mismatch(_) | Self::ResultsDiffer => exit_code::MISMATCH,
            Self::Incomplete(_) => exit_code::INCOMPLETE,
            Self::Other(_) => exit_code::ERROR,
        })
    }
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Input(message) | Self::Mismatch(message) | Self::Incomplete(message) => {
                f.write_str(message)
            }
            Self::ResultsDiffer => f.write_str("the results differ"),
            Self::InvalidEnvelope { source_name, errors } => {
                write!(f, "{source_name} is not a valid envelope:")?;
                errors.errors().iter().try_for_each(|error| write!(f, "\n  {error}"))
            }
            Self::Job(failure) => write!(f, "{}: {}", failure.code, failure.message),
            Self::Other(error) => write!(f, "{error:#}"),
        }
    }
}

impl From<JobFailure> for CommandError {
    fn from(failure: JobFailure) -> Self {
        Self::Job(failure)
    }
}

/// A setting that cannot be used is invalid input.
impl From<ConfigError> for CommandError {
    fn from(error: ConfigError) -> Self {
        Self::Input(error.to_string())
    }
}

impl From<anyhow::Error> for CommandError {
    fn from(error: anyhow::Error) -> Self {
        Self::Other(error)
    }
}
