//! A program on the device, as shader/execute.wgsl reads it.

use bytemuck::{Pod, Zeroable};
use forge_contract::program::{MAX_COMPONENTS, Program};
use wgpu::BufferUsages;

use crate::{device::Device, pace::Pace, slices::mean_draws};

/// Marks of a program, at most: a cap for each component and one for the program; one more for alignment.
const MARKS: usize = 18;

/// A component, in the shader's layout.
#[derive(Clone, Copy, Default, Pod, Zeroable)]
#[repr(C)]
struct Component {
    cap: [u32; 2],
    offset: u32,
    first: u32,
    thresholds: u32,
    top: u32,
    padding: [u32; 2],
}

/// What precedes the components, in the shader's layout.
#[derive(Clone, Copy, Default, Pod, Zeroable)]
#[repr(C)]
struct Head {
    base: [u32; 2],
    cap: [u32; 2],
    segment_bits: u32,
    marks: u32,
    padding: [u32; 2],
    mark: [[u32; 2]; MARKS],
}

/// A program's buffers.
#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) model: wgpu::Buffer,
    pub(crate) thresholds: wgpu::Buffer,
    pub(crate) segments: wgpu::Buffer,
    /// How much a dispatch of it is given.
    pub(crate) pace: Pace,
}

impl Model {
    /// Brings a program to the device.
    pub(crate) fn upload(device: &Device, program: &Program) -> Self {
        let mut components = [Component::default(); MAX_COMPONENTS];
        let mut thresholds: Vec<[u32; 2]> = Vec::new();
        let mut segments: Vec<[u32; 4]> = Vec::new();
        for (component, slot) in program.components.iter().zip(&mut components) {
            let number = component.counts.thresholds.len();
            *slot = Component {
                cap: words(component.cap),
                offset: component.counts.offset,
                first: thresholds.len() as u32,
                thresholds: number as u32,
                top: number.checked_ilog2().map_or(0, |log| 1 << log),
                padding: [0; 2],
            };
            thresholds.extend(component.counts.thresholds.iter().copied().map(words));
            let entry = |s: &forge_contract::program::Segment| {
                [s.left.cast_unsigned(), s.slope.cast_unsigned(), s.curve.cast_unsigned(), s.shift]
            };
            segments.extend(component.amounts.iter().map(entry));
        }
        // A binding is never empty.
        thresholds.push([u32::MAX; 2]);
        let marks = program.marks();
        let mut head = Head {
            base: words(program.base),
            cap: words(program.cap),
            segment_bits: program.segment_bits,
            marks: marks.len() as u32,
            ..Head::default()
        };
        for (slot, mark) in head.mark.iter_mut().zip(marks) {
            *slot = words(mark);
        }
        let model = [bytemuck::bytes_of(&head), bytemuck::cast_slice(&components)].concat();
        let upload = |bytes: &[u8]| {
            let buffer = device.buffer(bytes.len(), BufferUsages::STORAGE | BufferUsages::COPY_DST);
            device.queue.write_buffer(&buffer, 0, bytes);
            buffer
        };
        Self {
            model: upload(&model),
            thresholds: upload(bytemuck::cast_slice(&thresholds)),
            segments: upload(bytemuck::cast_slice(&segments)),
            pace: Pace::new(mean_draws(program)),
        }
    }
}

/// Low word first.
fn words(value: u64) -> [u32; 2] {
    [value as u32, (value >> 32) as u32]
}
