//! The same functions in a build without the feature `gpu`: there are no GPUs.

use std::sync::Arc;

use forge_contract::{program::Program, shard::Shard};
use forge_kernel::backend::Backend;

use super::{GpuError, GpuListing, GpuStageTimes};

/// Always empty.
pub fn list() -> Vec<GpuListing> {
    Vec::new()
}

/// Always fails.
///
/// # Errors
/// This build has no GPU support.
pub fn open(_: &str) -> Result<Arc<dyn Backend>, GpuError> {
    Err(GpuError::Unsupported)
}

/// Always fails.
///
/// # Errors
/// This build has no GPU support.
pub fn open_hardware() -> Result<Arc<dyn Backend>, GpuError> {
    Err(GpuError::Unsupported)
}

/// Always fails.
///
/// # Errors
/// This build has no GPU support.
pub fn measure_stages(_: &str, _: &Program, _: &[Shard], _: usize) -> Result<GpuStageTimes, GpuError> {
    Err(GpuError::Unsupported)
}
