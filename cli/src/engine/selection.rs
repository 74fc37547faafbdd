//! Which backend executes: by name, or chosen automatically for a job, a worker or a verifier.

use std::{sync::Arc, time::Duration};

use forge_contract::{envelope::Target, plain_program::PlainProgram, program::Program};
use forge_kernel::{
    backend::{Backend, scalar::Scalar, simd::Simd},
    request::Request,
};

use super::{
    calibration::{example_program, iterations_per_second},
    core_count,
};
use crate::{
    error::CommandError,
    gpu::{self, GpuError},
};

/// Jobs that the CPU executes in less time do not justify opening a GPU.
const GPU_WORTHWHILE_AFTER: Duration = Duration::from_secs(3);
/// Minimum duration of the calibration call that decides whether a job is short.
const QUICK_CALIBRATION: Duration = Duration::from_micros(200);
/// Minimum duration of the calibration call that compares CPU and GPU.
const CALIBRATION: Duration = Duration::from_millis(15);

/// A backend, and why it is not a GPU if one was looked for.
pub struct BackendSelection {
    /// Executes shards.
    pub backend: Arc<dyn Backend>,
    /// Why no GPU was selected; `None` if none was looked for or one was selected.
    pub gpu_unavailable: Option<String>,
}

impl From<Arc<dyn Backend>> for BackendSelection {
    fn from(backend: Arc<dyn Backend>) -> Self {
        Self { backend, gpu_unavailable: None }
    }
}

/// Opens the backend of a name; `simd` is the best SIMD level of this CPU, `gpu` the first usable
/// GPU.
///
/// # Errors
/// [`CommandError::Input`] if there is no such backend or it cannot be used.
pub fn open_backend(name: &str) -> Result<Arc<dyn Backend>, CommandError> {
    if gpu::is_gpu_name(name) {
        return gpu::open(name).map_err(|reason| CommandError::Input(format!("--backend {name}: {reason}")));
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
        None => Err(CommandError::Input(format!(
            "--backend: unknown backend {name:?}; this machine has auto, simd, scalar, {}, and the GPUs that \
             `forge devices` lists",
            names.join(", ")
        ))),
    }
}

/// The backend expected to execute a job soonest. A GPU is opened only if the policy asks for one
/// or the job is long enough to pay for it. A software driver is used only if the policy asks for a
/// GPU.
pub(super) fn select_for_job(request: &Request) -> BackendSelection {
    let simd: Arc<dyn Backend> = Arc::new(Simd::new());
    match request.envelope.policy.target {
        Target::Gpu => match gpu::open("gpu") {
            Ok(gpu) => gpu.into(),
            Err(error) => BackendSelection { backend: simd, gpu_unavailable: Some(error.to_string()) },
        },
        Target::Any
            if PlainProgram::new(&request.program).is_some() && !is_short_job(request, simd.as_ref()) =>
        {
            faster_backend(simd, &request.program)
        }
        _ => simd.into(),
    }
}

/// Whether all cores together are expected to finish a job within [`GPU_WORTHWHILE_AFTER`].
fn is_short_job(request: &Request, simd: &dyn Backend) -> bool {
    let rate = iterations_per_second(simd, &request.program, QUICK_CALIBRATION).unwrap_or(f64::INFINITY);
    let seconds = request.plan.iterations() as f64 / (rate * core_count() as f64);
    seconds < GPU_WORTHWHILE_AFTER.as_secs_f64()
}

/// Whichever of the CPU and the first hardware GPU executes a program faster.
fn faster_backend(simd: Arc<dyn Backend>, program: &Program) -> BackendSelection {
    let gpu = match gpu::open_hardware() {
        Ok(gpu) => gpu,
        Err(error) => {
            return BackendSelection { backend: simd, gpu_unavailable: Some(error.to_string()) };
        }
    };
    let per_core = iterations_per_second(simd.as_ref(), program, CALIBRATION).unwrap_or(f64::INFINITY);
    let on_gpu = iterations_per_second(gpu.as_ref(), program, CALIBRATION).unwrap_or(0.0);
    if on_gpu > per_core * core_count() as f64 {
        return gpu.into();
    }
    let reason = format!("{} is slower than the CPU", gpu.adapter().unwrap_or("the GPU"));
    BackendSelection { backend: simd, gpu_unavailable: Some(reason) }
}

/// The backend of a worker, which executes any job: `auto` is the one that executes the first
/// profile's example faster.
///
/// # Errors
/// See [`open_backend`].
pub fn select_for_worker(name: &str) -> Result<BackendSelection, CommandError> {
    match name {
        "auto" => Ok(faster_backend(Arc::new(Simd::new()), &example_program())),
        name => Ok(open_backend(name)?.into()),
    }
}

/// Opens the GPU of a name; `auto` is the first hardware GPU.
///
/// # Errors
/// There is none, or it cannot be used.
pub fn open_gpu(name: &str) -> Result<Arc<dyn Backend>, GpuError> {
    if name == "auto" { gpu::open_hardware() } else { gpu::open(name) }
}

/// The backends of a verifier in order of preference: `preferred`, the other SIMD levels of this
/// CPU from best to worst, then the scalar reference. For each result the verifier picks one on
/// other hardware than the worker's, if it can.
pub fn verifier_backends(preferred: &Arc<dyn Backend>) -> Vec<Arc<dyn Backend>> {
    let simd_levels = Simd::supported().into_iter().map(|level| Arc::new(level) as Arc<dyn Backend>);
    let fallbacks = simd_levels.chain([Arc::new(Scalar) as Arc<dyn Backend>]);
    let fallbacks = fallbacks.filter(|fallback| fallback.name() != preferred.name());
    [Arc::clone(preferred)].into_iter().chain(fallbacks).collect()
}
