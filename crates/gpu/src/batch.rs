//! Executing shards on a device: several at once, dispatch by dispatch, until the device holds their records and histograms.

use std::{iter::Peekable, time::Instant};

use forge_contract::{
    program::{MAX_COMPONENTS, Program},
    shard::Shard,
    shard_result::{BUCKETS, ShardResult},
};
use forge_kernel::execute::{Control, ExecuteError};
use wgpu::BufferUsages;

use crate::{
    device::{Device, Mapping},
    model::Model,
    pipelines::Pipelines,
    record,
    slices::{Slice, Slices, slice_iterations},
};

/// Shards that are executed at once, at most: their histograms are 23 MB.
pub(crate) const MAX_SHARDS: usize = 64;
/// Slices of one dispatch, at most: their records are 4 MB.
const MAX_SLICES: usize = 8192;
/// Words of a shard's histograms.
const HISTOGRAMS: usize = 2 * BUCKETS;
const WORD: usize = size_of::<u32>();

/// The buffers of one call.
#[derive(Debug)]
pub(crate) struct Lane {
    shards: usize,
    seeds: wgpu::Buffer,
    slices: wgpu::Buffer,
    parts: wgpu::Buffer,
    ranges: wgpu::Buffer,
    records: wgpu::Buffer,
    histograms: wgpu::Buffer,
    /// What the host reads: all histograms, then all records.
    staging: wgpu::Buffer,
}

impl Lane {
    /// Buffers for so many shards.
    pub(crate) fn new(device: &Device, shards: usize) -> Self {
        let shards = shards.next_power_of_two().min(MAX_SHARDS);
        let record = record::words(MAX_COMPONENTS) * WORD;
        let histograms = shards * HISTOGRAMS * WORD;
        let written = BufferUsages::STORAGE | BufferUsages::COPY_DST;
        let read = written | BufferUsages::COPY_SRC;
        Self {
            shards,
            seeds: device.buffer(MAX_SLICES * 32, written),
            slices: device.buffer(MAX_SLICES * 16, written),
            parts: device.buffer(MAX_SLICES * record, BufferUsages::STORAGE),
            ranges: device.buffer(shards * 8, written),
            records: device.buffer(shards * record, read),
            histograms: device.buffer(histograms, read),
            staging: device
                .buffer(histograms + shards * record, BufferUsages::MAP_READ | BufferUsages::COPY_DST),
        }
    }

    /// Shards that it is for, at most.
    pub(crate) fn shards(&self) -> usize {
        self.shards
    }
}

/// Executes shards, and returns their results in order.
///
/// # Errors
/// [`ExecuteError`].
pub(crate) fn execute(
    device: &Device,
    pipelines: &Pipelines,
    program: &Program,
    shards: &[Shard],
    control: &dyn Control,
) -> Result<Vec<ShardResult>, ExecuteError> {
    let model = device.model(program);
    let mut results = Vec::with_capacity(shards.len());
    for shards in shards.chunks(MAX_SHARDS) {
        let lane = device.lane(shards.len());
        let batch = Batch { device, pipelines, model: &model, program, lane: &lane };
        results.extend(batch.execute(shards, control)?);
        // One whose device has failed is not given back: it goes with the device.
        device.give_back(lane);
    }
    Ok(results)
}

/// Some shards that are executed at once.
struct Batch<'a> {
    device: &'a Device,
    pipelines: &'a Pipelines,
    model: &'a Model,
    program: &'a Program,
    lane: &'a Lane,
}

/// What a dispatch is given.
#[derive(Default)]
struct Dispatch {
    /// Two vectors a leaf.
    seeds: Vec<[u8; 32]>,
    /// Leaf, first iteration, number of iterations, shard.
    slices: Vec<[u32; 4]>,
    /// For each shard its first slice and their number.
    ranges: Vec<[u32; 2]>,
    iterations: u64,
}

