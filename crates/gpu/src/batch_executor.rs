//! Executes shards on a device: up to [`MAX_BATCH_SHARDS`] together, as a sequence of short
//! dispatches. Does not check the results: `verified_device` decides whether a device may be used.

use std::{iter::Peekable, time::Instant};

use forge_contract::{plain_program::PlainProgram, shard::Shard, shard_result::ShardResult};
use forge_kernel::backend::{ExecutionControl, ExecutionError};

use crate::{
    accumulator::{accumulator_words, decode_shard_result},
    batch_buffers::{BatchBuffers, HISTOGRAM_WORDS, MAX_BATCH_SHARDS, MAX_DISPATCH_SLICES, WORD_BYTES},
    buffer_cache::BufferCache,
    device::{GpuDevice, PendingReadback},
    gpu_program::GpuProgram,
    pipelines::Pipelines,
    work_slices::{WorkSlice, WorkSlices, slice_iterations},
};

/// Executes shards on a device.
#[derive(Debug)]
pub(crate) struct BatchExecutor {
    pub(crate) device: GpuDevice,
    buffer_cache: BufferCache,
}

impl BatchExecutor {
    /// Executes on `device`, with empty caches.
    pub(crate) fn new(device: GpuDevice) -> Self {
        Self { device, buffer_cache: BufferCache::default() }
    }

    /// Executes shards and returns their results in the same order. `pipelines` must be compiled
    /// for the number of components of `program`.
    ///
    /// # Errors
    /// [`ExecutionError::Device`] if the device fails, [`ExecutionError::Cancelled`] if `control`
    /// cancels.
    pub(crate) fn execute(
        &self,
        pipelines: &Pipelines,
        program: &PlainProgram<'_>,
        shards: &[Shard],
        control: &dyn ExecutionControl,
    ) -> Result<Vec<ShardResult>, ExecutionError> {
        let device = &self.device;
        let gpu_program = self.buffer_cache.program(device, program);
        let mut results = Vec::with_capacity(shards.len());
        for shards in shards.chunks(MAX_BATCH_SHARDS) {
            let buffers = self.buffer_cache.take_buffers(device, shards.len());
            let batch = ShardBatch {
                device,
                pipelines,
                program,
                gpu_program: &gpu_program,
                buffers: &buffers,
                shards,
            };
            results.extend(batch.execute(control)?);
            // On an error the buffers are dropped instead: a device that has failed is not used
            // again.
            self.buffer_cache.return_buffers(buffers);
        }
        Ok(results)
    }
}

/// Shards that are executed together.
struct ShardBatch<'a> {
    device: &'a GpuDevice,
    pipelines: &'a Pipelines,
    program: &'a PlainProgram<'a>,
    gpu_program: &'a GpuProgram,
    buffers: &'a BatchBuffers,
    shards: &'a [Shard],
}

/// The input of one dispatch.
#[derive(Default)]
struct ComputeDispatch {
    /// Seeds of leaves.
    seeds: Vec<[u8; 32]>,
    /// Index of the leaf's seed, first iteration, number of iterations, index of the shard.
    slices: Vec<[u32; 4]>,
    /// By shard: its first slice, and the number of its slices.
    slice_ranges: Vec<[u32; 2]>,
    /// Iterations of all slices.
    iterations: u64,
}

