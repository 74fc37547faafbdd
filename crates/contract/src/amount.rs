//! The range of amounts.

/// Largest amount, in minor units: 2^53 − 1. Larger amounts saturate.
pub const MAX_AMOUNT: u64 = (1 << 53) - 1;
