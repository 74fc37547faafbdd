//! Quantile functions by Taylor steps of their differential equation (Steinbrecher and Shaw 2008,
//! "Quantile mechanics"), at the nodes of the quantile tables.
//!
//! The steps run from a far end to the middle: in that direction an error shrinks in proportion to
//! the slope, and in the other it would grow by a factor of 2^62. All arithmetic is double-double.

use std::{array::from_fn, sync::LazyLock};

use forge_contract::program::OCTAVES;

use crate::double_double::{DoubleDouble, power_of_two};

/// Taylor steps in an octave. A step spans 1/16 of the octave's lower end, so each term adds at
/// least 4 bits where the nearest singularity is t = 0.
pub const STEPS_PER_OCTAVE: usize = 16;
/// Terms of the Taylor series: 28 of at least 4 bits each.
pub const TERMS: usize = 28;

/// Taylor coefficients about a point.
pub type Series = [DoubleDouble; TERMS];

/// The differential equation of a quantile y, or of a function of it, as a function of the distance
/// t from one end of the distribution: y″ = g(y)·y′².
pub trait QuantileEquation {
    /// y at t = 2^-65.
    fn far_end(&self) -> DoubleDouble;

    /// dy/dt at y.
    fn slope(&self, y: DoubleDouble) -> DoubleDouble;

    /// The state from which [`QuantileEquation::factor`] computes g(y): the functions of y in it,
    /// at a point.
    fn start(&self, y: DoubleDouble) -> State;

    /// Given coefficients 0 to n of y and of y′, sets coefficient n of the functions of y in
    /// `state`, and returns coefficient n of g(y).
    fn factor(&self, n: usize, slopes: &Series, state: &mut State) -> DoubleDouble;

    /// Taylor steps in an octave that begins at y, a power of two: more where a singularity of the
    /// complex plane is nearer than t = 0.
    fn steps_per_octave(&self, _y: DoubleDouble) -> usize {
        STEPS_PER_OCTAVE
    }

    /// The quantile of y.
    fn quantile(&self, y: DoubleDouble) -> DoubleDouble;
}

/// Taylor coefficients of two functions of y; an equation uses as many as it needs.
#[derive(Clone, Copy)]
pub struct State {
    pub first: Series,
    /// The other function.
    pub second: Series,
}

impl State {
    /// Functions with these values at the point.
    pub fn new(first: DoubleDouble, second: DoubleDouble) -> Self {
        let at_zero = |value| from_fn(|n| if n == 0 { value } else { DoubleDouble::ZERO });
        Self { first: at_zero(first), second: at_zero(second) }
    }
}

/// Coefficient n of the product of two series.
pub fn product(a: &Series, b: &Series, n: usize) -> DoubleDouble {
    sum_of_products(a, b, n, n + 1)
}

/// Coefficient n of the square of a series: products of two different coefficients count twice.
pub fn square(a: &Series, n: usize) -> DoubleDouble {
    let twice = sum_of_products(a, a, n, n.div_ceil(2)).scale(2.0);
    if n.is_multiple_of(2) { twice + a[n / 2] * a[n / 2] } else { twice }
}

/// The sum of the first `terms` products a_i · b_(n−i): four sums, which do not wait for one
/// another.
fn sum_of_products(a: &Series, b: &Series, n: usize, terms: usize) -> DoubleDouble {
    let mut sums = [DoubleDouble::ZERO; 4];
    for first in (0..terms).step_by(4) {
        for (at, sum) in (first..terms).zip(&mut sums) {
            *sum = *sum + a[at] * b[n - at];
        }
    }
    (sums[0] + sums[1]) + (sums[2] + sums[3])
}

/// 1/n for n from 1 on, at n − 1.
pub static INVERSES: LazyLock<Series> =
    LazyLock::new(|| from_fn(|n| DoubleDouble::ONE / DoubleDouble::from(f64::from(n as u32 + 1))));

/// Taylor coefficients of y about a point, term by term.
pub fn taylor_series(equation: &impl QuantileEquation, y: DoubleDouble, slope: DoubleDouble) -> Series {
    let zeros = [DoubleDouble::ZERO; TERMS];
    let (mut ys, mut slopes, mut squares, mut factors) = (zeros, zeros, zeros, zeros);
    let mut state = equation.start(y);
    let inverses = &*INVERSES;
    (ys[0], slopes[0]) = (y, slope);
    for n in 0..TERMS - 1 {
        factors[n] = equation.factor(n, &slopes, &mut state);
        ys[n + 1] = slopes[n] * inverses[n];
        squares[n] = square(&slopes, n);
        slopes[n + 1] = product(&factors, &squares, n) * inverses[n];
    }
    ys
}

/// The value of a series. The even and the odd terms do not wait for one another.
pub fn evaluate(series: &Series, x: DoubleDouble) -> DoubleDouble {
    let square = x * x;
    let (mut even, mut odd) = (DoubleDouble::ZERO, DoubleDouble::ZERO);
    for pair in series.rchunks_exact(2) {
        even = even * square + pair[0];
        odd = odd * square + pair[1];
    }
    odd * x + even
}

/// The quantiles at the nodes of one half, ascending in t. Each of the 64 octaves has `per_octave`
/// nodes: node r·P + i is t = 2^(r−65) · (1 + i / P). The last of the 64·P + 1 nodes is t = 1/2.
pub fn nodes(equation: &impl QuantileEquation, per_octave: usize) -> Vec<DoubleDouble> {
    let mut nodes = Vec::with_capacity(OCTAVES * per_octave + 1);
    let step = 1.0 / per_octave as f64;
    let mut y = equation.far_end();
    for octave in 0..OCTAVES {
        let unit = power_of_two(octave as i32 - 65);
        let steps = equation.steps_per_octave(y);
        // Nodes a step, or steps a node.
        let (per_step, between) = ((per_octave / steps).max(1), (steps / per_octave).max(1));
        for index in 0..steps {
            let series = taylor_series(equation, y, equation.slope(y).scale(unit));
            let at = |x: f64| evaluate(&series, DoubleDouble::from(x));
            if index % between == 0 {
                nodes.extend((0..per_step).map(|i| equation.quantile(at(i as f64 * step))));
            }
            y = at(1.0 / steps as f64);
        }
    }
    nodes.push(equation.quantile(y));
    nodes
}

/// The root of an increasing function, by Newton's method from `start`. `function` gives its value
/// and its derivative.
pub fn newton(
    start: DoubleDouble,
    function: impl Fn(DoubleDouble) -> (DoubleDouble, DoubleDouble),
) -> DoubleDouble {
    let mut y = start;
    for _ in 0..300 {
        let (value, derivative) = function(y);
        let step = value / derivative;
        y = y - step;
        if step.abs().to_f64() < power_of_two(-98) * y.abs().to_f64().max(1.0) {
            break;
        }
    }
    y
}

/// e^x, with arguments cut to ±500: amounts beyond are 0, or too large for any table.
pub fn exp(x: DoubleDouble) -> DoubleDouble {
    const LIMIT: DoubleDouble = DoubleDouble::new(500.0, 0.0);
    let cut = if LIMIT.is_less_than(x) { LIMIT } else { x };
    if cut.is_less_than(-LIMIT) { (-LIMIT).exp() } else { cut.exp() }
}
