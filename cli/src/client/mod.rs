//! Talking to services over NATS: submitting jobs, following them, fetching what they left behind.

mod artifacts;
mod cancel;
mod connection;
mod jobs;
mod record;
mod status;
mod submit;
mod watch;

pub use self::{
    artifacts::ArtifactsArgs, cancel::CancelArgs, jobs::JobsArgs, status::StatusArgs, submit::SubmitArgs,
    watch::WatchArgs,
};

/// Commands by name.
pub mod commands {
    pub use super::{
        artifacts::execute as artifacts, cancel::execute as cancel, jobs::execute as jobs,
        status::execute as status, submit::execute as submit, watch::execute as watch,
    };
}
