//! The largest occurrences of subjects (docs/determinism.md, section 8.1). Events whose components
//! treaties treat apart are sums of what quota shares leave of these, in vectors; the other events
//! pass the treaties as a whole (`treaties`).

use forge_contract::treaty::IndexSet;

use super::{
    super::vector::Vector,
    amounts::BatchAmounts,
    model::{ComponentPath, EventKind, GroupDraws, PreparedPortfolio},
    policies::paid_by,
};

/// What the quota shares of a component's first steps leave of its amounts.
#[inline(always)]
fn left_after<V: Vector>(path: &ComponentPath<'_>, steps: usize, amounts: V) -> V {
    let mut left = amounts;
    for step in &path.quota_shares[..steps] {
        let subject = left;
        for share in step {
            left = left.subtract(paid_by(share, subject).min(left));
        }
    }
    left
}

impl BatchAmounts {
    /// Raises the largest occurrences of subjects to amounts of the iterations from `first` on.
    #[inline(always)]
    pub(super) fn raise<V: Vector>(&mut self, subjects: &[usize], first: usize, amounts: V) {
        for &subject in subjects {
            let column = &mut self.largest_of[subject][first..];
            V::load(column).max_signed(amounts).store(column);
        }
    }

    /// Raises the largest occurrences of subjects to events that strike all components of a group,
    /// which treaties treat apart.
    #[inline(always)]
    pub(super) fn raise_to_strikes<V: Vector>(
        &mut self,
        portfolio: &PreparedPortfolio<'_>,
        group: &GroupDraws<'_>,
        first_year: usize,
        events: usize,
    ) {
        let EventKind { sums, apart_up_to, .. } = &portfolio.kinds[group.kind];
        let above_apart = V::splat(apart_up_to + 1);
        let paths = &portfolio.components[group.components.clone()];
        for sum in sums {
            let mut largest = V::splat(0);
            for event in 0..events {
                let mut left = V::splat(0);
                for &(number, steps) in &sum.parts {
                    left = left.add(left_after(&paths[number], steps, V::load(&self.paid[number][event])));
                }
                let is_apart = V::greater_than(above_apart, V::load(&self.sums[event]));
                largest = largest.max_signed(left.select_or_zero(is_apart));
            }
            self.raise(&sum.subjects, first_year, largest);
        }
    }

    /// Raises the largest occurrences of subjects to what treaties have left of an event.
    #[inline]
    pub(super) fn raise_to_event(
        &mut self,
        subjects: &[(usize, IndexSet)],
        year: usize,
        left: impl Fn(IndexSet) -> u64,
    ) {
        for &(subject, lines) in subjects {
            let largest = &mut self.largest_of[subject][year];
            *largest = left(lines).max(*largest);
        }
    }
}
