//! The SIMD backend, with the widest instruction set of the CPU: plain programs with one iteration
//! in each vector lane, others in batches of iterations (`portfolio`). Not normative: the
//! conformance suite proves it equal to the scalar reference.

use std::sync::{Mutex, PoisonError};

use forge_contract::{
    plain_program::PlainProgram,
    program::Program,
    shard::{LEAF_ITERATIONS, Shard},
    shard_result::ShardResult,
};

use self::{portable::Portable, scratch::Scratch, vector::Vector};
use super::{Backend, ExecutionControl, ExecutionError, scalar};
use crate::seed_tree::leaf_seeds;

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod chacha;
mod dispatch;
mod leaf;
#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;
mod portfolio;
mod primitives;
mod scratch;
mod vector;

/// An instruction set of this CPU. Only [`Simd::supported`] creates values, after detecting the
/// features.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum InstructionSet {
    Portable,
    #[cfg(target_arch = "aarch64")]
    Neon,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

/// The backend that executes with vector registers.
pub struct Simd {
    instructions: InstructionSet,
    /// Scratch buffers for reuse; at most as many as calls have run at the same time.
    idle_scratch: Mutex<Vec<Scratch>>,
}

impl Simd {
    /// The backend with the best instruction set of this CPU.
    pub fn new() -> Self {
        Self::supported().remove(0)
    }

    /// One backend for each instruction set of this CPU, best first.
    pub fn supported() -> Vec<Self> {
        let mut sets = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("bmi2")
                && is_x86_feature_detected!("lzcnt")
                && is_x86_feature_detected!("popcnt");
            let avx512 = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512cd")
                && is_x86_feature_detected!("avx512dq");
            if avx2 && avx512 {
                sets.push(InstructionSet::Avx512);
            }
            if avx2 {
                sets.push(InstructionSet::Avx2);
            }
        }
        #[cfg(target_arch = "aarch64")]
        sets.push(InstructionSet::Neon);
        sets.push(InstructionSet::Portable);
        sets.into_iter().map(|instructions| Self { instructions, idle_scratch: Mutex::default() }).collect()
    }

    /// Computes only the first keystream block of each of `iterations` iterations (rounded down to
    /// whole groups), which bounds the speed of every backend. For benchmarks: the returned value
    /// has no meaning.
    #[cfg(feature = "testing")]
    pub fn keystream(&self, iterations: u64) -> u64 {
        let groups = iterations / self.instructions.group_size();
        match self.instructions {
            InstructionSet::Portable => leaf::keystream::<Portable>(groups),
            #[cfg(target_arch = "aarch64")]
            InstructionSet::Neon => leaf::keystream::<neon::Neon>(groups),
            // SAFETY: an `InstructionSet` exists only if its features were detected.
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx2 => unsafe { keystream_avx2(groups) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx512 => unsafe { keystream_avx512(groups) },
        }
    }

    fn execute_shard(
        &self,
        program: &Program,
        shard: &Shard,
        scratch: &mut Scratch,
        control: &dyn ExecutionControl,
    ) -> Result<ShardResult, ExecutionError> {
        let Some(plain) = PlainProgram::new(program) else {
            return portfolio::execute_shard(self.instructions, program, shard, control);
        };
        scratch.prepare(&plain);
        let group_size = self.instructions.group_size();
        let mut remainder = None;
        let leaves = shard.iterations.div_ceil(LEAF_ITERATIONS);
        for (leaf, seed) in (0..).zip(leaf_seeds(shard.seed, shard.id.height, leaves)) {
            let iterations = LEAF_ITERATIONS.min(shard.iterations - leaf * LEAF_ITERATIONS);
            let groups = iterations / group_size;
            self.instructions.execute_leaf(&plain, &seed.0, groups, scratch);
            scratch.iterations += groups * group_size;
            if groups * group_size < iterations {
                // The last iterations of a run do not fill a group, so the reference executes them.
                remainder = Some(scalar::execute_range(program, seed, groups * group_size..iterations));
            }
            if control.advance(iterations).is_break() {
                scratch.take_result();
                return Err(ExecutionError::Cancelled);
            }
        }
        let result = scratch.take_result();
        Ok(match remainder {
            Some(remainder) => crate::reduction::merge_results(program, &[result, remainder]),
            None => result,
        })
    }
}

impl Default for Simd {
    fn default() -> Self {
        Self::new()
    }
}

impl Backend for Simd {
    fn name(&self) -> &str {
        self.instructions.name()
    }

    fn execute(
        &self,
        program: &Program,
        shards: &[Shard],
        control: &dyn ExecutionControl,
    ) -> Result<Vec<ShardResult>, ExecutionError> {
        let idle_scratch = || self.idle_scratch.lock().unwrap_or_else(PoisonError::into_inner);
        let mut scratch = idle_scratch().pop().unwrap_or_else(Scratch::new);
        let results =
            shards.iter().map(|shard| self.execute_shard(program, shard, &mut scratch, control)).collect();
        idle_scratch().push(scratch);
        results
    }
}

impl InstructionSet {
    fn name(self) -> &'static str {
        match self {
            Self::Portable => "simd-portable",
            #[cfg(target_arch = "aarch64")]
            Self::Neon => "simd-neon",
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => "simd-avx2",
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => "simd-avx512",
        }
    }

    /// Iterations that are executed at once: two vectors of them.
    fn group_size(self) -> u64 {
        let lanes = match self {
            Self::Portable => Portable::LANES,
            #[cfg(target_arch = "aarch64")]
            Self::Neon => neon::Neon::LANES,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => avx2::Avx2::LANES,
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => avx512::Avx512::LANES,
        };
        2 * lanes as u64
    }

    fn execute_leaf(self, program: &PlainProgram<'_>, seed: &[u8; 32], groups: u64, scratch: &mut Scratch) {
        match self {
            Self::Portable => leaf::execute_leaf::<Portable>(program, seed, groups, scratch),
            #[cfg(target_arch = "aarch64")]
            Self::Neon => leaf::execute_leaf::<neon::Neon>(program, seed, groups, scratch),
            // SAFETY: an `InstructionSet` exists only if its features were detected.
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => unsafe { execute_leaf_avx2(program, seed, groups, scratch) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => unsafe { execute_leaf_avx512(program, seed, groups, scratch) },
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,bmi2,lzcnt,popcnt")]
fn execute_leaf_avx2(program: &PlainProgram<'_>, seed: &[u8; 32], groups: u64, scratch: &mut Scratch) {
    leaf::execute_leaf::<avx2::Avx2>(program, seed, groups, scratch);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512cd,avx512dq,avx2,bmi2,lzcnt,popcnt")]
fn execute_leaf_avx512(program: &PlainProgram<'_>, seed: &[u8; 32], groups: u64, scratch: &mut Scratch) {
    leaf::execute_leaf::<avx512::Avx512>(program, seed, groups, scratch);
}

#[cfg(all(feature = "testing", target_arch = "x86_64"))]
#[target_feature(enable = "avx2,bmi2,lzcnt,popcnt")]
fn keystream_avx2(groups: u64) -> u64 {
    leaf::keystream::<avx2::Avx2>(groups)
}

#[cfg(all(feature = "testing", target_arch = "x86_64"))]
#[target_feature(enable = "avx512f,avx512cd,avx512dq,avx2,bmi2,lzcnt,popcnt")]
fn keystream_avx512(groups: u64) -> u64 {
    leaf::keystream::<avx512::Avx512>(groups)
}
