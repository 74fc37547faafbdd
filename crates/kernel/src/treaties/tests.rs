//! The figures of textbooks and of other tools, to the unit, and what holds for every year: net is
//! gross less ceded, and no minor unit is lost.

use ethnum::U256;
use proptest::prelude::*;

use super::*;

/// The distinct steps of the treaties, ascending.
fn steps(treaties: &[Treaty]) -> Vec<u32> {
    let mut steps: Vec<u32> = treaties.iter().map(|t| t.step).collect();
    steps.sort_unstable();
    steps.dedup();
    steps
}

fn ceded(year: &ClosedYear) -> Vec<u64> {
    year.treaties.iter().map(|treaty| treaty.ceded).collect()
}

const NO_LIMIT: u64 = MAX_AMOUNT;

fn occurrence_xl(layer: OccurrenceLayer) -> Treaty {
    Treaty { step: 1, lines: IndexSet::ALL, groups: IndexSet::ALL, terms: TreatyTerms::OccurrenceXl(layer) }
}

/// The layer "`limit` xs `attachment`" with reinstatements at 100% of the premium.
fn layer(limit: u64, attachment: u64, reinstatements: usize, aad: u64, aal: u64) -> OccurrenceLayer {
    OccurrenceLayer {
        cession: Proportion::ONE,
        layer: Layer { limit, attachment },
        annual: Layer { limit: aal.min(limit * (1 + reinstatements as u64)), attachment: aad },
        placed: Proportion::ONE,
        reinstatements: vec![Proportion::ONE; reinstatements],
        premium: 0,
    }
}

fn unlimited(limit: u64, attachment: u64) -> OccurrenceLayer {
    OccurrenceLayer {
        annual: Layer { limit: NO_LIMIT, attachment: 0 },
        ..layer(limit, attachment, 0, 0, NO_LIMIT)
    }
}

/// What the first treaty pays for each loss, and the year after it.
fn run(treaties: &[Treaty], losses: &[u64]) -> (Vec<u64>, ClosedYear) {
    let steps = steps(treaties);
    let mut year = Year::new(treaties, &steps, 1);
    let mut payments = Vec::new();
    for &loss in losses {
        let before = year.treaties[0].ceded;
        year.add_occurrence(0, &mut [loss], &mut ());
        payments.push(year.treaties[0].ceded - before);
    }
    (payments, year.close(&mut ()))
}

#[test]
fn fractions_round_to_the_nearest_unit() {
    assert_eq!([0, 1, 2, 3].map(|x| Proportion(500_000).of(x)), [0, 1, 1, 2]);
    assert_eq!(Proportion::ONE.of(MAX_AMOUNT), MAX_AMOUNT);
    assert_eq!(Proportion(1).of(499_999), 0);
    assert_eq!(Proportion(1).of(500_000), 1);
    for parts in [1, 2, 333_333, 500_000, 900_000, 999_999, 1_000_000].map(Proportion) {
        for part in [0, 1, 2, 3, 6, 7, 1_000_001, parts.of(MAX_AMOUNT)] {
            assert_eq!(parts.of(parts.whole_of(part)), part, "{parts:?}");
        }
    }
    for (parts, amount) in [(333_333u32, MAX_AMOUNT), (270_000, 123_456_789_012), (999_999, 7)] {
        let exact = (u128::from(amount) * u128::from(parts) + 500_000) / 1_000_000;
        assert_eq!(u128::from(Proportion(parts).of(amount)), exact);
    }
}

#[test]
fn reinstatement_exhausts_a_layer() {
    // CII M97 (2018), example 5.15: 2m xs 2m with one reinstatement.
    let treaty = occurrence_xl(layer(2_000_000, 2_000_000, 1, 0, NO_LIMIT));
    let (payments, year) = run(&[treaty], &[2_350_000, 3_000_000, 4_000_000, 3_000_000]);
    assert_eq!(payments, [350_000, 1_000_000, 2_000_000, 650_000]);
    assert_eq!(ceded(&year), [4_000_000]);
}

