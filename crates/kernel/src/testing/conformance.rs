//! The conformance suite: compares a [`Backend`] with the scalar reference, byte for byte. Every
//! backend must pass it. The functions take a `dyn Backend`, so that backends in other crates run
//! the same suite.
//!
//! The suite must not depend on how a backend works. Its sizes are those at which backends tend to
//! fail: vector lanes, blocks of 8 draws, leaves, the limits of [`Program::validate`], and the rare
//! draws far out in the tails.

use std::{
    ops::ControlFlow,
    sync::atomic::{AtomicU64, Ordering},
};

use forge_contract::{
    plain_program::{MAX_PLAIN_COMPONENTS, PlainProgram},
    program::{MAX_AMOUNT, MAX_COUNT},
    shard::LEAF_ITERATIONS,
};
use proptest::{
    prelude::*,
    test_runner::{Config, TestCaseError, TestRunner},
};
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};

use super::{
    AmountRecipe, ComponentRecipe, CountRecipe, ProgramRecipe,
    agreement::{assert_agrees, difference},
    any_recipe, portfolios, sample_shard,
};
use crate::{
    backend::{Backend, ExecutionControl, ExecutionError},
    request::Request,
};

/// Runs the whole suite.
///
/// # Panics
/// If the backend differs from the scalar reference. This holds for every function of the suite.
pub fn check_backend(backend: &dyn Backend) {
    check_profiles(backend);
    check_iteration_counts(backend);
    check_draw_counts(backend);
    check_tall_shards(backend);
    check_many_occurrences(backend);
    check_saturation(backend);
    check_constant_counts(backend);
    check_thresholds_at_draws(backend);
    check_rare_draws(backend);
    check_reuse(backend);
    check_cancellation(backend);
    check_random_programs(backend, 300);
    portfolios::check_random_portfolios(backend, 0..200);
    portfolios::check_extreme_portfolios(backend);
}

/// Checks the example of every profile, and args of `insurance.v1` that lead to other kinds of
/// programs.
pub fn check_profiles(backend: &dyn Backend) {
    let insurance = |args: &str| {
        format!(r#"{{"op":{{"name":"mc","version":1,"profile":"insurance.v1"}},"args":{args}}}"#)
    };
    let mut envelopes = vec![
        insurance(
            r#"{"iterations":200000,"claim_freq":3.7,"claim_severity_mu":7.25,"claim_severity_sig":0.8}"#,
        ),
        insurance(
            r#"{"iterations":30000,"claim_freq":30,"claim_severity_mu":2,"claim_severity_sig":5,"policy_limit":1e6,
            "cat_prob":0.5,"cat_mu":3,"cat_sig":8,"aggregate_limit":1e13}"#,
        ),
        insurance(
            r#"{"iterations":70000,"claim_freq":0,"claim_severity_mu":6,"claim_severity_sig":1,"cat_prob":1e-4,
            "cat_mu":9,"cat_sig":1}"#,
        ),
    ];
    for profile in crate::workload::PROFILES {
        let op = serde_json::json!({"name": profile.op, "version": profile.version, "profile": profile.name});
        let mut args = (profile.example_args)();
        args["iterations"] = 150_000.into();
        envelopes.push(serde_json::json!({"op": op, "args": args}).to_string());
    }
    for envelope in envelopes {
        let request = Request::from_json(envelope.as_bytes()).expect("the envelope is valid");
        let shards: Vec<_> = request.plan.shards().map(|id| request.shard(id)).collect();
        if backend.supports(&request.program) {
            assert_agrees(backend, &request.program, &shards, &envelope);
        } else {
            let is_plain = PlainProgram::new(&request.program).is_some();
            assert!(!is_plain, "{} executes every plain program", backend.name());
            let refused = backend.execute(&request.program, &shards, &());
            assert!(matches!(refused, Err(ExecutionError::Unsupported(_))), "{refused:?}");
        }
    }
}

