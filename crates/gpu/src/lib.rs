//! The GPU backend: hand-written integer WGSL on wgpu, the same bytes as the scalar reference on every adapter.
//!
//! No float appears in a shader: WGSL lets implementations round, fuse and reassociate them. Nothing here is normative; it is
//! proved by the kernel's conformance suite, and every adapter is compared with the scalar reference before its results count.
//!
//! Reading order: [`adapter`] → [`backend`] → `batch` → `shader/execute.wgsl`.

pub mod adapter;
pub mod backend;
mod batch;
pub mod call_breakdown;
mod device;
mod model;
mod pace;
mod pipelines;
mod record;
mod self_test;
mod shader;
mod slices;

pub use self::{
    adapter::{Adapter, list_adapters},
    backend::GpuBackend,
    device::OpenError,
};