#[test]
fn reinstatement_premium_is_pro_rata_as_to_amount() {
    // CII M97, example 5.16: 50,000 of 100,000 used, with premiums of 10,000 and 12,000.
    for (premium, expected) in [(10_000, 5_000), (12_000, 6_000)] {
        let layer = OccurrenceLayer { premium, ..layer(100_000, 100_000, 1, 0, NO_LIMIT) };
        let (payments, year) = run(&[occurrence_xl(layer.clone())], &[150_000]);
        assert_eq!((payments[0], layer.reinstatement_premium(year.treaties[0].paid)), (50_000, expected));
    }
    // Reinstatements at 100%, 50%, 0 and 0 of 1,000: the second is used to a fifth.
    let prices = [1_000_000, 500_000, 0, 0].map(Proportion).to_vec();
    let layer =
        OccurrenceLayer { premium: 1_000, reinstatements: prices, ..layer(500_000, 250_000, 4, 0, NO_LIMIT) };
    let (_, year) = run(&[occurrence_xl(layer.clone())], &[100_000, 600_000, 500_000, 200_000]);
    assert_eq!(
        (year.treaties[0].ceded, layer.reinstatement_premium(year.treaties[0].paid)),
        (600_000, 1_100)
    );
}

#[test]
fn reinstatement_premiums_are_exact_beyond_128_bits() {
    // The product of premium, price and amount has up to 2 + 53 + 24 + 53 bits.
    for premium in [1, 2_600_000, MAX_AMOUNT / 3, MAX_AMOUNT] {
        for limit in [1, 7, 20_000_000, MAX_AMOUNT] {
            for price in [1, 333_333, 1_000_000, 2_000_001, 10_000_000] {
                let terms = layer(limit, 0, 2, 0, NO_LIMIT);
                let reinstatements = vec![Proportion(price); 2];
                let layer = OccurrenceLayer { premium, reinstatements, ..terms };
                for paid in [1, limit / 2 + 1, limit, 2 * limit].map(|paid| paid.min(MAX_AMOUNT)) {
                    let product = U256::from(premium) * U256::from(paid) * U256::from(price) * 2;
                    let divisor = U256::from(limit) * U256::from(1_000_000u64);
                    let exact = (product + divisor) / (divisor * 2);
                    let expected = exact.min(U256::from(MAX_AMOUNT)).as_u64();
                    assert_eq!(layer.reinstatement_premium(paid), expected, "{layer:?} {paid}");
                }
            }
        }
    }
}

#[test]
fn annual_deductible_and_limit_apply_before_reinstatements() {
    // NetSimR's tests: three losses of 100 to 100 xs 0; reinstatements, AAD, AAL, ceded,
    // reinstated.
    let rows = [
        (0, 50, NO_LIMIT, 100, 0),
        (0, 50, 70, 70, 0),
        (0, 250, NO_LIMIT, 50, 0),
        (0, 350, NO_LIMIT, 0, 0),
        (1, 50, NO_LIMIT, 200, 100),
        (1, 150, NO_LIMIT, 150, 100),
        (1, 250, NO_LIMIT, 50, 50),
        (1, 50, 80, 80, 80),
    ];
    for (reinstatements, aad, aal, ceded, reinstated) in rows {
        let layer = layer(100, 0, reinstatements, aad, aal);
        let (_, year) = run(&[occurrence_xl(layer.clone())], &[100, 100, 100]);
        let sum: u64 = layer.reinstated(year.treaties[0].paid).sum();
        assert_eq!((year.treaties[0].ceded, sum), (ceded, reinstated), "{reinstatements} {aad} {aal}");
    }
}

#[test]
fn the_placed_part_is_taken_after_limit_and_attachment() {
    // OasisLMF validation CX36_124, and two half-placed layers in one step and in two.
    let part = OccurrenceLayer { placed: Proportion(200_000), ..unlimited(1_500_000, 1_000_000) };
    assert_eq!(run(&[occurrence_xl(part)], &[297_000_000]).0, [300_000]);
    // OasisLMF validation CX30_100: the ceded part is taken before the attachment.
    let ceded = OccurrenceLayer { cession: Proportion(200_000), ..unlimited(NO_LIMIT, 1_000_000) };
    assert_eq!(run(&[occurrence_xl(ceded)], &[297_000_000]).0, [58_400_000]);
    let half = |step, attachment| Treaty {
        step,
        ..occurrence_xl(OccurrenceLayer { placed: Proportion(500_000), ..unlimited(50, attachment) })
    };
    for (event, steps, expected) in [
        (8_000, [1, 1], vec![25, 25]),
        (8_000, [1, 2], vec![25, 25]),
        // In the next step the second layer sees 105.
        (130, [1, 1], vec![25, 15]),
        (130, [1, 2], vec![25, 3]),
    ] {
        let treaties = [half(steps[0], 50), half(steps[1], 100)];
        assert_eq!(
            run(&treaties, &[event]).1.treaties.iter().map(|t| t.ceded).collect::<Vec<_>>(),
            expected,
            "{event} {steps:?}"
        );
    }
}