/// Checks shards with 0 and 1 iterations, and with numbers around those of lanes, groups, chunks
/// and leaves.
pub fn check_iteration_counts(backend: &dyn Backend) {
    let program = ProgramRecipe::typical().program();
    let around = |n: u64| [n.saturating_sub(1), n, n + 1];
    let counts = [1, 3, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 8192, 16_384, LEAF_ITERATIONS];
    for iterations in counts.into_iter().flat_map(around).chain([2 * LEAF_ITERATIONS + 5]) {
        assert_agrees(
            backend,
            &program,
            &[sample_shard(2, 7, iterations)],
            &format!("{iterations} iterations"),
        );
    }
}

/// Checks numbers of draws around a block of the keystream, for every number of components.
pub fn check_draw_counts(backend: &dyn Backend) {
    for components in 1..=MAX_PLAIN_COMPONENTS as u32 {
        for occurrences in (0..=18).chain([24 - components.min(24), 64]) {
            let count = |i| occurrences / components + u32::from(i < occurrences % components);
            let parts = (0..components).map(|i| {
                ComponentRecipe::new(CountRecipe::Constant(count(i)), AmountRecipe::Noise(i.into()))
            });
            let recipe =
                ProgramRecipe { segment_bits: 1, components: parts.collect(), ..ProgramRecipe::typical() };
            let what = format!("{components} components with {occurrences} occurrences");
            assert_agrees(backend, &recipe.program(), &[sample_shard(0, 3, 67)], &what);
        }
    }
}

/// Checks shards of several leaves, complete and cut short, several in one call.
pub fn check_tall_shards(backend: &dyn Backend) {
    let program = ProgramRecipe::typical().program();
    let leaf = LEAF_ITERATIONS;
    let shards = [
        sample_shard(1, 5, 2 * leaf),
        sample_shard(2, 0, 3 * leaf + 1),
        sample_shard(3, 1, leaf),
        sample_shard(32, 0, leaf + 9),
    ];
    assert_agrees(backend, &program, &shards, "shards of several leaves");
}

/// Checks thousands of occurrences in one iteration, in all iterations or in few.
pub fn check_many_occurrences(backend: &dyn Backend) {
    let most = MAX_COUNT as u32;
    let one = |counts| vec![ComponentRecipe::new(counts, AmountRecipe::Noise(1))];
    let spread =
        (0..16).map(|i| ComponentRecipe::new(CountRecipe::Constant(most / 16), AmountRecipe::Noise(i)));
    let mixed =
        [CountRecipe::Block { at: 1 << 60, count: 5000 }, CountRecipe::Dense { thresholds: 3000, seed: 4 }];
    let cases = [
        ("the most occurrences in one component", one(CountRecipe::Constant(most)), 37),
        ("the most occurrences in sixteen", spread.collect(), 37),
        ("none or thousands", one(CountRecipe::Block { at: u64::MAX - (1 << 58), count: most }), 700),
        ("thousands of thresholds", one(CountRecipe::Dense { thresholds: most, seed: 3 }), 70),
        ("both", mixed.map(|counts| ComponentRecipe::new(counts, AmountRecipe::Noise(7))).into(), 100),
        ("a mean of 10,000", one(CountRecipe::Poisson(10_000.0)), 50),
    ];
    for (what, parts, iterations) in cases {
        let program =
            ProgramRecipe { segment_bits: 2, components: parts, ..ProgramRecipe::typical() }.program();
        assert_agrees(backend, &program, &[sample_shard(0, 1, iterations)], what);
    }
}

/// Checks amounts and totals at and beyond the largest amount, and the largest possible sums.
pub fn check_saturation(backend: &dyn Backend) {
    for (cap, base) in
        [(MAX_AMOUNT, 0), (MAX_AMOUNT, MAX_AMOUNT), (MAX_AMOUNT - 1, 0), (1, 0), (1 << 52, 12_345)]
    {
        for count in [0, 1, 2, 1000] {
            for table in [AmountRecipe::Largest, AmountRecipe::Extreme(9), AmountRecipe::LogNormal(30.0, 3.0)]
            {
                let mut part = ComponentRecipe::new(CountRecipe::Constant(count), table);
                part.cap = cap;
                let recipe = ProgramRecipe { base, cap: MAX_AMOUNT, segment_bits: 6, components: vec![part] };
                let what = format!("saturation of {recipe:?}");
                assert_agrees(backend, &recipe.program(), &[sample_shard(0, 2, 1003)], &what);
            }
        }
    }
    let full = ComponentRecipe::new(CountRecipe::Constant(3), AmountRecipe::Largest);
    let recipe = ProgramRecipe { base: 0, cap: MAX_AMOUNT, segment_bits: 1, components: vec![full] };
    assert_agrees(
        backend,
        &recipe.program(),
        &[sample_shard(2, 0, 3 * LEAF_ITERATIONS)],
        "leaves of largest totals",
    );
}

