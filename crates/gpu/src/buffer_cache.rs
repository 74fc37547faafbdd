//! Caches of uploaded programs and of batch buffers, so that calls neither upload a program twice
//! nor allocate buffers.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use forge_contract::{digest::Digest, plain_program::PlainProgram};

use crate::{batch_buffers::BatchBuffers, device::GpuDevice, gpu_program::GpuProgram};

/// Number of programs kept on the device.
const MAX_CACHED_PROGRAMS: usize = 8;

/// The buffers of one device that outlive a call.
#[derive(Debug, Default)]
pub(crate) struct BufferCache {
    /// Ordered by last use, the most recent last.
    programs: Mutex<Vec<(Digest, Arc<GpuProgram>)>>,
    /// Buffers that no call is using.
    idle_buffers: Mutex<Vec<BatchBuffers>>,
}

impl BufferCache {
    /// The program's buffers; uploads the program if it is not on the device.
    pub(crate) fn program(&self, device: &GpuDevice, program: &PlainProgram<'_>) -> Arc<GpuProgram> {
        let digest = program.digest();
        let mut programs = lock(&self.programs);
        let cached = programs.iter().position(|(cached_digest, _)| *cached_digest == digest);
        let entry = match cached {
            Some(index) => programs.remove(index),
            None => (digest, Arc::new(GpuProgram::upload(device, program))),
        };
        let gpu_program = Arc::clone(&entry.1);
        programs.push(entry);
        if programs.len() > MAX_CACHED_PROGRAMS {
            programs.remove(0);
        }
        gpu_program
    }

    /// Takes idle buffers for at least `shards` shards, or allocates them.
    pub(crate) fn take_buffers(&self, device: &GpuDevice, shards: usize) -> BatchBuffers {
        let mut idle_buffers = lock(&self.idle_buffers);
        let fitting = idle_buffers.iter().position(|buffers| buffers.max_shards() >= shards);
        let buffers = fitting.map(|index| idle_buffers.swap_remove(index));
        // All idle buffers are too small: free some of them in exchange for the larger ones.
        if buffers.is_none() {
            idle_buffers.pop();
        }
        drop(idle_buffers);
        buffers.unwrap_or_else(|| BatchBuffers::allocate(device, shards))
    }

    /// Makes buffers available to the next call.
    pub(crate) fn return_buffers(&self, buffers: BatchBuffers) {
        lock(&self.idle_buffers).push(buffers);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
