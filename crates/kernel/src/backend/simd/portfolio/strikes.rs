//! Events that strike all components of a group.

use super::{
    super::vector::Vector,
    amounts::{BatchAmounts, LayerEvent, add_to},
    model::{GroupDraws, PreparedPortfolio},
    policies::{ComponentSums, amounts_of_draws, paid_by},
    runs::{EventRun, MAX_LANES, VectorYears},
};

impl BatchAmounts {
    /// Adds events that strike all components of the group. Returns the sums of the amounts.
    #[inline(always)]
    pub(super) fn add_strikes<V: Vector>(
        &mut self,
        portfolio: &PreparedPortfolio<'_>,
        group: &GroupDraws<'_>,
        years: VectorYears<'_>,
        run: &EventRun,
        events: usize,
    ) -> V {
        for event in 0..events {
            self.sums[event] = [0; MAX_LANES];
        }
        let counts = V::load(&run.counts);
        let mut rank = 0;
        for (number, at) in group.components.clone().enumerate() {
            let path = &portfolio.components[at];
            // The rank of the first component is its own.
            rank += usize::from(!path.component.same_rank);
            let mut of_component = ComponentSums::<V>::new();
            for event in 0..events {
                let active = V::greater_than(counts, V::splat(event as u64));
                let draws = run.read::<V>(&self.draws, years, event * group.draws_per_occurrence + rank - 1);
                let amounts = amounts_of_draws(&path.component.amounts, draws, active);
                let paid = self.factors.pay(path.component, amounts, active, &mut of_component);
                paid.store(&mut self.paid[number][event]);
                paid.add(V::load(&self.sums[event])).store(&mut self.sums[event]);
            }
            add_to(&mut self.gross[path.line], years.first, of_component.paid);
            self.count_amounts(at, &of_component);
        }
        let apart_up_to = V::splat(portfolio.kinds[group.kind].apart_up_to);
        let (mut all, mut largest, mut above_any) = (V::splat(0), V::splat(0), 0);
        for event in 0..events {
            let sums = V::load(&self.sums[event]);
            let above = V::greater_than(sums, apart_up_to);
            self.above[event] = V::bits_of(above);
            above_any |= V::bits_of(above);
            all = all.add(sums);
            largest = largest.max_signed(sums);
        }
        if !group.is_annual() {
            let column = &mut self.largest[years.first..];
            V::load(column).max_signed(largest).store(column);
            self.raise_to_strikes::<V>(portfolio, group, years.first, events);
        }
        for (number, at) in group.components.clone().enumerate() {
            let path = &portfolio.components[at];
            if !path.quota_shares.is_empty() {
                let (only_share, mut ceded) = (path.only_share(), V::splat(0));
                for event in 0..events {
                    let is_apart = V::greater_than(apart_up_to.add(V::splat(1)), V::load(&self.sums[event]));
                    let paid = V::load(&self.paid[number][event]).select_or_zero(is_apart);
                    match only_share {
                        Some(share) => ceded = ceded.add(paid_by(share, paid)),
                        None => self.cede_quota_shares(path, years.first, paid),
                    }
                }
                if let Some(share) = only_share {
                    add_to(&mut self.ceded[share.column], years.first, ceded);
                }
            }
        }
        if above_any != 0 {
            self.collect_strikes(group, years.first, events);
        }
        all
    }

    /// Collects the events that have to pass the treaties as a whole.
    fn collect_strikes(&mut self, group: &GroupDraws<'_>, first_year: usize, events: usize) {
        for event in 0..events {
            let mut lanes = self.above[event];
            while lanes != 0 {
                let lane = lanes.trailing_zeros() as usize;
                lanes &= lanes - 1;
                self.events.push(LayerEvent { year: (first_year + lane) as u32, kind: group.kind as u32 });
                for number in 0..group.components.len() {
                    self.event_amounts.push(self.paid[number][event][lane]);
                }
            }
        }
    }
}
