//! The standard normal quantile function z(t), at the nodes of every quantile table and elsewhere.
//!
//! No series for the error function is needed: z is carried along t by its own differential equation
//! dz/dt = √(2π)·exp(z²/2), that is z″ = z·z′², from the exact start z(1/2) = 0, z′(1/2) = √(2π), in Taylor steps
//! (Steinbrecher and Shaw 2008, "Quantile mechanics"). Double-double throughout. A table's values are checked in
//! tests against an arbitrary-precision Φ, entry by entry.

use std::sync::OnceLock;

use forge_contract::program::OCTAVES;

use crate::dd::{Dd, power_of_two};

/// √(2π).
const SQRT_TAU: Dd = Dd::new(2.506_628_274_631_000_7, -1.832_857_998_045_916_7e-16);
/// A Taylor step spans 1/16 of an octave's lower end, so each term adds at least 4 bits.
const BLOCKS: usize = 16;
/// Terms of the Taylor series: 28 · 4 bits.
const TERMS: usize = 28;

/// z and its derivative at one point; the derivative is taken in units of the octave being worked on.
#[derive(Clone, Copy)]
struct State {
    z: Dd,
    slope: Dd,
}

/// Taylor coefficients of z about `state`: z″ = z·z′², term by term.
fn series(state: State) -> [Dd; TERMS] {
    let mut z = [Dd::ZERO; TERMS];
    let mut slope = [Dd::ZERO; TERMS]; // coefficients of z′
    let mut square = [Dd::ZERO; TERMS]; // of z′²
    (z[0], slope[0]) = (state.z, state.slope);
    for n in 0..TERMS - 1 {
        let next = f64::from(n as u32 + 1);
        z[n + 1] = slope[n] / Dd::from(next);
        square[n] = convolution(&slope, &slope, n);
        slope[n + 1] = convolution(&z, &square, n) / Dd::from(next);
    }
    z
}

fn convolution(a: &[Dd; TERMS], b: &[Dd; TERMS], n: usize) -> Dd {
    (0..=n).fold(Dd::ZERO, |sum, i| sum + a[i] * b[n - i])
}

fn evaluate(series: &[Dd; TERMS], x: Dd) -> Dd {
    series.iter().rev().fold(Dd::ZERO, |sum, &c| sum * x + c)
}

fn evaluate_slope(series: &[Dd; TERMS], x: Dd) -> Dd {
    (1..TERMS).rev().fold(Dd::ZERO, |sum, n| sum * x + series[n] * Dd::from(f64::from(n as u32)))
}

/// z at the `2 · 2^segment_bits` half-segment nodes of all octaves, ascending in t: entry i of octave rank r (node
/// number r·2·2^bits + i) is t = 2^(r−65) · (1 + i / (2·2^bits)). The last node is t = 1/2. `64·2·2^bits + 1` entries.
///
/// # Panics
/// When `segment_bits` is below 4 or above 8.
pub fn nodes(segment_bits: u32) -> &'static [Dd] {
    static TABLES: [OnceLock<Vec<Dd>>; 5] = [const { OnceLock::new() }; 5];
    assert!((4..=8).contains(&segment_bits), "tables have 4 to 8 segment bits");
    TABLES[segment_bits as usize - 4].get_or_init(|| build_nodes(2 << segment_bits))
}

fn build_nodes(per_octave: usize) -> Vec<Dd> {
    let mut nodes = vec![Dd::ZERO; OCTAVES * per_octave + 1];
    let step = 1.0 / per_octave as f64;
    let block = per_octave / BLOCKS;
    // In units of the first octave's lower end, t = 1/4.
    let mut state = State { z: Dd::ZERO, slope: SQRT_TAU.scale(0.25) };
    let mut at = nodes.len() - 1;
    for _octave in 0..OCTAVES {
        for _block in 0..BLOCKS {
            let series = series(state);
            for i in 1..=block {
                nodes[at - i] = evaluate(&series, Dd::from(-(i as f64) * step));
            }
            at -= block;
            state = State { z: nodes[at], slope: evaluate_slope(&series, Dd::from(-1.0 / BLOCKS as f64)) };
        }
        state.slope = state.slope.scale(0.5);
    }
    nodes
}

/// z(t) for 2^-65 ≤ t ≤ 1 − 2^-65, with absolute error below 2^-90.
pub fn quantile(t: f64) -> Dd {
    if t > 0.5 {
        // 1 − t is exact for t in [1/2, 1].
        return -quantile(1.0 - t);
    }
    assert!(t >= power_of_two(-65), "the normal quantile is tabulated down to 2^-65");
    let bits = 6;
    let nodes = nodes(bits);
    let per_octave = 2 << bits;
    let exponent = (t.to_bits() >> 52) as i32 - 1023;
    let unit = power_of_two(exponent);
    let index = ((t / unit - 1.0) * per_octave as f64).floor();
    let node = (exponent + 65) as usize * per_octave + index as usize;
    let z = nodes[node];
    let half_square = (z * z).scale(0.5);
    let slope = SQRT_TAU * half_square.exp();
    let offset = t - unit * (1.0 + index / per_octave as f64); // exact: both have few bits
    evaluate(&series(State { z, slope: slope.scale(unit) }), Dd::from(offset / unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_quantiles() {
        // Φ⁻¹ at the f64 nearest to 0.975 and at the one nearest to 0.025.
        assert_eq!(quantile(0.975).to_f64(), 1.959_963_984_540_053_8);
        assert_eq!(quantile(0.5), Dd::ZERO);
        assert_eq!(quantile(0.025).to_f64(), -1.959_963_984_540_054_3);
    }

    #[test]
    fn chained_steps_agree_with_fresh_starts() {
        // The slope that the chain carried agrees with √(2π)·exp(z²/2) at the far end: nothing has drifted.
        let nodes = nodes(6);
        let (z0, z1) = (nodes[0], nodes[1]);
        let unit = power_of_two(-65);
        let slope = (SQRT_TAU * (z0 * z0).scale(0.5).exp()).scale(unit);
        let stepped = evaluate(&series(State { z: z0, slope }), Dd::from(1.0 / 128.0));
        assert!((stepped - z1).abs().to_f64() < power_of_two(-92));
    }

    #[test]
    fn finer_tables_hold_the_coarser_ones() {
        let (coarse, fine) = (nodes(6), nodes(7));
        for (i, z) in coarse.iter().enumerate() {
            assert!((*z - fine[2 * i]).abs().to_f64() < power_of_two(-94), "node {i}");
        }
    }
}
