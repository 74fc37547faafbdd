//! Backends whose executions run in child processes, so that a shard that kills its process does
//! not kill the verifier. Child processes are kept for further shards; as many are started as calls
//! are made at once. The child opens the device, so a driver's crash stays with it too.

use std::{mem, sync::Arc, time::Duration};

use forge_contract::{
    plain_program::PlainProgram, program::Program, shard::Shard, shard_result::ShardResult,
};
use forge_kernel::backend::{Backend, ExecutionControl, ExecutionError};
use parking_lot::Mutex;

use crate::{
    child_process::{ChildCommand, ChildFailure, ChildProcess},
    child_protocol::{
        BackendDescription, ExecutionReply, ExecutionRequest, Introduction, write_frame, write_json,
    },
};

/// The child processes of one command.
#[derive(Debug)]
pub struct ChildPool {
    command: ChildCommand,
    backends: Vec<BackendDescription>,
    /// Upper bound on the time of a call.
    time_limit: Duration,
    idle: Mutex<Vec<ChildProcess>>,
}

impl ChildPool {
    /// Starts the first process. A call that takes longer than `time_limit` counts as a crash.
    ///
    /// # Errors
    /// [`ChildFailure::Unavailable`]: the process cannot be started, or has no backend.
    pub fn start(command: ChildCommand, time_limit: Duration) -> Result<Arc<Self>, ChildFailure> {
        let (process, introduction) = ChildProcess::start(&command)?;
        let backends = match introduction {
            Introduction::Backends(backends) => backends,
            Introduction::Unavailable(reason) => return Err(ChildFailure::Unavailable(reason)),
        };
        Ok(Arc::new(Self { command, backends, time_limit, idle: Mutex::new(vec![process]) }))
    }

    /// The backends of the processes, in their order.
    pub fn backends(self: &Arc<Self>) -> Vec<Arc<dyn Backend>> {
        let backend = |description: &BackendDescription| {
            let (pool, description) = (Arc::clone(self), description.clone());
            Arc::new(IsolatedBackend { pool, description }) as Arc<dyn Backend>
        };
        self.backends.iter().map(backend).collect()
    }

    /// An idle process, one that knows the program if there is one, or a new one.
    fn take(&self, program: &Program) -> Result<ChildProcess, ChildFailure> {
        let mut idle = self.idle.lock();
        let informed = idle.iter().rposition(|process| process.program.as_ref() == Some(program));
        let taken = informed.map(|index| idle.swap_remove(index)).or_else(|| idle.pop());
        drop(idle);
        if let Some(process) = taken {
            return Ok(process);
        }
        let (process, introduction) = ChildProcess::start(&self.command)?;
        match introduction {
            Introduction::Backends(backends) if backends == self.backends => Ok(process),
            Introduction::Backends(backends) => {
                let reason = format!("a child process has other backends than the first one: {backends:?}");
                Err(ChildFailure::Unavailable(reason))
            }
            Introduction::Unavailable(reason) => Err(ChildFailure::Unavailable(reason)),
        }
    }

    /// Executes shards in one process, which is kept if it answers.
    fn execute(
        &self,
        backend: &str,
        program: &Program,
        shards: &[Shard],
        control: &dyn ExecutionControl,
    ) -> Result<(ExecutionReply, Vec<Vec<u8>>), ChildFailure> {
        loop {
            let mut process = self.take(program)?;
            let has_program = process.program.as_ref() != Some(program);
            let request = build_request(backend, has_program.then_some(program), shards);
            if has_program {
                process.program = Some(program.clone());
            }
            match process.ask(request, control, self.time_limit) {
                Ok(answer) => {
                    self.idle.lock().push(process);
                    return Ok(answer);
                }
                // The process may have died before this request, or of an earlier one.
                Err(ChildFailure::Crashed(reason)) if process.has_answered => {
                    tracing::warn!(backend, reason, "a child process died; executing in a new one");
                    // Idle processes may be as old.
                    let idle = mem::take(&mut *self.idle.lock());
                    drop(idle);
                }
                Err(failure) => return Err(failure),
            }
        }
    }
}

fn build_request(backend: &str, program: Option<&Program>, shards: &[Shard]) -> Vec<u8> {
    let request = ExecutionRequest {
        backend: backend.to_owned(),
        has_program: program.is_some(),
        shards: shards.iter().map(Into::into).collect(),
    };
    let mut bytes = Vec::new();
    let written = write_json(&mut bytes, &request)
        .and_then(|()| program.map_or(Ok(()), |program| write_frame(&mut bytes, &program.encode())));
    written.expect("a request is shorter than 4 GiB");
    bytes
}

/// A backend of the child processes of a pool.
#[derive(Debug)]
struct IsolatedBackend {
    pool: Arc<ChildPool>,
    description: BackendDescription,
}

impl Backend for IsolatedBackend {
    fn name(&self) -> &str {
        &self.description.name
    }

    fn adapter(&self) -> Option<&str> {
        self.description.adapter.as_deref()
    }

    fn batch_size(&self) -> usize {
        self.description.batch_size
    }

    /// Backends on the CPU execute every program, GPUs plain ones.
    fn supports(&self, program: &Program) -> bool {
        self.adapter().is_none() || PlainProgram::new(program).is_some()
    }

    fn execute(
        &self,
        program: &Program,
        shards: &[Shard],
        control: &dyn ExecutionControl,
    ) -> Result<Vec<ShardResult>, ExecutionError> {
        let (reply, results) = self.pool.execute(self.name(), program, shards, control)?;
        if let ExecutionReply::Failed(reason) = reply {
            return Err(ExecutionError::Device(reason));
        }
        let decoded = results.iter().map(|bytes| ShardResult::decode(bytes)).collect::<Result<Vec<_>, _>>();
        let malformed = |error| ExecutionError::Crashed(format!("a result is malformed: {error}"));
        let decoded = decoded.map_err(malformed)?;
        // Cancelling it now would only waste the results.
        let _ = control.advance(decoded.iter().map(|result| result.iterations).sum());
        Ok(decoded)
    }
}

impl From<ChildFailure> for ExecutionError {
    fn from(failure: ChildFailure) -> Self {
        match failure {
            ChildFailure::Crashed(reason) => Self::Crashed(reason),
            ChildFailure::Unavailable(reason) => Self::Device(reason),
            ChildFailure::Stopped => Self::Cancelled,
        }
    }
}

#[cfg(test)]
mod tests;
