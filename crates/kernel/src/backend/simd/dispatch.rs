//! Compiles the vector functions for each instruction set, and selects the one of this CPU.

#[cfg(target_arch = "aarch64")]
use super::neon::Neon;
use super::{
    InstructionSet,
    chacha::BlockTemplate,
    portable::Portable,
    portfolio::{BatchAmounts, PreparedPortfolio, Recorder, YearBatch},
};

/// The functions to compile, for any vector.
mod generic {
    use super::{BatchAmounts, BlockTemplate, PreparedPortfolio, Recorder, YearBatch};
    use crate::backend::simd::vector::Vector;

    pub(super) use crate::backend::simd::primitives::{fill_draws, order_lanes};

    /// See [`BatchAmounts::compute`].
    #[inline(always)]
    pub(super) fn compute_amounts<V: Vector>(
        amounts: &mut BatchAmounts,
        portfolio: &PreparedPortfolio<'_>,
        templates: &[BlockTemplate],
        batch: &YearBatch,
    ) -> bool {
        amounts.compute::<V>(portfolio, templates, batch)
    }

    /// See [`Recorder::add`].
    #[inline(always)]
    pub(super) fn record<V: Vector>(
        recorder: &mut Recorder,
        portfolio: &PreparedPortfolio<'_>,
        batch: &YearBatch,
        amounts: &BatchAmounts,
    ) {
        recorder.add::<V>(portfolio, batch, amounts);
    }
}

/// Methods of [`InstructionSet`] with the names of the functions that they run.
macro_rules! primitives {
    ($($name:ident[V]($($argument:ident: $type:ty),*)$( -> $result:ty)?;)*) => {
        #[cfg(target_arch = "x86_64")]
        mod avx2 {
            use super::{super::avx2::Avx2, *};
            $(#[target_feature(enable = "avx2,bmi2,lzcnt,popcnt")]
            pub(super) fn $name($($argument: $type),*)$( -> $result)? {
                primitives!(@call Avx2, $name[V]($($argument),*))
            })*
        }

        #[cfg(target_arch = "x86_64")]
        mod avx512 {
            use super::{super::avx512::Avx512, *};
            $(#[target_feature(enable = "avx512f,avx512cd,avx512dq,avx2,bmi2,lzcnt,popcnt")]
            pub(super) fn $name($($argument: $type),*)$( -> $result)? {
                primitives!(@call Avx512, $name[V]($($argument),*))
            })*
        }

        impl InstructionSet {
            $(#[doc = concat!("See [`generic::", stringify!($name), "`].")]
            pub(super) fn $name(self, $($argument: $type),*)$( -> $result)? {
                match self {
                    Self::Portable => primitives!(@call Portable, $name[V]($($argument),*)),
                    #[cfg(target_arch = "aarch64")]
                    Self::Neon => primitives!(@call Neon, $name[V]($($argument),*)),
                    // SAFETY: an `InstructionSet` exists only if its features were detected.
                    #[cfg(target_arch = "x86_64")]
                    Self::Avx2 => unsafe { avx2::$name($($argument),*) },
                    // SAFETY: as above.
                    #[cfg(target_arch = "x86_64")]
                    Self::Avx512 => unsafe { avx512::$name($($argument),*) },
                }
            })*
        }
    };
    (@call $level:ident, $name:ident[V]($($argument:ident),*)) => {
        generic::$name::<$level>($($argument),*)
    };
}

primitives! {
    order_lanes[V](order: &mut [u64]);
    fill_draws[V](templates: &[BlockTemplate], first_stream: u32, draws: &mut [u64]);
    compute_amounts[V](
        amounts: &mut BatchAmounts,
        portfolio: &PreparedPortfolio<'_>,
        templates: &[BlockTemplate],
        batch: &YearBatch
    ) -> bool;
    record[V](
        recorder: &mut Recorder,
        portfolio: &PreparedPortfolio<'_>,
        batch: &YearBatch,
        amounts: &BatchAmounts
    );
}
