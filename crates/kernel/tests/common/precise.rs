//! Arbitrary-precision references: Φ and its inverse, e^x, and floors that are proven correct. Uses
//! binary floats of 256 bits (crate dashu-float) and a series for Φ that the kernel does not use,
//! and no double-double arithmetic.

use std::sync::OnceLock;

use dashu_float::{ConstCache, FBig, round::mode::HalfEven};
use dashu_int::IBig;
use forge_kernel::{double_double::DoubleDouble, normal};

/// A binary float that computes with 256 bits.
pub type Real = FBig<HalfEven, 2>;

const BITS: usize = 256;
/// Fraction bits of fixed-point sums.
const FIXED: usize = 320;
/// Fraction bits of values that are floored.
pub const FRACTION: usize = 200;

/// Exactly `x`.
pub fn real(x: f64) -> Real {
    Real::try_from(x).expect("a finite number").with_precision(BITS).value()
}

/// Exactly 2^exponent.
pub fn power_of_two(exponent: i32) -> Real {
    real(1.0) << exponent as isize
}

/// Exactly the double-double.
pub fn of_dd(x: DoubleDouble) -> Real {
    let (high, low) = x.parts();
    real(high) + real(low)
}

/// `⌊x · 2^bits⌋`.
pub fn floor_scaled(x: &Real, bits: usize) -> IBig {
    let floor = (x.clone() << bits as isize).floor();
    IBig::try_from(floor).expect("the floor is an integer")
}

fn from_fixed(x: IBig) -> Real {
    Real::from_parts(x, -(FIXED as isize)).with_precision(BITS).value()
}

/// √(2π).
fn root_of_tau() -> &'static Real {
    static ROOT: OnceLock<Real> = OnceLock::new();
    ROOT.get_or_init(|| {
        let pi: Real = ConstCache::new().pi(BITS).value();
        (pi * real(2.0)).sqrt()
    })
}

/// Φ(z) and the density φ(z) for −10 ≤ z ≤ 0, with relative error below 2^-170.
///
/// Φ(z) = 1/2 − φ(z) · Σ |z|^(2n+1) / (1·3·5·…·(2n+1)): the series of Abramowitz and Stegun
/// 26.2.11, summed in fixed point.
pub fn lower_tail(z: &Real) -> (Real, Real) {
    let x = floor_scaled(&-z.clone(), FIXED);
    let square = (&x * &x) >> FIXED;
    let (mut term, mut sum) = (x.clone(), x);
    for odd in (3u32..).step_by(2) {
        term = ((term * &square) >> FIXED) / odd;
        if term.is_zero() {
            break;
        }
        sum += &term;
    }
    let density = (-(z * z) / real(2.0)).exp() / root_of_tau();
    (real(0.5) - &density * from_fixed(sum), density)
}

/// Returns z(t) for t ≤ 1/2, and the error of `start`: one Newton step from `start`, which must be
/// within 2^-80 of z(t). The step doubles the digits and measures the distance with Φ alone, so the
/// result does not depend on how `start` was computed.
pub fn quantile(t: &Real, start: &Real) -> (Real, Real) {
    let (tail, density) = lower_tail(start);
    let step = (t - tail) / density;
    assert!(magnitude(&step) < power_of_two(-80), "the start is off by {}", step.to_f64().value());
    (start + &step, step)
}

/// |x|.
pub fn magnitude(x: &Real) -> Real {
    if *x < real(0.0) { -x.clone() } else { x.clone() }
}

/// Exact t of a node: `i` half-segments into the octaves, of which each has `per_octave`.
pub fn node_position(i: usize, per_octave: usize) -> Real {
    let (octave, place) = (i / per_octave, i % per_octave);
    real(1.0 + place as f64 / per_octave as f64) * power_of_two(octave as i32 - 65)
}

/// z at the kernel's nodes with 7 segment bits, to about 170 bits. Every second one is a node with
/// 6 segment bits.
pub fn nodes() -> &'static [Real] {
    static NODES: OnceLock<Vec<Real>> = OnceLock::new();
    NODES.get_or_init(|| {
        let start = normal::nodes(7);
        let z = |i: usize| quantile(&node_position(i, 256), &of_dd(start[i])).0;
        // z(1/2) is 0 exactly.
        let last = start.len() - 1;
        halves(last, z).into_iter().chain([real(0.0)]).collect()
    })
}

/// Computes `f(0)` to `f(count − 1)` on two threads.
pub fn halves<T: Send>(count: usize, f: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let (middle, f) = (count / 2, &f);
    std::thread::scope(|scope| {
        let upper = scope.spawn(move || (middle..count).map(f).collect::<Vec<_>>());
        let mut all: Vec<_> = (0..middle).map(f).collect();
        all.extend(upper.join().expect("the reference is computed"));
        all
    })
}

/// A number in an interval: `centre ± radius`, both in units of 2^-FRACTION.
#[derive(Debug, Clone)]
pub struct Ball {
    pub centre: IBig,
    pub radius: IBig,
}

impl Ball {
    /// A number known to a relative error of 2^-150.
    pub fn near(x: &Real) -> Self {
        let centre = floor_scaled(x, FRACTION);
        let size = if centre < IBig::ZERO { -&centre } else { centre.clone() };
        Self { centre, radius: (size >> 150usize) + IBig::from(4) }
    }

    /// A number known exactly, which must be a multiple of 2^-FRACTION.
    pub fn exact(x: &Real) -> Self {
        let centre = floor_scaled(x, FRACTION);
        assert_eq!(Real::from_parts(centre.clone(), -(FRACTION as isize)), *x, "not a multiple");
        Self { centre, radius: IBig::ZERO }
    }

    /// `⌊x / 2^exponent⌋`, which the interval must decide.
    pub fn floor(&self, exponent: i32) -> IBig {
        let shift = (FRACTION as i32 + exponent) as usize;
        let (low, high) = ((&self.centre - &self.radius) >> shift, (&self.centre + &self.radius) >> shift);
        assert_eq!(low, high, "the reference cannot decide a floor");
        low
    }
}
