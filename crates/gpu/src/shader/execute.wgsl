// Executes iterations (docs/determinism.md, section 7): one slice of a leaf per workgroup. Each
// invocation executes its iterations one after the other.
//
// Drivers may end an invocation whose loops run for too long; one is known to end it after 65,535
// rounds of all its loops together. work_slices.rs cuts slices short enough to stay below that
// limit.

const MAX_AMOUNT = U64(0xffffffffu, 0x1fffffu); // 2^53 - 1
const BUCKETS = 45056u;

struct Component {
    cap: U64,
    offset: u32,
    first_threshold: u32,
    threshold_count: u32,
    // Of the binary search: the largest power of two up to threshold_count; 0 without thresholds.
    first_step: u32,
    padding: vec2<u32>,
}

struct Program {
    base: U64,
    cap: U64,
    segment_bits: u32,
    mark_count: u32,
    padding: vec2<u32>,
    marks: array<U64, MAX_MARKS>,
    components: array<Component, 16>,
}

@group(0) @binding(0) var<storage, read> program: Program;
@group(0) @binding(1) var<storage, read> thresholds: array<U64>;
// Segments of the quantile tables, one table after the other: left, slope, curve, shift.
@group(0) @binding(2) var<storage, read> segments: array<vec4<u32>>;
// The seed of each leaf: two vectors.
@group(0) @binding(3) var<storage, read> seeds: array<vec4<u32>>;
// Index of the leaf's seed, first iteration within the leaf, number of iterations, index of the
// shard.
@group(0) @binding(4) var<storage, read> slices: array<vec4<u32>>;
// Two histograms per shard: of the total, and of the largest occurrence. Iterations without an
// occurrence, and amounts that equal a mark, are counted in the accumulator instead.
@group(0) @binding(5) var<storage, read_write> histograms: array<atomic<u32>>;
@group(0) @binding(6) var<storage, read_write> slice_accumulators: array<u32>;

// State of the current iteration.
var<private> key_low: vec4<u32>;
var<private> key_high: vec4<u32>;
var<private> block: Rows;
var<private> occurrences: u32;
// By component: the occurrences of it and of all components before it.
var<private> occurrence_ends: array<u32, 16>;
var<private> total: U64;
var<private> largest: U64;

// Totals over the iterations of the invocation. These widths suffice for the 256 iterations that
// work_slices.rs allows.
var<private> empty_iterations: u32;
var<private> tallies: array<u32, COMPONENTS>;
var<private> sum: U64;
var<private> sum_squares: vec4<u32>;
var<private> extremes: array<U64, 4>;

// The number of occurrences that a draw stands for: the offset, plus the number of thresholds not
// above the draw.
fn draw_to_count(component: u32, draw: U64) -> u32 {
    let first = program.components[component].first_threshold;
    let threshold_count = program.components[component].threshold_count;
    var count = 0u;
    for (var step = program.components[component].first_step; step != 0u; step >>= 1u) {
        let next = count + step;
        if next <= threshold_count && !is_less(draw, thresholds[first + next - 1u]) {
            count = next;
        }
    }
    return program.components[component].offset + count;
}

fn draw_count(component: u32, draw: U64) {
    let n = draw_to_count(component, draw);
    occurrences += n;
    occurrence_ends[component] = occurrences;
    tallies[component] += n;
}

// The component of an occurrence. Unrolled by hand, so that `occurrence_ends` can stay in
// registers.
fn component_of(occurrence: u32) -> u32 {
    var component = 0u;
    if COMPONENTS > 1u { component += u32(occurrence >= occurrence_ends[0]); }
    if COMPONENTS > 2u { component += u32(occurrence >= occurrence_ends[1]); }
    if COMPONENTS > 3u { component += u32(occurrence >= occurrence_ends[2]); }
    if COMPONENTS > 4u { component += u32(occurrence >= occurrence_ends[3]); }
    if COMPONENTS > 5u { component += u32(occurrence >= occurrence_ends[4]); }
    if COMPONENTS > 6u { component += u32(occurrence >= occurrence_ends[5]); }
    if COMPONENTS > 7u { component += u32(occurrence >= occurrence_ends[6]); }
    if COMPONENTS > 8u { component += u32(occurrence >= occurrence_ends[7]); }
    if COMPONENTS > 9u { component += u32(occurrence >= occurrence_ends[8]); }
    if COMPONENTS > 10u { component += u32(occurrence >= occurrence_ends[9]); }
    if COMPONENTS > 11u { component += u32(occurrence >= occurrence_ends[10]); }
    if COMPONENTS > 12u { component += u32(occurrence >= occurrence_ends[11]); }
    if COMPONENTS > 13u { component += u32(occurrence >= occurrence_ends[12]); }
    if COMPONENTS > 14u { component += u32(occurrence >= occurrence_ends[13]); }
    if COMPONENTS > 15u { component += u32(occurrence >= occurrence_ends[14]); }
    return component;
}