#[test]
fn event_limits_of_proportional_treaties_leave_the_overspill_net() {
    // OpenQuake's reinsurance tests, two portfolios: claims with different shares are lines.
    let share = |lines, parts, event_limit| Treaty {
        step: 1,
        lines: IndexSet(lines),
        groups: IndexSet::ALL,
        terms: TreatyTerms::QuotaShare { cession: Proportion(parts), event_limit },
    };
    let treaties = [share(0b0001, 500_000, 5_000), share(0b1100, 600_000, 8_000)];
    let steps = steps(&treaties);
    let mut year = Year::new(&treaties, &steps, 4);
    year.add_occurrence(0, &mut [12_000, 5_000, 3_000, 6_000], &mut ());
    let year = year.close(&mut ());
    assert_eq!(ceded(&year), [5_000, 5_400]);
    assert_eq!(year.after_steps(1).iter().sum::<u64>(), 15_600);
}

#[test]
fn layers_follow_one_another_by_step() {
    // OpenQuake's reinsurance tests, policy 3: two layers on what the one before has left.
    let step = |step, limit, attachment| Treaty { step, ..occurrence_xl(unlimited(limit, attachment)) };
    let (_, year) = run(&[step(1, 3_000, 500), step(2, 4_800, 200)], &[8_500]);
    assert_eq!((ceded(&year), year.after_steps(2).to_vec()), (vec![3_000, 4_800], vec![700]));
}

#[test]
fn stop_loss_sees_the_net_of_the_steps_before() {
    let quota = Treaty {
        step: 1,
        lines: IndexSet(0b01),
        groups: IndexSet::ALL,
        terms: TreatyTerms::QuotaShare { cession: Proportion(200_000), event_limit: NO_LIMIT },
    };
    let stop = Treaty {
        step: 2,
        lines: IndexSet(0b11),
        groups: IndexSet::ALL,
        terms: TreatyTerms::AggregateXl {
            layer: Layer { limit: 100, attachment: 500 },
            placed: Proportion(850_000),
        },
    };
    let treaties = [quota, stop];
    let steps = steps(&treaties);
    let mut year = Year::new(&treaties, &steps, 2);
    year.add_annual(0, &mut [500, 0], &mut ());
    year.add_occurrence(1, &mut [0, 180], &mut ());
    let year = year.close(&mut ());
    // Net 400 + 180 = 580: 80 in the layer, 85% placed.
    assert_eq!(ceded(&year), [100, 68]);
    assert_eq!(year.after_steps(2).iter().sum::<u64>(), 580 - 68);
    assert_eq!(year.after_steps(2), [400 - 46, 180 - 22]);
}

#[test]
fn what_is_cut_neither_uses_up_a_limit_nor_is_reinstated() {
    // A quota share of a half, then 100 xs 0 with one reinstatement at 100% of a premium of 10, and
    // 150 a year: of every loss of 100 the layer gets the other half, until it has paid 150.
    let quota = Treaty {
        terms: TreatyTerms::QuotaShare { cession: Proportion(500_000), event_limit: NO_LIMIT },
        ..occurrence_xl(unlimited(1, 0))
    };
    let limited = OccurrenceLayer { premium: 10, ..layer(100, 0, 1, 0, 150) };
    let after = |losses: &[u64], layer: &OccurrenceLayer| {
        let year = run(&[quota.clone(), occurrence_xl(layer.clone())], losses).1;
        let treaty = year.treaties[1].clone();
        (treaty.ceded, treaty.paid, layer.reinstatement_premium(treaty.paid), treaty.is_used_up)
    };
    assert_eq!(after(&[100], &limited), (50, 50, 5, false));
    assert_eq!(after(&[100; 2], &limited), (100, 100, 10, false));
    assert_eq!(after(&[100; 3], &limited), (150, 150, 10, true));
    assert_eq!(after(&[100; 4], &limited), (150, 150, 10, true));
    // With 30 deducted a year, the first loss pays 70, cut to 50; the second the 40 that are left.
    let deducted = OccurrenceLayer { premium: 10, ..layer(100, 0, 1, 30, 90) };
    assert_eq!(after(&[100], &deducted), (50, 50, 5, false));
    assert_eq!(after(&[100; 2], &deducted), (90, 90, 9, true));
    // Placed to 90%: 90 of 100 cut to 50, which are 90% of 56 (55.6).
    let placed = OccurrenceLayer { placed: Proportion(900_000), ..layer(100, 0, 1, 0, 150) };
    assert_eq!(after(&[100], &placed), (50, 56, 0, false));
    assert_eq!(after(&[100; 3], &placed), (135, 150, 0, true));
}

