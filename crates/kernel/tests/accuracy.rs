//! Proves the accuracy that docs/determinism.md, section 5.2, claims: over the whole range of
//! draws, both far tails included, the tabulated amount against an independent quantile function,
//! and the bias of the mean by quadrature.
#![expect(clippy::print_stdout, reason = "figures for the documentation: cargo test -- --nocapture")]

mod common;

use common::{
    gauss, precise,
    table::{amount, draw_at, entry, half_steps, locate, scaled},
};
use forge_contract::program::{MAX_AMOUNT, OCTAVES, Segment};
use forge_kernel::{
    double_double::{DoubleDouble, power_of_two as two_to},
    standard_quantiles, tables,
};

/// Smallest amount that must be accurate to 2·10^-6, apart from the rounding to whole units.
const TYPICAL: f64 = 1000.0;

/// A distribution: maps the normal quantile z to an amount.
#[derive(Debug, Clone, Copy)]
enum Law {
    LogNormal { mu: f64, sigma: f64 },
    Normal { mean: f64, deviation: f64 },
}

use Law::{LogNormal, Normal};

impl Law {
    /// The amount in the kernel's arithmetic.
    fn tabulated(self, z: DoubleDouble) -> DoubleDouble {
        match self {
            LogNormal { mu, sigma } => {
                (DoubleDouble::from(mu) + z * DoubleDouble::from(sigma)).exp() * DoubleDouble::from(100.0)
            }
            Normal { mean, deviation } => {
                (DoubleDouble::from(mean) + z * DoubleDouble::from(deviation)) * DoubleDouble::from(1000.0)
            }
        }
    }

    #[expect(clippy::disallowed_methods, reason = "a reference, not a result")]
    fn reference(self, z: f64) -> f64 {
        match self {
            LogNormal { mu, sigma } => 100.0 * (mu + sigma * z).exp(),
            Normal { mean, deviation } => 1000.0 * (mean + deviation * z),
        }
    }
}

/// A law and its table.
struct Tabulated {
    bits: u32,
    law: Law,
    table: Vec<Segment>,
}

impl Tabulated {
    fn new(bits: u32, law: Law) -> Self {
        let table =
            tables::quantile_table(standard_quantiles::normal(bits), &|z: DoubleDouble| law.tabulated(z))
                .expect("all floors are decided");
        Self { bits, law, table }
    }

    /// Q at distance t from the upper or the lower end, at least 0.
    fn quantile(&self, upper: bool, t: f64) -> f64 {
        let z = gauss::quantile(t);
        self.law.reference(if upper { -z } else { z }).max(0.0)
    }

    /// The segment's amount at a position before rounding to a whole unit, at least 0.
    fn smooth(&self, number: usize, y: i64) -> f64 {
        let (value, shift) = scaled(self.table[number], y);
        (value as f64 / two_to(shift as i32) - 0.5).max(0.0)
    }

    /// Scale of the relative error: a lognormal amount itself; for a normal law, with amounts
    /// around zero, at least the standard deviation.
    fn scale(&self, exact: f64) -> f64 {
        match self.law {
            LogNormal { .. } => exact,
            Normal { deviation, .. } => exact.max(1000.0 * deviation),
        }
    }

    /// Checks one draw, and returns the relative error of a typical amount.
    fn check(&self, draw: u64) -> f64 {
        let (upper, w) = half_steps(draw);
        let exact = self.quantile(upper, w as f64 / two_to(65));
        let found = amount(self.bits, &self.table, draw).min(MAX_AMOUNT);
        if exact > MAX_AMOUNT as f64 {
            assert!(found as f64 > MAX_AMOUNT as f64 * (1.0 - 2e-6), "{draw:#x}: {found} for {exact}");
            return 0.0;
        }
        let place = locate(self.bits, draw);
        let smooth = self.smooth(entry(self.bits, place), place.y);
        let (error, allowed) = ((smooth - exact).abs(), 2e-6 * self.scale(exact) + two_to(-27));
        assert!(error <= allowed, "{draw:#x}: {smooth} for {exact}");
        assert!((found as f64 - exact).abs() <= allowed + 0.5, "{draw:#x}: {found} for {exact}");
        if exact < TYPICAL { 0.0 } else { error / self.scale(exact) }
    }
}

