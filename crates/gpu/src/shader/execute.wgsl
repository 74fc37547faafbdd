// Executes iterations (docs/determinism.md, section 7): a slice of a leaf in each workgroup, an iteration at a time in each
// invocation.
//
// No loop is long: drivers may end an invocation that loops without end, and one is known to end it after 65,535 rounds of
// all its loops together. slices.rs cuts slices so that this cannot happen.

const MAX_AMOUNT = U64(0xffffffffu, 0x1fffffu); // 2^53 - 1
const BUCKETS = 45056u;

struct Component {
    cap: U64,
    offset: u32,
    first: u32, // of its thresholds
    thresholds: u32, // how many
    top: u32, // the largest power of two that is not above their number; 0 for none
    padding: vec2<u32>,
}

struct Model {
    base: U64,
    cap: U64,
    segment_bits: u32,
    marks: u32, // how many
    padding: vec2<u32>,
    mark: array<U64, 18>,
    components: array<Component, 16>,
}

@group(0) @binding(0) var<storage, read> model: Model;
@group(0) @binding(1) var<storage, read> thresholds: array<U64>;
// Segments of quantile tables: left, slope, curve, shift. One table after the other.
@group(0) @binding(2) var<storage, read> segments: array<vec4<u32>>;
// Two vectors a leaf.
@group(0) @binding(3) var<storage, read> seeds: array<vec4<u32>>;
// Leaf, first iteration, number of iterations, shard.
@group(0) @binding(4) var<storage, read> slices: array<vec4<u32>>;
// Two histograms a shard: of the total, of the largest occurrence. Iterations without an occurrence and those on a mark
// are not in them: they are in the record.
@group(0) @binding(5) var<storage, read_write> histograms: array<atomic<u32>>;
@group(0) @binding(6) var<storage, read_write> parts: array<u32>;

// The iteration that an invocation is at.
var<private> key_low: vec4<u32>;
var<private> key_high: vec4<u32>;
var<private> block: Rows;
var<private> occurrences: u32;
var<private> ends: array<u32, 16>; // for each component, the occurrences of it and those before
var<private> total: U64;
var<private> largest: U64;

// What its iterations amount to. A u32 or so many limbs are enough for the 256 that slices.rs allows.
var<private> idle: u32;
var<private> tallies: array<u32, COMPONENTS>;
var<private> sum: U64;
var<private> sum_squares: vec4<u32>;
var<private> extremes: array<U64, 4>;

// How many thresholds are not above the draw.
fn count(component: u32, draw: U64) -> u32 {
    let first = model.components[component].first;
    let number = model.components[component].thresholds;
    var found = 0u;
    for (var step = model.components[component].top; step != 0u; step >>= 1u) {
        let next = found + step;
        if next <= number && !is_less(draw, thresholds[first + next - 1u]) {
            found = next;
        }
    }
    return model.components[component].offset + found;
}

fn draw_count(component: u32, draw: U64) {
    let n = count(component, draw);
    occurrences += n;
    ends[component] = occurrences;
    tallies[component] += n;
}

// The component of an occurrence. Written out, so that `ends` can stay in registers.
fn component_of(occurrence: u32) -> u32 {
    var component = 0u;
    if COMPONENTS > 1u { component += u32(occurrence >= ends[0]); }
    if COMPONENTS > 2u { component += u32(occurrence >= ends[1]); }
    if COMPONENTS > 3u { component += u32(occurrence >= ends[2]); }
    if COMPONENTS > 4u { component += u32(occurrence >= ends[3]); }
    if COMPONENTS > 5u { component += u32(occurrence >= ends[4]); }
    if COMPONENTS > 6u { component += u32(occurrence >= ends[5]); }
    if COMPONENTS > 7u { component += u32(occurrence >= ends[6]); }
    if COMPONENTS > 8u { component += u32(occurrence >= ends[7]); }
    if COMPONENTS > 9u { component += u32(occurrence >= ends[8]); }
    if COMPONENTS > 10u { component += u32(occurrence >= ends[9]); }
    if COMPONENTS > 11u { component += u32(occurrence >= ends[10]); }
    if COMPONENTS > 12u { component += u32(occurrence >= ends[11]); }
    if COMPONENTS > 13u { component += u32(occurrence >= ends[12]); }
    if COMPONENTS > 14u { component += u32(occurrence >= ends[13]); }
    if COMPONENTS > 15u { component += u32(occurrence >= ends[14]); }
    return component;
}

