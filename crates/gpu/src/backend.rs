//! The GPU as a backend of the kernel. Opens the device again after it was lost, and never falls
//! back to another one: a result must come from the adapter that [`Backend::adapter`] names.

use std::sync::{Arc, Mutex, PoisonError};

use forge_contract::{
    plain_program::PlainProgram, program::Program, shard::Shard, shard_result::ShardResult,
};
use forge_kernel::backend::{Backend, ExecutionControl, ExecutionError};

use crate::{
    adapter::{Adapter, list_adapters},
    batch_buffers::MAX_BATCH_SHARDS,
    open_error::OpenError,
    verified_device::{GpuOptions, VerifiedDevice},
};

/// Executes shards on one adapter.
#[derive(Debug)]
pub struct GpuBackend {
    name: String,
    adapter: Adapter,
    adapter_name: String,
    options: GpuOptions,
    /// `None` if the device could not be opened again after a fault; the next call tries once more.
    device: Mutex<Option<Arc<VerifiedDevice>>>,
}

impl GpuBackend {
    /// Opens an adapter and compares it with the scalar reference.
    ///
    /// # Errors
    /// [`OpenError`] if the adapter cannot be used, or if its results differ from those of the
    /// reference.
    pub fn open(adapter: &Adapter) -> Result<Self, OpenError> {
        Self::open_with(adapter, GpuOptions::default())
    }

    /// Opens the first usable adapter in the order of [`list_adapters`].
    ///
    /// # Errors
    /// If no adapter is usable, the error of the first one; [`OpenError::NoAdapter`] if there is
    /// none.
    pub fn open_any() -> Result<Self, OpenError> {
        let mut first_error = None;
        for adapter in list_adapters() {
            match Self::open(&adapter) {
                Ok(backend) => return Ok(backend),
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        Err(first_error.unwrap_or(OpenError::NoAdapter))
    }

    fn open_with(adapter: &Adapter, options: GpuOptions) -> Result<Self, OpenError> {
        let device = VerifiedDevice::open(adapter, options)?;
        Ok(Self {
            name: format!("gpu-{}", adapter.index),
            adapter: adapter.clone(),
            adapter_name: adapter.to_string(),
            options,
            device: Mutex::new(Some(Arc::new(device))),
        })
    }

    /// The device. If it has failed, opens and verifies it again.
    pub(crate) fn open_device(&self) -> Result<Arc<VerifiedDevice>, ExecutionError> {
        let mut device = self.device.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(device) = device.as_ref().filter(|device| device.check().is_ok()) {
            return Ok(Arc::clone(device));
        }
        *device = None;
        let adapter = self.find_adapter()?;
        let reopened = VerifiedDevice::open(&adapter, self.options);
        let reopened = Arc::new(reopened.map_err(|error| ExecutionError::Device(error.to_string()))?);
        *device = Some(Arc::clone(&reopened));
        Ok(reopened)
    }

    /// Finds the adapter in a new list, because a driver that has crashed does not recognise
    /// adapters listed before. Of several equal adapters, takes the one whose index is closest to
    /// the original one.
    fn find_adapter(&self) -> Result<Adapter, ExecutionError> {
        let is_same = |adapter: &Adapter| {
            (&adapter.name, &adapter.driver) == (&self.adapter.name, &self.adapter.driver)
        };
        let adapters = list_adapters().into_iter().filter(is_same);
        adapters.min_by_key(|adapter| adapter.index.abs_diff(self.adapter.index)).ok_or_else(|| {
            ExecutionError::Device(format!("{} is no longer reported by its driver", self.adapter_name))
        })
    }
}

impl Backend for GpuBackend {
    fn name(&self) -> &str {
        &self.name
    }

    fn adapter(&self) -> Option<&str> {
        Some(&self.adapter_name)
    }

    fn batch_size(&self) -> usize {
        MAX_BATCH_SHARDS
    }

    fn supports(&self, program: &Program) -> bool {
        PlainProgram::new(program).is_some()
    }

    fn execute(
        &self,
        program: &Program,
        shards: &[Shard],
        control: &dyn ExecutionControl,
    ) -> Result<Vec<ShardResult>, ExecutionError> {
        let Some(program) = PlainProgram::new(program) else {
            let reason = "its shaders execute only programs whose components are independent of each other";
            return Err(ExecutionError::Unsupported(reason.to_owned()));
        };
        self.open_device()?.execute(&program, shards, control)
    }
}

#[cfg(test)]
mod tests;
