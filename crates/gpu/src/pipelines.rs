//! Compiling the two shaders for programs of one number of components.

use crate::shader::{self, Product};

/// What a shader does with a buffer.
#[derive(Clone, Copy)]
enum Binding {
    Reads,
    Writes,
}

use Binding::{Reads, Writes};

/// The buffers of shader/execute.wgsl: model, thresholds, segments, seeds, slices, histograms, parts.
const EXECUTE: [Binding; 7] = [Reads, Reads, Reads, Reads, Reads, Writes, Writes];
/// The buffers of shader/collect.wgsl: ranges, parts, records.
const COLLECT: [Binding; 3] = [Reads, Reads, Writes];

/// The two shaders, compiled.
pub(crate) struct Pipelines {
    pub(crate) execute: wgpu::ComputePipeline,
    pub(crate) collect: wgpu::ComputePipeline,
}

impl Pipelines {
    /// Compiles them, from source that `edit` may change. What goes wrong is reported to the device's handler of errors.
    pub(crate) fn compile(
        device: &wgpu::Device,
        components: usize,
        product: Product,
        edit: impl Fn(String) -> String,
    ) -> Self {
        let compile = |entry_point, source, bindings: &[Binding]| {
            let layout = layout(device, bindings);
            let source = wgpu::ShaderSource::Wgsl(edit(source).into());
            let descriptor = wgpu::ShaderModuleDescriptor { label: Some(entry_point), source };
            let checks = wgpu::ShaderRuntimeChecks {
                force_loop_bounding: false,
                ..wgpu::ShaderRuntimeChecks::checked()
            };
            // SAFETY: every loop of the shaders counts towards a bound that it does not change, so all of them end; that is
            // all that the check left out is about. It costs a third of the time where an iteration has many draws.
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
        Self {
            execute: compile("execute", shader::execute(components, product), &EXECUTE),
            collect: compile("collect", shader::collect(components), &COLLECT),
        }
    }
}

fn layout(device: &wgpu::Device, bindings: &[Binding]) -> wgpu::PipelineLayout {
    let entry = |(binding, does): (u32, &Binding)| wgpu::BindGroupLayoutEntry {
        binding,
        visibility: wgpu::ShaderStages::COMPUTE,
        ty: wgpu::BindingType::Buffer {
            ty: wgpu::BufferBindingType::Storage { read_only: matches!(does, Reads) },
            has_dynamic_offset: false,
            min_binding_size: None,
        },
        count: None,
    };
    let entries: Vec<_> = (0..).zip(bindings).map(entry).collect();
    let group =
        device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label: None, entries: &entries });
    device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
        label: None,
        bind_group_layouts: &[Some(&group)],
        immediate_size: 0,
    })
}