// The amount of a draw, before its component's cap.
fn amount(component: u32, draw: U64) -> U64 {
    let bits = model.segment_bits;
    let upper = draw.y >> 31u;
    let flip = 0u - upper;
    let distance = draw ^ U64(flip);
    // w = 2 * distance + 1, and its octave.
    let w = U64((distance.x << 1u) | 1u, (distance.y << 1u) | (distance.x >> 31u));
    let is_far = w.y == 0u;
    let zeros = countLeadingZeros(select(w.y, w.x, is_far));
    let rank = select(63u, 31u, is_far) - zeros;
    // w with its leading bit at 2^63.
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
    let raw = amount(component, draw);
    let cap = model.components[component].cap;
    let is_below = is_less(raw, cap);
    let capped = select(cap, raw, is_below);
    if !is_below {
        atomicAdd(&record[TALLIES + 4u * component + 2u], 1u);
    }
    total = smaller(add(total, capped), MAX_AMOUNT);
    largest = larger(largest, capped);
}

// Draws counts and amounts of an iteration.
fn iterate(iteration: u32) {
    occurrences = 0u;
    total = model.base;
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
    // The first amount draw is number COMPONENTS; `done` is the number of occurrences before the block's first draw.
    // It wraps below zero where the block begins with count draws: those are not below `occurrences` either.
    var counter = COMPONENTS / 8u;
    var done = 8u * counter - COMPONENTS;
    if COMPONENTS % 8u != 0u {
        draw_amounts(done);
        counter += 1u;
        done += 8u;
    }
    while done < occurrences {
        block = keystream_block(key_low, key_high, counter, iteration);
        draw_amounts(done);
        counter += 1u;
        done += 8u;
    }
}

// Draws the amounts of the block in hand, whose first draw is that of occurrence `first`.
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

// Adds the square of an amount below 2^53.
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

// Counts an iteration that has been drawn.
fn account(histogram: u32) {
    total = smaller(total, model.cap);
    largest = smaller(largest, model.cap);
    sum = add(sum, total);
    add_square(total);
    extremes[0] = larger(extremes[0], ~total);
    extremes[1] = larger(extremes[1], total);
    extremes[2] = larger(extremes[2], ~largest);
    extremes[3] = larger(extremes[3], largest);
    if is_equal(total, model.cap) {
        atomicAdd(&record[CAPPED], 1u);
    }
    let is_idle = occurrences == 0u;
    idle += u32(is_idle);
    // A mark is where many iterations may fall, so they are counted in the workgroup.
    var total_counts = !is_idle;
    var largest_counts = !is_idle;
    for (var i = 0u; i < model.marks; i++) {
        if is_equal(total, model.mark[i]) {
            atomicAdd(&record[AT_MARKS + 2u * i], 1u);
            total_counts = false;
        }
        if is_equal(largest, model.mark[i]) {
            atomicAdd(&record[AT_MARKS + 2u * i + 1u], 1u);
            largest_counts = false;
        }
    }
    if total_counts {
        atomicAdd(&histograms[histogram + bucket(total)], 1u);
    }
    if largest_counts {
        atomicAdd(&histograms[histogram + BUCKETS + bucket(largest)], 1u);
    }
}

@compute @workgroup_size(WIDTH)
fn execute(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let slice = slices[group.x];
    key_low = seeds[2u * slice.x];
    key_high = seeds[2u * slice.x + 1u];
    for (var i = lane; i < slice.z; i += WIDTH) {
        iterate(slice.y + i);
        account(slice.w * 2u * BUCKETS);
    }
    add_to_record(SUM, sum.x);
    add_to_record(SUM + 1u, sum.y);
    for (var i = 0u; i < 4u; i++) {
        add_to_record(SUM_SQUARES + i, sum_squares[i]);
    }
    add_to_record(IDLE, idle);
    for (var i = 0u; i < COMPONENTS; i++) {
        add_to_record(TALLIES + 4u * i, tallies[i]);
    }
    settle_extremes(extremes);
    for (var word = lane; word < RECORD; word += WIDTH) {
        parts[group.x * RECORD + word] = atomicLoad(&record[word]);
    }
}
