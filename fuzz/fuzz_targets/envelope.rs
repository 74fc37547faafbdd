//! Envelopes: reading never panics, a rejection lists its errors, and the normal form of a valid
//! envelope is read as the same computation.
#![no_main]

use forge_contract::canonical::to_canonical_json;
use forge_fuzz as _;
use forge_kernel::request::Request;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let request = match Request::from_json(data) {
        Ok(request) => request,
        Err(invalid) => {
            assert!(!invalid.errors().is_empty() && !invalid.to_string().is_empty());
            return;
        }
    };
    let normal = to_canonical_json(&request.envelope).expect("a valid envelope has canonical JSON");
    let reparsed = Request::from_json(&normal).unwrap_or_else(|error| panic!("the normal form is rejected: {error}"));
    let rebuilt = Request::from_envelope(request.envelope.clone())
        .unwrap_or_else(|error| panic!("the envelope read before is refused: {error}"));
    for other in [reparsed, rebuilt] {
        assert_eq!(other.envelope, request.envelope);
        assert_eq!(other.replay_key, request.replay_key);
        assert_eq!(other.root_seed, request.root_seed);
        assert_eq!(other.program_digest, request.program_digest);
        assert_eq!(other.plan, request.plan);
    }
    let first = request.plan.shards().next().expect("a run has at least one shard");
    assert!(request.shard(first).iterations > 0);
});
