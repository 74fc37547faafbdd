//! The normal and the lognormal law in f64: distribution, quantile, limited expected value. From
//! published series and approximations; the standard library's functions suffice here, since no
//! result of them is hashed.
#![allow(clippy::disallowed_methods, reason = "references for statistics, not results")]

use std::f64::consts::PI;

/// The density φ(x).
pub fn density(x: f64) -> f64 {
    (-x * x / 2.0).exp() / (2.0 * PI).sqrt()
}

/// Φ(x), with relative error below 10^-14 in the lower tail (Abramowitz and Stegun 26.2.11 and
/// 26.2.14).
pub fn phi(x: f64) -> f64 {
    if x > 0.0 {
        return 1.0 - phi(-x);
    }
    let x = -x;
    if x < 2.5 {
        let odd = (1..200).map(|n| f64::from(2 * n + 1));
        let terms = odd.scan(x, |term, odd| {
            *term *= x * x / odd;
            Some(*term)
        });
        return 0.5 - density(x) * (x + terms.sum::<f64>());
    }
    let fraction = (1..200).rev().fold(x, |fraction, n| x + f64::from(n) / fraction);
    density(x) / fraction
}

/// Φ^(−1)(t) for 0 < t ≤ 1/2, to about 16 digits: algorithm AS 241 (Wichura 1988, Applied
/// Statistics 37).
pub fn quantile(t: f64) -> f64 {
    assert!(0.0 < t && t <= 0.5);
    let q = t - 0.5;
    if q >= -0.425 {
        let r = 0.180_625 - q * q;
        return q * ratio(&CENTRE, r);
    }
    let r = (-t.ln()).sqrt();
    if r <= 5.0 { -ratio(&MIDDLE, r - 1.6) } else { -ratio(&TAIL, r - 5.0) }
}

/// Coefficients of numerator and denominator.
type Rational = [[f64; 8]; 2];

fn ratio([over, under]: &Rational, x: f64) -> f64 {
    let polynomial = |c: &[f64; 8]| c.iter().rev().fold(0.0, |sum, c| sum * x + c);
    polynomial(over) / polynomial(under)
}

const CENTRE: Rational = [
    [
        3.387_132_872_796_366_5,
        1.331_416_678_917_843_8e2,
        1.971_590_950_306_551_3e3,
        1.373_169_376_550_946e4,
        4.592_195_393_154_987e4,
        6.726_577_092_700_87e4,
        3.343_057_558_358_813e4,
        2.509_080_928_730_122_7e3,
    ],
    [
        1.0,
        4.231_333_070_160_091e1,
        6.871_870_074_920_579e2,
        5.394_196_021_424_751e3,
        2.121_379_430_158_659_7e4,
        3.930_789_580_009_271e4,
        2.872_908_573_572_194_3e4,
        5.226_495_278_852_854e3,
    ],
];
const MIDDLE: Rational = [
    [
        1.423_437_110_749_683_6,
        4.630_337_846_156_546,
        5.769_497_221_460_691,
        3.647_848_324_763_204_5,
        1.270_458_252_452_368_4,
        2.417_807_251_774_506e-1,
        2.272_384_498_926_918_4e-2,
        7.745_450_142_783_414e-4,
    ],
    [
        1.0,
        2.053_191_626_637_759,
        1.676_384_830_183_803_8,
        6.897_673_349_851e-1,
        1.481_039_764_274_800_8e-1,
        1.519_866_656_361_645_7e-2,
        5.475_938_084_995_345e-4,
        1.050_750_071_644_416_8e-9,
    ],
];
const TAIL: Rational = [
    [
        6.657_904_643_501_103,
        5.463_784_911_164_114,
        1.784_826_539_917_291_3,
        2.965_605_718_285_048_7e-1,
        2.653_218_952_657_612_4e-2,
        1.242_660_947_388_078_4e-3,
        2.711_555_568_743_487_6e-5,
        2.010_334_399_292_288_1e-7,
    ],
    [
        1.0,
        5.998_322_065_558_88e-1,
        1.369_298_809_227_358e-1,
        1.487_536_129_085_061_5e-2,
        7.868_691_311_456_133e-4,
        1.846_318_317_510_054_8e-5,
        1.421_511_758_316_446e-7,
        2.044_263_103_389_939_8e-15,
    ],
];

/// A lognormal law.
#[derive(Debug, Clone, Copy)]
pub struct LogNormal {
    pub mu: f64,
    pub sigma: f64,
}

impl LogNormal {
    /// P(X ≤ x).
    pub fn cdf(self, x: f64) -> f64 {
        if x <= 0.0 { 0.0 } else { phi((x.ln() - self.mu) / self.sigma) }
    }

    /// E[X].
    pub fn mean(self) -> f64 {
        (self.mu + self.sigma * self.sigma / 2.0).exp()
    }

    /// E[X²].
    pub fn second_moment(self) -> f64 {
        (2.0 * self.mu + 2.0 * self.sigma * self.sigma).exp()
    }

    /// E[min(X, limit)] (Klugman, Panjer, Willmot, "Loss Models", appendix A).
    pub fn limited_mean(self, limit: f64) -> f64 {
        if limit <= 0.0 {
            return 0.0;
        }
        let z = (limit.ln() - self.mu) / self.sigma;
        self.mean() * phi(z - self.sigma) + limit * phi(-z)
    }

    /// E[min(X, limit)²].
    pub fn limited_second_moment(self, limit: f64) -> f64 {
        let z = (limit.ln() - self.mu) / self.sigma;
        self.second_moment() * phi(z - 2.0 * self.sigma) + limit * limit * phi(-z)
    }
}
