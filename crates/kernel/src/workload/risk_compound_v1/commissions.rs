//! What reinsurers pay back of a treaty's premium. It depends on what the treaty has ceded in a
//! year, so reports compute its mean (docs/determinism.md, section 11.1).

use crate::treaties::Proportion;

/// What a reinsurer pays back of the ceded premium.
#[derive(Debug, Clone, PartialEq)]
pub enum Commission {
    /// This fraction.
    Flat(Proportion),
    /// A fraction that depends on the loss ratio: the knots of a line, ascending, each a loss ratio
    /// and its rate. Outside, the rate is that of the nearest knot.
    Sliding(Vec<(Proportion, Proportion)>),
}

impl Commission {
    /// The commission of a year in which the treaty pays `paid`, for this ceded premium.
    pub fn of(&self, paid: f64, ceded: f64) -> f64 {
        match self {
            Self::Flat(rate) => ceded * fraction(*rate),
            Self::Sliding(knots) => ceded * sliding_rate(knots, paid / ceded),
        }
    }
}

fn sliding_rate(knots: &[(Proportion, Proportion)], loss_ratio: f64) -> f64 {
    let knot = |&(ratio, rate): &(Proportion, Proportion)| (fraction(ratio), fraction(rate));
    let knots: Vec<_> = knots.iter().map(knot).collect();
    if loss_ratio <= knots[0].0 {
        return knots[0].1;
    }
    let piece = knots.windows(2).find(|ends| loss_ratio <= ends[1].0);
    piece.map_or(knots[knots.len() - 1].1, |ends| {
        let [(low, low_rate), (high, high_rate)] = [ends[0], ends[1]];
        low_rate + (high_rate - low_rate) * ((loss_ratio - low) / (high - low))
    })
}

/// A reinsurer's share of its profit that it pays back.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ProfitCommission {
    /// The fraction of the profit.
    pub share: Proportion,
    /// The fraction of the ceded premium that the reinsurer keeps before there is a profit.
    pub margin: Proportion,
}

impl ProfitCommission {
    /// The profit commission of a year in which the treaty pays `paid`, for this ceded premium and
    /// commission.
    pub fn of(&self, paid: f64, ceded: f64, commission: f64) -> f64 {
        let profit = ceded * (1.0 - fraction(self.margin)) - commission - paid;
        fraction(self.share) * profit.max(0.0)
    }
}

/// A proportion as a number.
pub fn fraction(proportion: Proportion) -> f64 {
    f64::from(proportion.0) / f64::from(Proportion::ONE.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn percent(percent: u32) -> Proportion {
        Proportion(percent * 10_000)
    }

    #[test]
    fn sliding_commissions_are_linear_between_knots_and_constant_outside() {
        let scale = Commission::Sliding(vec![
            (percent(50), percent(40)),
            (percent(60), percent(30)),
            (percent(80), percent(25)),
        ]);
        let rates = [0.0, 50.0, 55.0, 60.0, 70.0, 80.0, 300.0].map(|paid| scale.of(paid, 100.0));
        let expected = [40.0, 40.0, 35.0, 30.0, 27.5, 25.0, 25.0];
        assert!(
            rates.iter().zip(expected).all(|(rate, expected)| (rate - expected).abs() < 1e-12),
            "{rates:?}"
        );
    }

    #[test]
    fn profit_commissions_are_a_share_of_what_is_left_after_margin_commission_and_losses() {
        let terms = ProfitCommission { share: percent(25), margin: percent(20) };
        let found = [0.0, 30.0, 50.0, 51.0, 500.0].map(|paid| terms.of(paid, 100.0, 30.0));
        assert_eq!(found, [12.5, 5.0, 0.0, 0.0, 0.0]);
    }
}