fn treaty(lines: u32) -> impl Strategy<Value = Treaty> {
    let amount = 0u64..2_000;
    let fraction = (0u32..=1_000_000).prop_map(Proportion);
    let quota = (fraction.clone(), prop_oneof![Just(NO_LIMIT), amount.clone()])
        .prop_map(|(cession, event_limit)| TreatyTerms::QuotaShare { cession, event_limit });
    let layers = (1u64..2_000, amount.clone(), amount.clone(), 0usize..4, fraction.clone());
    let occurrence = layers.prop_map(|(limit, attachment, aad, reinstatements, placed)| {
        TreatyTerms::OccurrenceXl(OccurrenceLayer {
            placed,
            ..layer(limit, attachment, reinstatements, aad, NO_LIMIT)
        })
    });
    let aggregate = (1u64..5_000, 0u64..9_000, fraction).prop_map(|(limit, attachment, placed)| {
        TreatyTerms::AggregateXl { layer: Layer { limit, attachment }, placed }
    });
    let terms = prop_oneof![quota, occurrence, aggregate];
    (1u32..4, 1u32..1 << lines, terms).prop_map(|(step, lines, terms)| {
        // A treaty on the year's amounts has the last step: none by occurrence may follow it.
        let step = if matches!(terms, TreatyTerms::AggregateXl { .. }) { 9 } else { step };
        Treaty { step, lines: IndexSet(lines), groups: IndexSet::ALL, terms }
    })
}

proptest! {
    #[test]
    fn net_is_gross_minus_ceded(
        treaties in prop::collection::vec(treaty(3), 0..6),
        occurrences in prop::collection::vec([0u64..3_000, 0u64..3_000, 0u64..3_000], 0..20),
    ) {
        let steps = steps(&treaties);
        let mut year = Year::new(&treaties, &steps, 3);
        for amounts in &occurrences {
            year.add_occurrence(0, &mut amounts.clone(), &mut ());
        }
        let year = year.close(&mut ());
        let sum = |lines: &[u64]| lines.iter().sum::<u64>();
        let gross: u64 = occurrences.iter().map(|amounts| sum(amounts)).sum();
        prop_assert_eq!(sum(year.after_steps(0)), gross);
        prop_assert_eq!(sum(year.net()), gross - sum(&ceded(&year)));
        for (terms, treaty) in treaties.iter().zip(&year.treaties) {
            if let TreatyTerms::OccurrenceXl(layer) = &terms.terms {
                prop_assert_eq!(treaty.ceded, layer.placed.of(treaty.paid));
            }
        }
        for step in 0..steps.len() {
            let stages = [year.after_steps(step), year.after_steps(step + 1)];
            prop_assert!(stages[0].iter().zip(stages[1]).all(|(before, after)| after <= before));
        }
    }

    #[test]
    fn the_first_step_of_a_year_does_not_depend_on_the_order_of_its_occurrences(
        terms in treaty(1),
        mut losses in prop::collection::vec(0u64..9_000, 0..12),
    ) {
        let treaties = [Treaty { lines: IndexSet::ALL, ..terms }];
        let forward = run(&treaties, &losses).1;
        losses.reverse();
        prop_assert_eq!(run(&treaties, &losses).1, forward);
    }

    #[test]
    fn a_cession_is_shared_among_the_lines_in_proportion(
        amounts in [0u64..1 << 53, 0u64..1 << 53, 0u64..1 << 53],
        payment in 0u64..1 << 54,
    ) {
        let mut left = amounts;
        let mut parts = [0; 3];
        let ceded = cede(&mut left, IndexSet(0b101), payment, |line, part| parts[line] = part);
        let total = u128::from(amounts[0]) + u128::from(amounts[2]);
        prop_assert_eq!(u128::from(ceded), u128::from(payment).min(total));
        prop_assert_eq!(left[1], amounts[1]);
        let taken = amounts[0] - left[0];
        prop_assert_eq!(taken + (amounts[2] - left[2]), ceded);
        prop_assert_eq!(parts, [taken, 0, amounts[2] - left[2]]);
        let share = (u128::from(ceded) * u128::from(amounts[0])).checked_div(total);
        prop_assert_eq!(u128::from(taken), share.unwrap_or(0));
    }

    #[test]
    fn sums_saturate_without_overflow(
        treaties in prop::collection::vec(treaty(3), 1..6),
        repeats in 1usize..3_000,
    ) {
        let steps = steps(&treaties);
        let mut year = Year::new(&treaties, &steps, 3);
        for _ in 0..repeats {
            year.add_occurrence(0, &mut [MAX_AMOUNT; 3], &mut ());
        }
        let year = year.close(&mut ());
        prop_assert!(year.after_steps(0).iter().all(|&sum| sum <= MAX_SUM));
    }
}
