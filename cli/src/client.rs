//! Commands that talk to services over NATS or read their store: submitting jobs, following them,
//! and fetching their artifacts.

mod artifacts;
mod cancel;
mod connection;
mod jobs;
mod record_text;
mod status;
mod submit;
mod watch;

pub use self::{
    artifacts::{ArtifactsArgs, fetch_artifacts, read_artifact},
    cancel::CancelArgs,
    connection::ClientConnection,
    jobs::JobsArgs,
    status::StatusArgs,
    submit::SubmitArgs,
    watch::{WatchArgs, follow_job},
};

/// The function that runs each command.
pub mod commands {
    pub use super::{
        artifacts::execute as artifacts, cancel::execute as cancel, jobs::execute as jobs,
        status::execute as status, submit::execute as submit, watch::execute as watch,
    };
}
