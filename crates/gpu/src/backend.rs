//! The backend: a device that is opened again when it is lost.

use std::sync::{Arc, Mutex, PoisonError};

use forge_contract::{program::Program, shard::Shard, shard_result::ShardResult};
use forge_kernel::execute::{Backend, Control, ExecuteError};

use crate::{
    adapter::{Adapter, list_adapters},
    batch::{self, MAX_SHARDS},
    device::{Device, OpenError, Options},
};

/// Executes shards on an adapter.
#[derive(Debug)]
pub struct GpuBackend {
    name: String,
    adapter: Adapter,
    described: String,
    options: Options,
    /// None after it has failed, until the next call.
    device: Mutex<Option<Arc<Device>>>,
}

impl GpuBackend {
    /// Opens an adapter and compares it with the scalar reference.
    ///
    /// # Errors
    /// [`OpenError`]: it cannot be used, or it computes other results than the reference.
    pub fn open(adapter: &Adapter) -> Result<Self, OpenError> {
        Self::with(adapter, Options::default())
    }

    /// Opens the first adapter that can be used.
    ///
    /// # Errors
    /// [`OpenError`] of the first one, where none can be.
    pub fn open_any() -> Result<Self, OpenError> {
        let mut first = None;
        for adapter in list_adapters() {
            match Self::open(&adapter) {
                Ok(gpu) => return Ok(gpu),
                Err(error) => first = first.or(Some(error)),
            }
        }
        Err(first.unwrap_or(OpenError::NoAdapter))
    }

    fn with(adapter: &Adapter, options: Options) -> Result<Self, OpenError> {
        let device = Device::open(adapter, options)?;
        Ok(Self {
            name: format!("gpu-{}", adapter.index),
            adapter: adapter.clone(),
            described: adapter.to_string(),
            options,
            device: Mutex::new(Some(Arc::new(device))),
        })
    }

    /// The device; opened and tested again if it was lost.
    pub(crate) fn opened(&self) -> Result<Arc<Device>, ExecuteError> {
        let mut slot = self.device.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(device) = slot.as_ref().filter(|device| device.check().is_ok()) {
            return Ok(Arc::clone(device));
        }
        *slot = None;
        // The adapters are looked for again: a driver that has crashed knows nothing of the old ones.
        let same =
            |found: &Adapter| (&found.name, &found.driver) == (&self.adapter.name, &self.adapter.driver);
        let found = list_adapters()
            .into_iter()
            .filter(same)
            .min_by_key(|found| found.index.abs_diff(self.adapter.index));
        let gone = || ExecuteError::Device(format!("{} is gone", self.described));
        let opened = Device::open(&found.ok_or_else(gone)?, self.options);
        let device = Arc::new(opened.map_err(|error| ExecuteError::Device(error.to_string()))?);
        *slot = Some(Arc::clone(&device));
        Ok(device)
    }
}

impl Backend for GpuBackend {
    fn name(&self) -> &str {
        &self.name
    }

    fn adapter(&self) -> Option<&str> {
        Some(&self.described)
    }

    fn batch(&self) -> usize {
        MAX_SHARDS
    }

    fn execute(
        &self,
        program: &Program,
        shards: &[Shard],
        control: &dyn Control,
    ) -> Result<Vec<ShardResult>, ExecuteError> {
        let device = self.opened()?;
        let pipelines = device
            .pipelines(program.components.len())
            .map_err(|error| ExecuteError::Device(error.to_string()))?;
        batch::execute(&device, &pipelines, program, shards, control)
    }
}

#[cfg(test)]
mod tests;
