//! Compiles the vector primitives for each instruction set, and selects the one of this CPU.

use forge_contract::program::{Segment, Terms};

use super::{
    InstructionSet,
    chacha::BlockTemplate,
    portable::Portable,
    primitives::{self, DrawList, LaneOccurrences},
};

/// Methods of [`InstructionSet`] with the names of the primitives that they run.
macro_rules! primitives {
    ($($name:ident$([$vector:ident])?($($argument:ident: $type:ty),*)$( -> $result:ty)?;)*) => {
        #[cfg(target_arch = "x86_64")]
        mod avx2 {
            use super::{super::avx2::Avx2, *};
            $(#[target_feature(enable = "avx2,bmi2,lzcnt,popcnt")]
            pub(super) fn $name($($argument: $type),*)$( -> $result)? {
                primitives!(@call Avx2, $name$([$vector])?($($argument),*))
            })*
        }

        #[cfg(target_arch = "x86_64")]
        mod avx512 {
            use super::{super::avx512::Avx512, *};
            $(#[target_feature(enable = "avx512f,avx512cd,avx512dq,avx2,bmi2,lzcnt,popcnt")]
            pub(super) fn $name($($argument: $type),*)$( -> $result)? {
                primitives!(@call Avx512, $name$([$vector])?($($argument),*))
            })*
        }

        impl InstructionSet {
            $(#[doc = concat!("See [`primitives::", stringify!($name), "`].")]
            pub(super) fn $name(self, $($argument: $type),*)$( -> $result)? {
                match self {
                    Self::Portable => primitives!(@call Portable, $name$([$vector])?($($argument),*)),
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
        primitives::$name::<$level>($($argument),*)
    };
    (@call $level:ident, $name:ident($($argument:ident),*)) => {
        primitives::$name($($argument),*)
    };
}

primitives! {
    order_lanes[V](order: &mut [u64]);
    fill_draws[V](templates: &[BlockTemplate], first_stream: u32, draws: &mut [u64]);
    split[V](occurrences: &LaneOccurrences<'_>, position: u64, lists: &mut [DrawList]);
    look_up[V](table: &[Segment], bits: u32, draws: &[u64], amounts: &mut [u64]);
    buckets[V](amounts: &[u64], years: usize, buckets: &mut [u64]) -> (u64, u64);
    limit(terms: &Terms, amounts: &mut [u64]) -> (u64, u64);
}
