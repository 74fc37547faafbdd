// What a workgroup, and in the end a shard, amounts to: a record of RECORD words, which add up, except for four extremes.
// Integers of several words have the low word first.

// The record's words. Offsets are those of record.rs.
const SUM = 0u; // 3 words: sum of the totals
const SUM_SQUARES = 3u; // 5 words: sum of their squares
const EXTREMES = 8u; // 4 times 2 words, of which the larger counts: the complement of the smallest total; the largest
                     // total; the same two of the largest occurrence
const IDLE = 16u; // iterations without an occurrence
const CAPPED = 17u; // iterations whose total is the program's cap
const TALLIES = 18u; // for each component 2 words of occurrences, 2 of those at its cap
const AT_MARKS = TALLIES + 4u * COMPONENTS; // for each mark the iterations whose total, and whose largest, is on it
const MAX_MARKS = 17u;
const RECORD = AT_MARKS + 2u * MAX_MARKS;

const WIDTH = 256u; // invocations in a workgroup

var<workgroup> record: array<atomic<u32>, RECORD>;

// Adds to the integer that begins at a word. Every overflow of a word is seen by exactly one invocation, which carries it.
fn add_to_record(at: u32, value: u32) {
    var word = at;
    var carry = value;
    while carry != 0u {
        let old = atomicAdd(&record[word], carry);
        carry = u32(old + carry < old);
        word = word + 1u;
    }
}

// Makes the record's extremes the largest of all invocations'. All of them call this, once.
fn settle_extremes(extremes: array<U64, 4>) {
    for (var i = 0u; i < 4u; i++) {
        atomicMax(&record[EXTREMES + 2u * i + 1u], extremes[i].y);
    }
    workgroupBarrier();
    for (var i = 0u; i < 4u; i++) {
        if extremes[i].y == atomicLoad(&record[EXTREMES + 2u * i + 1u]) {
            atomicMax(&record[EXTREMES + 2u * i], extremes[i].x);
        }
    }
    workgroupBarrier();
}
