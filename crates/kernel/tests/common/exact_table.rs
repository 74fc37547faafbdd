//! Quantile tables entry by entry, as docs/determinism.md, section 5.2, defines them, from numbers
//! in proven intervals.

use dashu_int::IBig;
use forge_contract::program::Segment;

use super::precise::{Ball, FRACTION, halves};

/// The reference for a quantile table: V = Q + 1/2 at the nodes, ascending in t on the lower side,
/// then on the upper.
pub struct Values {
    lower: Vec<Ball>,
    upper: Vec<Ball>,
}

impl Values {
    /// V from Q at every node; `q(i, upper)` is Q at z of node i or at −z. `floor` is a number
    /// below which no Q lies.
    pub fn new(count: usize, floor: Option<IBig>, q: impl Fn(usize, bool) -> Ball + Sync) -> Self {
        let half = IBig::ONE << (FRACTION - 1);
        let limit = IBig::ONE << (FRACTION + 54);
        let value = |i, upper| {
            let mut ball = q(i, upper);
            if floor.as_ref().is_some_and(|floor| &ball.centre - &ball.radius < *floor) {
                // Q lies in the part of the interval above the floor, so it exceeds the floor by
                // less than 2·radius.
                ball.centre = floor.clone().expect("there is one") + &ball.radius;
            }
            ball.centre += &half;
            for limit in [limit.clone(), -limit.clone()] {
                if (limit > IBig::ZERO) == (ball.centre > IBig::ZERO) && beyond(&ball.centre, &limit) {
                    ball = Ball { centre: limit, radius: IBig::ZERO };
                }
            }
            ball
        };
        Self { lower: halves(count, |i| value(i, false)), upper: halves(count, |i| value(i, true)) }
    }

    /// The table's entries.
    pub fn table(&self) -> Vec<Segment> {
        let lower = self.lower.windows(3).step_by(2).map(|v| entry(&v[0], &v[1], &v[2]));
        let upper = self.upper.windows(3).step_by(2).map(|v| entry(&v[2], &v[1], &v[0]));
        lower.chain(upper).collect()
    }
}

fn absolute(x: &IBig) -> IBig {
    if *x < IBig::ZERO { -x } else { x.clone() }
}

fn beyond(x: &IBig, limit: &IBig) -> bool {
    absolute(x) > absolute(limit)
}

/// One entry, as section 5.2 defines it.
fn entry(left: &Ball, middle: &Ball, right: &Ball) -> Segment {
    let largest = absolute(&left.centre).max(absolute(&right.centre));
    let exponent =
        (-29..).find(|e| largest < IBig::ONE << (FRACTION as i32 + 29 + e) as usize).expect("a finite value");
    let [a, b, c] = [left, middle, right].map(|v| v.floor(exponent));
    let word = |x: IBig| i32::try_from(x).expect("an i32");
    Segment {
        left: word(a.clone()),
        slope: word(&b * 4 - &a * 3 - &c),
        curve: word((a - b * 2 + c) * 2),
        shift: (31 - exponent) as u32,
    }
}

pub fn assert_same(found: &[Segment], expected: &[Segment], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert_eq!(found, expected, "entry {i} of {what}");
    }
}
