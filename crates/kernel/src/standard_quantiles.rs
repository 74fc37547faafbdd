//! The quantile functions that severity laws are made from, at the nodes of the quantile tables
//! (docs/determinism.md, section 5.2).

use std::sync::OnceLock;

use forge_contract::program::OCTAVES;

use crate::{
    double_double::{DoubleDouble, power_of_two},
    normal,
};

/// A quantile function at the nodes of a table, in either half ascending in the distance t from the
/// nearer end: t from 2^-65 to 1/2, with 2 · 2^`segment_bits` nodes an octave.
#[derive(Debug)]
pub struct StandardQuantiles {
    /// The distances t of the nodes, exactly.
    pub distances: Vec<f64>,
    /// At u = t.
    pub lower: Vec<DoubleDouble>,
    /// At u = 1 − t.
    pub upper: Vec<DoubleDouble>,
}

/// The tables of 4 to 8 segment bits, computed once each.
type Cache = [OnceLock<StandardQuantiles>; 5];

/// The standard normal quantile z(u).
///
/// # Panics
/// When `segment_bits` is below 4 or above 8.
pub fn normal(segment_bits: u32) -> &'static StandardQuantiles {
    static CACHE: Cache = [const { OnceLock::new() }; 5];
    cached(&CACHE, segment_bits, || {
        let lower = normal::nodes(segment_bits).to_vec();
        let upper = lower.iter().map(|&z| -z).collect();
        StandardQuantiles { distances: distances(segment_bits), lower, upper }
    })
}

/// The standard exponential quantile −ln(1 − u), with relative error below 2^-93.
///
/// # Panics
/// When `segment_bits` is below 4 or above 8.
pub fn exponential(segment_bits: u32) -> &'static StandardQuantiles {
    static CACHE: Cache = [const { OnceLock::new() }; 5];
    cached(&CACHE, segment_bits, || {
        let distances = distances(segment_bits);
        let lower = |&t: &f64| {
            // Near 1/2 the argument is beyond the range of ln_1p.
            if t < 0.25 { -DoubleDouble::from(-t).ln_1p() } else { -(DoubleDouble::from(1.0 - t)).ln() }
        };
        let upper = |&t: &f64| -DoubleDouble::from(t).ln();
        StandardQuantiles {
            lower: distances.iter().map(lower).collect(),
            upper: distances.iter().map(upper).collect(),
            distances,
        }
    })
}

/// The uniform quantile u, exactly.
///
/// # Panics
/// When `segment_bits` is below 4 or above 8.
pub fn uniform(segment_bits: u32) -> &'static StandardQuantiles {
    static CACHE: Cache = [const { OnceLock::new() }; 5];
    cached(&CACHE, segment_bits, || {
        let distances = distances(segment_bits);
        let lower: Vec<DoubleDouble> = distances.iter().map(|&t| DoubleDouble::from(t)).collect();
        let upper = lower.iter().map(|&t| DoubleDouble::ONE - t).collect();
        StandardQuantiles { distances, lower, upper }
    })
}

fn cached(
    cache: &'static Cache,
    segment_bits: u32,
    build: impl FnOnce() -> StandardQuantiles,
) -> &'static StandardQuantiles {
    assert!((4..=8).contains(&segment_bits), "tables have 4 to 8 segment bits");
    cache[segment_bits as usize - 4].get_or_init(build)
}

/// The distances t of the nodes, which an f64 holds exactly.
fn distances(segment_bits: u32) -> Vec<f64> {
    let per_octave = 2u32 << segment_bits;
    let octave = |rank: usize| {
        let unit = power_of_two(rank as i32 - 65);
        (0..per_octave).map(move |i| unit * (1.0 + f64::from(i) / f64::from(per_octave)))
    };
    (0..OCTAVES).flat_map(octave).chain([0.5]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_meet_in_the_middle() {
        for standard in [normal(4), exponential(4), uniform(4)] {
            let (lower, upper) = (standard.lower.last().unwrap(), standard.upper.last().unwrap());
            assert!((*lower - *upper).abs().to_f64() < power_of_two(-94));
            assert_eq!(standard.lower.len(), 64 * 32 + 1);
        }
        let middle = exponential(6).lower.last().unwrap().to_f64();
        assert_eq!(middle, std::f64::consts::LN_2);
    }

    #[test]
    fn exponential_nodes_add_up_to_the_probability() {
        // e^-E(u) = 1 − u on both halves.
        let (exponential, uniform) = (exponential(5), uniform(5));
        for (e, u) in [(&exponential.lower, &uniform.lower), (&exponential.upper, &uniform.upper)] {
            for (&e, &u) in e.iter().zip(u) {
                let survival = DoubleDouble::ONE - u;
                assert!((((-e).exp() - survival) / survival).abs().to_f64() < power_of_two(-90), "{u:?}");
            }
        }
    }
}
