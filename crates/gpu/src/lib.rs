//! The GPU backend: hand-written integer WGSL on wgpu, which returns the same bytes as the scalar
//! reference on every adapter.
//!
//! Shaders must not use floats: WGSL lets implementations round, fuse and reassociate them. This
//! crate defines nothing about results; the kernel's scalar reference does. The kernel's
//! conformance suite tests this backend against it, and every device is compared with it when it is
//! opened, before any of its results is used.
//!
//! Reading order: [`adapter`] → [`backend`] → `verified_device` → `batch_executor` →
//! `shader/execute.wgsl`.
//!
//! # Example
//! Executes one shard of a profile's example on the first usable adapter:
//!
//! ```no_run
//! use forge_gpu::GpuBackend;
//! use forge_kernel::{backend::Backend, request::Request};
//!
//! # fn run(envelope: &[u8]) -> Result<(), Box<dyn std::error::Error>> {
//! let request = Request::from_json(envelope)?;
//! let backend = GpuBackend::open_any()?;
//! println!("{} on {:?}", backend.name(), backend.adapter());
//! let shard = request.plan.shards().next().ok_or("the plan is empty")?;
//! let results = backend.execute(&request.program, &[request.shard(shard)], &())?;
//! println!("{}", results[0].digest());
//! # Ok(())
//! # }
//! ```

mod accumulator;
pub mod adapter;
pub mod backend;
mod batch_buffers;
mod batch_executor;
mod buffer_cache;
pub mod call_breakdown;
mod device;
mod dispatch_pacer;
mod gpu_program;
mod open_error;
mod pipelines;
mod self_test;
mod shader;
mod verified_device;
mod work_slices;

pub use self::{
    adapter::{Adapter, list_adapters},
    backend::GpuBackend,
    open_error::OpenError,
};