impl Batch<'_> {
    fn execute(&self, shards: &[Shard], control: &dyn Control) -> Result<Vec<ShardResult>, ExecuteError> {
        let iterations = shards.iter().map(|shard| shard.iterations).sum();
        let mut slices = Slices::new(shards, slice_iterations(self.program, iterations)).peekable();
        let mut encoder = self.device.encoder();
        encoder.clear_buffer(&self.lane.histograms, 0, None);
        encoder.clear_buffer(&self.lane.records, 0, None);
        loop {
            let dispatch = Dispatch::take(&mut slices, shards.len(), self.model.pace.iterations());
            self.encode(&mut encoder, &dispatch);
            let is_last = slices.peek().is_none();
            if is_last {
                self.encode_copy(&mut encoder, shards.len());
            }
            let start = Instant::now();
            let submission = self.device.submit(encoder);
            let mapping = is_last.then(|| self.device.map(self.staging(shards.len())));
            self.device.wait(submission)?;
            self.model.pace.took(dispatch.iterations, start.elapsed());
            let read = mapping.map(|mapping| self.read(shards, &mapping)).transpose()?;
            if control.advance(dispatch.iterations).is_break() {
                return Err(ExecuteError::Cancelled);
            }
            if let Some(results) = read {
                return Ok(results);
            }
            encoder = self.device.encoder();
        }
    }

    /// Commands that execute a dispatch and add up its records.
    fn encode(&self, encoder: &mut wgpu::CommandEncoder, dispatch: &Dispatch) {
        let (lane, model) = (self.lane, self.model);
        if dispatch.slices.is_empty() {
            return;
        }
        let write = |buffer: &wgpu::Buffer, bytes: &[u8]| self.device.queue.write_buffer(buffer, 0, bytes);
        write(&lane.seeds, bytemuck::cast_slice(&dispatch.seeds));
        write(&lane.slices, bytemuck::cast_slice(&dispatch.slices));
        write(&lane.ranges, bytemuck::cast_slice(&dispatch.ranges));
        let Pipelines { execute, collect } = self.pipelines;
        let executing = [
            &model.model,
            &model.thresholds,
            &model.segments,
            &lane.seeds,
            &lane.slices,
            &lane.histograms,
            &lane.parts,
        ];
        let executing = self.device.bind(execute, &executing);
        let collecting = self.device.bind(collect, &[&lane.ranges, &lane.parts, &lane.records]);
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        pass.set_pipeline(execute);
        pass.set_bind_group(0, &executing, &[]);
        pass.dispatch_workgroups(dispatch.slices.len() as u32, 1, 1);
        pass.set_pipeline(collect);
        pass.set_bind_group(0, &collecting, &[]);
        pass.dispatch_workgroups(dispatch.ranges.len() as u32, 1, 1);
    }

    /// Commands that bring everything to where the host can read it.
    fn encode_copy(&self, encoder: &mut wgpu::CommandEncoder, shards: usize) {
        let Lane { histograms, records, staging, .. } = self.lane;
        let (counts, totals) = self.sizes(shards);
        encoder.copy_buffer_to_buffer(histograms, 0, staging, 0, Some(counts as u64));
        encoder.copy_buffer_to_buffer(records, 0, staging, counts as u64, Some(totals as u64));
    }

    /// Bytes of so many shards' histograms, and of their records.
    fn sizes(&self, shards: usize) -> (usize, usize) {
        (shards * HISTOGRAMS * WORD, shards * record::words(self.program.components.len()) * WORD)
    }

    /// The part of the staging buffer that is used.
    fn staging(&self, shards: usize) -> wgpu::BufferSlice<'_> {
        let (counts, totals) = self.sizes(shards);
        self.lane.staging.slice(..(counts + totals) as u64)
    }

    /// The results, once they have been copied.
    fn read(&self, shards: &[Shard], mapping: &Mapping<'_>) -> Result<Vec<ShardResult>, ExecuteError> {
        let mapped = self.device.read(mapping)?;
        let words: &[u32] = bytemuck::cast_slice(&mapped);
        let (counts, records) = words.split_at(shards.len() * HISTOGRAMS);
        let records = records.chunks(record::words(self.program.components.len()));
        let shards = shards.iter().zip(counts.chunks(HISTOGRAMS)).zip(records);
        let results = shards
            .map(|((shard, histograms), record)| {
                record::result(self.program, shard.iterations, record, histograms)
            })
            .collect();
        drop(mapped);
        self.lane.staging.unmap();
        Ok(results)
    }
}

impl Dispatch {
    /// Takes slices of about so many iterations.
    fn take(slices: &mut Peekable<Slices<'_>>, shards: usize, iterations: u64) -> Self {
        let mut dispatch = Self { ranges: vec![[0; 2]; shards], ..Self::default() };
        while dispatch.slices.len() < MAX_SLICES && dispatch.iterations < iterations {
            let Some(Slice { shard, seed, first, iterations }) = slices.next() else { break };
            if dispatch.seeds.last() != Some(&seed.0) {
                dispatch.seeds.push(seed.0);
            }
            let range = &mut dispatch.ranges[shard as usize];
            if range[1] == 0 {
                range[0] = dispatch.slices.len() as u32;
            }
            range[1] += 1;
            dispatch.slices.push([dispatch.seeds.len() as u32 - 1, first, iterations, shard]);
            dispatch.iterations += u64::from(iterations);
        }
        dispatch
    }
}
