//! Proves that every CPU backend returns the bytes of the scalar reference: the conformance suite of the kernel, run on
//! each instruction set that this CPU has. On the reference itself it shows that execution repeats and can be cancelled.

use forge_kernel::execute::{Backend, conformance, scalar::Scalar, simd::Simd};

/// Runs one part of the suite on every backend.
fn on_every_backend(part: fn(&dyn Backend)) {
    let levels = Simd::levels();
    assert_eq!(levels.last().map(|level| level.name()), Some("simd-portable"));
    for level in &levels {
        part(level);
    }
}

#[test]
fn the_reference_passes() {
    conformance::iteration_counts(&Scalar);
    conformance::reuse(&Scalar);
    conformance::cancellation(&Scalar);
    conformance::random_programs(&Scalar, 20);
}

#[test]
fn profiles() {
    on_every_backend(conformance::profiles);
}

#[test]
fn iteration_counts() {
    on_every_backend(conformance::iteration_counts);
}

#[test]
fn draw_counts() {
    on_every_backend(conformance::draw_counts);
}

#[test]
fn tall_shards() {
    on_every_backend(conformance::tall_shards);
}

#[test]
fn many_occurrences() {
    on_every_backend(conformance::many_occurrences);
}

#[test]
fn saturation() {
    on_every_backend(conformance::saturation);
}

#[test]
fn impossible_and_certain() {
    on_every_backend(conformance::impossible_and_certain);
}

#[test]
fn thresholds_at_draws() {
    on_every_backend(conformance::thresholds_at_draws);
}

#[test]
fn rare_draws() {
    on_every_backend(conformance::rare_draws);
}

#[test]
fn reuse() {
    on_every_backend(conformance::reuse);
}

#[test]
fn cancellation() {
    on_every_backend(conformance::cancellation);
}

#[test]
fn random_programs() {
    on_every_backend(|backend| conformance::random_programs(backend, 400));
}
