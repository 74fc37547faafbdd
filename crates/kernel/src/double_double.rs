//! Double-double arithmetic: a number as the unevaluated sum of two f64, with about 106 significant
//! bits.
//!
//! Uses IEEE `+ - * /` and exact scaling only, so every machine computes the same bits. Sources:
//! Dekker (1971), "A floating-point technique for extending the available precision"; Joldes,
//! Muller, Popescu (2017), "Tight and rigorous error bounds for basic building blocks of
//! double-word arithmetic". Does not guard against overflow: the caller keeps |x| below 2^900.

use std::{
    ops::{Add, Div, Mul, Neg, Sub},
    sync::LazyLock,
};

/// A number `hi + lo` with |lo| ≤ ulp(hi) / 2.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DoubleDouble {
    hi: f64,
    lo: f64,
}

const LN_2: DoubleDouble = DoubleDouble { hi: std::f64::consts::LN_2, lo: 2.319_046_813_846_299_6e-17 };

/// 1/n! for n = 2 to 10.
const INVERSE_FACTORIALS: [DoubleDouble; 9] = [
    DoubleDouble::new(0.5, 0.0),
    DoubleDouble::new(0.166_666_666_666_666_66, 9.251_858_538_542_97e-18),
    DoubleDouble::new(0.041_666_666_666_666_664, 2.312_964_634_635_742_7e-18),
    DoubleDouble::new(0.008_333_333_333_333_333, 1.156_482_317_317_871_4e-19),
    DoubleDouble::new(0.001_388_888_888_888_889, -5.300_543_954_373_577e-20),
    DoubleDouble::new(0.000_198_412_698_412_698_4, 1.720_955_829_342_070_5e-22),
    DoubleDouble::new(2.480_158_730_158_73e-5, 2.151_194_786_677_588_2e-23),
    DoubleDouble::new(2.755_731_922_398_589_3e-6, -1.858_393_274_046_472e-22),
    DoubleDouble::new(2.755_731_922_398_589e-7, 2.376_771_462_225_029_7e-23),
];

/// 1/(2n + 1) for n = 0 to 23.
static INVERSE_ODD_NUMBERS: LazyLock<[DoubleDouble; 24]> = LazyLock::new(|| {
    std::array::from_fn(|n| DoubleDouble::ONE / DoubleDouble::from(f64::from(2 * n as u32 + 1)))
});

/// `a + b` exactly, as rounded sum and error (Knuth).
fn two_sum(a: f64, b: f64) -> DoubleDouble {
    let hi = a + b;
    let b_part = hi - a;
    DoubleDouble { hi, lo: (a - (hi - b_part)) + (b - b_part) }
}

/// `a + b` exactly, for |a| ≥ |b| or a = 0 (Dekker).
fn fast_two_sum(a: f64, b: f64) -> DoubleDouble {
    let hi = a + b;
    DoubleDouble { hi, lo: b - (hi - a) }
}

/// Splits into two halves of at most 26 bits (Veltkamp).
fn split(a: f64) -> (f64, f64) {
    let scaled = 134_217_729.0 * a; // 2^27 + 1
    let high = scaled - (scaled - a);
    (high, a - high)
}

/// `a · b` exactly, as rounded product and error (Dekker). Avoids fused multiply-add, which is a
/// slow library call on CPUs without the instruction.
fn two_prod(a: f64, b: f64) -> DoubleDouble {
    let hi = a * b;
    let ((ah, al), (bh, bl)) = (split(a), split(b));
    DoubleDouble { hi, lo: ((ah * bh - hi) + ah * bl + al * bh) + al * bl }
}

impl DoubleDouble {
    /// 0.
    pub const ZERO: Self = Self { hi: 0.0, lo: 0.0 };
    /// 1.
    pub const ONE: Self = Self { hi: 1.0, lo: 0.0 };

    /// The number `hi + lo`, where |lo| ≤ ulp(hi) / 2.
    pub const fn new(hi: f64, lo: f64) -> Self {
        Self { hi, lo }
    }

    /// The exact product of two f64.
    pub fn product(a: f64, b: f64) -> Self {
        two_prod(a, b)
    }

    /// The number rounded to the nearest f64, which is its leading part.
    pub fn to_f64(self) -> f64 {
        self.hi
    }

