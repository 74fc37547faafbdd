//! A device whose compiled shaders have been compared with the scalar reference. Nothing is
//! executed for a caller before that comparison.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use forge_contract::{plain_program::PlainProgram, shard::Shard, shard_result::ShardResult};
use forge_kernel::backend::{ExecutionControl, ExecutionError};

use crate::{
    adapter::{Adapter, AdapterKind},
    batch_executor::BatchExecutor,
    device::GpuDevice,
    open_error::OpenError,
    pipelines::Pipelines,
    self_test::{self, SELF_TEST_COMPONENTS},
    shader::ProductMethod,
};

/// Smallest ratio of speeds at which products by 64-bit integers are preferred.
const MIN_NATIVE_SPEEDUP: f64 = 1.05;

/// How a device is used. Only tests deviate from the default.
#[derive(Debug, Clone, Copy)]
pub(crate) struct GpuOptions {
    /// Longest time that the device may take to complete a submission. Dispatches are sized to be
    /// far shorter.
    pub(crate) response_timeout: Duration,
    /// Changes the source of the shaders, to simulate a driver that miscompiles them.
    pub(crate) miscompile: fn(String) -> String,
    /// The method for products; `None` to choose the faster one.
    pub(crate) product_method: Option<ProductMethod>,
}

impl Default for GpuOptions {
    fn default() -> Self {
        Self { response_timeout: Duration::from_secs(60), miscompile: |source| source, product_method: None }
    }
}

/// An open device, and the shaders compiled on it so far, all of which agree with the scalar
/// reference.
#[derive(Debug)]
pub(crate) struct VerifiedDevice {
    pub(crate) executor: BatchExecutor,
    options: GpuOptions,
    product_method: ProductMethod,
    /// By number of components.
    pipelines: Mutex<BTreeMap<usize, Arc<Pipelines>>>,
}

impl VerifiedDevice {
    /// Opens the device of an adapter, and compares it with the scalar reference.
    ///
    /// # Errors
    /// [`OpenError::Unusable`] or [`OpenError::WrongResults`].
    pub(crate) fn open(adapter: &Adapter, options: GpuOptions) -> Result<Self, OpenError> {
        let device = GpuDevice::open(adapter, options.response_timeout)?;
        let mut device = Self {
            executor: BatchExecutor::new(device),
            options,
            product_method: ProductMethod::Pairs,
            pipelines: Mutex::default(),
        };
        device.choose_product_method(adapter.kind == AdapterKind::Software)?;
        Ok(device)
    }

    /// Compiles the shaders with the faster method for products. A software driver gains nothing
    /// from 64-bit integers, so they are not tried on one.
    fn choose_product_method(&mut self, is_software: bool) -> Result<(), OpenError> {
        self.product_method = self.options.product_method.unwrap_or(ProductMethod::Pairs);
        let pairs = self.pipelines(SELF_TEST_COMPONENTS)?;
        if self.options.product_method.is_some() || !self.executor.device.has_int64() || is_software {
            return Ok(());
        }
        self.product_method = ProductMethod::Native;
        let native = self.compile_verified(SELF_TEST_COMPONENTS)?;
        let rate = |pipelines: &Pipelines| {
            self_test::measure_rate(&self.executor, pipelines).map_err(|error| self.unusable(&error))
        };
        if rate(&native)? > MIN_NATIVE_SPEEDUP * rate(&pairs)? {
            self.lock_pipelines().insert(SELF_TEST_COMPONENTS, native);
        } else {
            self.product_method = ProductMethod::Pairs;
        }
        Ok(())
    }

    fn unusable(&self, error: &ExecutionError) -> OpenError {
        let adapter = self.executor.device.adapter_name().to_owned();
        OpenError::Unusable { adapter, reason: error.to_string() }
    }

    /// Reports the first fault of the device.
    ///
    /// # Errors
    /// [`ExecutionError::Device`], on every call after the first fault.
    pub(crate) fn check(&self) -> Result<(), ExecutionError> {
        self.executor.device.check()
    }

    /// Executes shards and returns their results in the same order.
    ///
    /// # Errors
    /// [`ExecutionError`].
    pub(crate) fn execute(
        &self,
        program: &PlainProgram<'_>,
        shards: &[Shard],
        control: &dyn ExecutionControl,
    ) -> Result<Vec<ShardResult>, ExecutionError> {
        let pipelines = self
            .pipelines(program.components.len())
            .map_err(|error| ExecutionError::Device(error.to_string()))?;
        self.executor.execute(&pipelines, program, shards, control)
    }

    /// The shaders for programs with `components` components. Shaders that are compiled for the
    /// first time are compared with the scalar reference: a driver may compile them correctly for
    /// one number of components and not for another.
    ///
    /// # Errors
    /// [`OpenError::Unusable`] or [`OpenError::WrongResults`].
    pub(crate) fn pipelines(&self, components: usize) -> Result<Arc<Pipelines>, OpenError> {
        // The lock is held during compilation, so that concurrent calls do not compile the same
        // shaders twice.
        let mut cache = self.lock_pipelines();
        if let Some(pipelines) = cache.get(&components) {
            return Ok(Arc::clone(pipelines));
        }
        let pipelines = self.compile_verified(components)?;
        cache.insert(components, Arc::clone(&pipelines));
        Ok(pipelines)
    }

    /// Compiles the shaders and compares them with the scalar reference.
    fn compile_verified(&self, components: usize) -> Result<Arc<Pipelines>, OpenError> {
        let pipelines = self.compile_unverified(components, self.options.miscompile);
        let difference =
            self.check().and_then(|()| self_test::find_difference(&self.executor, &pipelines, components));
        let Some(reason) = difference.map_err(|error| self.unusable(&error))? else {
            return Ok(Arc::new(pipelines));
        };
        let device = &self.executor.device;
        device.set_fault(reason.clone());
        Err(OpenError::WrongResults { adapter: device.adapter_name().to_owned(), reason })
    }

    /// Compiles the shaders from their sources as changed by `edit_source`, without any comparison.
    pub(crate) fn compile_unverified(
        &self,
        components: usize,
        edit_source: impl Fn(String) -> String,
    ) -> Pipelines {
        Pipelines::compile(&self.executor.device, components, self.product_method, edit_source)
    }

    fn lock_pipelines(&self) -> MutexGuard<'_, BTreeMap<usize, Arc<Pipelines>>> {
        self.pipelines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Loses the device, as when its driver crashes.
    #[cfg(test)]
    pub(crate) fn lose(&self) {
        self.executor.device.wgpu_device.destroy();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapter::list_adapters;

    #[test]
    fn results_agree_with_the_reference_under_the_chosen_product_method() {
        let adapter = list_adapters().into_iter().next();
        forge_harness::gpu::require_adapter(adapter.is_some());
        let Some(adapter) = adapter else { return };
        let mut device = VerifiedDevice::open(&adapter, GpuOptions::default()).unwrap();
        device.choose_product_method(false).unwrap();
        for components in [SELF_TEST_COMPONENTS, SELF_TEST_COMPONENTS + 1] {
            let pipelines = device.pipelines(components).unwrap();
            assert_eq!(self_test::find_difference(&device.executor, &pipelines, components), Ok(None));
        }
    }
}
