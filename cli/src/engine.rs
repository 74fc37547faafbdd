//! What executes shards in this process: the backend and the threads that the command line asks for.

use std::{num::NonZero, sync::Arc, thread};

use clap::Args;
use forge_contract::{
    artifact::Phase,
    envelope::{Policy, Target},
    error::FailureCode,
};
use forge_kernel::execute::{Backend, scalar::Scalar, simd::Simd};

use crate::failure::{Failure, JobFailure};

/// How to execute. Nothing of it changes the result.
#[derive(Debug, Args)]
pub struct EngineArgs {
    /// What executes the shards: auto, simd, scalar, or a SIMD level by name, such as simd-avx2
    #[arg(long, value_name = "NAME", default_value = "auto")]
    pub backend: String,
    /// Threads that execute shards [default: one for each core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub threads: Option<u16>,
    /// Show no progress bar
    #[arg(long)]
    pub no_progress: bool,
}

/// A backend and how many threads use it.
pub struct Engine {
    /// What executes shards.
    pub backend: Box<dyn Backend>,
    /// How many threads.
    pub threads: usize,
}

impl Engine {
    /// The engine that the command line asks for.
    ///
    /// # Errors
    /// There is no backend of that name.
    pub fn new(args: &EngineArgs) -> Result<Self, Failure> {
        Ok(Self { backend: named(&args.backend)?, threads: args.threads.map_or_else(cores, usize::from) })
    }

    /// The engine as a policy and the number of shards confine it: each thread counts as an agent.
    ///
    /// # Errors
    /// `insufficient_agents` when the policy wants other or more agents than there are.
    pub fn confined(mut self, policy: &Policy, shards: u64) -> Result<Self, JobFailure> {
        let refused = |message| Err(JobFailure::new(FailureCode::InsufficientAgents, Phase::Plan, message));
        if policy.target == Target::Gpu {
            return refused(
                "policy.target is gpu, and this build has no GPU backend: ask for cpu or any".to_owned(),
            );
        }
        let most = if policy.max_agents == 0 { usize::MAX } else { policy.max_agents as usize };
        let agents = self.threads.min(most);
        if agents < policy.min_agents as usize {
            let wanted = policy.min_agents;
            return refused(format!(
                "policy.min_agents is {wanted}, and this run has {agents} (one for each thread): see --threads"
            ));
        }
        self.threads = agents.min(usize::try_from(shards).unwrap_or(usize::MAX)).max(1);
        Ok(self)
    }
}

/// Cores that this process may use.
pub fn cores() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get)
}

/// The backend of a name: `auto` and `simd` are the best SIMD level of this CPU.
pub fn named(name: &str) -> Result<Box<dyn Backend>, Failure> {
    match name {
        "auto" | "simd" => return Ok(Box::new(Simd::new())),
        "scalar" => return Ok(Box::new(Scalar)),
        _ => {}
    }
    let levels = Simd::levels();
    let names: Vec<_> = levels.iter().map(|level| level.name().to_owned()).collect();
    match levels.into_iter().find(|level| level.name() == name) {
        Some(level) => Ok(Box::new(level)),
        None => Err(Failure::Input(format!(
            "there is no backend {name:?}: this machine has auto, simd, scalar, {}",
            names.join(", ")
        ))),
    }
}

/// What a verifier executes with, the preferred first: `preferred`, then the other SIMD levels of this CPU from the best
/// on, then the reference.
pub fn verifiers(preferred: &Arc<dyn Backend>) -> Vec<Arc<dyn Backend>> {
    let levels = Simd::levels().into_iter().map(|level| Arc::new(level) as Arc<dyn Backend>);
    let others = levels.chain([Arc::new(Scalar) as Arc<dyn Backend>]);
    let others = others.filter(|other| other.name() != preferred.name());
    [Arc::clone(preferred)].into_iter().chain(others).collect()
}
