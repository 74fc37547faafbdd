//! What executes shards in this process: the backend and the threads that the command line asks for.

use std::{
    num::NonZero,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use clap::Args;
use forge_contract::{
    agent::Hardware,
    artifact::Phase,
    digest::Digest,
    envelope::{Policy, Target},
    error::FailureCode,
    program::Program,
    shard::{Shard, ShardId},
};
use forge_kernel::{
    backend::{Backend, ExecutionError, scalar::Scalar, simd::Simd},
    request::Request,
    workload::PROFILES,
};
use forge_service::executor::{Executor, ProgressCallback};
use serde_json::json;

use crate::{
    failure::{Failure, JobFailure},
    gpu,
};

/// What `--backend` takes.
pub const BACKENDS: &str =
    "auto, simd, scalar, gpu, or one by name as forge devices lists them, such as simd-avx2 or gpu-0";
/// A job that the CPU executes in less is not worth opening a GPU for.
const WORTH: Duration = Duration::from_secs(3);
/// A call that tells how fast a backend is takes at least so long.
const CALIBRATION: Duration = Duration::from_millis(15);

/// How to execute. Nothing of it changes the result.
#[derive(Debug, Args)]
pub struct EngineArgs {
    #[arg(long, value_name = "NAME", default_value = "auto", help = format!("What executes the shards: {BACKENDS}"))]
    pub backend: String,
    /// Threads that execute shards [default: one for each core; two for a GPU]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub threads: Option<u16>,
    /// Show no progress bar
    #[arg(long)]
    pub no_progress: bool,
}

/// A backend and how many threads use it.
pub struct Engine {
    /// What executes shards.
    pub backend: Arc<dyn Backend>,
    /// How many threads.
    pub threads: usize,
    /// Why it is not the GPU that was asked for.
    no_gpu: Option<String>,
}

impl Engine {
    /// The engine that the command line asks for, for a job.
    ///
    /// # Errors
    /// There is no backend of that name.
    pub fn new(args: &EngineArgs, request: &Request) -> Result<Self, Failure> {
        let Chosen { backend, no_gpu } = match args.backend.as_str() {
            "auto" => fastest(request),
            name => named(name)?.into(),
        };
        let threads = args.threads.map_or_else(|| threads(backend.as_ref()), usize::from);
        Ok(Self { backend, threads, no_gpu })
    }

    /// The engine as a policy and the number of shards confine it: each thread counts as an agent.
    ///
    /// # Errors
    /// `insufficient_agents` when the policy wants other or more agents than there are.
    pub fn confined(mut self, policy: &Policy, shards: u64) -> Result<Self, JobFailure> {
        let refused = |message| Err(JobFailure::new(FailureCode::InsufficientAgents, Phase::Plan, message));
        let name = self.backend.name();
        match (policy.target, Hardware::from_adapter(self.backend.adapter())) {
            (Target::Gpu, Hardware::Cpu) => {
                let reason = self.no_gpu.unwrap_or_else(|| format!("{name} executes on the CPU"));
                return refused(format!(
                    "policy.target is gpu: {reason}; see forge devices, or ask for cpu or any"
                ));
            }
            (Target::Cpu, Hardware::Gpu) => {
                return refused(format!("policy.target is cpu, and {name} is a GPU: see --backend"));
            }
            _ => {}
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

/// Calls at once that keep a backend busy.
pub fn threads(backend: &dyn Backend) -> usize {
    Executor::concurrent_calls(backend, cores())
}

/// What executes the shards of a worker and a verifier of this process: one lends cores to both. A GPU leaves them to the
/// verifier.
pub fn executor(backend: &dyn Backend, threads: usize, advance: Option<ProgressCallback>) -> Executor {
    match Hardware::from_adapter(backend.adapter()) {
        Hardware::Cpu => Executor::new(threads, advance),
        Hardware::Gpu => Executor::new(cores(), advance),
    }
}

/// The backend of a name; `simd` is the best SIMD level of this CPU, `gpu` the first GPU that can be used.
///
/// # Errors
/// There is none of that name, or it cannot be used.
pub fn named(name: &str) -> Result<Arc<dyn Backend>, Failure> {
    if gpu::is_named(name) {
        return gpu::open(name).map_err(|reason| Failure::Input(format!("--backend {name}: {reason}")));
    }
    match name {
        "simd" => return Ok(Arc::new(Simd::new())),
        "scalar" => return Ok(Arc::new(Scalar)),
        _ => {}
    }
    let levels = Simd::supported();
    let names: Vec<_> = levels.iter().map(|level| level.name().to_owned()).collect();
    match levels.into_iter().find(|level| level.name() == name) {
        Some(level) => Ok(Arc::new(level)),
        None => Err(Failure::Input(format!(
            "there is no backend {name:?}: this machine has auto, simd, scalar, {}, and the GPUs that forge devices lists",
            names.join(", ")
        ))),
    }
}

/// A backend, and why it is no GPU where one was looked for.
pub struct Chosen {
    /// What executes.
    pub backend: Arc<dyn Backend>,
    /// Why there is no GPU.
    pub no_gpu: Option<String>,
}

impl From<Arc<dyn Backend>> for Chosen {
    fn from(backend: Arc<dyn Backend>) -> Self {
        Self { backend, no_gpu: None }
    }
}

/// The backend that executes a job soonest. A GPU is looked for only where the job takes so long that opening one pays, or
/// where its policy asks for one. A driver on the processor counts in the second case alone.
fn fastest(request: &Request) -> Chosen {
    let simd: Arc<dyn Backend> = Arc::new(Simd::new());
    match request.envelope.policy.target {
        Target::Gpu => match gpu::open("gpu") {
            Ok(gpu) => gpu.into(),
            Err(reason) => Chosen { backend: simd, no_gpu: Some(reason) },
        },
        Target::Any if !is_short(request, simd.as_ref()) => faster(simd, &request.program),
        _ => simd.into(),
    }
}

/// Whether the CPU executes a job in no time to speak of.
fn is_short(request: &Request, simd: &dyn Backend) -> bool {
    let rate = rate(simd, &request.program, Duration::from_micros(200)).unwrap_or(f64::INFINITY);
    let seconds = request.plan.iterations() as f64 / (rate * cores() as f64);
    seconds < WORTH.as_secs_f64()
}

/// The CPU or a GPU, whichever executes a program faster.
fn faster(simd: Arc<dyn Backend>, program: &Program) -> Chosen {
    let gpu = match gpu::open_real() {
        Ok(gpu) => gpu,
        Err(reason) => return Chosen { backend: simd, no_gpu: Some(reason) },
    };
    let on_cpu = rate(simd.as_ref(), program, CALIBRATION).unwrap_or(f64::INFINITY) * cores() as f64;
    let on_gpu = rate(gpu.as_ref(), program, CALIBRATION).unwrap_or(0.0);
    if on_gpu > on_cpu {
        return gpu.into();
    }
    let reason = format!("{} is slower than the CPU", gpu.adapter().unwrap_or("the GPU"));
    Chosen { backend: simd, no_gpu: Some(reason) }
}

/// The backend of a worker, which executes any job: `auto` is the faster one at the first profile's example.
///
/// # Errors
/// As [`named`].
pub fn of_worker(name: &str) -> Result<Chosen, Failure> {
    match name {
        "auto" => Ok(faster(Arc::new(Simd::new()), &example())),
        name => Ok(named(name)?.into()),
    }
}

/// The backend that a verifier prefers: `auto` is a GPU where there is one, since it has the CPU anyway.
///
/// # Errors
/// As [`named`].
pub fn of_verifier(name: &str) -> Result<Chosen, Failure> {
    match name {
        "auto" => Ok(match gpu::open_real() {
            Ok(gpu) => gpu.into(),
            Err(reason) => Chosen { backend: Arc::new(Simd::new()), no_gpu: Some(reason) },
        }),
        name => Ok(named(name)?.into()),
    }
}

/// The program of the first profile's example.
pub fn example() -> Arc<Program> {
    let profile = PROFILES[0];
    let op = json!({"name": profile.op, "version": profile.version, "profile": profile.name});
    let envelope = json!({"op": op, "args": (profile.example_args)()}).to_string();
    Request::from_json(envelope.as_bytes()).expect("a profile's example is valid").program
}

/// Iterations a second of one call at a time, from a call that takes at least `long`.
///
/// # Errors
/// As [`Backend::execute`].
pub fn rate(backend: &dyn Backend, program: &Program, long: Duration) -> Result<f64, ExecutionError> {
    let id = ShardId { height: 12, index: 0 };
    let shard = |iterations| Shard { id, iterations, seed: Digest::hash_parts(&[b"calibration"]) };
    let mut iterations = 256;
    // The first call brings the program to the backend.
    backend.execute(program, &[shard(iterations)], &())?;
    loop {
        let start = Instant::now();
        backend.execute(program, &[shard(iterations)], &())?;
        let took = start.elapsed();
        if took >= long || iterations >= 1 << 28 {
            return Ok(iterations as f64 / took.as_secs_f64());
        }
        iterations *= 4;
    }
}

/// What a verifier executes with, the preferred first: `preferred`, then the other SIMD levels of this CPU from the best
/// on, then the reference. It takes other hardware than a result was made on where it has it.
pub fn verifiers(preferred: &Arc<dyn Backend>) -> Vec<Arc<dyn Backend>> {
    let levels = Simd::supported().into_iter().map(|level| Arc::new(level) as Arc<dyn Backend>);
    let others = levels.chain([Arc::new(Scalar) as Arc<dyn Backend>]);
    let others = others.filter(|other| other.name() != preferred.name());
    [Arc::clone(preferred)].into_iter().chain(others).collect()
}
