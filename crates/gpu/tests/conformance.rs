//! Runs the kernel's conformance suite, which also the CPU backends pass, on every adapter of this
//! machine: each must return the bytes of the scalar reference.

use std::sync::LazyLock;

use forge_gpu::{GpuBackend, list_adapters};
use forge_kernel::{backend::Backend, testing::conformance};

/// Shared by all tests, so that shaders are compiled once.
static BACKENDS: LazyLock<Vec<GpuBackend>> = LazyLock::new(|| {
    list_adapters()
        .iter()
        .map(|adapter| GpuBackend::open(adapter).expect("the adapter passes its self-test"))
        .collect()
});

/// Runs one part of the suite on every adapter.
fn on_every_adapter(part: fn(&dyn Backend)) {
    forge_harness::gpu::require_adapter(!BACKENDS.is_empty());
    for backend in BACKENDS.iter() {
        part(backend);
    }
}

#[test]
fn profiles() {
    on_every_adapter(conformance::check_profiles);
}

#[test]
fn iteration_counts() {
    on_every_adapter(conformance::check_iteration_counts);
}

#[test]
fn draw_counts() {
    on_every_adapter(conformance::check_draw_counts);
}

#[test]
fn tall_shards() {
    on_every_adapter(conformance::check_tall_shards);
}

#[test]
fn many_occurrences() {
    on_every_adapter(conformance::check_many_occurrences);
}

#[test]
fn saturation() {
    on_every_adapter(conformance::check_saturation);
}

#[test]
fn impossible_and_certain() {
    on_every_adapter(conformance::check_constant_counts);
}

#[test]
fn thresholds_at_draws() {
    on_every_adapter(conformance::check_thresholds_at_draws);
}

#[test]
fn rare_draws() {
    on_every_adapter(conformance::check_rare_draws);
}

#[test]
fn reuse() {
    on_every_adapter(conformance::check_reuse);
}

#[test]
fn cancellation() {
    on_every_adapter(conformance::check_cancellation);
}

#[test]
fn random_programs() {
    on_every_adapter(|backend| conformance::check_random_programs(backend, 400));
}
