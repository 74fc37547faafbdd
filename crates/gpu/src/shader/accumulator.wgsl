// The accumulator of a slice or a shard: ACCUMULATOR_WORDS words. Accumulators are merged by
// addition, except for four extremes. Integers of several words are stored low word first.

// Words of the accumulator. They must match accumulator.rs.
const SUM = 0u; // 3 words: sum of the iterations' totals
const SUM_SQUARES = 3u; // 5 words: sum of the squares of the totals
// 4 integers of 2 words, merged by their maximum: the complement of the smallest total, the largest
// total, and the same two of the largest occurrence.
const EXTREMES = 8u;
const EMPTY = 16u; // iterations without an occurrence
const CAPPED = 17u; // iterations whose total equals the cap of the program
// By component: 2 words of occurrences, 2 words of occurrences at the cap of the component.
const TALLIES = 18u;
// By mark: iterations whose total, and iterations whose largest occurrence, equals it.
const MARK_COUNTS = TALLIES + 4u * COMPONENTS;
const MAX_MARKS = 18u;
const ACCUMULATOR_WORDS = MARK_COUNTS + 2u * MAX_MARKS;

const WORKGROUP_SIZE = 256u; // invocations; it must match work_slices.rs

var<workgroup> accumulator: array<atomic<u32>, ACCUMULATOR_WORDS>;

// Adds to the integer that begins at `first_word`. Exactly one invocation observes each overflow of
// a word, and carries it.
fn add_to_accumulator(first_word: u32, value: u32) {
    var word = first_word;
    var carry = value;
    while carry != 0u {
        let old = atomicAdd(&accumulator[word], carry);
        carry = u32(old + carry < old);
        word = word + 1u;
    }
}

// Sets the extremes of the accumulator to the maxima over all invocations. Every invocation of the
// workgroup must call this, exactly once, because it contains barriers.
fn merge_extremes(extremes: array<U64, 4>) {
    for (var i = 0u; i < 4u; i++) {
        atomicMax(&accumulator[EXTREMES + 2u * i + 1u], extremes[i].y);
    }
    workgroupBarrier();
    for (var i = 0u; i < 4u; i++) {
        if extremes[i].y == atomicLoad(&accumulator[EXTREMES + 2u * i + 1u]) {
            atomicMax(&accumulator[EXTREMES + 2u * i], extremes[i].x);
        }
    }
    workgroupBarrier();
}
