//! `forge execute-shard`: the child process in which a verifier executes a shard that workers
//! failed to execute. Not for people.

use std::{
    env,
    io::{stdin, stdout},
    path::PathBuf,
};

use anyhow::{Context, anyhow};
use forge_verifier::IsolatedExecutor;

use crate::error::CommandError;

/// Name of the command.
const COMMAND_NAME: &str = "execute-shard";

/// Runs the command: reads a task and a program from standard input, and writes the result to
/// standard output.
///
/// # Errors
/// The input is malformed, or a stream failed.
pub fn execute() -> Result<(), CommandError> {
    let result = forge_verifier::execute_in_child(stdin().lock(), stdout().lock());
    result.map_err(|error| CommandError::Other(anyhow!(error)))
}

/// Executes up to `max_processes` shards at once in child processes of this program.
///
/// # Errors
/// The path of this program is unknown.
pub fn isolated_executor(max_processes: usize) -> Result<IsolatedExecutor, CommandError> {
    Ok(IsolatedExecutor::new(own_program()?, [COMMAND_NAME], max_processes))
}

/// The file of this program. On Linux it is found even after an upgrade has replaced or removed it.
fn own_program() -> Result<PathBuf, CommandError> {
    if cfg!(target_os = "linux") {
        return Ok("/proc/self/exe".into());
    }
    Ok(env::current_exe().context("cannot find the path of this program")?)
}
