// Merges the accumulators of slices into those of their shards, with one workgroup per shard.

// By shard: its first slice, and the number of its slices.
@group(0) @binding(0) var<storage, read> slice_ranges: array<vec2<u32>>;
@group(0) @binding(1) var<storage, read> slice_accumulators: array<u32>;
@group(0) @binding(2) var<storage, read_write> shard_accumulators: array<u32>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn merge(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let range = slice_ranges[group.x];
    let shard_base = group.x * ACCUMULATOR_WORDS;
    var extremes: array<U64, 4>;
    // The result of earlier dispatches is merged like one more slice.
    for (var i = lane; i <= range.y; i += WORKGROUP_SIZE) {
        let is_slice = i < range.y;
        let slice_base = select(0u, (range.x + i) * ACCUMULATOR_WORDS, is_slice);
        for (var word = 0u; word < ACCUMULATOR_WORDS; word++) {
            var value: u32;
            if is_slice {
                value = slice_accumulators[slice_base + word];
            } else {
                value = shard_accumulators[shard_base + word];
            }
            if word < EXTREMES || word >= EMPTY {
                add_to_accumulator(word, value);
            } else if (word & 1u) == 1u {
                var low: u32;
                if is_slice {
                    low = slice_accumulators[slice_base + word - 1u];
                } else {
                    low = shard_accumulators[shard_base + word - 1u];
                }
                let index = (word - EXTREMES) >> 1u;
                extremes[index] = max_u64(extremes[index], U64(low, value));
            }
        }
    }
    merge_extremes(extremes);
    for (var word = lane; word < ACCUMULATOR_WORDS; word += WORKGROUP_SIZE) {
        shard_accumulators[shard_base + word] = atomicLoad(&accumulator[word]);
    }
}