/// Checks components that never or always occur, and caps that coincide.
pub fn check_constant_counts(backend: &dyn Backend) {
    let part = |counts, cap| ComponentRecipe { cap, ..ComponentRecipe::new(counts, AmountRecipe::Noise(5)) };
    let never = CountRecipe::Thresholds(0, vec![u64::MAX]);
    let always = CountRecipe::Thresholds(0, vec![0]);
    let parts = vec![
        part(CountRecipe::Constant(0), 100),
        part(never, 100),
        part(always, 100),
        part(CountRecipe::Thresholds(2, vec![0, 0, 1 << 63, 1 << 63]), 1),
        part(CountRecipe::Bernoulli(0.5), 300),
    ];
    let recipe = ProgramRecipe { base: 0, cap: 300, segment_bits: 3, components: parts };
    assert_agrees(
        backend,
        &recipe.program(),
        &[sample_shard(0, 4, 5000)],
        "components that never or always strike",
    );
}

/// Checks thresholds equal to count draws, and one above and below them.
pub fn check_thresholds_at_draws(backend: &dyn Backend) {
    let shard = sample_shard(0, 5, 100);
    let draws = (0..shard.iterations).map(|iteration| {
        let mut stream = ChaCha8Rng::from_seed(shard.seed.0);
        stream.set_stream(iteration);
        stream.next_u64()
    });
    for step in [0, 1, u64::MAX] {
        let mut thresholds: Vec<_> = draws.clone().map(|draw| draw.wrapping_add(step)).collect();
        thresholds.sort_unstable();
        let part = ComponentRecipe::new(CountRecipe::Thresholds(0, thresholds), AmountRecipe::Noise(3));
        let program =
            ProgramRecipe { segment_bits: 2, components: vec![part], ..ProgramRecipe::typical() }.program();
        assert_agrees(backend, &program, &[shard], "thresholds that draws meet");
    }
}

/// Leaves (of [`sample_shard`], height 0) and iterations whose first seven amount draws include one
/// with upper 32 bits all 0 or all 1, which is one draw in 2^31. Found by searching 2^37 draws.
const EXTREME_DRAWS: [(u64, u64); 10] = [
    (5_315, 4_616),    // 0xffffffffe2919ce6
    (10_131, 19_781),  // 0x000000001483c1b8
    (15_670, 53_048),  // 0xffffffff14a669cd
    (20_639, 45_895),  // 0x000000001245d1f5
    (26_459, 17_167),  // 0x000000001540814c
    (27_902, 6_705),   // 0x00000000bca42ed1
    (29_289, 36_882),  // 0xffffffffd6d793fc
    (87_950, 56_323),  // 0xfffffffff4387522
    (135_436, 40_571), // 0x0000000002b88d46
    (293_962, 30_986), // 0xfffffffff9acc3f0
];

/// Checks draws far out in the tails, on tables so steep that the last bit of a position changes
/// the amount: many draws for every number of segment bits, and the leaves of [`EXTREME_DRAWS`].
pub fn check_rare_draws(backend: &dyn Backend) {
    let program = |segment_bits: u32, count| {
        let part =
            ComponentRecipe::new(CountRecipe::Constant(count), AmountRecipe::Steep(segment_bits.into()));
        ProgramRecipe { segment_bits, components: vec![part], base: 0, cap: MAX_AMOUNT }.program()
    };
    for (bits, leaves) in [(1, 4), (2, 4), (3, 4), (4, 4), (5, 4), (6, 16), (7, 4), (8, 16)] {
        let what = format!("{leaves} leaves with {bits} segment bits");
        assert_agrees(backend, &program(bits, 1), &[sample_shard(4, 1, leaves * LEAF_ITERATIONS)], &what);
    }
    let leaves = EXTREME_DRAWS.map(|(leaf, iteration)| sample_shard(0, leaf, iteration + 1));
    for bits in [1, 6, 8] {
        assert_agrees(
            backend,
            &program(bits, 7),
            &leaves,
            &format!("draws beyond 2^-31 with {bits} segment bits"),
        );
    }
}

