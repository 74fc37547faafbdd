//! GPUs by their names on the command line: `gpu` is the first usable one; `gpu-0`, `gpu-1`, … are
//! those that `forge devices` lists. A build without the feature `gpu` has none, and every function
//! here reports that.

#[cfg(not(feature = "gpu"))]
mod unsupported;
#[cfg(feature = "gpu")]
mod vulkan;

use std::{sync::Arc, time::Duration};

use forge_kernel::backend::Backend;

#[cfg(not(feature = "gpu"))]
pub use self::unsupported::{list, measure_stages, open, open_hardware};
#[cfg(feature = "gpu")]
pub use self::vulkan::{list, measure_stages, open, open_hardware};

/// Why a GPU cannot be used.
#[derive(Debug, Clone, thiserror::Error)]
pub enum GpuError {
    /// No adapter has this name.
    #[cfg(feature = "gpu")]
    #[error("there is no {name}; this machine has {adapters} GPU adapters, see `forge devices`")]
    NotFound {
        /// The name.
        name: String,
        /// Number of adapters.
        adapters: usize,
    },
    /// Opening the adapters, or executing on one, failed for this reason.
    #[cfg(feature = "gpu")]
    #[error("{0}")]
    Failed(String),
    /// The build lacks the feature `gpu`.
    #[cfg(not(feature = "gpu"))]
    #[error("this build of forge has no GPU support")]
    Unsupported,
}

/// An adapter, and the outcome of opening it.
pub struct GpuListing {
    /// Value for `--backend`.
    pub name: String,
    /// Name of the device and its driver.
    pub adapter: String,
    /// Kind of device: discrete, virtual, integrated, other or software.
    pub kind: &'static str,
    /// The backend, ready to execute; or why it cannot be used.
    pub backend: Result<Arc<dyn Backend>, GpuError>,
}

/// Median times of a GPU on the same shards, with parts of the shaders left out.
pub struct GpuStageTimes {
    /// One block of keystream per iteration and nothing else: the lower bound of any executor that
    /// draws from ChaCha8.
    pub keystream: Duration,
    /// Everything except looking up amounts.
    pub without_amounts: Duration,
    /// Everything except counting into histograms.
    pub without_histograms: Duration,
    /// Everything.
    pub all: Duration,
    /// The whole call: everything, plus preparing commands and reading results on the host.
    pub call: Duration,
}

/// Whether a backend name denotes a GPU.
pub fn is_gpu_name(name: &str) -> bool {
    name == "gpu" || name.strip_prefix("gpu-").is_some_and(|index| index.parse::<usize>().is_ok())
}
