//! ChaCha8 blocks of many streams at once: every u32 lane is a stream of its own, as in docs/determinism.md, section 4.

use super::vector::Vector;

const CONSTANTS: [u32; 4] = [0x6170_7865, 0x3320_646e, 0x7962_2d32, 0x6b20_6574];

/// Draws in a block.
pub(super) const DRAWS: usize = 8;

/// One leaf's key, ready to make blocks.
pub(super) struct Key([u32; 8]);

fn scalar_quarter(state: &mut [u32; 16], [a, b, c, d]: [usize; 4]) {
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
fn quarter<V: Vector>(state: &mut [V; 16], [a, b, c, d]: [usize; 4]) {
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
fn round<V: Vector>(state: &mut [V; 16], [a, b, c, d]: [[usize; 4]; 4]) {
    quarter(state, a);
    quarter(state, b);
    quarter(state, c);
    quarter(state, d);
}

const COLUMNS: [[usize; 4]; 4] = [[0, 4, 8, 12], [1, 5, 9, 13], [2, 6, 10, 14], [3, 7, 11, 15]];
const DIAGONALS: [[usize; 4]; 4] = [[0, 5, 10, 15], [1, 6, 11, 12], [2, 7, 8, 13], [3, 4, 9, 14]];

/// What the blocks with one counter have in common: the streams differ in word 14 alone, so three of the four
/// columns of the first round are the same in all of them.
pub(super) struct Prepared {
    initial: [u32; 16],
    first_columns: [u32; 16],
}

impl Key {
    pub(super) fn new(seed: &[u8; 32]) -> Self {
        let word =
            |i: usize| u32::from_le_bytes([seed[4 * i], seed[4 * i + 1], seed[4 * i + 2], seed[4 * i + 3]]);
        Self(std::array::from_fn(word))
    }

    pub(super) fn prepare(&self, counter: u32) -> Prepared {
        let mut initial = [0; 16];
        initial[..4].copy_from_slice(&CONSTANTS);
        initial[4..12].copy_from_slice(&self.0);
        initial[12] = counter;
        let mut first_columns = initial;
        for column in [0, 1, 3] {
            scalar_quarter(&mut first_columns, COLUMNS[column]);
        }
        Prepared { initial, first_columns }
    }
}

impl Prepared {
    /// The block of each stream: its eight draws, for the first and the second half of the lanes. `streams` holds the
    /// stream numbers in u32 lanes.
    #[inline(always)]
    pub(super) fn draws<V: Vector>(&self, streams: V) -> [[V; 2]; DRAWS] {
        // Loops, not iterator adaptors: a closure would not be compiled for the instruction set.
        let mut state = [V::splat(0); 16];
        for (lane, word) in state.iter_mut().zip(self.first_columns) {
            *lane = V::splat32(word);
        }
        state[14] = streams;
        quarter(&mut state, COLUMNS[2]);
        round(&mut state, DIAGONALS);
        for _ in 0..3 {
            round(&mut state, COLUMNS);
            round(&mut state, DIAGONALS);
        }
        for (i, (lane, word)) in state.iter_mut().zip(self.initial).enumerate() {
            let start = if i == 14 { streams } else { V::splat32(word) };
            *lane = lane.add32(start);
        }
        let mut draws = [[V::splat(0); 2]; DRAWS];
        for (draw, halves) in draws.iter_mut().enumerate() {
            *halves = V::pair(state[2 * draw], state[2 * draw + 1]);
        }
        draws
    }
}
