//! Proves that a device that is lost, that does not answer, or that computes wrongly costs a call and no result.

use std::time::Duration;

use forge_kernel::execute::{conformance, scalar::Scalar};

use super::*;
use crate::shader::Product;

/// The best adapter, if there is one.
fn adapter() -> Option<Adapter> {
    let found = list_adapters().into_iter().next();
    forge_harness::gpu::is_there(found.is_some());
    found
}

fn program() -> Program {
    conformance::Recipe::usual().program()
}

fn agrees(gpu: &GpuBackend) {
    conformance::assert_agrees(
        gpu,
        &program(),
        &[conformance::shard(0, 1, 3000)],
        "a device as it should be",
    );
}

#[test]
fn a_lost_device_is_opened_again() {
    let Some(adapter) = adapter() else { return };
    let gpu = GpuBackend::open(&adapter).unwrap();
    agrees(&gpu);
    let device = gpu.opened().unwrap();
    device.lose();
    let lost = batch::execute(
        &device,
        &device.pipelines(program().components.len()).unwrap(),
        &program(),
        &[conformance::shard(0, 1, 3000)],
        &(),
    );
    assert!(matches!(lost, Err(ExecuteError::Device(_))), "{lost:?}");
    agrees(&gpu);
    assert!(!Arc::ptr_eq(&device, &gpu.opened().unwrap()));
}

#[test]
fn a_device_that_does_not_answer_is_given_up() {
    let Some(adapter) = adapter() else { return };
    let hasty = Options { patience: Duration::ZERO, ..Options::default() };
    let given_up = GpuBackend::with(&adapter, hasty);
    let Err(OpenError::Unusable { reason, .. }) = given_up else { panic!("{given_up:?}") };
    assert!(reason.contains("no answer within 0ns"), "{reason}");
}

#[test]
fn a_device_that_computes_wrongly_is_refused() {
    let Some(adapter) = adapter() else { return };
    let options = |miscompile| Options { miscompile, ..Options::default() };
    let faults: [fn(String) -> String; 3] = [
        |source| source.replace("rotated(r.b ^ r.c, 7u)", "rotated(r.b ^ r.c, 9u)"),
        |source| source.replace("u32(low < a.x)", "0u"),
        |source| source.replace("if largest_counts {", "if true {"),
    ];
    for fault in faults {
        let refused = GpuBackend::with(&adapter, options(fault)).expect_err("it is refused");
        let OpenError::WrongResults { adapter: named, .. } = &refused else { panic!("{refused:?}") };
        assert_eq!(*named, adapter.to_string());
    }
    let broken = GpuBackend::with(&adapter, options(|source| source.replace("fn execute", "fn execute(")));
    assert!(matches!(&broken, Err(OpenError::Unusable { .. })), "{broken:?}");
    assert_eq!(GpuBackend::open(&adapter).unwrap().adapter(), Some(adapter.to_string().as_str()));
    assert!(Scalar.adapter().is_none());
}

#[test]
fn products_by_64_bit_integers_are_the_same() {
    let Some(adapter) = adapter() else { return };
    if !adapter.raw.features().contains(wgpu::Features::SHADER_INT64) {
        return forge_harness::gpu::say(&format!(
            "{adapter} has no 64-bit integers: there is nothing to compare"
        ));
    }
    let native = Options { product: Some(Product::Native), ..Options::default() };
    let gpu = GpuBackend::with(&adapter, native).unwrap();
    for part in [
        conformance::profiles,
        conformance::saturation,
        conformance::rare_draws,
        conformance::many_occurrences,
    ] {
        part(&gpu);
    }
    conformance::random_programs(&gpu, 100);
}