    /// The leading and the trailing part.
    pub fn parts(self) -> (f64, f64) {
        (self.hi, self.lo)
    }

    /// The product with `factor`: exact for a power of two, else rounded in either part.
    pub fn scale(self, factor: f64) -> Self {
        Self { hi: self.hi * factor, lo: self.lo * factor }
    }

    /// Absolute value.
    pub fn abs(self) -> Self {
        if self.hi < 0.0 { -self } else { self }
    }

    /// Whether `self < other`.
    pub fn is_less_than(self, other: Self) -> bool {
        self.hi < other.hi || (self.hi == other.hi && self.lo < other.lo)
    }

    /// The largest integer not above the number, which must be within ±2^62.
    pub fn floor(self) -> i64 {
        let floor = self.hi.floor();
        if floor == self.hi { floor as i64 + self.lo.floor() as i64 } else { floor as i64 }
    }

    /// The square root of a normal x > 0, with relative error below 2^-100: a Newton step from the
    /// f64 root.
    pub fn sqrt(self) -> Self {
        let root = Self::from(self.hi.sqrt());
        root + (self - root * root) / root.scale(2.0)
    }

    /// e^x for |x| ≤ 600, with relative error below 2^-95; exactly 1 at 0.
    pub fn exp(self) -> Self {
        let (k, s) = self.reduced_exp_m1();
        (Self::ONE + s).scale(power_of_two(k))
    }

    /// e^x − 1 for |x| ≤ 600, with relative error below 2^-92; exactly 0 at 0.
    pub fn exp_m1(self) -> Self {
        let (k, s) = self.reduced_exp_m1();
        if k == 0 { s } else { (Self::ONE + s).scale(power_of_two(k)) - Self::ONE }
    }

    /// k and e^(x − k·ln 2) − 1, for the nearest k.
    ///
    /// x = k·ln 2 + 512·r with |r| < 0.0007. The Taylor series gives s = e^r − 1, and nine
    /// doublings by (1 + s)² − 1 = 2s + s² give e^(512·r) − 1.
    fn reduced_exp_m1(self) -> (i32, Self) {
        let k = (self.hi / std::f64::consts::LN_2).round();
        let r = (self - LN_2 * Self::from(k)).scale(1.0 / 512.0);
        let series = INVERSE_FACTORIALS.iter().rev().fold(Self::ZERO, |sum, &c| sum * r + c);
        let mut s = r + series * r * r;
        for _ in 0..9 {
            s = s.scale(2.0) + s * s;
        }
        (k as i32, s)
    }

    /// ln x for a normal x > 0, with absolute error below 2^-95 + 2^-95·|ln x|.
    pub fn ln(self) -> Self {
        // x = m · 2^k with m in [0.7, 1.5), so that no digits cancel near 1.
        let mut k = (self.hi.to_bits() >> 52) as i32 - 1023;
        let mut m = self.scale(power_of_two(-k));
        if m.hi >= 1.5 {
            (k, m) = (k + 1, m.scale(0.5));
        }
        (m - Self::ONE).ln_1p() + LN_2 * Self::from(f64::from(k))
    }

    /// ln(1 + x) for −0.3 ≤ x ≤ 0.5, with relative error below 2^-95: 2·atanh(x / (2 + x)), by its
    /// series.
    pub fn ln_1p(self) -> Self {
        let y = self / (Self::from(2.0) + self);
        let square = y * y;
        // |y| ≤ 0.2: 24 terms of at least 4.6 bits each.
        let series = INVERSE_ODD_NUMBERS.iter().rev().fold(Self::ZERO, |sum, &c| sum * square + c);
        y.scale(2.0) * series
    }
}

/// 2^exponent, for exponents from −1022 to 1023.
pub fn power_of_two(exponent: i32) -> f64 {
    f64::from_bits(((exponent + 1023) as u64) << 52)
}

impl From<f64> for DoubleDouble {
    fn from(hi: f64) -> Self {
        Self { hi, lo: 0.0 }
    }
}

impl Neg for DoubleDouble {
    type Output = Self;

    fn neg(self) -> Self {
        Self { hi: -self.hi, lo: -self.lo }
    }
}

impl Add for DoubleDouble {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        let high = two_sum(self.hi, other.hi);
        let low = two_sum(self.lo, other.lo);
        let sum = fast_two_sum(high.hi, high.lo + low.hi);
        fast_two_sum(sum.hi, low.lo + sum.lo)
    }
}

