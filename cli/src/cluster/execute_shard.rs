//! `forge execute-shard`: a child process in which a verifier executes shards. Not for people.

use std::{
    env,
    io::{stdin, stdout},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, anyhow};
use clap::Args;
use forge_kernel::backend::{Backend, scalar::Scalar, simd::Simd};
use forge_verifier::{ChildCommand, ChildFailure, ChildPool};

use crate::{engine, error::CommandError};

/// Name of the command.
const COMMAND_NAME: &str = "execute-shard";
/// How long a process may execute a shard, by default.
pub const DEFAULT_TIME_LIMIT: Duration = Duration::from_secs(1800);
/// Interval between two checks that the parent lives.
#[cfg(unix)]
const PARENT_CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// Argument that asks for every backend on the CPU.
const CPU: &str = "cpu";
/// Variables that configure drivers of GPUs, by prefix. No credential has such a name.
const DRIVER_VARIABLES: &[&str] =
    &["CUDA_", "GALLIUM_", "LD_LIBRARY_PATH", "LP_", "MESA_", "NODEVICE_SELECT", "NVIDIA_", "VK_", "XDG_"];

/// Execute shards in isolation, for a verifier
#[derive(Debug, Args)]
pub struct ExecuteShardArgs {
    /// cpu, or the name of a GPU; auto is the first hardware GPU
    backends: String,
}

/// Runs the command: reads tasks from standard input, and writes results to standard output.
///
/// # Errors
/// The input is malformed, or a stream failed.
pub fn execute(args: &ExecuteShardArgs) -> Result<(), CommandError> {
    let backends = match args.backends.as_str() {
        CPU => Ok(cpu_backends()),
        name => engine::open_gpu(name).map(|gpu| vec![gpu]),
    };
    #[cfg(unix)]
    end_with_parent();
    let executed = forge_verifier::execute_in_child(backends, stdin().lock(), stdout().lock());
    Ok(executed.context("executing shards for a verifier")?)
}

/// Ends this process once its parent has ended, in the middle of an execution too: a killed
/// verifier cannot end it. The system gives such a process another parent.
#[cfg(unix)]
fn end_with_parent() {
    use std::{os::unix::process::parent_id, process, thread};

    let parent = parent_id();
    thread::spawn(move || {
        while parent_id() == parent {
            thread::sleep(PARENT_CHECK_INTERVAL);
        }
        process::exit(1);
    });
}

/// The backends of this CPU: the SIMD levels from best to worst, then the scalar reference.
fn cpu_backends() -> Vec<Arc<dyn Backend>> {
    let levels = Simd::supported().into_iter().map(|level| Arc::new(level) as Arc<dyn Backend>);
    levels.chain([Arc::new(Scalar) as Arc<dyn Backend>]).collect()
}

/// Starts child processes with every backend of this CPU.
///
/// # Errors
/// The process cannot be started.
pub fn start_cpu_pool(time_limit: Duration) -> Result<Arc<ChildPool>, CommandError> {
    ChildPool::start(command(CPU, &[])?, time_limit).map_err(|failure| CommandError::Other(failure.into()))
}

/// Starts child processes with the scalar reference.
///
/// # Errors
/// The process cannot be started.
pub fn start_reference(time_limit: Duration) -> Result<Arc<dyn Backend>, CommandError> {
    let reference = start_cpu_pool(time_limit)?.backends().pop();
    reference.ok_or_else(|| CommandError::Other(anyhow!("a child process has no backend")))
}

/// Starts child processes with the GPU of a name; `auto` is the first hardware GPU.
///
/// # Errors
/// Why the GPU cannot be used.
pub fn start_gpu_pool(
    name: &str,
    time_limit: Duration,
) -> Result<Result<Arc<ChildPool>, ChildFailure>, CommandError> {
    Ok(ChildPool::start(command(name, DRIVER_VARIABLES)?, time_limit))
}

fn command(
    backends: &str,
    inherited_variables: &'static [&'static str],
) -> Result<ChildCommand, CommandError> {
    let arguments = vec![COMMAND_NAME.into(), backends.into()];
    Ok(ChildCommand { program: own_program()?, arguments, inherited_variables })
}

/// The file of this program. On Linux it is found even after an upgrade has replaced or removed it.
fn own_program() -> Result<PathBuf, CommandError> {
    if cfg!(target_os = "linux") {
        return Ok("/proc/self/exe".into());
    }
    Ok(env::current_exe().context("cannot find the path of this program")?)
}
