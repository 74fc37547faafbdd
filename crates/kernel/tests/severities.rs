//! Proves the quantile tables of severities: every entry of the laws with a closed quantile, and
//! the nodes of the others by their distribution functions, against arbitrary precision.

mod common;

use std::sync::OnceLock;

use common::{
    exact_table::{Values, assert_same},
    precise::{Ball, FRACTION, Real, halves, lower_tail, magnitude, node_position, of_dd, real},
};
use dashu_int::{IBig, UBig};
use forge_kernel::{
    beta, gamma, inverse_gaussian, severities::SeverityLaw, standard_quantiles::StandardQuantiles, tables,
};

/// The exponential quantile at the nodes with 4 segment bits, of the lower and of the upper half.
fn exponential_nodes() -> &'static [Vec<Real>; 2] {
    static NODES: OnceLock<[Vec<Real>; 2]> = OnceLock::new();
    NODES.get_or_init(|| {
        let quantile = |i: usize, upper: bool| {
            let t = if i == 64 * 32 { real(0.5) } else { node_position(i, 32) };
            -(if upper { t } else { real(1.0) - t }).ln()
        };
        [false, true].map(|upper| halves(64 * 32 + 1, |i| quantile(i, upper)))
    })
}

/// Checks every entry of a law that is a function of the exponential quantile.
fn check_exponential(law: SeverityLaw, amount: impl Fn(&Real) -> Real + Sync) {
    let nodes = exponential_nodes();
    let q = |i: usize, upper: bool| Ball::near(&(amount(&nodes[usize::from(upper)][i]) * real(100.0)));
    let expected = Values::new(nodes[0].len(), Some(IBig::ZERO), q).table();
    assert_same(&law.table(100, 4).expect("every floor is decided"), &expected, &format!("{law:?}"));
}

#[test]
fn tables_of_exponential_and_weibull_laws_are_exact() {
    for mean in [0.03, 1e12] {
        check_exponential(SeverityLaw::Exponential { mean }, |e| e * real(mean));
    }
    for (shape, scale) in [(0.3, 10.0), (3.5, 1e6)] {
        let amount = |e: &Real| (e.ln() / real(shape)).exp() * real(scale);
        check_exponential(SeverityLaw::Weibull { shape, scale }, amount);
    }
}

#[test]
fn tables_of_pareto_laws_are_exact() {
    check_exponential(SeverityLaw::Pareto { threshold: 250_000.0, alpha: 1.6 }, |e| {
        (e / real(1.6)).exp() * real(250_000.0)
    });
    let lomax = SeverityLaw::Lomax { alpha: 0.9, scale: 1e4 };
    check_exponential(lomax, |e| ((e / real(0.9)).exp() - real(1.0)) * real(1e4));
    for (threshold, scale, xi) in [(300_000.0, 210_000.0, 0.55), (10.0, 7.0, 1e-9), (5.0, 1_000.0, -0.4)] {
        let excess = |e: &Real| ((e * real(xi)).exp() - real(1.0)) / real(xi);
        let law = SeverityLaw::Gpd { threshold, scale, xi };
        check_exponential(law, |e| real(threshold) + excess(e) * real(scale));
    }
    let without_shape = SeverityLaw::Gpd { threshold: 1.0, scale: 9.0, xi: 0.0 };
    check_exponential(without_shape, |e| real(1.0) + e * real(9.0));
    check_exponential(SeverityLaw::Burr { alpha: 1.2, scale: 5e4, gamma: 0.8 }, |e| {
        let excess = (e / real(1.2)).exp() - real(1.0);
        (excess.ln() / real(0.8)).exp() * real(5e4)
    });
}

/// Checks every entry of a law whose quantiles are rational at many nodes. `scaled` is
/// ⌊Q · 2^FRACTION⌋ at the survival probability n / 2^k.
fn check_rational(law: SeverityLaw, scaled: impl Fn(&UBig, usize) -> UBig + Sync) {
    let bits = 65 + 7;
    let q = |i: usize, upper: bool| {
        let (octave, place) = (i / 128, i % 128);
        let distance = UBig::from(128 + place as u64) << octave;
        let survival = if upper { distance } else { (UBig::ONE << bits) - distance };
        Ball { centre: scaled(&survival, bits).into(), radius: IBig::ZERO }
    };
    let expected = Values::new(64 * 128 + 1, None, q).table();
    assert_same(&law.table(100, 6).expect("every floor is decided"), &expected, &format!("{law:?}"));
}

