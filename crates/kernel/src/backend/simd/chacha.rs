//! ChaCha8 blocks of many streams at once, one stream in each u32 lane (docs/determinism.md,
//! section 4).

use super::vector::Vector;

const CONSTANTS: [u32; 4] = [0x6170_7865, 0x3320_646e, 0x7962_2d32, 0x6b20_6574];

/// Draws in a block.
pub(super) const DRAWS_PER_BLOCK: usize = 8;

/// The key of a leaf.
pub(super) struct ChaChaKey([u32; 8]);

fn scalar_quarter_round(state: &mut [u32; 16], [a, b, c, d]: [usize; 4]) {
    let mut step = |x: usize, y: usize, z: usize, bits: u32| {
        state[x] = state[x].wrapping_add(state[y]);
        state[z] = (state[z] ^ state[x]).rotate_left(bits);
    };
    step(a, b, d, 16);
    step(c, d, b, 12);
    step(a, b, d, 8);
    step(c, d, b, 7);
}

#[inline(always)]
fn quarter_round<V: Vector>(state: &mut [V; 16], [a, b, c, d]: [usize; 4]) {
    state[a] = state[a].add32(state[b]);
    state[d] = state[d].xor(state[a]).rotate_left32::<16>();
    state[c] = state[c].add32(state[d]);
    state[b] = state[b].xor(state[c]).rotate_left32::<12>();
    state[a] = state[a].add32(state[b]);
    state[d] = state[d].xor(state[a]).rotate_left32::<8>();
    state[c] = state[c].add32(state[d]);
    state[b] = state[b].xor(state[c]).rotate_left32::<7>();
}

#[inline(always)]
fn four_quarter_rounds<V: Vector>(state: &mut [V; 16], [a, b, c, d]: [[usize; 4]; 4]) {
    quarter_round(state, a);
    quarter_round(state, b);
    quarter_round(state, c);
    quarter_round(state, d);
}

const COLUMNS: [[usize; 4]; 4] = [[0, 4, 8, 12], [1, 5, 9, 13], [2, 6, 10, 14], [3, 7, 11, 15]];
const DIAGONALS: [[usize; 4]; 4] = [[0, 5, 10, 15], [1, 6, 11, 12], [2, 7, 8, 13], [3, 4, 9, 14]];

/// The part of a block that all streams of a key share. Streams differ in word 14 only, so three of
/// the four columns of the first round are common to them.
pub(super) struct BlockTemplate {
    initial: [u32; 16],
    first_columns: [u32; 16],
}

impl ChaChaKey {
    pub(super) fn new(seed: &[u8; 32]) -> Self {
        let word =
            |i: usize| u32::from_le_bytes([seed[4 * i], seed[4 * i + 1], seed[4 * i + 2], seed[4 * i + 3]]);
        Self(std::array::from_fn(word))
    }

    /// The template of the blocks with this counter.
    pub(super) fn block_template(&self, counter: u32) -> BlockTemplate {
        let mut initial = [0; 16];
        initial[..4].copy_from_slice(&CONSTANTS);
        initial[4..12].copy_from_slice(&self.0);
        initial[12] = counter;
        let mut first_columns = initial;
        for column in [0, 1, 3] {
            scalar_quarter_round(&mut first_columns, COLUMNS[column]);
        }
        BlockTemplate { initial, first_columns }
    }
}

impl BlockTemplate {
    /// The eight draws in the block of each stream, for the first and the second half of the lanes.
    /// `streams` holds the stream numbers in u32 lanes.
    #[inline(always)]
    pub(super) fn draws<V: Vector>(&self, streams: V) -> [[V; 2]; DRAWS_PER_BLOCK] {
        // Loops instead of `zip` and `map`, which would not be inlined and compiled for the
        // instruction set.
        let mut state = [V::splat(0); 16];
        for (i, lane) in state.iter_mut().enumerate() {
            *lane = V::splat32(self.first_columns[i]);
        }
        state[14] = streams;
        quarter_round(&mut state, COLUMNS[2]);
        four_quarter_rounds(&mut state, DIAGONALS);
        for _ in 0..3 {
            four_quarter_rounds(&mut state, COLUMNS);
            four_quarter_rounds(&mut state, DIAGONALS);
        }
        for (i, lane) in state.iter_mut().enumerate() {
            *lane = lane.add32(if i == 14 { streams } else { V::splat32(self.initial[i]) });
        }
        let mut draws = [[V::splat(0); 2]; DRAWS_PER_BLOCK];
        for (i, halves) in draws.iter_mut().enumerate() {
            *halves = V::pair(state[2 * i], state[2 * i + 1]);
        }
        draws
    }
}