impl Sub for DoubleDouble {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        self + -other
    }
}

impl Mul for DoubleDouble {
    type Output = Self;

    fn mul(self, other: Self) -> Self {
        let product = two_prod(self.hi, other.hi);
        fast_two_sum(product.hi, product.lo + (self.hi * other.lo + self.lo * other.hi))
    }
}

impl Div for DoubleDouble {
    type Output = Self;

    /// Relative error below 2^-100.
    fn div(self, other: Self) -> Self {
        let first = self.hi / other.hi;
        let rest = self - other * Self::from(first);
        let second = rest.hi / other.hi;
        let rest = rest - other * Self::from(second);
        fast_two_sum(first, second) + Self::from(rest.hi / other.hi)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_close(a: DoubleDouble, b: DoubleDouble) -> bool {
        let difference = (a - b).abs().to_f64();
        difference <= b.abs().to_f64() * power_of_two(-95)
    }

    #[test]
    fn sums_and_products_are_exact_where_they_fit() {
        let tiny = power_of_two(-90);
        assert_eq!((DoubleDouble::from(1.0) + DoubleDouble::from(tiny)).parts(), (1.0, tiny));
        let square = DoubleDouble::product(1.0 + power_of_two(-52), 1.0 + power_of_two(-52));
        assert_eq!(square.parts(), (1.0 + power_of_two(-51), power_of_two(-104)));
        let third = DoubleDouble::ONE / DoubleDouble::from(3.0);
        assert!(is_close(third * DoubleDouble::from(3.0), DoubleDouble::ONE));
    }

    #[test]
    fn exp_satisfies_its_functional_equations() {
        assert_eq!(DoubleDouble::ZERO.exp(), DoubleDouble::ONE);
        // e to 40 digits is 2.718281828459045235360287471352662497757; the second part is e minus
        // the first.
        assert!(is_close(
            DoubleDouble::ONE.exp(),
            DoubleDouble::new(std::f64::consts::E, 1.445_646_891_729_250_2e-16)
        ));
        for x in [0.1, 0.5, 1.0, 10.0, 77.7, 300.0] {
            let x = DoubleDouble::from(x);
            assert!(is_close(x.exp() * (-x).exp(), DoubleDouble::ONE), "{x:?}");
            assert!(is_close((x + DoubleDouble::ONE).exp(), x.exp() * DoubleDouble::ONE.exp()), "{x:?}");
        }
    }

    #[test]
    fn square_roots_square_back() {
        for x in [1e-200, 0.3, 2.0, 3.0, 1e10] {
            let x = DoubleDouble::from(x);
            assert!(is_close(x.sqrt() * x.sqrt(), x), "{x:?}");
        }
    }

    #[test]
    fn ln_inverts_exp() {
        assert_eq!(DoubleDouble::ONE.ln(), DoubleDouble::ZERO);
        assert!(is_close(DoubleDouble::from(2.0).ln(), LN_2));
        for x in [1e-300, 1e-20, 0.3, 0.999_999, 1.4, 1.5, 7.0, 1e10, 1e200] {
            let x = DoubleDouble::from(x);
            assert!(((x.ln().exp() - x) / x).abs().to_f64() < power_of_two(-85), "{x:?}");
        }
    }

    #[test]
    fn exp_m1_keeps_small_values() {
        let tiny = DoubleDouble::from(power_of_two(-60));
        // e^x − 1 = x + x²/2 + …
        assert!(is_close(tiny.exp_m1(), tiny + (tiny * tiny).scale(0.5)));
        for x in [0.1, 0.34, 0.35, 0.7, 5.0, 80.0] {
            let x = DoubleDouble::from(x);
            assert!(is_close(x.exp_m1() + DoubleDouble::ONE, x.exp()), "{x:?}");
        }
    }

    #[test]
    fn floor_considers_both_parts() {
        let tiny = power_of_two(-80);
        assert_eq!((DoubleDouble::from(7.0) - DoubleDouble::from(tiny)).floor(), 6);
        assert_eq!((DoubleDouble::from(7.0) + DoubleDouble::from(tiny)).floor(), 7);
        assert_eq!((DoubleDouble::from(-7.0) - DoubleDouble::from(tiny)).floor(), -8);
    }
}