// The amount that a draw stands for, before the cap of its component.
fn draw_to_amount(component: u32, draw: U64) -> U64 {
    let bits = program.segment_bits;
    let upper = draw.y >> 31u;
    let flip = 0u - upper;
    let distance = draw ^ U64(flip);
    // w = 2 * distance + 1, and the rank of its leading bit.
    let w = U64((distance.x << 1u) | 1u, (distance.y << 1u) | (distance.x >> 31u));
    let is_far = w.y == 0u;
    let zeros = countLeadingZeros(select(w.y, w.x, is_far));
    let rank = select(63u, 31u, is_far) - zeros;
    // w shifted so that its leading bit is bit 63.
    let near = U64(w.x << zeros, (w.y << zeros) | ((w.x >> 1u) >> (31u - zeros)));
    let n = select(near, U64(0u, w.x << zeros), is_far);
    let segment = (n.y << 1u) >> (32u - bits);
    let fraction = ((n.y << (1u + bits)) | (n.x >> (31u - bits))) >> 1u;
    let y = fraction ^ (flip & 0x7fffffffu);
    let half = 64u << bits;
    let entry = segments[2u * half * component + upper * half + (rank << bits) + segment];

    let left = bitcast<i32>(entry.x);
    let bent = product_signed(y, bitcast<i32>(entry.z));
    // Bits 31 to 62: the floor of the product by 2^31.
    let slope = bitcast<i32>(entry.y + ((bent.y << 1u) | (bent.x >> 31u)));
    let value = add(U64(entry.x << 31u, bitcast<u32>(left >> 1u)), product_signed(y, slope));
    let positive = select(value, U64(0u), (value.y >> 31u) == 1u);
    return shift_right(positive, entry.w);
}

fn draw_amount(occurrence: u32, draw: U64) {
    let component = component_of(occurrence);
    let raw = draw_to_amount(component, draw);
    let cap = program.components[component].cap;
    let is_below = is_less(raw, cap);
    let capped = select(cap, raw, is_below);
    if !is_below {
        atomicAdd(&accumulator[TALLIES + 4u * component + 2u], 1u);
    }
    total = min_u64(add(total, capped), MAX_AMOUNT);
    largest = max_u64(largest, capped);
}

// Draws the counts and then the amounts of an iteration.
fn simulate_iteration(iteration: u32) {
    occurrences = 0u;
    total = program.base;
    largest = U64(0u);
    block = keystream_block(key_low, key_high, 0u, iteration);
    draw_count(0u, block.a.xy);
    if COMPONENTS > 1u { draw_count(1u, block.a.zw); }
    if COMPONENTS > 2u { draw_count(2u, block.b.xy); }
    if COMPONENTS > 3u { draw_count(3u, block.b.zw); }
    if COMPONENTS > 4u { draw_count(4u, block.c.xy); }
    if COMPONENTS > 5u { draw_count(5u, block.c.zw); }
    if COMPONENTS > 6u { draw_count(6u, block.d.xy); }
    if COMPONENTS > 7u { draw_count(7u, block.d.zw); }
    if COMPONENTS > 8u {
        block = keystream_block(key_low, key_high, 1u, iteration);
        draw_count(8u, block.a.xy);
        if COMPONENTS > 9u { draw_count(9u, block.a.zw); }
        if COMPONENTS > 10u { draw_count(10u, block.b.xy); }
        if COMPONENTS > 11u { draw_count(11u, block.b.zw); }
        if COMPONENTS > 12u { draw_count(12u, block.c.xy); }
        if COMPONENTS > 13u { draw_count(13u, block.c.zw); }
        if COMPONENTS > 14u { draw_count(14u, block.d.xy); }
        if COMPONENTS > 15u { draw_count(15u, block.d.zw); }
    }
    // Draw number COMPONENTS is the first that is an amount. `drawn` is the number of occurrences
    // before the first draw of the block. If the block begins with counts it wraps below zero, and
    // those draws are skipped: their numbers are not below `occurrences`.
    var counter = COMPONENTS / 8u;
    var drawn = 8u * counter - COMPONENTS;
    if COMPONENTS % 8u != 0u {
        draw_amounts(drawn);
        counter += 1u;
        drawn += 8u;
    }
    while drawn < occurrences {
        block = keystream_block(key_low, key_high, counter, iteration);
        draw_amounts(drawn);
        counter += 1u;
        drawn += 8u;
    }
}