/// Draws in every octave on both sides: the ends and the middle of every segment, their neighbours,
/// and many random ones.
fn draws(segment_bits: u32) -> impl Iterator<Item = u64> {
    let random = |i: u64| {
        let mixed = (i ^ (i >> 31)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        u128::from((mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9))
    };
    let octave = move |rank: usize| {
        let (start, halves) = (1u128 << rank, 2u128 << segment_bits);
        let ends = (0..=halves).map(move |i| start + i * start / halves);
        let near = ends.flat_map(|w| [w.saturating_sub(1), w, w + 1]);
        let far = (0..1500).map(move |i| start + random(rank as u64 * 4096 + i) % start);
        near.chain(far).map(|w| w | 1).filter(move |w| (start..2 * start).contains(w))
    };
    let w = (0..OCTAVES).flat_map(octave);
    w.flat_map(|w| [draw_at(false, w), draw_at(true, w)])
}

/// Points and weights of Gauss–Legendre quadrature on [0, 1].
const GAUSS: [(f64, f64); 5] = [
    (0.046_910_077_030_668_004, 0.118_463_442_528_094_54),
    (0.230_765_344_947_158_45, 0.239_314_335_249_683_23),
    (0.5, 0.284_444_444_444_444_44),
    (0.769_234_655_052_841_5, 0.239_314_335_249_683_23),
    (0.953_089_922_969_332, 0.118_463_442_528_094_54),
];

/// Relative bias of the mean that interpolation causes, from integrals over all segments.
fn relative_bias(law: &Tabulated) -> f64 {
    let segments = 1usize << law.bits;
    let (mut bias, mut mean) = (0.0, 0.0);
    for number in 0..2 * OCTAVES * segments {
        let (upper, place) = (number >= OCTAVES * segments, number % (OCTAVES * segments));
        let (rank, segment) = (place / segments, place % segments);
        let unit = two_to(rank as i32 - 65);
        let width = unit / segments as f64;
        for (at, weight) in GAUSS {
            let t = unit + (segment as f64 + at) * width;
            let y = (if upper { 1.0 - at } else { at }) * two_to(31);
            let exact = law.quantile(upper, t);
            if exact > MAX_AMOUNT as f64 {
                continue;
            }
            bias += weight * width * (law.smooth(number, y as i64) - exact);
            mean += weight * width * exact;
        }
    }
    bias / mean
}

#[test]
fn the_reference_agrees_with_arbitrary_precision() {
    for (i, z) in precise::nodes().iter().enumerate().take(64 * 256) {
        let t = precise::node_position(i, 256).to_f64().value();
        let z = z.to_f64().value();
        assert!(
            (gauss::quantile(t) / z - 1.0).abs() < 2e-15 / t.min(0.5 - t).max(1e-3) * 1e-3 + 1e-15,
            "{t}"
        );
        assert!((gauss::phi(z) / t - 1.0).abs() < 1e-13, "{z}");
    }
}

#[test]
fn lognormal_amounts_are_accurate_everywhere() {
    println!("sigma  bits  relative error of an amount  relative bias of the mean");
    let small = [0.1, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0].map(|sigma| (6, sigma));
    for (bits, sigma) in small.into_iter().chain([4.5, 5.0, 6.0, 7.0, 8.0].map(|sigma| (7, sigma))) {
        // The first mu makes the middle of the distribution typical; with the second no amount is
        // clamped at 0.
        let (mut error, mut bias) = (0.0f64, 0.0f64);
        for mu in [6.0, 32.0 - 9.16 * sigma] {
            let law = Tabulated::new(bits, LogNormal { mu, sigma });
            error = draws(bits).map(|draw| law.check(draw)).fold(error, f64::max);
            bias = bias.max(relative_bias(&law).abs());
        }
        println!("{sigma:<5}  {bits}     {error:.2e}                     {bias:.2e}");
        assert!(error < 2e-6, "sigma {sigma}: {error}");
        assert!(bias < 1e-6, "sigma {sigma}: {bias}");
    }
}

#[test]
fn capped_and_tiny_amounts_are_accurate() {
    for (bits, mu, sigma) in
        [(6, 25.0, 1.0), (6, 30.0, 0.1), (7, 0.0, 8.0), (7, 25.0, 5.0), (6, -20.0, 1.5), (7, -50.0, 8.0)]
    {
        let law = Tabulated::new(bits, LogNormal { mu, sigma });
        draws(bits).for_each(|draw| {
            law.check(draw);
        });
    }
}

#[test]
fn normal_amounts_are_accurate_everywhere() {
    for (mean, deviation) in
        [(300.0, 120.0), (0.0, 1.0), (8.0, 3.0), (1.0, 2.0), (0.0, 1e5), (1e9, 1.0), (1e5, 1e9)]
    {
        let law = Tabulated::new(6, Normal { mean, deviation });
        let error = draws(6).map(|draw| law.check(draw)).fold(0.0, f64::max);
        let bias = relative_bias(&law);
        println!("normal({mean}, {deviation}): error {error:.2e}, relative bias of the mean {bias:+.2e}");
        assert!(error < 5e-8 && bias.abs() < 1e-8, "normal({mean}, {deviation}): {error}, {bias}");
    }
}
