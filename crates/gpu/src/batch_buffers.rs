//! The buffers of one batch of shards.

use forge_contract::{plain_program::MAX_PLAIN_COMPONENTS, shard_result::HISTOGRAM_BUCKETS};
use wgpu::BufferUsages;

use crate::{accumulator::accumulator_words, device::GpuDevice};

/// Largest number of shards executed together. Their histograms take 23 MB.
pub(crate) const MAX_BATCH_SHARDS: usize = 64;
/// Largest number of slices in one dispatch. Their accumulators take 4 MB.
pub(crate) const MAX_DISPATCH_SLICES: usize = 8192;
/// Words of the two histograms of a shard.
pub(crate) const HISTOGRAM_WORDS: usize = 2 * HISTOGRAM_BUCKETS;
/// Bytes of a word.
pub(crate) const WORD_BYTES: usize = size_of::<u32>();

const SEED_BYTES: usize = 32;
const SLICE_BYTES: usize = 16;
const RANGE_BYTES: usize = 8;

/// The buffers that a batch reads and writes; those of its program are in `GpuProgram`.
#[derive(Debug)]
pub(crate) struct BatchBuffers {
    max_shards: usize,
    pub(crate) seeds: wgpu::Buffer,
    pub(crate) slices: wgpu::Buffer,
    pub(crate) slice_accumulators: wgpu::Buffer,
    /// The slices of each shard in the current dispatch.
    pub(crate) slice_ranges: wgpu::Buffer,
    pub(crate) shard_accumulators: wgpu::Buffer,
    pub(crate) histograms: wgpu::Buffer,
    /// Mapped by the host: the histograms of all shards, then their accumulators.
    pub(crate) staging: wgpu::Buffer,
}

impl BatchBuffers {
    /// Allocates buffers for at least `shards` shards, at most [`MAX_BATCH_SHARDS`].
    pub(crate) fn allocate(device: &GpuDevice, shards: usize) -> Self {
        let max_shards = shards.next_power_of_two().min(MAX_BATCH_SHARDS);
        let accumulator = accumulator_words(MAX_PLAIN_COMPONENTS) * WORD_BYTES;
        let histograms = max_shards * HISTOGRAM_WORDS * WORD_BYTES;
        let input = BufferUsages::STORAGE | BufferUsages::COPY_DST;
        let output = input | BufferUsages::COPY_SRC;
        let staging = BufferUsages::MAP_READ | BufferUsages::COPY_DST;
        Self {
            max_shards,
            seeds: device.create_buffer(MAX_DISPATCH_SLICES * SEED_BYTES, input),
            slices: device.create_buffer(MAX_DISPATCH_SLICES * SLICE_BYTES, input),
            slice_accumulators: device
                .create_buffer(MAX_DISPATCH_SLICES * accumulator, BufferUsages::STORAGE),
            slice_ranges: device.create_buffer(max_shards * RANGE_BYTES, input),
            shard_accumulators: device.create_buffer(max_shards * accumulator, output),
            histograms: device.create_buffer(histograms, output),
            staging: device.create_buffer(histograms + max_shards * accumulator, staging),
        }
    }

    /// Largest number of shards that fit.
    pub(crate) fn max_shards(&self) -> usize {
        self.max_shards
    }
}