#[test]
fn tables_with_rational_quantiles_are_exact() {
    let unit = UBig::from(100u32) << FRACTION;
    let inverse = |n: &UBig, k: usize| ((&unit * 250u32) << k) / n;
    check_rational(SeverityLaw::Pareto { threshold: 250.0, alpha: 1.0 }, inverse);
    let square = |n: &UBig, k: usize| ((&unit * 3u32) << (2 * k)) / (n * n);
    check_rational(SeverityLaw::Pareto { threshold: 3.0, alpha: 0.5 }, square);
    let root = |n: &UBig, k: usize| (((&unit * &unit * 40_000u32) << k) / n).nth_root(2);
    check_rational(SeverityLaw::Pareto { threshold: 200.0, alpha: 2.0 }, root);
    // c / s − c, whose floor is that of c / s, less c.
    let excess = |n: &UBig, k: usize| ((&unit * 10u32) << k) / n - &unit * 10u32;
    check_rational(SeverityLaw::Lomax { alpha: 1.0, scale: 10.0 }, excess);
    check_rational(SeverityLaw::Gpd { threshold: 0.0, scale: 10.0, xi: 1.0 }, excess);
    check_rational(SeverityLaw::Burr { alpha: 1.0, scale: 10.0, gamma: 1.0 }, excess);
    // (1 − s) · c
    let bounded = |n: &UBig, k: usize| (&unit * 8u32 * ((UBig::ONE << k) - n)) >> k;
    check_rational(SeverityLaw::Gpd { threshold: 0.0, scale: 8.0, xi: -1.0 }, bounded);
    check_rational(SeverityLaw::Uniform { low: 0.0, high: 8.0 }, bounded);
    // 1 − √s, whose floor is that of the scale less the ceiling of the root.
    let beta = |n: &UBig, k: usize| {
        let root = (((&unit * &unit * 64u32) << k) * n) >> (2 * k);
        &unit * 8u32 - root.nth_root(2) - UBig::from(u8::from(root.nth_root(2).pow(2) != root))
    };
    check_rational(SeverityLaw::Beta { a: 1.0, b: 2.0, scale: 8.0 }, beta);
    // The medians of symmetric laws, and quantiles of polynomials: F(1/4) = 5/32.
    for (a, b) in [(0.5, 0.5), (2.0, 2.0), (3.0, 2.0), (1e5, 1e5)] {
        SeverityLaw::Beta { a, b, scale: 1_000.0 }.table(100, 6).expect("every floor is decided");
    }
    // The quantile is the scale where the inner power is 2, whatever the outer exponent is.
    for (alpha, gamma) in [(2.0, 3.3), (1.0, 0.7), (0.5, 2.0)] {
        SeverityLaw::Burr { alpha, scale: 1_000.0, gamma }.table(100, 6).expect("every floor is decided");
    }
}

#[test]
fn tables_of_uniform_laws_are_exact() {
    for (low, high) in [(0.0, 8.0), (1e6, 3e7), (0.1, 0.3)] {
        let q = |i: usize, upper: bool| {
            let t = if i == 64 * 128 { real(0.5) } else { node_position(i, 128) };
            let u = if upper { real(1.0) - t } else { t };
            Ball::exact(&((real(low) + u * (real(high) - real(low))) * real(100.0)))
        };
        let expected = Values::new(64 * 128 + 1, Some(IBig::ZERO), q).table();
        let law = SeverityLaw::Uniform { low, high };
        assert_same(&law.table(100, 6).expect("every floor is decided"), &expected, &format!("{law:?}"));
    }
}

