//! Compiles the two shaders for one number of components.

use crate::{
    device::GpuDevice,
    shader::{self, ProductMethod},
};

/// How a shader accesses a buffer.
#[derive(Clone, Copy)]
enum BufferAccess {
    Read,
    ReadWrite,
}

use BufferAccess::{Read, ReadWrite};

/// The buffers of shader/execute.wgsl: program, thresholds, segments, seeds, slices, histograms,
/// slice accumulators.
const EXECUTE_BUFFERS: [BufferAccess; 7] = [Read, Read, Read, Read, Read, ReadWrite, ReadWrite];
/// The buffers of shader/merge.wgsl: slice ranges, slice accumulators, shard accumulators.
const MERGE_BUFFERS: [BufferAccess; 3] = [Read, Read, ReadWrite];

/// Both shaders, compiled.
#[derive(Debug)]
pub(crate) struct Pipelines {
    /// Executes slices.
    pub(crate) execute: wgpu::ComputePipeline,
    /// Merges the accumulators of slices into those of their shards.
    pub(crate) merge: wgpu::ComputePipeline,
}

impl Pipelines {
    /// Compiles both shaders from their sources as changed by `edit_source`. Compile errors become
    /// a fault of the device.
    pub(crate) fn compile(
        device: &GpuDevice,
        components: usize,
        product_method: ProductMethod,
        edit_source: impl Fn(String) -> String,
    ) -> Self {
        let device = &device.wgpu_device;
        let compile = |entry_point, source, buffers: &[BufferAccess]| {
            let layout = create_layout(device, buffers);
            let source = wgpu::ShaderSource::Wgsl(edit_source(source).into());
            let descriptor = wgpu::ShaderModuleDescriptor { label: Some(entry_point), source };
            let checks = wgpu::ShaderRuntimeChecks {
                force_loop_bounding: false,
                ..wgpu::ShaderRuntimeChecks::checked()
            };
            // SAFETY: the only check that is disabled makes every loop finite. Each loop of the
            // shaders counts towards a bound that it does not change, so all of them end. The check
            // would take a third of the time of iterations with many draws.
            let module = unsafe { device.create_shader_module_trusted(descriptor, checks) };
            device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label: Some(entry_point),
                layout: Some(&layout),
                module: &module,
                entry_point: Some(entry_point),
                compilation_options: wgpu::PipelineCompilationOptions::default(),
                cache: None,
            })
        };
        let execute_source = shader::execute_source(components, product_method);
        Self {
            execute: compile("execute", execute_source, &EXECUTE_BUFFERS),
            merge: compile("merge", shader::merge_source(components), &MERGE_BUFFERS),
        }
    }
}

fn create_layout(device: &wgpu::Device, buffers: &[BufferAccess]) -> wgpu::PipelineLayout {
    let entry = |(binding, access): (u32, &BufferAccess)| wgpu::BindGroupLayoutEntry {
        binding,
        visibility: wgpu::ShaderStages::COMPUTE,
        ty: wgpu::BindingType::Buffer {
            ty: wgpu::BufferBindingType::Storage { read_only: matches!(access, Read) },
            has_dynamic_offset: false,
            min_binding_size: None,
        },
        count: None,
    };
    let entries: Vec<_> = (0..).zip(buffers).map(entry).collect();
    let group =
        device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label: None, entries: &entries });
    device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
        label: None,
        bind_group_layouts: &[Some(&group)],
        immediate_size: 0,
    })
}
