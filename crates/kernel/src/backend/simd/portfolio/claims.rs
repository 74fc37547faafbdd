//! Claims: events of one of a group's components each. Lanes of a vector look up the tables of the
//! components that they have picked.

use super::{
    super::vector::{QuantileTables, Vector},
    amounts::{BatchAmounts, LayerEvent, add_to},
    model::{GroupDraws, NEVER, Pick, PreparedPortfolio},
    policies::{ComponentSums, amounts_of_draws, paid_by},
    runs::{EventRun, MAX_LANES, VectorYears},
};

impl BatchAmounts {
    /// Adds claims, each of one of the group's components. Returns the sums of the amounts.
    #[inline(always)]
    pub(super) fn add_claims<V: Vector>(
        &mut self,
        portfolio: &PreparedPortfolio<'_>,
        (group, pick): (&GroupDraws<'_>, &Pick<'_>),
        years: VectorYears<'_>,
        run: &EventRun,
        events: usize,
    ) -> V {
        let counts = V::load(&run.counts);
        for event in 0..events {
            let picks = run.read::<V>(&self.draws, years, 2 * event);
            let draws = run.read::<V>(&self.draws, years, 2 * event + 1);
            let mut numbers = V::splat(pick.first as u64);
            for &threshold in pick.thresholds {
                numbers = numbers.increment(picks.greater_equal_unsigned(V::splat(threshold)));
            }
            let active = V::greater_than(counts, V::splat(event as u64));
            let claims = match &pick.tables {
                Some((bits, segments)) => {
                    V::look_up_amounts(QuantileTables::new(*bits, segments), Some(numbers), draws, active)
                }
                None => draws,
            };
            claims.store(&mut self.claims[event]);
            // Numbers from 1 on; 0 in lanes without this event.
            numbers.add(V::splat(1)).select_or_zero(active).store(&mut self.numbers[event]);
            self.sums[event] = [0; MAX_LANES];
            self.above[event] = 0;
        }
        let (mut sums, mut largest, mut above_any) = (V::splat(0), V::splat(0), 0);
        for (number, at) in group.components.clone().enumerate() {
            let path = &portfolio.components[at];
            let apart_up_to = portfolio.kinds[group.kind + number].apart_up_to;
            let mut of_component = ComponentSums::<V>::new();
            let (only_share, mut ceded) = (path.only_share(), V::splat(0));
            let (mut largest_apart, mut largest_left) = (V::splat(0), V::splat(0));
            for event in 0..events {
                let lanes = V::load(&self.numbers[event]).equal(V::splat(number as u64 + 1));
                let mut amounts = V::load(&self.claims[event]);
                if pick.tables.is_none() {
                    amounts = amounts_of_draws(&path.component.amounts, amounts, lanes);
                }
                let mut paid = self.factors.pay(path.component, amounts, lanes, &mut of_component);
                largest = largest.max_signed(paid);
                if apart_up_to < NEVER {
                    let above = V::greater_than(paid, V::splat(apart_up_to));
                    paid.add(V::load(&self.sums[event])).store(&mut self.sums[event]);
                    self.above[event] |= V::bits_of(above);
                    above_any |= V::bits_of(above);
                    paid = paid.select_or_zero(V::mask_and_not(lanes, above));
                }
                largest_apart = largest_apart.max_signed(paid);
                match only_share {
                    Some(share) => {
                        let payment = paid_by(share, paid);
                        ceded = ceded.add(payment);
                        largest_left = largest_left.max_signed(paid.subtract(payment));
                    }
                    None => self.cede_quota_shares(path, years.first, paid),
                }
            }
            self.raise(&path.subjects[0], years.first, largest_apart);
            if let Some(share) = only_share {
                add_to(&mut self.ceded[share.column], years.first, ceded);
                self.raise(&path.subjects[1], years.first, largest_left);
            }
            add_to(&mut self.gross[path.line], years.first, of_component.paid);
            sums = sums.add(of_component.paid);
            self.count_amounts(at, &of_component);
        }
        let column = &mut self.largest[years.first..];
        V::load(column).max_signed(largest).store(column);
        if above_any != 0 {
            self.collect_claims(group, years.first, events);
        }
        sums
    }

    /// Collects the claims that have to pass the treaties.
    fn collect_claims(&mut self, group: &GroupDraws<'_>, first_year: usize, events: usize) {
        for event in 0..events {
            let mut lanes = self.above[event];
            while lanes != 0 {
                let lane = lanes.trailing_zeros() as usize;
                lanes &= lanes - 1;
                let kind = group.kind + self.numbers[event][lane] as usize - 1;
                self.events.push(LayerEvent { year: (first_year + lane) as u32, kind: kind as u32 });
                self.event_amounts.push(self.sums[event][lane]);
            }
        }
    }
}