// Draws the amounts of the current block, whose first draw belongs to occurrence `first`.
fn draw_amounts(first: u32) {
    if first < occurrences { draw_amount(first, block.a.xy); }
    if first + 1u < occurrences { draw_amount(first + 1u, block.a.zw); }
    if first + 2u < occurrences { draw_amount(first + 2u, block.b.xy); }
    if first + 3u < occurrences { draw_amount(first + 3u, block.b.zw); }
    if first + 4u < occurrences { draw_amount(first + 4u, block.c.xy); }
    if first + 5u < occurrences { draw_amount(first + 5u, block.c.zw); }
    if first + 6u < occurrences { draw_amount(first + 6u, block.d.xy); }
    if first + 7u < occurrences { draw_amount(first + 7u, block.d.zw); }
}

// The histogram bucket of an amount.
fn bucket(amount: U64) -> u32 {
    let log = select(firstLeadingBit(amount.y) + 32u, firstLeadingBit(amount.x | 1u), amount.y == 0u);
    let shift = max(log, 10u) - 10u;
    return (shift << 10u) + shift_right(amount, shift).x;
}

// Adds the square of an amount, which must be below 2^53.
fn add_square(amount: U64) {
    var square = vec4<u32>(product(amount.x, amount.x), 0u, 0u);
    if amount.y != 0u {
        // amount.y is below 2^21, so twice the mixed product is below 2^54.
        let mixed = product(amount.x, amount.y << 1u);
        let high = product(amount.y, amount.y);
        let middle = add(U64(square.y, 0u), mixed);
        let top = add(U64(middle.y, 0u), high);
        square = vec4<u32>(square.x, middle.x, top);
    }
    let a = sum_squares.x + square.x;
    let b = add(U64(sum_squares.y, 0u), U64(square.y, 0u));
    let c = add(b, U64(u32(a < square.x), 0u));
    let upper = add(add(sum_squares.zw, square.zw), U64(c.y, 0u));
    sum_squares = vec4<u32>(a, c.x, upper);
}

// Adds the current iteration to the accumulator and to the histograms. `histogram` is the first
// word of the shard's two.
fn count_iteration(histogram: u32) {
    total = min_u64(total, program.cap);
    largest = min_u64(largest, program.cap);
    sum = add(sum, total);
    add_square(total);
    extremes[0] = max_u64(extremes[0], ~total);
    extremes[1] = max_u64(extremes[1], total);
    extremes[2] = max_u64(extremes[2], ~largest);
    extremes[3] = max_u64(extremes[3], largest);
    if is_equal(total, program.cap) {
        atomicAdd(&accumulator[CAPPED], 1u);
    }
    let is_empty = occurrences == 0u;
    empty_iterations += u32(is_empty);
    // Many iterations may have the amount of a mark. Counting them within the workgroup avoids
    // contention on one bucket.
    var counts_total = !is_empty;
    var counts_largest = !is_empty;
    for (var i = 0u; i < program.mark_count; i++) {
        if is_equal(total, program.marks[i]) {
            atomicAdd(&accumulator[MARK_COUNTS + 2u * i], 1u);
            counts_total = false;
        }
        if is_equal(largest, program.marks[i]) {
            atomicAdd(&accumulator[MARK_COUNTS + 2u * i + 1u], 1u);
            counts_largest = false;
        }
    }
    if counts_total {
        atomicAdd(&histograms[histogram + bucket(total)], 1u);
    }
    if counts_largest {
        atomicAdd(&histograms[histogram + BUCKETS + bucket(largest)], 1u);
    }
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn execute(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let slice = slices[group.x];
    key_low = seeds[2u * slice.x];
    key_high = seeds[2u * slice.x + 1u];
    for (var i = lane; i < slice.z; i += WORKGROUP_SIZE) {
        simulate_iteration(slice.y + i);
        count_iteration(slice.w * 2u * BUCKETS);
    }
    add_to_accumulator(SUM, sum.x);
    add_to_accumulator(SUM + 1u, sum.y);
    for (var i = 0u; i < 4u; i++) {
        add_to_accumulator(SUM_SQUARES + i, sum_squares[i]);
    }
    add_to_accumulator(EMPTY, empty_iterations);
    for (var i = 0u; i < COMPONENTS; i++) {
        add_to_accumulator(TALLIES + 4u * i, tallies[i]);
    }
    merge_extremes(extremes);
    for (var word = lane; word < ACCUMULATOR_WORDS; word += WORKGROUP_SIZE) {
        slice_accumulators[group.x * ACCUMULATOR_WORDS + word] = atomicLoad(&accumulator[word]);
    }
}
