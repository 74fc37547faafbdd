//! What a child process does: executes shards until its input ends.

use std::{
    fmt,
    io::{self, Read, Write},
    sync::Arc,
};

use forge_contract::{program::Program, shard::Shard};
use forge_kernel::backend::{Backend, ExecutionError};

use crate::child_protocol::{
    BackendDescription, ExecutionReply, ExecutionRequest, Introduction, read_frame, read_required_frame,
    write_frame, write_json,
};

/// Executes shards with `backends`, or says why there are none, until the input ends. A panic of an
/// execution is not caught: it is the crash that the parent reports.
///
/// # Errors
/// The input is malformed, or a stream failed.
pub fn execute_in_child(
    backends: Result<Vec<Arc<dyn Backend>>, impl fmt::Display>,
    mut input: impl Read,
    output: impl Write,
) -> io::Result<()> {
    let mut output = io::BufWriter::new(output);
    let backends = match backends {
        Ok(backends) => backends,
        Err(reason) => {
            write_json(&mut output, &Introduction::Unavailable(reason.to_string()))?;
            return output.flush();
        }
    };
    let descriptions = backends.iter().map(|backend| describe(backend.as_ref())).collect();
    write_json(&mut output, &Introduction::Backends(descriptions))?;
    output.flush()?;
    let mut program = None;
    while let Some(request) = read_frame(&mut input)? {
        let request: ExecutionRequest = serde_json::from_slice(&request)?;
        if request.has_program {
            let bytes = read_required_frame(&mut input)?;
            program = Some(Program::decode(&bytes).map_err(io::Error::other)?);
        }
        let program = program.as_ref().ok_or_else(|| io::Error::other("a request without a program"))?;
        let backend = backends.iter().find(|backend| backend.name() == request.backend);
        let backend = backend.ok_or_else(|| io::Error::other("a request for an unknown backend"))?;
        let shards: Vec<_> = request.shards.iter().map(Shard::from).collect();
        match backend.execute(program, &shards, &()) {
            Ok(results) => {
                write_json(&mut output, &ExecutionReply::Results(results.len()))?;
                results.iter().try_for_each(|result| write_frame(&mut output, &result.encode()))?;
            }
            Err(ExecutionError::Device(reason) | ExecutionError::Unsupported(reason)) => {
                write_json(&mut output, &ExecutionReply::Failed(reason))?;
            }
            Err(error @ (ExecutionError::Cancelled | ExecutionError::Crashed(_))) => {
                return Err(io::Error::other(error));
            }
        }
        output.flush()?;
    }
    Ok(())
}

fn describe(backend: &dyn Backend) -> BackendDescription {
    BackendDescription {
        name: backend.name().to_owned(),
        adapter: backend.adapter().map(str::to_owned),
        batch_size: backend.batch_size(),
    }
}
