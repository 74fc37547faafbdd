//! A program in the memory of the device, in the layout of shader/execute.wgsl.

use bytemuck::{Pod, Zeroable};
use forge_contract::{
    marks::MAX_PLAIN_MARKS,
    plain_program::{MAX_PLAIN_COMPONENTS, PlainProgram},
    program::Segment,
};
use wgpu::BufferUsages;

use crate::{device::GpuDevice, dispatch_pacer::DispatchPacer, work_slices::mean_draws};

/// `Component` of the shader.
#[derive(Clone, Copy, Default, Pod, Zeroable)]
#[repr(C)]
struct ComponentLayout {
    cap: [u32; 2],
    offset: u32,
    first_threshold: u32,
    threshold_count: u32,
    first_step: u32,
    padding: [u32; 2],
}

/// `Program` of the shader, up to its components.
#[derive(Clone, Copy, Default, Pod, Zeroable)]
#[repr(C)]
struct ProgramHeader {
    base: [u32; 2],
    cap: [u32; 2],
    segment_bits: u32,
    mark_count: u32,
    padding: [u32; 2],
    marks: [[u32; 2]; MAX_PLAIN_MARKS],
}

/// The buffers of a program, and the size of its next dispatch.
#[derive(Debug)]
pub(crate) struct GpuProgram {
    /// `Program` of the shader.
    pub(crate) layout: wgpu::Buffer,
    /// Thresholds of the count tables of all components.
    pub(crate) thresholds: wgpu::Buffer,
    /// Segments of the quantile tables of all components.
    pub(crate) segments: wgpu::Buffer,
    pub(crate) pacer: DispatchPacer,
}

impl GpuProgram {
    /// Copies a program to the device.
    pub(crate) fn upload(device: &GpuDevice, program: &PlainProgram<'_>) -> Self {
        let mut components = [ComponentLayout::default(); MAX_PLAIN_COMPONENTS];
        let mut thresholds: Vec<[u32; 2]> = Vec::new();
        let mut segments: Vec<[u32; 4]> = Vec::new();
        for (component, layout) in program.components.iter().zip(&mut components) {
            let threshold_count = component.counts.thresholds.len();
            *layout = ComponentLayout {
                cap: to_words(component.cap),
                offset: component.counts.offset,
                first_threshold: thresholds.len() as u32,
                threshold_count: threshold_count as u32,
                first_step: threshold_count.checked_ilog2().map_or(0, |log| 1 << log),
                padding: [0; 2],
            };
            thresholds.extend(component.counts.thresholds.iter().copied().map(to_words));
            let segment = |s: &Segment| {
                [s.left.cast_unsigned(), s.slope.cast_unsigned(), s.curve.cast_unsigned(), s.shift]
            };
            segments.extend(component.amounts.iter().map(segment));
        }
        // A buffer that is bound must not be empty.
        thresholds.push([u32::MAX; 2]);
        let marks = program.marks();
        let mut header = ProgramHeader {
            base: to_words(program.base),
            cap: to_words(program.cap),
            segment_bits: program.segment_bits,
            mark_count: marks.len() as u32,
            ..ProgramHeader::default()
        };
        for (words, mark) in header.marks.iter_mut().zip(marks) {
            *words = to_words(*mark);
        }
        let layout = [bytemuck::bytes_of(&header), bytemuck::cast_slice(&components)].concat();
        let upload = |bytes: &[u8]| {
            let buffer = device.create_buffer(bytes.len(), BufferUsages::STORAGE | BufferUsages::COPY_DST);
            device.queue.write_buffer(&buffer, 0, bytes);
            buffer
        };
        Self {
            layout: upload(&layout),
            thresholds: upload(bytemuck::cast_slice(&thresholds)),
            segments: upload(bytemuck::cast_slice(&segments)),
            pacer: DispatchPacer::new(mean_draws(program)),
        }
    }
}

/// Splits an integer into two words, the low one first.
fn to_words(value: u64) -> [u32; 2] {
    [value as u32, (value >> 32) as u32]
}
