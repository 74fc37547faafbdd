//! GPUs as the command line names them: `gpu` for the first that can be used, `gpu-0`, `gpu-1`, … as `forge devices` lists
//! them. In a build without the feature `gpu` there are none, and everything here says so.

use std::sync::Arc;

use forge_kernel::backend::Backend;

/// Whether a backend's name is that of a GPU.
pub fn is_named(name: &str) -> bool {
    name == "gpu" || name.strip_prefix("gpu-").is_some_and(|index| index.parse::<usize>().is_ok())
}

/// An adapter, and what became of opening it.
pub struct Listed {
    /// As `--backend` takes it.
    pub name: String,
    /// Name of the device and its driver.
    pub adapter: String,
    /// What it is: discrete, virtual, integrated, other or software.
    pub kind: &'static str,
    /// Ready to execute; or why it cannot be used.
    pub opened: Result<Arc<dyn Backend>, String>,
}

#[cfg(feature = "gpu")]
mod present {
    use std::sync::Arc;

    use forge_contract::{program::Program, shard::Shard};
    pub use forge_gpu::call_breakdown::CallBreakdown;
    use forge_gpu::{Adapter, GpuBackend, adapter::AdapterKind};
    use forge_kernel::backend::Backend;

    use super::Listed;

    /// Every adapter of this machine, opened and compared with the scalar reference.
    pub fn list() -> Vec<Listed> {
        let opened = |adapter: Adapter| Listed {
            name: format!("gpu-{}", adapter.index),
            kind: adapter.kind.as_str(),
            adapter: adapter.to_string(),
            opened: open_one(&adapter).map_err(|error| error.to_string()),
        };
        forge_gpu::list_adapters().into_iter().map(opened).collect()
    }

    /// The GPU of a name.
    ///
    /// # Errors
    /// Why there is none, or why it cannot be used.
    pub fn open(name: &str) -> Result<Arc<dyn Backend>, String> {
        if name == "gpu" {
            return match GpuBackend::open_any() {
                Ok(gpu) => Ok(Arc::new(gpu)),
                Err(error) => Err(error.to_string()),
            };
        }
        open_one(&named(name)?).map_err(|error| error.to_string())
    }

    /// The first GPU that is not a driver on the processor.
    ///
    /// # Errors
    /// Why there is none.
    pub fn open_real() -> Result<Arc<dyn Backend>, String> {
        let mut reasons = Vec::new();
        for adapter in
            forge_gpu::list_adapters().iter().filter(|adapter| adapter.kind != AdapterKind::Software)
        {
            match open_one(adapter) {
                Ok(gpu) => return Ok(gpu),
                Err(error) => reasons.push(error.to_string()),
            }
        }
        Err(if reasons.is_empty() { "no Vulkan driver reports a GPU".to_owned() } else { reasons.join("; ") })
    }

    /// Where the time of the GPU of a name goes, on shards of a program.
    ///
    /// # Errors
    /// As [`open`], or the device fails.
    pub fn breakdown(
        name: &str,
        program: &Program,
        shards: &[Shard],
        rounds: usize,
    ) -> Result<CallBreakdown, String> {
        let gpu = GpuBackend::open(&named(name)?).map_err(|error| error.to_string())?;
        forge_gpu::call_breakdown::measure_call(&gpu, program, shards, rounds)
            .map_err(|error| error.to_string())
    }

    fn named(name: &str) -> Result<Adapter, String> {
        let adapters = forge_gpu::list_adapters();
        let found = adapters.len();
        let mut named = adapters.into_iter().filter(|adapter| name == format!("gpu-{}", adapter.index));
        named.next().ok_or_else(|| {
            format!("there is no {name}: this machine shows {found} adapters, see forge devices")
        })
    }

    fn open_one(adapter: &Adapter) -> Result<Arc<dyn Backend>, forge_gpu::OpenError> {
        Ok(Arc::new(GpuBackend::open(adapter)?))
    }
}

#[cfg(not(feature = "gpu"))]
mod present {
    use std::{sync::Arc, time::Duration};

    use forge_contract::{program::Program, shard::Shard};
    use forge_kernel::backend::Backend;

    use super::Listed;

    const NONE: &str = "this build has no GPU backend";

    /// What a GPU would need; there is none.
    pub struct CallBreakdown {
        pub keystream: Duration,
        pub without_amounts: Duration,
        pub without_histograms: Duration,
        pub all: Duration,
        pub call: Duration,
    }

    /// Says that there is none.
    ///
    /// # Errors
    /// Always.
    pub fn breakdown(_: &str, _: &Program, _: &[Shard], _: usize) -> Result<CallBreakdown, String> {
        Err(NONE.to_owned())
    }

    /// None.
    pub fn list() -> Vec<Listed> {
        Vec::new()
    }

    /// Says that there is none.
    ///
    /// # Errors
    /// Always.
    pub fn open(_: &str) -> Result<Arc<dyn Backend>, String> {
        open_real()
    }

    /// Says that there is none.
    ///
    /// # Errors
    /// Always.
    pub fn open_real() -> Result<Arc<dyn Backend>, String> {
        Err(NONE.to_owned())
    }
}

pub use self::present::{breakdown, list, open, open_real};