/// Checks programs of different shapes in turn: an execution must not affect the next one.
pub fn check_reuse(backend: &dyn Backend) {
    let small = ProgramRecipe {
        segment_bits: 1,
        cap: 40,
        components: vec![ComponentRecipe::new(CountRecipe::Bernoulli(0.1), AmountRecipe::Noise(2))],
        base: 3,
    };
    let wide = (0..16).map(|i| ComponentRecipe {
        cap: 1000 + i,
        ..ComponentRecipe::new(CountRecipe::Dense { thresholds: 4, seed: i }, AmountRecipe::Noise(i))
    });
    let wide = ProgramRecipe { segment_bits: 8, components: wide.collect(), ..ProgramRecipe::typical() };
    let programs = [small, wide, ProgramRecipe::typical()].map(|recipe| recipe.program());
    for i in [0, 1, 2, 0, 2, 1, 0] {
        let shards = [sample_shard(0, i as u64, 2000), sample_shard(0, 9, 0), sample_shard(0, 8, 100)];
        assert_agrees(backend, &programs[i], &shards, "a backend used before");
    }
}

/// Counts the reported iterations, and cancels at a number of them.
struct CancelAfter {
    iterations: u64,
    reported: AtomicU64,
}

impl ExecutionControl for CancelAfter {
    fn advance(&self, iterations: u64) -> ControlFlow<()> {
        let reported = self.reported.fetch_add(iterations, Ordering::Relaxed) + iterations;
        if reported >= self.iterations { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

/// Checks that reported progress adds up, and that cancelling returns [`ExecutionError::Cancelled`]
/// and leaves the backend usable.
pub fn check_cancellation(backend: &dyn Backend) {
    let program = ProgramRecipe::typical().program();
    let leaf = LEAF_ITERATIONS;
    let shards = [sample_shard(2, 3, 3 * leaf + 10), sample_shard(1, 8, 2 * leaf)];
    let all = 5 * leaf + 10;
    for after in [1, leaf + 1, 3 * leaf + 1, 4 * leaf, all] {
        let control = CancelAfter { iterations: after, reported: AtomicU64::new(0) };
        let cancelled = backend.execute(&program, &shards, &control);
        assert_eq!(cancelled, Err(ExecutionError::Cancelled), "{} after {after}", backend.name());
        let reported = control.reported.into_inner();
        assert!((after..=all).contains(&reported), "{}: {reported} iterations reported", backend.name());
        assert_agrees(backend, &program, &[sample_shard(0, 6, 300)], "a shard after a cancelled one");
    }
    let control = CancelAfter { iterations: u64::MAX, reported: AtomicU64::new(0) };
    assert!(backend.execute(&program, &shards, &control).is_ok());
    assert_eq!(
        control.reported.into_inner(),
        all,
        "{}: the reported progress does not add up",
        backend.name()
    );
}

/// Checks random programs within the limits of [`Program::validate`]. A failing one is shrunk.
pub fn check_random_programs(backend: &dyn Backend, cases: u32) {
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let shards = prop::collection::vec((0..200u64, prop_oneof![4 => 0..300u64, 1 => 300..3000u64]), 1..4);
    let run = TestRunner::new(config).run(&(any_recipe(), shards), |(recipe, shards)| {
        let shards: Vec<_> =
            shards.into_iter().map(|(index, iterations)| sample_shard(0, index, iterations)).collect();
        difference(backend, &recipe.program(), &shards).map_err(TestCaseError::fail)
    });
    if let Err(error) = run {
        panic!("{} differs from the reference on a random program: {error}", backend.name());
    }
}