/// Checks the nodes of a law, with 4 segment bits, by its distribution function: `beyond` is the
/// probability of the quantile's half beyond it, and `density` that of x.
fn check_nodes(
    quantiles: &StandardQuantiles,
    error: f64,
    beyond: impl Fn(bool, &Real) -> Real + Sync,
    density: impl Fn(&Real) -> Real + Sync,
) {
    for (upper, nodes) in [(false, &quantiles.lower), (true, &quantiles.upper)] {
        let errors = halves(nodes.len() / 5, |i| {
            let (t, x) = (real(quantiles.distances[5 * i]), of_dd(nodes[5 * i]));
            let step = (t - beyond(upper, &x)) / density(&x);
            (magnitude(&step) / x).to_f64().value()
        });
        let worst = errors.into_iter().fold(0.0, f64::max);
        assert!(
            worst < error,
            "relative error {worst:e} of the {} half",
            if upper { "upper" } else { "lower" }
        );
    }
}

#[test]
fn nodes_of_gamma_laws_are_quantiles() {
    let one = || real(1.0);
    let error = tables::RELATIVE_ERROR;
    // 1 − (1 + x)·e^−x, by its series where x is small.
    let lower_of_2 = |x: &Real| {
        if *x > real(0.5) {
            return one() - (one() + x) * (-x.clone()).exp();
        }
        // Σ (−1)ⁿ·(n − 1)·xⁿ / n!
        let (mut power, mut sum) = (x.clone(), real(0.0));
        for n in 2..60 {
            power = -(power * x) / real(f64::from(n));
            sum -= &power * real(f64::from(n - 1));
        }
        sum
    };
    check_nodes(
        &gamma::quantiles(2.0, 4),
        error,
        |upper, x| if upper { (one() + x) * (-x.clone()).exp() } else { lower_of_2(x) },
        |x| x * (-x.clone()).exp(),
    );
    // Half the square of a standard normal variable. Its lower half needs a series of its own.
    let quantiles = gamma::quantiles(0.5, 4);
    for (i, &t) in quantiles.distances.iter().enumerate().step_by(7) {
        let root = (of_dd(quantiles.upper[i]) * real(2.0)).sqrt();
        let (tail, density) = lower_tail(&-root.clone());
        let step = (real(t) / real(2.0) - tail) / (density * root);
        assert!(magnitude(&step).to_f64().value() < error, "t = {t:e}");
    }
}

#[test]
fn nodes_of_inverse_gaussian_laws_are_quantiles() {
    let shape = real(1.0);
    let terms = |x: &Real| {
        let root = x.sqrt();
        let deviation = &root - real(1.0) / &root;
        (deviation, &root + real(1.0) / &root)
    };
    check_nodes(
        &inverse_gaussian::quantiles(1.0, 4),
        tables::RELATIVE_ERROR,
        |upper, x| {
            let (deviation, sum) = terms(x);
            let reflected = (real(2.0) * &shape).exp() * lower_tail(&-sum).0;
            let sign = if deviation < real(0.0) { real(-1.0) } else { real(1.0) };
            let outside = lower_tail(&-magnitude(&deviation)).0;
            // The first term is the probability outside of the deviation, or inside of it.
            match (upper, sign > real(0.0)) {
                (true, true) => outside - reflected,
                (true, false) => real(1.0) - outside - reflected,
                (false, false) => outside + reflected,
                (false, true) => real(1.0) - outside + reflected,
            }
        },
        |x| {
            let (deviation, _) = terms(x);
            lower_tail(&-magnitude(&deviation)).1 / (x * x.sqrt())
        },
    );
}

#[test]
fn nodes_of_beta_laws_are_quantiles() {
    let one = || real(1.0);
    // 3x² − 2x³, and 6x² − 8x³ + 3x⁴ with 1 − F = (1 − x)³·(1 + 3x).
    let square = |x: &Real| x * x * (real(3.0) - real(2.0) * x);
    check_nodes(
        &beta::quantiles(2.0, 2.0, 4),
        beta::RELATIVE_ERROR,
        |upper, x| if upper { square(&(one() - x)) } else { square(x) },
        |x| real(6.0) * x * (one() - x),
    );
    check_nodes(
        &beta::quantiles(2.0, 3.0, 4),
        beta::RELATIVE_ERROR,
        |upper, x| {
            let rest = one() - x;
            if upper {
                &rest * &rest * &rest * (one() + real(3.0) * x)
            } else {
                x * x * (real(6.0) - real(8.0) * x + real(3.0) * x * x)
            }
        },
        |x| real(12.0) * x * (one() - x) * (one() - x),
    );
}
