//! A device that is lost, does not respond or computes wrongly fails the call, and never yields a
//! wrong result.

use std::time::Duration;

use forge_kernel::{
    backend::scalar::Scalar,
    testing::{ProgramRecipe, agreement, conformance, sample_shard},
};

use super::*;
use crate::shader::ProductMethod;

/// The preferred adapter of this machine, if it has any.
fn preferred_adapter() -> Option<Adapter> {
    let adapter = list_adapters().into_iter().next();
    forge_harness::gpu::require_adapter(adapter.is_some());
    adapter
}

fn program() -> Program {
    ProgramRecipe::typical().program()
}

fn assert_agrees(backend: &GpuBackend) {
    agreement::assert_agrees(backend, &program(), &[sample_shard(0, 1, 3000)], "a device without faults");
}

#[test]
fn lost_device_fails_the_call_and_is_opened_again() {
    let Some(adapter) = preferred_adapter() else { return };
    let backend = GpuBackend::open(&adapter).unwrap();
    assert_agrees(&backend);
    let device = backend.open_device().unwrap();
    device.lose();
    let program = program();
    let plain = PlainProgram::new(&program).unwrap();
    let result = device.execute(&plain, &[sample_shard(0, 1, 3000)], &());
    assert!(matches!(result, Err(ExecutionError::Device(_))), "{result:?}");
    assert_agrees(&backend);
    assert!(!Arc::ptr_eq(&device, &backend.open_device().unwrap()));
}

#[test]
fn device_that_exceeds_the_response_timeout_is_unusable() {
    let Some(adapter) = preferred_adapter() else { return };
    let options = GpuOptions { response_timeout: Duration::ZERO, ..GpuOptions::default() };
    let opened = GpuBackend::open_with(&adapter, options);
    let Err(OpenError::Unusable { reason, .. }) = opened else { panic!("{opened:?}") };
    assert!(reason.contains("no response within 0ns"), "{reason}");
}

#[test]
fn device_with_wrong_results_is_refused() {
    let Some(adapter) = preferred_adapter() else { return };
    let options = |miscompile| GpuOptions { miscompile, ..GpuOptions::default() };
    let faults: [fn(String) -> String; 3] = [
        |source| source.replace("rotate_left(r.b ^ r.c, 7u)", "rotate_left(r.b ^ r.c, 9u)"),
        |source| source.replace("u32(low < a.x)", "0u"),
        |source| source.replace("if counts_largest {", "if true {"),
    ];
    for fault in faults {
        let error = GpuBackend::open_with(&adapter, options(fault)).expect_err("the adapter is refused");
        let OpenError::WrongResults { adapter: name, .. } = &error else { panic!("{error:?}") };
        assert_eq!(*name, adapter.to_string());
    }
    let invalid =
        GpuBackend::open_with(&adapter, options(|source| source.replace("fn execute", "fn execute(")));
    assert!(matches!(&invalid, Err(OpenError::Unusable { .. })), "{invalid:?}");
    assert_eq!(GpuBackend::open(&adapter).unwrap().adapter(), Some(adapter.to_string().as_str()));
    assert!(Scalar.adapter().is_none());
}

#[test]
fn native_products_agree_with_the_reference() {
    let Some(adapter) = preferred_adapter() else { return };
    if !adapter.wgpu_adapter.features().contains(wgpu::Features::SHADER_INT64) {
        return forge_harness::gpu::report_skip(&format!(
            "{adapter} does not support 64-bit integers: nothing to compare"
        ));
    }
    let options = GpuOptions { product_method: Some(ProductMethod::Native), ..GpuOptions::default() };
    let backend = GpuBackend::open_with(&adapter, options).unwrap();
    for part in [
        conformance::check_profiles,
        conformance::check_saturation,
        conformance::check_rare_draws,
        conformance::check_many_occurrences,
    ] {
        part(&backend);
    }
    conformance::check_random_programs(&backend, 100);
}
