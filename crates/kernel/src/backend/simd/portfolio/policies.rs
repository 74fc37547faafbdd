//! What policies and quota shares pay for the amounts in a vector.

use forge_contract::{
    program::{AmountTable, Component, INDEX_FRACTION_BITS, MAX_AMOUNT, MAX_INDICES},
    treaty::Proportion,
};

use super::{
    super::{
        super::scalar::amount_in_table,
        vector::{QuantileTables, Vector},
    },
    model::QuotaShare,
    runs::{Lanes, MAX_LANES},
};

/// What a vector accumulates over the events of a component.
pub(super) struct ComponentSums<V> {
    pub(super) amounts: V,
    pub(super) at_limit: V,
    /// Largest amount before the policy share.
    pub(super) most: V,
    pub(super) paid: V,
}

impl<V: Vector> ComponentSums<V> {
    #[inline(always)]
    pub(super) fn new() -> Self {
        let zero = V::splat(0);
        Self { amounts: zero, at_limit: zero, most: zero, paid: zero }
    }
}

/// The factors of the indices in a vector.
pub(super) struct IndexFactors {
    of_indices: [Lanes; MAX_INDICES],
    has_large_factors: bool,
}

impl IndexFactors {
    pub(super) fn new() -> Self {
        Self { of_indices: [[0; MAX_LANES]; MAX_INDICES], has_large_factors: false }
    }

    /// Forgets the factors of the vector before.
    #[inline(always)]
    pub(super) fn clear(&mut self) {
        self.has_large_factors = false;
    }

    /// Sets the factors of an index.
    #[inline(always)]
    pub(super) fn set<V: Vector>(&mut self, index: usize, factors: V) {
        self.has_large_factors |= V::any(V::greater_than(factors, V::splat(u32::MAX.into())));
        factors.store(&mut self.of_indices[index]);
    }

    /// What a component's policies pay for amounts in these lanes; 0 in the others.
    #[inline(always)]
    pub(super) fn pay<V: Vector>(
        &self,
        component: &Component,
        amounts: V,
        lanes: V::Mask,
        sums: &mut ComponentSums<V>,
    ) -> V {
        let terms = &component.terms;
        let mut amounts = amounts.min(V::splat(MAX_AMOUNT));
        if let Some(index) = component.index {
            amounts = self.indexed(amounts, index as usize);
        }
        if terms.deductible > 0 {
            let reached = V::greater_than(amounts, V::splat(terms.deductible - 1));
            let deducted = if terms.franchise { 0 } else { terms.deductible };
            amounts = amounts.subtract(V::splat(deducted)).select_or_zero(reached);
        }
        let limit = V::splat(terms.limit);
        let limited = amounts.min(limit).select_or_zero(lanes);
        sums.amounts = sums.amounts.increment(lanes);
        // Limits are above 0, and so above the amounts of other lanes.
        sums.at_limit = sums.at_limit.increment(limited.equal(limit));
        sums.most = sums.most.max_signed(limited);
        let paid = if terms.share == Proportion::ONE { limited } else { limited.proportion(terms.share) };
        sums.paid = sums.paid.add(paid);
        paid
    }

    /// Amounts up to [`MAX_AMOUNT`], multiplied by the factors of an index.
    #[inline(always)]
    fn indexed<V: Vector>(&self, amounts: V, index: usize) -> V {
        if self.has_large_factors {
            let mut lanes = [0; MAX_LANES];
            amounts.store(&mut lanes);
            multiply_lanes(&mut lanes, &self.of_indices[index]);
            return V::load(&lanes);
        }
        const _: () = assert!(INDEX_FRACTION_BITS == 24);
        let factors = V::load(&self.of_indices[index]);
        let low = amounts.multiply_u32(factors).shift_right::<24>();
        let high = amounts.shift_right::<32>().multiply_u32(factors).shift_left::<8>();
        low.add(high).min(V::splat(MAX_AMOUNT))
    }
}

/// What a quota share pays for amounts: no more than they are.
#[inline(always)]
pub(super) fn paid_by<V: Vector>(share: &QuotaShare, amounts: V) -> V {
    amounts.proportion(share.cession).min(V::splat(share.event_limit))
}

/// The amounts of draws in a table, in these lanes; 0 in the others.
#[inline(always)]
pub(super) fn amounts_of_draws<V: Vector>(table: &AmountTable, draws: V, lanes: V::Mask) -> V {
    if let AmountTable::Quantiles { segment_bits, segments } = table {
        return V::look_up_amounts(QuantileTables::new(*segment_bits, segments), None, draws, lanes);
    }
    let mut values = [0; MAX_LANES];
    draws.store(&mut values);
    look_up_lanes(table, &mut values[..V::LANES], V::bits_of(lanes));
    V::load(&values)
}

/// Replaces the draws in these lanes by their amounts, and the others by 0.
fn look_up_lanes(table: &AmountTable, values: &mut [u64], lanes: u32) {
    for (lane, value) in values.iter_mut().enumerate() {
        *value = if lanes >> lane & 1 == 1 { amount_in_table(table, *value) } else { 0 };
    }
}

/// Multiplies amounts by factors of an index.
fn multiply_lanes(amounts: &mut Lanes, factors: &Lanes) {
    for (amount, factor) in amounts.iter_mut().zip(factors) {
        let product = u128::from(*amount) * u128::from(*factor);
        *amount = (product >> INDEX_FRACTION_BITS).min(MAX_AMOUNT.into()) as u64;
    }
}