impl ShardBatch<'_> {
    fn execute(&self, control: &dyn ExecutionControl) -> Result<Vec<ShardResult>, ExecutionError> {
        let iterations = self.shards.iter().map(|shard| shard.iterations).sum();
        let mut slices = WorkSlices::new(self.shards, slice_iterations(self.program, iterations)).peekable();
        let mut encoder = self.device.create_encoder();
        encoder.clear_buffer(&self.buffers.histograms, 0, None);
        encoder.clear_buffer(&self.buffers.shard_accumulators, 0, None);
        loop {
            let target_iterations = self.gpu_program.pacer.next_iterations();
            let dispatch = ComputeDispatch::fill(&mut slices, self.shards.len(), target_iterations);
            self.encode_dispatch(&mut encoder, &dispatch);
            let is_last = slices.peek().is_none();
            if is_last {
                self.encode_copy_to_staging(&mut encoder);
            }
            let start = Instant::now();
            let submission = self.device.submit(encoder);
            let readback = is_last.then(|| self.device.request_readback(self.staging_slice()));
            self.device.wait(submission)?;
            self.gpu_program.pacer.record_dispatch(dispatch.iterations, start.elapsed());
            let results = readback.map(|readback| self.read_results(&readback)).transpose()?;
            if control.advance(dispatch.iterations).is_break() {
                return Err(ExecutionError::Cancelled);
            }
            if let Some(results) = results {
                return Ok(results);
            }
            encoder = self.device.create_encoder();
        }
    }

    /// Encodes the execution of all slices, and the merge of their accumulators into those of the
    /// shards.
    fn encode_dispatch(&self, encoder: &mut wgpu::CommandEncoder, dispatch: &ComputeDispatch) {
        let (buffers, gpu_program) = (self.buffers, self.gpu_program);
        if dispatch.slices.is_empty() {
            return;
        }
        let write = |buffer: &wgpu::Buffer, bytes: &[u8]| self.device.queue.write_buffer(buffer, 0, bytes);
        write(&buffers.seeds, bytemuck::cast_slice(&dispatch.seeds));
        write(&buffers.slices, bytemuck::cast_slice(&dispatch.slices));
        write(&buffers.slice_ranges, bytemuck::cast_slice(&dispatch.slice_ranges));
        let Pipelines { execute, merge } = self.pipelines;
        let execute_buffers = [
            &gpu_program.layout,
            &gpu_program.thresholds,
            &gpu_program.segments,
            &buffers.seeds,
            &buffers.slices,
            &buffers.histograms,
            &buffers.slice_accumulators,
        ];
        let merge_buffers = [&buffers.slice_ranges, &buffers.slice_accumulators, &buffers.shard_accumulators];
        let execute_group = self.device.bind_buffers(execute, &execute_buffers);
        let merge_group = self.device.bind_buffers(merge, &merge_buffers);
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        pass.set_pipeline(execute);
        pass.set_bind_group(0, &execute_group, &[]);
        pass.dispatch_workgroups(dispatch.slices.len() as u32, 1, 1);
        pass.set_pipeline(merge);
        pass.set_bind_group(0, &merge_group, &[]);
        pass.dispatch_workgroups(dispatch.slice_ranges.len() as u32, 1, 1);
    }

    /// Encodes the copy of histograms and accumulators to the staging buffer.
    fn encode_copy_to_staging(&self, encoder: &mut wgpu::CommandEncoder) {
        let BatchBuffers { histograms, shard_accumulators, staging, .. } = self.buffers;
        let (histogram_bytes, accumulator_bytes) = (self.histogram_bytes(), self.accumulator_bytes());
        encoder.copy_buffer_to_buffer(histograms, 0, staging, 0, Some(histogram_bytes));
        encoder.copy_buffer_to_buffer(
            shard_accumulators,
            0,
            staging,
            histogram_bytes,
            Some(accumulator_bytes),
        );
    }

    /// Bytes of the histograms of all shards.
    fn histogram_bytes(&self) -> u64 {
        (self.shards.len() * HISTOGRAM_WORDS * WORD_BYTES) as u64
    }

    /// Bytes of the accumulators of all shards.
    fn accumulator_bytes(&self) -> u64 {
        (self.shards.len() * accumulator_words(self.program.components.len()) * WORD_BYTES) as u64
    }

    /// The part of the staging buffer that this batch fills.
    fn staging_slice(&self) -> wgpu::BufferSlice<'_> {
        self.buffers.staging.slice(..self.histogram_bytes() + self.accumulator_bytes())
    }

    /// Decodes the contents of the staging buffer, and unmaps it.
    fn read_results(&self, readback: &PendingReadback<'_>) -> Result<Vec<ShardResult>, ExecutionError> {
        let view = self.device.read(readback)?;
        let words: &[u32] = bytemuck::cast_slice(&view);
        let (histograms, accumulators) = words.split_at(self.shards.len() * HISTOGRAM_WORDS);
        let histograms = histograms.chunks(HISTOGRAM_WORDS);
        let accumulators = accumulators.chunks(accumulator_words(self.program.components.len()));
        let decode = |((shard, histograms), accumulator): ((&Shard, &[u32]), &[u32])| {
            decode_shard_result(self.program, shard.iterations, accumulator, histograms)
        };
        let results = self.shards.iter().zip(histograms).zip(accumulators).map(decode).collect();
        drop(view);
        self.buffers.staging.unmap();
        Ok(results)
    }
}

impl ComputeDispatch {
    /// Takes slices until they hold at least `target_iterations` iterations, or there are
    /// [`MAX_DISPATCH_SLICES`] of them.
    fn fill(slices: &mut Peekable<WorkSlices<'_>>, shards: usize, target_iterations: u64) -> Self {
        let mut dispatch = Self { slice_ranges: vec![[0; 2]; shards], ..Self::default() };
        while dispatch.slices.len() < MAX_DISPATCH_SLICES && dispatch.iterations < target_iterations {
            let Some(WorkSlice { shard_index, seed, first, iterations }) = slices.next() else { break };
            if dispatch.seeds.last() != Some(&seed.0) {
                dispatch.seeds.push(seed.0);
            }
            let [first_slice, slice_count] = &mut dispatch.slice_ranges[shard_index as usize];
            if *slice_count == 0 {
                *first_slice = dispatch.slices.len() as u32;
            }
            *slice_count += 1;
            let seed_index = dispatch.seeds.len() as u32 - 1;
            dispatch.slices.push([seed_index, first, iterations, shard_index]);
            dispatch.iterations += u64::from(iterations);
        }
        dispatch
    }
}
