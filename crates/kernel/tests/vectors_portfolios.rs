//! Portfolios of `tests/vectors/v1`: programs that were made by hand, and their results, which the
//! Python implementation of docs/determinism.md has written.

use forge_contract::{
    program::Program,
    shard::{Shard, ShardId},
    shard_result::ShardResult,
};
use forge_kernel::{
    backend::{Backend, scalar::Scalar, simd::Simd},
    reduction::Reduction,
    seed_tree,
};

mod common;

use common::vectors::{cases, digest, integer, text};

#[test]
fn portfolios() {
    let cases = cases("portfolios", "portfolios");
    assert!(cases.len() >= 10, "the file has {} portfolios", cases.len());
    for case in cases {
        let name = text(&case["name"]);
        let bytes = hex::decode(text(&case["program"])).unwrap();
        let program = Program::decode(&bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(program.encode(), bytes, "{name}");
        assert_eq!(program.digest(), digest(&case["program_sha256"]), "{name}");
        assert_eq!(program.interleaves(), case["order_draws"], "{name}");

        let id = ShardId { height: 0, index: 0 };
        let seed = seed_tree::shard_seed(digest(&case["root_seed"]), id);
        assert_eq!(seed, digest(&case["leaf_seed"]), "{name}");
        let shard = Shard { id, iterations: integer(&case["iterations"]), seed };
        for backend in [&Scalar as &dyn Backend, &Simd::new()] {
            let result = backend.execute(&program, &[shard], &()).unwrap().remove(0);
            assert_eq!(hex::encode(result.encode()), text(&case["bytes"]), "{name}, {}", backend.name());
            assert_eq!(result.digest(), digest(&case["sha256"]), "{name}");
            assert_eq!(ShardResult::decode(&result.encode()), Ok(result.clone()), "{name}");
            // Merging is associative: a result and nothing is the result.
            let mut reduction = Reduction::new(&program);
            reduction.add(&result).unwrap();
            assert_eq!(reduction.result(), result, "{name}");
        }
    }
}

#[test]
fn merges_of_portfolios() {
    let portfolios = cases("portfolios", "portfolios");
    let merges = cases("portfolios", "merges");
    assert!(merges.len() >= 4, "the file has {} merges", merges.len());
    for case in merges {
        let name = text(&case["name"]);
        let portfolio = portfolios.iter().find(|portfolio| portfolio["name"] == case["portfolio"]).unwrap();
        let program = Program::decode(&hex::decode(text(&portfolio["program"])).unwrap()).unwrap();
        let parts: Vec<_> = case["parts"]
            .as_array()
            .unwrap()
            .iter()
            .map(|part| {
                let id = ShardId { height: 0, index: integer(&part["leaf"]) };
                let seed = digest(&part["leaf_seed"]);
                let shard = Shard { id, iterations: integer(&part["iterations"]), seed };
                let result = Simd::new().execute(&program, &[shard], &()).unwrap().remove(0);
                assert_eq!(hex::encode(result.encode()), text(&part["bytes"]), "{name}");
                result
            })
            .collect();
        let orders: [Vec<_>; 2] = [parts.iter().collect(), parts.iter().rev().collect()];
        for order in orders {
            let mut reduction = Reduction::new(&program);
            order.into_iter().for_each(|part| reduction.add(part).unwrap());
            assert_eq!(hex::encode(reduction.result().encode()), text(&case["bytes"]), "{name}");
        }
    }
}
