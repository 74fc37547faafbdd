//! The execution engine of this process: a backend and the number of threads that use it, as the
//! command line and the job's policy ask for them. Nothing here changes a result.
//!
//! Reading order: [`engine`](self) → [`selection`] → [`calibration`].

mod calibration;
mod selection;

use std::{num::NonZero, sync::Arc, thread};

use clap::Args;
use forge_contract::{
    agent::Hardware,
    artifact::Phase,
    envelope::{Policy, Target},
    error::FailureCode,
};
use forge_kernel::{backend::Backend, request::Request};
use forge_service::executor::{Executor, ProgressCallback};

pub use self::{
    calibration::{CallCost, call_cost, example_program, iterations_per_second},
    selection::{BackendSelection, open_backend, open_gpu, select_for_worker, verifier_backends},
};
use crate::error::{CommandError, JobFailure};

/// Values of `--backend`, for help texts.
pub const BACKEND_VALUES: &str =
    "auto, simd, scalar, gpu, or a name listed by `forge devices`, such as simd-avx2 or gpu-0";

/// How a command executes a job in this process.
#[derive(Debug, Clone, Args)]
pub struct EngineArgs {
    /// Name of the backend.
    #[arg(
        long,
        value_name = "NAME",
        default_value = "auto",
        help = format!("Backend that executes shards: {BACKEND_VALUES}")
    )]
    pub backend: String,
    /// Number of threads that execute shards [default: one per core, or two for a GPU]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub threads: Option<u16>,
    /// Hide the progress bar
    #[arg(long)]
    pub no_progress: bool,
}

/// A backend and the number of threads that use it.
pub struct Engine {
    /// Executes shards.
    pub backend: Arc<dyn Backend>,
    /// Number of threads; each counts as an agent.
    pub threads: usize,
    /// Why no GPU was selected; `None` if none was looked for or one was selected.
    gpu_unavailable: Option<String>,
}

impl Engine {
    /// The engine that the command line asks for, for one job.
    ///
    /// # Errors
    /// [`CommandError::Input`] if there is no such backend or it cannot be used.
    pub fn new(args: &EngineArgs, request: &Request) -> Result<Self, CommandError> {
        let BackendSelection { backend, gpu_unavailable } = match args.backend.as_str() {
            "auto" => selection::select_for_job(request),
            name => open_backend(name)?.into(),
        };
        if !backend.supports(&request.program) {
            let (name, profile) = (backend.name(), request.profile().name);
            return Err(CommandError::Input(format!(
                "--backend {}: {name} does not execute programs of {profile}; leave --backend out, or name a CPU's",
                args.backend
            )));
        }
        let threads = args.threads.map_or_else(|| default_threads(backend.as_ref()), usize::from);
        Ok(Self { backend, threads, gpu_unavailable })
    }

    /// Limits the engine to what the policy and the number of shards allow: at most `max_agents`
    /// threads, and no more threads than shards.
    ///
    /// # Errors
    /// `insufficient_agents` if the policy asks for other hardware or for more agents than there
    /// are.
    pub fn limited_by(mut self, policy: &Policy, shards: u64) -> Result<Self, JobFailure> {
        let refuse = |message| Err(JobFailure::new(FailureCode::InsufficientAgents, Phase::Plan, message));
        let name = self.backend.name();
        match (policy.target, Hardware::from_adapter(self.backend.adapter())) {
            (Target::Gpu, Hardware::Cpu) => {
                let reason =
                    self.gpu_unavailable.unwrap_or_else(|| format!("backend {name} executes on the CPU"));
                return refuse(format!(
                    "policy.target is gpu, but {reason}; see `forge devices`, or set policy.target to cpu or any"
                ));
            }
            (Target::Cpu, Hardware::Gpu) => {
                return refuse(format!("policy.target is cpu, but {name} is a GPU; see --backend"));
            }
            _ => {}
        }
        let max_agents = if policy.max_agents == 0 { usize::MAX } else { policy.max_agents as usize };
        let agents = self.threads.min(max_agents);
        if agents < policy.min_agents as usize {
            let min_agents = policy.min_agents;
            return refuse(format!(
                "policy.min_agents is {min_agents}, but this run has {agents}, one per thread; see --threads"
            ));
        }
        self.threads = agents.min(usize::try_from(shards).unwrap_or(usize::MAX)).max(1);
        Ok(self)
    }
}

/// Number of cores available to this process; 1 if unknown.
pub fn core_count() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get)
}

/// Number of concurrent calls that keep a backend busy.
pub fn default_threads(backend: &dyn Backend) -> usize {
    Executor::concurrent_calls(backend, core_count())
}

/// The executor that a worker and a verifier of this process share. On a CPU backend both draw on
/// the same `threads`; next to a GPU, all cores are left to the verifier.
pub fn shared_executor(backend: &dyn Backend, threads: usize, advance: Option<ProgressCallback>) -> Executor {
    match Hardware::from_adapter(backend.adapter()) {
        Hardware::Cpu => Executor::new(threads, advance),
        Hardware::Gpu => Executor::new(core_count(), advance),
    }
}
