//! The conformance suite: what every [`Backend`] has to pass, byte for byte against the scalar reference. Generic
//! functions over `dyn Backend`, so a backend of another crate runs the same ones (feature `conformance`).
//!
//! Nothing here knows how a backend works; the sizes are those at which one may go wrong: lanes, blocks of 8 draws,
//! leaves, the limits of [`Program::check`], and the draws far out in the tails that hardly ever come.

mod recipe;

use std::{
    ops::ControlFlow,
    sync::atomic::{AtomicU64, Ordering},
};

use forge_contract::{
    digest::Digest,
    program::{MAX_AMOUNT, MAX_COMPONENTS, MAX_COUNT, Program},
    shard::{LEAF_ITERATIONS, Shard, ShardId},
    shard_result::ShardResult,
};
use proptest::{
    prelude::*,
    test_runner::{Config, TestCaseError, TestRunner},
};

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};

pub use self::recipe::{Counts, Part, Recipe, Table, recipes};
use super::{Backend, Control, ExecuteError, scalar::Scalar};
use crate::request::Request;

/// Runs the whole suite.
///
/// # Panics
/// Where the backend differs from the scalar reference, as every function here.
pub fn check(backend: &dyn Backend) {
    profiles(backend);
    iteration_counts(backend);
    draw_counts(backend);
    tall_shards(backend);
    many_occurrences(backend);
    saturation(backend);
    impossible_and_certain(backend);
    thresholds_at_draws(backend);
    rare_draws(backend);
    reuse(backend);
    cancellation(backend);
    random_programs(backend, 300);
}

/// A shard with a seed of its own.
pub fn shard(height: u32, index: u64, iterations: u64) -> Shard {
    let id = ShardId { height, index };
    Shard { id, iterations, seed: Digest::of(&[b"conformance ", id.to_string().as_bytes()]) }
}

/// Checks that the backend returns for these shards what the scalar reference returns.
pub fn assert_agrees(backend: &dyn Backend, program: &Program, shards: &[Shard], what: &str) {
    if let Err(difference) = difference(backend, program, shards) {
        panic!("{} differs from the reference on {what}: {difference}", backend.name());
    }
}

fn difference(backend: &dyn Backend, program: &Program, shards: &[Shard]) -> Result<(), String> {
    program.check().map_err(|rule| format!("the program is not valid: {rule}"))?;
    let expected = Scalar.execute(program, shards, &()).map_err(|error| error.to_string())?;
    let found = backend.execute(program, shards, &()).map_err(|error| error.to_string())?;
    if found.len() != expected.len() {
        return Err(format!("{} results for {} shards", found.len(), expected.len()));
    }
    for ((shard, found), expected) in shards.iter().zip(&found).zip(&expected) {
        let decoded = ShardResult::decode(&expected.encode());
        if decoded.as_ref() != Ok(expected) {
            return Err(format!("the reference's own result does not round-trip: {decoded:?}"));
        }
        if found.encode() != expected.encode() {
            return Err(format!("{shard:?}:\n{}", describe(found, expected)));
        }
    }
    Ok(())
}

/// The fields that differ.
fn describe(found: &ShardResult, expected: &ShardResult) -> String {
    let fields = |r: &ShardResult| {
        [
            ("iterations", format!("{}", r.iterations)),
            ("components", format!("{:?}", r.components)),
            ("capped", format!("{}", r.capped)),
            ("sum", format!("{}", r.sum)),
            ("sum_squares", format!("{}", r.sum_squares)),
            ("total", format!("{:?} {:?}", (r.total.min, r.total.max), r.total.at_marks)),
            ("total's histogram", format!("{:?}", r.total.histogram)),
            ("largest", format!("{:?} {:?}", (r.largest.min, r.largest.max), r.largest.at_marks)),
            ("largest's histogram", format!("{:?}", r.largest.histogram)),
        ]
    };
    let pairs = fields(found).into_iter().zip(fields(expected)).filter(|(a, b)| a != b);
    let line = |text: &str| text.chars().take(200).collect::<String>();
    pairs
        .map(|((name, a), (_, b))| format!("  {name}: {}\n    instead of {}\n", line(&a), line(&b)))
        .collect()
}

/// Every profile's example, and a run of each kind of args.
pub fn profiles(backend: &dyn Backend) {
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
        let mut args = (profile.example)();
        args["iterations"] = 150_000.into();
        envelopes.push(serde_json::json!({"op": op, "args": args}).to_string());
    }
    for envelope in envelopes {
        let request = Request::from_json(envelope.as_bytes()).expect("the envelope is valid");
        let shards: Vec<_> = request.plan.shards().map(|id| request.shard(id)).collect();
        assert_agrees(backend, &request.program, &shards, &envelope);
    }
}

/// No iteration, one, and the counts around lanes, groups, chunks and leaves.
pub fn iteration_counts(backend: &dyn Backend) {
    let program = Recipe::usual().program();
    let around = |n: u64| [n.saturating_sub(1), n, n + 1];
    let counts = [1, 3, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 8192, 16_384, LEAF_ITERATIONS];
    for iterations in counts.into_iter().flat_map(around).chain([2 * LEAF_ITERATIONS + 5]) {
        assert_agrees(backend, &program, &[shard(2, 7, iterations)], &format!("{iterations} iterations"));
    }
}

