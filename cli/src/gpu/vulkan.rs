//! GPUs through `forge-gpu`, which runs on Vulkan.

use std::sync::Arc;

use forge_contract::{program::Program, shard::Shard};
use forge_gpu::{Adapter, GpuBackend, OpenError, adapter::AdapterKind};
use forge_kernel::backend::Backend;

use super::{GpuError, GpuListing, GpuStageTimes};

/// Every adapter of this machine, each opened, which compares it with the scalar reference.
pub fn list() -> Vec<GpuListing> {
    let listing = |adapter: Adapter| GpuListing {
        name: format!("gpu-{}", adapter.index),
        kind: adapter.kind.as_str(),
        adapter: adapter.to_string(),
        backend: open_adapter(&adapter).map_err(failed),
    };
    forge_gpu::list_adapters().into_iter().map(listing).collect()
}

/// Opens the GPU of a name.
///
/// # Errors
/// Why there is no such GPU, or why it cannot be used.
pub fn open(name: &str) -> Result<Arc<dyn Backend>, GpuError> {
    if name == "gpu" {
        return match GpuBackend::open_any() {
            Ok(gpu) => Ok(Arc::new(gpu)),
            Err(error) => Err(failed(error)),
        };
    }
    open_adapter(&find_adapter(name)?).map_err(failed)
}

/// Opens the first usable hardware GPU; software drivers are skipped.
///
/// # Errors
/// Why there is none.
pub fn open_hardware() -> Result<Arc<dyn Backend>, GpuError> {
    let mut reasons = Vec::new();
    for adapter in forge_gpu::list_adapters().iter().filter(|adapter| adapter.kind != AdapterKind::Software) {
        match open_adapter(adapter) {
            Ok(gpu) => return Ok(gpu),
            Err(error) => reasons.push(error.to_string()),
        }
    }
    Err(if reasons.is_empty() { failed(OpenError::NoAdapter) } else { failed(reasons.join("; ")) })
}

/// Measures how much each stage of a GPU contributes to executing shards of a program.
///
/// # Errors
/// Why the GPU cannot be opened, or how it failed.
pub fn measure_stages(
    name: &str,
    program: &Program,
    shards: &[Shard],
    rounds: usize,
) -> Result<GpuStageTimes, GpuError> {
    let gpu = GpuBackend::open(&find_adapter(name)?).map_err(failed)?;
    let times = forge_gpu::call_breakdown::measure_call(&gpu, program, shards, rounds);
    let times = times.map_err(failed)?;
    Ok(GpuStageTimes {
        keystream: times.keystream,
        without_amounts: times.without_amounts,
        without_histograms: times.without_histograms,
        all: times.all,
        call: times.call,
    })
}

fn find_adapter(name: &str) -> Result<Adapter, GpuError> {
    let adapters = forge_gpu::list_adapters();
    let count = adapters.len();
    let adapter = adapters.into_iter().find(|adapter| name == format!("gpu-{}", adapter.index));
    adapter.ok_or_else(|| GpuError::NotFound { name: name.to_owned(), adapters: count })
}

fn failed(reason: impl ToString) -> GpuError {
    GpuError::Failed(reason.to_string())
}

fn open_adapter(adapter: &Adapter) -> Result<Arc<dyn Backend>, OpenError> {
    Ok(Arc::new(GpuBackend::open(adapter)?))
}
