// Adds the records of slices to those of their shards: a workgroup for each shard.

// For each shard, where its slices' records begin and how many there are.
@group(0) @binding(0) var<storage, read> ranges: array<vec2<u32>>;
@group(0) @binding(1) var<storage, read> parts: array<u32>;
@group(0) @binding(2) var<storage, read_write> records: array<u32>;

@compute @workgroup_size(WIDTH)
fn collect(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let range = ranges[group.x];
    let own = group.x * RECORD;
    var extremes: array<U64, 4>;
    // The record so far counts as one more part.
    for (var i = lane; i <= range.y; i += WIDTH) {
        let from_parts = i < range.y;
        let at = select(0u, (range.x + i) * RECORD, from_parts);
        for (var word = 0u; word < RECORD; word++) {
            var value: u32;
            if from_parts { value = parts[at + word]; } else { value = records[own + word]; }
            if word < EXTREMES || word >= IDLE {
                add_to_record(word, value);
            } else if (word & 1u) == 1u {
                var low: u32;
                if from_parts { low = parts[at + word - 1u]; } else { low = records[own + word - 1u]; }
                let which = (word - EXTREMES) >> 1u;
                extremes[which] = larger(extremes[which], U64(low, value));
            }
        }
    }
    settle_extremes(extremes);
    for (var word = lane; word < RECORD; word += WIDTH) {
        records[own + word] = atomicLoad(&record[word]);
    }
}