/// Counts of draws around a block of the keystream, for every number of components.
pub fn draw_counts(backend: &dyn Backend) {
    for components in 1..=MAX_COMPONENTS as u32 {
        for occurrences in (0..=18).chain([24 - components.min(24), 64]) {
            let count = |i| occurrences / components + u32::from(i < occurrences % components);
            let parts =
                (0..components).map(|i| Part::new(Counts::Constant(count(i)), Table::Noise(i.into())));
            let recipe = Recipe { segment_bits: 1, parts: parts.collect(), ..Recipe::usual() };
            let what = format!("{components} components with {occurrences} occurrences");
            assert_agrees(backend, &recipe.program(), &[shard(0, 3, 67)], &what);
        }
    }
}

/// Shards of several leaves, whole and cut off, several at once.
pub fn tall_shards(backend: &dyn Backend) {
    let program = Recipe::usual().program();
    let leaf = LEAF_ITERATIONS;
    let shards =
        [shard(1, 5, 2 * leaf), shard(2, 0, 3 * leaf + 1), shard(3, 1, leaf), shard(32, 0, leaf + 9)];
    assert_agrees(backend, &program, &shards, "shards of several leaves");
}

/// Thousands of occurrences in one iteration, in all of them or in few.
pub fn many_occurrences(backend: &dyn Backend) {
    let most = MAX_COUNT as u32;
    let one = |counts| vec![Part::new(counts, Table::Noise(1))];
    let spread = (0..16).map(|i| Part::new(Counts::Constant(most / 16), Table::Noise(i)));
    let mixed = [Counts::Block { at: 1 << 60, count: 5000 }, Counts::Dense { thresholds: 3000, seed: 4 }];
    let cases = [
        ("the most occurrences in one component", one(Counts::Constant(most)), 37),
        ("the most occurrences in sixteen", spread.collect(), 37),
        ("none or thousands", one(Counts::Block { at: u64::MAX - (1 << 58), count: most }), 700),
        ("thousands of thresholds", one(Counts::Dense { thresholds: most, seed: 3 }), 70),
        ("both", mixed.map(|counts| Part::new(counts, Table::Noise(7))).into(), 100),
        ("a mean of 10,000", one(Counts::Poisson(10_000.0)), 50),
    ];
    for (what, parts, iterations) in cases {
        let program = Recipe { segment_bits: 2, parts, ..Recipe::usual() }.program();
        assert_agrees(backend, &program, &[shard(0, 1, iterations)], what);
    }
}

/// Amounts and totals at and beyond the largest one, and sums as large as they can be.
pub fn saturation(backend: &dyn Backend) {
    for (cap, base) in
        [(MAX_AMOUNT, 0), (MAX_AMOUNT, MAX_AMOUNT), (MAX_AMOUNT - 1, 0), (1, 0), (1 << 52, 12_345)]
    {
        for count in [0, 1, 2, 1000] {
            for table in [Table::Largest, Table::Extreme(9), Table::LogNormal(30.0, 3.0)] {
                let mut part = Part::new(Counts::Constant(count), table);
                part.cap = cap;
                let recipe = Recipe { base, cap: MAX_AMOUNT, segment_bits: 6, parts: vec![part] };
                let what = format!("saturation of {recipe:?}");
                assert_agrees(backend, &recipe.program(), &[shard(0, 2, 1003)], &what);
            }
        }
    }
    let full = Part::new(Counts::Constant(3), Table::Largest);
    let recipe = Recipe { base: 0, cap: MAX_AMOUNT, segment_bits: 1, parts: vec![full] };
    assert_agrees(
        backend,
        &recipe.program(),
        &[shard(2, 0, 3 * LEAF_ITERATIONS)],
        "leaves of largest totals",
    );
}

/// Components that never or always strike, and marks that coincide.
pub fn impossible_and_certain(backend: &dyn Backend) {
    let part = |counts, cap| Part { cap, ..Part::new(counts, Table::Noise(5)) };
    let never = Counts::Thresholds(0, vec![u64::MAX]);
    let always = Counts::Thresholds(0, vec![0]);
    let parts = vec![
        part(Counts::Constant(0), 100),
        part(never, 100),
        part(always, 100),
        part(Counts::Thresholds(2, vec![0, 0, 1 << 63, 1 << 63]), 1),
        part(Counts::Bernoulli(0.5), 300),
    ];
    let recipe = Recipe { base: 0, cap: 300, segment_bits: 3, parts };
    assert_agrees(backend, &recipe.program(), &[shard(0, 4, 5000)], "components that never or always strike");
}

