//! The standard normal quantile function z(t), at the nodes of the quantile tables and in between.
//!
//! Taylor steps (`quantile_steps`) solve its differential equation dz/dt = √(2π)·exp(z²/2), that is
//! z″ = z·z′², so no series of the error function is needed. Tests compare every table entry with
//! an arbitrary-precision Φ.

use std::sync::OnceLock;

use forge_contract::program::OCTAVES;

use crate::{
    double_double::{DoubleDouble, power_of_two},
    quantile_steps::{self, QuantileEquation, Series, State, evaluate, taylor_series},
};

/// √(2π).
const SQRT_TAU: DoubleDouble = DoubleDouble::new(2.506_628_274_631_000_7, -1.832_857_998_045_916_7e-16);
/// z(2^-65) = −9.155293772686072545996483742373583649…
const Z_AT_FAR_END: DoubleDouble = DoubleDouble::new(-9.155_293_772_686_072, -6.279_087_924_408_936e-16);

/// The equation of z.
struct NormalEquation;

impl QuantileEquation for NormalEquation {
    fn far_end(&self) -> DoubleDouble {
        Z_AT_FAR_END
    }

    /// z′ = √(2π)·exp(z²/2).
    fn slope(&self, z: DoubleDouble) -> DoubleDouble {
        SQRT_TAU * (z * z).scale(0.5).exp()
    }

    fn start(&self, z: DoubleDouble) -> State {
        State::new(z, DoubleDouble::ZERO)
    }

    /// g(z) = z.
    fn factor(&self, n: usize, slopes: &Series, state: &mut State) -> DoubleDouble {
        if n > 0 {
            state.first[n] = slopes[n - 1] / DoubleDouble::from(f64::from(n as u32));
        }
        state.first[n]
    }

    fn quantile(&self, z: DoubleDouble) -> DoubleDouble {
        z
    }
}

/// z at the nodes of a quantile table, ascending in t. Each of the 64 octaves has P = 2 ·
/// 2^`segment_bits` nodes, two to a segment: node r·P + i is t = 2^(r−65) · (1 + i / P). The last
/// of the 64·P + 1 nodes is t = 1/2.
///
/// # Panics
/// When `segment_bits` is below 4 or above 8.
pub fn nodes(segment_bits: u32) -> &'static [DoubleDouble] {
    static TABLES: [OnceLock<Vec<DoubleDouble>>; 5] = [const { OnceLock::new() }; 5];
    assert!((4..=8).contains(&segment_bits), "tables have 4 to 8 segment bits");
    TABLES[segment_bits as usize - 4].get_or_init(|| build_nodes(2 << segment_bits))
}

fn build_nodes(per_octave: usize) -> Vec<DoubleDouble> {
    let mut nodes = quantile_steps::nodes(&NormalEquation, per_octave);
    // z(1/2) is 0 exactly.
    nodes[OCTAVES * per_octave] = DoubleDouble::ZERO;
    nodes
}

/// z at `offset` octave units from a point where it is `z`.
fn step(z: DoubleDouble, unit: f64, offset: f64) -> DoubleDouble {
    let series = taylor_series(&NormalEquation, z, NormalEquation.slope(z).scale(unit));
    evaluate(&series, DoubleDouble::from(offset))
}

/// z(t) for 2^-65 ≤ t ≤ 1 − 2^-65, with absolute error below 2^-90.
pub fn quantile(t: f64) -> DoubleDouble {
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
    let offset = t - unit * (1.0 + index / per_octave as f64); // exact: both have few bits
    step(z, unit, offset / unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_match_published_values() {
        // Φ⁻¹ at the f64 nearest to 0.975 and at the one nearest to 0.025.
        assert_eq!(quantile(0.975).to_f64(), 1.959_963_984_540_053_8);
        assert_eq!(quantile(0.5), DoubleDouble::ZERO);
        assert_eq!(quantile(0.025).to_f64(), -1.959_963_984_540_054_3);
    }

    #[test]
    fn taylor_steps_reach_zero_in_the_middle() {
        // Repeats the last of the 1,024 steps from z(2^-65) to z(1/2) = 0, up to its end.
        let nodes = nodes(6);
        let last = nodes.len() - 1;
        let end = step(nodes[last - 8], 0.25, 0.0625);
        assert!(end.abs().to_f64() < power_of_two(-94), "{end:?}");
    }

    #[test]
    fn finer_tables_contain_the_nodes_of_coarser_ones() {
        let (coarse, fine) = (nodes(6), nodes(7));
        for (i, z) in coarse.iter().enumerate() {
            assert!((*z - fine[2 * i]).abs().to_f64() < power_of_two(-94), "node {i}");
        }
    }
}
