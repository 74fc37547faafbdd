//! `run`: executes an envelope in this process.

use std::time::Duration;

use forge::{CommandError, EngineArgs, EnvelopeRun, FinishedRun, JobControl, JobHost, RunSettings};
use forge_contract::ids::JobId;
use forge_store::StoreLocation;
use pyo3::prelude::*;

use crate::{
    errors::{envelope_error, forge_error, to_exception},
    task::Task,
};

/// Time that a cancelled job has to end.
const CANCEL_PATIENCE: Duration = Duration::from_secs(30);

/// A completed run.
#[pyclass(frozen, get_all)]
pub struct RunOutput {
    job_id: String,
    /// SHA-256 of `result_json`, hexadecimal.
    hash: String,
    /// `result.json`, byte for byte.
    result_json: Vec<u8>,
    /// Where the manifest is; `None` if nothing was stored.
    manifest: Option<String>,
    /// What is probably not meant, although the envelope is valid.
    warnings: Vec<String>,
    threads: usize,
    /// Time of the execution, s.
    seconds: f64,
}

/// Executes an envelope. `out` is the store of the artifacts; without it nothing is stored.
/// `on_progress` is called with the executed iterations and their total; an exception that it
/// raises cancels the job.
///
/// # Errors
/// `EnvelopeError` if the envelope is invalid, `JobError` if the job failed.
#[pyfunction]
#[pyo3(signature = (envelope, *, job_id, out, backend, threads, max_kept_bytes, on_progress))]
#[expect(clippy::too_many_arguments, reason = "they are keyword arguments of a Python function")]
pub fn run(
    py: Python<'_>,
    envelope: Vec<u8>,
    job_id: Option<&str>,
    out: Option<&str>,
    backend: String,
    threads: Option<u16>,
    max_kept_bytes: u64,
    on_progress: Option<Py<PyAny>>,
) -> PyResult<RunOutput> {
    let job_id = job_id.map(str::parse::<JobId>).transpose();
    let job_id = job_id.map_err(|error| forge_error(py, &format!("job_id: {error}")))?;
    let run = py.detach(|| EnvelopeRun::new(&envelope, job_id));
    let mut run = run.map_err(|errors| envelope_error(py, &errors))?;
    let warnings = run.request().warnings().iter().map(ToString::to_string).collect();
    let store = match out {
        Some(out) => parse_store(py, "out", out)?,
        None => {
            run = run.without_artifacts();
            StoreLocation::Memory
        }
    };
    let engine = EngineArgs { backend, threads, no_progress: true };
    let settings = RunSettings { engine, store, max_kept_bytes };
    let FinishedRun { completion, threads } = execute(py, run, settings, on_progress.as_ref())?;
    Ok(RunOutput {
        job_id: completion.job.id.to_string(),
        hash: completion.job_result.hash.to_string(),
        result_json: completion.job_result.json,
        manifest: completion.manifest,
        warnings,
        threads,
        seconds: completion.execution_duration.as_secs_f64(),
    })
}

/// Executes a run, and cancels it when a signal handler or `on_progress` raises an exception.
fn execute(
    py: Python<'_>,
    run: EnvelopeRun,
    settings: RunSettings,
    on_progress: Option<&Py<PyAny>>,
) -> PyResult<FinishedRun> {
    let control = JobControl::default();
    let host = JobHost::Embedded(control.clone());
    let task = Task::start(move || run.execute(&settings, &host))?;
    let outcome = task.wait(py, |py| report_progress(py, &control, on_progress));
    if outcome.is_err() {
        control.cancel();
        task.join(py, CANCEL_PATIENCE);
    }
    outcome?.map_err(|error: CommandError| to_exception(py, &error))
}

/// Calls `on_progress`, if the work has begun.
///
/// # Errors
/// The exception that it raises.
pub fn report_progress(
    py: Python<'_>,
    control: &JobControl,
    on_progress: Option<&Py<PyAny>>,
) -> PyResult<()> {
    let (done, total) = (control.iterations_done(), control.iterations_total());
    match on_progress {
        Some(on_progress) if total > 0 => on_progress.call1(py, (done, total)).map(drop),
        _ => Ok(()),
    }
}

/// The store of a location, which `argument` names.
///
/// # Errors
/// `ForgeError` if it is none that outlives the process.
pub fn parse_store(py: Python<'_>, argument: &str, location: &str) -> PyResult<StoreLocation> {
    match location.parse() {
        Ok(StoreLocation::Memory) => {
            Err(forge_error(py, &format!("{argument}: memory: keeps nothing; leave {argument} out")))
        }
        Ok(location) => Ok(location),
        Err(error) => Err(forge_error(py, &format!("{argument}: {error}"))),
    }
}