/// Thresholds that count draws meet exactly, and miss by one.
pub fn thresholds_at_draws(backend: &dyn Backend) {
    let shard = shard(0, 5, 100);
    let draws = (0..shard.iterations).map(|iteration| {
        let mut stream = ChaCha8Rng::from_seed(shard.seed.0);
        stream.set_stream(iteration);
        stream.next_u64()
    });
    for step in [0, 1, u64::MAX] {
        let mut thresholds: Vec<_> = draws.clone().map(|draw| draw.wrapping_add(step)).collect();
        thresholds.sort_unstable();
        let part = Part::new(Counts::Thresholds(0, thresholds), Table::Noise(3));
        let program = Recipe { segment_bits: 2, parts: vec![part], ..Recipe::usual() }.program();
        assert_agrees(backend, &program, &[shard], "thresholds that draws meet");
    }
}

/// Leaves (of [`shard`], height 0) and iterations among whose first seven amount draws is one so close to an end that
/// its upper 32 bits are all 0 or all 1: once in 2^31 draws. Found by a search through 2^37 draws.
const FAR_OUT: [(u64, u64); 10] = [
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

/// Draws far out in the tails over tables so steep that their last bit shows: many draws for every number of segments,
/// and leaves that are known to hold draws beyond 2^-31.
pub fn rare_draws(backend: &dyn Backend) {
    let program = |segment_bits: u32, count| {
        let part = Part::new(Counts::Constant(count), Table::Steep(segment_bits.into()));
        Recipe { segment_bits, parts: vec![part], base: 0, cap: MAX_AMOUNT }.program()
    };
    for (bits, leaves) in [(1, 4), (2, 4), (3, 4), (4, 4), (5, 4), (6, 16), (7, 4), (8, 16)] {
        let what = format!("{leaves} leaves with {bits} segment bits");
        assert_agrees(backend, &program(bits, 1), &[shard(4, 1, leaves * LEAF_ITERATIONS)], &what);
    }
    let leaves = FAR_OUT.map(|(leaf, iteration)| shard(0, leaf, iteration + 1));
    for bits in [1, 6, 8] {
        assert_agrees(
            backend,
            &program(bits, 7),
            &leaves,
            &format!("draws beyond 2^-31 with {bits} segment bits"),
        );
    }
}

/// Programs of different shapes one after the other, forth and back: nothing of one is left for the next.
pub fn reuse(backend: &dyn Backend) {
    let small = Recipe {
        segment_bits: 1,
        cap: 40,
        parts: vec![Part::new(Counts::Bernoulli(0.1), Table::Noise(2))],
        base: 3,
    };
    let wide = (0..16).map(|i| Part {
        cap: 1000 + i,
        ..Part::new(Counts::Dense { thresholds: 4, seed: i }, Table::Noise(i))
    });
    let wide = Recipe { segment_bits: 8, parts: wide.collect(), ..Recipe::usual() };
    let programs = [small, wide, Recipe::usual()].map(|recipe| recipe.program());
    for i in [0, 1, 2, 0, 2, 1, 0] {
        let shards = [shard(0, i as u64, 2000), shard(0, 9, 0), shard(0, 8, 100)];
        assert_agrees(backend, &programs[i], &shards, "a backend used before");
    }
}

/// Counts what it is told, and breaks off at a number of iterations.
struct Breaker {
    after: u64,
    told: AtomicU64,
}

impl Control for Breaker {
    fn advance(&self, iterations: u64) -> ControlFlow<()> {
        let told = self.told.fetch_add(iterations, Ordering::Relaxed) + iterations;
        if told >= self.after { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

/// Progress adds up; breaking off returns [`ExecuteError::Cancelled`] and leaves the backend usable.
pub fn cancellation(backend: &dyn Backend) {
    let program = Recipe::usual().program();
    let leaf = LEAF_ITERATIONS;
    let shards = [shard(2, 3, 3 * leaf + 10), shard(1, 8, 2 * leaf)];
    let all = 5 * leaf + 10;
    for after in [1, leaf + 1, 3 * leaf + 1, 4 * leaf, all] {
        let control = Breaker { after, told: AtomicU64::new(0) };
        let cancelled = backend.execute(&program, &shards, &control);
        assert_eq!(cancelled, Err(ExecuteError::Cancelled), "{} after {after}", backend.name());
        let told = control.told.into_inner();
        assert!((after..=all).contains(&told), "{}: told of {told} iterations", backend.name());
        assert_agrees(backend, &program, &[shard(0, 6, 300)], "a shard after a cancelled one");
    }
    let control = Breaker { after: u64::MAX, told: AtomicU64::new(0) };
    assert!(backend.execute(&program, &shards, &control).is_ok());
    assert_eq!(control.told.into_inner(), all, "{}: progress does not add up", backend.name());
}

/// Random programs, as far as [`Program::check`] allows; a failure is shrunk.
pub fn random_programs(backend: &dyn Backend, cases: u32) {
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let shards = prop::collection::vec((0..200u64, prop_oneof![4 => 0..300u64, 1 => 300..3000u64]), 1..4);
    let outcome = TestRunner::new(config).run(&(recipes(), shards), |(recipe, shards)| {
        let shards: Vec<_> =
            shards.into_iter().map(|(index, iterations)| shard(0, index, iterations)).collect();
        difference(backend, &recipe.program(), &shards).map_err(TestCaseError::fail)
    });
    if let Err(error) = outcome {
        panic!("{} differs from the reference on a random program: {error}", backend.name());
    }
}
